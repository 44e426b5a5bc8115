//! How a run behaves: progress, cancelling, and what `inspect` says of a source.

mod support;

use serde_json::Value;
use std::io::{BufRead, BufReader, Read};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::mpsc;
use support::clips::{Clip, audio, h264, video};
use support::hls::files_below;
use support::run::{LIMIT, Outcome, finish, program, show, sprocket, transcode};
use support::{Segments, damage, ordinary};

fn progress_lines(outcome: &Outcome) -> Vec<Value> {
    let line = |l: &str| serde_json::from_str(l).unwrap_or_else(|e| panic!("stdout has {l:?}: {e}"));
    outcome.text().lines().map(line).collect()
}

#[test]
fn progress_never_falls_and_reaches_100_in_its_last_line_only() {
    let Some(source) = ordinary("progress.mkv") else { return };
    let Some(options) = Segments::Fmp4.options() else { return };
    let folder = tempfile::tempdir().expect("a temporary folder");
    let out = folder.path().join("out");
    let outcome = transcode(&source, &out, &[&options[..], &["--progress", "json"]].concat()).ok();
    let lines = progress_lines(&outcome);
    let (last, rest) = lines.split_last().expect("at least one line");
    for key in ["percent", "position_ms", "duration_ms", "frames", "fps", "speed", "eta_ms", "state"] {
        assert!(lines.iter().all(|l| l.get(key).is_some()), "{key} is missing in {}", outcome.text());
    }
    let percents: Vec<f64> = lines.iter().filter_map(|l| l["percent"].as_f64()).collect();
    assert!(percents.windows(2).all(|w| w[0] <= w[1]), "{percents:?}");
    assert_eq!((last["percent"].as_f64(), &last["state"]), (Some(100.0), &Value::from("succeeded")));
    assert!(rest.iter().all(|l| l["percent"].as_f64() != Some(100.0) && l["state"] == "running"), "{rest:?}");
    assert_eq!(last["frames"], 200);
    let duration = last["duration_ms"].as_i64().expect("a duration");
    assert!((7960..=8040).contains(&duration), "{duration} ms");
    assert_eq!(last["position_ms"], duration);
}

#[test]
fn without_a_wish_nothing_but_the_result_goes_to_standard_output() {
    let Some(source) = ordinary("quiet.mkv") else { return };
    let folder = tempfile::tempdir().expect("a temporary folder");
    let out = folder.path().join("out.mp4");
    let copy = ["--video-codec", "copy", "--audio-codec", "copy", "--progress", "none"];
    let outcome = transcode(&source, &out, &copy).ok();
    assert!(!outcome.text().contains('\r') && !outcome.text().contains('{'), "{}", outcome.text());
}

/// A source that takes any encoder here a long while.
fn long_source() -> Option<PathBuf> {
    let picture = video("mpeg2video").size(640, 360).frames(1500);
    Clip::new().video(picture).audio(audio("aac").seconds(60.0)).make("long.mkv")
}

/// Starts a slow transcode, interrupts it once it has begun to move, and gives what it left.
#[track_caller]
fn interrupted(out: &Path, options: &[&str]) -> Option<Outcome> {
    let source = long_source()?;
    let mut command = program();
    command.arg("transcode").arg(&source).arg("-o").arg(out).args(["--progress", "json"]).args(options);
    let shown = show(&command);
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().expect("the program");
    let lines = BufReader::new(child.stdout.take().expect("a pipe"));
    let (moving, wait) = mpsc::channel();
    let reader = std::thread::spawn(move || {
        let mut text = String::new();
        for line in lines.lines().map_while(Result::ok) {
            let begun = serde_json::from_str::<Value>(&line)
                .is_ok_and(|l| l["percent"].as_f64().unwrap_or(0.0) > 0.0);
            if begun {
                let _ = moving.send(());
            }
            text.push_str(&line);
            text.push('\n');
        }
        text
    });
    let began = wait.recv_timeout(LIMIT).is_ok();
    let mut kill = Command::new("sh");
    kill.args(["-c", "kill -INT \"$1\"", "sh", &child.id().to_string()]);
    finish(kill).ok();
    let mut outcome = support::run::collect(child, shown);
    outcome.stdout = reader.join().expect("the reader").into_bytes();
    assert!(began, "it never moved\n{}\n{}", outcome.text(), outcome.stderr);
    Some(outcome)
}

#[test]
fn an_interrupted_hls_run_ends_with_130_and_leaves_nothing() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let out = folder.path().join("out");
    let Some(mut options) = Segments::Fmp4.options() else { return };
    slow(&mut options);
    let Some(outcome) = interrupted(&out, &[&options[..], &["--rendition", "t:360"]].concat()) else {
        return;
    };
    assert_eq!(outcome.code, Some(130), "{}", outcome.stderr);
    assert!(files_below(folder.path()).is_empty() && !out.exists(), "{:?}", files_below(folder.path()));
    let last = progress_lines(&outcome).pop().expect("a line");
    assert_ne!(last["percent"].as_f64(), Some(100.0));
    assert_ne!(last["state"], "succeeded");
}

#[test]
fn an_interrupted_file_run_ends_with_130_and_leaves_nothing() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let out = folder.path().join("out.mp4");
    let Some(mut options) = support::quick_for_fmp4().map(<[_]>::to_vec) else { return };
    slow(&mut options);
    let Some(outcome) = interrupted(&out, &options) else { return };
    assert_eq!(outcome.code, Some(130), "{}", outcome.stderr);
    assert!(files_below(folder.path()).is_empty(), "{:?}", files_below(folder.path()));
}

/// The same encoder at its slowest, so that a run of a minute of film cannot end before the signal.
fn slow(options: &mut [&str]) {
    for option in options {
        if *option == "superfast" {
            *option = "veryslow";
        }
    }
}

#[test]
fn an_interrupted_replacement_leaves_the_old_output() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let out = folder.path().join("out.mp4");
    std::fs::write(&out, "precious").expect("a file");
    let Some(mut options) = support::quick_for_fmp4().map(<[_]>::to_vec) else { return };
    slow(&mut options);
    options.push("--overwrite");
    let Some(outcome) = interrupted(&out, &options) else { return };
    assert_eq!(outcome.code, Some(130), "{}", outcome.stderr);
    assert_eq!(std::fs::read_to_string(&out).expect("still there"), "precious");
    assert_eq!(files_below(folder.path()).len(), 1);
}

// ---- inspect ----------------------------------------------------------------------------------------

#[track_caller]
fn inspect(path: &Path) -> Value {
    let outcome = sprocket(&["inspect".as_ref(), path.as_os_str(), "--json".as_ref()]).ok();
    serde_json::from_slice(&outcome.stdout).unwrap_or_else(|e| panic!("{e}: {}", outcome.text()))
}

/// A number, or a fraction as text.
fn seconds(value: &Value) -> f64 {
    let Some(text) = value.as_str() else { return value.as_f64().expect("a number") };
    let (num, den) = text.split_once('/').unwrap_or((text, "1"));
    num.parse::<f64>().expect("a numerator") / den.parse::<f64>().expect("a denominator")
}

#[test]
fn inspect_says_what_a_source_is() {
    let picture = h264().rate(24_000, 1001).frames(192).bframes(2);
    let clip = Clip::new().video(picture).audio(audio("ac3").layout("5.1").seconds(8.0));
    for name in ["known.mkv", "known.mp4", "known.ts"] {
        let Some(path) = clip.make(name) else { return };
        let found = inspect(&path);
        assert!(!found["container"].as_str().unwrap_or("").is_empty(), "{found}");
        assert!((seconds(&found["duration"]) - 8.008).abs() < 0.05, "{name}: {}", found["duration"]);
        assert_eq!(found["streams"].as_array().map(Vec::len), Some(2), "{found}");
        let (video, audio) = (&found["video"], &found["audio"]);
        assert_eq!((video["width"].as_u64(), video["height"].as_u64()), (Some(160), Some(90)));
        assert_eq!((&video["codec"], &video["frame_rate"]), (&"h264".into(), &"24000/1001".into()), "{name}");
        assert_eq!((&audio["codec"], audio["sample_rate"].as_u64()), (&"ac3".into(), Some(48_000)));
        assert_eq!(audio["channels"], 6);
        assert!(found["warnings"].is_array());
    }
}

#[test]
fn inspect_tells_cover_art_from_a_video() {
    let Some(m4a) = Clip::new().audio(audio("aac")).make("song.m4a") else { return };
    let found = inspect(&damage::with_cover_m4a(&m4a, "song-cover.m4a"));
    assert!(found["video"].is_null(), "{found}");
    let kinds: Vec<&str> =
        found["streams"].as_array().expect("streams").iter().filter_map(|s| s["kind"].as_str()).collect();
    assert!(kinds.contains(&"cover") && kinds.contains(&"audio"), "{kinds:?}");
}

#[test]
fn inspect_for_people_names_the_essentials() {
    let Some(path) = ordinary("people.mkv") else { return };
    let outcome = sprocket(&["inspect".as_ref(), path.as_os_str()]).ok();
    for part in ["160x90", "h264", "aac", "25"] {
        assert!(outcome.text().contains(part), "{part} is missing in\n{}", outcome.text());
    }
}

#[test]
fn help_is_there_for_each_command() {
    for words in [&["--help"][..], &["transcode", "--help"], &["inspect", "--help"], &["--version"]] {
        let mut text = String::new();
        sprocket(words).ok().stdout.as_slice().read_to_string(&mut text).expect("text");
        assert!(text.contains("sprocket"), "{text}");
    }
}

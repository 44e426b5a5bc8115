//! Devices: what the prober says of this machine, and what becomes of a job and of a viewer whose device
//! misbehaves. The misbehaving device is a fake behind the trait of the real ones (`hardware::fake`); Mesa's
//! lavapipe is a real Vulkan device on any processor.

mod support;

use serde_json::{Value, json};
use std::path::{Path, PathBuf};
use std::time::Duration;
use support::clips::{Clip, audio, h264};
use support::conformance::assert_kept;
use support::hls::Hls;
use support::node::{Config, LIMIT, Node, pause, until};
use support::run::{Outcome, finish, program, skip, sprocket};
use support::{h264_encoder, probe};

/// 25 pictures each second for 24 s: the fake device fails at picture 500.
const SECONDS: f64 = 24.0;
const FRAMES: u64 = 600;
const FAKE: &str = "SPROCKET_FAKE_DEVICE";

fn film() -> Option<PathBuf> {
    h264_encoder()?;
    let picture = h264().size(320, 180).rate(25, 1).seconds(SECONDS).gop(125);
    Clip::new().video(picture).audio(audio("aac").rate(48_000).seconds(SECONDS)).make("device.mkv")
}

/// `sprocket probe --json` with these settings in the environment.
fn probed(settings: &[(&str, &str)]) -> Value {
    let mut command = program();
    command.args(["probe", "--json"]).envs(settings.iter().copied());
    let outcome = finish(command).ok();
    serde_json::from_str(&outcome.text()).expect("JSON and nothing else")
}

fn devices(report: &Value) -> &[Value] {
    report["devices"].as_array().expect("devices")
}

fn device<'a>(report: &'a Value, kind: &str) -> &'a Value {
    devices(report).iter().find(|device| device["kind"] == kind).unwrap_or(&Value::Null)
}

/// Whoever reads it can do something.
#[track_caller]
fn assert_can_be_acted_on(verdict: &Value, what: &str) {
    for key in ["code", "message", "hint"] {
        assert!(verdict[key].as_str().is_some_and(|text| text.len() > 3), "{what}: no {key} in {verdict:#}");
    }
}

#[test]
fn encoders_that_are_linked_and_do_not_work_are_refused_with_a_reason() {
    let report = probed(&[]);
    assert_eq!(report["listing"]["from"], "libav");
    for (kind, encoder, nodes) in [
        ("nvenc", "h264_nvenc", &["/dev/nvidiactl", "/dev/dxg"][..]),
        ("vaapi", "h264_vaapi", &["/dev/dri/renderD128"]),
        ("qsv", "h264_qsv", &["/dev/dri"]),
        ("v4l2m2m", "h264_v4l2m2m", &["/dev/video0", "/dev/video10", "/dev/video11"]),
    ] {
        let found = device(&report, kind);
        let codec = found["codecs"].as_array().and_then(|all| all.iter().find(|c| c["name"] == encoder));
        let Some(codec) = codec else {
            skip(&format!("this libav has no {encoder}"));
            continue;
        };
        if nodes.iter().any(|node| Path::new(node).exists()) {
            // There may be a device: then whatever it is, it is not silence.
            assert!(codec["verdict"]["state"].is_string(), "{codec:#}");
            continue;
        }
        assert_eq!(codec["verdict"]["state"], "refused", "{codec:#}");
        assert_eq!(codec["verdict"]["code"], "no_device", "{codec:#}");
        assert_can_be_acted_on(&codec["verdict"], encoder);
        assert!(codec["verdict"]["libav"].is_string(), "libav was really asked: {codec:#}");
    }
    let text = sprocket(&["probe"]).ok().text();
    assert!(text.contains("kinds of devices work here"), "{text}");
}

#[test]
fn nothing_is_touched_that_the_configuration_leaves_out() {
    let off = probed(&[("SPROCKET_HARDWARE__ACCELERATION", "off")]);
    assert_eq!(devices(&off).len(), 0);
    let one = probed(&[
        ("SPROCKET_HARDWARE__ACCELERATION", "[vaapi]"),
        ("SPROCKET_HARDWARE__VAAPI_DEVICE", "/nowhere/x"),
    ]);
    assert_eq!(devices(&one).len(), 1);
    let verdict = &device(&one, "vaapi")["verdict"];
    assert_eq!((&verdict["state"], &verdict["code"]), (&json!("refused"), &json!("no_device")));
    assert!(verdict["message"].as_str().is_some_and(|text| text.contains("/nowhere/x")), "{verdict:#}");
}

/// Lavapipe, where it is installed; the setup does.
fn lavapipe() -> bool {
    let folder = Path::new("/usr/share/vulkan/icd.d");
    let there = folder.read_dir().is_ok_and(|all| {
        all.flatten().any(|entry| entry.file_name().to_string_lossy().starts_with("lvp_icd"))
    });
    if !there {
        skip("Mesa's lavapipe is not installed");
    }
    there
}

/// The settings with which the software renderer is used: who names it gets it.
const VULKAN: (&str, &str) = ("SPROCKET_HARDWARE__ACCELERATION", "[vulkan]");

#[test]
fn a_software_renderer_is_proven_and_known_for_what_it_is() {
    if !lavapipe() {
        return;
    }
    let report = probed(&[VULKAN]);
    let vulkan = device(&report, "vulkan");
    assert_eq!(vulkan["verdict"]["state"], "proven", "{vulkan:#}");
    assert_eq!(vulkan["scaling"]["state"], "proven", "{vulkan:#}");
    let real = vulkan["name"].as_str().is_some_and(|name| !name.contains("llvmpipe"));
    assert!(real || vulkan["software"] == true, "{vulkan:#}");
}

/// `sprocket transcode` with settings in the environment.
fn transcode(film: &Path, out: &Path, settings: &[(&str, &str)], more: &[&str]) -> Outcome {
    let mut command = program();
    command.arg("transcode").arg(film).arg("-o").arg(out).args(more).envs(settings.iter().copied());
    finish(command)
}

const SMALL: [&str; 4] = ["--rendition", "90p:90", "--preset", "veryfast"];

/// Pictures that were scaled on a real Vulkan device, uploaded and downloaded, are those that the processor makes.
#[test]
fn pictures_go_through_a_vulkan_device_and_come_back_the_same() {
    let Some(film) = film().filter(|_| lavapipe()) else { return };
    let dir = tempfile::tempdir().expect("a folder");
    let (there, here) = (dir.path().join("there.mp4"), dir.path().join("here.mp4"));
    let plain = ["--video-codec", "h264", "--crf", "12", "--rendition", "90p:90", "--end", "4"];
    transcode(&film, &there, &[VULKAN], &plain).ok();
    transcode(&film, &here, &[], &[&plain[..], &["--hardware", "forbid"]].concat()).ok();
    let pts = |path: &Path| probe::packets(path, "v:0").iter().map(|p| p.pts).collect::<Vec<_>>();
    assert_eq!(pts(&there), pts(&here));
    // Scalers differ a little; a picture that is wrong differs a lot.
    let brightness = |path: &Path| probe::brightness(path);
    let (one, other) = (brightness(&there), brightness(&here));
    assert_eq!(one.len(), other.len());
    assert!(!one.is_empty());
    for (n, (a, b)) in one.iter().zip(&other).enumerate() {
        assert!(a.abs_diff(*b) <= 2, "picture {n}: {a} there, {b} here");
    }
    let told =
        transcode(&film, &dir.path().join("told.mp4"), &[VULKAN, ("SPROCKET_LOG", "debug")], &plain).ok();
    assert!(told.stderr.contains("vulkan scales"), "the device was used: {}", told.stderr);
}

/// Times of the pictures and sizes of the sound of a finished output, segment by segment.
fn times(out: &Path) -> Vec<(Vec<i64>, usize)> {
    let hls = Hls::open(out);
    let rendition = hls.only();
    rendition.check_all((25, 1));
    let of = |segment| {
        let (mut packets, _) = rendition.pictures(segment);
        packets.sort_by_key(|packet| packet.pts);
        (packets.iter().map(|packet| packet.pts).collect(), packets.len())
    };
    rendition.segments.iter().map(of).collect()
}

#[test]
fn a_job_whose_device_misbehaves_is_the_same_as_one_without() {
    let Some(film) = film() else { return };
    let dir = tempfile::tempdir().expect("a folder");
    let plain = dir.path().join("plain");
    transcode(&film, &plain, &[], &[&SMALL[..], &["--hardware", "forbid"]].concat()).ok();
    let wanted = times(&plain);
    assert_eq!(wanted.iter().map(|(_, frames)| *frames as u64).sum::<u64>(), FRAMES);
    for (mischief, falls_back) in [
        ("fine", false),
        ("late@8", false),
        ("refuse", true),
        ("fail@500", true),
        ("hang@500", true),
        ("vanish@500", true),
        ("ignore-keys", true),
    ] {
        let out = dir.path().join(mischief);
        let outcome = transcode(&film, &out, &[(FAKE, mischief)], &SMALL).ok();
        let told = outcome.stderr.contains("software goes on in place of the device");
        assert_eq!(told, falls_back, "{mischief}: {}", outcome.stderr);
        assert_eq!(times(&out), wanted, "{mischief}");
        assert_kept(&out.display().to_string());
    }
}

#[test]
fn hardware_that_is_required_fails_rather_than_fall_back() {
    let Some(film) = film() else { return };
    let dir = tempfile::tempdir().expect("a folder");
    let required = [&SMALL[..], &["--hardware", "require"]].concat();
    let none = [("SPROCKET_HARDWARE__ACCELERATION", "off")];
    transcode(&film, &dir.path().join("none"), &none, &required).failed(1, "no_hardware", "required");
    let fails = [(FAKE, "fail@100")];
    transcode(&film, &dir.path().join("fails"), &fails, &required).failed(1, "device_failed", "fake");
    transcode(&film, &dir.path().join("works"), &[(FAKE, "fine")], &required).ok();
    assert!(!dir.path().join("fails").exists(), "nothing is left of it");
}

/// A fragmented MP4 has one init segment: with the parameter sets of both encoders where they can have names of
/// their own, and else nothing goes on behind it.
#[test]
fn a_fragmented_mp4_goes_on_or_ends_but_is_never_broken() {
    let Some(film) = film() else { return };
    let dir = tempfile::tempdir().expect("a folder");
    let fmp4 = [&SMALL[..], &["--segment-type", "fmp4"]].concat();
    let early = dir.path().join("early");
    transcode(&film, &early, &[(FAKE, "fail@20")], &fmp4).ok();
    assert_eq!(times(&early).iter().map(|(_, frames)| *frames as u64).sum::<u64>(), FRAMES);
    let late = dir.path().join("late");
    let outcome = transcode(&film, &late, &[(FAKE, "fail@500")], &fmp4);
    if h264_encoder() == Some("libx264") {
        outcome.ok();
        assert_eq!(times(&late), times(&early), "one init segment for both");
        assert_kept(&late.display().to_string());
    } else {
        outcome.failed(1, "device_failed_midway", "fragmented");
        assert!(!late.exists());
    }
}

fn node(mischief: &str, config: Config) -> Node {
    let wrapper = format!("{FAKE}={mischief}");
    let node = Node::start(&config.by(&["env", &wrapper]));
    until(LIMIT, "the devices are known", || {
        (node.describe()["capabilities"]["hardware"]["state"] == "known").then_some(())
    });
    node
}

/// One small rendition of a film in the node's root, which a device could make.
fn small_job(id: &str, input: &str) -> Value {
    json!({
        "id": id,
        "input": format!("nas://media/{input}"),
        "output": format!("nas://out/{id}"),
        "renditions": [{"name": "90p", "height": 90, "video_codec": "h264"}],
    })
}

#[test]
fn a_job_says_what_it_used_and_why_it_fell_back_and_the_device_rests() {
    let Some(film) = film() else { return };
    let node = node("fail@300", Config::default());
    let input = node.add(&film);
    let job = |id: &str| small_job(id, &input);
    node.accepted(&job("falls"));
    let record = node.succeeded("falls");
    assert_eq!(record["hardware_used"], true, "{record:#}");
    assert!(record["fallback_reason"].as_str().is_some_and(|why| why.contains("fake")), "{record:#}");
    assert_ne!(record["video_encoder"][0]["encoder"], "h264_fake", "who encodes now: {record:#}");
    let hardware = node.describe()["capabilities"]["hardware"].clone();
    assert_eq!(hardware["demoted"][0]["kind"], "fake", "{hardware:#}");
    let metrics = node.get("/metrics").expect(200).text();
    assert!(metrics.contains("sprocket_device_usable{device=\"fake\"} 0"), "{metrics}");
    // While it rests nobody meets it.
    node.accepted(&job("spared"));
    let record = node.succeeded("spared");
    assert_eq!((&record["hardware_used"], &record["fallback_reason"]), (&json!(false), &Value::Null));
    let mut required = job("required");
    required["hardware"] = "require".into();
    node.accepted(&required);
    let error = node.failed("required");
    assert_eq!((&error["code"], &error["retryable"]), (&json!("no_hardware"), &json!(true)), "{error:#}");
}

#[test]
fn a_job_that_is_cancelled_while_its_device_hangs_has_left() {
    let Some(film) = film() else { return };
    let node = node("hang@50", Config::default());
    let input = node.add(&film);
    let job = |id: &str| small_job(id, &input);
    node.accepted(&job("leaves"));
    node.working("leaves");
    let mut seen = Value::Null;
    until(LIMIT, "its pictures stand still", || {
        pause(Duration::from_millis(200));
        let frames = node.job("leaves")["progress"]["frames"].clone();
        let hangs = frames.as_u64() >= Some(40) && seen == frames;
        seen = frames;
        hangs.then_some(())
    });
    node.cancel("leaves");
    assert_eq!(node.job("leaves")["error"], Value::Null);
    assert!(!node.output().join("leaves").exists() && node.hidden().is_empty(), "nothing is left of it");
    // The thread that hangs in the driver is nobody's concern.
    node.accepted(&job("follows"));
    node.succeeded("follows");
}

/// All segments of the lowest rendition, each as it was served, in order.
fn watched(node: &Node, film: &str) -> Vec<Vec<u8>> {
    let base = format!("/vod/media/{film}");
    let master = node.get(&format!("{base}/master.m3u8")).expect(200).text();
    let playlist = master.lines().rfind(|line| line.ends_with("index.m3u8")).expect("a rendition").to_owned();
    let folder = playlist.strip_suffix("/index.m3u8").expect("a folder");
    let index = node.get(&format!("{base}/{playlist}")).expect(200).text();
    let segments = index.lines().filter(|line| !line.starts_with('#') && !line.is_empty());
    segments.map(|uri| node.get(&format!("{base}/{folder}/{uri}")).expect(200).body.to_vec()).collect()
}

fn pts_of(segments: &[Vec<u8>]) -> Vec<Vec<i64>> {
    let dir = tempfile::tempdir().expect("a folder");
    let of = |(n, bytes): (usize, &Vec<u8>)| {
        let path = dir.path().join(format!("{n}.ts"));
        std::fs::write(&path, bytes).expect("a segment");
        let mut pts: Vec<i64> = probe::packets(&path, "v:0").iter().map(|packet| packet.pts).collect();
        pts.sort_unstable();
        pts
    };
    segments.iter().enumerate().map(of).collect()
}

#[test]
fn a_viewer_whose_device_misbehaves_sees_what_one_without_sees() {
    let Some(film) = film() else { return };
    let config = || {
        Config::default()
            .with("stream.read_ahead", 8)
            .with("stream.segment_duration", "2s")
            .with("log.level", "debug")
    };
    let plain = Node::start(&config());
    let wanted = pts_of(&watched(&plain, &plain.add(&film)));
    assert_eq!(wanted.iter().map(Vec::len).sum::<usize>() as u64, FRAMES);
    for mischief in ["fine", "late@8", "refuse", "fail@500", "hang@500", "vanish@500", "ignore-keys"] {
        let node = node(mischief, config());
        let name = node.add(&film);
        let found = watched(&node, &name);
        assert_eq!(pts_of(&found), wanted, "{mischief}");
        assert_eq!(probe::ts_continuity_errors(&found.concat()), Vec::<String>::new(), "{mischief}");
        assert_kept(&node.url(&format!("/vod/media/{name}/master.m3u8")));
        let demoted = node.describe()["capabilities"]["hardware"]["demoted"].clone();
        let rests = demoted.as_array().is_some_and(|all| !all.is_empty());
        assert_eq!(rests, !["fine", "late@8"].contains(&mischief), "{mischief}: {demoted:#}");
        assert!(node.said_about("with a device").len() + usize::from(mischief == "refuse") > 0);
    }
}

/// What was found is kept: the next start has it at once, and a change of the machine is noticed.
#[test]
fn the_report_is_kept_for_the_next_start() {
    let mut node = Node::start(&Config::default().with("hardware.acceleration", json!(["vaapi"])));
    let known = |node: &Node| {
        until(LIMIT, "the devices are known", || {
            let hardware = node.describe()["capabilities"]["hardware"].clone();
            (hardware["state"] == "known").then_some(hardware)
        })
    };
    let first = known(&node);
    node.terminate();
    node.restart();
    let second = known(&node);
    assert_eq!(first["report"], second["report"], "the same report, down to how long it took");
    node.terminate();
}

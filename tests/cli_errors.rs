//! What goes wrong is said in one line, with a stable code, and leaves nothing behind.

mod support;

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use support::clips::{Clip, audio};
use support::run::{Outcome, finish, has_command, program, skip, sprocket, transcode};
use support::{damage, ordinary, probe};
use tempfile::TempDir;

fn temporary() -> TempDir {
    tempfile::tempdir().expect("a temporary folder")
}

/// To HLS and to a single file: the same error, and no output. No encoder is needed to get there.
#[track_caller]
fn refused(source: &Path, code: &str) {
    let name = source.file_name().expect("a name").to_string_lossy().into_owned();
    for (out, options) in [("out", &["--format", "hls"][..]), ("out.mp4", &[])] {
        let folder = temporary();
        let out = folder.path().join(out);
        transcode(source, &out, options).failed(1, code, &name);
        let left: Vec<PathBuf> =
            fs::read_dir(folder.path()).expect("a folder").map(|e| e.expect("an entry").path()).collect();
        assert!(left.is_empty(), "left behind: {left:?}");
    }
    let outcome = sprocket(&["inspect".as_ref(), source.as_os_str()]);
    outcome.error_line();
    assert_eq!(outcome.code, Some(1), "{}", outcome.stderr);
}

#[track_caller]
fn file_with(folder: &TempDir, name: &str, content: &[u8]) -> PathBuf {
    let path = folder.path().join(name);
    fs::write(&path, content).expect("a small file");
    path
}

#[test]
fn a_file_that_is_not_there() {
    let folder = temporary();
    refused(&folder.path().join("no-such-film.mkv"), "not_found");
}

#[test]
fn a_folder() {
    let folder = temporary();
    let path = folder.path().join("season-1.mkv");
    fs::create_dir(&path).expect("a folder");
    refused(&path, "is_a_directory");
}

#[test]
fn an_empty_file() {
    let folder = temporary();
    refused(&file_with(&folder, "empty.mkv", b""), "empty_file");
}

#[test]
fn a_text_file() {
    let folder = temporary();
    let text = "It was a dark and stormy night; the rain fell in torrents.\n".repeat(100);
    refused(&file_with(&folder, "story.mkv", text.as_bytes()), "not_media");
}

#[test]
fn a_file_of_zeros() {
    let folder = temporary();
    refused(&file_with(&folder, "zeros.mp4", &[0; 65536]), "not_media");
}

#[test]
fn an_mp4_without_its_index() {
    let Some(good) = ordinary("indexed.mp4") else { return };
    refused(&damage::without_index(&good, "interrupted.mp4"), "damaged_container");
}

#[test]
fn a_picture_of_an_unknown_codec() {
    let Some(good) = ordinary("known.mkv") else { return };
    let unknown = damage::with_unknown_codec(&good, "unknown.mkv");
    let name = "unknown.mkv";
    let folder = temporary();
    let out = folder.path().join("out.mp4");
    transcode(&unknown, &out, &[]).failed(1, "no_decoder", name);
    assert!(!out.exists());
}

#[test]
fn neither_picture_nor_sound() {
    let Some(path) = support::damage::subtitles_only() else { return };
    assert!(!probe::has(&path, "video") && !probe::has(&path, "audio"));
    let folder = temporary();
    let out = folder.path().join("out.mp4");
    transcode(&path, &out, &[]).failed(1, "no_streams", "subtitles.mkv");
    assert!(!out.exists());
}

// ---- hostile ----------------------------------------------------------------------------------------

/// A pipe that nobody writes to: whoever opens it hangs, and the time limit of the test ends that.
fn trap(folder: &TempDir) -> Option<PathBuf> {
    let path = folder.path().join("secret.ts");
    if !has_command("mkfifo") {
        skip("no mkfifo");
        return None;
    }
    let mut command = Command::new("mkfifo");
    command.arg(&path);
    finish(command).ok();
    Some(path)
}

#[test]
fn a_playlist_that_calls_itself_a_film_reads_no_other_file() {
    let folder = temporary();
    let Some(trap) = trap(&folder) else { return };
    let list = format!(
        "#EXTM3U\n#EXT-X-VERSION:3\n#EXT-X-TARGETDURATION:4\n#EXTINF:4,\n{}\n#EXT-X-ENDLIST\n",
        trap.display()
    );
    refused(&file_with(&folder, "film.mkv", list.as_bytes()), "not_media");
}

#[test]
fn a_concat_script_that_calls_itself_a_film_reads_no_other_file() {
    let folder = temporary();
    let Some(trap) = trap(&folder) else { return };
    let script = format!("ffconcat version 1.0\nfile '{}'\n", trap.display());
    refused(&file_with(&folder, "film.mp4", script.as_bytes()), "not_media");
}

#[test]
fn the_address_of_a_server_is_no_file() {
    let folder = temporary();
    let out = folder.path().join("out.mp4");
    for input in ["http://127.0.0.1:9/film.mp4", "concat:/etc/hostname", "lavfi:testsrc"] {
        transcode(Path::new(input), &out, &[]).failed(1, "not_found", input);
        assert!(!out.exists());
    }
}

#[test]
fn a_device_that_never_ends_is_not_read_for_ever() {
    let folder = temporary();
    let out = folder.path().join("out.mp4");
    let outcome = transcode(Path::new("/dev/zero"), &out, &[]);
    assert_eq!(outcome.code, Some(1), "{}", outcome.stderr);
    assert!(outcome.error_line().contains("/dev/zero"), "{}", outcome.stderr);
    assert!(!out.exists());
}

#[test]
fn a_description_of_a_session_reads_no_other_file() {
    let folder = temporary();
    let sdp = b"v=0\no=- 0 0 IN IP4 127.0.0.1\ns=x\nc=IN IP4 127.0.0.1\nt=0 0\nm=video 5004 RTP/AVP 96\na=rtpmap:96 H264/90000\n";
    refused(&file_with(&folder, "film.mkv", sdp), "not_media");
}

// ---- the output -------------------------------------------------------------------------------------

#[test]
fn an_output_folder_that_exists_stays_as_it_is() {
    let Some(source) = ordinary("exists.mkv") else { return };
    let folder = temporary();
    let out = folder.path().join("out");
    fs::create_dir(&out).expect("a folder");
    fs::write(out.join("master.m3u8"), "precious").expect("a file");
    transcode(&source, &out, &["--format", "hls", "--video-codec", "copy"]).failed(1, "output_exists", "out");
    assert_eq!(fs::read_to_string(out.join("master.m3u8")).expect("still there"), "precious");
    assert_eq!(support::hls::files_below(folder.path()).len(), 1);
}

#[test]
fn an_output_file_that_exists_stays_as_it_is() {
    let Some(source) = ordinary("exists.mkv") else { return };
    let folder = temporary();
    let out = file_with(&folder, "out.mp4", b"precious");
    transcode(&source, &out, &["--video-codec", "copy"]).failed(1, "output_exists", "out.mp4");
    assert_eq!(fs::read(&out).expect("still there"), b"precious");
}

#[test]
fn an_output_that_exists_is_replaced_when_that_is_asked_for() {
    let Some(source) = ordinary("exists.mkv") else { return };
    let folder = temporary();
    let file = file_with(&folder, "out.mp4", b"old");
    transcode(&source, &file, &["--video-codec", "copy", "--audio-codec", "copy", "--overwrite"]).ok();
    assert_eq!(probe::frame_count(&file), 200);
    let out = folder.path().join("out");
    let copy = ["--format", "hls", "--video-codec", "copy", "--audio-codec", "copy"];
    transcode(&source, &out, &[&copy[..], &["--segment-duration", "2"]].concat()).ok();
    let first = support::hls::Hls::open(&out).only().segments.len();
    transcode(&source, &out, &[&copy[..], &["--segment-duration", "4", "--overwrite"]].concat()).ok();
    // `open` demands that no segment of the first run is left over.
    assert!(support::hls::Hls::open(&out).only().segments.len() < first);
}

#[test]
fn a_failed_replacement_leaves_the_old_output() {
    let folder = temporary();
    let source = file_with(&folder, "story.mkv", b"not a film at all\n");
    let out = file_with(&folder, "out.mp4", b"precious");
    transcode(&source, &out, &["--overwrite"]).failed(1, "not_media", "story.mkv");
    assert_eq!(fs::read(&out).expect("still there"), b"precious");
}

#[test]
fn the_source_is_never_its_own_output() {
    let Some(source) = ordinary("self.mkv") else { return };
    let folder = temporary();
    let film = folder.path().join("film.mkv");
    fs::copy(&source, &film).expect("a copy");
    let before = fs::read(&film).expect("the copy");
    let outcome = transcode(&film, &film, &["--overwrite", "--video-codec", "copy"]);
    assert!(matches!(outcome.code, Some(1 | 2)), "{}", outcome.stderr);
    outcome.error_line();
    assert!(fs::read(&film).expect("still there") == before, "the source was touched");
}

#[test]
fn a_folder_to_write_to_that_is_not_there() {
    let Some(source) = ordinary("nowhere.mkv") else { return };
    let folder = temporary();
    let out = folder.path().join("no/such/place/out.mp4");
    let outcome = transcode(&source, &out, &["--video-codec", "copy", "--audio-codec", "copy"]);
    // Making the folders is as good an answer as refusing; half a thing is not.
    match outcome.code {
        Some(0) => assert_eq!(probe::frame_count(&out), 200),
        _ => outcome.failed(1, "not_found", "out.mp4"),
    }
}

// ---- permission and space ---------------------------------------------------------------------------

/// Runs the program as somebody who may not read and write everything.
fn as_nobody(folder: &TempDir, arguments: &[&Path]) -> Option<Outcome> {
    // Root reads everything, so it has to step down, to somebody who may reach the program.
    let opened = fs::Permissions::from_mode(0o755);
    fs::set_permissions(folder.path(), opened.clone()).expect("our folder");
    let copy = folder.path().join("sprocket");
    fs::copy(program().get_program(), &copy).expect("a copy of the program");
    fs::set_permissions(&copy, opened).expect("our copy");
    let mut id = Command::new("id");
    id.arg("-u");
    let root = finish(id).ok().text().trim() == "0";
    if root && !has_command("setpriv") {
        skip("root, and no setpriv to step down with");
        return None;
    }
    let mut command = if root { Command::new("setpriv") } else { Command::new(&copy) };
    if root {
        command.args(["--reuid=65534", "--regid=65534", "--clear-groups", "--"]).arg(&copy);
    }
    command.current_dir(folder.path()).arg("transcode").args(arguments);
    command.args(["--video-codec", "copy", "--audio-codec", "copy"]);
    Some(finish(command))
}

#[test]
fn a_source_that_may_not_be_read() {
    let Some(source) = ordinary("locked.mkv") else { return };
    let folder = temporary();
    let locked = folder.path().join("locked.mkv");
    fs::copy(&source, &locked).expect("a copy");
    fs::set_permissions(&locked, fs::Permissions::from_mode(0o000)).expect("our file");
    let out = folder.path().join("out.mp4");
    let Some(outcome) = as_nobody(&folder, &[&locked, Path::new("-o"), &out]) else { return };
    outcome.failed(1, "permission_denied", "locked.mkv");
    assert!(!out.exists());
}

#[test]
fn an_output_folder_that_may_not_be_written() {
    let Some(source) = ordinary("readable.mkv") else { return };
    let folder = temporary();
    let copy = folder.path().join("readable.mkv");
    fs::copy(&source, &copy).expect("a copy");
    let closed = folder.path().join("closed");
    fs::create_dir(&closed).expect("a folder");
    fs::set_permissions(&closed, fs::Permissions::from_mode(0o555)).expect("our folder");
    let out = closed.join("out.mp4");
    let Some(outcome) = as_nobody(&folder, &[&copy, Path::new("-o"), &out]) else { return };
    outcome.failed(1, "permission_denied", "closed");
}

/// A file system of 256 KiB in a mount namespace of its own: it goes when the command ends.
#[test]
fn a_disk_that_is_full() {
    let Some(source) = ordinary("big.mkv") else { return };
    let folder = temporary();
    let tiny = folder.path().join("tiny");
    fs::create_dir(&tiny).expect("a folder");
    let in_namespace = |script: &str, words: &[&Path]| {
        let mut command = Command::new("unshare");
        command.args(["-m", "sh", "-c", script, "sh"]).arg(&tiny).args(words);
        finish(command)
    };
    let mount = "mount -t tmpfs -o size=256k tmpfs \"$1\" || exit 97";
    if !has_command("unshare") || in_namespace(mount, &[]).code != Some(0) {
        return skip("a small file system cannot be mounted here: the full disk is not tested");
    }
    for (format, out) in [("mp4", "out.mp4"), ("hls", "out")] {
        let run = format!(
            "{mount}; \"$2\" transcode \"$3\" -o \"$1/{out}\" --format {format} --video-codec copy --audio-codec copy; \
             code=$?; ls -A \"$1\"; exit $code"
        );
        let outcome = in_namespace(&run, &[Path::new(program().get_program()), &source]);
        outcome.failed(1, "no_space", "tiny");
        assert_eq!(outcome.text(), "", "left behind on the full disk");
    }
}

#[test]
fn the_clips_of_this_file_can_be_made() {
    assert!(Clip::new().audio(audio("pcm_s16le").seconds(1.0)).make("pcm.mkv").is_some());
}

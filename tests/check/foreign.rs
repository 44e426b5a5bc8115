//! Streams that another program has made: the `ffmpeg` command line, with a multivariant playlist
//! written here, because its own lacks what row V1 asks for and promises too little bandwidth.

use super::stream::{Stream, box_at, find};
use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};

/// Ten seconds of sound; the picture is as long, with a key picture every 2 s.
const SOUND: &str = "sine=frequency=440:sample_rate=48000:duration=10";

pub const X264: &[&str] = &[
    "-c:v",
    "libx264",
    "-preset",
    "veryfast",
    "-bf",
    "2",
    "-sc_threshold",
    "0",
    "-b:v",
    "400k",
    "-maxrate",
    "500k",
    "-bufsize",
    "500k",
];
/// Without B-frames, which `ffmpeg` would have to shift in fragmented MP4; and without sound, which it
/// does not cut with the picture there.
pub const FMP4: &[&str] =
    &["-bf", "0", "-an", "-hls_segment_type", "fmp4", "-hls_fmp4_init_filename", "init.mp4"];
pub const TS: &[&str] = &["-hls_segment_type", "mpegts"];

/// One rendition: its folder, width and height, and its codecs, in which `{avc1}` stands for what the
/// bytes say.
pub struct Rendition {
    pub name: &'static str,
    pub size: (u32, u32),
    pub codecs: &'static str,
}

/// Picture and sound of the usual size.
pub const HIGH: Rendition = Rendition { name: "high", size: (320, 180), codecs: "{avc1},mp4a.40.2" };
pub const LOW: Rendition = Rendition { name: "low", size: (160, 90), codecs: "{avc1},mp4a.40.2" };
/// The picture alone.
pub const SILENT: Rendition = Rendition { name: "high", size: (320, 180), codecs: "{avc1}" };

/// Makes renditions in `folder`; `None` where there is no `ffmpeg` with these encoders.
pub fn make(folder: &Path, renditions: &[Rendition], video: &[&str], container: &[&str]) -> Option<Stream> {
    for rendition in renditions {
        let place = folder.join(rendition.name);
        fs::create_dir_all(&place).expect("room for a folder");
        render(&place, rendition.size, video, container)?;
    }
    let mut stream = Stream::load(folder, "master.m3u8");
    let version = if container.contains(&"fmp4") { 7 } else { 3 };
    let mut master = format!("#EXTM3U\n#EXT-X-VERSION:{version}\n#EXT-X-INDEPENDENT-SEGMENTS\n");
    for Rendition { name, size: (width, height), codecs } in renditions {
        let (peak, average) = bit_rates(&stream, name);
        let codecs = codecs.replace("{avc1}", &avc1(&stream, name));
        master += &format!(
            "#EXT-X-STREAM-INF:BANDWIDTH={peak},AVERAGE-BANDWIDTH={average},CODECS=\"{codecs}\",\
             RESOLUTION={width}x{height},FRAME-RATE=25.000\n{name}/index.m3u8\n"
        );
    }
    stream.files.insert("master.m3u8".into(), master.into_bytes());
    Some(stream)
}

fn render(folder: &Path, (width, height): (u32, u32), video: &[&str], container: &[&str]) -> Option<()> {
    let picture = format!("testsrc2=size={width}x{height}:rate=25:duration=10");
    let segments = folder.join(if container.contains(&"fmp4") { "%d.m4s" } else { "%d.ts" });
    let mut command = Command::new("ffmpeg");
    command.args(["-v", "error", "-f", "lavfi", "-i", &picture, "-f", "lavfi", "-i", SOUND]);
    command.args(video).args(["-g", "50", "-keyint_min", "50", "-pix_fmt", "yuv420p"]);
    command.args(["-c:a", "aac", "-ac", "2", "-metadata:s:a:0", "language=eng"]);
    command.args(["-f", "hls", "-hls_time", "4", "-hls_playlist_type", "vod"]);
    command.args(container).arg("-hls_segment_filename").arg(&segments).arg(folder.join("index.m3u8"));
    let done = command.stdin(Stdio::null()).output();
    let done = done.inspect_err(|e| eprintln!("skipped: ffmpeg: {e}")).ok()?;
    if !done.status.success() {
        eprintln!("skipped: ffmpeg: {}", String::from_utf8_lossy(&done.stderr));
        return None;
    }
    Some(())
}

/// Of segments of 4 s, 4 s and 2 s: each alone is a run, and the last two together.
fn bit_rates(stream: &Stream, name: &str) -> (usize, usize) {
    let list = stream.segments_of(&format!("{name}/index.m3u8"));
    let sizes: Vec<usize> = list.iter().map(|name| stream.files[name].len()).collect();
    assert_eq!(sizes.len(), 3, "{list:?}");
    let runs = [(sizes[0], 4), (sizes[1], 4), (sizes[2], 2), (sizes[1] + sizes[2], 6)];
    let peak = runs.into_iter().map(|(bytes, seconds)| (8 * bytes).div_ceil(seconds)).max();
    (peak.expect("there are runs"), 8 * sizes.iter().sum::<usize>() / 10)
}

/// Profile, constraints and level, from the record in the init segment or the first parameter set.
fn avc1(stream: &Stream, name: &str) -> String {
    let bytes = match stream.files.get(&format!("{name}/init.mp4")) {
        Some(init) => {
            let Some(_) = find(init, b"avcC", 0) else { return String::new() };
            &init[box_at(init, b"avcC") + 1..]
        }
        None => {
            let segment = &stream.files[&format!("{name}/0.ts")];
            &segment[find(segment, &[0, 0, 1, 0x67], 0).expect("a parameter set") + 4..]
        }
    };
    format!("avc1.{:02x}{:02x}{:02x}", bytes[0], bytes[1], bytes[2])
}

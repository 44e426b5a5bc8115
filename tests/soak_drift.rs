//! Two hours at 23.976: the playlist's sum is the frames' sum, and nothing drifts.
//! Runs only with `SPROCKET_SOAK=1` (`make soak`): it encodes 172,627 frames.

mod support;

use support::clips::{Clip, audio, h264};
use support::hls::Hls;

#[test]
fn two_hours_at_23_976_drift_by_nothing() {
    if std::env::var_os("SPROCKET_SOAK").is_none() {
        return support::run::skip("SPROCKET_SOAK is not set");
    }
    const FRAMES: u32 = 172_627;
    let seconds = f64::from(FRAMES) * 1001.0 / 24_000.0;
    let picture = h264().size(64, 36).rate(24_000, 1001).frames(FRAMES).option("preset", "ultrafast");
    let clip = Clip::new().video(picture).audio(audio("aac").seconds(seconds));
    let Some(source) = clip.make("two_hours.mkv") else { return };
    let folder = tempfile::tempdir().expect("a folder");
    let out = folder.path().join("out");
    let mut command = support::run::program();
    command.arg("transcode").arg(&source).arg("-o").arg(&out);
    command.args(["--rendition", "t:36", "--preset", "ultrafast", "--progress", "none"]);
    assert!(command.status().expect("the program").success());
    let output = Hls::open(&out);
    let rendition = output.only();
    assert!((rendition.seconds() - seconds).abs() < 1001.0 / 24_000.0);
    rendition.check_grid((24_000, 1001), u64::from(FRAMES));
}

//! The tools of the other tests, tested: a clip maker that is wrong makes every other test worthless.

mod support;

use support::clips::{Clip, audio, h264, has_encoder, video};
use support::{damage, probe};

#[test]
fn this_libav_can_make_the_usual_clip() {
    assert!(
        has_encoder("libx264") || has_encoder("libopenh264"),
        "the suite needs an H.264 encoder for its sources"
    );
    assert!(has_encoder("aac"), "the suite needs an AAC encoder for its sources");
}

#[test]
fn a_clip_is_what_its_description_says() {
    let clip = Clip::new()
        .video(h264().rate(24_000, 1001).frames(120).gop(48).bframes(2))
        .audio(audio("aac").seconds(5.0));
    let Some(path) = clip.make("described.mkv") else { return };
    let picture = probe::stream(&path, "video");
    assert_eq!((picture["width"].as_i64(), picture["height"].as_i64()), (Some(160), Some(90)));
    assert_eq!(picture["avg_frame_rate"], "24000/1001");
    assert_eq!(probe::frame_count(&path), 120);
    let packets = probe::packets(&path, "v:0");
    let keys: Vec<usize> = packets.iter().enumerate().filter(|(_, p)| p.key).map(|(n, _)| n).collect();
    assert_eq!(keys, [0, 48, 96]);
    assert!(!has_encoder("libx264") || packets.windows(2).any(|w| w[1].pts < w[0].pts), "no B-frames");
    assert_eq!(probe::stream(&path, "audio")["channels"], 2);
    assert_eq!(probe::complaints(&path), "");
}

#[test]
fn an_open_gop_has_pictures_that_lead_its_key_frame() {
    let clip = Clip::new().video(h264().frames(120).gop(48).bframes(2).open_gop());
    if !has_encoder("libx264") {
        return support::run::skip("no libx264");
    }
    let Some(path) = clip.make("open-gop.mkv") else { return };
    let packets = probe::packets(&path, "v:0");
    let key = packets.iter().skip(1).position(|p| p.key).expect("a second key frame") + 1;
    assert!(packets[key + 1].pts < packets[key].pts, "the key frame leads");
}

#[test]
fn a_transport_stream_starts_where_it_is_told() {
    for start_ms in [1400, 3_600_000] {
        let clip = Clip::new().video(h264().frames(50)).audio(audio("aac").seconds(2.0)).start_ms(start_ms);
        let Some(path) = clip.make("late.ts") else { return };
        assert_eq!(probe::packets(&path, "v:0")[0].pts, start_ms * 90);
        assert_eq!(probe::complaints(&path), "");
    }
}

#[test]
fn a_variable_rate_keeps_its_lengths() {
    let lengths: Vec<i64> = (0..60).map(|n| if n % 3 == 0 { 40 } else { 20 }).collect();
    let Some(path) = Clip::new().video(h264().lengths_ms(&lengths)).make("vfr.mkv") else { return };
    let times: Vec<i64> = probe::packets(&path, "v:0").iter().map(|p| p.pts).collect();
    let steps: Vec<i64> = times.windows(2).map(|w| w[1] - w[0]).collect();
    assert_eq!(steps, lengths[..59]);
}

#[test]
fn a_flash_lasts_one_picture_and_a_tone_a_tenth_of_a_second() {
    let clip =
        Clip::new().video(h264().frames(75).flashing()).audio(audio("pcm_s16le").seconds(3.0).beeping());
    let Some(path) = clip.make("flash.mov") else { return };
    let bright: Vec<usize> =
        probe::brightness(&path).iter().enumerate().filter(|(_, b)| **b > 128).map(|(n, _)| n).collect();
    assert_eq!(bright, [0, 25, 50]);
    let left: Vec<i16> = probe::pcm(&path).chunks_exact(2).map(|pair| pair[0]).collect();
    let loud = |range: std::ops::Range<usize>| left[range].iter().any(|s| s.abs() > 1000);
    assert!(loud(48_000..48_200) && loud(52_000..52_800) && !loud(52_801..96_000) && loud(96_000..96_200));
}

#[test]
fn every_codec_and_container_of_the_table_can_be_made() {
    for (name, picture, sound) in support_table() {
        let Some(path) = Clip::new().video(picture).audio(sound).make(name) else { continue };
        assert_eq!(probe::complaints(&path), "", "{name}");
        assert_eq!(probe::frame_count(&path), 50, "{name}");
    }
}

fn support_table() -> Vec<(&'static str, support::clips::Video, support::clips::Audio)> {
    let short = |v: support::clips::Video| v.frames(50);
    let sound = |name| audio(name).seconds(2.0);
    vec![
        ("a.mp4", short(h264()), sound("aac")),
        ("b.mkv", short(video("libx265").pixel_format("yuv420p10le")), sound("ac3")),
        ("c.webm", short(video("libvpx-vp9")), sound("libopus")),
        ("d.mp4", short(video("libsvtav1")), sound("eac3")),
        ("e.ts", short(video("mpeg2video").bframes(2)), sound("libmp3lame")),
        ("f.avi", short(video("mpeg4")), sound("libmp3lame")),
        ("g.mov", short(h264()), sound("pcm_s16le")),
        ("h.mkv", short(video("mpeg4").size(321, 181)), sound("flac")),
        ("i.mkv", short(h264().pixel_format("yuv420p10le")), sound("aac").layout("5.1")),
    ]
}

#[test]
fn cover_art_is_an_attached_picture() {
    let Some(m4a) = Clip::new().audio(audio("aac").seconds(2.0)).make("plain.m4a") else { return };
    let mut covered = vec![damage::with_cover_m4a(&m4a, "cover.m4a")];
    covered.extend(
        Clip::new()
            .audio(audio("libmp3lame").seconds(2.0))
            .make("plain.mp3")
            .map(|m| damage::with_cover_mp3(&m, "cover.mp3")),
    );
    for path in covered {
        let cover = probe::stream(&path, "video");
        assert_eq!(
            (&cover["codec_name"], &cover["disposition"]["attached_pic"]),
            (&"png".into(), &1.into()),
            "{path:?}"
        );
        assert_eq!(probe::stream(&path, "audio")["channels"], 2);
    }
}

#[test]
fn damage_is_what_it_says() {
    let Some(mkv) = support::ordinary("good.mkv") else { return };
    let unknown = damage::with_unknown_codec(&mkv, "unknown.mkv");
    assert!(probe::stream(&unknown, "video")["codec_name"].is_null());
    let cut = damage::cut(&mkv, "cut.mkv", 50);
    assert!(probe::frame_count(&cut) < 150);
    let Some(ts) = support::ordinary("good.ts") else { return };
    assert_eq!(probe::ts_continuity_errors(&std::fs::read(&ts).unwrap()), Vec::<String>::new());
    let noisy = damage::noise_in_the_middle(&ts, "noisy.ts");
    assert_ne!(probe::complaints(&noisy), "");
    let Some(mp4) = support::ordinary("good.mp4") else { return };
    let no_index = damage::without_index(&mp4, "no-index.mp4");
    assert!(damage::top_box(&std::fs::read(no_index).unwrap(), b"moov").is_none());
}

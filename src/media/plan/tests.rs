use super::*;
use crate::base::error::ErrorKind;
use crate::model::job::{AudioChoice, RateWish, RenditionWish, SegmentType, VideoChoice};
use crate::model::source::{AudioFacts, StreamFacts, VideoFacts};
use crate::model::track::{AudioCodec, Colour, VideoCodec};

const FOUR: Machine = Machine { cores: 4 };

pub(super) fn film() -> SourceFacts {
    let stream = |index, kind, codec: &str| StreamFacts {
        index,
        kind,
        codec: codec.into(),
        language: None,
        decodable: true,
    };
    SourceFacts {
        container: "matroska,webm".into(),
        size_bytes: 1 << 30,
        origin: Rational::from_int(1),
        duration: Rational::from_int(100),
        video: Some(VideoFacts {
            stream: 0,
            codec: "h264".into(),
            width: 1920,
            height: 1080,
            sample_aspect_ratio: Rational::from_int(1),
            frame_rate: Rational::new(24_000, 1001),
            constant_rate: true,
            pixel_format: "yuv420p".into(),
            bit_depth: 8,
            colour: Colour { primaries: 1, transfer: 1, matrix: 1, full_range: false },
            dynamic_range: "sdr",
            interlaced: false,
            rotation_degrees: 0,
            time_base: Rational::new(1, 1000),
            start: Rational::from_int(1),
            end: Rational::from_int(101),
            frame_count: None,
            key_frames: None,
            bitrate_bps: None,
        }),
        audio: Some(AudioFacts {
            stream: 1,
            codec: "ac3".into(),
            sample_rate: 48_000,
            channels: 6,
            frame_samples: 1536,
            time_base: Rational::new(1, 1000),
            start: Rational::from_int(1),
            end: Rational::from_int(101),
            bitrate_bps: None,
        }),
        streams: vec![stream(0, "video", "h264"), stream(1, "audio", "ac3")],
        warnings: Vec::new(),
    }
}

fn plan(facts: SourceFacts, wish: &Wish) -> Result<Plan> {
    Plan::new(PathBuf::from("/films/a.mkv"), facts, wish, FOUR, &Cancel::new())
}

fn option<'a>(settings: &'a VideoSettings, key: &str) -> Option<&'a str> {
    settings.options.iter().find(|(k, _)| k == key).map(|(_, v)| v.as_str())
}

fn with_rate(rate: RateWish) -> VideoSettings {
    let wish = Wish { rate, format: Format::Mp4, ..Wish::default() };
    plan(film(), &wish).unwrap().renditions.remove(0).encode.unwrap()
}

#[test]
fn a_film_gets_a_ladder_on_its_true_rate() {
    let plan = plan(film(), &Wish::default()).unwrap();
    let names: Vec<&str> = plan.renditions.iter().map(|r| r.name.as_str()).collect();
    assert_eq!(names[0], "1080p");
    assert!(names.len() >= 3, "{names:?}");
    assert_eq!(plan.timeline.frame_rate(), Rational::new(24_000, 1001));
    assert_eq!(plan.timeline.frames_per_segment(), 96);
    assert_eq!(plan.title_origin, Rational::from_int(1));
    for rendition in &plan.renditions {
        assert_eq!(rendition.encode.as_ref().unwrap().gop_frames, 96);
    }
}

#[test]
fn rate_control_means_what_the_contract_says() {
    if with_rate(RateWish::default()).encoder != "libx264" {
        return println!("skipped: libx264 is not there or masked");
    }
    let crf = with_rate(RateWish { crf: Some(21.5), bitrate_bps: None });
    assert_eq!((option(&crf, "crf"), crf.bitrate_bps, crf.max_rate_bps), (Some("21.5"), 0, 0));
    let average = with_rate(RateWish { crf: None, bitrate_bps: Some(3_000_000) });
    assert_eq!((option(&average, "crf"), average.bitrate_bps, average.max_rate_bps), (None, 3_000_000, 0));
    let both = with_rate(RateWish { crf: Some(22.0), bitrate_bps: Some(3_000_000) });
    assert_eq!((option(&both, "crf"), both.bitrate_bps), (Some("22"), 0));
    assert_eq!((both.max_rate_bps, both.buffer_bits), (3_000_000, 3_000_000), "one second of buffer");
}

#[test]
fn a_named_rendition_keeps_the_shape_and_its_own_rate() {
    let rendition = RenditionWish {
        rate: RateWish { crf: None, bitrate_bps: Some(1_000_000) },
        ..RenditionWish::new("tv", 480)
    };
    let wish = Wish { renditions: vec![rendition], ..Wish::default() };
    let settings = plan(film(), &wish).unwrap().renditions.remove(0).encode.unwrap();
    assert_eq!((settings.width, settings.height), (854, 480));
    assert_eq!(settings.bitrate_bps, 1_000_000);
}

#[test]
fn sound_is_mixed_down_with_a_word_or_left_out() {
    let stereo = plan(film(), &Wish::default()).unwrap();
    let settings = stereo.audio.unwrap().encode.unwrap();
    assert_eq!((settings.sample_rate, settings.channels, settings.bitrate_bps), (48_000, 2, 128_000));
    assert!(stereo.warnings.iter().any(|w| w.contains("mixed down")));
    let surround = Wish { channels: 6, audio: AudioChoice::Encode(AudioCodec::Ac3), ..Wish::default() };
    assert_eq!(plan(film(), &surround).unwrap().audio.unwrap().encode.unwrap().channels, 6);
    let silent = Wish { audio: AudioChoice::None, ..Wish::default() };
    assert_eq!(plan(film(), &silent).unwrap().audio, None);
}

#[test]
fn what_cannot_be_done_is_said_before_any_work() {
    let mut undecodable = film();
    undecodable.streams[0].decodable = false;
    assert_eq!(plan(undecodable, &Wish::default()).unwrap_err().code(), "no_decoder");
    let copy = Wish { audio: AudioChoice::Copy, ..Wish::default() };
    let mut flac = film();
    flac.audio.as_mut().unwrap().codec = "flac".into();
    assert_eq!(plan(flac, &copy).unwrap_err().code(), "cannot_copy");
    let mut sound_only = film();
    sound_only.video = None;
    let nothing = Wish { audio: AudioChoice::None, ..Wish::default() };
    assert_eq!(plan(sound_only, &nothing).unwrap_err().code(), "no_streams");
    let late = Wish { start: Rational::from_int(100), ..Wish::default() };
    assert_eq!(plan(film(), &late).unwrap_err().kind(), ErrorKind::Usage);
}

#[test]
fn sound_alone_is_cut_on_its_own_packets() {
    let mut facts = film();
    facts.video = None;
    let plan = plan(facts, &Wish::default()).unwrap();
    assert_eq!(plan.timeline.frame_rate(), Rational::new(48_000, 1024));
    assert_eq!(plan.timeline.frames_per_segment(), 188);
    assert_eq!(plan.renditions.len(), 1);
}

#[test]
fn a_part_of_the_title_has_its_own_time_0_and_a_fixed_end() {
    let wish = Wish { start: Rational::from_int(10), end: Some(Rational::from_int(30)), ..Wish::default() };
    let part = plan(film(), &wish).unwrap();
    assert_eq!(part.title_origin, Rational::from_int(11));
    assert!(part.fixed_end && part.timeline.total_frames() == 480);
    assert_eq!(part.end_of_title(Some(Rational::from_int(90))), 480);
    let whole = plan(film(), &Wish::default()).unwrap();
    let planned = whole.timeline.total_frames();
    assert_eq!(
        whole.end_of_title(Some(Rational::new(998, 10))),
        planned,
        "rounding does not shorten a title"
    );
    assert_eq!(whole.end_of_title(Some(Rational::from_int(50))), 1199);
    assert!(whole.ends_early(1199) && !whole.ends_early(planned - 5));
}

#[test]
fn high_rates_are_thinned_and_variable_ones_gridded() {
    let mut facts = film();
    facts.video.as_mut().unwrap().frame_rate = Rational::from_int(120);
    assert_eq!(plan(facts.clone(), &Wish::default()).unwrap().timeline.frame_rate(), Rational::from_int(60));
    let video = facts.video.as_mut().unwrap();
    (video.frame_rate, video.constant_rate) = (Rational::new(2983, 100), false);
    assert_eq!(plan(facts, &Wish::default()).unwrap().timeline.frame_rate(), Rational::new(30_000, 1001));
}

#[test]
fn the_grid_keeps_to_the_limit_that_was_asked_for() {
    let grid = |rate: Rational, max_fps: Option<Rational>| {
        let mut facts = film();
        facts.video.as_mut().unwrap().frame_rate = rate;
        plan(facts, &Wish { max_fps, ..Wish::default() }).unwrap().timeline.frame_rate()
    };
    let (thirty, sixty) = (Rational::from_int(30), Rational::from_int(60));
    let ntsc = |n| Rational::new(n, 1001);
    assert_eq!(grid(sixty, Some(thirty)), thirty);
    assert_eq!(grid(ntsc(60_000), Some(thirty)), ntsc(30_000));
    assert_eq!(grid(ntsc(60_000), Some(ntsc(30_000))), ntsc(30_000));
    assert_eq!(grid(Rational::from_int(50), Some(thirty)), Rational::from_int(25));
    assert_eq!(grid(ntsc(24_000), Some(thirty)), ntsc(24_000), "a slower source is left alone");
    assert_eq!(grid(Rational::from_int(120), Some(Rational::from_int(240))), sixty, "no grid is faster");
}

#[test]
fn each_rendition_has_its_codec_and_its_preset_and_the_jobs_where_it_has_none() {
    if with_rate(RateWish::default()).encoder != "libx264" {
        return println!("skipped: libx264 is not there or masked");
    }
    let own = RenditionWish { preset: Some("ultrafast".into()), ..RenditionWish::new("own", 480) };
    let jobs = RenditionWish::new("jobs", 360);
    let hevc = RenditionWish {
        video: Some(VideoChoice::Encode(VideoCodec::Hevc)),
        ..RenditionWish::new("hevc", 240)
    };
    let wish = Wish {
        preset: Some("slow".into()),
        renditions: vec![own.clone(), jobs.clone(), hevc],
        ..Wish::default()
    };
    let made = |wish: &Wish| {
        let renditions = plan(film(), wish)?.renditions.into_iter();
        let line = |r: Rendition| {
            let e = r.encode.unwrap();
            (r.name, e.encoder.clone(), option(&e, "preset").unwrap_or_default().to_owned())
        };
        Ok::<_, crate::base::error::Error>(renditions.map(line).collect::<Vec<_>>())
    };
    let row = |name: &str, encoder: &str, preset: &str| (name.into(), encoder.into(), preset.into());
    let (first, second) = (row("own", "libx264", "ultrafast"), row("jobs", "libx264", "slow"));
    let two = Wish { renditions: vec![own, jobs], ..wish.clone() };
    assert_eq!(made(&two).unwrap(), [first.clone(), second.clone()]);
    match made(&wish) {
        Ok(rows) => assert_eq!(rows, [first, second, row("hevc", "libx265", "superfast")]),
        Err(e) => assert_eq!(e.code(), "no_encoder", "{e}"),
    }
}

#[test]
fn a_copied_picture_may_be_named() {
    let copy = RenditionWish { video: Some(VideoChoice::Copy), ..RenditionWish::new("source", 0) };
    // A single file is cut nowhere, so nothing has to be read for it.
    let wish = Wish { format: Format::Mkv, renditions: vec![copy], ..Wish::default() };
    let plan = plan(film(), &wish).unwrap();
    assert!(plan.copies_video());
    assert_eq!(plan.renditions, [Rendition { name: "source".into(), ..Rendition::default() }]);
    let job = Wish { format: Format::Mkv, video: VideoChoice::Copy, ..Wish::default() };
    assert_eq!(
        Plan::new("/films/a.mkv".into(), film(), &job, FOUR, &Cancel::new()).unwrap().renditions[0].name,
        "1080p"
    );
}

#[test]
fn vp9_goes_into_fragments_of_mp4_where_it_is_linked() {
    let wish = Wish {
        video: VideoChoice::Encode(VideoCodec::Vp9),
        format: Format::Hls(SegmentType::Fmp4),
        ..Wish::default()
    };
    match plan(film(), &wish) {
        Ok(plan) => assert_eq!(plan.renditions[0].encode.as_ref().unwrap().encoder, "libvpx-vp9"),
        Err(e) => assert_eq!(e.code(), "no_encoder"),
    }
}

#[test]
fn threads_follow_the_work() {
    let threads = |cores: u32, heights: &[u32]| {
        let rung = |h: &u32| RenditionWish::new(h.to_string(), *h);
        let wish = Wish { renditions: heights.iter().map(rung).collect(), ..Wish::default() };
        let plan = Plan::new("/f.mkv".into(), film(), &wish, Machine { cores }, &Cancel::new()).unwrap();
        let encoders = plan.renditions.iter().map(|r| r.encode.as_ref().unwrap().threads);
        (plan.video.unwrap().decoder_threads, encoders.collect::<Vec<_>>())
    };
    assert_eq!(threads(1, &[720]), (1, vec![1]));
    assert_eq!(threads(2, &[720]), (1, vec![3]));
    assert_eq!(threads(2, &[360]), (2, vec![1]), "decoding is most of the work");
    assert_eq!(threads(2, &[1080, 720, 480]), (1, vec![2, 1, 1]));
    assert_eq!(threads(2, &[720, 480, 360]), (1, vec![2, 1, 1]));
    assert_eq!(threads(16, &[720]), (7, vec![16]));
    let (decoder, encoders) = threads(16, &[1080, 720, 480]);
    assert!(decoder >= 2 && encoders.is_sorted_by(|a, b| a >= b) && encoders[0] >= 8, "{encoders:?}");
    assert!(threads(128, &[1080]).1[0] <= 16);
}

#[test]
fn what_a_run_makes_does_not_follow_from_the_cores_that_it_has() {
    let wish = Wish {
        renditions: ["libx264", "libx265"]
            .iter()
            .zip([VideoCodec::H264, VideoCodec::Hevc])
            .filter(|(name, _)| crate::av::registry::has_encoder(name))
            .map(|(name, codec)| RenditionWish {
                video: Some(VideoChoice::Encode(codec)),
                ..RenditionWish::new(*name, 720)
            })
            .collect(),
        ..Wish::default()
    };
    let plan = |cores| {
        Plan::new(PathBuf::from("film.mkv"), film(), &wish, Machine { cores }, &Cancel::new()).unwrap()
    };
    let text = |plan: &Plan| format!("{plan:?}");
    assert_ne!(text(&plan(1)), text(&plan(16)), "threads follow the cores");
    assert_eq!(text(&plan(1).without_threads()), text(&plan(16).without_threads()));
}

/// A 480p rendition of the film as a viewer's run has it.
fn for_a_viewer(preset: Option<&str>, rate: RateWish, kind: SegmentType) -> VideoSettings {
    let preset = preset.map(str::to_owned);
    let rung = RenditionWish { rate, preset, ..RenditionWish::new("480p".to_owned(), 480) };
    let wish = Wish { renditions: vec![rung], format: Format::Hls(kind), ..Wish::default() };
    let plan = Plan::new("/f.mkv".into(), film(), &wish, FOUR, &Cancel::new()).unwrap();
    plan.only(0, FOUR).unwrap().renditions[0].encode.clone().unwrap()
}

/// Pictures that go in before the first comes out, and the parameter sets.
fn held_back(settings: &VideoSettings) -> (usize, Vec<u8>) {
    let log = crate::av::log::RunLog::new();
    let mut encoder = crate::av::encoder::Encoder::open_video(settings, &log).unwrap();
    let sets = encoder.parameters().unwrap().extradata().to_vec();
    let grey = crate::av::Frame::planar_420(settings.width, settings.height, |_, _, _| 128).unwrap();
    for n in 0..100 {
        let mut frame = grey.share().unwrap();
        frame.set_pts(n);
        encoder.send(Some(&frame)).unwrap();
        let mut packet = crate::av::Packet::new().unwrap();
        if encoder.receive(&mut packet).unwrap() == crate::av::Received::Item {
            return (n as usize, sets);
        }
    }
    panic!("nothing comes out");
}

#[test]
fn the_encoder_of_the_first_segment_answers_sooner_with_the_same_parameter_sets() {
    let crf = |crf| RateWish { crf: Some(crf), bitrate_bps: Some(1_500_000) };
    let average = RateWish { crf: None, bitrate_bps: Some(1_500_000) };
    // Of the presets that are not ours, the shorter look-ahead would cost what nobody has measured.
    let rows = [
        (None, crf(22.0), Some(7)),
        (None, crf(2.0), Some(7)),
        (None, crf(1.5), None),
        (None, average, None),
        (Some("veryfast"), crf(22.0), Some(7)),
        (Some("medium"), crf(22.0), None),
        (Some("ultrafast"), crf(22.0), None),
    ];
    for (preset, rate, look_ahead) in rows {
        let all = for_a_viewer(preset, rate, SegmentType::Ts);
        assert_eq!(for_a_viewer(preset, rate, SegmentType::Fmp4), all);
        if all.encoder != "libx264" {
            return;
        }
        let first = encoders::of_first_segment(&all).unwrap();
        let ((later, its_sets), (sooner, sets)) = (held_back(&all), held_back(&first));
        assert_eq!(sets, its_sets, "{preset:?} {rate:?}");
        assert!(sooner < later || later == 0, "{preset:?} {rate:?}: {sooner} pictures, {later} before");
        assert!(look_ahead.is_none_or(|most| sooner <= most), "{preset:?} {rate:?}: {sooner} pictures");
    }
}

#[test]
fn words_for_x264_are_added_to_those_that_are_there() {
    let mut settings = for_a_viewer(None, RateWish::default(), SegmentType::Ts);
    settings.options.retain(|(key, _)| key != "x264-params");
    encoders::add_x264_params(&mut settings, "a=1");
    encoders::add_x264_params(&mut settings, "b=2");
    let said: Vec<_> = settings.options.iter().filter(|(key, _)| key == "x264-params").collect();
    assert_eq!(said, [&("x264-params".to_owned(), "a=1:b=2".to_owned())]);
}

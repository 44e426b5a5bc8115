//! Which encoder makes a codec, and how a wish is said in its words.
//!
//! The order below is the order of preference; what the linked libav lacks is passed over. Nothing
//! is opened here.

use crate::av::encoder::{AudioSettings, VideoSettings, choose_pixel_format, choose_sample_rate};
use crate::av::registry;
use crate::base::error::{Error, ErrorKind, Result, Stage};
use crate::base::time::Rational;
use crate::model::job::{Format, RateWish};
use crate::model::ladder;
use crate::model::track::{AudioCodec, Colour, VideoCodec};

/// What every picture encoder is asked for, before it is said in its words.
pub struct VideoWish<'a> {
    /// Codec.
    pub codec: VideoCodec,
    /// Size in luma samples, even.
    pub size: (u32, u32),
    /// Frames each second.
    pub frame_rate: Rational,
    /// Frames in a segment.
    pub gop_frames: u64,
    /// Rate control.
    pub rate: RateWish,
    /// Preset in the encoder's own words.
    pub preset: Option<&'a str>,
    /// Bits for each colour sample of the source.
    pub bit_depth: u8,
    /// Colour of the source.
    pub colour: Colour,
    /// Threads.
    pub threads: u32,
    /// Where it goes.
    pub format: Format,
}

fn candidates(codec: VideoCodec) -> &'static [&'static str] {
    match codec {
        VideoCodec::H264 => &["libx264", "libopenh264"],
        VideoCodec::Hevc => &["libx265"],
        VideoCodec::Av1 => &["libsvtav1"],
        VideoCodec::Vp9 => &["libvpx-vp9"],
    }
}

fn audio_candidates(codec: AudioCodec) -> &'static [&'static str] {
    match codec {
        AudioCodec::Aac => &["aac"],
        AudioCodec::Ac3 => &["ac3"],
        AudioCodec::Eac3 => &["eac3"],
        AudioCodec::Opus => &["libopus"],
        AudioCodec::Mp3 => &[],
    }
}

/// The preset that is taken when none is asked for: fast enough for a small machine.
pub fn default_preset(encoder: &str) -> Option<&'static str> {
    match encoder {
        "libx264" => Some("veryfast"),
        "libx265" => Some("superfast"),
        "libsvtav1" => Some("10"),
        "libvpx-vp9" => Some("6"),
        _ => None,
    }
}

/// The settings of the best encoder that the linked libav has.
pub fn video(wish: &VideoWish) -> Result<VideoSettings> {
    let names = candidates(wish.codec);
    let Some(encoder) = names.iter().copied().find(|n| registry::has_encoder(n)) else {
        return Err(missing(&format!("{:?}", wish.codec).to_lowercase(), names));
    };
    let formats: &[&str] = if wish.bit_depth > 8 && matches!(wish.codec, VideoCodec::Hevc | VideoCodec::Av1) {
        &["yuv420p10le", "yuv420p"]
    } else {
        &["yuv420p"]
    };
    let pixel_format = choose_pixel_format(encoder, formats).unwrap_or("yuv420p");
    let mut settings = VideoSettings {
        encoder: encoder.into(),
        width: wish.size.0,
        height: wish.size.1,
        pixel_format: pixel_format.into(),
        frame_rate: wish.frame_rate,
        gop_frames: wish.gop_frames,
        bitrate_bps: 0,
        max_rate_bps: 0,
        buffer_bits: 0,
        threads: wish.threads,
        colour: wish.colour,
        options: Vec::new(),
    };
    set_rate(&mut settings, wish);
    set_options(&mut settings, wish);
    Ok(settings)
}

/// The contract's meaning: bit rate alone is the average; crf alone is quality; both are quality
/// with the bit rate as the most it may need, over a buffer of one second.
fn set_rate(settings: &mut VideoSettings, wish: &VideoWish) {
    let RateWish { crf, bitrate_bps } = wish.rate;
    match (crf, bitrate_bps) {
        // This encoder knows no constant quality: the cap is the rate.
        _ if settings.encoder == "libopenh264" => {
            settings.bitrate_bps = bitrate_bps.unwrap_or_else(|| rate_for(wish));
            settings.max_rate_bps = settings.bitrate_bps + settings.bitrate_bps / 2;
        }
        (Some(crf), cap) => {
            settings.options.push(("crf".into(), format_crf(&settings.encoder, crf)));
            set_cap(settings, cap);
        }
        (None, Some(bitrate)) => settings.bitrate_bps = bitrate,
        (None, None) => {
            let crf = ladder::default_crf(wish.codec);
            settings.options.push(("crf".into(), format_crf(&settings.encoder, crf)));
        }
    }
}

fn set_cap(settings: &mut VideoSettings, cap: Option<u64>) {
    let Some(cap) = cap else { return };
    match settings.encoder.as_str() {
        // Constrained quality: the target rate is the most it may need.
        "libvpx-vp9" => settings.bitrate_bps = cap,
        // Takes the cap only as its own parameter.
        "libsvtav1" => settings.max_rate_bps = cap,
        _ => {
            settings.max_rate_bps = cap;
            settings.buffer_bits = cap;
        }
    }
}

/// libx264 and libx265 take fractions; the others whole numbers.
fn format_crf(encoder: &str, crf: f32) -> String {
    match encoder {
        "libx264" | "libx265" => format!("{crf}"),
        _ => format!("{}", crf.round()),
    }
}

/// A rate by size where nobody named one: what the automatic ladder would cap it at.
fn rate_for(wish: &VideoWish) -> u64 {
    let source = ladder::LadderSource {
        display_width: wish.size.0,
        display_height: wish.size.1,
        frame_rate: wish.frame_rate,
        video_bitrate_bps: None,
        source_codec: None,
        codec: wish.codec,
    };
    ladder::automatic(&source).first().and_then(|rung| rung.video.bitrate_bps).unwrap_or(1_000_000)
}

/// The option that holds what x264 is told in its own words.
const X264_PARAMS: &str = "x264-params";
/// Parameter sets that do not depend on the quality, so that encoders of one stream may differ in it; and no picture
/// held back for its duration.
const ONE_OF_MANY: &str = "stitchable=1:force-cfr=1";

fn set_options(settings: &mut VideoSettings, wish: &VideoWish) {
    let preset = wish.preset.or(default_preset(&settings.encoder)).map(str::to_owned);
    let mut set = |key: &str, value: String| settings.options.push((key.to_owned(), value));
    match settings.encoder.as_str() {
        "libx264" => {
            set("preset", preset.unwrap_or_default());
            set("forced-idr", "1".into());
            if matches!(wish.format, Format::Hls(_)) {
                set(X264_PARAMS, ONE_OF_MANY.into());
            }
        }
        "libx265" => {
            set("preset", preset.unwrap_or_default());
            set("forced-idr", "1".into());
            // x265 opens its groups of pictures unless told, and then a segment could not stand alone.
            set("x265-params", format!("open-gop=0:log-level=error:info=0:pools={}", wish.threads.max(1)));
        }
        "libsvtav1" => set("preset", preset.unwrap_or_default()),
        "libvpx-vp9" => {
            set("deadline", "good".into());
            set("cpu-used", preset.unwrap_or_default());
            set("row-mt", "1".into());
        }
        "libopenh264" => {
            set("profile", "high".into());
            set("allow_skip_frames", "0".into());
        }
        _ => {}
    }
}

/// Adds to what x264 is told in its own words.
pub(super) fn add_x264_params(settings: &mut VideoSettings, params: &str) {
    match option(settings, X264_PARAMS) {
        Some(all) => *all = format!("{all}:{params}"),
        None => settings.options.push((X264_PARAMS.into(), params.into())),
    }
}

/// The same bits with fewer pictures held back. x264's own thread for looking ahead takes in as many pictures
/// more as the encoder has threads, and one, before the first comes out; without it the encoder's thread does
/// that work, on the same pictures.
pub fn answer_sooner(settings: &mut VideoSettings) {
    if settings.encoder == "libx264" {
        add_x264_params(settings, "sync-lookahead=0");
    }
}

/// The most slices of a picture: each costs a little of the picture's compression.
const MOST_SLICES: u32 = 8;

/// Makes up for what the shorter look-ahead and the quicker search cost in quality, by pictures of several kinds: drawn,
/// natural, noisy, still.
const FIRST_SEGMENT_CRF: f32 = 0.5;

/// The same for the first segment alone, which somebody waits for. `None` where nothing is to be had by that.
///
/// The parameter sets are the same. The threads share each picture, where else each has a picture of its own, and
/// as many are held back. With our own preset the search is a step quicker and the look-ahead shorter, 7 pictures for
/// 10; a lower crf makes up for it, at the price of a tenth or a fifth more bits, as far as the cap allows.
pub fn of_first_segment(settings: &VideoSettings) -> Option<VideoSettings> {
    let mut own = settings.clone();
    let told = option(&mut own, X264_PARAMS)?;
    if settings.encoder != "libx264" || !told.contains(ONE_OF_MANY) {
        return None;
    }
    // Threads with pictures of their own wait for each other, so there are three of them for two cores.
    own.threads = (settings.threads * 2).div_ceil(3).min(MOST_SLICES);
    add_x264_params(&mut own, "sliced-threads=1");
    if option(&mut own, "preset").map(|preset| preset.as_str()) == default_preset(&settings.encoder) {
        add_x264_params(&mut own, "subme=1:me=dia");
        // By libav's own option, which it sets again with every picture; 0 is another profile.
        if let Some(crf) = option(&mut own, "crf")
            && let Some(wished) = crf.parse::<f32>().ok().filter(|wished| *wished >= 2.0)
        {
            *crf = format_crf(&settings.encoder, wished - FIRST_SEGMENT_CRF);
            add_x264_params(&mut own, "rc-lookahead=7");
        }
    }
    Some(own)
}

fn option<'a>(settings: &'a mut VideoSettings, name: &str) -> Option<&'a mut String> {
    settings.options.iter_mut().find(|(key, _)| key == name).map(|(_, value)| value)
}

/// The settings of the sound encoder. `source_rate` is kept where the codec and TVs take it.
pub fn audio(
    codec: AudioCodec,
    source_rate: u32,
    channels: u32,
    bitrate_bps: Option<u64>,
) -> Result<AudioSettings> {
    let names = audio_candidates(codec);
    let Some(encoder) = names.iter().copied().find(|n| registry::has_encoder(n)) else {
        return Err(missing(&format!("{codec:?}").to_lowercase(), names));
    };
    let wanted = match (codec, source_rate) {
        (AudioCodec::Opus, _) => 48_000,
        (_, 32_000 | 44_100 | 48_000) => source_rate,
        _ => 48_000,
    };
    let sample_rate = choose_sample_rate(encoder, wanted).unwrap_or(48_000);
    let default = match codec {
        AudioCodec::Aac => 64_000 * u64::from(channels.max(1)),
        AudioCodec::Opus => 48_000 * u64::from(channels.max(1)),
        AudioCodec::Ac3 | AudioCodec::Eac3 | AudioCodec::Mp3 => match channels {
            0..=2 => 192_000,
            _ => 448_000,
        },
    };
    let bitrate_bps = bitrate_bps.unwrap_or(default);
    Ok(AudioSettings { encoder: encoder.into(), sample_rate, channels, bitrate_bps, options: Vec::new() })
}

/// Samples in each packet, before an encoder is open: for titles whose grid is the sound's.
pub fn packet_samples(codec: AudioCodec) -> u32 {
    match codec {
        AudioCodec::Aac => 1024,
        AudioCodec::Ac3 | AudioCodec::Eac3 => 1536,
        AudioCodec::Opus => 960,
        AudioCodec::Mp3 => 1152,
    }
}

fn missing(codec: &str, names: &[&str]) -> Error {
    let others: Vec<&str> =
        ["libx264", "libopenh264", "libx265", "libsvtav1", "libvpx-vp9", "aac", "ac3", "eac3", "libopus"]
            .into_iter()
            .filter(|n| registry::has_encoder(n))
            .collect();
    let list = |names: &[&str]| if names.is_empty() { "none".to_owned() } else { names.join(", ") };
    let message =
        format!("this libav has no {codec} encoder (looked for {}); it has {}", list(names), list(&others));
    Error::new(ErrorKind::Unsupported, "no_encoder", Stage::Plan, message).hint(
        "install the full FFmpeg: on Fedora, with RPM Fusion enabled, `sudo dnf swap ffmpeg-free ffmpeg --allowerasing`; \
         on Debian, `sudo apt-get install libavcodec-extra`",
    )
}

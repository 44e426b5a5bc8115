//! The choices that make a [`Plan`].

use super::encoders::{self, VideoWish};
use super::{Asked, AudioPlan, Keys, Machine, Plan, Rendition, VideoPlan};
use crate::base::error::{Error, ErrorKind, Result, Stage};
use crate::base::time::{Rational, Rounding};
use crate::media::index::{self, Sought, SourceIndex};
use crate::model::job::{AudioChoice, Format, RateWish, RenditionWish, SegmentType, VideoChoice, Wish};
use crate::model::ladder::{self, LadderSource};
use crate::model::source::{SourceFacts, VideoFacts};
use crate::model::timeline::{MAX_GRID_RATE, Timeline, grid_rate};
use crate::model::track::{AudioCodec, VideoCodec};
use std::path::{Path, PathBuf};

/// A tail of the data that is this much shorter than the facts say is not "ends early" but rounding.
const END_SLACK: Rational = Rational::new(1, 2);

pub(super) fn plan(
    input: PathBuf,
    facts: SourceFacts,
    wish: &Wish,
    machine: Machine,
    keys: &Keys<'_>,
) -> Result<Plan> {
    let mut warnings = facts.warnings.clone();
    let audio = plan_audio(&input, &facts, wish, &mut warnings)?;
    let mut video = plan_video(&input, &facts, wish)?;
    if video.is_none() && audio.is_none() {
        let message =
            format!("{} has no sound, and --audio-codec none leaves nothing to make", input.display());
        return Err(Error::new(ErrorKind::BadSource, "no_streams", Stage::Plan, message));
    }
    let title_origin = facts.origin + wish.start;
    let length = length(&input, &facts, wish)?;
    let timeline = match (&video, &facts.video) {
        (Some(v), Some(f)) if v.copy => {
            copied_timeline(&input, (&facts, f), wish, (title_origin, length), keys)?
        }
        (Some(_), Some(f)) => Timeline::new(
            grid_rate(f.frame_rate, f.constant_rate, wish.max_fps.unwrap_or(MAX_GRID_RATE)),
            length,
            wish.segment_seconds,
        ),
        _ => Timeline::new(sound_grid_rate(&facts, audio.as_ref(), wish), length, wish.segment_seconds),
    };
    let renditions = match (&video, &facts.video) {
        (Some(v), Some(f)) if !v.copy => renditions(f, wish, &timeline, machine)?,
        (Some(_), Some(f)) => vec![Rendition { name: copied_name(f, wish), ..Rendition::default() }],
        _ => vec![Rendition { name: "audio".into(), ..Rendition::default() }],
    };
    if let (Some(v), Some(f)) = (&mut video, &facts.video) {
        let made = renditions.iter().filter_map(|r| r.encode.as_ref()).map(|e| (e.width, e.height));
        v.decoder_threads = Load::of(f, made).decoder_threads(machine);
    }
    let fixed_end = wish.end.is_some_and(|end| end < facts.duration);
    Ok(Plan {
        input,
        facts,
        timeline,
        title_origin,
        fixed_end,
        video,
        audio,
        idr_cuts: false,
        format: wish.format,
        renditions,
        device: None,
        warnings,
    })
}

impl Plan {
    /// The title's end on the grid when the data turned out to end at `data_end` (title time).
    ///
    /// Within half a second the plan stands, so that a job and a playlist promised beforehand agree;
    /// else the data counts.
    pub fn end_of_title(&self, data_end: Option<Rational>) -> u64 {
        let planned = self.timeline.total_frames();
        let Some(data_end) = data_end else { return planned };
        if self.fixed_end || (data_end - self.timeline.duration()).abs() <= END_SLACK {
            return planned;
        }
        (data_end * self.timeline.frame_rate()).round(Rounding::Nearest).max(1) as u64
    }

    /// The same plan for one of its renditions alone, with threads for a run that has `machine` to itself and
    /// begins where somebody has sought to: what lies between the key frame and that place is decoded before
    /// anything can be encoded, on all cores. What comes out is the same. `None` when there is no such rendition.
    pub fn only(&self, rendition: usize, machine: Machine) -> Option<Self> {
        let mut plan = self.clone();
        plan.renditions = vec![self.renditions.get(rendition)?.clone()];
        let made = plan.renditions.first()?.encode.as_ref().map(|e| (e.width, e.height));
        if let Some(facts) = &self.facts.video {
            let load = Load::of(facts, made.into_iter());
            if let Some(video) = &mut plan.video {
                video.decoder_threads = seeking_threads(machine);
            }
            for settings in plan.renditions.iter_mut().filter_map(|r| r.encode.as_mut()) {
                settings.threads = load.encoder_threads(machine, (settings.width, settings.height));
                encoders::answer_sooner(settings);
            }
        }
        Some(plan)
    }

    /// Whether a title that ended there ended well before the source said.
    pub fn ends_early(&self, end: u64) -> bool {
        self.timeline.frame_time(end) + END_SLACK < self.timeline.duration()
    }
}

fn length(input: &Path, facts: &SourceFacts, wish: &Wish) -> Result<Rational> {
    let end = wish.end.map_or(facts.duration, |end| end.min(facts.duration));
    if end > wish.start {
        return Ok(end - wish.start);
    }
    let message = format!(
        "--start {} lies at or behind the end of {} ({} s)",
        wish.start.to_f64(),
        input.display(),
        facts.duration.to_f64()
    );
    Err(Error::new(ErrorKind::Usage, "bad_request", Stage::Plan, message))
}

fn plan_video(input: &Path, facts: &SourceFacts, wish: &Wish) -> Result<Option<VideoPlan>> {
    let Some(video) = &facts.video else { return Ok(None) };
    let copy = wish.copies_video();
    if copy {
        copied_video_codec(video, wish.format)?;
    } else if !decodable(facts, video.stream) {
        return Err(no_decoder(input, &video.codec, "video"));
    }
    Ok(Some(VideoPlan { stream: video.stream, copy, decoder_threads: 1 }))
}

/// The name that was asked for, else one by the height.
fn copied_name(video: &VideoFacts, wish: &Wish) -> String {
    wish.renditions.first().map_or_else(|| format!("{}p", video.height), |r| r.name.clone())
}

pub(super) fn decodable(facts: &SourceFacts, stream: usize) -> bool {
    facts.streams.iter().find(|s| s.index == stream).is_some_and(|s| s.decodable)
}

fn no_decoder(input: &Path, codec: &str, kind: &str) -> Error {
    let message = format!("this libav cannot decode the {kind} codec of {}, {codec}", input.display());
    Error::new(ErrorKind::Unsupported, "no_decoder", Stage::Plan, message).hint(
        "install the full FFmpeg (on Fedora, with RPM Fusion enabled, `sudo dnf swap ffmpeg-free ffmpeg --allowerasing`), \
         or copy the stream",
    )
}

/// Which of our codecs a copied picture is, if the output can carry it.
pub fn copied_video_codec(video: &VideoFacts, format: Format) -> Result<VideoCodec> {
    let codec = match video.codec.as_str() {
        "h264" => Some(VideoCodec::H264),
        "hevc" => Some(VideoCodec::Hevc),
        "av1" => Some(VideoCodec::Av1),
        "vp9" => Some(VideoCodec::Vp9),
        _ => None,
    };
    let ts = matches!(format, Format::Ts | Format::Hls(SegmentType::Ts));
    match codec {
        Some(VideoCodec::Av1 | VideoCodec::Vp9) | None if ts => Err(cannot_copy(&video.codec, "MPEG-TS")),
        None => Err(cannot_copy(&video.codec, "this output")),
        Some(codec) => Ok(codec),
    }
}

/// Which of our codecs copied sound is, if the output can carry it.
pub fn copied_audio_codec(name: &str, format: Format) -> Result<AudioCodec> {
    let codec = match name {
        "aac" => Some(AudioCodec::Aac),
        "ac3" => Some(AudioCodec::Ac3),
        "eac3" => Some(AudioCodec::Eac3),
        "opus" => Some(AudioCodec::Opus),
        "mp3" => Some(AudioCodec::Mp3),
        _ => None,
    };
    let ts = matches!(format, Format::Ts | Format::Hls(SegmentType::Ts));
    match codec {
        Some(AudioCodec::Opus) | None if ts => Err(cannot_copy(name, "MPEG-TS")),
        None => Err(cannot_copy(name, "this output")),
        Some(codec) => Ok(codec),
    }
}

/// Whether the sound is AAC whose frames bring their own headers, as in MPEG-TS, instead of one
/// configuration for all: our muxers do not take those apart.
pub(super) fn is_adts(facts: &SourceFacts, codec: &str) -> bool {
    codec == "aac" && facts.container.split(',').any(|name| matches!(name, "mpegts" | "aac" | "mpeg"))
}

fn cannot_copy(codec: &str, output: &str) -> Error {
    Error::new(
        ErrorKind::Unsupported,
        "cannot_copy",
        Stage::Plan,
        format!("{output} cannot carry a copied {codec} stream"),
    )
    .hint("choose a codec to encode to instead of copy")
}

fn plan_audio(
    input: &Path,
    facts: &SourceFacts,
    wish: &Wish,
    warnings: &mut Vec<String>,
) -> Result<Option<AudioPlan>> {
    let Some(audio) = &facts.audio else { return Ok(None) };
    let codec = match wish.audio {
        AudioChoice::None => return Ok(None),
        AudioChoice::Copy => {
            copied_audio_codec(&audio.codec, wish.format)?;
            if is_adts(facts, &audio.codec) && matches!(wish.format, Format::Hls(_) | Format::Ts) {
                return Err(cannot_copy("AAC that comes in ADTS frames", "HLS"));
            }
            return Ok(Some(AudioPlan { stream: audio.stream, encode: None }));
        }
        AudioChoice::Encode(codec) => codec,
    };
    if !decodable(facts, audio.stream) {
        return Err(no_decoder(input, &audio.codec, "audio"));
    }
    // A stereo track always plays, and mono is only put on both sides; more channels than the
    // source has would be invented.
    let channels = if wish.channels <= 2 { wish.channels } else { wish.channels.min(audio.channels.max(2)) };
    if audio.channels > channels {
        warnings.push(format!("the sound's {} channels are mixed down to {channels}", audio.channels));
    }
    let encode = encoders::audio(codec, audio.sample_rate, channels, wish.audio_bitrate_bps)?;
    Ok(Some(AudioPlan { stream: audio.stream, encode: Some(encode) }))
}

/// Without a picture the grid is the sound's packets.
fn sound_grid_rate(facts: &SourceFacts, audio: Option<&AudioPlan>, wish: &Wish) -> Rational {
    let (rate, samples) = match (audio.and_then(|a| a.encode.as_ref()), wish.audio) {
        (Some(settings), AudioChoice::Encode(codec)) => {
            (settings.sample_rate, encoders::packet_samples(codec))
        }
        _ => facts.audio.as_ref().map_or((48_000, 1024), |a| (a.sample_rate, a.frame_samples.max(1))),
    };
    Rational::new(i64::from(rate.max(1)), i64::from(samples.max(1)))
}

/// A copied picture is cut at its own key frames; the grid is its own time base.
fn copied_timeline(
    input: &Path,
    (facts, video): (&SourceFacts, &VideoFacts),
    wish: &Wish,
    (title_origin, length): (Rational, Rational),
    keys: &Keys<'_>,
) -> Result<Timeline> {
    let cut_by =
        |index: &SourceIndex| cut_by_keys(index, video, (title_origin, length), wish.segment_seconds);
    if !matches!(wish.format, Format::Hls(_) | Format::Ts) {
        let (grid, total) = copied_grid(video, length);
        return Ok(Timeline::with_cuts(grid, total, []));
    }
    match keys {
        Keys::Known(index) => Ok(cut_by(index)),
        Keys::Find { pool, shelf, cancel } => {
            index::find(&Sought { path: input, facts, cancel }, pool, *shelf).map(|index| cut_by(&index))
        }
    }
}

/// Grid positions each second, and how many the title has.
fn copied_grid(video: &VideoFacts, length: Rational) -> (Rational, u64) {
    let ticks_per_second = video.time_base.recip();
    let total = (length * ticks_per_second).round(Rounding::Nearest).max(1) as u64;
    (ticks_per_second, total)
}

/// The cuts that key frames make: for jobs, single segments and direct play alike.
pub(super) fn cut_by_keys(
    index: &SourceIndex,
    video: &VideoFacts,
    (title_origin, length): (Rational, Rational),
    segment_seconds: Rational,
) -> Timeline {
    let (ticks_per_second, total) = copied_grid(video, length);
    let ticks = |time: Rational| (time * ticks_per_second).round(Rounding::Nearest);
    let origin = ticks(title_origin);
    let keys = index.keys.iter().filter_map(|k| u64::try_from(k.pts.checked_sub(origin)?).ok());
    Timeline::merging(ticks_per_second, total, keys, ticks(segment_seconds).max(1) as u64)
}

fn renditions(
    video: &VideoFacts,
    wish: &Wish,
    timeline: &Timeline,
    machine: Machine,
) -> Result<Vec<Rendition>> {
    let display = ladder::display_size(video.width, video.height, video.sample_aspect_ratio);
    let pictures = pictures(video, wish, display, timeline.frame_rate());
    let load = Load::of(video, pictures.iter().map(|p| p.size));
    let make = |picture: Picture<'_>| {
        let wish = VideoWish {
            codec: picture.codec,
            size: picture.size,
            frame_rate: timeline.frame_rate(),
            gop_frames: timeline.frames_per_segment(),
            rate: picture.rate,
            preset: picture.preset,
            bit_depth: video.bit_depth,
            colour: video.colour,
            threads: load.encoder_threads(machine, picture.size),
            format: wish.format,
        };
        let preset = picture.preset.map(str::to_owned);
        let asked = Some(Asked { codec: picture.codec, rate: picture.rate, preset });
        Ok(Rendition {
            name: picture.name,
            encode: Some(encoders::video(&wish)?),
            asked,
            ..Rendition::default()
        })
    };
    pictures.into_iter().map(make).collect()
}

/// What is wanted of one encoder, the job's words filled in where the rendition has none.
struct Picture<'a> {
    name: String,
    size: (u32, u32),
    codec: VideoCodec,
    rate: RateWish,
    preset: Option<&'a str>,
}

/// What a run's codecs have to do for each picture, in decoded pixels.
#[derive(Clone, Copy, Debug)]
struct Load {
    decoding: u64,
    encoding: u64,
}

/// What encoding a pixel costs, decoding it being 1: low, so that the decoder has some to spare. (On
/// film, x264 at `veryfast` takes 4.6 times what decoding H.264 takes, and slower presets more.)
const ENCODING_COST: u64 = 3;

/// So many threads for each core of an encoder's share keep it busy while frames wait for each other.
const ENCODER_SLACK: u64 = 2;

const MAX_CODEC_THREADS: u64 = 16;
/// Each more holds another picture, and comes with its own delay.
const MAX_DECODER_THREADS: u32 = 8;

impl Load {
    fn of(video: &VideoFacts, made: impl Iterator<Item = (u32, u32)>) -> Self {
        let decoding = pixels((video.width, video.height)).max(1);
        Self { decoding, encoding: made.map(|size| ENCODING_COST * pixels(size)).sum() }
    }

    /// As many as the decoder's share of the work asks for: one more than it needs costs processor
    /// time and whole pictures of memory, and the cores are the encoders' anyway.
    fn decoder_threads(self, machine: Machine) -> u32 {
        let share = (u64::from(machine.cores) * self.decoding).div_ceil(self.decoding + self.encoding);
        share.clamp(1, u64::from(MAX_DECODER_THREADS)) as u32
    }

    /// By the encoder's share of the work, with some slack. One whose share is well below a core gets
    /// one thread: the renditions of a ladder keep the cores busy among themselves, and an encoder
    /// without threads of its own costs less and ends at once when it is cancelled.
    fn encoder_threads(self, machine: Machine, size: (u32, u32)) -> u32 {
        let work = u64::from(machine.cores) * ENCODING_COST * pixels(size);
        let total = self.decoding + self.encoding;
        if work * 4 <= total * 3 {
            return 1;
        }
        // A twentieth of a core over is no reason for a thread more.
        let wanted = (work * ENCODER_SLACK * 10).saturating_sub(total).div_ceil(total * 10);
        wanted.clamp(2, MAX_CODEC_THREADS) as u32
    }
}

/// One more than there are cores: a picture often waits for the one before.
fn seeking_threads(machine: Machine) -> u32 {
    if machine.cores < 2 { 1 } else { (machine.cores + 1).min(MAX_DECODER_THREADS) }
}

fn pixels((width, height): (u32, u32)) -> u64 {
    u64::from(width) * u64::from(height)
}

fn pictures<'a>(
    video: &VideoFacts,
    wish: &'a Wish,
    display: (u32, u32),
    frame_rate: Rational,
) -> Vec<Picture<'a>> {
    if !wish.renditions.is_empty() {
        return wish.renditions.iter().filter_map(|r| named(r, wish, display)).collect();
    }
    let VideoChoice::Encode(codec) = wish.video else { return Vec::new() };
    let preset = wish.preset.as_deref();
    if !matches!(wish.format, Format::Hls(_)) {
        let name = format!("{}p", display.1);
        return vec![Picture { name, size: display, codec, rate: wish.rate, preset }];
    }
    let source = LadderSource {
        display_width: display.0,
        display_height: display.1,
        frame_rate,
        video_bitrate_bps: video.bitrate_bps,
        source_codec: copied_video_codec(video, Format::Mkv).ok(),
        codec,
    };
    let rung = |r: ladder::Rung| {
        let crf = wish.rate.crf.or(r.video.crf);
        let rate = RateWish { crf, bitrate_bps: r.video.bitrate_bps };
        Picture { name: r.name, size: (r.width, r.height), codec, rate, preset }
    };
    ladder::automatic(&source).into_iter().map(rung).collect()
}

/// A rendition that was asked for by name; `None` for a copied one, which has no encoder.
fn named<'a>(r: &'a RenditionWish, wish: &'a Wish, display: (u32, u32)) -> Option<Picture<'a>> {
    let choice = r.video.unwrap_or(wish.video);
    let VideoChoice::Encode(codec) = choice else { return None };
    let size = ladder::scaled_width(display.0, display.1, r.height);
    // A bit rate in the rendition's own name joins the job's quality.
    let own = RateWish { crf: r.rate.crf.or(wish.rate.crf), bitrate_bps: r.rate.bitrate_bps };
    let rate = if own == RateWish::default() { wish.rate } else { own };
    // Presets are each encoder's own words: the job's fit only the codec that they were meant for.
    let jobs = wish.preset.as_deref().filter(|_| choice == wish.video);
    let preset = r.preset.as_deref().or(jobs);
    Some(Picture { name: r.name.clone(), size, codec, rate, preset })
}

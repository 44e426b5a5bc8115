//! The codecs of a run: opened before its threads start, so that what cannot work says so at once.
//!
//! What enters: a plan, its open source. What leaves: open decoders and encoders, or why one does not open.
//! Must not live here: what is done with them.

use super::decode::Codec;
use super::index::framing;
use super::plan::{AudioPlan, Plan, VideoPlan};
use super::tracks;
use super::warm::Lent;
use crate::av::decoder::Decoder;
use crate::av::encoder::{AudioSettings, Encoder, OpenError, VideoSettings};
use crate::av::input::Stream;
use crate::av::log::RunLog;
use crate::base::error::{Error, ErrorKind, Result, Stage};
use crate::base::priority::stand_behind;
use crate::container::nal::NalFormat;
use crate::model::track::VideoCodec;
use std::thread;

/// How far, in steps of `nice`: at 5, a thread gets a third of what one before it gets.
const BEHIND: i32 = 5;

/// Everything that has to open before a thread starts: so that what cannot work says so at once.
pub struct Codecs {
    pub video_decoder: Option<Codec>,
    pub video_encoders: Vec<Encoder>,
    pub audio: Option<(Decoder, Encoder)>,
    pub source: tracks::SourceTracks,
}

impl Codecs {
    /// Opens them all. Encoders of pictures stand where the calling thread does, the rest behind them.
    pub fn open(plan: &Plan, input: &Lent<'_>, log: &RunLog) -> Result<Self> {
        let input =
            input.get().ok_or_else(|| Error::internal(Stage::Open, "an input that was lent is gone"))?;
        let source = tracks::describe(plan, input)?;
        let streams = input.streams();
        let decoders = || {
            let video = match &plan.video {
                Some(video) if !video.copy => Some(open_picture(plan, video, streams, log)?),
                _ => None,
            };
            let audio = match &plan.audio {
                Some(AudioPlan { stream, encode: Some(settings) }) => {
                    Some((open_decoder(streams, *stream, 1, log)?, open_audio(settings, log)?))
                }
                _ => None,
            };
            Ok((video, audio))
        };
        let encoders = || {
            let settings = plan.renditions.iter().filter_map(|r| r.encode.as_ref());
            settings.map(|s| open_video(s, log)).collect::<Result<Vec<_>>>()
        };
        let (decoders, encoders) = beside(log, decoders, encoders)?;
        let ((video_decoder, audio), video_encoders) = (decoders?, encoders?);
        Ok(Self { video_decoder, video_encoders, audio, source })
    }
}

/// What is decoded too early waits in a queue, and sound for its picture: both give way to the stages behind.
pub fn stand_behind_what_follows() {
    stand_behind(BEHIND);
}

/// Opens both at once, what is `behind` in a thread that stands there, so that the threads which codecs start
/// do too.
fn beside<T: Send, U>(
    log: &RunLog,
    behind: impl FnOnce() -> Result<T> + Send,
    before: impl FnOnce() -> Result<U>,
) -> Result<(Result<T>, Result<U>)> {
    let body = || {
        log.enter_thread();
        stand_behind_what_follows();
        behind()
    };
    thread::scope(|scope| {
        let started = thread::Builder::new().name(log.thread_name("open")).spawn_scoped(scope, body);
        let thread =
            started.map_err(|e| Error::internal(Stage::Plan, format!("cannot start a thread: {e}")))?;
        let before = before();
        let panicked = |_| Err(Error::internal(Stage::Plan, "opening the decoders panicked"));
        Ok((thread.join().unwrap_or_else(panicked), before))
    })
}

fn open_decoder(streams: &[Stream], stream: usize, threads: u32, log: &RunLog) -> Result<Decoder> {
    let stream = streams.get(stream).ok_or_else(|| Error::internal(Stage::Open, "a stream is gone"))?;
    let opened = Decoder::open(&stream.params, stream.time_base, threads, log);
    let opened = opened.map_err(|e| e.at(Stage::Decode, "cannot open the decoder"))?;
    opened.ok_or_else(|| Error::internal(Stage::Decode, "a decoder that was there is gone"))
}

fn open_picture(plan: &Plan, video: &VideoPlan, streams: &[Stream], log: &RunLog) -> Result<Codec> {
    let gone = || Error::internal(Stage::Open, "a stream is gone");
    let stream = streams.get(video.stream).ok_or_else(gone)?;
    Ok(Codec {
        decoder: open_decoder(streams, video.stream, video.decoder_threads, log)?,
        time_base: stream.time_base,
        framing: framing_of(plan, stream),
    })
}

/// How the packets of the picture are framed, as the source's streams tell.
fn framing_of(plan: &Plan, stream: &Stream) -> Option<(VideoCodec, NalFormat)> {
    let facts = plan.facts.video.as_ref()?;
    framing(&facts.codec, stream.params.extradata())
}

pub(super) fn open_video(settings: &VideoSettings, log: &RunLog) -> Result<Encoder> {
    Encoder::open_video(settings, log).map_err(|e| cannot_open(&settings.encoder, e, log))
}

pub(super) fn open_audio(settings: &AudioSettings, log: &RunLog) -> Result<Encoder> {
    Encoder::open_audio(settings, log).map_err(|e| cannot_open(&settings.encoder, e, log))
}

fn cannot_open(name: &str, error: OpenError, log: &RunLog) -> Error {
    let new = |code, message| Error::new(ErrorKind::Unsupported, code, Stage::Encode, message);
    let error = match error {
        OpenError::Missing => new("no_encoder", format!("this libav has no encoder {name}")),
        OpenError::UnknownOption(option) => {
            new("encoder_refused", format!("{name} of this libav does not know the option {option}"))
        }
        OpenError::Av(e) => new("encoder_refused", format!("{name} does not take these settings: {e}"))
            .hint("check preset, crf, bit rate and size"),
    };
    error.with_libav_log(log.last_lines())
}

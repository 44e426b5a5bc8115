//! The codecs of a run: opened before its threads start, so that what cannot work says so at once.
//!
//! What enters: a plan, its open source. What leaves: open decoders and encoders, or why one does not open.
//! Must not live here: what is done with them.

use super::decode::Codec;
use super::engine::{DeviceFilter, PictureDecoder, PictureEncoder};
use super::index::framing;
use super::plan::{AudioPlan, OnDevice, Plan, Rendition, VideoPlan, of_first_segment};
use super::tracks;
use super::warm::Lent;
use crate::av::decoder::Decoder;
use crate::av::encoder::{AudioSettings, Encoder, OpenError, VideoSettings};
use crate::av::input::Stream;
use crate::av::log::RunLog;
use crate::base::error::{Error, ErrorKind, Result, Stage};
use crate::base::priority::stand_behind;
use crate::container::nal::{NalFormat, parse_config};
use crate::hardware::codec::Station;
use crate::model::track::VideoCodec;
use std::thread;

/// How far, in steps of `nice`: at 4, a thread gets well under half of what one before it gets.
const BEHIND: i32 = 4;

/// Everything that has to open before a thread starts: so that what cannot work says so at once.
pub struct Codecs {
    /// Of the picture, when it is not copied.
    pub video_decoder: Option<Codec>,
    /// Of the renditions, with what a device does before them.
    pub video_encoders: Vec<Works>,
    /// Of the sound, when it is not copied.
    pub audio: Option<(Decoder, Encoder)>,
    /// What the source's streams are to the stages.
    pub source: tracks::SourceTracks,
}

/// What makes the pictures of one rendition.
pub struct Works {
    /// The encoder.
    pub encoder: PictureEncoder,
    /// Filters on a device before it.
    pub filter: Option<DeviceFilter>,
    /// Its pictures are reordered by so many at least, as far as their times say.
    pub least_reorder: u32,
    /// Parameter sets of the encoder that may have to go on.
    pub stand_in_sets: Option<Vec<u8>>,
    /// The encoder makes the first segment and no more.
    pub for_first_segment: bool,
}

impl Codecs {
    /// Opens them all. Encoders of pictures stand where the calling thread does, the rest behind them. Where somebody
    /// is `waiting` for the first segment, that may have an encoder of its own.
    pub fn open(plan: &Plan, input: &Lent<'_>, waiting: bool, log: &RunLog) -> Result<Self> {
        let input =
            input.get().ok_or_else(|| Error::internal(Stage::Open, "an input that was lent is gone"))?;
        let source = tracks::describe(plan, input)?;
        let streams = input.streams();
        let station = plan.device.as_ref().map(|on| Station::open(on.kind, on.node.as_deref(), log));
        let station = station.transpose()?;
        let decoders = || {
            let video = match &plan.video {
                Some(video) if !video.copy => {
                    Some(open_picture(plan, video, (streams, station.as_ref()), log)?)
                }
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
            let made = plan.renditions.iter().filter(|rendition| rendition.encode.is_some());
            let on = plan.device.as_ref().zip(station.as_ref());
            let open = |rendition| open_encoder(on, rendition, waiting, log);
            made.map(open).collect::<Result<Vec<_>>>()
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

fn open_picture(
    plan: &Plan,
    video: &VideoPlan,
    (streams, station): (&[Stream], Option<&Station>),
    log: &RunLog,
) -> Result<Codec> {
    let gone = || Error::internal(Stage::Open, "a stream is gone");
    let stream = streams.get(video.stream).ok_or_else(gone)?;
    let there = station.filter(|_| plan.device.as_ref().is_some_and(|on| on.decodes));
    let there = there.map(|station| station.decoder(&stream.params, stream.time_base)).transpose()?;
    Ok(Codec {
        decoder: match there.flatten() {
            Some(decoder) => PictureDecoder::There(decoder),
            None => PictureDecoder::Here(open_decoder(streams, video.stream, video.decoder_threads, log)?),
        },
        time_base: stream.time_base,
        framing: framing_of(plan, stream),
    })
}

/// An encoder where the plan wants it, and the filters on a device that stand before it.
fn open_encoder(
    device: Option<(&OnDevice, &Station)>,
    rendition: &Rendition,
    waiting: bool,
    log: &RunLog,
) -> Result<Works> {
    let settings =
        rendition.encode.as_ref().ok_or_else(|| Error::internal(Stage::Plan, "nothing to encode"))?;
    let encodes_there = device.is_some_and(|(on, _)| on.encodes);
    let own = if waiting && !encodes_there { of_first_segment(settings) } else { None };
    let for_first_segment = own.is_some();
    let here = || open_here(own.as_ref().unwrap_or(settings), log);
    let Some((on, station)) = device else {
        let encoder = here()?;
        let least_reorder = encoder.reorder_frames();
        return Ok(Works { encoder, filter: None, least_reorder, stand_in_sets: None, for_first_segment });
    };
    let encoder = if on.encodes { PictureEncoder::There(station.encoder(settings)) } else { here()? };
    let graphs = on.needs_filters().then(|| station.graphs()).transpose()?;
    let filter = graphs.map(|graphs| DeviceFilter { graphs, on: on.clone() });
    // Opened to be asked: where it has to stand in, its times follow on those of the device.
    let stand_in = rendition.stand_in.as_ref().map(|stand_in| open_video(stand_in, log)).transpose()?;
    let least_reorder = stand_in.as_ref().map_or(0, Encoder::reorder_frames).max(encoder.reorder_frames());
    let sets = stand_in.map(|encoder| encoder.parameters()).transpose();
    let sets = sets.map_err(|e| e.at(Stage::Encode, "cannot ask the encoder that stands in"))?;
    let stand_in_sets = sets.map(|params| params.extradata().to_vec());
    Ok(Works { encoder, filter, least_reorder, stand_in_sets, for_first_segment })
}

/// An encoder of the linked libav.
pub(super) fn open_here(settings: &VideoSettings, log: &RunLog) -> Result<PictureEncoder> {
    Ok(PictureEncoder::Here(open_video(settings, log)?, settings.encoder.clone()))
}

/// How the packets of the picture are framed, as the source's streams tell.
fn framing_of(plan: &Plan, stream: &Stream) -> Option<(VideoCodec, NalFormat)> {
    let facts = plan.facts.video.as_ref()?;
    // A configuration record (version 1) without sets: packets with lengths, of a kind that nobody tells here.
    let config = stream.params.extradata();
    if config.first() == Some(&1) && parse_config(VideoCodec::H264, config).is_err() {
        return None;
    }
    framing(&facts.codec, stream.params.extradata())
}

/// The level of H.264 that an encoder gives itself; `None` where it does not say or does not open.
pub fn level_of(settings: &VideoSettings, log: &RunLog) -> Option<u8> {
    let params = open_video(settings, log).ok()?.parameters().ok()?;
    let sets = parse_config(VideoCodec::H264, params.extradata()).ok()?;
    sets.sps.first()?.get(3).copied()
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

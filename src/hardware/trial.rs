//! One trial, in a process of its own: what the hidden subcommand does.
//!
//! What enters: an [`Order`], as JSON on the command line. What leaves: an [`Answer`], as JSON on stdout.
//! The parent holds the other end of stdin; when that closes, this process ends, whatever a driver does
//! meanwhile. Nothing here is believed that was not looked at: pictures are decoded again and compared.

use super::backend::{Ask, Kind, Speed, Takes};
use super::picture::{self, COUNT, RATE, SECOND_KEY, SIZE};
use super::reasons;
use super::report::Reason;
use crate::av::decoder::Decoder;
use crate::av::device::Device;
use crate::av::encoder::{Encoder, OpenError, VideoSettings, choose_pixel_format};
use crate::av::graph::Graph;
use crate::av::log::{self, RunLog};
use crate::av::registry::{self, Linked};
use crate::av::{AvError, Frame, Packet, Received};
use crate::base::time::Rational;
use crate::model::job::RateWish;
use crate::model::track::{Colour, VideoCodec};
use serde::{Deserialize, Serialize};
use std::io::Read;
use std::thread;

/// Encoders that are opened at once at most, to find the driver's limit.
pub const MOST_SESSIONS: u32 = 8;
/// A picture that was encoded and decoded resembles itself at least so much.
const ENOUGH_DB: f64 = 28.0;
/// A scaled one resembles what the processor makes of it.
const ENOUGH_SCALED_DB: f64 = 32.0;
/// The size to which the picture is scaled.
const SCALED: (u32, u32) = (320, 180);

/// What is to be tried.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Order {
    /// Say what is linked.
    List,
    /// Open a device, and scale with it.
    Device(Place),
    /// Encode half a second.
    Encode(Place, Subject),
    /// Decode half a second.
    Decode(Place, Subject),
}

/// Which device.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Place {
    /// Its kind.
    pub kind: Kind,
    /// Which, in libav's words for that kind.
    pub node: Option<String>,
}

/// Which codec.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Subject {
    /// The format.
    pub codec: VideoCodec,
    /// Bits of each sample.
    pub bit_depth: u8,
}

/// What came of it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "answer", rename_all = "snake_case")]
pub enum Answer {
    /// What is linked.
    Listed {
        /// Codecs of pictures.
        codecs: Vec<Linked>,
        /// Types of devices.
        devices: Vec<String>,
        /// Which libav.
        libav: String,
    },
    /// The device opens.
    Opened {
        /// What the driver calls it.
        name: Option<String>,
        /// It is the processor in disguise.
        software: bool,
        /// `None`: it scales right.
        scaling: Option<Reason>,
    },
    /// The codec works.
    Worked {
        /// Encoders at once.
        sessions: Option<u32>,
    },
    /// Nobody here can make what would have to be decoded.
    Untried(Reason),
    /// It does not work.
    Failed(Reason),
}

/// Ends this process when the parent has gone, or has had enough.
pub fn die_with_parent() {
    let watch = || {
        // Nothing is ever sent: this returns when the other end closes.
        let _ = std::io::stdin().read(&mut [0]);
        crate::av::crash::exit_at_once(3);
    };
    // Without it the parent's deadline still ends this process.
    let _ = thread::Builder::new().name("parent".into()).spawn(watch);
}

/// Does what is ordered.
pub fn perform(order: &Order) -> Answer {
    log::keep_more();
    let done = match order {
        Order::List => Ok(list()),
        Order::Device(place) => device(place),
        Order::Encode(place, subject) => encode(place, subject),
        Order::Decode(place, subject) => decode(place, subject),
    };
    done.unwrap_or_else(Answer::Failed)
}

fn list() -> Answer {
    Answer::Listed {
        codecs: registry::linked_codecs(),
        devices: crate::av::device::kinds(),
        libav: registry::libav_build(),
    }
}

/// The log of the trial, to find reasons in.
struct Trial {
    log: RunLog,
}

impl Trial {
    fn begin() -> Self {
        let log = RunLog::new();
        log.enter_thread();
        Self { log }
    }

    fn failed(&self, what: &str, e: AvError) -> Reason {
        reasons::read(what, &self.log.last_lines(), e)
    }

    fn open(&self, place: &Place) -> Result<Option<Device>, Reason> {
        let Some(kind) = place.kind.backend().device_type() else { return Ok(None) };
        let opened = Device::open(kind, place.node.as_deref(), &self.log);
        opened.map(Some).map_err(|e| self.failed("the device does not open", e))
    }
}

fn device(place: &Place) -> Result<Answer, Reason> {
    let trial = Trial::begin();
    let device = trial.open(place)?;
    let (name, software) = named(&trial.log.all_lines());
    let scaling = device.as_ref().map_or_else(
        || Err(Reason::new("no_filter", "this kind of device has no filters")),
        |device| scale(&trial, place.kind, device),
    );
    Ok(Answer::Opened { name, software, scaling: scaling.err() })
}

/// What libav's lines say of the device that was chosen.
fn named(lines: &[String]) -> (Option<String>, bool) {
    let after =
        |mark: &str| lines.iter().find_map(|line| line.split_once(mark).map(|(_, rest)| rest.to_owned()));
    let name = after("selected: ").or_else(|| after("VAAPI driver: ")).or_else(|| after("Using device: "));
    let software = name.as_ref().is_some_and(|name| name.contains("(software)") || name.contains("llvmpipe"));
    (name, software)
}

fn scale(trial: &Trial, kind: Kind, device: &Device) -> Result<(), Reason> {
    let backend = kind.backend();
    let memory = backend.memory_format(8);
    let filter = backend.scale(SCALED, memory);
    let filter = filter.ok_or_else(|| Reason::new("no_filter", "this kind of device has no scaler"))?;
    let word = filter.split('=').next().unwrap_or_default();
    if !registry::has_filter(word) {
        return Err(Reason::new("not_linked", format!("this libav has no filter {word}"))
            .hint("a fuller build of FFmpeg has it"));
    }
    let failed = |e| trial.failed("the device does not scale", e);
    let source = picture::picture(0, memory).map_err(failed)?;
    let upload = backend.upload().unwrap_or("hwupload");
    let there = format!("{upload},{filter},hwdownload,format={memory}");
    let place = (picture::time_base(), Rational::from_int(1));
    let mut graph = Graph::video_on(Some(device), &source, place, &there, 1).map_err(failed)?;
    let scaled = picture::pass(&mut graph, &source).map_err(failed)?;
    let (width, height) = SCALED;
    let here =
        picture::convert(&source, &format!("scale={width}:{height}:flags=bilinear")).map_err(failed)?;
    resembles(&scaled, &here, ENOUGH_SCALED_DB)
}

fn resembles(one: &Frame, other: &Frame, enough_db: f64) -> Result<(), Reason> {
    let psnr = picture::luma_psnr_db(one, other)
        .map_err(|e| Reason::new("bad_picture", format!("the picture cannot be looked at: {e}")))?;
    if psnr >= enough_db {
        return Ok(());
    }
    Err(Reason::new("bad_picture", format!("the picture comes back wrong ({psnr:.1} dB)"))
        .hint("the driver is broken for this format: update it"))
}

fn encode(place: &Place, subject: &Subject) -> Result<Answer, Reason> {
    let trial = Trial::begin();
    let device = trial.open(place)?;
    let name = place.kind.backend().encoder(subject.codec).filter(|name| registry::has_encoder(name));
    let name = name.ok_or_else(|| Reason::new("not_linked", "this libav has no such encoder"))?;
    let settings = settings(place.kind, name, subject);
    let pictures = pictures(&trial, place.kind, device.as_ref(), subject)?;
    let first = pictures.first().ok_or_else(|| Reason::new("refused", "no picture to encode"))?;
    let mut encoder = open(&trial, &settings, first)?;
    let packets = run(&mut encoder, pictures.iter()).map_err(|e| trial.failed("encoding fails", e))?;
    check_packets(&packets)?;
    let decoded = decoded_here(&trial, &encoder, &packets)?;
    let source = picture::picture(0, "yuv420p").map_err(|e| trial.failed("no picture", e))?;
    if let Some(decoded) = decoded.first() {
        resembles(decoded, &source, ENOUGH_DB)?;
    }
    drop(encoder);
    Ok(Answer::Worked { sessions: Some(sessions(&trial, &settings, first)) })
}

/// The settings of a job of this kind.
fn settings(kind: Kind, name: &str, subject: &Subject) -> VideoSettings {
    let rate = RateWish { crf: None, bitrate_bps: Some(2_000_000) };
    let words = kind.backend().words(&Ask { codec: subject.codec, rate, speed: Speed::Fast });
    VideoSettings {
        encoder: name.into(),
        width: SIZE.0,
        height: SIZE.1,
        pixel_format: kind.backend().memory_format(subject.bit_depth).into(),
        frame_rate: Rational::from_int(RATE),
        gop_frames: COUNT * 4,
        bitrate_bps: words.bitrate_bps,
        max_rate_bps: words.max_rate_bps,
        buffer_bits: words.max_rate_bps,
        threads: 1,
        colour: Colour { primaries: 1, transfer: 1, matrix: 1, full_range: false },
        options: words.options,
    }
}

/// The pictures where the encoder wants them.
fn pictures(
    trial: &Trial,
    kind: Kind,
    device: Option<&Device>,
    subject: &Subject,
) -> Result<Vec<Frame>, Reason> {
    let memory = kind.backend().memory_format(subject.bit_depth);
    let failed = |e| trial.failed("pictures do not get to the device", e);
    let mut graph = None;
    let place = |n| -> Result<Frame, AvError> {
        let picture = picture::picture(n, memory)?;
        let (Takes::Surfaces, Some(device)) = (kind.backend().takes(), device) else { return Ok(picture) };
        let graph = match &mut graph {
            Some(graph) => graph,
            none => none.insert(Graph::video_on(
                Some(device),
                &picture,
                (picture::time_base(), Rational::from_int(1)),
                kind.backend().upload().unwrap_or("hwupload"),
                1,
            )?),
        };
        picture::pass(graph, &picture)
    };
    (0..COUNT).map(place).collect::<Result<_, _>>().map_err(failed)
}

fn open(trial: &Trial, settings: &VideoSettings, first: &Frame) -> Result<Encoder, Reason> {
    let opened = if first.is_on_device() {
        Encoder::open_on_device(settings, first, &trial.log)
    } else {
        Encoder::open_video(settings, &trial.log)
    };
    opened.map_err(|e| match e {
        OpenError::Missing => Reason::new("not_linked", "this libav has no such encoder"),
        OpenError::UnknownOption(option) => {
            Reason::new("refused", format!("the encoder of this libav does not know the option {option}"))
                .hint("a newer FFmpeg may know it")
        }
        OpenError::Av(e) => trial.failed("the encoder does not open", e),
    })
}

/// All pictures through an encoder, the packets in their order.
fn run<'a>(encoder: &mut Encoder, pictures: impl Iterator<Item = &'a Frame>) -> Result<Vec<Packet>, AvError> {
    let mut packets = Vec::new();
    for (n, picture) in (0..).zip(pictures) {
        let mut picture = picture.share()?;
        picture.set_pts(n);
        picture.set_key_wanted(n == 0 || u64::try_from(n) == Ok(SECOND_KEY));
        while encoder.send(Some(&picture))? == Received::NeedsInput {
            take(encoder, &mut packets)?;
        }
        take(encoder, &mut packets)?;
    }
    encoder.send(None)?;
    take(encoder, &mut packets)?;
    Ok(packets)
}

fn take(encoder: &mut Encoder, packets: &mut Vec<Packet>) -> Result<(), AvError> {
    loop {
        let mut packet = Packet::new()?;
        match encoder.receive(&mut packet)? {
            Received::Item => packets.push(packet),
            _ => return Ok(()),
        }
    }
}

/// One packet for each picture, and key pictures where they were asked for.
fn check_packets(packets: &[Packet]) -> Result<(), Reason> {
    if packets.len() as u64 != COUNT {
        let message = format!("{} packets came of {COUNT} pictures", packets.len());
        return Err(Reason::new("lost_pictures", message).hint("the driver is broken: update it"));
    }
    for wanted in [0, SECOND_KEY] {
        let of = packets.iter().find(|p| p.pts().and_then(|pts| u64::try_from(pts).ok()) == Some(wanted));
        if !of.is_some_and(Packet::is_key) {
            let message = format!("picture {wanted} is no key picture though it was asked for");
            return Err(Reason::new("ignores_key", message).hint("segments could not begin where they must"));
        }
    }
    Ok(())
}

/// What the processor makes of the packets; nothing where it has no such decoder.
fn decoded_here(trial: &Trial, encoder: &Encoder, packets: &[Packet]) -> Result<Vec<Frame>, Reason> {
    let failed = |e| trial.failed("what was encoded cannot be decoded", e);
    let params = encoder.parameters().map_err(failed)?;
    let decoder = Decoder::open(&params, picture::time_base(), 1, &trial.log).map_err(failed)?;
    decoder.map_or(Ok(Vec::new()), |mut decoder| all_frames(&mut decoder, packets).map_err(failed))
}

fn all_frames(decoder: &mut Decoder, packets: &[Packet]) -> Result<Vec<Frame>, AvError> {
    let mut frames = Vec::new();
    for packet in packets.iter().map(Some).chain([None]) {
        decoder.send(packet)?;
        loop {
            let mut frame = Frame::new()?;
            match decoder.receive(&mut frame)? {
                Received::Item => frames.push(frame),
                _ => break,
            }
        }
    }
    Ok(frames)
}

/// How many encoders are open and work at once. Each has to take a picture: some drivers refuse only then.
fn sessions(trial: &Trial, settings: &VideoSettings, first: &Frame) -> u32 {
    let mut open_now = Vec::new();
    while open_now.len() < MOST_SESSIONS as usize {
        let Ok(mut encoder) = open(trial, settings, first) else { break };
        if encoder.send(Some(first)).is_err() {
            break;
        }
        open_now.push(encoder);
    }
    u32::try_from(open_now.len()).unwrap_or(MOST_SESSIONS)
}

fn decode(place: &Place, subject: &Subject) -> Result<Answer, Reason> {
    let trial = Trial::begin();
    let Some(device) = trial.open(place)? else {
        return Ok(Answer::Untried(Reason::new("no_device", "this kind of device is not opened by itself")));
    };
    let Some(made) = stream(&trial, place.kind, &device, subject) else {
        let message = "nothing here makes a stream of this format to be decoded";
        return Ok(Answer::Untried(Reason::new("no_sample", message).hint("a fuller FFmpeg could")));
    };
    let (encoder, packets) = made;
    let failed = |e| trial.failed("decoding fails", e);
    let params = encoder.parameters().map_err(failed)?;
    let decoder = Decoder::open_on(&device, &params, picture::time_base(), &trial.log).map_err(failed)?;
    let mut decoder = decoder.ok_or_else(|| {
        Reason::new("not_linked", "this libav has no decoder of this format for the device")
    })?;
    let frames = all_frames(&mut decoder, &packets).map_err(failed)?;
    let first = frames.first().ok_or_else(|| Reason::new("lost_pictures", "no picture came out"))?;
    if !first.is_on_device() {
        let lines = trial.log.last_lines().join("; ");
        return Err(Reason::new("no_entry_point", "the device does not decode this format")
            .hint("the processor does it")
            .libav(lines));
    }
    let source = picture::picture(0, "yuv420p").map_err(failed)?;
    resembles(&first.download().map_err(failed)?, &source, ENOUGH_DB)?;
    Ok(Answer::Worked { sessions: None })
}

/// Half a second of a format, made by the processor where it can, else by the device.
fn stream(trial: &Trial, kind: Kind, device: &Device, subject: &Subject) -> Option<(Encoder, Vec<Packet>)> {
    software(trial, subject).or_else(|| {
        let name = kind.backend().encoder(subject.codec).filter(|name| registry::has_encoder(name))?;
        let pictures = pictures(trial, kind, Some(device), subject).ok()?;
        let mut encoder = open(trial, &settings(kind, name, subject), pictures.first()?).ok()?;
        let packets = run(&mut encoder, pictures.iter()).ok()?;
        Some((encoder, packets))
    })
}

fn software(trial: &Trial, subject: &Subject) -> Option<(Encoder, Vec<Packet>)> {
    let names: &[&str] = match subject.codec {
        VideoCodec::H264 => &["libx264", "libopenh264"],
        VideoCodec::Hevc => &["libx265"],
        VideoCodec::Av1 => &["libsvtav1", "libaom-av1"],
        VideoCodec::Vp9 => &["libvpx-vp9"],
    };
    let format = if subject.bit_depth > 8 { "yuv420p10le" } else { "yuv420p" };
    let suits = |name: &&&str| registry::has_encoder(name) && choose_pixel_format(name, &[format]).is_some();
    let name = names.iter().find(suits)?;
    let mut settings = settings(Kind::V4l2m2m, name, subject);
    settings.pixel_format = format.into();
    settings.options = match *name {
        "libx265" => vec![("x265-params".into(), "log-level=error:pools=1".into())],
        _ => Vec::new(),
    };
    let pictures: Vec<Frame> =
        (0..COUNT).map(|n| picture::picture(n, format)).collect::<Result<_, _>>().ok()?;
    let mut encoder = Encoder::open_video(&settings, &trial.log).ok()?;
    let packets = run(&mut encoder, pictures.iter()).ok()?;
    Some((encoder, packets))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn orders_and_answers_survive_the_pipe() {
        let place = Place { kind: Kind::Vaapi, node: Some("/dev/dri/renderD128".into()) };
        let subject = Subject { codec: VideoCodec::Hevc, bit_depth: 10 };
        for order in [Order::List, Order::Device(place.clone()), Order::Encode(place, subject)] {
            let text = serde_json::to_string(&order).unwrap();
            assert_eq!(serde_json::from_str::<Order>(&text).unwrap(), order, "{text}");
        }
        let answer = Answer::Failed(Reason::new("refused", "no").libav("words"));
        let text = serde_json::to_string(&answer).unwrap();
        assert_eq!(serde_json::from_str::<Answer>(&text).unwrap(), answer);
    }

    #[test]
    fn the_stream_for_decoders_is_what_it_should_be() {
        let trial = Trial::begin();
        let subject = Subject { codec: VideoCodec::H264, bit_depth: 8 };
        let Some((encoder, packets)) = software(&trial, &subject) else {
            return println!("skipped: no software encoder of H.264");
        };
        check_packets(&packets).unwrap();
        let frames = decoded_here(&trial, &encoder, &packets).unwrap();
        assert_eq!(frames.len() as u64, COUNT);
        for (n, frame) in (0..).zip(&frames) {
            resembles(frame, &picture::picture(n, "yuv420p").unwrap(), ENOUGH_DB).unwrap();
        }
        let wrong = resembles(&frames[0], &picture::picture(40, "yuv420p").unwrap(), ENOUGH_DB).unwrap_err();
        assert_eq!(wrong.code, "bad_picture");
    }

    #[test]
    fn a_missing_key_picture_or_packet_is_seen() {
        let packet = |pts: i64, key: bool| {
            let mut packet = Packet::new().unwrap();
            packet.set_times(0, pts, pts, 1, key);
            packet
        };
        let all =
            |key_at: i64| (0..COUNT as i64).map(|n| packet(n, n == 0 || n == key_at)).collect::<Vec<_>>();
        assert_eq!(check_packets(&all(SECOND_KEY as i64)), Ok(()));
        assert_eq!(check_packets(&all(SECOND_KEY as i64 + 1)).unwrap_err().code, "ignores_key");
        assert_eq!(check_packets(&all(SECOND_KEY as i64)[1..]).unwrap_err().code, "lost_pictures");
    }

    #[test]
    fn a_software_renderer_is_known_by_its_name() {
        let lines = |line: &str| vec!["AVHWDeviceContext: Supported devices:".to_owned(), line.to_owned()];
        let (name, software) = named(&lines(
            "AVHWDeviceContext: Device 0 selected: llvmpipe (LLVM 15.0.6, 256 bits) (software) (0x0)",
        ));
        assert!(software && name.unwrap().starts_with("llvmpipe"));
        assert!(!named(&lines("AVHWDeviceContext: Device 0 selected: Radeon (discrete) (0x73bf)")).1);
    }
}

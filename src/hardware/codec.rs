//! Codecs on a device, each in a thread that may be given up ([`Guard`]).
//!
//! What enters: a device's kind, settings, pictures and packets. What leaves: the same as from a codec in
//! memory, or an error that says that the device is to blame. The fake device stands behind the same trait.

use super::backend::Kind;
use super::fake::FakeEncoder;
use super::guard::{Guard, Lost};
use crate::av::decoder::Decoder;
use crate::av::device::Device;
use crate::av::encoder::{Encoder, OpenError, VideoSettings};
use crate::av::graph::Graph;
use crate::av::log::RunLog;
use crate::av::{AvError, Frame, Packet, Parameters, Received};
use crate::base::error::{Error, ErrorKind, Result, Stage};
use crate::base::time::Rational;
use std::fmt;

/// What every device's encoder does.
pub trait DeviceEncoder: Send {
    /// Takes a picture; `None` asks for what it still holds.
    fn send(&mut self, frame: Option<&mut Frame>) -> Result<Received, AvError>;
    /// Gives a packet.
    fn receive(&mut self, packet: &mut Packet) -> Result<Received, AvError>;
    /// What a muxer has to know.
    fn parameters(&self) -> Result<Parameters, AvError>;
}

impl DeviceEncoder for Encoder {
    fn send(&mut self, frame: Option<&mut Frame>) -> Result<Received, AvError> {
        Encoder::send(self, frame.map(|frame| &*frame))
    }

    fn receive(&mut self, packet: &mut Packet) -> Result<Received, AvError> {
        Encoder::receive(self, packet)
    }

    fn parameters(&self) -> Result<Parameters, AvError> {
        Encoder::parameters(self)
    }
}

/// An open device of a run.
#[derive(Debug)]
pub struct Station {
    kind: Kind,
    /// `None` where codecs find the device themselves.
    device: Option<Device>,
    log: RunLog,
}

impl Station {
    /// Opens the device.
    ///
    /// # Errors
    /// `device_failed`.
    pub fn open(kind: Kind, node: Option<&str>, log: &RunLog) -> Result<Self> {
        let Some(device_type) = kind.backend().device_type() else {
            return Ok(Self { kind, device: None, log: log.clone() });
        };
        let (node, own_log) = (node.map(str::to_owned), log.clone());
        let make = move || Device::open(device_type, node.as_deref(), &own_log);
        let opened = Guard::start(log.thread_name("device"), make);
        let guard = flat(opened).map_err(|e| failed(kind, Stage::Open, "does not open", e))?;
        let device = guard.call(|device| device.share());
        let device = flat(device).map_err(|e| failed(kind, Stage::Open, "does not open", e))?;
        Ok(Self { kind, device: Some(device), log: log.clone() })
    }

    fn device(&self) -> Result<Option<Device>> {
        let shared = self.device.as_ref().map(Device::share).transpose();
        shared.map_err(|e| e.at(Stage::Open, "no room for a device"))
    }

    /// A decoder there; `None` when this libav has none for the stream.
    ///
    /// # Errors
    /// `device_failed`.
    pub fn decoder(&self, params: &Parameters, time_base: Rational) -> Result<Option<StationDecoder>> {
        let Some(device) = self.device()? else { return Ok(None) };
        let params = params.share().map_err(|e| e.at(Stage::Decode, "no room for a decoder"))?;
        let log = self.log.clone();
        let kind = self.kind;
        let made = Guard::start(self.log.thread_name("dev-dec"), move || {
            log.enter_thread();
            match Decoder::open_on(&device, &params, time_base, &log) {
                Ok(Some(decoder)) => Ok(decoder),
                Ok(None) => Err(None),
                Err(e) => Err(Some(e)),
            }
        });
        match made {
            Ok(Ok(guard)) => Ok(Some(StationDecoder { kind, guard })),
            Ok(Err(None)) => Ok(None),
            Ok(Err(Some(e))) => Err(failed(kind, Stage::Decode, "does not decode", Trouble::Av(e))),
            Err(lost) => Err(failed(kind, Stage::Decode, "does not decode", Trouble::Lost(lost))),
        }
    }

    /// An encoder there. It opens with the first picture, which tells where its pictures lie.
    pub fn encoder(&self, settings: &VideoSettings) -> StationEncoder {
        StationEncoder { kind: self.kind, settings: settings.clone(), log: self.log.clone(), guard: None }
    }

    /// A place for filter graphs there.
    ///
    /// # Errors
    /// `device_failed`.
    pub fn graphs(&self) -> Result<StationGraphs> {
        let device = self.device()?;
        tracing::debug!("{} scales", self.kind);
        // The device goes with the graphs: it is let go of in their thread.
        let made = Guard::start(self.log.thread_name("dev-flt"), move || Ok::<_, AvError>((device, None)));
        let guard = flat(made).map_err(|e| failed(self.kind, Stage::Filter, "does not scale", e))?;
        Ok(StationGraphs { kind: self.kind, log: self.log.clone(), guard })
    }
}

/// See [`Station::decoder`].
#[derive(Debug)]
pub struct StationDecoder {
    kind: Kind,
    guard: Guard<Decoder>,
}

impl StationDecoder {
    /// As [`Decoder::send`]. Damage in the data is libav's to say; everything else is the device's fault.
    ///
    /// # Errors
    /// `device_failed`; inside, libav's word on the data.
    pub fn send(&mut self, packet: Option<&Packet>) -> Result<Result<Received, AvError>> {
        let packet = packet.map(Packet::share).transpose();
        let packet = packet.map_err(|e| e.at(Stage::Decode, "no room for a packet"))?;
        let sent = self.guard.call(move |decoder| decoder.send(packet.as_ref()));
        self.judge(sent)
    }

    /// As [`Decoder::receive`].
    ///
    /// # Errors
    /// As [`StationDecoder::send`].
    pub fn receive(&mut self, frame: &mut Frame) -> Result<Result<Received, AvError>> {
        let got = self.guard.call(|decoder| {
            let mut frame = Frame::new()?;
            decoder.receive(&mut frame).map(|received| (received, frame))
        });
        Ok(self.judge(got)?.map(|(received, got)| {
            *frame = got;
            received
        }))
    }

    /// As [`Decoder::skip_unreferenced`].
    ///
    /// # Errors
    /// `device_failed`.
    pub fn skip_unreferenced(&mut self, skip: bool) -> Result<()> {
        let done = self.guard.call(move |decoder| decoder.skip_unreferenced(skip));
        done.map_err(|lost| failed(self.kind, Stage::Decode, "does not decode", Trouble::Lost(lost)))
    }

    fn judge<T>(&self, answer: Result<Result<T, AvError>, Lost>) -> Result<Result<T, AvError>> {
        let fault = |trouble| failed(self.kind, Stage::Decode, "does not decode", trouble);
        match answer {
            Ok(Err(e)) if !e.is_bad_data() => Err(fault(Trouble::Av(e))),
            Ok(answer) => Ok(answer),
            Err(lost) => Err(fault(Trouble::Lost(lost))),
        }
    }
}

/// See [`Station::encoder`].
pub struct StationEncoder {
    kind: Kind,
    settings: VideoSettings,
    log: RunLog,
    guard: Option<Guard<Box<dyn DeviceEncoder>>>,
}

impl StationEncoder {
    /// Takes a picture; `None` asks for what it still holds.
    ///
    /// # Errors
    /// `device_failed`.
    pub fn send(&mut self, frame: Option<&Frame>) -> Result<Received> {
        let shared = frame.map(Frame::share).transpose();
        let mut shared = shared.map_err(|e| e.at(Stage::Encode, "no room for a picture"))?;
        if self.guard.is_none() {
            let Some(first) = frame else { return Ok(Received::End) };
            self.guard = Some(self.open(first)?);
        }
        self.call(move |encoder| encoder.send(shared.as_mut()))
    }

    /// Gives a packet.
    ///
    /// # Errors
    /// `device_failed`.
    pub fn receive(&mut self, packet: &mut Packet) -> Result<Received> {
        if self.guard.is_none() {
            return Ok(Received::End);
        }
        let (received, got) = self.call(|encoder| {
            let mut packet = Packet::new()?;
            encoder.receive(&mut packet).map(|received| (received, packet))
        })?;
        *packet = got;
        Ok(received)
    }

    /// What a muxer has to know; there is something once a packet has come.
    ///
    /// # Errors
    /// `device_failed`.
    pub fn parameters(&self) -> Result<Parameters> {
        self.call(|encoder| encoder.parameters())
    }

    fn call<T: Send + 'static>(
        &self,
        work: impl FnOnce(&mut Box<dyn DeviceEncoder>) -> Result<T, AvError> + Send + 'static,
    ) -> Result<T> {
        let answer = self.guard.as_ref().map_or(Err(Lost::Gone), |guard| guard.call(work));
        flat(answer).map_err(|e| failed(self.kind, Stage::Encode, "does not encode", e))
    }

    fn open(&self, first: &Frame) -> Result<Guard<Box<dyn DeviceEncoder>>> {
        let first = first.share().map_err(|e| e.at(Stage::Encode, "no room for a picture"))?;
        let (kind, settings, log) = (self.kind, self.settings.clone(), self.log.clone());
        let make = move || -> Result<Box<dyn DeviceEncoder>, OpenError> {
            log.enter_thread();
            Ok(match kind {
                Kind::Fake => Box::new(FakeEncoder::open(&settings, &log)?),
                _ if first.is_on_device() => Box::new(Encoder::open_on_device(&settings, &first, &log)?),
                _ => Box::new(Encoder::open_video(&settings, &log)?),
            })
        };
        let what = "does not open an encoder";
        match Guard::start(self.log.thread_name("dev-enc"), make) {
            Ok(Ok(guard)) => Ok(guard),
            Ok(Err(OpenError::Av(e))) => Err(failed(kind, Stage::Encode, what, Trouble::Av(e))),
            Ok(Err(other)) => Err(failed(kind, Stage::Encode, what, Trouble::Said(format!("{other:?}")))),
            Err(lost) => Err(failed(kind, Stage::Encode, what, Trouble::Lost(lost))),
        }
    }
}

impl fmt::Debug for StationEncoder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("StationEncoder").field("kind", &self.kind).finish_non_exhaustive()
    }
}

/// A device, and the graph that was used last on it with its description.
type Graphs = (Option<Device>, Option<(String, Graph)>);

/// See [`Station::graphs`].
#[derive(Debug)]
pub struct StationGraphs {
    kind: Kind,
    log: RunLog,
    guard: Guard<Graphs>,
}

impl StationGraphs {
    /// One picture through a graph there; the graph is kept for pictures of the same shape.
    ///
    /// # Errors
    /// `device_failed`.
    pub fn pass(&self, frame: &Frame, place: (Rational, Rational), description: &str) -> Result<Frame> {
        let frame = frame.share().map_err(|e| e.at(Stage::Filter, "no room for a picture"))?;
        let (description, log) = (description.to_owned(), self.log.clone());
        let done = self.guard.call(move |(device, kept)| {
            log.enter_thread();
            let graph = match kept {
                Some((of, graph)) if *of == description && graph.fits(&frame) => graph,
                stale => {
                    let graph = Graph::video_on(device.as_ref(), &frame, place, &description, 1)?;
                    &mut stale.insert((description, graph)).1
                }
            };
            graph.push(Some(&frame))?;
            let mut out = Frame::new()?;
            match graph.pull(&mut out)? {
                Received::Item => Ok(out),
                _ => Err(AvError::GONE),
            }
        });
        flat(done).map_err(|e| failed(self.kind, Stage::Filter, "does not scale", e))
    }
}

/// What is wrong with a device.
enum Trouble {
    Lost(Lost),
    Av(AvError),
    Said(String),
}

fn flat<T>(answer: Result<Result<T, AvError>, Lost>) -> Result<T, Trouble> {
    answer.map_err(Trouble::Lost)?.map_err(Trouble::Av)
}

fn failed(kind: Kind, stage: Stage, what: &str, trouble: Trouble) -> Error {
    let why = match trouble {
        Trouble::Lost(lost) => lost.to_string(),
        Trouble::Av(e) => e.to_string(),
        Trouble::Said(words) => words,
    };
    Error::new(ErrorKind::Unavailable, "device_failed", stage, format!("{kind} {what}: {why}"))
        .hint("sprocket probe says what works on this machine; hardware.acceleration: off leaves it alone")
}

//! A device that misbehaves on purpose, for tests: an encoder of H.264 in software that does as it was told
//! only until it does not.
//!
//! What enters: [`VARIABLE`], `WHAT@N`. What leaves: an encoder behind the same trait as every device's, and a
//! report that says it works. Without the variable there is no such device.

use super::backend::{Ask, Backend, Kind, Rate, Takes, Words};
use super::codec::DeviceEncoder;
use super::report::{CodecReport, DeviceReport, Direction, Reason, Verdict};
use crate::av::encoder::{Encoder, OpenError, VideoSettings};
use crate::av::log::RunLog;
use crate::av::registry::has_encoder;
use crate::av::{AvError, Frame, Packet, Parameters, Received};
use crate::model::track::VideoCodec;
use crossbeam_channel::never;
use std::collections::VecDeque;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};

/// How the device misbehaves: `fine`, `refuse`, `fail@N`, `hang@N`, `vanish@N`, `ignore-keys`, `late@N`, N being
/// a number of pictures.
pub const VARIABLE: &str = "SPROCKET_FAKE_DEVICE";
/// Encoders that it has for all.
const SESSIONS: u32 = 4;
/// Never of its own accord.
const NO_KEYS: u64 = 1 << 20;

/// Once it has vanished it stays so for the life of the process.
static VANISHED: AtomicBool = AtomicBool::new(false);

/// What it does wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Mischief {
    None,
    Refuse,
    Fail(u64),
    Hang(u64),
    Vanish(u64),
    IgnoreKeys,
    Late(usize),
}

impl Mischief {
    fn read(text: &str) -> Option<Self> {
        let (what, n) = text.split_once('@').unwrap_or((text, "0"));
        let n = n.parse().ok()?;
        Some(match what {
            "fine" => Self::None,
            "refuse" => Self::Refuse,
            "fail" => Self::Fail(n),
            "hang" => Self::Hang(n),
            "vanish" => Self::Vanish(n),
            "ignore-keys" => Self::IgnoreKeys,
            "late" => Self::Late(usize::try_from(n).ok()?),
            _ => return None,
        })
    }

    fn wanted() -> Option<Self> {
        let text = std::env::var(VARIABLE).ok()?;
        let read = Self::read(&text);
        if read.is_none() {
            tracing::warn!("{VARIABLE}={text}: no such mischief");
        }
        read
    }
}

/// The report of the device, where somebody wants it.
pub fn report() -> Option<DeviceReport> {
    Mischief::wanted()?;
    let encoder = CodecReport {
        direction: Direction::Encode,
        codec: VideoCodec::H264,
        bit_depth: 8,
        name: "h264_fake".into(),
        verdict: Verdict::Proven,
        sessions: Some(SESSIONS),
        took_ms: 0,
    };
    Some(DeviceReport {
        kind: Kind::Fake,
        node: None,
        name: Some("a device for tests".into()),
        software: false,
        verdict: Verdict::Proven,
        scaling: Verdict::Refused(Reason::new("no_filter", "this kind of device has no filters")),
        codecs: vec![encoder],
    })
}

/// The kind.
#[derive(Debug)]
pub struct Fake;

impl Backend for Fake {
    fn device_type(&self) -> Option<&'static str> {
        None
    }

    fn node_groups(&self) -> Vec<Vec<PathBuf>> {
        Vec::new()
    }

    fn absent_hint(&self) -> &'static str {
        "it is there for tests only"
    }

    fn encoder(&self, codec: VideoCodec) -> Option<&'static str> {
        (codec == VideoCodec::H264).then_some("h264_fake")
    }

    fn takes(&self) -> Takes {
        Takes::Memory
    }

    fn memory_format(&self, _: u8) -> &'static str {
        "yuv420p"
    }

    fn upload(&self) -> Option<&'static str> {
        None
    }

    fn scale(&self, _: (u32, u32), _: &str) -> Option<String> {
        None
    }

    fn deinterlace(&self) -> Option<&'static str> {
        None
    }

    fn tone_map(&self) -> Option<&'static str> {
        None
    }

    fn words(&self, ask: &Ask) -> Words {
        let words = Words::default();
        match ask.rate() {
            Rate::Average(bitrate) => words.average(bitrate),
            Rate::Capped { crf, peak } => words.with("crf", crf).peak(peak),
            Rate::Quality(crf) => words.with("crf", crf),
        }
    }
}

/// Its encoder.
pub struct FakeEncoder {
    inner: Encoder,
    mischief: Mischief,
    /// Pictures that were taken.
    taken: u64,
    held: VecDeque<Packet>,
    ending: bool,
}

impl FakeEncoder {
    /// Opens it, if it does not refuse.
    pub fn open(settings: &VideoSettings, log: &RunLog) -> Result<Self, OpenError> {
        let mischief = Mischief::wanted().unwrap_or(Mischief::Refuse);
        if mischief == Mischief::Refuse || VANISHED.load(Ordering::Relaxed) {
            return Err(OpenError::Av(AvError::GONE));
        }
        let name = if has_encoder("libx264") { "libx264" } else { "libopenh264" };
        let mut settings = VideoSettings { encoder: name.into(), gop_frames: NO_KEYS, ..settings.clone() };
        match name {
            "libx264" => {
                let more = [("preset", "veryfast"), ("forced-idr", "1"), ("sc_threshold", "0")];
                settings.options.extend(more.map(|(key, value)| (key.into(), value.into())));
            }
            // It knows rates only.
            _ => {
                settings.options.retain(|(key, _)| key == "profile" || key == "level");
                settings.bitrate_bps = settings.bitrate_bps.max(settings.max_rate_bps).max(1_000_000);
            }
        }
        let inner = Encoder::open_video(&settings, log)?;
        Ok(Self { inner, mischief, taken: 0, held: VecDeque::new(), ending: false })
    }
}

impl DeviceEncoder for FakeEncoder {
    fn send(&mut self, frame: Option<&mut Frame>) -> Result<Received, AvError> {
        let Some(frame) = frame else {
            self.ending = true;
            return self.inner.send(None);
        };
        match self.mischief {
            Mischief::Fail(n) if self.taken >= n => return Err(AvError::GONE),
            Mischief::Hang(n) if self.taken >= n => never::<()>().recv().map_err(|_| AvError::GONE)?,
            Mischief::Vanish(n) if self.taken >= n || VANISHED.load(Ordering::Relaxed) => {
                VANISHED.store(true, Ordering::Relaxed);
                return Err(AvError::GONE);
            }
            Mischief::IgnoreKeys if self.taken > 0 => frame.set_key_wanted(false),
            _ => {}
        }
        let sent = self.inner.send(Some(frame))?;
        self.taken += u64::from(sent != Received::NeedsInput);
        Ok(sent)
    }

    fn receive(&mut self, packet: &mut Packet) -> Result<Received, AvError> {
        let Mischief::Late(most) = self.mischief else { return self.inner.receive(packet) };
        loop {
            let mut next = Packet::new()?;
            let received = self.inner.receive(&mut next)?;
            if received != Received::Item {
                if self.ending
                    && let Some(held) = self.held.pop_front()
                {
                    *packet = held;
                    return Ok(Received::Item);
                }
                return Ok(received);
            }
            self.held.push_back(next);
            if self.held.len() > most
                && let Some(held) = self.held.pop_front()
            {
                *packet = held;
                return Ok(Received::Item);
            }
        }
    }

    fn parameters(&self) -> Result<Parameters, AvError> {
        self.inner.parameters()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mischief_is_read_from_words() {
        assert_eq!(Mischief::read("fail@500"), Some(Mischief::Fail(500)));
        assert_eq!(Mischief::read("ignore-keys"), Some(Mischief::IgnoreKeys));
        assert_eq!(Mischief::read("late@8"), Some(Mischief::Late(8)));
        assert_eq!(Mischief::read("dance@2"), None);
        assert_eq!(Mischief::read("fail@soon"), None);
    }
}

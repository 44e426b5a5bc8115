//! Reading packets for their times alone: the first ones of each stream, and the latest.
//!
//! What enters: an [`Input`] that stands somewhere. What leaves: for each stream that is taken its
//! first packets and the one that is shown last. Every loop here ends: by bytes, by packets, and by
//! how often in a row the demuxer may have nothing to give.

use super::choose::Chosen;
use crate::av::error::Received;
use crate::av::input::Input;
use crate::av::packet::Packet;
use crate::base::error::{ErrorKind, Result, Stage};

/// Packets of the leading stream that are looked at one by one.
pub(super) const HEAD_PACKETS: usize = 250;
/// The same where tables tell the time of every packet: enough to see which of them are presented late.
pub(super) const HEAD_PACKETS_WITH_TABLES: usize = 24;
/// Bytes of packets after which the look at the beginning ends in any case.
const HEAD_BYTES: u64 = 8 << 20;
/// How often in a row the demuxer may say that it has nothing yet before that counts as the end.
const MAX_IDLE_READS: u32 = 1000;
/// Packets after which any reading ends. A day of film with sound has about ten million.
const MAX_PACKETS: u64 = 50_000_000;

/// The times of one packet, in ticks of its stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Seen {
    pub pts: Option<i64>,
    pub dts: Option<i64>,
    /// 0 if unknown.
    pub duration: i64,
    pub key: bool,
}

/// When a packet begins and how long it lasts, in ticks; a length of 0 is unknown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Mark {
    pub ticks: i64,
    pub duration: i64,
}

/// Which of a stream's times mean something.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Clock {
    /// Presentation times.
    Pts,
    /// Decode times: containers without presentation times, such as AVI.
    Dts,
    /// None at all (bare elementary streams): frames can only be counted.
    Count,
}

impl Clock {
    /// By the first packets of a stream. Presentation times count only if the key frame that leads
    /// has one: where some are guessed and some are not, start and end would not go together.
    pub fn of(head: &[Seen]) -> Self {
        let from_key = from_first_key(head);
        let known = |get: fn(&Seen) -> Option<i64>| {
            let leads = from_key.first().is_some_and(|s| get(s).is_some());
            leads && from_key.iter().filter(|s| get(s).is_some()).count() * 2 >= from_key.len()
        };
        if known(|s| s.pts) {
            Self::Pts
        } else if known(|s| s.dts) || head.iter().skip(1).any(|s| s.dts.is_some()) {
            Self::Dts
        } else {
            Self::Count
        }
    }

    fn read(self, seen: &Seen) -> Option<i64> {
        match self {
            Self::Pts => seen.pts,
            Self::Dts => seen.dts,
            Self::Count => None,
        }
    }
}

/// The packets from the first key frame on; all, if none is a key frame.
pub(super) fn from_first_key(head: &[Seen]) -> &[Seen] {
    let first = head.iter().position(|s| s.key).unwrap_or(0);
    head.get(first..).unwrap_or(&[])
}

/// When the first frame is shown that can be decoded: the first key frame, since what comes before it
/// (in a recording that starts anywhere) or is shown before it (an open GOP) lacks its references.
/// Without a key frame, the earliest of all.
pub(super) fn first_shown(head: &[Seen], clock: Clock) -> Option<i64> {
    let key = head.iter().find(|s| s.key).and_then(|s| clock.read(s));
    key.or_else(|| head.iter().filter_map(|s| clock.read(s)).min())
}

/// What was seen of one stream.
#[derive(Clone, Debug)]
pub(super) struct Track {
    /// Index in the container.
    pub index: usize,
    /// The first packets in the order of the file, at most [`HEAD_PACKETS`].
    pub head: Vec<Seen>,
    /// How many packets were read.
    pub packets: u64,
    /// How many bytes they have.
    pub bytes: u64,
    latest_pts: Option<Mark>,
    latest_dts: Option<Mark>,
}

impl Track {
    fn new(index: usize) -> Self {
        Self { index, head: Vec::new(), packets: 0, bytes: 0, latest_pts: None, latest_dts: None }
    }

    fn add(&mut self, seen: Seen, bytes: u64) {
        self.packets += 1;
        self.bytes = self.bytes.saturating_add(bytes);
        if self.head.len() < HEAD_PACKETS {
            self.head.push(seen);
        }
        later(&mut self.latest_pts, seen.pts, seen.duration);
        later(&mut self.latest_dts, seen.dts, seen.duration);
    }

    /// The earliest presentation time among the first packets, ticks.
    pub fn smallest_pts(&self) -> Option<i64> {
        self.head.iter().filter_map(|s| s.pts).min()
    }

    /// The packet with the highest time.
    pub fn latest(&self, clock: Clock) -> Option<Mark> {
        match clock {
            Clock::Pts => self.latest_pts,
            Clock::Dts => self.latest_dts,
            Clock::Count => None,
        }
    }
}

fn later(best: &mut Option<Mark>, ticks: Option<i64>, duration: i64) {
    if let Some(ticks) = ticks.filter(|t| best.is_none_or(|b| *t > b.ticks)) {
        *best = Some(Mark { ticks, duration });
    }
}

/// One reading of a piece of the file.
#[derive(Clone, Debug)]
pub(super) struct Scan {
    /// What was seen, picture first.
    pub tracks: Vec<Track>,
    /// Bytes of the packets.
    pub bytes: u64,
    /// The reading went to the end of the file.
    pub at_end: bool,
}

impl Scan {
    /// Nothing seen yet.
    pub fn of(chosen: &Chosen) -> Self {
        Self { tracks: chosen.indices().into_iter().map(Track::new).collect(), bytes: 0, at_end: false }
    }

    /// What was seen of a stream.
    pub fn track(&self, index: usize) -> Option<&Track> {
        self.tracks.iter().find(|t| t.index == index)
    }

    /// Whether every stream had a packet.
    pub fn saw_all(&self) -> bool {
        self.tracks.iter().all(|t| t.packets > 0)
    }

    /// Whether any stream had a packet.
    pub fn saw_any(&self) -> bool {
        self.tracks.iter().any(|t| t.packets > 0)
    }

    /// Reads the beginning: enough for the first times, and with [`HEAD_PACKETS`] for the frame rate.
    pub fn read_head(&mut self, input: &mut Input, packets: usize) -> Result<()> {
        self.read_while(input, |scan| {
            let leading_is_full = scan.tracks.first().is_none_or(|t| t.head.len() >= packets);
            scan.bytes < HEAD_BYTES && !(leading_is_full && scan.saw_all())
        })
    }

    /// Reads on to the end of the file, or until `max_bytes` of packets were seen.
    pub fn read_to_end(&mut self, input: &mut Input, max_bytes: u64) -> Result<()> {
        self.read_while(input, |scan| scan.bytes < max_bytes)
    }

    /// Reads until there is a packet of a stream that is taken; whether there was one.
    pub fn read_one(&mut self, input: &mut Input) -> Result<bool> {
        self.read_while(input, |scan| !scan.saw_any())?;
        Ok(self.saw_any())
    }

    fn read_while(&mut self, input: &mut Input, go_on: impl Fn(&Self) -> bool) -> Result<()> {
        let mut packet = Packet::new().map_err(|e| e.at(Stage::Demux, "cannot read the source"))?;
        let (mut idle, mut packets) = (0, 0);
        while !self.at_end && packets < MAX_PACKETS && go_on(self) {
            match read(input, &mut packet)? {
                Received::Item => {
                    idle = 0;
                    packets += 1;
                    self.add(&packet);
                }
                Received::NeedsInput => {
                    idle += 1;
                    self.at_end = idle > MAX_IDLE_READS;
                }
                Received::End => self.at_end = true,
            }
        }
        Ok(())
    }

    fn add(&mut self, packet: &Packet) {
        if let Some(track) = self.tracks.iter_mut().find(|t| t.index == packet.stream()) {
            let (pts, dts) = (packet.pts(), packet.dts());
            let bytes = packet.data().len() as u64;
            track.add(Seen { pts, dts, duration: packet.duration(), key: packet.is_key() }, bytes);
            self.bytes = self.bytes.saturating_add(bytes);
        }
    }
}

/// A read whose failures in the data count as the end: what lies behind them cannot be had. A failing
/// disk and a cancel stay errors.
fn read(input: &mut Input, packet: &mut Packet) -> Result<Received> {
    match input.read(packet) {
        Err(e) if !matches!(e.kind(), ErrorKind::Io | ErrorKind::Timeout | ErrorKind::Cancelled) => {
            Ok(Received::End)
        }
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seen(pts: Option<i64>, dts: Option<i64>, key: bool) -> Seen {
        Seen { pts, dts, duration: 1, key }
    }

    #[test]
    fn the_title_starts_with_the_first_key_frame() {
        let open_gop =
            [(7, false), (9, true), (8, false), (12, false)].map(|(t, key)| seen(Some(t), None, key));
        assert_eq!(first_shown(&open_gop, Clock::Pts), Some(9));
        let no_key = [7, 9, 6].map(|t| seen(Some(t), None, false));
        assert_eq!(first_shown(&no_key, Clock::Pts), Some(6));
        assert_eq!(first_shown(&[], Clock::Pts), None);
    }

    #[test]
    fn the_clock_is_the_one_that_the_key_frame_has() {
        let avi = [seen(None, Some(0), true), seen(Some(1), Some(1), false), seen(Some(2), Some(2), false)];
        assert_eq!(Clock::of(&avi), Clock::Dts);
        let matroska =
            [seen(Some(0), None, true), seen(Some(80), None, false), seen(Some(40), Some(0), false)];
        assert_eq!(Clock::of(&matroska), Clock::Pts);
        let fields = [seen(Some(0), None, true), seen(None, None, false), seen(Some(40), None, false)];
        assert_eq!(Clock::of(&fields), Clock::Pts);
        assert_eq!(Clock::of(&[seen(None, None, true); 3]), Clock::Count);
        assert_eq!(Clock::of(&[]), Clock::Count);
    }

    #[test]
    fn the_latest_packet_is_the_one_shown_last() {
        let mut track = Track::new(0);
        for (pts, duration) in [(0, 40), (160, 50), (80, 60)] {
            track.add(Seen { pts: Some(pts), dts: None, duration, key: false }, 10);
        }
        assert_eq!(track.latest(Clock::Pts), Some(Mark { ticks: 160, duration: 50 }));
        assert_eq!(track.latest(Clock::Dts), None);
        assert_eq!((track.packets, track.bytes, track.smallest_pts()), (3, 30, Some(0)));
    }
}

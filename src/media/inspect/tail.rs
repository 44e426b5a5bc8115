//! The very end of a file: which packets are shown last.
//!
//! What enters: an [`Input`] whose beginning was read. What leaves: for each stream the latest packet
//! that the file really has. How to get there depends on the container: small files and bare streams
//! are read through, MPEG transport and program streams and Matroska without an index are entered by a
//! byte offset, all others by a time; where a file is cut off, that time is found by halving.

use super::choose::Chosen;
use super::scan::{Clock, Mark, Scan};
use super::{Container, Source, clusters, has_tables, sane_time_base, span};
use crate::av::input::Input;
use crate::base::error::{ErrorKind, Result};
use crate::base::time::{Rational, Rounding};

/// Files below this are read through: it takes less time than to be clever.
const SMALL_BYTES: u64 = 32 << 20;
/// How long before the end the last reading begins, in seconds.
const TAIL: Rational = Rational::from_int(8);
/// The least and the most bytes before the end of a transport stream at which a reading begins.
const TAIL_BYTES: (u64, u64) = (4 << 20, 64 << 20);
/// Bytes of packets after which the last reading is given up: the last key frame is too far away.
const MAX_TAIL_BYTES: u64 = 256 << 20;
/// Bytes that one more try is worth when a stream had nothing in the last reading.
const MAX_RETRY_BYTES: u64 = 64 << 20;
/// How much further back each further try begins.
const RETRY_FACTOR: i64 = 4;
/// Tries for a stream that ends early.
const RETRIES: u32 = 2;
/// Halvings for the end of a cut-off file: from 30 days down to [`TAIL`].
const MAX_HALVINGS: u32 = 20;
/// An index whose last entry is this much before the end, in seconds, does not cover the file.
const INDEX_GAP: Rational = Rational::from_int(120);

/// What was found at the end.
#[derive(Debug)]
pub(super) struct Tail {
    scan: Scan,
    /// Every packet of the file was read.
    through: bool,
    /// The reading went to the end of the file.
    pub at_end: bool,
    /// The container's index covers the whole file.
    pub indexed: bool,
}

impl Tail {
    /// The packet of a stream with the highest time.
    pub fn latest(&self, stream: usize, clock: Clock) -> Option<Mark> {
        self.scan.track(stream)?.latest(clock)
    }

    /// Whether a packet of a stream was found.
    pub fn has(&self, stream: usize) -> bool {
        self.scan.track(stream).is_some_and(|t| t.packets > 0)
    }

    /// Packets and bytes that a stream has, where all were read.
    pub fn whole(&self, stream: usize) -> Option<(i64, i64)> {
        let track = self.scan.track(stream).filter(|_| self.through && self.at_end)?;
        Some((i64::try_from(track.packets).ok()?, i64::try_from(track.bytes).ok()?))
    }
}

/// How the end is reached.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Way {
    Through,
    Bytes,
    Time,
}

fn way(format: &str, size_bytes: u64) -> Way {
    // Streams without a container have no times to seek to, or only guessed ones.
    const BARE: [&str; 14] = [
        "aac",
        "ac3",
        "amr",
        "dts",
        "eac3",
        "flac",
        "h264",
        "hevc",
        "m4v",
        "mp3",
        "mpegvideo",
        "obu",
        "tta",
        "vc1",
    ];
    match format {
        _ if size_bytes < SMALL_BYTES => Way::Through,
        "mpegts" | "mpeg" => Way::Bytes,
        bare if BARE.contains(&bare) => Way::Through,
        _ => Way::Time,
    }
}

/// Finds the end; `head` is the reading of the beginning, which goes on where the file is read through.
pub(super) fn find(input: &mut Input, source: &Source<'_>, chosen: &Chosen, head: &Scan) -> Result<Tail> {
    match way(input.format(), input.size_bytes()) {
        Way::Through => through(input, head),
        Way::Bytes => {
            by_bytes(input, chosen, |input, offset| Ok(tolerate(input.seek_bytes(offset))?.is_some()))
        }
        Way::Time => match Seeker::of(input, chosen, head) {
            Some(seeker) => by_time(input, source, chosen, &seeker),
            None if is_matroska(input) => by_clusters(input, source, chosen),
            None => through(input, head),
        },
    }
}

fn through(input: &mut Input, head: &Scan) -> Result<Tail> {
    // The head keeps saying how far the first look went: the rate's estimate depends on it.
    let mut scan = head.clone();
    scan.read_to_end(input, u64::MAX)?;
    Ok(Tail { at_end: scan.at_end, scan, through: true, indexed: true })
}

/// Reads from so many bytes before the end, and from further back if a stream has nothing there.
/// `go_to` goes to an offset or says that it cannot.
fn by_bytes(
    input: &mut Input,
    chosen: &Chosen,
    mut go_to: impl FnMut(&mut Input, u64) -> Result<bool>,
) -> Result<Tail> {
    let (least, most) = TAIL_BYTES;
    let mut back = bytes_in(input, TAIL).clamp(least, most);
    loop {
        let mut scan = Scan::of(chosen);
        let offset = input.size_bytes().saturating_sub(back);
        if go_to(input, offset)? {
            scan.read_to_end(input, MAX_TAIL_BYTES)?;
        }
        if scan.saw_all() || back >= most.min(input.size_bytes()) {
            return Ok(Tail { at_end: scan.at_end && scan.saw_any(), scan, through: false, indexed: false });
        }
        back = back.saturating_mul(RETRY_FACTOR.unsigned_abs()).min(most);
    }
}

fn by_clusters(input: &mut Input, source: &Source<'_>, chosen: &Chosen) -> Result<Tail> {
    let leading = chosen.video.or(chosen.audio).unwrap_or(0);
    by_bytes(input, chosen, |input, offset| {
        let Some(cluster) = clusters::first_at(source, offset)? else { return Ok(false) };
        // A seek by time makes the demuxer forget in which cluster it is; one by bytes does not.
        let forgot = tolerate(input.seek(leading, 0))?.is_some();
        Ok(forgot && tolerate(input.seek_bytes(cluster))?.is_some())
    })
}

fn by_time(input: &mut Input, source: &Source<'_>, chosen: &Chosen, seeker: &Seeker) -> Result<Tail> {
    let indexed = seeker.load_index(input)?;
    if !indexed && is_matroska(input) {
        return by_clusters(input, source, chosen);
    }
    let from = latest_readable(seeker.start, seeker.end, seeker.tail, |t| {
        let mut one = Scan::of(chosen);
        Ok(seeker.seek(input, t)? && one.read_one(input)?)
    })?;
    let mut scan = seeker.read_from(input, chosen, from)?;
    let mut back = seeker.tail;
    for _ in 0..RETRIES {
        back = back * Rational::from_int(RETRY_FACTOR);
        if scan.saw_all() || !scan.at_end || bytes_in(input, back) > MAX_RETRY_BYTES {
            break;
        }
        scan = seeker.read_from(input, chosen, (from + seeker.tail - back).max(seeker.start))?;
    }
    Ok(Tail { at_end: scan.at_end && scan.saw_any(), scan, through: false, indexed })
}

fn is_matroska(input: &Input) -> bool {
    input.format().contains("matroska")
}

/// Goes to times of the leading stream.
struct Seeker {
    stream: usize,
    time_base: Rational,
    /// The first time that was seen, seconds.
    start: Rational,
    /// The end as the container claims it, seconds.
    end: Rational,
    /// Tables tell the times of all packets, so that it can go to any of them.
    any: bool,
    /// How long before the end the last reading begins, in seconds.
    tail: Rational,
}

impl Seeker {
    /// `None` where the container claims no length that makes sense.
    fn of(input: &Input, chosen: &Chosen, head: &Scan) -> Option<Self> {
        let stream = chosen.video.or(chosen.audio)?;
        let facts = input.streams().get(stream)?;
        let time_base = sane_time_base(facts.time_base);
        let first = head.track(stream).and_then(|t| t.smallest_pts()).or(facts.start_ticks).unwrap_or(0);
        let start = Rational::from_int(first) * time_base;
        let kinds = Container::of(input.format());
        let own =
            facts.duration_ticks.filter(|_| kinds.mov).map(|d| start + Rational::from_int(d) * time_base);
        let length = input.duration().map(|d| if kinds.zero_based { d } else { start + d });
        let end = span::sane_end(start, own.or(length)?)?;
        let any = has_tables(input, chosen);
        let tail = if any { short_tail(input, stream, time_base, end) } else { TAIL };
        Some(Self { stream, time_base, start, end, any, tail })
    }

    /// Makes the demuxer read its index, which some do at the first seek only; whether it covers the file.
    fn load_index(&self, input: &mut Input) -> Result<bool> {
        if !self.seek(input, self.start)? {
            return Ok(false);
        }
        let last = input.index(self.stream).last().map(|e| Rational::from_int(e.dts) * self.time_base);
        Ok(last.is_some_and(|last| last + INDEX_GAP >= self.end))
    }

    /// Whether the demuxer could go there.
    fn seek(&self, input: &mut Input, to: Rational) -> Result<bool> {
        let ticks = (to / self.time_base).round(Rounding::Floor);
        let sought =
            if self.any { input.seek_any(self.stream, ticks) } else { input.seek(self.stream, ticks) };
        Ok(tolerate(sought)?.is_some())
    }

    fn read_from(&self, input: &mut Input, chosen: &Chosen, from: Rational) -> Result<Scan> {
        let mut scan = Scan::of(chosen);
        if self.seek(input, from)? {
            scan.read_to_end(input, MAX_TAIL_BYTES)?;
        }
        Ok(scan)
    }
}

/// The last packets, for a demuxer that can go to any: so many that the one that is shown last is there,
/// and so long that the other streams have some too.
fn short_tail(input: &Input, stream: usize, time_base: Rational, end: Rational) -> Rational {
    const PACKETS: usize = 40;
    const SECONDS: Rational = Rational::from_int(2);
    let from = input.index_len(stream).saturating_sub(PACKETS);
    let begins = input.index_entry(stream, from).map(|e| Rational::from_int(e.dts) * time_base);
    begins.map_or(SECONDS, |begins| SECONDS.max(end - begins))
}

/// The latest time, to within `tail`, at which something can be read, between `start` (where it can)
/// and `end`. A file that is whole answers at the first question.
fn latest_readable(
    start: Rational,
    end: Rational,
    tail: Rational,
    mut readable: impl FnMut(Rational) -> Result<bool>,
) -> Result<Rational> {
    let mut bad = (end - tail).max(start);
    if bad <= start || readable(bad)? {
        return Ok(bad);
    }
    let mut good = start;
    for _ in 0..MAX_HALVINGS {
        if bad - good <= tail {
            break;
        }
        let middle = Rational::from_int(((good + bad) * Rational::new(1, 2)).round(Rounding::Nearest));
        if readable(middle)? {
            good = middle;
        } else {
            bad = middle;
        }
    }
    Ok(good)
}

/// Bytes that the file has for so many seconds on average.
fn bytes_in(input: &Input, seconds: Rational) -> u64 {
    let bps = input.bitrate_bps().and_then(|b| i64::try_from(b).ok()).unwrap_or(0);
    let bytes = (Rational::from_int(bps) * seconds * Rational::new(1, 8)).round(Rounding::Ceil);
    u64::try_from(bytes).unwrap_or(0)
}

/// A seek that the container cannot do is an answer, not a failure; a failing disk and a cancel are.
fn tolerate(done: Result<()>) -> Result<Option<()>> {
    match done {
        Ok(()) => Ok(Some(())),
        Err(e) if matches!(e.kind(), ErrorKind::Io | ErrorKind::Timeout | ErrorKind::Cancelled) => Err(e),
        Err(_) => Ok(None),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn small_files_and_bare_streams_are_read_through() {
        assert_eq!(way("matroska,webm", SMALL_BYTES - 1), Way::Through);
        assert_eq!(way("matroska,webm", SMALL_BYTES), Way::Time);
        assert_eq!(way("mov,mp4,m4a,3gp,3g2,mj2", u64::MAX), Way::Time);
        assert_eq!(way("mpegts", SMALL_BYTES), Way::Bytes);
        assert_eq!(way("h264", u64::MAX), Way::Through);
    }

    #[test]
    fn a_whole_file_answers_at_once() {
        let mut asked = Vec::new();
        let found = latest_readable(Rational::ZERO, Rational::from_int(7200), TAIL, |t| {
            asked.push(t);
            Ok(true)
        });
        assert_eq!((found, asked), (Ok(Rational::from_int(7192)), vec![Rational::from_int(7192)]));
    }

    proptest! {
        #[test]
        fn a_cut_is_found_within_a_tail_and_few_questions(start in -100i64..100_000, length in 1i64..2_000_000, part in 0i64..1000) {
            let cut = Rational::from_int(start) + Rational::new(length * part, 1000);
            let mut questions = 0;
            let (from, to) = (Rational::from_int(start), Rational::from_int(start + length));
            let found = latest_readable(from, to, TAIL, |t| {
                questions += 1;
                Ok(t <= cut)
            }).unwrap();
            prop_assert!(found >= from && found <= cut.max(from));
            prop_assert!(cut - found <= TAIL + Rational::from_int(1));
            prop_assert!(questions <= MAX_HALVINGS + 1);
        }
    }
}

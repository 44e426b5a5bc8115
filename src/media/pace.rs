//! The sound keeps step with the picture where somebody waits for the picture.
//!
//! What enters: the packets of the sound as the demuxer reads them, and how far the pictures have come. What leaves:
//! the same packets in the same order, each not long before its picture. The demuxer is a second ahead of the first
//! picture that comes out, and to encode the sound of that second takes processor time from it.
//!
//! Never waits for the picture once [`HELD_PACKETS`] are held: the demuxer then stands at its full queue, and the
//! picture may be behind the sound in the file. Nor when the picture is further away than the demuxer is ever ahead:
//! the packet's time is wrong then, or the picture's is.

use super::audio::SourceClock;
use super::items::Coded;
use crate::base::cancel::{QueueRx, Woken};
use crate::base::error::Result;
use crate::base::time::Rational;
use crossbeam_channel::{Receiver, Sender, bounded};
use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

/// How far the sound may be before the picture: what lies in the decoder, the filters and the encoder of the sound.
const AHEAD_MS: i64 = 200;
/// How far it may be and still be waited for.
const FAR_MS: i64 = 2000;
/// Packets that may wait: a second and a half of AAC.
const HELD_PACKETS: usize = 64;

/// What the picture's stage tells.
#[derive(Debug)]
pub struct Leader {
    reached_ms: Arc<AtomicI64>,
    /// Dropped with the leader: whoever follows waits no more.
    moved: Sender<()>,
}

/// What the sound's stage waits for.
#[derive(Debug)]
pub struct Follower {
    reached_ms: Arc<AtomicI64>,
    moved: Receiver<()>,
}

/// A leader that is at this time of the title, and who follows it.
pub fn pace(start: Rational) -> (Leader, Follower) {
    let reached_ms = Arc::new(AtomicI64::new(start.to_ms()));
    let (tx, rx) = bounded(1);
    (Leader { reached_ms: reached_ms.clone(), moved: tx }, Follower { reached_ms, moved: rx })
}

impl Leader {
    /// The picture has come to this time of the title.
    pub fn reached(&self, time: Rational) {
        self.reached_ms.store(time.to_ms(), Ordering::Release);
        // Full: whoever follows is told already.
        let _ = self.moved.try_send(());
    }
}

/// The sound's packets, each when it is due.
pub struct Paced {
    input: QueueRx<Coded>,
    clock: SourceClock,
    /// Nobody: every packet is due at once.
    follows: Option<Follower>,
    held: VecDeque<Coded>,
}

impl Paced {
    /// Packets of this queue and with these times, which follow the picture if there is one to follow.
    pub fn new(input: QueueRx<Coded>, clock: SourceClock, follows: Option<Follower>) -> Self {
        Self { input, clock, follows, held: VecDeque::new() }
    }

    /// The next packet, waiting until it is due; `None` when the producer has gone and nothing is left.
    ///
    /// # Errors
    /// The run is cancelled.
    pub fn recv(&mut self) -> Result<Option<Coded>> {
        while let Some(follower) = &self.follows {
            let waits = |coded: &Coded| follower.is_before(self.time_ms(coded));
            if self.held.len() >= HELD_PACKETS || self.held.front().is_some_and(|coded| !waits(coded)) {
                return Ok(self.held.pop_front());
            }
            match self.input.recv_or(&follower.moved)? {
                Woken::Item(coded) => self.held.push_back(coded),
                Woken::Signal => {}
                // Without a picture there is nothing to follow, and without a producer nothing to hold back for.
                Woken::Closed | Woken::SignalGone => self.follows = None,
            }
        }
        match self.held.pop_front() {
            Some(coded) => Ok(Some(coded)),
            None => self.input.recv(),
        }
    }

    /// Of the title; what has no time is due at once.
    fn time_ms(&self, coded: &Coded) -> i64 {
        let (Coded::Packet(packet) | Coded::Passing(packet)) = coded else { return i64::MIN };
        let Some(ticks) = packet.pts() else { return i64::MIN };
        Rational::new(self.clock.position(ticks), i64::from(self.clock.sample_rate.max(1))).to_ms()
    }
}

impl Follower {
    /// Whether the picture is still before this time, and will soon be there.
    fn is_before(&self, time_ms: i64) -> bool {
        let ahead_ms = time_ms.saturating_sub(self.reached_ms.load(Ordering::Acquire));
        (AHEAD_MS + 1..=FAR_MS).contains(&ahead_ms)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::av::Packet;
    use crate::base::cancel::{Cancel, QueueTx, queue};
    use crate::base::error::Stage;
    use crate::media::items::DataEnd;
    use std::thread;

    const CLOCK: SourceClock = SourceClock {
        sample_rate: 48_000,
        time_base: Rational::new(1, 1000),
        origin: Rational::from_int(0),
        start: Rational::from_int(0),
        packet_samples: 0,
    };

    fn packet(ms: i64) -> Coded {
        let mut packet = Packet::from_slice(&[0]).unwrap();
        packet.set_times(0, ms, ms, 20, true);
        Coded::Packet(packet)
    }

    fn seconds(ms: i64) -> Rational {
        Rational::new(ms, 1000)
    }

    /// Packets of every 20 ms from 0 on, a leader at 0, and who follows it.
    fn with(packets: i64, cancel: &Cancel) -> (Leader, QueueTx<Coded>, Paced) {
        let (tx, rx) = queue(1000, cancel, Stage::Demux);
        (0..packets).for_each(|n| assert!(tx.send(packet(n * 20)).is_ok()));
        let (leader, follower) = pace(seconds(0));
        (leader, tx, Paced::new(rx, CLOCK, Some(follower)))
    }

    fn ms(coded: Option<Coded>) -> Option<i64> {
        match coded {
            Some(Coded::Packet(packet) | Coded::Passing(packet)) => packet.pts(),
            _ => None,
        }
    }

    #[test]
    fn a_packet_waits_for_its_picture_and_for_no_more() {
        let cancel = Cancel::new();
        let (leader, tx, mut paced) = with(HELD_PACKETS as i64 / 2, &cancel);
        for n in 0..=AHEAD_MS / 20 {
            assert_eq!(ms(paced.recv().unwrap()), Some(n * 20));
        }
        let next = AHEAD_MS + 20;
        thread::scope(|scope| {
            let waits = scope.spawn(|| ms(paced.recv().unwrap()));
            leader.reached(seconds(19));
            cancel.wait_timeout(std::time::Duration::from_millis(50));
            assert!(!waits.is_finished());
            leader.reached(seconds(20));
            assert_eq!(waits.join().unwrap(), Some(next));
        });
        drop(tx);
    }

    #[test]
    fn it_waits_no_more_when_enough_is_held_or_one_side_has_gone() {
        let cancel = Cancel::new();
        let count = 200;
        let (leader, tx, mut paced) = with(count, &cancel);
        let held = HELD_PACKETS as i64;
        // As long as more come than may be held, nothing stands still, and the order stays.
        for n in 0..=count - held {
            assert_eq!(ms(paced.recv().unwrap()), Some(n * 20));
        }
        assert!(tx.send(Coded::End(DataEnd { end: None })).is_ok());
        drop(tx);
        for n in count - held + 1..count {
            assert_eq!(ms(paced.recv().unwrap()), Some(n * 20), "the source has ended");
        }
        assert!(matches!(paced.recv().unwrap(), Some(Coded::End(_))));
        assert!(paced.recv().unwrap().is_none());

        let (other, tx, mut paced) = with(60, &cancel);
        drop((leader, other));
        (0..60).for_each(|n| assert_eq!(ms(paced.recv().unwrap()), Some(n * 20), "no picture any more"));
        cancel.cancel();
        assert!(paced.recv().is_err());
        drop(tx);
    }

    #[test]
    fn a_time_that_is_far_away_is_not_waited_for() {
        let cancel = Cancel::new();
        let (_leader, tx, mut paced) = with(1, &cancel);
        let times = [i64::MAX / 2000, FAR_MS + 1, -FAR_MS, 20];
        times.iter().for_each(|time| assert!(tx.send(packet(*time)).is_ok()));
        for time in [0].into_iter().chain(times) {
            assert_eq!(ms(paced.recv().unwrap()), Some(time));
        }
    }

    #[test]
    fn a_cancel_ends_the_wait() {
        let cancel = Cancel::new();
        let (_leader, _tx, mut paced) = with(HELD_PACKETS as i64 - 1, &cancel);
        (0..=AHEAD_MS / 20).for_each(|_| assert!(paced.recv().is_ok()));
        thread::scope(|scope| {
            let waits = scope.spawn(|| paced.recv().is_err());
            cancel.cancel();
            assert!(waits.join().unwrap());
        });
    }
}

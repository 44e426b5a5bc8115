//! Samples on their way to the muxers, several at once where they come several at once.
//!
//! What enters: samples that are copied, hundreds within some milliseconds. What leaves: the same, in their
//! order, in bundles: to wake the muxer's thread costs more than to copy a sample. Whoever fills a bundle says
//! when nothing more is at hand; nothing waits here for more to come.

use super::items::MuxItem;
use crate::base::cancel::{QueueTx, Sent};
use crate::base::error::Result;

/// A bundle leaves when it is so large.
const MOST_BYTES: usize = 128 * 1024;
/// Or has so many items.
const MOST_ITEMS: usize = 64;

/// The way to the muxers of all renditions.
#[derive(Debug)]
pub struct Bundle {
    outlets: Vec<QueueTx<MuxItem>>,
    items: Vec<MuxItem>,
    bytes: usize,
}

impl Bundle {
    /// One with the item that says what comes.
    pub fn new(outlets: Vec<QueueTx<MuxItem>>, first: MuxItem) -> Self {
        Self { outlets, items: vec![first], bytes: 0 }
    }

    /// Lays an item in.
    ///
    /// # Errors
    /// The run is cancelled.
    pub fn send(&mut self, item: MuxItem) -> Result<Sent> {
        self.bytes += match &item {
            MuxItem::Video { sample, .. } | MuxItem::Audio(sample) => sample.data.len(),
            _ => 0,
        };
        self.items.push(item);
        if self.bytes < MOST_BYTES && self.items.len() < MOST_ITEMS { Ok(Sent::Queued) } else { self.flush() }
    }

    /// Sends what is in it. [`Sent::ConsumerGone`]: nobody listens any more.
    ///
    /// # Errors
    /// The run is cancelled.
    pub fn flush(&mut self) -> Result<Sent> {
        if self.items.is_empty() {
            return Ok(Sent::Queued);
        }
        self.bytes = 0;
        let item = MuxItem::Several(std::mem::take(&mut self.items));
        let mut heard = Sent::ConsumerGone;
        for tx in &self.outlets {
            if tx.send(item.clone())? == Sent::Queued {
                heard = Sent::Queued;
            }
        }
        Ok(heard)
    }

    /// Sends all there is, and this last item: nothing more is wanted.
    ///
    /// # Errors
    /// The run is cancelled.
    pub fn finish(&mut self, last: MuxItem) -> Result<Sent> {
        self.items.push(last);
        self.flush().map(|_| Sent::ConsumerGone)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::cancel::{Cancel, QueueRx, queue};
    use crate::base::error::Stage;
    use crate::model::track::Sample;

    fn sound(pts: i64, bytes: usize) -> MuxItem {
        MuxItem::Audio(Sample { pts, dts: pts, duration: 1, key: true, data: vec![0; bytes].into() })
    }

    fn times(input: &QueueRx<MuxItem>) -> Vec<i64> {
        let MuxItem::Several(items) = input.recv().unwrap().unwrap() else { panic!("a bundle") };
        let time = |item| if let MuxItem::Audio(sample) = item { sample.pts } else { -1 };
        items.into_iter().map(time).collect()
    }

    #[test]
    fn it_leaves_when_it_is_large_or_told_to_and_goes_to_all() {
        let cancel = Cancel::new();
        let (queues, ends): (Vec<_>, Vec<_>) = (0..2).map(|_| queue(4, &cancel, Stage::Mux)).unzip();
        let mut bundle = Bundle::new(queues, sound(0, 1));
        assert!(ends[0].is_empty(), "nothing is sent before there is reason to");
        bundle.send(sound(1, MOST_BYTES)).unwrap();
        (2..4).for_each(|n| assert_eq!(bundle.send(sound(n, 1)), Ok(Sent::Queued)));
        bundle.flush().unwrap();
        bundle.flush().unwrap();
        for end in &ends {
            assert_eq!((times(end), times(end)), (vec![0, 1], vec![2, 3]));
            assert!(end.is_empty(), "nothing is sent twice");
        }
        let one_less = ends.into_iter().next();
        bundle.send(sound(4, 1)).unwrap();
        bundle.send(sound(5, MOST_BYTES)).unwrap();
        drop(one_less);
        bundle.send(sound(6, 1)).unwrap();
        assert_eq!(bundle.flush(), Ok(Sent::ConsumerGone));
        assert_eq!(bundle.finish(sound(7, 1)), Ok(Sent::ConsumerGone));
    }
}

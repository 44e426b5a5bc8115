//! Samples waiting to fill an encoder's frame.

use crate::av::{AvError, Frame};

/// Planar float samples in order. Holds at most one decoded piece more than a frame.
#[derive(Debug)]
pub struct Fifo {
    channels: Vec<Vec<f32>>,
    /// Samples at the front that were taken already.
    taken: usize,
}

impl Fifo {
    /// An empty line of so many channels.
    pub fn new(channels: u32) -> Self {
        Self { channels: vec![Vec::new(); channels as usize], taken: 0 }
    }

    /// Samples that wait.
    pub fn len(&self) -> usize {
        self.channels.first().map_or(0, Vec::len) - self.taken
    }

    /// Adds a planar float frame, leaving out its first `skip` samples.
    pub fn push(&mut self, frame: &Frame, skip: usize) {
        self.compact();
        for (i, channel) in self.channels.iter_mut().enumerate() {
            channel.extend_from_slice(frame.plane_f32(i).get(skip..).unwrap_or(&[]));
        }
    }

    /// Adds silence.
    pub fn push_silence(&mut self, samples: usize) {
        self.compact();
        for channel in &mut self.channels {
            channel.resize(channel.len() + samples, 0.0);
        }
    }

    /// Leaves out samples at the front.
    pub fn skip(&mut self, samples: usize) {
        self.taken += samples.min(self.len());
    }

    /// A frame of `samples` at `sample_rate`, if so many wait.
    pub fn pop(&mut self, samples: usize, sample_rate: u32) -> Result<Option<Frame>, AvError> {
        if self.len() < samples {
            return Ok(None);
        }
        let channels = u32::try_from(self.channels.len()).unwrap_or(0);
        let mut frame = Frame::planar_float(sample_rate, channels, samples)?;
        for (i, channel) in self.channels.iter().enumerate() {
            let from = channel.get(self.taken..self.taken + samples).unwrap_or(&[]);
            frame.plane_f32_mut(i).copy_from_slice(from);
        }
        self.taken += samples;
        Ok(Some(frame))
    }

    fn compact(&mut self) {
        for channel in &mut self.channels {
            channel.drain(..self.taken);
        }
        self.taken = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn samples_come_out_as_they_went_in() {
        let mut fifo = Fifo::new(2);
        let mut frame = Frame::planar_float(48_000, 2, 100).unwrap();
        for channel in 0..2 {
            for (i, s) in frame.plane_f32_mut(channel).iter_mut().enumerate() {
                *s = (channel * 1000 + i) as f32;
            }
        }
        fifo.push(&frame, 10);
        fifo.push_silence(20);
        fifo.skip(5);
        assert_eq!(fifo.len(), 105);
        let out = fifo.pop(90, 48_000).unwrap().unwrap();
        assert_eq!(out.plane_f32(1)[0], 1015.0);
        assert_eq!(out.plane_f32(0)[84], 99.0);
        assert_eq!(out.plane_f32(0)[85], 0.0);
        assert!(fifo.pop(16, 48_000).unwrap().is_none());
        assert_eq!(fifo.len(), 15);
    }
}

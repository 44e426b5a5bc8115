//! The unbroken line of samples between decoder and encoder, at the encoder's rate.

use super::fifo::Fifo;
use super::splice::{Placement, Splice};
use crate::av::graph::Graph;
use crate::av::{AvError, Frame, Received};

/// Splices at the source's rate, resamples if the rates differ, cuts into frames.
#[derive(Debug)]
pub struct Line {
    splice: Splice,
    source_rate: u32,
    rate: u32,
    channels: u32,
    fifo: Fifo,
    resampler: Option<Graph>,
    /// Samples at the encoder's rate to leave out, because the line had to begin a little early.
    early: usize,
}

impl Line {
    /// A line whose first sample at the encoder's rate is `start` (from title time 0, not negative).
    ///
    /// When the rates differ the source line begins at or before that at a multiple of the shortest
    /// span that is whole in both rates: so the resampler's phase does not depend on the start.
    pub fn new(source_rate: u32, rate: u32, channels: u32, start: i64) -> Self {
        let shared = gcd(source_rate.max(1), rate.max(1));
        let (source_step, step) = (i64::from(source_rate.max(1) / shared), i64::from(rate.max(1) / shared));
        let steps = start.div_euclid(step);
        Self {
            splice: Splice::new(steps * source_step, source_rate),
            source_rate,
            rate,
            channels,
            fifo: Fifo::new(channels),
            resampler: None,
            early: usize::try_from(start - steps * step).unwrap_or(0),
        }
    }

    /// The next position at the source's rate.
    pub fn next_position(&self) -> i64 {
        self.splice.next_position()
    }

    /// As [`Splice::place`]; the caller then pushes the silence and the rest of the piece.
    pub fn place(&mut self, position: i64, samples: usize) -> Placement {
        self.splice.place(position, samples)
    }

    /// Adds a placed piece (planar float, source rate) without its first `skip` samples.
    pub fn push(&mut self, frame: &Frame, skip: usize) -> Result<(), AvError> {
        if self.source_rate == self.rate {
            self.fifo.push(frame, skip);
            return Ok(());
        }
        let rest = frame.samples().saturating_sub(skip);
        let mut cut = Frame::planar_float(self.source_rate, self.channels, rest)?;
        for channel in 0..self.channels as usize {
            if let Some(from) = frame.plane_f32(channel).get(skip..) {
                cut.plane_f32_mut(channel).copy_from_slice(from);
            }
        }
        self.resample(&cut)
    }

    /// Adds silence at the source's rate (already placed, or at the end).
    pub fn push_silence(&mut self, samples: u64) -> Result<(), AvError> {
        let samples = usize::try_from(samples).unwrap_or(0);
        if self.source_rate == self.rate {
            self.fifo.push_silence(samples);
            return Ok(());
        }
        let frame = Frame::planar_float(self.source_rate, self.channels, samples)?;
        self.resample(&frame)
    }

    /// A full frame for the encoder, if there is one.
    pub fn pop(&mut self, samples: u32) -> Result<Option<Frame>, AvError> {
        if self.early > 0 {
            let n = self.early.min(self.fifo.len());
            self.fifo.skip(n);
            self.early -= n;
        }
        self.fifo.pop(samples as usize, self.rate)
    }

    fn resample(&mut self, frame: &Frame) -> Result<(), AvError> {
        let graph = match &mut self.resampler {
            Some(graph) => graph,
            none => none.insert(Graph::audio(frame, &format!("aresample={}", self.rate))?),
        };
        graph.push(Some(frame))?;
        let mut out = Frame::new()?;
        while graph.pull(&mut out)? == Received::Item {
            self.fifo.push(&out, 0);
        }
        Ok(())
    }
}

fn gcd(a: u32, b: u32) -> u32 {
    if b == 0 { a } else { gcd(b, a % b) }
}

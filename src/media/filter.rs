//! The filter stage of one rendition: size and pixel format.
//!
//! A picture that comes again for the next slot is not scaled again.

use super::items::{Raw, Scaled};
use crate::av::graph::Graph;
use crate::av::{AvError, Frame, Received};
use crate::base::cancel::{QueueRx, QueueTx, Sent};
use crate::base::error::{Error, Result, Stage};
use crate::base::time::Rational;
use std::sync::Arc;

/// The stage.
pub struct Filter {
    /// In libav's filter language, one input, one output.
    description: String,
    threads: u32,
    frame_duration: Rational,
    sample_aspect_ratio: Rational,
    input: QueueRx<Raw>,
    output: QueueTx<Scaled>,
    graph: Option<Graph>,
    /// The last picture and what became of it.
    last: Option<(Arc<Frame>, Frame)>,
}

impl Filter {
    /// A stage that runs `description` on every picture.
    pub fn new(
        description: String,
        threads: u32,
        frame_duration: Rational,
        sample_aspect_ratio: Rational,
        input: QueueRx<Raw>,
        output: QueueTx<Scaled>,
    ) -> Self {
        Self {
            description,
            threads,
            frame_duration,
            sample_aspect_ratio,
            input,
            output,
            graph: None,
            last: None,
        }
    }

    /// Runs until the decoder ends or the encoder wants no more.
    pub fn run(mut self) -> Result<()> {
        loop {
            let item = match self.input.recv()? {
                Some(Raw::Picture { n, key, frame }) => {
                    let frame =
                        self.scaled(&frame).map_err(|e| e.at(Stage::Filter, "cannot scale the picture"))?;
                    Scaled::Picture { n, key, frame }
                }
                Some(Raw::End { end }) => {
                    self.output.send(Scaled::End { end })?;
                    return Ok(());
                }
                None => return Err(Error::internal(Stage::Filter, "the decoder ended without a word")),
            };
            if self.output.send(item)? == Sent::ConsumerGone {
                return Ok(());
            }
        }
    }

    fn scaled(&mut self, frame: &Arc<Frame>) -> Result<Frame, AvError> {
        if let Some((source, done)) = &self.last
            && Arc::ptr_eq(source, frame)
        {
            return done.share();
        }
        let done = self.filter(frame)?;
        let share = done.share()?;
        self.last = Some((frame.clone(), done));
        Ok(share)
    }

    fn filter(&mut self, frame: &Frame) -> Result<Frame, AvError> {
        let graph = match &mut self.graph {
            Some(graph) if graph.fits(frame) => graph,
            stale => stale.insert(Graph::video(
                frame,
                self.frame_duration,
                self.sample_aspect_ratio,
                &self.description,
                self.threads,
            )?),
        };
        graph.push(Some(frame))?;
        let mut out = Frame::new()?;
        match graph.pull(&mut out)? {
            Received::Item => Ok(out),
            // Every filter here gives one picture for one picture.
            _ => Err(AvError::EXIT),
        }
    }
}

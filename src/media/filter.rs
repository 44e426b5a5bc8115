//! The filter stage of one rendition: size and pixel format.
//!
//! A picture that comes again for the next slot is not scaled again. Two scalers do the work: zimg,
//! where the linked libav has it and only the size changes (a third faster than swscale at the same
//! filter), and swscale for everything else.

use super::engine::DeviceFilter;
use super::items::{Raw, Scaled};
use crate::av::graph::Graph;
use crate::av::{AvError, Frame, Received, registry};
use crate::base::cancel::{QueueRx, QueueTx, Sent};
use crate::base::error::{Error, Result, Stage};
use crate::base::time::Rational;
use std::sync::Arc;

/// What the encoder wants to be given.
#[derive(Clone, Debug)]
pub struct Scaling {
    /// Pixels.
    pub width: u32,
    /// Pixels.
    pub height: u32,
    /// libav's name of the pixel format.
    pub pixel_format: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Scaler {
    Zimg,
    Swscale,
}

impl Scaling {
    /// The filter graph in libav's language: one input, one output.
    fn description(&self, scaler: Scaler) -> String {
        let Self { width, height, pixel_format } = self;
        match scaler {
            // The parameters are swscale's: zimg's own bicubic is softer.
            Scaler::Zimg => format!("zscale=w={width}:h={height}:f=bicubic:param_a=0:param_b=0.6"),
            Scaler::Swscale => format!("scale={width}:{height}:flags=bicubic,format={pixel_format}"),
        }
    }

    /// zimg refuses sizes that do not fit the chroma planes, treats fields as fields, and would need
    /// to be told what to do about formats and ranges.
    fn suits_zimg(&self, frame: &Frame) -> bool {
        frame.has_format(&self.pixel_format)
            && (frame.width() != self.width || frame.height() != self.height)
            && frame.width().is_multiple_of(2)
            && frame.height().is_multiple_of(2)
            && !frame.is_interlaced()
            && !frame.is_full_range()
    }
}

/// The stage.
pub struct Filter {
    scaling: Scaling,
    frame_duration: Rational,
    sample_aspect_ratio: Rational,
    input: QueueRx<Raw>,
    output: QueueTx<Scaled>,
    /// Where a device has a part in it.
    there: Option<DeviceFilter>,
    /// Taken away when the linked libav has no zimg or it refuses a picture.
    may_use_zimg: bool,
    graph: Option<(Scaler, Graph)>,
    /// The last picture and what became of it.
    last: Option<(Arc<Frame>, Frame)>,
}

impl Filter {
    /// A stage that makes every picture as `scaling` says.
    pub fn new(
        scaling: Scaling,
        frame_duration: Rational,
        sample_aspect_ratio: Rational,
        there: Option<DeviceFilter>,
        input: QueueRx<Raw>,
        output: QueueTx<Scaled>,
    ) -> Self {
        let may_use_zimg = registry::has_filter("zscale");
        Self {
            scaling,
            frame_duration,
            sample_aspect_ratio,
            input,
            output,
            there,
            may_use_zimg,
            graph: None,
            last: None,
        }
    }

    /// Runs until the decoder ends or the encoder wants no more.
    pub fn run(mut self) -> Result<()> {
        loop {
            let item = match self.input.recv()? {
                Some(Raw::Picture { n, key, frame }) => {
                    let frame = self.scaled(&frame)?;
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

    fn scaled(&mut self, frame: &Arc<Frame>) -> Result<Frame> {
        if let Some((source, done)) = &self.last
            && Arc::ptr_eq(source, frame)
        {
            return done.share().map_err(cannot_scale);
        }
        let done = self.filter(frame)?;
        let share = done.share().map_err(cannot_scale)?;
        self.last = Some((frame.clone(), done));
        Ok(share)
    }

    fn filter(&mut self, frame: &Frame) -> Result<Frame> {
        if let Some(there) = &self.there
            && let Some(description) = there.description(frame.is_on_device(), &self.scaling)
        {
            let place = (self.frame_duration, self.sample_aspect_ratio);
            return there.graphs.pass(frame, place, &description);
        }
        if self.may_use_zimg && self.scaling.suits_zimg(frame) {
            match self.pass(Scaler::Zimg, frame) {
                Ok(Some(done)) => return Ok(done),
                refused => {
                    tracing::debug!("zimg does not take the pictures ({refused:?}); swscale does the work");
                    self.may_use_zimg = false;
                }
            }
        }
        let done = self.pass(Scaler::Swscale, frame).map_err(cannot_scale)?;
        done.ok_or_else(|| Error::internal(Stage::Filter, "the scaler gave no picture for a picture"))
    }

    /// One picture through the graph; `None` when none came out, which no filter here does.
    fn pass(&mut self, scaler: Scaler, frame: &Frame) -> Result<Option<Frame>, AvError> {
        let graph = match &mut self.graph {
            Some((of, graph)) if *of == scaler && graph.fits(frame) => graph,
            stale => {
                let description = self.scaling.description(scaler);
                let (duration, sar) = (self.frame_duration, self.sample_aspect_ratio);
                &mut stale.insert((scaler, Graph::video(frame, duration, sar, &description, 1)?)).1
            }
        };
        graph.push(Some(frame))?;
        let mut out = Frame::new()?;
        Ok(matches!(graph.pull(&mut out)?, Received::Item).then_some(out))
    }
}

fn cannot_scale(e: AvError) -> Error {
    e.at(Stage::Filter, "cannot scale the picture")
}

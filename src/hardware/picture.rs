//! The picture that trials encode and look for again.
//!
//! What enters: its number and depth. What leaves: a frame that is smooth, moves, and is not the same
//! anywhere; and how far another frame is from one. Pure but for libav's converters.

use crate::av::graph::Graph;
use crate::av::{AvError, Frame, Received};
use crate::base::time::Rational;

/// Large enough for every encoder's least size, no multiple of 16 high, so that cropping shows.
pub const SIZE: (u32, u32) = (640, 360);
/// Pictures each second.
pub const RATE: i64 = 25;
/// Half a second.
pub const COUNT: u64 = 13;
/// Where a key picture is asked for besides the first.
pub const SECOND_KEY: u64 = 6;

/// Picture `n`, in memory, in `format`.
pub fn picture(n: u64, format: &str) -> Result<Frame, AvError> {
    let (width, height) = SIZE;
    let mut frame = Frame::planar_420(width, height, |plane, x, y| {
        let moved = u64::from(x) + 4 * n;
        match plane {
            0 => wave(moved, 96) / 2 + wave(u64::from(y) + 2 * n, 64) / 2 + 16,
            1 => wave(moved, 160) / 2 + 64,
            _ => wave(u64::from(y), 120) / 2 + 64,
        }
    })?;
    frame.set_pts(i64::try_from(n).unwrap_or(0));
    frame.set_television_range();
    if format == "yuv420p" { Ok(frame) } else { convert(&frame, &format!("format={format}")) }
}

/// Up and down between 0 and 192, without an edge.
fn wave(at: u64, period: u64) -> u8 {
    let phase = at % period;
    let up = phase.min(period - phase);
    u8::try_from(up * 2 * 192 / period).unwrap_or(u8::MAX)
}

/// A frame through filters, in memory or to it.
pub fn convert(frame: &Frame, filters: &str) -> Result<Frame, AvError> {
    pass(&mut Graph::video(frame, time_base(), Rational::from_int(1), filters, 1)?, frame)
}

/// One frame in, one out.
pub fn pass(graph: &mut Graph, frame: &Frame) -> Result<Frame, AvError> {
    graph.push(Some(frame))?;
    let mut out = Frame::new()?;
    match graph.pull(&mut out)? {
        Received::Item => Ok(out),
        _ => Err(AvError::EXIT),
    }
}

/// Seconds each picture.
pub fn time_base() -> Rational {
    Rational::new(1, RATE)
}

/// Peak signal to noise ratio of the luma of two pictures of one size, in dB; 100 where they are the same.
///
/// # Errors
/// libav's, where one cannot be converted.
pub fn luma_psnr_db(one: &Frame, other: &Frame) -> Result<f64, AvError> {
    let rows = |frame: &Frame| -> Result<Vec<u8>, AvError> {
        let plain = convert(frame, "format=yuv420p")?;
        let (width, height) = (plain.width() as usize, plain.height() as usize);
        Ok(plain.plane_rows(0, width, height).unwrap_or_default())
    };
    let (one, other) = (rows(one)?, rows(other)?);
    if one.is_empty() || one.len() != other.len() {
        return Ok(0.0);
    }
    let squares: f64 = one.iter().zip(&other).map(|(a, b)| (f64::from(*a) - f64::from(*b)).powi(2)).sum();
    let mean = squares / one.len() as f64;
    Ok(if mean == 0.0 { 100.0 } else { 10.0 * (255.0 * 255.0 / mean).log10() })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_picture_moves_and_is_itself() {
        let (one, next) = (picture(0, "yuv420p").unwrap(), picture(1, "yuv420p").unwrap());
        assert_eq!(luma_psnr_db(&one, &picture(0, "yuv420p").unwrap()).unwrap(), 100.0);
        let apart = luma_psnr_db(&one, &next).unwrap();
        assert!(apart < 35.0, "{apart} dB");
        let deep = luma_psnr_db(&one, &picture(0, "p010le").unwrap()).unwrap();
        assert!(deep > 50.0, "{deep} dB: only the depth differs");
    }
}

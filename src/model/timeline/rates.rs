//! Frame rates: which one a source really has, and on which grid it goes out.

use crate::base::time::{Rational, Rounding};

/// No output grid is faster than this: TVs and the H.264 levels that they know end there.
pub const MAX_GRID_RATE: Rational = Rational::from_int(60);

/// The rates that films and broadcasts have. Containers store them rounded; the true ones count.
const STANDARD: [Rational; 15] = [
    Rational::from_int(10),
    Rational::from_int(12),
    Rational::from_int(15),
    Rational::new(24_000, 1001),
    Rational::from_int(24),
    Rational::from_int(25),
    Rational::new(30_000, 1001),
    Rational::from_int(30),
    Rational::new(48_000, 1001),
    Rational::from_int(48),
    Rational::from_int(50),
    Rational::new(60_000, 1001),
    Rational::from_int(60),
    Rational::new(120_000, 1001),
    Rational::from_int(120),
];

/// How far a measured rate may lie from a standard one to be taken for it: 0.03 %. The nearest pair
/// of standard rates (24 and 24000/1001) is 0.1 % apart, so at most one fits.
const TOLERANCE: Rational = Rational::new(3, 10_000);

/// The standard rate that `measured` is, or `measured` itself when it is none of them.
pub fn snap_rate(measured: Rational) -> Rational {
    let fits = |standard: &Rational| (measured / *standard - Rational::from_int(1)).abs() <= TOLERANCE;
    STANDARD.into_iter().find(fits).unwrap_or(measured)
}

/// The output grid for a source.
///
/// `measured` is the source's rate (average for a constant source, the commonest for a variable
/// one). A variable source goes onto the next standard rate up, so that hardly a frame is lost.
/// Rates above `max` (and [`MAX_GRID_RATE`]) are halved, thirded and so on, so that every kept frame
/// is a source frame. Rates that make no sense (nought, negative) become 25.
pub fn grid_rate(measured: Rational, constant: bool, max: Rational) -> Rational {
    let max = max.min(MAX_GRID_RATE);
    if !measured.is_positive() || !max.is_positive() {
        return Rational::from_int(25);
    }
    let rate = if constant { snap_rate(measured) } else { next_standard(measured) };
    let divisor = (rate / max).round(Rounding::Ceil).max(1);
    simplify(rate / Rational::from_int(divisor))
}

fn next_standard(measured: Rational) -> Rational {
    let snapped = snap_rate(measured);
    STANDARD.into_iter().find(|s| *s >= snapped).unwrap_or(snapped)
}

/// Keeps the denominators of odd rates within what time bases bear: 1001 for the standard ones, at
/// most 1000 otherwise.
fn simplify(rate: Rational) -> Rational {
    if rate.den() <= 1001 && rate.num() <= 1_000_000 {
        return rate;
    }
    let milli = (rate * Rational::from_int(1000)).round(Rounding::Nearest);
    Rational::new(milli.max(1), 1000)
}

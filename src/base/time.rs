//! Exact time: rationals and rounding, nothing else.
//!
//! What enters: counts of ticks, frames or samples with their rate. What leaves: the same instants
//! in another unit, exact or rounded in a way that the caller names. Nothing here uses floating
//! point except [`Rational::to_f64`], which is for people to read and never for arithmetic.

use std::cmp::Ordering;
use std::fmt;
use std::ops::{Add, Div, Mul, Neg, Sub};

/// A reduced fraction with a positive denominator.
///
/// Used for instants and spans in seconds, for rates in units each second, and for time bases in
/// seconds each tick. Arithmetic runs in 128 bits; a result that no longer fits into 64 bits after
/// reduction is a bug in the caller (media time bases and lengths stay many magnitudes below) and
/// saturates rather than wraps.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Rational {
    num: i64,
    den: i64,
}

/// How [`Rational::round`] and [`rescale`] treat what lies between two integers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rounding {
    /// Towards minus infinity.
    Floor,
    /// Towards plus infinity.
    Ceil,
    /// To the nearest; halves away from minus infinity (`floor(x + 1/2)`), so that the result does
    /// not depend on where zero lies.
    Nearest,
}

impl Rational {
    /// Nought.
    pub const ZERO: Self = Self { num: 0, den: 1 };
    /// The MPEG system clock, 90 kHz, as a time base.
    pub const TB_90K: Self = Self { num: 1, den: 90_000 };

    /// `num / den` in lowest terms; `None` when `den` is 0.
    pub fn checked_new(num: i64, den: i64) -> Option<Self> {
        (den != 0).then(|| reduce(i128::from(num), i128::from(den)))
    }

    /// `num / den` in lowest terms.
    ///
    /// # Panics
    /// When `den` is 0. For values that come from a file use [`Rational::checked_new`].
    pub const fn new(num: i64, den: i64) -> Self {
        assert!(den != 0, "a fraction needs a denominator");
        let g = gcd_u64(num.unsigned_abs(), den.unsigned_abs()) as i64;
        let sign = if den < 0 { -1 } else { 1 };
        if g == 0 {
            return Self { num: 0, den: 1 };
        }
        Self { num: sign * (num / g), den: sign * (den / g) }
    }

    /// A whole number.
    pub const fn from_int(n: i64) -> Self {
        Self { num: n, den: 1 }
    }

    /// Numerator in lowest terms.
    pub const fn num(self) -> i64 {
        self.num
    }

    /// Denominator in lowest terms, always positive.
    pub const fn den(self) -> i64 {
        self.den
    }

    /// `1 / self`; `None` for nought.
    pub fn checked_recip(self) -> Option<Self> {
        Self::checked_new(self.den, self.num)
    }

    /// `1 / self`.
    ///
    /// # Panics
    /// For nought.
    pub fn recip(self) -> Self {
        Self::new(self.den, self.num)
    }

    /// The integer near this value, by the rounding asked for.
    pub fn round(self, rounding: Rounding) -> i64 {
        saturate(div_round(i128::from(self.num), i128::from(self.den), rounding))
    }

    /// For display and for estimates.
    pub fn to_f64(self) -> f64 {
        self.num as f64 / self.den as f64
    }

    /// Whether this is above nought.
    pub const fn is_positive(self) -> bool {
        self.num > 0
    }

    /// Milliseconds, when this is a time in seconds; to the nearest.
    pub fn to_ms(self) -> i64 {
        (self * Self::from_int(1000)).round(Rounding::Nearest)
    }

    /// The distance from nought.
    pub fn abs(self) -> Self {
        Self { num: self.num.abs(), den: self.den }
    }

    /// The fraction nearest to `value` with a denominator of at most one million, for numbers that
    /// people type (`--start 12.5`). `None` for what is not a finite number of sensible size.
    pub fn from_f64(value: f64) -> Option<Self> {
        const SCALE: f64 = 1_000_000.0;
        (value.is_finite() && value.abs() < 1e12)
            .then(|| Self::new((value * SCALE).round() as i64, SCALE as i64))
    }
}

/// `ticks` of `from` (seconds each tick) as ticks of `to`, rounded as asked, exact in between.
pub fn rescale(ticks: i64, from: Rational, to: Rational, rounding: Rounding) -> i64 {
    let num = i128::from(from.num) * i128::from(to.den);
    let den = i128::from(from.den) * i128::from(to.num);
    match i128::from(ticks).checked_mul(num) {
        Some(product) => saturate(div_round(product, den, rounding)),
        None => (Rational::from_int(ticks) * from / to).round(rounding),
    }
}

const fn gcd_u64(mut a: u64, mut b: u64) -> u64 {
    while b != 0 {
        (a, b) = (b, a % b);
    }
    a
}

fn gcd(mut a: u128, mut b: u128) -> u128 {
    while b != 0 {
        (a, b) = (b, a % b);
    }
    a
}

fn reduce(num: i128, den: i128) -> Rational {
    let g = gcd(num.unsigned_abs(), den.unsigned_abs()).max(1) as i128;
    let (mut num, mut den) = (num / g, den / g);
    if den < 0 {
        (num, den) = (-num, -den);
    }
    // Outside 64 bits: give up precision, never sign or magnitude.
    while num.unsigned_abs() > i64::MAX as u128 && den > 1 || den > i128::from(i64::MAX) {
        num /= 2;
        den = (den / 2).max(1);
    }
    Rational { num: saturate(num), den: saturate(den) }
}

fn saturate(v: i128) -> i64 {
    v.clamp(i128::from(i64::MIN + 1), i128::from(i64::MAX)) as i64
}

fn div_round(num: i128, den: i128, rounding: Rounding) -> i128 {
    let (num, den) = if den < 0 { (-num, -den) } else { (num, den) };
    match rounding {
        Rounding::Floor => num.div_euclid(den),
        Rounding::Ceil => -((-num).div_euclid(den)),
        Rounding::Nearest => (2 * num + den).div_euclid(2 * den),
    }
}

impl Add for Rational {
    type Output = Self;
    fn add(self, o: Self) -> Self {
        let (an, ad, bn, bd) =
            (i128::from(self.num), i128::from(self.den), i128::from(o.num), i128::from(o.den));
        reduce(an * bd + bn * ad, ad * bd)
    }
}

impl Sub for Rational {
    type Output = Self;
    fn sub(self, o: Self) -> Self {
        self + -o
    }
}

impl Mul for Rational {
    type Output = Self;
    fn mul(self, o: Self) -> Self {
        reduce(i128::from(self.num) * i128::from(o.num), i128::from(self.den) * i128::from(o.den))
    }
}

impl Div for Rational {
    type Output = Self;
    #[allow(clippy::suspicious_arithmetic_impl)] // dividing is multiplying by the inverse
    fn div(self, o: Self) -> Self {
        self * o.recip()
    }
}

impl Neg for Rational {
    type Output = Self;
    fn neg(self) -> Self {
        Self { num: -self.num, den: self.den }
    }
}

impl PartialOrd for Rational {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Rational {
    fn cmp(&self, o: &Self) -> Ordering {
        (i128::from(self.num) * i128::from(o.den)).cmp(&(i128::from(o.num) * i128::from(self.den)))
    }
}

impl fmt::Debug for Rational {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.num, self.den)
    }
}

impl fmt::Display for Rational {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.den == 1 { write!(f, "{}", self.num) } else { write!(f, "{}/{}", self.num, self.den) }
    }
}

impl serde::Serialize for Rational {
    fn serialize<S: serde::Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        s.collect_str(self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn rescale_there_and_back_stays_within_one_tick(t in -50_000_000_000i64..50_000_000_000, n in 1i64..2000, d in 1i64..200_000) {
            let tb = Rational::new(n, d);
            let there = rescale(t, tb, Rational::TB_90K, Rounding::Nearest);
            let exact = Rational::from_int(t) * tb;
            let err = (Rational::from_int(there) * Rational::TB_90K - exact).abs();
            prop_assert!(err <= Rational::new(1, 180_000));
        }

        #[test]
        fn floor_and_ceil_enclose(num in -1_000_000i64..1_000_000, den in 1i64..10_000) {
            let r = Rational::new(num, den);
            let (f, c) = (r.round(Rounding::Floor), r.round(Rounding::Ceil));
            prop_assert!(Rational::from_int(f) <= r && r <= Rational::from_int(c) && c - f <= 1);
            let n = r.round(Rounding::Nearest);
            prop_assert!((Rational::from_int(n) - r).abs() <= Rational::new(1, 2));
        }

        #[test]
        fn field_laws(a in -9999i64..9999, b in 1i64..9999, c in -9999i64..9999, d in 1i64..9999) {
            let (x, y) = (Rational::new(a, b), Rational::new(c, d));
            prop_assert_eq!(x + y - y, x);
            if y != Rational::ZERO { prop_assert_eq!(x * y / y, x); }
            prop_assert_eq!(x.cmp(&y), x.to_f64().partial_cmp(&y.to_f64()).unwrap());
        }
    }

    #[test]
    fn zero_denominators_from_files_are_none() {
        assert_eq!(Rational::checked_new(1, 0), None);
        assert_eq!(Rational::ZERO.checked_recip(), None);
    }
}

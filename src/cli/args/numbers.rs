//! Numbers as people type them, exact.
//!
//! What enters: text. What leaves: a number, or a sentence that says what would be right.

use crate::base::time::Rational;
use crate::model::job::{RateWish, RenditionWish};

/// Decimal places that are read; more would not fit and mean nothing.
const MAX_PLACES: usize = 9;

/// Bits each second: `3000000`, `3M`, `2.5M`, `800k` (thousands, not 1024s).
///
/// # Errors
/// What would be right.
pub fn bitrate(text: &str) -> Result<u64, String> {
    let (number, unit) = match text.strip_suffix(['k', 'K']) {
        Some(number) => (number, 1_000),
        None => text.strip_suffix(['m', 'M']).map_or((text, 1), |number| (number, 1_000_000)),
    };
    let bits = decimal(number).map(|n| n * Rational::from_int(unit)).filter(|bits| bits.den() == 1);
    let bits = bits.and_then(|bits| u64::try_from(bits.num()).ok()).filter(|bits| *bits > 0);
    bits.ok_or_else(|| "a bit rate is a number of bits each second such as 3000000, 3M or 800k".into())
}

/// A time: seconds with decimals, `mm:ss` or `h:mm:ss`.
///
/// # Errors
/// What would be right.
pub fn seconds(text: &str) -> Result<Rational, String> {
    parse_seconds(text).ok_or_else(|| "a time is seconds such as 12.5, or mm:ss, or h:mm:ss".into())
}

fn parse_seconds(text: &str) -> Option<Rational> {
    let sixty = Rational::from_int(60);
    let mut parts = text.rsplitn(3, ':');
    let mut sum = decimal(parts.next()?)?;
    let mut unit = Rational::from_int(1);
    let mut below = sum;
    for part in parts {
        // Behind a colon there are at most 59 of them.
        if below >= sixty {
            return None;
        }
        unit = unit * sixty;
        below = whole(part)?;
        sum = sum + below * unit;
    }
    Some(sum)
}

/// A rendition: `NAME:HEIGHT` or `NAME:HEIGHT:BITRATE`.
///
/// # Errors
/// What would be right.
pub fn rendition(text: &str) -> Result<RenditionWish, String> {
    let form = "a rendition is NAME:HEIGHT or NAME:HEIGHT:BITRATE, such as 720p:720:3M";
    let mut parts = text.splitn(3, ':');
    let (Some(name), Some(height)) = (parts.next(), parts.next()) else { return Err(form.into()) };
    let height = height.parse().map_err(|_| format!("{form}: {height:?} is not a height in pixels"))?;
    let bitrate_bps = parts.next().map(bitrate).transpose().map_err(|e| format!("{form}: {e}"))?;
    Ok(RenditionWish { rate: RateWish { crf: None, bitrate_bps }, ..RenditionWish::new(name, height) })
}

/// Digits, and a point with digits behind it.
fn decimal(text: &str) -> Option<Rational> {
    let (number, fraction) = text.split_once('.').unwrap_or((text, "0"));
    let part = whole(fraction).filter(|_| fraction.len() <= MAX_PLACES)?;
    let scale = 10i64.checked_pow(u32::try_from(fraction.len()).ok()?)?;
    Some(whole(number)? + part / Rational::from_int(scale))
}

/// Digits only, and so few that no sum of them overflows.
fn whole(text: &str) -> Option<Rational> {
    let digits = (1..=12).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_digit());
    text.parse().ok().filter(|_| digits).map(Rational::from_int)
}

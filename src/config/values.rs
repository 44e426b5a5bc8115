//! The kinds of value that YAML has no word for: lengths of time, sizes, secrets.
//!
//! What enters: text as people write it (`15s`, `2GiB`). What leaves: `Duration`s and bytes, or
//! nothing where the text means nothing. A secret leaves through [`Secret::expose`] and no other
//! door: neither `Debug`, `Display` nor serialising shows it. No ranges here, those belong to a key.

use serde::{Deserialize, Deserializer, Serialize, Serializer};
use std::fmt;
use std::time::Duration;
use subtle::ConstantTimeEq;
use utoipa::openapi::schema::{KnownFormat, Object, ObjectBuilder, SchemaFormat, SchemaType, Type};
use utoipa::openapi::{RefOr, Schema};
use utoipa::{PartialSchema, ToSchema};

/// What stands for a secret wherever something is shown.
pub const MASK: &str = "***";
/// `format` of a length of time in the JSON Schema.
pub const TIME_FORMAT: &str = "duration-with-unit";
/// `format` of a size in the JSON Schema.
pub const SIZE_FORMAT: &str = "size-in-bytes";

/// Beyond a hundred years a length of time is a slip, and sums with it would overflow.
const MAX_TIME_MS: u64 = 100 * 365 * 86_400_000;

/// A length of time as it was written: `500ms`, `15s`, `1m30s`, `2h`, `30d`, `0`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TimeText(String);

impl TimeText {
    /// This text, whatever it says.
    pub fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }

    /// What it says; `None` where that is nothing (no unit, an unknown one, units out of order, or
    /// more than a hundred years).
    pub fn duration(&self) -> Option<Duration> {
        parse_duration(&self.0)
    }
}

/// A size as it was written: `2GiB`, `500 MB`, `1.5GiB`, or a plain number of bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SizeText(String);

impl SizeText {
    /// This text, whatever it says.
    pub fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }

    /// What it says in bytes; `None` where that is nothing (an unknown unit, part of a byte without
    /// one, or more than 64 bits hold).
    pub fn bytes(&self) -> Option<u64> {
        parse_size(&self.0)
    }
}

/// Largest unit first, each at most once, so that `1m30s` has one reading only.
fn parse_duration(text: &str) -> Option<Duration> {
    if text == "0" {
        return Some(Duration::ZERO);
    }
    let mut rest = text;
    let mut total_ms = 0_u64;
    let mut last_unit_ms = u64::MAX;
    while !rest.is_empty() {
        let (number, after) = split_number(rest, |c| c.is_ascii_digit());
        let end = after.find(|c: char| c.is_ascii_digit()).unwrap_or(after.len());
        let (unit, after) = after.split_at_checked(end)?;
        let unit_ms = time_unit_ms(unit).filter(|ms| *ms < last_unit_ms)?;
        total_ms = number.parse::<u64>().ok()?.checked_mul(unit_ms)?.checked_add(total_ms)?;
        (last_unit_ms, rest) = (unit_ms, after);
    }
    (!text.is_empty() && total_ms <= MAX_TIME_MS).then(|| Duration::from_millis(total_ms))
}

fn time_unit_ms(unit: &str) -> Option<u64> {
    Some(match unit {
        "ms" => 1,
        "s" => 1000,
        "m" => 60_000,
        "h" => 3_600_000,
        "d" => 86_400_000,
        _ => return None,
    })
}

fn parse_size(text: &str) -> Option<u64> {
    let (number, unit) = split_number(text, |c| c.is_ascii_digit() || c == '.');
    if unit.is_empty() {
        return number.parse().ok();
    }
    let unit_bytes = size_unit_bytes(unit.strip_prefix(' ').unwrap_or(unit))?;
    let (whole, fraction) = number.split_once('.').unwrap_or((number, "0"));
    // Nine digits are a billionth: more cannot matter, and would overflow below.
    let scale = 10_u64.checked_pow(u32::try_from(fraction.len()).ok().filter(|digits| *digits <= 9)?)?;
    let part = u128::from(fraction.parse::<u64>().ok()?) * u128::from(unit_bytes) / u128::from(scale);
    whole.parse::<u64>().ok()?.checked_mul(unit_bytes)?.checked_add(u64::try_from(part).ok()?)
}

/// Powers of 1000 and of 1024 by their standard names. `2G` is refused: half the world means the other.
fn size_unit_bytes(unit: &str) -> Option<u64> {
    let unit = unit.to_ascii_lowercase();
    let (base, power) = match unit.as_str() {
        "b" => (1, 1),
        "kb" => (1000, 1),
        "mb" => (1000, 2),
        "gb" => (1000, 3),
        "tb" => (1000, 4),
        "kib" => (1024, 1),
        "mib" => (1024, 2),
        "gib" => (1024, 3),
        "tib" => (1024, 4),
        _ => return None,
    };
    u64::checked_pow(base, power)
}

fn split_number(text: &str, belongs: impl Fn(char) -> bool) -> (&str, &str) {
    let end = text.find(|c| !belongs(c)).unwrap_or(text.len());
    text.split_at_checked(end).unwrap_or((text, ""))
}

/// A token. Compare what a client sent with [`Secret::matches`] only.
#[derive(Clone, Default)]
pub struct Secret(String);

impl Secret {
    /// Keeps `text` from being shown.
    pub fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }

    /// The text itself, for the one place that sends or compares it.
    pub fn expose(&self) -> &str {
        &self.0
    }

    /// Whether nothing was configured.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Whether `given` is this secret, in a time that does not depend on where they differ. Nothing
    /// matches an empty secret.
    pub fn matches(&self, given: &[u8]) -> bool {
        !self.is_empty() && bool::from(self.0.as_bytes().ct_eq(given))
    }

    fn shown(&self) -> &'static str {
        if self.is_empty() { "" } else { MASK }
    }
}

impl PartialEq for Secret {
    fn eq(&self, other: &Self) -> bool {
        self.0.as_bytes().ct_eq(other.0.as_bytes()).into()
    }
}

impl Eq for Secret {}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Secret({})", self.shown())
    }
}

impl fmt::Display for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.shown())
    }
}

impl Serialize for Secret {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.shown())
    }
}

impl<'de> Deserialize<'de> for Secret {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer).map(Self)
    }
}

/// A number or a text, as YAML has them.
#[derive(Deserialize)]
#[serde(untagged)]
enum Written {
    Number(u64),
    Text(String),
}

impl Written {
    fn text(self) -> String {
        match self {
            Self::Number(number) => number.to_string(),
            Self::Text(text) => text,
        }
    }
}

/// A plain number stays one, so that what is printed can be read again without quotes.
fn serialize_written<S: Serializer>(text: &str, serializer: S) -> Result<S::Ok, S::Error> {
    match text.parse::<u64>() {
        Ok(number) => serializer.serialize_u64(number),
        Err(_) => serializer.serialize_str(text),
    }
}

impl Serialize for TimeText {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serialize_written(&self.0, serializer)
    }
}

impl<'de> Deserialize<'de> for TimeText {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Written::deserialize(deserializer).map(|written| Self(written.text()))
    }
}

impl Serialize for SizeText {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serialize_written(&self.0, serializer)
    }
}

impl<'de> Deserialize<'de> for SizeText {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Written::deserialize(deserializer).map(|written| Self(written.text()))
    }
}

fn text_or_number(format: &str, pattern: &str) -> ObjectBuilder {
    ObjectBuilder::new()
        .schema_type(SchemaType::Array(vec![Type::String, Type::Integer]))
        .format(Some(SchemaFormat::Custom(format.into())))
        .pattern(Some(pattern))
        .minimum(Some(0))
}

fn finished(object: impl Into<Object>) -> RefOr<Schema> {
    RefOr::T(Schema::Object(object.into()))
}

impl PartialSchema for TimeText {
    fn schema() -> RefOr<Schema> {
        // As a number nought alone has a meaning.
        finished(text_or_number(TIME_FORMAT, "^(0|([0-9]+(ms|s|m|h|d))+)$").maximum(Some(0)).build())
    }
}

impl ToSchema for TimeText {}

impl PartialSchema for SizeText {
    fn schema() -> RefOr<Schema> {
        let pattern = "^([0-9]+|[0-9]+(\\.[0-9]{1,9})? ?([bB]|[kKmMgGtT][iI]?[bB]))$";
        finished(text_or_number(SIZE_FORMAT, pattern).build())
    }
}

impl ToSchema for SizeText {}

impl PartialSchema for Secret {
    fn schema() -> RefOr<Schema> {
        let format = SchemaFormat::KnownFormat(KnownFormat::Password);
        finished(ObjectBuilder::new().schema_type(Type::String).format(Some(format)).build())
    }
}

impl ToSchema for Secret {}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn ms(text: &str) -> Option<u128> {
        TimeText::new(text).duration().map(|d| d.as_millis())
    }

    fn bytes(text: &str) -> Option<u64> {
        SizeText::new(text).bytes()
    }

    #[test]
    fn lengths_of_time_are_read() {
        for (text, expected_ms) in [
            ("0", 0),
            ("0s", 0),
            ("500ms", 500),
            ("15s", 15_000),
            ("1m30s", 90_000),
            ("2h", 7_200_000),
            ("30d", 2_592_000_000),
            ("1d2h3m4s5ms", 93_784_005),
        ] {
            assert_eq!(ms(text), Some(expected_ms), "{text}");
        }
    }

    #[test]
    fn what_is_no_length_of_time_is_refused() {
        for text in [
            "",
            "15",
            "s",
            "-1s",
            "1.5s",
            "15 s",
            "1s1s",
            "30s1m",
            "1w",
            "1M",
            "0x1s",
            "١s",
            "99999999999999d",
            "36501d",
        ] {
            assert_eq!(ms(text), None, "{text}");
        }
    }

    #[test]
    fn sizes_are_read() {
        for (text, expected) in [
            ("0", 0),
            ("2147483648", 2_147_483_648),
            ("2GiB", 2_147_483_648),
            ("2 gib", 2_147_483_648),
            ("500MB", 500_000_000),
            ("1.5GiB", 1_610_612_736),
            ("0.001kB", 1),
            ("7B", 7),
            ("16TiB", 17_592_186_044_416),
        ] {
            assert_eq!(bytes(text), Some(expected), "{text}");
        }
    }

    #[test]
    fn what_is_no_size_is_refused() {
        for text in [
            "",
            "GiB",
            "2G",
            "2  GiB",
            "-1",
            "1.5",
            "1..5GiB",
            ".5GiB",
            "1.GiB",
            "99999999999TiB",
            "1e3",
            "1.0000000001GiB",
        ] {
            assert_eq!(bytes(text), None, "{text}");
        }
    }

    #[test]
    fn a_secret_shows_nowhere_and_compares_whole() {
        let secret = Secret::new("hunter2");
        assert_eq!(format!("{secret} {secret:?}"), "*** Secret(***)");
        assert_eq!(serde_json::to_string(&secret).unwrap(), "\"***\"");
        assert_eq!(serde_json::to_string(&Secret::default()).unwrap(), "\"\"");
        assert!(secret.matches(b"hunter2") && !secret.matches(b"hunter") && !secret.matches(b"hunter22"));
        assert!(!Secret::default().matches(b""), "no secret is no open door");
        assert_eq!(secret.expose(), "hunter2");
    }

    proptest! {
        #[test]
        fn no_text_panics_and_whole_units_are_exact(text in "[0-9a-zA-Z. ]{0,24}", n in 0_u64..1_000_000) {
            let _ = (ms(&text), bytes(&text));
            prop_assert_eq!(ms(&format!("{n}s")), Some(u128::from(n) * 1000));
            prop_assert_eq!(bytes(&format!("{n}KiB")), Some(n * 1024));
        }
    }
}

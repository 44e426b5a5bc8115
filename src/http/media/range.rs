//! Which bytes are wanted: RFC 9110, section 14.
//!
//! What enters: a `Range` header, the length of what there is. What leaves: all of it, one part, or that
//! there are no such bytes. Several parts at once are answered with the whole, which is allowed, and no
//! player asks for them. Pure.

use axum::http::HeaderMap;
use axum::http::header::RANGE;

/// What is wanted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Wanted {
    /// Everything: no range, one that makes no sense, or more than one.
    Whole,
    /// From `first` to `last`, both included, both there.
    Part { first: u64, last: u64 },
    /// What lies beyond the end.
    Nothing,
}

/// One range as it was asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Asked {
    From { first: u64, last: u64 },
    Last(u64),
}

/// What `headers` want of `len` bytes.
pub(super) fn wanted(headers: &HeaderMap, len: u64) -> Wanted {
    let mut values = headers.get_all(RANGE).iter();
    let only = values.next().filter(|_| values.next().is_none());
    match only.and_then(|value| asked(value.to_str().ok()?)) {
        None => Wanted::Whole,
        Some(Asked::From { first, .. }) if first >= len => Wanted::Nothing,
        Some(Asked::From { first, last }) => Wanted::Part { first, last: last.min(len.saturating_sub(1)) },
        Some(Asked::Last(0)) => Wanted::Nothing,
        // All bytes of nothing.
        Some(Asked::Last(_)) if len == 0 => Wanted::Whole,
        Some(Asked::Last(count)) => Wanted::Part { first: len.saturating_sub(count), last: len - 1 },
    }
}

/// The one range of a header. `None`: not of bytes, not sound, or not one.
fn asked(value: &str) -> Option<Asked> {
    let (unit, set) = value.split_once('=')?;
    if !unit.trim().eq_ignore_ascii_case("bytes") {
        return None;
    }
    let mut specs = set.split(',').map(|spec| spec.trim_matches([' ', '\t'])).filter(|spec| !spec.is_empty());
    let (first, last) = specs.next().filter(|_| specs.next().is_none())?.split_once('-')?;
    match (first, last) {
        ("", last) => Some(Asked::Last(number(last)?)),
        (first, "") => Some(Asked::From { first: number(first)?, last: u64::MAX }),
        (first, last) => {
            let (first, last) = (number(first)?, number(last)?);
            (first <= last).then_some(Asked::From { first, last })
        }
    }
}

/// Digits and nothing else; beyond 64 bits it is as far as anything can be.
fn number(text: &str) -> Option<u64> {
    let digits = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    digits.then(|| text.parse().unwrap_or(u64::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;
    use axum::http::HeaderValue;
    use proptest::prelude::*;

    fn of(value: &str, len: u64) -> Wanted {
        let mut headers = HeaderMap::new();
        headers.insert(RANGE, HeaderValue::from_str(value).unwrap());
        wanted(&headers, len)
    }

    #[test]
    fn one_range_in_each_of_its_forms() {
        let part = |first, last| Wanted::Part { first, last };
        for (value, expected) in [
            ("bytes=0-", part(0, 99)),
            ("bytes=0-0", part(0, 0)),
            ("bytes=99-", part(99, 99)),
            ("bytes=10-19", part(10, 19)),
            ("Bytes=10-19", part(10, 19)),
            ("bytes= 10-19 ", part(10, 19)),
            ("bytes=,10-19,", part(10, 19)),
            ("bytes=90-1000", part(90, 99)),
            ("bytes=5-99999999999999999999999999", part(5, 99)),
            ("bytes=-1", part(99, 99)),
            ("bytes=-100", part(0, 99)),
            ("bytes=-99999999999999999999999999", part(0, 99)),
            ("bytes=100-", Wanted::Nothing),
            ("bytes=100-200", Wanted::Nothing),
            ("bytes=99999999999999999999999999-", Wanted::Nothing),
            ("bytes=-0", Wanted::Nothing),
        ] {
            assert_eq!(of(value, 100), expected, "{value}");
        }
        assert_eq!(of("bytes=0-", 0), Wanted::Nothing);
        assert_eq!(of("bytes=-5", 0), Wanted::Whole);
    }

    #[test]
    fn what_makes_no_sense_and_several_ranges_are_the_whole() {
        for value in [
            "bytes=",
            "bytes",
            "bytes=-",
            "bytes=a-b",
            "bytes=5-4",
            "bytes=+5-6",
            "bytes=5-6-7",
            "bytes=0x5-6",
            "bytes=1 - 2",
            "items=0-5",
            "bytes=0-1,5-6",
            "bytes=0-1, 5-6, -1",
            "",
        ] {
            assert_eq!(of(value, 100), Wanted::Whole, "{value:?}");
        }
        assert_eq!(wanted(&HeaderMap::new(), 100), Wanted::Whole);
        let mut twice = HeaderMap::new();
        twice.append(RANGE, HeaderValue::from_static("bytes=0-1"));
        twice.append(RANGE, HeaderValue::from_static("bytes=0-1"));
        assert_eq!(wanted(&twice, 100), Wanted::Whole);
    }

    proptest! {
        /// The answer is what picking bytes one by one comes to, and never beyond the end.
        #[test]
        fn a_range_is_the_bytes_that_it_names(first in 0u64..60, more in 0u64..60, len in 0u64..50, form in 0u8..3) {
            let last = first + more;
            let (value, named): (String, Vec<u64>) = match form {
                0 => (format!("bytes={first}-{last}"), (0..len).filter(|n| (first..=last).contains(n)).collect()),
                1 => (format!("bytes={first}-"), (0..len).filter(|n| *n >= first).collect()),
                _ => (format!("bytes=-{first}"), (0..len).filter(|n| *n + first >= len).collect()),
            };
            match of(&value, len) {
                Wanted::Part { first, last } => {
                    prop_assert!(last < len);
                    prop_assert_eq!((first..=last).collect::<Vec<_>>(), named);
                }
                Wanted::Nothing => prop_assert!(named.is_empty()),
                Wanted::Whole => prop_assert!(len == 0),
            }
        }

        #[test]
        fn nothing_that_anybody_sends_leads_beyond_the_end(value in "[ -~]{0,40}", len in 0u64..1000) {
            if let Wanted::Part { first, last } = of(&value, len) {
                prop_assert!(first <= last && last < len);
            }
        }
    }
}

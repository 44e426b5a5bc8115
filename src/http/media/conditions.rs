//! Conditional requests: RFC 9110, section 13.
//!
//! What enters: the headers of a request and the validators of what would be sent. What leaves: whether it
//! is sent, and whether a `Range` counts. Pure.

use axum::http::header::{
    HeaderName, IF_MATCH, IF_MODIFIED_SINCE, IF_NONE_MATCH, IF_RANGE, IF_UNMODIFIED_SINCE, RANGE,
};
use axum::http::{HeaderMap, Method};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// The first second of the year 10000, for which HTTP has no digits.
const END_OF_TIME_S: u64 = 253_402_300_800;

/// By what the representation is known.
pub(super) struct Validators<'a> {
    /// Strong, in its quotes.
    pub(super) etag: &'a str,
    pub(super) modified: Option<SystemTime>,
    pub(super) now: SystemTime,
}

/// What the conditions come to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// 412.
    Failed,
    /// 304.
    NotModified,
    /// It is sent; `ranged`: `Range` is to be looked at.
    Send { ranged: bool },
}

/// Judges in the order of RFC 9110, section 13.2.2.
pub(super) fn judge(method: &Method, headers: &HeaderMap, is: &Validators) -> Verdict {
    let (matches, unmodified) = (tags(headers, &IF_MATCH), date(headers, &IF_UNMODIFIED_SINCE));
    let fails = match &matches {
        Some(list) => !names(list, is.etag, Comparison::Strong),
        None => unmodified.is_some_and(|since| is.seconds().is_some_and(|changed| changed > since)),
    };
    if fails {
        return Verdict::Failed;
    }
    let same = match tags(headers, &IF_NONE_MATCH) {
        Some(list) => names(&list, is.etag, Comparison::Weak),
        None => {
            let since = date(headers, &IF_MODIFIED_SINCE);
            since.is_some_and(|since| is.seconds().is_some_and(|changed| changed <= since))
        }
    };
    if same {
        return Verdict::NotModified;
    }
    Verdict::Send { ranged: method == Method::GET && headers.contains_key(RANGE) && if_range(headers, is) }
}

/// Whether HTTP has words for that time.
pub(super) fn can_be_told(time: SystemTime) -> bool {
    time.duration_since(UNIX_EPOCH).is_ok_and(|since| since.as_secs() < END_OF_TIME_S)
}

impl Validators<'_> {
    /// HTTP knows no parts of seconds.
    fn seconds(&self) -> Option<SystemTime> {
        let since = self.modified?.duration_since(UNIX_EPOCH).ok()?;
        Some(UNIX_EPOCH + Duration::from_secs(since.as_secs()))
    }
}

/// Whether the part that was asked for belongs to what the client has already.
fn if_range(headers: &HeaderMap, is: &Validators) -> bool {
    let mut values = headers.get_all(IF_RANGE).iter();
    let Some(value) = values.next() else { return true };
    let Some(value) = value.to_str().ok().map(str::trim).filter(|_| values.next().is_none()) else {
        return false;
    };
    if value.starts_with('"') || value.starts_with("W/") {
        return value == is.etag;
    }
    // Only a time that is over is a strong validator (section 8.8.2.2): within one second it may have
    // been changed twice.
    let told = httpdate::parse_http_date(value).ok();
    let over = |changed: SystemTime| is.now.duration_since(changed).is_ok_and(|age| age.as_secs() >= 1);
    is.seconds().is_some_and(|changed| told == Some(changed) && over(changed))
}

/// All values of a header of entity tags, joined; `None` where there is no such header.
fn tags(headers: &HeaderMap, name: &HeaderName) -> Option<String> {
    let values: Vec<_> = headers.get_all(name).iter().filter_map(|value| value.to_str().ok()).collect();
    headers.contains_key(name).then(|| values.join(","))
}

/// The one date of a header; what is none is ignored (section 13.1.3).
fn date(headers: &HeaderMap, name: &HeaderName) -> Option<SystemTime> {
    let mut values = headers.get_all(name).iter();
    let value = values.next().filter(|_| values.next().is_none())?;
    httpdate::parse_http_date(value.to_str().ok()?.trim()).ok()
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Comparison {
    Strong,
    Weak,
}

/// Whether a list of entity tags names `ours`. A tag may hold commas, so the list cannot just be split.
fn names(list: &str, ours: &str, comparison: Comparison) -> bool {
    if list.trim() == "*" {
        return true;
    }
    let mut rest = list.trim_start_matches([' ', '\t', ',']);
    while !rest.is_empty() {
        let (weak, quoted) = match rest.strip_prefix("W/") {
            Some(quoted) => (true, quoted),
            None => (false, rest),
        };
        let Some((tag, behind)) = quoted.strip_prefix('"').and_then(|inner| inner.split_once('"')) else {
            return false;
        };
        let is_ours = ours.strip_prefix('"').and_then(|inner| inner.strip_suffix('"')) == Some(tag);
        if is_ours && (comparison == Comparison::Weak || !weak) {
            return true;
        }
        rest = behind.trim_start_matches([' ', '\t', ',']);
    }
    false
}

//! Names that a network gives to files: `nas://media/a.mkv`, `\\host\share\a.mkv`, `/mnt/a.mkv`.
//!
//! What enters: text from a job document or the configuration. What leaves: the authority and the
//! components, percent-encoding undone exactly once where the form has it, so that comparing is
//! comparing components; or a refusal. And back: the text for components below a name. Pure: no file
//! is looked at. `..` is refused and never resolved, so no name means a place outside what it begins with.
//!
//! | form | percent-encoding | separators | compared without case |
//! | --- | --- | --- | --- |
//! | `scheme://host/a` | yes | `/` | scheme, host |
//! | `file:///a`, `file://localhost/a`, `/a` | the first two | `/` | nothing |
//! | `\\host\share\a`, `//host/share/a`, `smb://host/share/a`, `file://host/share/a` | the last two | `/` and `\` | host, share |
//!
//! The forms within one row of the last two name the same files. A `?` or `#` is part of a file's name:
//! none of these forms has a query, and people forget to encode them.

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, percent_decode_str, percent_encode};
use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::{OsStrExt, OsStringExt};

/// All but what may stand in a path segment of a URI (RFC 3986), less `%` and the separators.
const ENCODED: &AsciiSet = &NON_ALPHANUMERIC
    .remove(b'-')
    .remove(b'.')
    .remove(b'_')
    .remove(b'~')
    .remove(b'!')
    .remove(b'$')
    .remove(b'&')
    .remove(b'\'')
    .remove(b'(')
    .remove(b')')
    .remove(b'*')
    .remove(b'+')
    .remove(b',')
    .remove(b';')
    .remove(b'=')
    .remove(b':')
    .remove(b'@');

/// Why a text is no name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// It has none of the forms.
    NoName,
    /// It holds `..`, a NUL, or a separator that is hidden by its encoding.
    Escapes(&'static str),
}

/// Whose files they are.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum Authority {
    /// Those under `/`.
    Plain,
    /// A Windows share's host.
    Share(String),
    /// Anything with a scheme of its own.
    Scheme { scheme: String, host: String },
}

/// How a name was written, so that others below it can be written like it.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Style {
    /// `prefix` and components, encoded, each after a slash.
    Encoded { prefix: String },
    /// `prefix` and components as they are, each after the separator.
    Verbatim { prefix: String, separator: char },
}

/// A name, taken apart.
#[derive(Clone, Debug)]
pub struct Name {
    authority: Authority,
    parts: Vec<OsString>,
    style: Style,
}

impl Name {
    /// Takes `text` apart.
    pub fn parse(text: &str) -> Result<Self, Refusal> {
        if text.contains('\0') {
            return Err(Refusal::Escapes("holds a NUL"));
        }
        if let Some(rest) = text.strip_prefix("\\\\").or_else(|| text.strip_prefix("//")) {
            return share(rest, if text.starts_with('/') { '/' } else { '\\' });
        }
        if text.starts_with('/') {
            let style = Style::Verbatim { prefix: String::new(), separator: '/' };
            return Ok(Self { authority: Authority::Plain, parts: parts(text, &['/'], false)?, style });
        }
        let (scheme, rest) = text.split_once(':').filter(|(s, _)| is_scheme(s)).ok_or(Refusal::NoName)?;
        match (scheme.to_ascii_lowercase().as_str(), rest.strip_prefix("//")) {
            ("file", None) if rest.starts_with('/') => file("", rest),
            (_, None) => Err(Refusal::NoName),
            (lower, Some(rest)) => {
                let (host, path) =
                    rest.split_at_checked(rest.find('/').unwrap_or(rest.len())).unwrap_or((rest, ""));
                match lower {
                    "file" => file(host, path),
                    "smb" | "cifs" => encoded_share(scheme, host, path),
                    _ => of_scheme(scheme, host, path),
                }
            }
        }
    }

    /// The components below the authority.
    pub fn parts(&self) -> &[OsString] {
        &self.parts
    }

    /// Whether it is a path such as `/mnt/a.mkv`, however written.
    pub fn is_plain(&self) -> bool {
        self.authority == Authority::Plain
    }

    /// Whether a user name, and perhaps a password, stands before the host.
    pub fn has_user(&self) -> bool {
        match &self.authority {
            Authority::Plain => false,
            Authority::Share(host) | Authority::Scheme { host, .. } => host.contains('@'),
        }
    }

    /// What of `other` lies below this name; `None` where it does not begin with it. Whole components
    /// only: `/mnt/movies` is no beginning of `/mnt/movies2`.
    pub fn rest_of<'a>(&self, other: &'a Self) -> Option<&'a [OsString]> {
        let (begin, rest) = other.parts.split_at_checked(self.parts.len())?;
        (self.authority == other.authority && self.same_parts(begin)).then_some(rest)
    }

    /// Whether both name the same place.
    pub fn same(&self, other: &Self) -> bool {
        self.rest_of(other).is_some_and(<[_]>::is_empty)
    }

    fn same_parts(&self, others: &[OsString]) -> bool {
        let folds = matches!(self.authority, Authority::Share(_));
        let same = |(place, (one, other)): (usize, (&OsString, &OsString))| {
            one == other || (folds && place == 0 && folded(one).is_some_and(|one| Some(one) == folded(other)))
        };
        self.parts.iter().zip(others).enumerate().all(same)
    }

    /// The text for `rest` below this name, in the same style; `None` where the style cannot write it.
    pub fn write<'a>(&'a self, rest: impl IntoIterator<Item = &'a OsStr>) -> Option<String> {
        let parts = self.parts.iter().map(OsString::as_os_str).chain(rest);
        let mut text = match &self.style {
            Style::Encoded { prefix } | Style::Verbatim { prefix, .. } => prefix.clone(),
        };
        for part in parts {
            match &self.style {
                Style::Encoded { .. } => {
                    text.push('/');
                    text.extend(percent_encode(part.as_bytes(), ENCODED));
                }
                Style::Verbatim { separator, .. } => {
                    text.push(*separator);
                    text.push_str(part.to_str()?);
                }
            }
        }
        let bare_root = self.is_plain() && text.trim_start_matches("file://").is_empty();
        Some(if bare_root { format!("{text}/") } else { text })
    }
}

/// `file://` and this path, encoded.
pub fn file_uri<'a>(parts: impl IntoIterator<Item = &'a OsStr>) -> String {
    let mut text = String::from("file://");
    for part in parts {
        text.push('/');
        text.extend(percent_encode(part.as_bytes(), ENCODED));
    }
    if text == "file://" { "file:///".into() } else { text }
}

fn of_scheme(scheme: &str, host: &str, path: &str) -> Result<Name, Refusal> {
    check_host(host)?;
    let prefix = format!("{scheme}://{host}");
    let authority = Authority::Scheme { scheme: scheme.to_ascii_lowercase(), host: host.to_lowercase() };
    Ok(Name { authority, parts: parts(path, &['/'], true)?, style: Style::Encoded { prefix } })
}

fn file(host: &str, path: &str) -> Result<Name, Refusal> {
    if host.is_empty() || host.eq_ignore_ascii_case("localhost") {
        let style = Style::Encoded { prefix: format!("file://{host}") };
        return Ok(Name { authority: Authority::Plain, parts: parts(path, &['/'], true)?, style });
    }
    encoded_share("file", host, path)
}

fn encoded_share(scheme: &str, host: &str, path: &str) -> Result<Name, Refusal> {
    check_host(host)?;
    let parts = parts(path, &['/', '\\'], true)?;
    // A file `a\b` cannot be told from `b` in `a` on such a share.
    if parts.iter().any(|part| part.as_bytes().contains(&b'\\')) {
        return Err(Refusal::Escapes("holds an encoded backslash"));
    }
    let style = Style::Encoded { prefix: format!("{scheme}://{host}") };
    if host.is_empty() { Err(Refusal::NoName) } else { Ok(Name { authority: share_of(host), parts, style }) }
}

/// What follows the two separators that a share's name begins with.
fn share(rest: &str, separator: char) -> Result<Name, Refusal> {
    let end = rest.find(['/', '\\']).unwrap_or(rest.len());
    let (host, path) = rest.split_at_checked(end).unwrap_or((rest, ""));
    check_host(host)?;
    if host.is_empty() {
        return Err(Refusal::NoName);
    }
    let style = Style::Verbatim { prefix: format!("{separator}{separator}{host}"), separator };
    Ok(Name { authority: share_of(host), parts: parts(path, &['/', '\\'], false)?, style })
}

fn share_of(host: &str) -> Authority {
    Authority::Share(host.to_lowercase())
}

fn check_host(host: &str) -> Result<(), Refusal> {
    let decoded = percent_decode_str(host).collect::<Vec<u8>>();
    if decoded == b".." { Err(Refusal::Escapes("has `..` as its host")) } else { Ok(()) }
}

/// The components of a path: empty ones and `.` mean nothing, `..` means too much.
fn parts(path: &str, separators: &[char], encoded: bool) -> Result<Vec<OsString>, Refusal> {
    let decoded =
        |part: &str| if encoded { percent_decode_str(part).collect() } else { part.as_bytes().to_vec() };
    let parts = path.split(separators).map(decoded).filter(|part: &Vec<u8>| !part.is_empty() && part != b".");
    parts.map(|part| check_part(&part).map(|()| OsString::from_vec(part))).collect()
}

fn check_part(part: &[u8]) -> Result<(), Refusal> {
    match part {
        b".." => Err(Refusal::Escapes("leads upwards with `..`")),
        _ if part.contains(&b'/') => Err(Refusal::Escapes("holds an encoded slash")),
        _ if part.contains(&0) => Err(Refusal::Escapes("holds a NUL")),
        _ => Ok(()),
    }
}

fn folded(part: &OsStr) -> Option<String> {
    part.to_str().map(str::to_lowercase)
}

/// RFC 3986, and at least two letters: `C:` is a drive.
fn is_scheme(text: &str) -> bool {
    let rest_fits = text.chars().all(|c| c.is_ascii_alphanumeric() || "+-.".contains(c));
    text.len() >= 2 && text.starts_with(|c: char| c.is_ascii_alphabetic()) && rest_fits
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parts_of(text: &str) -> Vec<String> {
        Name::parse(text).unwrap().parts.iter().map(|part| part.to_string_lossy().into_owned()).collect()
    }

    #[test]
    fn components_are_decoded_once_and_only_where_the_form_has_it() {
        for (text, expected) in [
            ("nas://media/a%20b/c%2520d", vec!["a b", "c%20d"]),
            ("nas://media//a/./b/", vec!["a", "b"]),
            ("nas://media/100% real?.mkv#1", vec!["100% real?.mkv#1"]),
            ("nas://media/%2e/a", vec!["a"]),
            ("nas://media/a%5Cb", vec!["a\\b"]),
            ("/mnt/a%20b\\c//d", vec!["mnt", "a%20b\\c", "d"]),
            ("file:///mnt/%C3%BC", vec!["mnt", "ü"]),
            ("file:/mnt", vec!["mnt"]),
            ("\\\\nas\\Media\\a%20b/c", vec!["Media", "a%20b", "c"]),
            ("smb://nas/Media/a%20b\\c", vec!["Media", "a b", "c"]),
            ("nas://media", vec![]),
            ("/", vec![]),
        ] {
            assert_eq!(parts_of(text), expected, "{text}");
        }
    }

    #[test]
    fn what_leads_out_is_refused_in_every_disguise() {
        for text in [
            "/mnt/../etc",
            "/..",
            "nas://media/a/..",
            "nas://media/%2e%2e/x",
            "nas://media/.%2E/x",
            "nas://../x",
            "nas://%2e%2e/x",
            "nas://media/a%2fb",
            "nas://media/a%2F..%2Fb",
            "nas://media/a%00",
            "nas://media/a\0b",
            "\\\\nas\\media\\..\\x",
            "\\\\nas/media/../x",
            "//nas/media\\..\\x",
            "\\\\..\\media",
            "smb://nas/media/..\\x",
            "smb://nas/media/a%5C..%5Cb",
            "file://localhost/a/%2e%2e/b",
            "file://nas/media/%5c",
        ] {
            assert!(matches!(Name::parse(text), Err(Refusal::Escapes(_))), "{text}: {:?}", Name::parse(text));
        }
        // Encoded twice it is an odd file name, and stays one.
        assert_eq!(parts_of("nas://media/%252e%252e/x"), ["%2e%2e", "x"]);
    }

    #[test]
    fn what_has_no_form_is_no_name() {
        for text in [
            "",
            "a/b",
            ".",
            "C:\\Movies",
            "c:/movies",
            "nas:/x",
            "nas:x",
            "://x",
            "\\a",
            "smb:///x",
            "\\\\",
            "//",
            "1a://x",
        ] {
            assert_eq!(Name::parse(text).unwrap_err(), Refusal::NoName, "{text}");
        }
    }

    #[test]
    fn forms_of_the_same_place_are_the_same() {
        let same = |one: &str, other: &str| Name::parse(one).unwrap().same(&Name::parse(other).unwrap());
        for (one, other) in [
            ("nas://Media/x", "NAS://media/x/"),
            ("file:///mnt/x", "/mnt//x"),
            ("file://LOCALHOST/mnt/x", "file:/mnt/x"),
            ("\\\\NAS\\Media\\x", "smb://nas/media/x"),
            ("//nas/MEDIA/x", "file://nas/media/x"),
            ("cifs://nas/media", "\\\\nas\\media\\"),
        ] {
            assert!(same(one, other) && same(other, one), "{one} {other}");
        }
        for (one, other) in [
            ("nas://media/x", "nas://media/X"),
            ("\\\\nas\\media\\x", "\\\\nas\\media\\X"),
            ("nas://media/x", "smb://media/x"),
            ("/mnt/x", "/mnt/X"),
            ("/mnt/movies", "/mnt/movies2"),
            ("//mnt/x", "/mnt/x"),
        ] {
            assert!(!same(one, other), "{one} {other}");
        }
    }

    #[test]
    fn names_below_are_written_in_the_style_of_the_first() {
        let below = |name: &str| Name::parse(name).unwrap().write(["a b#.mkv", "ü"].map(OsStr::new)).unwrap();
        for (name, expected) in [
            ("NAS://Media/m%20n/", "NAS://Media/m%20n/a%20b%23.mkv/%C3%BC"),
            ("/mnt/m%20n", "/mnt/m%20n/a b#.mkv/ü"),
            ("/", "/a b#.mkv/ü"),
            ("\\\\Nas\\Media", "\\\\Nas\\Media\\a b#.mkv\\ü"),
            ("//nas/media", "//nas/media/a b#.mkv/ü"),
            ("file:///", "file:///a%20b%23.mkv/%C3%BC"),
            ("file:/mnt", "file:///mnt/a%20b%23.mkv/%C3%BC"),
        ] {
            assert_eq!(below(name), expected);
        }
        let bare = |name: &str| Name::parse(name).unwrap().write([]).unwrap();
        assert_eq!(
            (bare("/"), bare("file:///"), bare("nas://m/")),
            ("/".into(), "file:///".into(), "nas://m".into())
        );
    }
}

//! What is done to playlists on their way out: packed, and given the stream token.
//!
//! What enters: the bytes of a playlist, what the client takes, the token that it showed in the query.
//! What leaves: the same playlist. Pure.

use axum::http::HeaderMap;
use axum::http::header::ACCEPT_ENCODING;
use bytes::Bytes;
use flate2::Compression;
use flate2::write::GzEncoder;
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use std::borrow::Cow;
use std::io::Write;

/// What a query carries as it is (RFC 3986, section 2.3).
const UNRESERVED: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');

/// Whether the client takes gzip (RFC 9110, section 12.5.3).
pub(super) fn takes_gzip(headers: &HeaderMap) -> bool {
    let (mut gzip, mut any) = (None, None);
    for value in headers.get_all(ACCEPT_ENCODING) {
        let Ok(value) = value.to_str() else { continue };
        for coding in value.split(',') {
            let mut parts = coding.split(';').map(str::trim);
            let name = parts.next().unwrap_or_default();
            let weight = parts.next().map_or(Some(true), is_above_nought).unwrap_or(false);
            if name.eq_ignore_ascii_case("gzip") || name.eq_ignore_ascii_case("x-gzip") {
                gzip = Some(weight);
            } else if name == "*" {
                any = Some(weight);
            }
        }
    }
    gzip.or(any).unwrap_or(false)
}

/// Whether `q=0.5` is more than nothing; `None` for what is no weight.
fn is_above_nought(parameter: &str) -> Option<bool> {
    let (name, number) = parameter.split_once('=')?;
    let number: f32 = number.trim().parse().ok().filter(|q| (0.0..=1.0).contains(q))?;
    name.trim().eq_ignore_ascii_case("q").then_some(number > 0.0)
}

/// Packs it. `None` when that cannot be done, and it goes as it is.
pub(super) fn gzip(plain: &[u8]) -> Option<Bytes> {
    let mut packer = GzEncoder::new(Vec::with_capacity(plain.len() / 4), Compression::fast());
    packer.write_all(plain).ok()?;
    packer.finish().ok().map(Bytes::from)
}

/// The playlist with the token in each of its URIs, so that what it names can be asked for as it was
/// itself. `None`: it was not shown in the query, and nothing is to be added.
///
/// Addresses of other servers are left alone: the token is none of their business.
pub(in crate::http) fn with_token<'a>(playlist: &'a str, token: Option<&str>) -> Cow<'a, str> {
    let Some(token) = token else { return Cow::Borrowed(playlist) };
    let token = utf8_percent_encode(token, UNRESERVED).to_string();
    let mut out = String::with_capacity(playlist.len() * 2);
    for line in playlist.split_inclusive('\n') {
        let text = line.trim_end_matches(['\n', '\r']);
        let end = line.get(text.len()..).unwrap_or_default();
        match text.strip_prefix('#') {
            Some(rest) if rest.starts_with("EXT") => tag(text, &token, &mut out),
            Some(_) => out.push_str(text),
            None if text.trim().is_empty() => out.push_str(text),
            None => uri(text, &token, &mut out),
        }
        out.push_str(end);
    }
    Cow::Owned(out)
}

/// A tag's line: the values of its attributes `URI` get the token.
fn tag(line: &str, token: &str, out: &mut String) {
    let mut quoted = false;
    let mut rest = line;
    while let Some(at) = rest.find('"') {
        let (before, behind) = rest.split_at(at);
        let behind = behind.get(1..).unwrap_or_default();
        if quoted {
            // Inside a value that is no URI.
            out.push_str(before);
            out.push('"');
            (quoted, rest) = (false, behind);
            continue;
        }
        out.push_str(before);
        out.push('"');
        match (before.ends_with(":URI=") || before.ends_with(",URI="), behind.split_once('"')) {
            (true, Some((value, behind))) => {
                uri(value, token, out);
                out.push('"');
                rest = behind;
            }
            _ => (quoted, rest) = (true, behind),
        }
    }
    out.push_str(rest);
}

fn uri(uri: &str, token: &str, out: &mut String) {
    if is_elsewhere(uri) {
        return out.push_str(uri);
    }
    let (address, fragment) = uri.split_at(uri.find('#').unwrap_or(uri.len()));
    out.push_str(address);
    out.push(if address.contains('?') { '&' } else { '?' });
    out.push_str("token=");
    out.push_str(token);
    out.push_str(fragment);
}

/// Whether it names its server, or carries its data itself.
fn is_elsewhere(uri: &str) -> bool {
    let scheme = uri.split(['/', '?', '#']).next().unwrap_or_default();
    uri.starts_with("//") || scheme.contains(':')
}

#[cfg(test)]
mod tests {
    use super::*;
    use axum::http::HeaderValue;
    use std::io::Read;

    #[test]
    fn gzip_is_taken_by_who_says_so() {
        let of = |values: &[&'static str]| {
            let mut headers = HeaderMap::new();
            for value in values {
                headers.append(ACCEPT_ENCODING, HeaderValue::from_static(value));
            }
            takes_gzip(&headers)
        };
        for yes in [
            "gzip",
            "GZIP",
            "x-gzip",
            "gzip, deflate, br, zstd",
            "deflate, gzip;q=0.001",
            "br;q=1.0, gzip ; q=0.8, *;q=0.1",
            "*",
            "identity, *;q=0.5",
            "gzip, identity;q=1, *;q=0",
        ] {
            assert!(of(&[yes]), "{yes}");
        }
        assert!(of(&["deflate", "gzip"]));
        for no in
            ["", "identity", "gzip;q=0", "gzip;q=0.000, *", "*;q=0", "gzip;q=2", "gzip;q=x", "gzipped", "br"]
        {
            assert!(!of(&[no]), "{no}");
        }
        assert!(!of(&[]));
    }

    #[test]
    fn what_was_packed_is_what_it_was() {
        let plain = "#EXTM3U\n".repeat(1000);
        let packed = gzip(plain.as_bytes()).unwrap();
        assert!(packed.len() < plain.len() / 10);
        let mut back = String::new();
        flate2::read::GzDecoder::new(&packed[..]).read_to_string(&mut back).unwrap();
        assert_eq!(back, plain);
    }

    #[test]
    fn every_uri_gets_the_token_and_nothing_else_changes() {
        let playlist = "#EXTM3U\n#EXT-X-VERSION:7\n# a comment with URI=\"x\"\n\
            #EXT-X-MAP:URI=\"init.mp4\",BYTERANGE=\"5@0\"\r\n\
            #EXT-X-MEDIA:TYPE=AUDIO,GROUP-ID=\"a,URI=\",NAME=\"b\",URI=\"a/index.m3u8?x=1\"\n\
            #EXT-X-MEDIA:TYPE=AUDIO,X-URI=\"none\",NAME=\"b\"\n\
            #EXT-X-I-FRAME-STREAM-INF:BANDWIDTH=1,URI=\"i.m3u8\"\n\
            #EXT-X-STREAM-INF:BANDWIDTH=1,CODECS=\"avc1,mp4a\"\n720p/index.m3u8\n\
            #EXTINF:4.000000,\n0.ts\n\n#EXTINF:4.000000,\n1.ts#t\nhttps://other/2.ts\n//other/3.ts\nlast.ts";
        let expected = "#EXTM3U\n#EXT-X-VERSION:7\n# a comment with URI=\"x\"\n\
            #EXT-X-MAP:URI=\"init.mp4?token=s%2F%26%20t\",BYTERANGE=\"5@0\"\r\n\
            #EXT-X-MEDIA:TYPE=AUDIO,GROUP-ID=\"a,URI=\",NAME=\"b\",URI=\"a/index.m3u8?x=1&token=s%2F%26%20t\"\n\
            #EXT-X-MEDIA:TYPE=AUDIO,X-URI=\"none\",NAME=\"b\"\n\
            #EXT-X-I-FRAME-STREAM-INF:BANDWIDTH=1,URI=\"i.m3u8?token=s%2F%26%20t\"\n\
            #EXT-X-STREAM-INF:BANDWIDTH=1,CODECS=\"avc1,mp4a\"\n720p/index.m3u8?token=s%2F%26%20t\n\
            #EXTINF:4.000000,\n0.ts?token=s%2F%26%20t\n\n#EXTINF:4.000000,\n1.ts?token=s%2F%26%20t#t\n\
            https://other/2.ts\n//other/3.ts\nlast.ts?token=s%2F%26%20t";
        assert_eq!(with_token(playlist, Some("s/& t")), expected);
        assert!(matches!(with_token(playlist, None), Cow::Borrowed(same) if same == playlist));
    }
}

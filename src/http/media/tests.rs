use super::*;
use axum::http::header::{
    HeaderName, IF_MATCH, IF_MODIFIED_SINCE, IF_NONE_MATCH, IF_RANGE, IF_UNMODIFIED_SINCE,
};
use std::io::{Read, Write};
use std::time::Duration;

const TAG: &str = "\"a-1\"";
const DATE: &str = "Sun, 06 Nov 1994 08:49:37 GMT";
const LATER: &str = "Sun, 06 Nov 1994 08:49:38 GMT";
const EARLIER: &str = "Sunday, 06-Nov-94 08:49:36 GMT";

fn time() -> SystemTime {
    // Parts of a second are not told.
    httpdate::parse_http_date(DATE).unwrap() + Duration::from_millis(700)
}

fn segment() -> Media {
    Media {
        content: Content::Bytes(Bytes::from_static(b"0123456789")),
        kind: kinds::TS,
        etag: TAG.into(),
        modified: Some(time()),
        keep: Keep::Immutable,
        compressible: false,
    }
}

fn playlist() -> Media {
    let text = "#EXTM3U\n".repeat(200);
    Media {
        content: Content::Bytes(text.into()),
        kind: kinds::PLAYLIST,
        keep: Keep::Revalidate,
        compressible: true,
        ..segment()
    }
}

fn headers(pairs: &[(HeaderName, &str)]) -> HeaderMap {
    pairs.iter().map(|(name, value)| (name.clone(), HeaderValue::from_str(value).unwrap())).collect()
}

/// Status, body, and the answer's headers.
fn ask(method: &Method, media: Media, pairs: &[(HeaderName, &str)]) -> (u16, Bytes, HeaderMap) {
    let (head, body) = serve(method, &headers(pairs), media).into_parts();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let body = runtime.block_on(axum::body::to_bytes(body, usize::MAX)).unwrap();
    (head.status.as_u16(), body, head.headers)
}

fn get(pairs: &[(HeaderName, &str)]) -> (u16, Bytes, HeaderMap) {
    ask(&Method::GET, segment(), pairs)
}

#[test]
fn the_whole_says_everything_about_itself() {
    let (status, body, headers) = get(&[]);
    assert_eq!((status, &body[..]), (200, &b"0123456789"[..]));
    for (name, value) in [
        (CONTENT_TYPE, "video/mp2t"),
        (CONTENT_LENGTH, "10"),
        (ACCEPT_RANGES, "bytes"),
        (ETAG, TAG),
        (LAST_MODIFIED, DATE),
        (CACHE_CONTROL, "public, max-age=31536000, immutable"),
    ] {
        assert_eq!(headers[&name], value, "{name}");
    }
    assert!(!headers.contains_key(VARY) && !headers.contains_key(CONTENT_ENCODING));
}

#[test]
fn a_part_is_exactly_what_was_asked_for() {
    for (range, body, place) in [
        ("bytes=0-", &b"0123456789"[..], "bytes 0-9/10"),
        ("bytes=2-4", b"234", "bytes 2-4/10"),
        ("bytes=8-100", b"89", "bytes 8-9/10"),
        ("bytes=-3", b"789", "bytes 7-9/10"),
    ] {
        let (status, got, headers) = get(&[(RANGE, range)]);
        assert_eq!((status, &got[..]), (206, body), "{range}");
        assert_eq!(headers[CONTENT_RANGE], place);
        assert_eq!(headers[CONTENT_LENGTH], body.len().to_string());
        assert_eq!(
            (&headers[ETAG], &headers[CONTENT_TYPE]),
            (&TAG.parse().unwrap(), &"video/mp2t".parse().unwrap())
        );
    }
    let (status, body, headers) = get(&[(RANGE, "bytes=0-1,4-5")]);
    assert_eq!((status, body.len(), headers.contains_key(CONTENT_RANGE)), (200, 10, false));
}

#[test]
fn beyond_the_end_there_is_nothing_and_the_length_is_told() {
    let (status, body, headers) = get(&[(RANGE, "bytes=10-")]);
    assert_eq!((status, &headers[CONTENT_RANGE]), (416, &"bytes */10".parse().unwrap()));
    assert!(String::from_utf8_lossy(&body).contains("\"range_not_satisfiable\""));
    assert_eq!(headers[CONTENT_TYPE], "application/problem+json");
}

#[test]
fn head_knows_no_ranges() {
    let (status, _, headers) = ask(&Method::HEAD, segment(), &[(RANGE, "bytes=2-4")]);
    assert_eq!((status, &headers[CONTENT_LENGTH]), (200, &"10".parse().unwrap()));
    assert_eq!(ask(&Method::HEAD, segment(), &[(RANGE, "bytes=10-")]).0, 200);
    assert_eq!(ask(&Method::HEAD, segment(), &[(IF_NONE_MATCH, TAG)]).0, 304);
}

#[test]
fn if_range_lets_only_parts_of_the_same_through() {
    let range = (RANGE, "bytes=2-4");
    for same in [TAG, DATE, "Sunday, 06-Nov-94 08:49:37 GMT", "Sun Nov  6 08:49:37 1994"] {
        assert_eq!(get(&[range.clone(), (IF_RANGE, same)]).0, 206, "{same}");
    }
    for other in ["\"a-2\"", "W/\"a-1\"", LATER, EARLIER, "a-1", "nonsense", "*", ""] {
        let (status, body, _) = get(&[range.clone(), (IF_RANGE, other)]);
        assert_eq!((status, body.len()), (200, 10), "{other:?}");
    }
    // What does not hold cannot lead beyond the end either.
    assert_eq!(get(&[(RANGE, "bytes=99-"), (IF_RANGE, "\"a-2\"")]).0, 200);
    // It says nothing where there is no range.
    assert_eq!(get(&[(IF_RANGE, "\"a-2\"")]).0, 200);
    // Changed within this second, it may be changed again.
    let young = Media { modified: Some(SystemTime::now()), ..segment() };
    let told = httpdate::fmt_http_date(SystemTime::now());
    assert_eq!(ask(&Method::GET, young, &[range, (IF_RANGE, &told)]).0, 200);
}

#[test]
fn what_the_client_has_is_not_sent_again() {
    for same in [TAG, "W/\"a-1\"", "*", "\"x,y\", \"a-1\"", ",, \"b\" ,W/\"a-1\""] {
        let (status, body, headers) = get(&[(IF_NONE_MATCH, same)]);
        assert_eq!((status, body.len()), (304, 0), "{same}");
        assert_eq!(
            (&headers[ETAG], &headers[LAST_MODIFIED]),
            (&TAG.parse().unwrap(), &DATE.parse().unwrap())
        );
        assert!(headers.contains_key(CACHE_CONTROL) && !headers.contains_key(CONTENT_TYPE));
    }
    for other in ["\"a-2\"", "a-1", "\"a-1", "\"x,\\\"a-1\\\"\"", ""] {
        assert_eq!(get(&[(IF_NONE_MATCH, other)]).0, 200, "{other:?}");
    }
    assert_eq!(get(&[(IF_MODIFIED_SINCE, DATE)]).0, 304);
    assert_eq!(get(&[(IF_MODIFIED_SINCE, LATER)]).0, 304);
    assert_eq!(get(&[(IF_MODIFIED_SINCE, EARLIER)]).0, 200);
    assert_eq!(get(&[(IF_MODIFIED_SINCE, "yesterday")]).0, 200);
    // The tag knows better than the date.
    assert_eq!(get(&[(IF_MODIFIED_SINCE, DATE), (IF_NONE_MATCH, "\"a-2\"")]).0, 200);
    assert_eq!(get(&[(RANGE, "bytes=99-"), (IF_NONE_MATCH, TAG)]).0, 304);
}

#[test]
fn a_condition_that_fails_is_told() {
    for fails in [(IF_MATCH, "\"a-2\""), (IF_MATCH, "W/\"a-1\""), (IF_UNMODIFIED_SINCE, EARLIER)] {
        let (status, body, _) = get(&[fails.clone(), (RANGE, "bytes=99-")]);
        assert_eq!(status, 412, "{fails:?}");
        assert!(String::from_utf8_lossy(&body).contains("\"precondition_failed\""));
    }
    for holds in [(IF_MATCH, TAG), (IF_MATCH, "*"), (IF_UNMODIFIED_SINCE, DATE), (IF_UNMODIFIED_SINCE, "x")] {
        assert_eq!(get(std::slice::from_ref(&holds)).0, 200, "{holds:?}");
    }
    assert_eq!(get(&[(IF_MATCH, TAG), (IF_UNMODIFIED_SINCE, EARLIER)]).0, 200);
}

#[test]
fn playlists_are_packed_for_who_asks_and_media_never_is() {
    let gzip = || (ACCEPT_ENCODING, "gzip, deflate");
    let (_, plain, plain_headers) = ask(&Method::GET, playlist(), &[]);
    assert_eq!(
        (&plain_headers[ETAG], &plain_headers[VARY]),
        (&TAG.parse().unwrap(), &"accept-encoding".parse().unwrap())
    );
    assert_eq!(plain_headers[CACHE_CONTROL], "no-cache");
    let (status, packed, headers) = ask(&Method::GET, playlist(), &[gzip()]);
    assert_eq!(
        (status, &headers[CONTENT_ENCODING], &headers[ETAG]),
        (200, &"gzip".parse().unwrap(), &"\"a-1-gzip\"".parse().unwrap())
    );
    assert_eq!(
        (&headers[VARY], &headers[CONTENT_LENGTH]),
        (&"accept-encoding".parse().unwrap(), &packed.len().to_string().parse().unwrap())
    );
    let mut back = Vec::new();
    flate2::read::GzDecoder::new(&packed[..]).read_to_end(&mut back).unwrap();
    assert_eq!(back, plain);
    // Each form has its own tag.
    assert_eq!(ask(&Method::GET, playlist(), &[gzip(), (IF_NONE_MATCH, "\"a-1-gzip\"")]).0, 304);
    assert_eq!(ask(&Method::GET, playlist(), &[gzip(), (IF_NONE_MATCH, TAG)]).0, 200);
    assert_eq!(ask(&Method::GET, playlist(), &[(IF_NONE_MATCH, "\"a-1-gzip\"")]).0, 200);
    let (_, _, headers) = ask(&Method::HEAD, playlist(), &[gzip()]);
    assert_eq!(headers[CONTENT_LENGTH], packed.len().to_string());
    // A range is of the plain bytes.
    let (status, part, headers) = ask(&Method::GET, playlist(), &[gzip(), (RANGE, "bytes=0-6")]);
    assert_eq!((status, &part[..], headers.contains_key(CONTENT_ENCODING)), (206, &b"#EXTM3U"[..], false));
    assert_eq!(headers[CONTENT_RANGE], format!("bytes 0-6/{}", plain.len()));
    let (_, body, headers) = ask(&Method::GET, segment(), &[gzip()]);
    assert_eq!(
        (body.len(), headers.contains_key(CONTENT_ENCODING), headers.contains_key(VARY)),
        (10, false, false)
    );
}

#[test]
fn times_that_http_cannot_tell_are_left_out_and_those_ahead_are_now() {
    let year_10000 = SystemTime::UNIX_EPOCH + Duration::from_secs(253_402_300_800);
    let before_1970 = SystemTime::UNIX_EPOCH - Duration::from_secs(1);
    let of = |modified| ask(&Method::GET, Media { modified, ..segment() }, &[(IF_MODIFIED_SINCE, EARLIER)]);
    for time in [None, Some(before_1970)] {
        let (status, _, headers) = of(time);
        assert_eq!((status, headers.contains_key(LAST_MODIFIED)), (200, false), "{time:?}");
    }
    let (_, _, headers) = of(Some(year_10000));
    let told = httpdate::parse_http_date(headers[LAST_MODIFIED].to_str().unwrap()).unwrap();
    assert!(told <= SystemTime::now(), "{told:?}");
}

#[test]
fn a_file_is_sent_as_bytes_are() {
    let mut named = tempfile::NamedTempFile::new().unwrap();
    let bytes: Vec<u8> = (0..700_000_u32).map(|n| (n / 3) as u8).collect();
    named.write_all(&bytes).unwrap();
    let media = || {
        let file = Arc::new(File::open(named.path()).unwrap());
        Media { content: Content::File { file, len: bytes.len() as u64, passage: None }, ..segment() }
    };
    assert_eq!(ask(&Method::GET, media(), &[]).1, bytes);
    let (status, part, headers) = ask(&Method::GET, media(), &[(RANGE, "bytes=300000-599999")]);
    assert_eq!((status, &part[..]), (206, &bytes[300_000..600_000]));
    assert_eq!(headers[CONTENT_LENGTH], "300000");
}

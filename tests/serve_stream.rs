//! Outputs of jobs as players get them, over the socket of a real `sprocket serve`: what is published, what
//! a running job has made so far, and what nobody gets, however it is asked for.

mod support;

use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::fs;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::os::unix::fs::symlink;
use support::h264_encoder;
use support::hls::{Hls, files_below};
use support::node::films::{film, job, long_film, medium_film, slow};
use support::node::{Answer, Config, LIMIT, Node, until};

const TOKEN: &str = "a-stream-token/of+24&chars";

/// A node with an HLS output, job `film`, and a single file, job `file`.
fn published(config: &Config) -> Option<Node> {
    let short = film(90, 8)?;
    let node = Node::start(config);
    let input = node.add(&short);
    node.accepted(&job("film", &input));
    let mut file = job("file", &input);
    file["format"] = "mp4".into();
    file["output"] = "nas://out/deeper/film.mp4".into();
    node.accepted(&file);
    node.succeeded("film");
    node.succeeded("file");
    Some(node)
}

/// What a player would call each file of the HLS output, and its bytes.
fn files(node: &Node) -> BTreeMap<String, Vec<u8>> {
    let folder = node.output().join("film");
    let named = files_below(&folder).into_iter().map(|path| {
        let name = path.strip_prefix(&folder).expect("inside").to_string_lossy().into_owned();
        (format!("/stream/film/{name}"), fs::read(path).expect("a file of the output"))
    });
    named.collect()
}

/// One of its segments.
fn segment(node: &Node) -> (String, Vec<u8>) {
    let mut all = files(node).into_iter();
    all.find(|(path, _)| path.ends_with("/1.ts") || path.ends_with("/1.m4s")).expect("a second segment")
}

/// Sends bytes as they are, and reads to the end.
fn wire(node: &Node, text: &str) -> String {
    let mut stream = TcpStream::connect(node.address()).expect("a connection");
    stream.set_read_timeout(Some(LIMIT)).expect("a limit");
    stream.write_all(text.as_bytes()).expect("it is sent");
    let mut got = Vec::new();
    stream.read_to_end(&mut got).expect("an answer");
    String::from_utf8_lossy(&got).into_owned()
}

fn status_of(answer: &str) -> u16 {
    answer.split(' ').nth(1).and_then(|word| word.parse().ok()).unwrap_or_else(|| panic!("{answer:?}"))
}

#[test]
fn what_is_published_is_served_byte_for_byte_with_its_type() {
    let Some(node) = published(&Config::default()) else { return };
    let mut seen = 0;
    for (path, bytes) in files(&node) {
        let answer = node.get(&path).expect(200);
        assert_eq!(answer.body, bytes, "{path}");
        let kind = match path.rsplit('.').next() {
            Some("m3u8") => "application/vnd.apple.mpegurl",
            Some("ts") => "video/mp2t",
            _ => "video/mp4",
        };
        assert_eq!(answer.header("content-type"), Some(kind), "{path}");
        assert_eq!(answer.header("content-length"), Some(bytes.len().to_string().as_str()), "{path}");
        let keep = if path.ends_with("m3u8") { "no-cache" } else { "public, max-age=31536000, immutable" };
        assert_eq!(answer.header("cache-control"), Some(keep), "{path}");
        assert_eq!(answer.header("accept-ranges"), Some("bytes"), "{path}");
        assert!(
            answer.header("etag").is_some_and(|tag| tag.starts_with('"')),
            "{path}: {:?}",
            answer.headers
        );
        assert!(answer.header("last-modified").is_some(), "{path}");
        let head = node.ask("HEAD", &path, &[]).expect(200);
        for (name, value) in &answer.headers {
            assert!(name == "date" || head.headers.get(name) == Some(value), "{path}: HEAD lacks {name}");
        }
        seen += 1;
    }
    assert!(seen > 3, "{seen} files");
    let file = node.job("file")["outputs"]["file"]["path"].as_str().expect("a path").to_owned();
    assert_eq!(file, "/stream/file/film.mp4");
    let answer = node.get(&file).expect(200);
    assert_eq!(answer.header("content-type"), Some("video/mp4"));
    assert_eq!(answer.body, fs::read(node.output().join("deeper/film.mp4")).expect("the file"));
    assert!(node.get("/stream/film/master.m3u8").text().contains("#EXT-X-STREAM-INF"));
}

/// Sends bytes as they are, and gives the bodies of the answers, which all tell their length.
fn bodies(node: &Node, text: &str) -> Vec<Vec<u8>> {
    let mut stream = TcpStream::connect(node.address()).expect("a connection");
    stream.set_read_timeout(Some(LIMIT)).expect("a limit");
    stream.write_all(text.as_bytes()).expect("it is sent");
    let (mut got, mut found) = (Vec::new(), Vec::new());
    stream.read_to_end(&mut got).expect("the answers");
    let mut rest = &got[..];
    while let Some(head_bytes) = rest.windows(4).position(|four| four == b"\r\n\r\n") {
        let head = String::from_utf8_lossy(&rest[..head_bytes]).to_lowercase();
        let len = head.lines().find_map(|line| line.strip_prefix("content-length: ")?.parse::<usize>().ok());
        let end = head_bytes + 4 + len.unwrap_or_else(|| panic!("no length: {head}"));
        assert!(end <= rest.len(), "an answer broke off: {head}");
        found.push(rest[head_bytes + 4..end].to_vec());
        rest = &rest[end..];
    }
    assert!(rest.is_empty(), "{} bytes more", rest.len());
    found
}

/// Files of more than one chunk: in whole and in part, one after the other and asked for at once.
#[test]
fn large_files_are_served_byte_for_byte_whole_and_in_part() {
    let Some(film) = film(720, 8) else { return };
    let node = Node::start(&Config::default());
    let mut document = job("large", &node.add(&film));
    document["format"] = "mkv".into();
    document["output"] = "nas://out/large.mkv".into();
    document["renditions"] = json!([{"name": "v", "video_codec": "copy"}]);
    node.accepted(&document);
    node.succeeded("large");
    let (path, bytes) =
        ("/stream/large/large.mkv", fs::read(node.output().join("large.mkv")).expect("the file"));
    let len = bytes.len();
    assert!(len > 5 * 65_536, "{len} bytes are too few for this test");
    assert!(node.get(path).expect(200).body == bytes);
    let parts = [(0, 65_535), (0, 65_536), (7, 200_000), (65_536, len - 1), (len - 70_000, len - 1), (3, 3)];
    for (first, last) in parts {
        let part = node.ask("GET", path, &[("range", &format!("bytes={first}-{last}"))]).expect(206);
        assert!(part.body == bytes[first..=last], "{first}-{last}: {} bytes", part.body.len());
    }
    let ask = |(first, last): (usize, usize)| {
        format!("GET {path} HTTP/1.1\r\nHost: localhost\r\nRange: bytes={first}-{last}\r\n")
    };
    let all = parts.map(ask).join("\r\n") + "Connection: close\r\n\r\n";
    let got = bodies(&node, &all);
    assert!(got.len() == parts.len(), "{} answers", got.len());
    for ((first, last), body) in parts.iter().zip(&got) {
        assert!(body[..] == bytes[*first..=*last], "{first}-{last}: {} bytes", body.len());
    }
}

#[test]
fn ranges_and_conditions_are_those_of_rfc_9110() {
    let Some(node) = published(&Config::default()) else { return };
    let (path, bytes) = segment(&node);
    let len = bytes.len();
    for (range, first, end) in [
        ("bytes=0-".to_owned(), 0, len),
        ("bytes=0-0".into(), 0, 1),
        ("bytes=100-299".into(), 100, 300),
        (format!("bytes=100-{}", len * 2), 100, len),
        ("bytes=-188".into(), len - 188, len),
    ] {
        let part = node.ask("GET", &path, &[("range", &range), ("accept-encoding", "gzip")]).expect(206);
        assert_eq!(part.body, &bytes[first..end], "{range}");
        assert_eq!(part.header("content-range"), Some(format!("bytes {first}-{}/{len}", end - 1).as_str()));
        assert_eq!(part.header("content-length"), Some((end - first).to_string().as_str()));
        assert_eq!(part.header("content-encoding"), None);
    }
    let beyond = node.ask("GET", &path, &[("range", &format!("bytes={len}-"))]);
    let beyond = beyond.refused(416, "range_not_satisfiable");
    assert_eq!(beyond.header("content-range"), Some(format!("bytes */{len}").as_str()));
    assert_eq!(node.ask("GET", &path, &[("range", "bytes=0-1,5-6")]).expect(200).body, bytes);
    let whole = node.get(&path);
    let (tag, date) = (whole.header("etag").expect("a tag"), whole.header("last-modified").expect("a date"));
    let range = ("range", "bytes=0-9");
    node.ask("GET", &path, &[range, ("if-range", tag)]).expect(206);
    node.ask("GET", &path, &[range, ("if-range", "\"other\"")]).expect(200);
    for (name, value) in [("if-none-match", tag), ("if-modified-since", date)] {
        let same = node.ask("GET", &path, &[(name, value)]).expect(304);
        assert!(same.body.is_empty() && same.header("content-length").is_none(), "{:?}", same.headers);
        assert_eq!(same.header("etag"), Some(tag));
    }
    node.ask("GET", &path, &[("if-match", "\"other\"")]).refused(412, "precondition_failed");
    // What clients really send for a playlist.
    let playlist = "/stream/film/master.m3u8";
    let plain = node.get(playlist).expect(200);
    let part = node.ask("GET", playlist, &[("range", "bytes=0-"), ("accept-encoding", "gzip")]).expect(206);
    assert_eq!((part.body, part.headers.get("content-encoding")), (plain.body.clone(), None));
    let packed = node.ask("GET", playlist, &[("accept-encoding", "gzip, identity;q=1, *;q=0")]).expect(200);
    assert_eq!(
        (packed.header("content-encoding"), packed.header("vary")),
        (Some("gzip"), Some("accept-encoding"))
    );
    assert_ne!(packed.header("etag"), plain.header("etag"));
    let mut back = Vec::new();
    flate2::read::GzDecoder::new(&packed.body[..]).read_to_end(&mut back).expect("gzip");
    assert_eq!(back, plain.body);
    let media = node.ask("GET", &path, &[("accept-encoding", "gzip, br, zstd")]).expect(200);
    assert_eq!((media.header("content-encoding"), media.body.clone()), (None, bytes.clone()));
}

/// What a growing playlist names, in order.
fn names(text: &str) -> Vec<&str> {
    text.lines().filter(|line| !line.starts_with('#') && !line.is_empty()).collect()
}

fn tag<'a>(text: &'a str, name: &str) -> Option<&'a str> {
    text.lines().find_map(|line| line.strip_prefix(name))
}

#[test]
fn a_job_can_be_watched_while_it_runs_and_nothing_breaks_when_it_ends() {
    let (Some(film), Some(_)) = (medium_film(), long_film()) else { return };
    let node = Node::start(&Config::default());
    let input = node.add(&film);
    let mut document = job("grows", &input);
    let kind = if h264_encoder().is_some() { "ts" } else { "fmp4" };
    document["hls"] = json!({"segment_type": kind, "segment_duration": 1.0});
    document["renditions"] = json!([support::node::films::picture(180)]);
    node.accepted(&document);
    let index = "/stream/grows/180p/index.m3u8";
    let first = until(LIMIT, "something to play", || {
        let answer = node.get(index);
        if answer.status != 200 {
            let code = answer.json()["code"].clone();
            assert!(answer.status == 404 && (code == "not_yet" || code == "not_found"), "{}", answer.text());
            return None;
        }
        Some(answer)
    });
    let (mut before, mut seen, mut events) = (String::new(), BTreeMap::new(), 0);
    let target = tag(&first.text(), "#EXT-X-TARGETDURATION:").expect("a target").to_owned();
    let done = until(LIMIT, "the end", || {
        let answer = node.get(index).expect(200);
        assert_eq!(answer.header("cache-control"), Some("no-cache"));
        let text = answer.text();
        let now = names(&text).join("\n");
        assert!(now.starts_with(&before), "lines are only added: {before}\nthen\n{now}");
        before = now;
        assert_eq!(tag(&text, "#EXT-X-TARGETDURATION:"), Some(target.as_str()));
        let ended = text.contains("#EXT-X-ENDLIST");
        assert_eq!(tag(&text, "#EXT-X-PLAYLIST-TYPE:"), Some(if ended { "VOD" } else { "EVENT" }), "{text}");
        events += usize::from(!ended);
        if let Some(newest) = names(&text).last() {
            let path = format!("/stream/grows/180p/{newest}");
            seen.entry(path.clone()).or_insert_with(|| node.get(&path).expect(200).body);
        }
        ended.then_some(text)
    });
    assert!(events > 0 && seen.len() > 1, "{events} playlists, {} segments", seen.len());
    assert!(names(&done).len() > 3);
    node.succeeded("grows");
    for (path, bytes) in &seen {
        assert!(!bytes.is_empty());
        assert_eq!(&node.get(path).expect(200).body, bytes, "{path} is what it was");
    }
    Hls::open(&node.output().join("grows")).only().check_all((25, 1));
}

#[test]
fn of_a_running_job_only_whole_segments_are_there() {
    let Some(film) = long_film() else { return };
    let node = Node::start(&Config::default());
    let input = node.add(&film);
    let mut document = slow(job("slow", &input), 180);
    let kind = if h264_encoder().is_some() { "ts" } else { "fmp4" };
    document["hls"] = json!({"segment_type": kind, "segment_duration": 1.0});
    node.accepted(&document);
    node.accepted(&job("waits", &input));
    node.get("/stream/waits/master.m3u8").refused(404, "not_yet");
    let text = until(LIMIT, "a master playlist", || {
        let answer = node.get("/stream/slow/master.m3u8");
        (answer.status == 200).then(|| answer.text())
    });
    let master = m3u8_rs::parse_master_playlist_res(text.as_bytes()).expect("a master playlist");
    assert_eq!(master.variants[0].uri, "180p/index.m3u8");
    assert!(master.variants[0].codecs.as_deref().is_some_and(|codecs| codecs.contains("mp4a")), "{text}");
    let index = node.get("/stream/slow/180p/index.m3u8").expect(200).text();
    assert!(index.contains("#EXT-X-PLAYLIST-TYPE:EVENT") && !index.contains("ENDLIST"), "{index}");
    let extension = names(&index)[0].rsplit('.').next().expect("an extension").to_owned();
    node.get(&format!("/stream/slow/180p/0.{extension}")).expect(200);
    if extension == "m4s" {
        node.get("/stream/slow/180p/init.mp4").expect(200);
    }
    for nothing in ["180p/590", "180p/00", "90p/0"] {
        node.get(&format!("/stream/slow/{nothing}.{extension}")).refused(404, "not_found");
    }
    // Its log lies beside all that.
    let hidden = node.hidden();
    assert!(hidden.iter().any(|path| path.ends_with(".done")), "{hidden:?}");
    for nothing in [".done", "180p/.done", "180p/../.done", "180p"] {
        let answer = wire(
            &node,
            &format!("GET /stream/slow/{nothing} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"),
        );
        assert_eq!(status_of(&answer), 404, "{nothing}: {answer}");
    }
    node.cancel("slow");
    node.get("/stream/slow/180p/index.m3u8").refused(410, "output_gone");
}

#[test]
fn nothing_else_is_served_however_it_is_asked_for() {
    let Some(node) = published(&Config::default()) else { return };
    let out = node.output();
    let secret = out.parent().expect("the node's folder").join("secret.ts");
    fs::write(&secret, "SECRET").expect("a file outside");
    let rendition = out.join("film").join("90p");
    fs::write(out.join("film/.done"), "SECRET").expect("a log");
    fs::write(rendition.join("notes.txt"), "SECRET").expect("a note");
    symlink(&secret, rendition.join("90.ts")).expect("a link out");
    symlink(out.parent().expect("above"), out.join("film/up")).expect("a link out");
    fs::create_dir_all(out.join("film/other/90p")).expect("another output inside");
    fs::write(out.join("film/other/90p/0.ts"), "SECRET").expect("its segment");
    fs::write(out.join("film/other/master.m3u8"), "SECRET").expect("its playlist");
    let asked = [
        "/stream/film/.done",
        "/stream/film/90p/notes.txt",
        "/stream/film/90p/90.ts",
        "/stream/film/up/secret.ts",
        "/stream/film/up/0.ts",
        "/stream/film/other/master.m3u8",
        "/stream/film/other/90p/0.ts",
        "/stream/film/../../secret.ts",
        "/stream/film/90p/../../../secret.ts",
        "/stream/film/%2e%2e/%2e%2e/secret.ts",
        "/stream/film/90p/%2e%2e%2f%2e%2e%2f%2e%2e%2fsecret.ts",
        "/stream/film/..%2f..%2fsecret.ts",
        "/stream/film/%252e%252e/%252e%252e/secret.ts",
        "/stream/film/..%c0%af..%c0%afsecret.ts",
        "/stream/film/..%5c..%5csecret.ts",
        "/stream/film/..\\..\\secret.ts",
        "/stream/film/90p/0.ts%00.m3u8",
        "/stream/film/90p/0.ts%00",
        "/stream/film//90p/0.ts",
        "/stream/film/90p//0.ts",
        "/stream/film/./90p/0.ts",
        "/stream/film/90p/0.ts/",
        "/stream/film/%2fetc/passwd",
        "/stream/film//etc/passwd",
        "/stream/film/90p/%ff.ts",
        "/stream/film/90p",
        "/stream/film/90p/",
        "/stream/film/",
        "/stream/film",
        "/stream/",
        "/stream",
        "/stream/../stream/film/.done",
        "/stream/%2e%2e/secret.ts/x",
        "/stream/film%2f../90p/0.ts",
        "/stream/.hidden/master.m3u8",
        "/stream/file/master.m3u8",
        "/stream/file/deeper/film.mp4",
        "/stream/file/../film/master.m3u8",
        "/stream/file/Film.mp4",
        "/stream/nobody/master.m3u8",
        "/vod/media/../../secret.ts",
    ];
    for target in asked {
        for method in ["GET", "HEAD"] {
            let answer =
                wire(&node, &format!("{method} {target} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"));
            assert!(matches!(status_of(&answer), 400 | 404), "{method} {target}: {answer}");
            assert!(!answer.contains("SECRET") && !answer.contains("root:"), "{method} {target}: {answer}");
        }
    }
    for method in ["POST", "PUT", "DELETE", "PATCH"] {
        let refused = node.ask(method, "/stream/film/master.m3u8", &[]).refused(405, "method_not_allowed");
        assert_eq!(refused.header("allow"), Some("GET,HEAD"));
    }
    // What was there is there still.
    node.get("/stream/film/90p/index.m3u8").expect(200);
}

#[test]
fn what_has_gone_is_gone_at_once_and_is_told_from_what_never_was() {
    let Some(mut node) = published(&Config::default()) else { return };
    let (path, bytes) = segment(&node);
    assert_eq!(node.get(&path).expect(200).body, bytes);
    // Another job replaces it.
    let mut again =
        job("again", &node.job("film")["input"].as_str().expect("an input").replace("nas://media/", ""));
    again["output"] = "nas://out/film".into();
    again["overwrite"] = true.into();
    node.accepted(&again);
    node.succeeded("again");
    node.get(&path).refused(410, "output_gone");
    let moved = path.replace("/film/", "/again/");
    assert_eq!(node.get(&moved).expect(200).body.len(), bytes.len());
    node.delete("/jobs/again/output").expect(204);
    node.get(&moved).refused(410, "output_gone");
    node.get("/stream/nobody/master.m3u8").refused(404, "job_not_found");
    node.accepted(&job("fails", "no-such-film.mkv"));
    node.failed("fails");
    node.get("/stream/fails/master.m3u8").refused(410, "output_gone");
    // Somebody takes the file away by hand.
    fs::remove_file(node.output().join("deeper/film.mp4")).expect("the file was there");
    node.get("/stream/file/film.mp4").refused(410, "output_gone");
    node.terminate();
    node.restart();
    node.get("/stream/again/master.m3u8").refused(410, "output_gone");
}

#[track_caller]
fn has_cors(answer: &Answer, origin: &str) {
    assert_eq!(answer.header("access-control-allow-origin"), Some(origin), "{}", answer.question);
    let exposed = answer.header("access-control-expose-headers").unwrap_or_default().to_lowercase();
    for name in ["content-length", "content-range", "accept-ranges", "etag", "date"] {
        assert!(exposed.split(',').any(|one| one.trim() == name), "{}: {exposed}", answer.question);
    }
    assert_eq!(answer.header("cross-origin-resource-policy"), Some("cross-origin"), "{}", answer.question);
}

#[test]
fn every_answer_can_be_read_by_pages_and_no_control_call_can() {
    let Some(mut node) = published(&Config::default()) else { return };
    let (path, _) = segment(&node);
    let page = ("origin", "https://tv.example");
    let answers = |node: &Node| {
        vec![
            node.ask("GET", &path, &[page]).expect(200),
            node.ask("HEAD", &path, &[page]).expect(200),
            node.ask("GET", &path, &[page, ("range", "bytes=0-9")]).expect(206),
            node.ask("GET", &path, &[page, ("if-none-match", "*")]).expect(304),
            node.ask("GET", &path, &[page, ("range", "bytes=999999999-")]).expect(416),
            node.ask("GET", "/stream/nobody/x.ts", &[page]).expect(404),
            node.ask("GET", "/stream", &[page]).expect(404),
            node.ask("POST", &path, &[page]).expect(405),
            node.ask("GET", &format!("{path}?{}", "x".repeat(9000)), &[page]).expect(414),
        ]
    };
    answers(&node).iter().for_each(|answer| has_cors(answer, "*"));
    let asked = [page, ("access-control-request-method", "GET"), ("access-control-request-headers", "range")];
    let preflight = node.ask("OPTIONS", &path, &asked).expect(204);
    assert_eq!(preflight.header("access-control-allow-origin"), Some("*"));
    let allowed = |name: &str| preflight.header(name).unwrap_or_default().to_lowercase();
    for header in ["range", "content-type", "accept-encoding", "authorization"] {
        assert!(allowed("access-control-allow-headers").contains(header), "{:?}", preflight.headers);
    }
    assert_eq!(allowed("access-control-allow-methods"), "get,head");
    for control in ["/jobs", "/healthz", "/openapi.json", "/streams"] {
        let answer = node.get(control);
        assert_eq!(answer.header("access-control-allow-origin"), None, "{control}");
        assert_eq!(answer.header("cross-origin-resource-policy"), Some("same-origin"), "{control}");
    }
    node.ask("GET", "/jobs", &[page]).refused(403, "foreign_origin");
    // Only some pages.
    node.terminate();
    node.reconfigure(|config| config.with("http.cors_origins", json!(["https://tv.example"])));
    node.restart();
    for answer in answers(&node) {
        has_cors(&answer, "https://tv.example");
        let varies: Vec<_> = answer.headers.get_all("vary").iter().collect();
        assert!(varies.iter().any(|value| *value == "origin"), "{}: {varies:?}", answer.question);
    }
    let other = node.ask("GET", &path, &[("origin", "https://other.example")]).expect(200);
    assert_eq!(other.header("access-control-allow-origin"), None);
}

#[test]
fn any_name_of_the_node_will_do_for_media() {
    let Some(node) = published(&Config::default()) else { return };
    let ask = |path: &str| {
        let text = format!("GET {path} HTTP/1.1\r\nHost: tv.example\r\nConnection: close\r\n\r\n");
        status_of(&wire(&node, &text))
    };
    assert_eq!(ask("/stream/film/master.m3u8"), 200);
    assert_eq!(ask("/jobs"), 403);
}

#[test]
fn with_a_stream_token_only_who_shows_it_gets_media_and_playlists_pass_it_on() {
    let Some(node) = published(&Config::default().with("http.stream_token", TOKEN)) else { return };
    let (path, bytes) = segment(&node);
    let page = ("origin", "https://tv.example");
    let escaped = "a-stream-token%2Fof%2B24%26chars";
    for wrong in ["", "?token=", "?token=wrong", "?Token=x", &format!("?token={escaped}x")] {
        let refused = node.ask("GET", &format!("{path}{wrong}"), &[page]).refused(401, "unauthorized");
        has_cors(&refused, "*");
        assert!(refused.header("www-authenticate").is_some_and(|value| value.starts_with("Bearer")));
    }
    node.get("/stream/nobody/x.ts").refused(401, "unauthorized");
    node.ask("OPTIONS", &path, &[page]).expect(204);
    let bearer = format!("Bearer {TOKEN}");
    let shown = node.ask("GET", &path, &[("authorization", &bearer)]).expect(200);
    assert_eq!(
        (shown.header("cache-control"), &shown.body),
        (Some("private, max-age=31536000, immutable"), &bytes)
    );
    // By the header nothing changes; by the query everything that the playlist names has it.
    let on_disk = fs::read_to_string(node.output().join("film/master.m3u8")).expect("the playlist");
    let plain = node.ask("GET", "/stream/film/master.m3u8", &[("authorization", &bearer)]).expect(200);
    assert_eq!(plain.text(), on_disk);
    let master = node.get(&format!("/stream/film/master.m3u8?token={escaped}")).expect(200).text();
    let index = names(&master)[0];
    assert_eq!(index, format!("90p/index.m3u8?token={escaped}"));
    let media = node.get(&format!("/stream/film/{index}")).expect(200).text();
    assert!(names(&media).iter().all(|name| name.ends_with(&format!("?token={escaped}"))), "{media}");
    for name in names(&media) {
        node.get(&format!("/stream/film/90p/{name}")).expect(200);
    }
    if let Some(map) = tag(&media, "#EXT-X-MAP:URI=") {
        node.get(&format!("/stream/film/90p/{}", map.trim_matches('"'))).expect(200);
    }
    // The control API has a token of its own, or none.
    node.get("/jobs").expect(200);
    let document: Value = node.get("/openapi.json").expect(200).json();
    assert!(document["components"]["securitySchemes"]["stream_token"].is_object());
}

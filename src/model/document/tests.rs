//! Bodies in, documents or faults out.

use super::*;
use crate::base::time::Rational;
use crate::model::job::{AudioChoice, Format, RateWish, RenditionWish, SegmentType, VideoChoice, Wish};
use crate::model::track::{AudioCodec, VideoCodec};
use serde_json::{Value, json};

const EXAMPLE: &str = r#"{ "id": "movie-42", "input": "nas://media/movies/bbb.mkv", "output": "nas://transcoded/movie-42",
  "format": "hls", "hls": { "segment_type": "ts", "segment_duration": 4.0 },
  "renditions": [ { "name": "720p", "height": 720, "video_codec": "h264", "bitrate": 3000000, "crf": 22, "preset": "veryfast", "max_fps": 60 } ],
  "audio": { "codec": "aac", "bitrate": 128000, "channels": 2, "tracks": "all" },
  "subtitles": { "mode": "webvtt", "burn": null },
  "hardware": "auto", "overwrite": false, "priority": 5, "start": 0.0, "end": null, "labels": { "requested_by": "phone" } }"#;

fn read(document: &Value) -> Result<JobDocument, Refusal> {
    parse(document.to_string().as_bytes())
}

/// The faults of a body, as `pointer: message`.
#[track_caller]
fn told(body: &[u8]) -> Vec<String> {
    match parse(body) {
        Err(Refusal::Faults(faults)) => {
            faults.into_iter().map(|f| format!("{}: {}", f.pointer, f.message)).collect()
        }
        other => panic!("{other:?}"),
    }
}

/// The faults of a document with these fields over a good `input`.
#[track_caller]
fn wrong(fields: Value) -> Vec<String> {
    let mut document = json!({ "input": "a.mkv" });
    document.as_object_mut().unwrap().extend(fields.as_object().unwrap().clone());
    told(document.to_string().as_bytes())
}

fn rendition(fields: Value) -> Value {
    let mut rendition = json!({ "name": "a", "height": 720 });
    rendition.as_object_mut().unwrap().extend(fields.as_object().unwrap().clone());
    rendition
}

#[test]
fn the_example_of_the_contract_is_taken_word_for_word() {
    let document = parse(EXAMPLE.as_bytes()).unwrap();
    assert_eq!(document.notes(), Vec::<String>::new());
    assert_eq!(serde_json::to_value(&document).unwrap(), {
        let mut value: Value = serde_json::from_str(EXAMPLE).unwrap();
        // JSON has one kind of number, the types have two.
        value["renditions"][0]["crf"] = json!(22.0);
        value["renditions"][0]["max_fps"] = json!(60.0);
        value
    });
    let picture = RenditionWish {
        video: Some(VideoChoice::Encode(VideoCodec::H264)),
        rate: RateWish { crf: Some(22.0), bitrate_bps: Some(3_000_000) },
        preset: Some("veryfast".into()),
        ..RenditionWish::new("720p", 720)
    };
    let wish = Wish {
        renditions: vec![picture],
        max_fps: Some(Rational::from_int(60)),
        audio_bitrate_bps: Some(128_000),
        ..Wish::default()
    };
    assert_eq!(document.wish(), wish);
}

#[test]
fn what_is_left_out_is_the_same_as_its_default() {
    let bare = read(&json!({ "input": "a.mkv" })).unwrap();
    let full = json!({
        "id": null, "input": "a.mkv", "output": null, "format": "hls",
        "hls": { "segment_type": "ts", "segment_duration": 4 }, "renditions": [],
        "audio": { "codec": "aac", "bitrate": null, "channels": 2, "tracks": "all" },
        "subtitles": { "mode": "webvtt", "burn": null }, "hardware": "auto", "overwrite": false,
        "priority": 5, "start": 0, "end": null, "labels": {},
    });
    assert_eq!(read(&full).unwrap(), bare);
    assert_eq!(read(&json!({ "input": "a.mkv", "hls": {}, "audio": {}, "subtitles": {} })).unwrap(), bare);
    assert_eq!(bare.wish(), Wish::default());
    let named = read(&json!({ "input": "a", "renditions": [{ "name": "a", "height": 720 }] })).unwrap();
    let explicit = json!({ "name": "a", "height": 720.0, "video_codec": "h264", "bitrate": null, "crf": null,
        "preset": null, "max_fps": null });
    assert_eq!(read(&json!({ "input": "a", "renditions": [explicit] })).unwrap(), named);
    let again = serde_json::to_vec(&named).unwrap();
    assert_eq!(parse(&again), Ok(named), "what is given back can be sent again");
}

#[test]
fn the_schema_and_the_types_have_the_same_defaults() {
    let mut parts =
        vec![(JobDocument::name().into_owned(), <JobDocument as utoipa::PartialSchema>::schema())];
    JobDocument::schemas(&mut parts);
    let with = |part: &str, field: &str, value: &Value| match part {
        "JobDocument" => json!({ "input": "a", field: value }),
        "HlsOptions" => json!({ "input": "a", "hls": { field: value } }),
        "AudioOptions" => json!({ "input": "a", "audio": { field: value } }),
        "SubtitleOptions" => json!({ "input": "a", "subtitles": { field: value } }),
        "RenditionOptions" if field == "video_codec" => {
            json!({ "input": "a", "renditions": [{ "name": "a", "height": 720, field: value }] })
        }
        other => panic!("{other}.{field} has a default"),
    };
    let mut seen = 0;
    for (part, schema) in parts {
        let schema = serde_json::to_value(schema).unwrap();
        let Some(fields) = schema["properties"].as_object() else { continue };
        assert_eq!(schema["additionalProperties"], json!(false), "{part}");
        for (field, schema) in fields {
            let Some(default) = schema.get("default") else { continue };
            let explicit = with(&part, field, default);
            let mut omitted = explicit.clone();
            let parent = ["/hls", "/audio", "/subtitles", "/renditions/0", ""];
            for parent in parent {
                omitted.pointer_mut(parent).and_then(Value::as_object_mut).map(|o| o.remove(field));
            }
            assert_eq!(read(&explicit).unwrap(), read(&omitted).unwrap(), "{part}.{field}");
            seen += 1;
        }
    }
    assert!(seen >= 13, "only {seen} defaults are in the schema");
}

#[test]
fn each_wrong_field_is_told_with_its_place_and_what_would_be_right() {
    let of_job = "audio, end, format, hardware, hls, id, input, labels, output, overwrite, priority, renditions, start, subtitles";
    let name = "1 to 32 of A-Z a-z 0-9 . _ -, and not begin with a dot";
    let id = "1 to 64 of A-Z a-z 0-9 . _ -, and not begin with a dot";
    let long = "x".repeat(65);
    for (fields, expected) in [
        (json!({ "input": null }), "/input: has to be a string, but is null".to_owned()),
        (json!({ "input": "" }), "/input: is empty".into()),
        (json!({ "input": "x".repeat(4097) }), "/input: has 4097 characters: at most 4096".into()),
        (json!({ "input": "a\u{0}" }), "/input: a path cannot contain the character U+0000".into()),
        (json!({ "output": "" }), "/output: is empty".into()),
        (json!({ "id": ".a" }), format!("/id: has to be {id}, but is \".a\"")),
        (json!({ "id": "" }), format!("/id: has to be {id}, but is \"\"")),
        (json!({ "id": "a\n" }), format!("/id: has to be {id}, but is \"a\\n\"")),
        (json!({ "id": long }), "/id: has 65 characters: at most 64".into()),
        (json!({ "id": 7 }), "/id: has to be a string or null, but is 7".into()),
        (json!({ "a/b~c": 1 }), format!("/a~1b~0c: there is no such field; here are {of_job}")),
        (
            json!({ "hls": { "segment_lenght": 4 } }),
            "/hls/segment_lenght: there is no such field; here are segment_duration, segment_type".into(),
        ),
        (json!({ "format": "avi" }), "/format: has to be one of hls, mp4, mkv, ts, but is \"avi\"".into()),
        (json!({ "format": 3 }), "/format: has to be a string, but is 3".into()),
        (json!({ "hls": [] }), "/hls: has to be an object, but is an array".into()),
        (
            json!({ "hls": { "segment_duration": 0.4 } }),
            "/hls/segment_duration: has to be at least 0.5, but is 0.4".into(),
        ),
        (
            json!({ "hls": { "segment_duration": 61 } }),
            "/hls/segment_duration: has to be at most 60, but is 61".into(),
        ),
        (json!({ "priority": 11 }), "/priority: has to be at most 10, but is 11".into()),
        (json!({ "priority": -1 }), "/priority: has to be at least 0, but is -1".into()),
        (json!({ "priority": 1.5 }), "/priority: has to be a whole number, but is 1.5".into()),
        (
            json!({ "overwrite": "yes" }),
            "/overwrite: has to be true or false, but is the string \"yes\"".into(),
        ),
        (json!({ "start": -0.5 }), "/start: has to be at least 0, but is -0.5".into()),
        (json!({ "start": 5, "end": 5 }), "/end: has to lie after start, 5, but is 5".into()),
        (json!({ "start": 1, "end": 1.0000001 }), "/end: has to lie after start, 1, but is 1.0000001".into()),
        (json!({ "labels": { "a": 1 } }), "/labels/a: has to be a string, but is 1".into()),
        (json!({ "labels": { "": "x" } }), "/labels/: the name of a label has 1 to 64 characters".into()),
        (json!({ "labels": { "a": "é".repeat(257) } }), "/labels/a: has 257 characters: at most 256".into()),
        (json!({ "renditions": [{ "height": 720 }] }), "/renditions/0/name: is needed".into()),
        (
            json!({ "renditions": [rendition(json!({ "name": "../x" }))] }),
            format!("/renditions/0/name: has to be {name}, but is \"../x\""),
        ),
        (
            json!({ "renditions": [rendition(json!({ "name": "MASTER.m3u8" }))] }),
            "/renditions/0/name: MASTER.m3u8 is the name of a file of the output: choose another".into(),
        ),
        (
            json!({ "renditions": [rendition(json!({ "height": null }))] }),
            "/renditions/0/height: is needed, unless video_codec is copy".into(),
        ),
        (
            json!({ "renditions": [rendition(json!({ "preset": "very fast" }))] }),
            "/renditions/0/preset: has to be a word of the encoder such as veryfast: 1 to 32 of A-Z a-z 0-9 _ -, but is \"very fast\"".into(),
        ),
        (
            json!({ "renditions": [rendition(json!({ "crf": 51.5 }))] }),
            "/renditions/0/crf: the scale of this codec ends at 51, but it is 51.5".into(),
        ),
        (
            json!({ "renditions": [rendition(json!({ "video_codec": "vp9" }))] }),
            "/renditions/0/video_codec: MPEG-TS cannot carry VP9: use hls.segment_type fmp4".into(),
        ),
        (
            json!({ "format": "ts", "hls": { "segment_type": "fmp4" },
                "renditions": [rendition(json!({ "video_codec": "av1" }))] }),
            "/renditions/0/video_codec: MPEG-TS cannot carry AV1: use format mp4 or mkv".into(),
        ),
        (
            json!({ "audio": { "codec": "opus" } }),
            "/audio/codec: Opus in MPEG-TS is played by no TV: use hls.segment_type fmp4".into(),
        ),
        (
            json!({ "audio": { "codec": "mp3" } }),
            "/audio/codec: has to be one of aac, ac3, eac3, opus, copy, none, but is \"mp3\"".into(),
        ),
        (
            json!({ "audio": { "codec": "eac3", "channels": 8 } }),
            "/audio/channels: this codec has at most 6 channels".into(),
        ),
        (
            json!({ "format": "mp4", "renditions": [rendition(json!({})), rendition(json!({ "name": "b" }))] }),
            "/renditions: a single file holds one rendition: use format hls for several".into(),
        ),
        (
            json!({ "renditions": [rendition(json!({})), rendition(json!({ "name": "A" }))] }),
            "/renditions/1/name: rendition 0 has this name already".into(),
        ),
        (
            json!({ "renditions": [rendition(json!({})), rendition(json!({ "name": "b", "max_fps": 30 }))] }),
            "/renditions/1/max_fps: all renditions share one grid of frames: give max_fps to all alike".into(),
        ),
        (
            json!({ "subtitles": { "burn": 2 } }),
            "/subtitles/burn: subtitles are not drawn into the picture yet: leave it out".into(),
        ),
    ] {
        assert_eq!(wrong(fields.clone()), [expected], "{fields}");
    }
    assert_eq!(told(b"{}"), ["/input: is needed"]);
    assert_eq!(told(b"[1]"), [": has to be an object, but is an array"]);
    assert_eq!(told(b"null"), [": has to be an object, but is null"]);
}

#[test]
fn too_many_entries_are_counted() {
    let labels: serde_json::Map<String, Value> = (0..33).map(|i| (format!("l{i}"), "x".into())).collect();
    assert_eq!(wrong(json!({ "labels": labels })), ["/labels: has 33 entries: at most 32"]);
    let many: Vec<Value> = (0..17).map(|i| rendition(json!({ "name": format!("r{i}") }))).collect();
    assert_eq!(wrong(json!({ "renditions": many })), ["/renditions: has 17 entries: at most 16"]);
}

#[test]
fn every_fault_is_told_in_one_answer() {
    let body = json!({
        "input": 7, "ouput": "x", "priority": 99, "start": 9, "end": 3,
        "renditions": [
            { "name": "a", "heigth": 720, "bitrate": "3M" },
            { "name": "A", "height": 480, "video_codec": "av1", "max_fps": 25 },
            { "name": "c", "height": 360, "video_codec": "copy" },
        ],
        "audio": { "codec": "opus" }, "subtitles": { "burn": 0 },
    });
    let pointers: Vec<String> = told(body.to_string().as_bytes())
        .into_iter()
        .map(|fault| fault.split_once(": ").unwrap().0.to_owned())
        .collect();
    assert_eq!(
        pointers,
        [
            "/audio/codec",
            "/end",
            "/input",
            "/ouput",
            "/priority",
            "/renditions/0/bitrate",
            "/renditions/0/height",
            "/renditions/0/heigth",
            "/renditions/1/max_fps",
            "/renditions/1/name",
            "/renditions/1/video_codec",
            "/renditions/2/height",
            "/renditions/2/video_codec",
            "/subtitles/burn",
        ]
    );
    // What would have to be compared with something that is wrong is not guessed at.
    let unsure =
        wrong(json!({ "format": "mp5", "renditions": [rendition(json!({ "video_codec": "av1" }))] }));
    assert_eq!(unsure, ["/format: has to be one of hls, mp4, mkv, ts, but is \"mp5\""]);
}

#[test]
fn a_copied_picture_is_alone_and_bare() {
    let copy = |fields: Value| {
        let mut r = json!({ "name": "source", "video_codec": "copy" });
        r.as_object_mut().unwrap().extend(fields.as_object().unwrap().clone());
        json!({ "input": "a", "renditions": [r] })
    };
    let wish = read(&copy(json!({}))).unwrap().wish();
    assert!(wish.copies_video() && wish.validate().is_ok(), "{wish:?}");
    let dressed =
        copy(json!({ "height": 720, "bitrate": 1_000_000, "crf": 20, "preset": "fast", "max_fps": 30 }));
    assert_eq!(
        told(dressed.to_string().as_bytes()),
        [
            "/renditions/0/bitrate: a copied picture keeps its bits: leave it out",
            "/renditions/0/crf: a copied picture keeps its bits: leave it out",
            "/renditions/0/height: a copied picture keeps its size: leave it out",
            "/renditions/0/max_fps: a copied picture keeps its frames: leave it out",
            "/renditions/0/preset: a copied picture keeps its bits: leave it out",
        ]
    );
    let two = json!([{ "name": "a", "video_codec": "copy" }, { "name": "b", "height": 480 }]);
    assert_eq!(
        wrong(json!({ "renditions": two })),
        ["/renditions/0/video_codec: a copied picture has to be the only rendition"]
    );
}

#[test]
fn each_word_reaches_the_wish() {
    let wish = |fields: Value| {
        let mut document = json!({ "input": "a" });
        document.as_object_mut().unwrap().extend(fields.as_object().unwrap().clone());
        read(&document).unwrap_or_else(|e| panic!("{fields}: {e:?}")).wish()
    };
    let fmp4 = json!({ "segment_type": "fmp4", "segment_duration": 2.002 });
    let codecs = ["h264", "hevc", "av1", "vp9"];
    let rungs: Vec<Value> =
        codecs.iter().map(|c| json!({ "name": c, "height": 360, "video_codec": c })).collect();
    let made = wish(json!({ "hls": fmp4, "renditions": rungs, "audio": { "codec": "opus", "channels": 8 } }));
    assert_eq!(made.format, Format::Hls(SegmentType::Fmp4));
    assert_eq!(made.segment_seconds, Rational::new(1001, 500));
    let expected = [VideoCodec::H264, VideoCodec::Hevc, VideoCodec::Av1, VideoCodec::Vp9];
    let choices: Vec<_> = made.renditions.iter().map(|r| r.video).collect();
    assert_eq!(choices, expected.map(|codec| Some(VideoChoice::Encode(codec))));
    assert_eq!((made.audio, made.channels), (AudioChoice::Encode(AudioCodec::Opus), 8));
    for (word, format) in [("mp4", Format::Mp4), ("mkv", Format::Mkv), ("ts", Format::Ts)] {
        assert_eq!(wish(json!({ "format": word })).format, format);
    }
    for (word, choice) in [
        ("ac3", AudioChoice::Encode(AudioCodec::Ac3)),
        ("eac3", AudioChoice::Encode(AudioCodec::Eac3)),
        ("copy", AudioChoice::Copy),
        ("none", AudioChoice::None),
    ] {
        assert_eq!(wish(json!({ "audio": { "codec": word } })).audio, choice);
    }
    let part = wish(json!({ "start": 1.5, "end": 90.25 }));
    assert_eq!((part.start, part.end), (Rational::new(3, 2), Some(Rational::new(361, 4))));
    let fps =
        |max_fps: Value| wish(json!({ "renditions": [rendition(json!({ "max_fps": max_fps }))] })).max_fps;
    assert_eq!(fps(json!(29.97)), Some(Rational::new(30_000, 1001)), "short for the true rate");
    assert_eq!(fps(json!(24)), Some(Rational::from_int(24)));
    assert_eq!(fps(Value::Null), None);
    let alike = json!([rendition(json!({ "max_fps": 60 })), rendition(json!({ "name": "b" }))]);
    assert_eq!(
        wish(json!({ "renditions": alike })).max_fps,
        Some(Rational::from_int(60)),
        "no grid is faster"
    );
}

#[test]
fn what_has_no_effect_is_noted() {
    let notes = |fields: Value| {
        let mut document = json!({ "input": "a" });
        document.as_object_mut().unwrap().extend(fields.as_object().unwrap().clone());
        read(&document).unwrap().notes()
    };
    assert_eq!(notes(json!({ "format": "mp4", "subtitles": { "mode": "none" } })), Vec::<String>::new());
    assert_eq!(
        notes(
            json!({ "format": "mkv", "hls": { "segment_type": "fmp4" }, "audio": { "codec": "copy", "bitrate": 64000 } })
        ),
        [
            "hls.segment_type has no effect: the output is a single file",
            "audio.bitrate has no effect: the sound is copied"
        ]
    );
    assert_eq!(
        notes(json!({ "audio": { "codec": "none", "tracks": "first" } })),
        ["audio.tracks has no effect: the sound is left out"]
    );
}

#[test]
fn what_is_not_json_is_told_by_line_and_column() {
    let message = |body: &[u8]| match parse(body) {
        Err(Refusal::NotJson { message }) => message,
        other => panic!("{other:?}"),
    };
    for (body, told) in [
        (&b""[..], "EOF while parsing a value at line 1 column 0"),
        (b"{\n  \"input\": }", "expected value at line 2 column 12"),
        (b"{} {}", "trailing characters at line 1 column 4"),
        (b"{\"start\": 1e999}", "number out of range at line 1 column 15"),
        (b"{\"input\": \"a\xff\"}", "invalid unicode code point at line 1 column 13"),
        (b"{\"start\": NaN}", "expected value at line 1 column 11"),
        (b"\xef\xbb\xbf{}", "expected value at line 1 column 1"),
    ] {
        assert_eq!(message(body), format!("the body is not JSON: {told}"));
    }
    for open in ["[", "{\"a\":"] {
        let deep = message(open.repeat(50_000).as_bytes());
        assert!(
            deep.starts_with("the body is not JSON: recursion limit exceeded at line 1 column"),
            "{deep}"
        );
    }
    let level = |n: usize| format!("{{\"x\":{}{}}}", "[".repeat(n), "]".repeat(n));
    assert_eq!(told(level(120).as_bytes()).len(), 2, "the field and the missing input");
}

#[test]
fn a_field_that_is_there_twice_is_refused() {
    let twice = "the field is there more than once";
    assert_eq!(told(br#"{"input":"a","input":"b","in\u0070ut":"c"}"#), [format!("/input: {twice}")]);
    assert_eq!(
        told(br#"{"input":"a","renditions":[{"name":"a","height":1,"height":720}],"labels":{"x":"1","x":"2"}}"#),
        [format!("/labels/x: {twice}"), format!("/renditions/0/height: {twice}")]
    );
}

#[test]
fn a_refusal_stays_small_whatever_is_sent() {
    let fields: serde_json::Map<String, Value> = (0..5000).map(|i| (format!("f{i:04}"), json!(1))).collect();
    let many = wrong(Value::Object(fields));
    assert_eq!(many.len(), MAX_FAULTS);
    assert!(many[0].starts_with("/f0000: "));
    assert_eq!(many[MAX_FAULTS - 1], ": and 4901 more faults");
    let long = "k".repeat(100_000);
    let nested = format!("{{\"input\":\"a\",\"{long}\":{{{}}}}}", vec!["\"d\":1"; 10_000].join(","));
    let size: usize = told(nested.as_bytes()).iter().map(String::len).sum();
    assert!(size < 4000, "{size}");
    let value = wrong(json!({ "format": long }));
    assert!(value[0].len() < 200, "{}", value[0]);
}

#[test]
fn a_job_carries_its_document_through_the_disk_unchanged() {
    let document = parse(EXAMPLE.as_bytes()).unwrap();
    let job = crate::model::record::Job::accepted(document, jiff::Timestamp::UNIX_EPOCH);
    let text = serde_json::to_string(&job).unwrap();
    assert_eq!(serde_json::from_str::<crate::model::record::Job>(&text).unwrap(), job);
}

#[test]
fn a_job_that_is_given_back_fits_the_schema_of_the_document_in_it() {
    let open = serde_json::to_value(schema_as_returned()).unwrap();
    assert_eq!(open.get("additionalProperties"), None);
    let closed = serde_json::to_value(<JobDocument as utoipa::PartialSchema>::schema()).unwrap();
    assert_eq!((&closed["properties"], &closed["required"]), (&open["properties"], &json!(["input"])));
}

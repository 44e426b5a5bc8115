//! Whatever is sent: taken whole, or refused with places that exist.

use super::*;
use proptest::prelude::*;
use serde_json::{Value, json};

fn read(document: &Value) -> Result<JobDocument, Refusal> {
    parse(document.to_string().as_bytes())
}

fn scalar() -> impl Strategy<Value = Value> {
    let number = prop_oneof![
        (-2i64..70).prop_map(|n| json!(n)),
        (0u64..2_000_000_000).prop_map(|n| json!(n)),
        (-1.0f64..70.0).prop_map(|n| json!(n)),
        any::<u64>().prop_map(|n| json!(n)),
        any::<f64>().prop_map(|n| json!(n)),
    ];
    let words = [
        "hls", "mp4", "mkv", "ts", "fmp4", "h264", "hevc", "av1", "vp9", "copy", "aac", "ac3", "eac3",
        "opus", "none", "all", "first", "webvtt", "auto", "forbid", "require", "", ".a", "a/b", "\u{0}", "a",
    ];
    prop_oneof![
        4 => number,
        6 => prop::sample::select(words.to_vec()).prop_map(Value::from),
        1 => any::<String>().prop_map(Value::from),
        1 => any::<bool>().prop_map(Value::from),
        1 => Just(Value::Null),
    ]
}

/// Fields of a document by their names, with values that are often right.
fn object(fields: &'static [&'static str], more: BoxedStrategy<Value>) -> impl Strategy<Value = Value> {
    let name =
        prop_oneof![30 => prop::sample::select(fields.to_vec()).prop_map(String::from), 1 => any::<String>()];
    prop::collection::vec((name, more), 0..6).prop_map(|fields| Value::Object(fields.into_iter().collect()))
}

fn any_document() -> impl Strategy<Value = Value> {
    const RENDITION: &[&str] = &["name", "height", "video_codec", "bitrate", "crf", "preset", "max_fps"];
    let rendition = object(RENDITION, scalar().boxed()).prop_map(|mut r| {
        r.as_object_mut().unwrap().entry("name").or_insert("r".into());
        r.as_object_mut().unwrap().entry("height").or_insert(720.into());
        r
    });
    let good = any::<bool>();
    let hls = object(&["segment_type", "segment_duration"], scalar().boxed());
    let audio = object(&["codec", "bitrate", "channels", "tracks"], scalar().boxed());
    let subtitles = object(&["mode", "burn"], scalar().boxed());
    const TOP: &[&str] = &[
        "id",
        "output",
        "format",
        "hls",
        "renditions",
        "audio",
        "subtitles",
        "hardware",
        "overwrite",
        "priority",
        "start",
        "end",
        "labels",
    ];
    let top = object(TOP, scalar().boxed());
    (top, prop::collection::vec(rendition, 0..4), hls, audio, subtitles, good).prop_map(
        |(mut top, renditions, hls, audio, subtitles, good)| {
            let fields = top.as_object_mut().unwrap();
            fields.insert("input".into(), "a".into());
            if good {
                fields.insert("renditions".into(), renditions.into());
                fields.insert("hls".into(), hls);
                fields.insert("audio".into(), audio);
                fields.insert("subtitles".into(), subtitles);
            }
            top
        },
    )
}

/// A document out of parts that are each right, and may contradict each other.
fn plausible() -> impl Strategy<Value = Value> {
    let word = |words: &'static [&'static str]| prop::sample::select(words.to_vec());
    let codec = word(&["h264", "hevc", "av1", "vp9", "copy"]);
    let rendition = (word(&["a", "A", "b", "c"]), prop::option::of(16u32..8192), codec, 0u32..64, any::<u8>()).prop_map(
        |(name, height, codec, crf, set)| {
            let when = |bit: u8, value: Value| if set & bit != 0 { value } else { Value::Null };
            json!({ "name": name, "height": height, "video_codec": codec, "crf": when(1, json!(crf)),
                "bitrate": when(2, json!(500_000)), "max_fps": when(4, json!(29.97)), "preset": when(8, json!("fast")) })
        },
    );
    let span = (0u32..20, prop::option::of(0u32..40));
    (
        word(&["hls", "hls", "mp4", "mkv", "ts"]),
        word(&["ts", "fmp4"]),
        prop::collection::vec(rendition, 0..3),
        word(&["aac", "ac3", "eac3", "opus", "copy", "none"]),
        1u32..9,
        span,
    )
        .prop_map(|(format, segments, renditions, audio, channels, (start, end))| {
            json!({ "input": "a", "format": format, "hls": { "segment_type": segments }, "renditions": renditions,
                "audio": { "codec": audio, "channels": channels },
                "start": f64::from(start) / 2.0, "end": end.map(|e| f64::from(e) / 2.0) })
        })
}

fn sound(document: &Value) -> Result<bool, TestCaseError> {
    match read(document) {
        Ok(job) => {
            let valid = job.wish().validate();
            prop_assert!(valid.is_ok(), "{document} made {valid:?}");
            let again = serde_json::to_value(&job).unwrap();
            prop_assert_eq!(read(&again), Ok(job));
            Ok(true)
        }
        Err(Refusal::Faults(faults)) => {
            prop_assert!((1..=MAX_FAULTS).contains(&faults.len()));
            for fault in &faults {
                prop_assert!(!fault.message.is_empty());
                let parent = fault.pointer.rsplit_once('/').map_or("", |(parent, _)| parent);
                prop_assert!(document.pointer(parent).is_some(), "{} is not in {document}", fault.pointer);
                prop_assert!(
                    !fault.pointer.is_empty(),
                    "the types refuse what the schema takes: {}",
                    fault.message
                );
            }
            Ok(false)
        }
        Err(other) => Err(TestCaseError::fail(format!("{document}: {other:?}"))),
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(3000))]

    #[test]
    fn whatever_comes_is_taken_whole_or_refused_with_places(document in any_document()) {
        sound(&document)?;
    }

    #[test]
    fn what_is_taken_makes_a_wish_that_validates(document in plausible()) {
        sound(&document)?;
    }

    #[test]
    fn no_bytes_are_too_strange(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        prop_assert!(parse(&bytes).is_err());
    }
}

#[test]
fn the_cases_above_are_of_both_kinds() {
    use proptest::strategy::ValueTree;
    use proptest::test_runner::TestRunner;
    let mut runner = TestRunner::deterministic();
    let mut taken = |strategy: BoxedStrategy<Value>| {
        let mut one = || strategy.new_tree(&mut runner).unwrap().current();
        (0..500).filter(|_| read(&one()).is_ok()).count()
    };
    let (any, likely) = (taken(any_document().boxed()), taken(plausible().boxed()));
    assert!((5..450).contains(&any) && (25..450).contains(&likely), "{any} and {likely} of 500 were taken");
}

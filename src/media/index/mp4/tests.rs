use super::*;
use proptest::prelude::*;

fn boxed(kind: &[u8; 4], body: &[u8]) -> Vec<u8> {
    [&(body.len() as u32 + 8).to_be_bytes()[..], kind, body].concat()
}

fn full(kind: &[u8; 4], words: &[u32]) -> Vec<u8> {
    let body: Vec<u8> = std::iter::once(0).chain(words.iter().copied()).flat_map(u32::to_be_bytes).collect();
    boxed(kind, &body)
}

/// A track with the ID 7: chunks of two samples and then of one.
fn moov() -> Vec<u8> {
    let mut track_header = vec![0; 84];
    track_header[3] = 3; // enabled, in movie
    track_header[15] = 7;
    let table = [
        full(b"stsz", &[0, 5, 10, 20, 30, 40, 50]),
        full(b"stsc", &[2, 1, 2, 1, 3, 1, 1]),
        full(b"stco", &[3, 1000, 2000, 3000]),
        full(b"ctts", &[3, 1, 0, 3, 512, 1, u32::MAX]),
    ];
    let stbl = boxed(b"stbl", &table.concat());
    let mdia = boxed(b"mdia", &boxed(b"minf", &stbl));
    boxed(b"trak", &[boxed(b"tkhd", &track_header), mdia].concat())
}

#[test]
fn samples_lie_where_the_tables_say() {
    let wanted = [(1000, 0), (1010, 512), (2000, 512), (2030, 512), (3000, -1)];
    let wanted = wanted.map(|(offset, shown_later)| Sample { offset, shown_later });
    assert_eq!(samples_in(&moov(), 7), Some(wanted.to_vec()));
    assert_eq!(samples_in(&moov(), 8), None, "another track");
    let fragmented = [moov(), boxed(b"mvex", &[])].concat();
    assert_eq!(samples_in(&fragmented, 7), None, "the tables are not the whole film");
}

#[test]
fn counts_that_promise_more_than_there_is_are_refused() {
    for (from, to) in [(5u32, u32::MAX), (3000, 2010)] {
        let (from, to) = (from.to_be_bytes(), to.to_be_bytes());
        let mut bytes = moov();
        let at = bytes.windows(4).position(|w| w == from).unwrap();
        bytes[at..at + 4].copy_from_slice(&to);
        assert!(samples_in(&bytes, 7).is_none_or(|s| s.len() == 5));
    }
    let identical = StszSamples::Identical { count: u32::MAX, size: 1 };
    assert_eq!(sizes(Stsz { samples: identical }), None);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]
    #[test]
    fn no_damage_panics_or_grows(changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..6), cut in any::<prop::sample::Index>()) {
        let mut bytes = moov();
        for (at, value) in changes {
            let at = at.index(bytes.len());
            bytes[at] = value;
        }
        let length = bytes.len();
        for bytes in [&bytes[..], &bytes[..cut.index(length)]] {
            if let Some(samples) = samples_in(bytes, 7) {
                prop_assert!(samples.len() <= MAX_SAMPLES);
            }
        }
    }
}

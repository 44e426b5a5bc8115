use super::*;

fn streams() -> Streams {
    Streams {
        video: 0,
        video_id: 1,
        video_base: Rational::new(1, 1000),
        audio: Some((1, Rational::new(1, 48_000))),
        framing: None,
        config: Vec::new(),
    }
}

#[test]
fn packets_are_counted_to_the_key_frame_before_them_and_sound_to_its_time() {
    let mut gathered = Gathered::default();
    gathered.picture(9); // nobody can decode it
    for (pts, sizes) in [(0, [100, 10]), (2000, [200, 20]), (2000, [1, 1])] {
        gathered.key(pts, None, None);
        sizes.iter().for_each(|bytes| gathered.picture(*bytes));
    }
    // 2 s are 96 000 samples: the packet that begins just there belongs to what follows.
    gathered.audio = vec![(96_000, 7), (-1024, 1), (0, 2), (95_999, 3)];
    let keys = gathered.into_keys(&streams());
    let amount = |packets, bytes| Amount { packets, bytes };
    let seen: Vec<_> = keys.iter().map(|k| (k.pts, k.video, k.audio)).collect();
    assert_eq!(seen, [(0, amount(2, 110), amount(3, 6)), (2000, amount(4, 222), amount(1, 7))]);
}

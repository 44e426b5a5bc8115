//! The cache against a naive model, against threads, and against what can lie in its folder.

use super::*;
use proptest::prelude::*;
use std::thread;

fn key(index: u64) -> Key {
    Key { content: 0xfeed, rendition: 2, index }
}

/// Bytes that tell whose they are.
fn bytes_of(key: Key, len: usize) -> Vec<u8> {
    let seed = (key.content as u8).wrapping_mul(31) ^ (key.index as u8).wrapping_mul(7) ^ key.rendition as u8;
    (0..len).map(|i| seed.wrapping_add(i as u8)).collect()
}

fn open(dir: &Path, memory_bytes: u64, disk_bytes: u64) -> Cache {
    Cache::open(dir.to_path_buf(), Caps { memory_bytes, disk_bytes }).unwrap()
}

fn put(cache: &Cache, key: Key, len: usize) {
    cache.put(key, bytes_of(key, len), &Cancel::new()).unwrap();
}

fn fill(cache: &Cache) -> (u64, u64, usize) {
    let Fill { memory_bytes, disk_bytes, segments } = cache.fill();
    (memory_bytes, disk_bytes, segments)
}

/// Which of the first `upto` keys are in memory, on disk, and nowhere. Looks without wanting them.
fn tiers(cache: &Cache, upto: u64) -> String {
    let shelves = cache.0.lock();
    (0..upto).map(|i| shelves.tier(key(i))).collect()
}

fn files(dir: &Path) -> Vec<(String, u64)> {
    let entries = fs::read_dir(dir).unwrap().map(|e| e.unwrap());
    let mut files: Vec<_> =
        entries.filter_map(|e| Some((e.file_name().into_string().ok()?, e.metadata().ok()?.len()))).collect();
    files.sort();
    files
}

fn file_bytes(dir: &Path) -> u64 {
    files(dir).iter().map(|(_, bytes)| bytes).sum()
}

#[test]
fn the_least_recently_wanted_goes_to_the_disk_and_from_there_for_good() {
    let dir = tempfile::tempdir().unwrap();
    let cache = open(dir.path(), 30, 20);
    (0..3).for_each(|i| put(&cache, key(i), 10));
    assert_eq!(tiers(&cache, 3), "MMM");
    assert!(matches!(cache.get(key(0)), Some(Found::Memory(_))));
    put(&cache, key(3), 10);
    assert_eq!(tiers(&cache, 4), "MDMM", "0 was wanted since, so 1 went");
    put(&cache, key(4), 10);
    assert_eq!(tiers(&cache, 5), "MDDMM");
    assert!(matches!(cache.get(key(1)), Some(Found::Disk(_))));
    put(&cache, key(5), 10);
    assert_eq!(tiers(&cache, 6), "DD-MMM", "1 was wanted since, so 2 went for good");
    assert_eq!((fill(&cache), file_bytes(dir.path())), ((30, 20, 5), 20));
}

#[test]
fn bytes_come_back_as_they_went_in_from_both_places() {
    let dir = tempfile::tempdir().unwrap();
    let cache = open(dir.path(), 10, 100);
    put(&cache, key(0), 10);
    put(&cache, key(1), 7);
    let Some(Found::Memory(data)) = cache.get(key(1)) else { panic!("not in memory") };
    assert_eq!(data.joined(), bytes_of(key(1), 7));
    let Some(Found::Disk(segment)) = cache.get(key(0)) else { panic!("not on disk") };
    assert_eq!(segment.bytes(), 10);
    assert_eq!(segment.read().unwrap().joined(), bytes_of(key(0), 10));
    let Some(Found::Disk(segment)) = cache.get(key(0)) else { panic!("not on disk") };
    let open = segment.open().unwrap();
    let mut read = Vec::new();
    io::Read::read_to_end(&mut open.file(), &mut read).unwrap();
    assert_eq!(read, bytes_of(key(0), 10));
    assert!(cache.get(key(2)).is_none());
}

#[test]
fn put_twice_keeps_the_first_and_counts_once() {
    let dir = tempfile::tempdir().unwrap();
    let cache = open(dir.path(), 30, 0);
    put(&cache, key(0), 10);
    cache.put(key(0), vec![0; 20], &Cancel::new()).unwrap();
    let Some(Found::Memory(data)) = cache.get(key(0)) else { panic!("not in memory") };
    assert_eq!((data.joined(), fill(&cache)), (bytes_of(key(0), 10).into(), (10, 0, 1)));
}

#[test]
fn one_segment_alone_may_pass_the_cap_and_two_may_not() {
    let dir = tempfile::tempdir().unwrap();
    let cache = open(dir.path(), 10, 1000);
    put(&cache, key(0), 50);
    assert_eq!(fill(&cache), (50, 0, 1));
    put(&cache, key(1), 50);
    assert_eq!((fill(&cache), tiers(&cache, 2)), ((50, 50, 2), "DM".into()));
}

#[test]
fn a_segment_that_never_fits_on_the_disk_drives_nothing_out_of_it() {
    let dir = tempfile::tempdir().unwrap();
    let cache = open(dir.path(), 20, 20);
    (0..4).for_each(|i| put(&cache, key(i), 10));
    assert_eq!(tiers(&cache, 4), "DDMM");
    put(&cache, key(4), 21);
    put(&cache, key(5), 10);
    assert_eq!(tiers(&cache, 6), "--DD-M", "4 went without a trace");
}

#[test]
fn a_producer_waits_while_all_is_served_and_goes_on_when_one_is_released() {
    let dir = tempfile::tempdir().unwrap();
    let cache = open(dir.path(), 20, 0);
    (0..2).for_each(|i| put(&cache, key(i), 10));
    let held: Vec<_> = (0..2).map(|i| cache.get(key(i)).unwrap()).collect();
    let cancel = Cancel::new();
    thread::scope(|scope| {
        let waits = scope.spawn(|| cache.put(key(2), vec![1; 10], &cancel));
        await_that(|| cancel.looks() > 1);
        assert!(!waits.is_finished());
        assert_eq!((fill(&cache), tiers(&cache, 3)), ((20, 0, 2), "MM-".into()));
        let mut held = held.into_iter();
        held.next();
        waits.join().unwrap().unwrap();
        assert_eq!(tiers(&cache, 3), "-MM");
    });
}

#[test]
fn bytes_count_until_the_last_clone_is_dropped() {
    let dir = tempfile::tempdir().unwrap();
    let cache = open(dir.path(), 10, 0);
    put(&cache, key(0), 10);
    let Some(Found::Memory(data)) = cache.get(key(0)) else { panic!("not in memory") };
    let part = data.slice(3..5).joined();
    drop(data);
    assert_eq!(waits(&cache, key(1), 10), (true, "M-".into()));
    drop(part);
    put(&cache, key(1), 10);
    assert_eq!(tiers(&cache, 2), "-M");
}

#[test]
fn what_was_read_from_the_disk_to_be_served_counts_in_memory() {
    let dir = tempfile::tempdir().unwrap();
    let cache = open(dir.path(), 10, 100);
    (0..2).for_each(|i| put(&cache, key(i), 10));
    let Some(Found::Disk(segment)) = cache.get(key(0)) else { panic!("not on disk") };
    let data = segment.read().unwrap();
    assert_eq!(fill(&cache), (20, 10, 2));
    assert_eq!(waits(&cache, key(2), 10), (true, "DD-".into()));
    drop(data);
    assert_eq!(fill(&cache), (0, 20, 2));
    put(&cache, key(2), 10);
}

#[test]
fn cancelling_ends_the_wait_and_keeps_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let cache = open(dir.path(), 10, 0);
    put(&cache, key(0), 10);
    let held = cache.get(key(0));
    assert!(waits(&cache, key(1), 10).0);
    assert_eq!((fill(&cache), cache.has(key(1))), ((10, 0, 1), false));
    drop(held);
    let cancelled = Cancel::new();
    cancelled.cancel();
    assert!(cache.put(key(1), vec![1], &cancelled).unwrap_err().is_cancelled());
}

#[test]
fn forgotten_segments_are_gone_at_once_and_count_until_they_were_served() {
    let dir = tempfile::tempdir().unwrap();
    let cache = open(dir.path(), 20, 100);
    (0..4).for_each(|i| put(&cache, key(i), 10));
    let other = Key { content: 1, ..key(0) };
    put(&cache, other, 10);
    assert_eq!(tiers(&cache, 4), "DDDM");
    let (on_disk, in_memory) = (cache.get(key(0)), cache.get(key(3)));
    cache.forget(0xfeed);
    assert_eq!(tiers(&cache, 4), "----");
    assert_eq!((fill(&cache), file_bytes(dir.path())), ((20, 10, 1), 10));
    put(&cache, key(0), 5);
    assert_eq!(cache.fill().memory_bytes, 15, "the other one made room, what is served did not");
    let Some(Found::Disk(segment)) = on_disk else { panic!("not on disk") };
    assert_eq!(
        segment.read().unwrap().joined(),
        bytes_of(key(0), 10),
        "the new one of the same name is not taken for it"
    );
    drop(in_memory);
    cache.forget(0);
    assert_eq!((fill(&cache), file_bytes(dir.path())), ((5, 10, 2), 10));
}

#[test]
fn who_is_served_while_a_segment_moves_keeps_it_in_memory() {
    let dir = tempfile::tempdir().unwrap();
    let cache = open(dir.path(), 10, 100);
    put(&cache, key(0), 10);
    let victim = cache.0.lock().begin_to_move().unwrap();
    let held = cache.get(key(0)).unwrap();
    cache.move_out(&victim);
    assert_eq!((fill(&cache), file_bytes(dir.path())), ((10, 0, 1), 0));
    assert!(matches!(held, Found::Memory(_)));
}

#[test]
fn what_is_forgotten_while_it_moves_leaves_no_file() {
    let dir = tempfile::tempdir().unwrap();
    let cache = open(dir.path(), 10, 100);
    put(&cache, key(0), 10);
    let victim = cache.0.lock().begin_to_move().unwrap();
    cache.forget(0xfeed);
    assert_eq!((fill(&cache), cache.has(key(0))), ((10, 0, 0), false), "its bytes are there still");
    cache.move_out(&victim);
    assert_eq!((fill(&cache), file_bytes(dir.path())), ((0, 0, 0), 0));
}

#[test]
fn a_disk_that_cannot_be_written_costs_segments_and_nothing_else() {
    let dir = tempfile::tempdir().unwrap();
    let folder = dir.path().join("cache");
    let cache = open(&folder, 10, 100);
    put(&cache, key(0), 10);
    fs::remove_dir(&folder).unwrap();
    put(&cache, key(1), 10);
    assert_eq!((fill(&cache), tiers(&cache, 2)), ((10, 0, 1), "-M".into()));
    fs::create_dir(&folder).unwrap();
    put(&cache, key(2), 10);
    assert_eq!((fill(&cache), tiers(&cache, 3)), ((10, 10, 2), "-DM".into()));
}

#[test]
fn a_file_that_somebody_removed_or_cut_is_an_error_and_not_other_bytes() {
    let dir = tempfile::tempdir().unwrap();
    let cache = open(dir.path(), 10, 100);
    (0..3).for_each(|i| put(&cache, key(i), 10));
    let [first, second] = &files(dir.path())[..] else { panic!("two files") };
    fs::write(dir.path().join(&first.0), b"short").unwrap();
    fs::remove_file(dir.path().join(&second.0)).unwrap();
    for i in 0..2 {
        let Some(Found::Disk(segment)) = cache.get(key(i)) else { panic!("not on disk") };
        segment.read().unwrap_err();
    }
    assert_eq!(cache.fill().memory_bytes, 10, "and what was not read does not count");
}

#[test]
fn nothing_is_written_through_a_link_or_over_a_file() {
    let dir = tempfile::tempdir().unwrap();
    let folder = dir.path().join("cache");
    let cache = open(&folder, 10, 100);
    let foreign = dir.path().join("foreign");
    fs::write(&foreign, "precious").unwrap();
    put(&cache, key(0), 10);
    let slot = cache.0.lock().take_hold(key(0)).unwrap().slot;
    cache.0.lock().release(slot);
    let planted = folder.join(key(0).file_name(slot));
    std::os::unix::fs::symlink(&foreign, &planted).unwrap();
    put(&cache, key(1), 10);
    assert_eq!(fs::read_to_string(&foreign).unwrap(), "precious");
    assert!(planted.is_symlink(), "and it is not ours to remove");
    assert_eq!((fill(&cache), tiers(&cache, 2)), ((10, 0, 1), "-M".into()));
}

#[test]
fn opening_removes_what_a_killed_process_left_and_nothing_else() {
    let dir = tempfile::tempdir().unwrap();
    let folder = dir.path().join("cache");
    let killed = open(&folder, 10, 100);
    (0..4).for_each(|i| put(&killed, key(i), 10));
    let ours = files(&folder);
    assert_eq!(ours.len(), 3);
    std::mem::forget(killed);

    let foreign = dir.path().join("foreign.seg");
    fs::write(&foreign, "precious").unwrap();
    let name = |slot| key(9).file_name(SlotId(slot));
    std::os::unix::fs::symlink(&foreign, folder.join(name(7))).unwrap();
    fs::create_dir(folder.join(name(8))).unwrap();
    fs::write(folder.join(name(8)).join(name(1)), "inside").unwrap();
    let look_alikes = [
        "film.seg",
        "000000000000feed-2-0.seg",
        "00000000000feed-2-0-1.seg",
        "000000000000FEED-2-0-1.seg",
        "000000000000feed-02-0-1.seg",
        "000000000000feed-2-0-+1.seg",
        "000000000000feed-2-0-1-1.seg",
        "000000000000feed-2-0-1.seg.bak",
        "000000000000feed-2-0-1",
        "",
    ];
    look_alikes.iter().filter(|n| !n.is_empty()).for_each(|n| fs::write(folder.join(n), "not ours").unwrap());

    let cache = open(&folder, 10, 100);
    assert_eq!(fill(&cache), (0, 0, 0));
    let mut expected: Vec<String> =
        look_alikes.iter().filter(|n| !n.is_empty()).map(|n| n.to_string()).collect();
    expected.extend([name(7), name(8)]);
    expected.sort();
    assert_eq!(files(&folder).into_iter().map(|(n, _)| n).collect::<Vec<_>>(), expected);
    assert_eq!(fs::read_to_string(&foreign).unwrap(), "precious");
    assert!(folder.join(name(8)).join(name(1)).exists());
    assert!(folder.join(name(7)).is_symlink());
}

#[test]
fn a_folder_that_cannot_be_made_is_an_error_that_names_it() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("file");
    fs::write(&path, "").unwrap();
    let error = Cache::open(path.clone(), Caps { memory_bytes: 1, disk_bytes: 1 }).unwrap_err();
    assert!(error.message().contains(path.to_str().unwrap()), "{error:?}");
}

/// Whether a put would wait, and what is where meanwhile.
fn waits(cache: &Cache, key_: Key, len: usize) -> (bool, String) {
    let cancel = Cancel::new();
    thread::scope(|scope| {
        let put = scope.spawn(|| cache.put(key_, bytes_of(key_, len), &cancel));
        await_that(|| cancel.looks() > 0 || put.is_finished());
        let seen = tiers(cache, key_.index + 1);
        cancel.cancel();
        (put.join().unwrap().is_err_and(|e| e.is_cancelled()), seen)
    })
}

/// Waits for another thread. Never ends where the thing does not happen: the test run's limit says so.
fn await_that(happened: impl Fn() -> bool) {
    while !happened() {
        Cancel::new().wait_timeout(Duration::from_millis(1));
    }
}

// ---- threads --------------------------------------------------------------------------------------

#[test]
fn many_producers_and_viewers_never_pass_the_caps_and_always_get_their_own_bytes() {
    const MEMORY: u64 = 4000;
    const DISK: u64 = 6000;
    const LARGEST: u64 = 1000;
    let dir = tempfile::tempdir().unwrap();
    let cache = open(dir.path(), MEMORY, DISK);
    let (done, looked) = (Cancel::new(), std::sync::atomic::AtomicU64::new(0));
    thread::scope(|scope| {
        let watch = scope.spawn(|| {
            while !done.is_cancelled() {
                let Fill { memory_bytes, disk_bytes, .. } = cache.fill();
                assert!(memory_bytes <= MEMORY + LARGEST, "{memory_bytes} bytes in memory");
                assert!(disk_bytes <= DISK, "{disk_bytes} bytes on disk");
                let there = file_bytes(dir.path());
                assert!(there <= DISK, "{there} bytes in the folder");
                looked.fetch_add(1, Ordering::Relaxed);
            }
        });
        let producers: Vec<_> = (0..6)
            .map(|n| {
                scope.spawn({
                    let cache = &cache;
                    move || use_at_random(cache, n)
                })
            })
            .collect();
        producers.into_iter().for_each(|p| p.join().unwrap());
        done.cancel();
        watch.join().unwrap();
    });
    assert!(looked.into_inner() > 10);
    (0..3).for_each(|content| cache.forget(content));
    assert_eq!((fill(&cache), files(dir.path())), ((0, 0, 0), vec![]), "nothing is left over");
}

fn use_at_random(cache: &Cache, seed: u64) {
    let mut rng = fastrand::Rng::with_seed(seed);
    for _ in 0..300 {
        let key = Key { content: rng.u64(0..3), rendition: 0, index: rng.u64(0..8) };
        let len = 100 + 111 * key.index as usize;
        match (rng.u8(0..20), cache.get(key)) {
            (0, _) => cache.forget(key.content),
            (1..4, _) | (_, None) => {
                let Found::Memory(data) = cache.put_and_get(key, bytes_of(key, len), &Cancel::new()).unwrap()
                else {
                    continue;
                };
                assert_eq!(data.joined(), bytes_of(key, len));
            }
            (_, Some(Found::Memory(data))) => {
                thread::yield_now();
                assert_eq!(data.joined(), bytes_of(key, len));
            }
            (_, Some(Found::Disk(segment))) => {
                let mut read = Vec::new();
                let open = segment.open().unwrap();
                thread::yield_now();
                io::Read::read_to_end(&mut open.file(), &mut read).unwrap();
                assert_eq!(read, bytes_of(key, len));
            }
        }
    }
}

// ---- a naive model --------------------------------------------------------------------------------

#[derive(Clone, Debug)]
enum Op {
    Put { content: u64, index: u64, len: u64 },
    Get { content: u64, index: u64 },
    Release { which: usize },
    Forget { content: u64 },
}

fn ops() -> impl Strategy<Value = Vec<Op>> {
    let op = prop_oneof![
        5 => (0..2u64, 0..6u64, 1..60u64).prop_map(|(content, index, len)| Op::Put { content, index, len }),
        4 => (0..2u64, 0..6u64).prop_map(|(content, index)| Op::Get { content, index }),
        3 => any::<usize>().prop_map(|which| Op::Release { which }),
        1 => (0..2u64).prop_map(|content| Op::Forget { content }),
    ];
    prop::collection::vec(op, 1..60)
}

/// One segment of the model.
#[derive(Clone, Debug)]
struct Piece {
    key: Key,
    len: u64,
    on_disk: bool,
    holders: u32,
    forgotten: bool,
    id: u64,
    wanted: u64,
}

/// Everything in one list, in the order in which it was wanted, and looked through each time.
#[derive(Debug, Default)]
struct Model {
    pieces: Vec<Piece>,
    /// Released after it was forgotten: its file goes with the next chance.
    to_remove: u64,
    clock: u64,
}

impl Model {
    fn sum(&self, on_disk: bool) -> u64 {
        self.pieces.iter().filter(|p| p.on_disk == on_disk).map(|p| p.len).sum()
    }

    fn position(&self, key: Key) -> Option<usize> {
        self.pieces.iter().position(|p| p.key == key && !p.forgotten)
    }

    fn oldest_free(&self, on_disk: bool) -> Option<usize> {
        self.pieces.iter().position(|p| p.on_disk == on_disk && p.holders == 0 && !p.forgotten)
    }

    /// Whether it was put; else it waits, with everything moved that could be.
    fn put(&mut self, caps: Caps, key: Key, len: u64) -> bool {
        self.to_remove = 0;
        if self.position(key).is_some() {
            return true;
        }
        while self.sum(false) > 0 && self.sum(false) + len > caps.memory_bytes {
            let Some(victim) = self.oldest_free(false) else { return false };
            let mut victim = self.pieces.remove(victim);
            let stays = |p: &&Piece| p.on_disk && (p.holders > 0 || p.forgotten);
            let staying: u64 = self.pieces.iter().filter(stays).map(|p| p.len).sum();
            if staying + victim.len > caps.disk_bytes {
                continue;
            }
            while self.sum(true) + victim.len > caps.disk_bytes {
                let out = self.oldest_free(true).expect("or it would not fit");
                self.pieces.remove(out);
            }
            victim.on_disk = true;
            let place = self.pieces.iter().position(|p| p.wanted > victim.wanted);
            self.pieces.insert(place.unwrap_or(self.pieces.len()), victim);
        }
        self.clock += 1;
        let wanted = self.clock;
        self.pieces.push(Piece {
            key,
            len,
            on_disk: false,
            holders: 0,
            forgotten: false,
            id: wanted,
            wanted,
        });
        true
    }

    /// Which piece, and whether it is on disk.
    fn get(&mut self, key: Key) -> Option<(u64, bool)> {
        let mut piece = self.position(key).map(|i| self.pieces.remove(i))?;
        self.clock += 1;
        (piece.holders, piece.wanted) = (piece.holders + 1, self.clock);
        self.pieces.push(piece.clone());
        Some((piece.id, piece.on_disk))
    }

    fn release(&mut self, id: u64) {
        let Some(i) = self.pieces.iter().position(|p| p.id == id) else { return };
        self.pieces[i].holders -= 1;
        if self.pieces[i].holders == 0 && self.pieces[i].forgotten {
            let piece = self.pieces.remove(i);
            self.to_remove += if piece.on_disk { piece.len } else { 0 };
        }
    }

    fn forget(&mut self, content: u64) {
        self.to_remove = 0;
        self.pieces.iter_mut().filter(|p| p.key.content == content).for_each(|p| p.forgotten = true);
        self.pieces.retain(|p| !p.forgotten || p.holders > 0);
    }

    fn fill(&self) -> Fill {
        Fill {
            memory_bytes: self.sum(false),
            disk_bytes: self.sum(true) + self.to_remove,
            segments: self.pieces.iter().filter(|p| !p.forgotten).count(),
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(128))]

    #[test]
    fn the_cache_does_what_the_naive_model_does(
        ops in ops(), memory_bytes in 0..120u64, disk_bytes in 0..120u64,
    ) {
        let caps = Caps { memory_bytes, disk_bytes };
        let dir = tempfile::tempdir().unwrap();
        let cache = Cache::open(dir.path().to_path_buf(), caps).unwrap();
        let mut model = Model::default();
        let mut held: Vec<(u64, Key, Found)> = Vec::new();
        let whose = |content, index| Key { content, rendition: 0, index };
        for op in ops {
            match op {
                Op::Put { content, index, len } => {
                    let (key, len) = (whose(content, index), len as usize);
                    if model.put(caps, key, len as u64) {
                        cache.put(key, bytes_of(key, len), &Cancel::new()).unwrap();
                    } else {
                        prop_assert!(waits(&cache, key, len).0, "it should wait");
                    }
                }
                Op::Get { content, index } => {
                    let key = whose(content, index);
                    let (expected, found) = (model.get(key), cache.get(key));
                    let tier = found.as_ref().map(|f| matches!(f, Found::Disk(_)));
                    prop_assert_eq!(tier, expected.map(|(_, on_disk)| on_disk));
                    held.extend(expected.zip(found).map(|((id, _), found)| (id, key, found)));
                }
                Op::Release { which } if !held.is_empty() => {
                    let (id, key, found) = held.swap_remove(which % held.len());
                    let data = match found {
                        Found::Memory(data) => data,
                        Found::Disk(segment) => segment.read().unwrap(),
                    };
                    prop_assert_eq!(data.clone().joined(), bytes_of(key, data.len()));
                    drop(data);
                    model.release(id);
                }
                Op::Release { .. } => {}
                Op::Forget { content } => {
                    cache.forget(content);
                    model.forget(content);
                }
            }
            let fill = cache.fill();
            prop_assert_eq!(fill, model.fill());
            prop_assert_eq!(file_bytes(dir.path()), fill.disk_bytes);
            prop_assert!(fill.disk_bytes <= disk_bytes);
            prop_assert!(fill.memory_bytes <= memory_bytes.max(60));
        }
    }
}

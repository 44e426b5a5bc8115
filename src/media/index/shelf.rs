//! Indexes that took reading a whole file, kept for the next time.
//!
//! One small file for each source, named by which file it is: device, inode, size and time of change. It
//! is written whole or not at all, and read with distrust: what is damaged, of another version or of
//! another file is made anew. A shelf has room for so many bytes; what was not wanted for longest goes
//! first. Nothing fails because of a shelf.

use super::{Amount, Key, Sought};
use crate::base::fs::{TEMP_PREFIX, publish_bytes};
use std::fs;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

const MAGIC: &[u8; 8] = b"sprokidx";
/// Counts up when the meaning of a byte changes.
const VERSION: u64 = 1;
const ENDING: &str = "keys";
/// 64-bit words of a key frame.
const KEY_WORDS: usize = 6;
/// Words before the first key frame: version, the source, its streams.
const HEAD_WORDS: usize = 7;
/// A file longer than this is nobody's index: a million key frames.
const MAX_FILE_BYTES: u64 = 48 << 20;

/// A folder of indexes.
#[derive(Clone, Debug)]
pub struct Shelf {
    folder: PathBuf,
    max_bytes: u64,
}

impl Shelf {
    /// A shelf in this folder, which is made when the first index is laid into it.
    pub fn new(folder: PathBuf, max_bytes: u64) -> Self {
        Self { folder, max_bytes }
    }

    pub(super) fn get(&self, sought: &Sought<'_>) -> Option<Vec<Key>> {
        let source = Source::of(sought)?;
        let path = self.path(&source);
        let length = fs::metadata(&path).ok()?.len();
        let keys =
            (length <= MAX_FILE_BYTES).then(|| fs::read(&path).ok())?.and_then(|b| read(&b, &source))?;
        // What is used stays: the time of change is the time of use.
        let touched =
            fs::File::options().append(true).open(&path).and_then(|f| f.set_modified(SystemTime::now()));
        if let Err(e) = touched {
            tracing::debug!("cannot note the use of {}: {e}", path.display());
        }
        Some(keys)
    }

    pub(super) fn put(&self, sought: &Sought<'_>, keys: &[Key]) {
        let Some(source) = Source::of(sought) else { return };
        let bytes = write(keys, &source);
        let path = self.path(&source);
        let done = fs::create_dir_all(&self.folder).map_err(|e| e.to_string());
        let done = done.and_then(|()| publish_bytes(&path, &bytes).map_err(|e| e.to_string()));
        match done {
            Ok(()) => self.make_room(&path),
            Err(e) => tracing::warn!("the key frames found in {} are not kept: {e}", sought.path.display()),
        }
    }

    fn path(&self, source: &Source) -> PathBuf {
        let mut hasher = DefaultHasher::new();
        source.0.hash(&mut hasher);
        self.folder.join(format!("{:016x}.{ENDING}", hasher.finish()))
    }

    /// Removes what was not wanted for longest until the rest fits; `newest` stays.
    fn make_room(&self, newest: &Path) {
        let Ok(entries) = fs::read_dir(&self.folder) else { return };
        let mut found: Vec<(SystemTime, u64, PathBuf)> = entries
            .flatten()
            .filter(|e| is_ours(&e.path()))
            .filter_map(|e| {
                let facts = e.metadata().ok().filter(fs::Metadata::is_file)?;
                Some((facts.modified().ok()?, facts.len(), e.path()))
            })
            .collect();
        found.sort();
        let mut total: u64 = found.iter().map(|f| f.1).sum();
        for (_, bytes, path) in found.iter().filter(|f| f.2 != newest) {
            if total <= self.max_bytes {
                break;
            }
            if fs::remove_file(path).is_ok() {
                total = total.saturating_sub(*bytes);
            }
        }
    }
}

/// Whether a file may be removed: an index, by its name.
fn is_ours(path: &Path) -> bool {
    let temp = path.file_name().is_some_and(|n| n.to_string_lossy().starts_with(TEMP_PREFIX));
    !temp && path.extension().is_some_and(|e| e == ENDING)
}

/// Which file, and which of its streams.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Source([u64; HEAD_WORDS - 1]);

impl Source {
    fn of(sought: &Sought<'_>) -> Option<Self> {
        let facts = fs::metadata(sought.path).ok()?;
        let changed = facts.mtime().cast_unsigned().wrapping_mul(1_000_000_000);
        let changed = changed.wrapping_add(facts.mtime_nsec().cast_unsigned());
        let stream = |index: Option<usize>| index.map_or(u64::MAX, |i| i as u64);
        let video = stream(sought.facts.video.as_ref().map(|v| v.stream));
        let audio = stream(sought.facts.audio.as_ref().map(|a| a.stream));
        Some(Self([facts.dev(), facts.ino(), facts.len(), changed, video, audio]))
    }
}

fn write(keys: &[Key], source: &Source) -> Vec<u8> {
    let mut words = vec![VERSION];
    words.extend(source.0);
    for key in keys {
        let idr = key.is_idr.map_or(2, u64::from);
        let amounts = [key.video.packets, key.video.bytes, key.audio.packets, key.audio.bytes];
        words.extend([key.pts.cast_unsigned(), idr]);
        words.extend(amounts);
    }
    let mut bytes = MAGIC.to_vec();
    words.iter().for_each(|word| bytes.extend(word.to_le_bytes()));
    let sum = sum(&bytes);
    bytes.extend(sum.to_le_bytes());
    bytes
}

fn read(bytes: &[u8], source: &Source) -> Option<Vec<Key>> {
    let (body, told) = bytes.split_last_chunk::<8>()?;
    if sum(body) != u64::from_le_bytes(*told) {
        return None;
    }
    let words: Vec<u64> = body
        .strip_prefix(MAGIC)?
        .chunks_exact(8)
        .filter_map(|word| word.try_into().ok().map(u64::from_le_bytes))
        .collect();
    let (head, keys) = words.split_at_checked(HEAD_WORDS)?;
    let (version, of) = head.split_first()?;
    if *version != VERSION || of != source.0 || !keys.len().is_multiple_of(KEY_WORDS) {
        return None;
    }
    let keys: Vec<Key> = keys.chunks_exact(KEY_WORDS).filter_map(key).collect();
    keys.is_sorted_by(|a, b| a.pts < b.pts).then_some(keys)
}

fn key(words: &[u64]) -> Option<Key> {
    let [pts, idr, video_packets, video_bytes, audio_packets, audio_bytes] = *words else { return None };
    Some(Key {
        pts: pts.cast_signed(),
        offset: None,
        is_idr: [Some(false), Some(true)].get(usize::try_from(idr).ok()?).copied().flatten(),
        video: Amount { packets: video_packets, bytes: video_bytes },
        audio: Amount { packets: audio_packets, bytes: audio_bytes },
    })
}

fn sum(bytes: &[u8]) -> u64 {
    let mut hasher = DefaultHasher::new();
    (bytes, env!("CARGO_PKG_VERSION")).hash(&mut hasher);
    hasher.finish()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn sample(keys: usize) -> Vec<Key> {
        let key = |i: usize| Key {
            pts: i as i64 * 90_000 - 5,
            offset: None,
            is_idr: [None, Some(true), Some(false)][i % 3],
            video: Amount { packets: 25, bytes: i as u64 * 1000 },
            audio: Amount { packets: 47, bytes: 12_000 },
        };
        (0..keys).map(key).collect()
    }

    const SOURCE: Source = Source([1, 2, 3, 4, 0, 1]);

    #[test]
    fn what_is_written_is_read_for_the_same_file_only() {
        let bytes = write(&sample(40), &SOURCE);
        assert_eq!(read(&bytes, &SOURCE), Some(sample(40)));
        assert_eq!(read(&bytes, &Source([1, 2, 3, 5, 0, 1])), None);
        assert_eq!(read(&write(&sample(0), &SOURCE), &SOURCE), Some(sample(0)));
    }

    proptest! {
        #[test]
        fn damage_is_never_believed(at in any::<prop::sample::Index>(), flip in 1u8.., cut in any::<prop::sample::Index>()) {
            let good = write(&sample(7), &SOURCE);
            let mut bad = good.clone();
            let at = at.index(bad.len());
            bad[at] ^= flip;
            prop_assert_eq!(read(&bad, &SOURCE), None);
            prop_assert_eq!(read(&good[..cut.index(good.len())], &SOURCE), None);
        }
    }

    #[test]
    fn a_full_shelf_loses_what_was_not_wanted_for_longest() {
        let folder = tempfile::tempdir().unwrap();
        let shelf = Shelf::new(folder.path().to_owned(), 100);
        let make = |name: &str, age_s: u64| {
            let path = folder.path().join(name);
            fs::write(&path, [0; 60]).unwrap();
            let then = SystemTime::now() - std::time::Duration::from_secs(age_s);
            fs::File::options().append(true).open(&path).unwrap().set_modified(then).unwrap();
            path
        };
        let (old, newer, foreign) = (make("a.keys", 500), make("b.keys", 10), make("film.mkv", 900));
        shelf.make_room(&newer);
        assert!(!old.exists() && newer.exists() && foreign.exists());
        shelf.make_room(&newer);
        assert!(newer.exists());
    }
}

use super::*;
use proptest::prelude::*;
use rustix::fs::{Advice, fadvise};
use std::future::poll_fn;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;

const FILE_BYTES: usize = 3 * CHUNK_BYTES / 2;

fn noise(seed: usize, len: usize) -> Vec<u8> {
    (0..len).map(|n| ((n + seed).wrapping_mul(2_654_435_761) >> 9) as u8).collect()
}

fn file(bytes: &[u8]) -> (tempfile::NamedTempFile, Arc<File>) {
    let named = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(named.path(), bytes).unwrap();
    let open = Arc::new(File::open(named.path()).unwrap());
    (named, open)
}

async fn connected() -> (Direct, Passage, TcpStream) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let far = TcpStream::connect(listener.local_addr().unwrap());
    let (near, far) = tokio::join!(listener.accept(), far);
    let passage = Passage::default();
    (Direct::new(near.unwrap().0, passage.clone()), passage, far.unwrap())
}

/// Writes all of them as hyper does: as many at once as there are, from where the last write ended.
async fn write(direct: &mut Direct, mut pieces: VecDeque<Bytes>) -> io::Result<()> {
    while !pieces.is_empty() {
        let slices: Vec<_> = pieces.iter().map(|piece| IoSlice::new(piece)).collect();
        let mut written = poll_fn(|cx| Pin::new(&mut *direct).poll_write_vectored(cx, &slices)).await?;
        while let Some(first) = pieces.front_mut().filter(|first| first.is_empty() || written > 0) {
            let part = written.min(first.len());
            written -= part;
            let _ = first.split_to(part);
            if first.is_empty() {
                pieces.pop_front();
            }
        }
    }
    direct.shutdown().await
}

async fn all_of(mut far: TcpStream) -> Vec<u8> {
    let mut got = Vec::new();
    far.read_to_end(&mut got).await.unwrap();
    got
}

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap()
}

/// What an answer consists of: text, or a part of the file.
fn piece() -> impl Strategy<Value = (bool, usize, usize)> {
    (any::<bool>(), 0..FILE_BYTES, prop_oneof![0..200_usize, 0..FILE_BYTES])
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]
    #[test]
    fn text_and_parts_of_files_arrive_in_their_order(wanted in prop::collection::vec(piece(), 1..6)) {
        let whole = noise(1, FILE_BYTES);
        let (_named, file) = file(&whole);
        let (got, expected) = runtime().block_on(async {
            let (mut direct, passage, far) = connected().await;
            let mut pieces = VecDeque::new();
            let mut expected: Vec<u8> = Vec::new();
            for (is_text, at, len) in wanted {
                if is_text {
                    let text = noise(at, len.min(5000));
                    expected.extend(&text);
                    pieces.push_back(Bytes::from(text));
                } else if len > 0 {
                    let stand_in = passage.enter(&file, at as u64, len.min(FILE_BYTES - at) as u64);
                    expected.extend(&whole[at..at + stand_in.len()]);
                    pieces.push_back(stand_in);
                }
            }
            let (written, got) = tokio::join!(write(&mut direct, pieces), all_of(far));
            written.unwrap();
            assert!(passage.parts().is_empty());
            (got, expected)
        });
        prop_assert!(got == expected, "{} bytes for {}", got.len(), expected.len());
    }
}

/// Out of the kernel's memory with it.
fn forget(named: &tempfile::NamedTempFile, file: &File) {
    named.as_file().sync_all().unwrap();
    fadvise(file, 0, None, Advice::DontNeed).unwrap();
}

#[tokio::test]
async fn what_the_disk_has_to_fetch_arrives_as_well() {
    let whole = noise(2, FILE_BYTES);
    let (named, file) = file(&whole);
    let (mut direct, passage, far) = connected().await;
    forget(&named, &file);
    let parts = [0, CHUNK_BYTES].map(|at| passage.enter(&file, at as u64, (FILE_BYTES - at) as u64));
    // As after a write that took nothing.
    passage.parts().iter_mut().for_each(|part| part.fresh = false);
    let (written, got) = tokio::join!(write(&mut direct, parts.into()), all_of(far));
    written.unwrap();
    assert!(got == whole);
}

#[tokio::test]
async fn what_is_not_in_memory_is_fetched_before_it_enters() {
    let whole = noise(5, FILE_BYTES);
    let (named, file) = file(&whole);
    assert!(fetch(&file, 0, FILE_BYTES as u64).is_none(), "it was just written");
    forget(&named, &file);
    // Not every file system forgets.
    if let Some(fetching) = fetch(&file, 0, FILE_BYTES as u64) {
        assert!(fetching.await.unwrap()[..] == whole[..CHUNK_BYTES]);
        assert!(fetch(&file, 0, CHUNK_BYTES as u64).is_none(), "it is in memory now");
    }
}

#[tokio::test]
async fn a_file_that_became_shorter_is_an_error_and_never_filled_up() {
    let whole = noise(3, 1000);
    let (_named, file) = file(&whole);
    let (mut direct, passage, far) = connected().await;
    let stand_in = passage.enter(&file, 500, 1500);
    let written = write(&mut direct, [stand_in].into()).await;
    assert_eq!(written.unwrap_err().kind(), ErrorKind::UnexpectedEof);
    drop(direct);
    assert!(all_of(far).await == whole[500..]);
}

#[tokio::test]
async fn a_file_system_that_cannot_send_is_read() {
    let (mut direct, _, far) = connected().await;
    direct.write_all(b"x").await.unwrap();
    let whole = noise(4, COPY_BYTES + 10);
    let (_named, file) = file(&whole);
    assert_eq!(copy(&direct.stream, &file, 5, whole.len()).unwrap(), COPY_BYTES);
    assert_eq!(copy(&direct.stream, &file, whole.len() as u64, 7).unwrap(), 0);
    drop(direct);
    assert!(all_of(far).await[1..] == whole[5..COPY_BYTES + 5]);
}

#[tokio::test]
async fn a_stand_in_without_its_part_is_an_error() {
    let (mut direct, passage, _far) = connected().await;
    let (_named, file) = file(b"something");
    let stand_in = passage.enter(&file, 0, 9);
    passage.advance(9);
    assert_eq!(write(&mut direct, [stand_in].into()).await.unwrap_err().kind(), ErrorKind::Other);
}

//! The titles that somebody asked for lately.
//!
//! What enters: a file's place and the shape in which it is wanted. What leaves: its [`Title`], opened
//! once however many ask at a time, and opened again when another file lies there. Disks are looked at by
//! threads of their own, a few for each root, and never for longer than the limit: a dead one holds up
//! nobody who watches from another. Must not live here: segments.

use super::title::{House, Identity, Shape, Title};
use crate::base::cancel::Cancel;
use crate::base::error::{Error, ErrorKind, Result, Stage};
use crate::config::confine::{confine, is_hidden};
use crate::config::paths::RootId;
use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, oneshot};
use tokio::time::timeout;

/// For so long a file is believed to be the one that it was: a film is hundreds of requests.
const BELIEVED: Duration = Duration::from_secs(1);
/// Titles that are kept open for whoever comes back.
const MAX_TITLES: usize = 128;
/// Threads that may look at one root at a time. Each may hang with it.
const THREADS_OF_ONE: usize = 4;

/// Where a file lies.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Place {
    /// Which root it belongs to.
    pub root: RootId,
    /// The root's folder, which must not be left.
    pub folder: PathBuf,
    /// The file in it; links are not looked at yet.
    pub local: PathBuf,
}

/// The titles.
#[derive(Debug)]
pub struct Titles {
    house: House,
    slots: Mutex<HashMap<(Place, Shape), Arc<Slot>>>,
    threads: Vec<Arc<Semaphore>>,
}

/// One title. The lock is held by whoever looks at the file; everybody else who wants it waits for that.
#[derive(Debug, Default)]
struct Slot {
    known: tokio::sync::Mutex<Option<Known>>,
    used: Mutex<Option<Instant>>,
}

#[derive(Clone, Debug)]
struct Known {
    title: Arc<Title>,
    seen: Instant,
}

impl Titles {
    /// None yet, of so many roots.
    pub fn new(house: House, roots: usize) -> Self {
        let threads = (0..roots).map(|_| Arc::new(Semaphore::new(THREADS_OF_ONE))).collect();
        Self { house, slots: Mutex::default(), threads }
    }

    /// The title of the file that lies there now.
    ///
    /// # Errors
    /// What keeps the file from being read or offered; `storage_silent` when its disk does not answer in
    /// time.
    pub async fn get(self: &Arc<Self>, place: Place, shape: Shape) -> Result<Arc<Title>> {
        let slot = self.slot(&place, shape);
        if let Some(title) = slot.known.try_lock().ok().and_then(|known| believed(known.as_ref())) {
            return Ok(title);
        }
        // In a task of its own: whoever asked may go away, and the next one asks for the same.
        let titles = self.clone();
        let work = tokio::spawn(async move { titles.fill(&slot, place, shape).await });
        work.await.map_err(|e| Error::internal(Stage::Open, format!("opening a file broke off: {e}")))?
    }

    async fn fill(&self, slot: &Slot, place: Place, shape: Shape) -> Result<Arc<Title>> {
        let mut known = slot.known.lock().await;
        if let Some(title) = believed(known.as_ref()) {
            return Ok(title);
        }
        let before = known.take().map(|known| known.title);
        let title = self.look(place, shape, before).await?;
        *known = Some(Known { title: title.clone(), seen: Instant::now() });
        Ok(title)
    }

    fn slot(&self, place: &Place, shape: Shape) -> Arc<Slot> {
        let mut slots = lock(&self.slots);
        let slot = slots.entry((place.clone(), shape)).or_default().clone();
        *lock(&slot.used) = Some(Instant::now());
        if slots.len() > MAX_TITLES {
            // Never one that is being looked at: who holds it would fill it for nobody.
            let idle = slots.iter().filter(|(_, slot)| Arc::strong_count(slot) == 1);
            let oldest = idle.min_by_key(|(_, slot)| *lock(&slot.used)).map(|(key, _)| key.clone());
            oldest.and_then(|key| slots.remove(&key));
        }
        slot
    }

    /// Looks at the file on a thread; opens it where it is not the one that is known.
    async fn look(&self, place: Place, shape: Shape, known: Option<Arc<Title>>) -> Result<Arc<Title>> {
        let local = place.local.clone();
        let limit = self.house.open_limit;
        let cancel = Cancel::new();
        let looking = async {
            let permit = self.enter(place.root).await?;
            let told = start(self.house.clone(), place, shape, known, cancel.clone(), permit)?;
            told.await.unwrap_or_else(|_| Err(Error::internal(Stage::Open, "opening a file broke off")))
        };
        let _stops = CancelOnDrop(&cancel);
        // A little more than the engine's own limit, which says more.
        timeout(limit + Duration::from_millis(500), looking)
            .await
            .unwrap_or_else(|_| Err(silent(&local, limit)))
    }

    async fn enter(&self, root: RootId) -> Result<OwnedSemaphorePermit> {
        let gone = || Error::new(ErrorKind::NotFound, "not_found", Stage::Open, "there is no such root");
        let threads = self.threads.get(root.0).ok_or_else(gone)?;
        threads.clone().acquire_owned().await.map_err(|_| gone())
    }
}

fn believed(known: Option<&Known>) -> Option<Arc<Title>> {
    let known = known.filter(|known| known.seen.elapsed() < BELIEVED)?;
    Some(known.title.clone())
}

/// Nobody waits for it any more.
struct CancelOnDrop<'a>(&'a Cancel);

impl Drop for CancelOnDrop<'_> {
    fn drop(&mut self) {
        self.0.cancel();
    }
}

fn start(
    house: House,
    place: Place,
    shape: Shape,
    known: Option<Arc<Title>>,
    cancel: Cancel,
    permit: OwnedSemaphorePermit,
) -> Result<oneshot::Receiver<Result<Arc<Title>>>> {
    let (tell, told) = oneshot::channel();
    let work = move || {
        let _permit = permit;
        // Whoever asked may have been told that it does not answer.
        let _ = tell.send(look_now(&house, &place, shape, known, &cancel));
    };
    let started = thread::Builder::new().name("av-open".into()).spawn(work);
    started.map(|_| told).map_err(|e| {
        Error::new(ErrorKind::Io, "no_threads", Stage::Open, format!("cannot start a thread: {e}"))
            .hint("raise the limit on threads of this user or container")
    })
}

fn look_now(
    house: &House,
    place: &Place,
    shape: Shape,
    known: Option<Arc<Title>>,
    cancel: &Cancel,
) -> Result<Arc<Title>> {
    let real = confine(&place.local, &place.folder)?;
    refuse_hidden(&real, place)?;
    let identity = Identity::of(&real)?;
    match known.filter(|title| title.identity == identity) {
        Some(title) => Ok(title),
        None => Title::open(&real, identity, shape, house, cancel).map(Arc::new),
    }
}

/// What a folder's listing does not show is not played either.
fn refuse_hidden(real: &Path, place: &Place) -> Result<()> {
    let root =
        place.folder.canonicalize().map_err(|e| Error::io(Stage::Open, "resolve", &place.folder, &e))?;
    let named = place.local.strip_prefix(&place.folder).is_ok_and(is_hidden);
    if named || real.strip_prefix(&root).is_ok_and(is_hidden) {
        let message = format!("there is no file {}", place.local.display());
        return Err(Error::new(ErrorKind::NotFound, "not_found", Stage::Open, message));
    }
    Ok(())
}

fn silent(local: &Path, limit: Duration) -> Error {
    let message =
        format!("{} cannot be read: its disk does not answer within {} s", local.display(), limit.as_secs());
    Error::new(ErrorKind::Timeout, "open_timeout", Stage::Open, message)
        .hint("check the disk or network mount")
}

fn lock<T>(held: &Mutex<T>) -> MutexGuard<'_, T> {
    held.lock().unwrap_or_else(PoisonError::into_inner)
}

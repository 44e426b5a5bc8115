//! What is kept where, and what goes next: the cache's accounts, without any I/O.
//!
//! A segment has a slot of its own from `insert` until nobody holds it and its bytes are back, so that one
//! which was forgotten and made again is never taken for the earlier one. What left the disk is listed
//! until its file is removed, and counts until then.

use super::{Caps, Fill, Key};
use crate::base::pieces::Pieces;
use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

/// A segment's bytes.
pub(super) type Data = Arc<Pieces>;

/// One segment's place in the accounts, never used again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) struct SlotId(pub u64);

/// A segment that is on its way from memory to the disk. It can be had from memory until it is there.
#[derive(Debug)]
pub(super) struct Victim {
    pub key: Key,
    pub slot: SlotId,
    pub data: Data,
}

/// How that ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Moved {
    /// Its file is there.
    Written,
    /// Its bytes on disk were reserved, but the file is not there.
    NotWritten,
    /// Nothing was reserved.
    NoRoom,
}

/// A file that is to be removed.
#[derive(Clone, Copy, Debug)]
pub(super) struct Gone {
    pub key: Key,
    pub slot: SlotId,
    pub bytes: u64,
}

/// What a new holder gets; no data: it lies on disk.
#[derive(Debug)]
pub(super) struct Hold {
    pub slot: SlotId,
    pub bytes: u64,
    pub data: Option<Data>,
}

#[derive(Debug)]
enum Place {
    Memory(Data),
    /// Still in memory, and its file is being written.
    Moving(Data),
    Disk,
}

#[derive(Debug)]
struct Slot {
    key: Key,
    bytes: u64,
    place: Place,
    /// When it was last wanted: its place in the order.
    wanted: u64,
    /// So many serve it now.
    holders: u32,
    /// Nobody gets it any more; it counts until nobody holds it.
    forgotten: bool,
}

/// The accounts.
#[derive(Debug)]
pub(super) struct Shelves {
    caps: Caps,
    slots: HashMap<SlotId, Slot>,
    by_key: HashMap<Key, SlotId>,
    /// By when they were last wanted; what moves or is forgotten is in neither.
    memory_order: BTreeMap<u64, SlotId>,
    disk_order: BTreeMap<u64, SlotId>,
    gone: Vec<Gone>,
    /// Bytes of files that are listed in `gone` or being removed.
    gone_bytes: u64,
    clock: u64,
    /// No two processes begin alike.
    seed: u64,
    memory_bytes: u64,
    /// What was read from the disk to be served.
    read_bytes: u64,
    disk_bytes: u64,
}

impl Shelves {
    pub fn new(caps: Caps) -> Self {
        Self {
            caps,
            slots: HashMap::new(),
            by_key: HashMap::new(),
            memory_order: BTreeMap::new(),
            disk_order: BTreeMap::new(),
            gone: Vec::new(),
            gone_bytes: 0,
            clock: 0,
            seed: fastrand::u64(..),
            memory_bytes: 0,
            read_bytes: 0,
            disk_bytes: 0,
        }
    }

    pub fn has(&self, key: Key) -> bool {
        self.by_key.contains_key(&key)
    }

    /// Tells this making of a segment from any other: no two slots are the same.
    pub fn tag(&self, key: Key) -> Option<u64> {
        self.by_key.get(&key).map(|id| self.seed.wrapping_add(id.0))
    }

    pub fn fill(&self) -> Fill {
        Fill {
            memory_bytes: self.memory_bytes + self.read_bytes,
            disk_bytes: self.disk_bytes,
            segments: self.by_key.len(),
        }
    }

    /// Whether `bytes` more fit. One segment alone fits always: the cap is passed by one at most.
    pub fn has_room_in_memory(&self, bytes: u64) -> bool {
        let used = self.memory_bytes + self.read_bytes;
        used == 0 || used + bytes <= self.caps.memory_bytes
    }

    pub fn insert(&mut self, key: Key, data: Data) {
        let bytes = data.len() as u64;
        self.memory_bytes += bytes;
        let wanted = self.tick();
        let id = SlotId(wanted);
        let place = Place::Memory(data);
        self.slots.insert(id, Slot { key, bytes, place, wanted, holders: 0, forgotten: false });
        self.by_key.insert(key, id);
        self.memory_order.insert(wanted, id);
    }

    /// The segment, with one holder more.
    pub fn take_hold(&mut self, key: Key) -> Option<Hold> {
        let now = self.tick();
        let id = *self.by_key.get(&key)?;
        let slot = self.slots.get_mut(&id)?;
        let before = std::mem::replace(&mut slot.wanted, now);
        slot.holders += 1;
        let (order, data) = match &slot.place {
            Place::Memory(data) => (Some(&mut self.memory_order), Some(data.clone())),
            Place::Moving(data) => (None, Some(data.clone())),
            Place::Disk => (Some(&mut self.disk_order), None),
        };
        if let Some(order) = order {
            order.remove(&before);
            order.insert(now, id);
        }
        Some(Hold { slot: id, bytes: slot.bytes, data })
    }

    /// One holder less.
    pub fn release(&mut self, id: SlotId) {
        let Some(slot) = self.slots.get_mut(&id) else { return };
        slot.holders = slot.holders.saturating_sub(1);
        if slot.forgotten {
            self.drop_if_free(id);
        }
    }

    pub fn add_read(&mut self, bytes: u64) {
        self.read_bytes += bytes;
    }

    pub fn remove_read(&mut self, bytes: u64) {
        self.read_bytes -= bytes;
    }

    /// The segment in memory that was not wanted for the longest time and that nobody holds: it leaves.
    pub fn begin_to_move(&mut self) -> Option<Victim> {
        let free = |id: &&SlotId| self.slots.get(id).is_some_and(|slot| slot.holders == 0);
        let id = self.memory_order.values().find(free).copied()?;
        let slot = self.slots.get_mut(&id)?;
        let Place::Memory(data) = &slot.place else { return None };
        let victim = Victim { key: slot.key, slot: id, data: data.clone() };
        slot.place = Place::Moving(data.clone());
        self.memory_order.remove(&slot.wanted);
        Some(victim)
    }

    /// It is on the disk, or goes for good. Who is served by it meanwhile keeps it where it is.
    pub fn moved(&mut self, id: SlotId, moved: Moved) {
        let Some(slot) = self.slots.get_mut(&id) else { return };
        let Place::Moving(data) = &slot.place else { return };
        let (key, bytes) = (slot.key, slot.bytes);
        if moved == Moved::Written && slot.holders == 0 && !slot.forgotten {
            slot.place = Place::Disk;
            self.disk_order.insert(slot.wanted, id);
            self.memory_bytes -= bytes;
            return;
        }
        slot.place = Place::Memory(data.clone());
        if slot.holders == 0 {
            self.drop_if_free(id);
        } else if !slot.forgotten {
            self.memory_order.insert(slot.wanted, id);
        }
        match moved {
            Moved::Written => self.file_goes(Gone { key, slot: id, bytes }),
            Moved::NotWritten => self.disk_bytes -= bytes,
            Moved::NoRoom => {}
        }
    }

    pub fn has_room_on_disk(&self, bytes: u64) -> bool {
        self.disk_bytes + bytes <= self.caps.disk_bytes
    }

    /// Takes `bytes` on disk, if they are free.
    pub fn reserve_disk(&mut self, bytes: u64) -> bool {
        let free = self.has_room_on_disk(bytes);
        if free {
            self.disk_bytes += bytes;
        }
        free
    }

    /// Lets go of what was not wanted for the longest time, as much as is needed for `bytes`. `false`, and
    /// nothing goes, where that is not enough.
    pub fn make_room_on_disk(&mut self, bytes: u64) -> bool {
        let needed = (self.disk_bytes - self.gone_bytes + bytes).saturating_sub(self.caps.disk_bytes);
        let mut found = 0;
        let mut ids = Vec::new();
        for id in self.disk_order.values() {
            if found >= needed {
                break;
            }
            if let Some(slot) = self.slots.get(id).filter(|slot| slot.holders == 0) {
                found += slot.bytes;
                ids.push(*id);
            }
        }
        if found < needed {
            return false;
        }
        ids.into_iter().for_each(|id| self.drop_if_free(id));
        true
    }

    /// A file that is to be removed; `removed` has to follow.
    pub fn take_gone(&mut self) -> Option<Gone> {
        self.gone.pop()
    }

    /// Its file is removed.
    pub fn removed(&mut self, bytes: u64) {
        self.gone_bytes -= bytes;
        self.disk_bytes -= bytes;
    }

    /// Forgets every segment of a source.
    pub fn forget(&mut self, content: u64) {
        let keys: Vec<Key> = self.by_key.keys().filter(|key| key.content == content).copied().collect();
        for id in keys.iter().filter_map(|key| self.by_key.remove(key)).collect::<Vec<_>>() {
            if let Some(slot) = self.slots.get_mut(&id) {
                slot.forgotten = true;
                self.memory_order.remove(&slot.wanted);
                self.disk_order.remove(&slot.wanted);
            }
            self.drop_if_free(id);
        }
    }

    /// Takes a slot out that nobody holds and that does not move.
    fn drop_if_free(&mut self, id: SlotId) {
        let free = |slot: &Slot| slot.holders == 0 && !matches!(slot.place, Place::Moving(_));
        if !self.slots.get(&id).is_some_and(free) {
            return;
        }
        let Some(slot) = self.slots.remove(&id) else { return };
        // A forgotten one's key may be another slot's by now.
        if self.by_key.get(&slot.key) == Some(&id) {
            self.by_key.remove(&slot.key);
        }
        match slot.place {
            Place::Disk => {
                self.disk_order.remove(&slot.wanted);
                self.file_goes(Gone { key: slot.key, slot: id, bytes: slot.bytes });
            }
            Place::Memory(_) | Place::Moving(_) => {
                self.memory_order.remove(&slot.wanted);
                self.memory_bytes -= slot.bytes;
            }
        }
    }

    fn file_goes(&mut self, gone: Gone) {
        self.gone_bytes += gone.bytes;
        self.gone.push(gone);
    }

    fn tick(&mut self) -> u64 {
        self.clock += 1;
        self.clock
    }
}

#[cfg(test)]
impl Shelves {
    /// `M`emory, `D`isk, `-` nowhere; without wanting it.
    pub fn tier(&self, key: Key) -> char {
        match self.by_key.get(&key).and_then(|id| self.slots.get(id)).map(|slot| &slot.place) {
            Some(Place::Memory(_) | Place::Moving(_)) => 'M',
            Some(Place::Disk) => 'D',
            None => '-',
        }
    }
}

//! The jobs that wait for a slot, in the order in which they will get one.
//!
//! What enters: accepted jobs with their priority. What leaves: the next one. Higher priorities first;
//! within one, whoever was accepted first. Who may enter is `admission`'s question, what is on the disk
//! the journal's. Pure: no clock, no lock, no thread.

use std::cmp::Reverse;
use std::collections::{BTreeMap, HashMap};

/// What stands before what: higher priority, then lower number.
type Place = (Reverse<u8>, u64);

/// A job that waits, or has left the queue and may come back to its place.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry<T> {
    /// Its name.
    pub id: String,
    /// Higher goes first.
    pub priority: u8,
    /// Counts the jobs as they were accepted; never given twice.
    pub number: u64,
    /// What waits.
    pub item: T,
}

/// Why a job cannot enter. What was to enter comes back.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Refused<T> {
    /// There are as many as may wait.
    Full(T),
    /// One of that name waits already.
    Waits(T),
}

/// A bounded queue with priorities.
#[derive(Clone, Debug)]
pub struct Queue<T> {
    waiting: BTreeMap<Place, Entry<T>>,
    places: HashMap<String, Place>,
    capacity: usize,
    next_number: u64,
}

impl<T> Queue<T> {
    /// An empty queue that takes up to `capacity` jobs from [`Queue::push`].
    pub fn new(capacity: usize) -> Self {
        Self { waiting: BTreeMap::new(), places: HashMap::new(), capacity, next_number: 0 }
    }

    /// Puts a new job behind all of its priority and gives its number.
    ///
    /// # Errors
    /// [`Refused`] when the queue is full or the name waits already.
    pub fn push(&mut self, id: impl Into<String>, priority: u8, item: T) -> Result<u64, Refused<T>> {
        if self.len() >= self.capacity {
            return Err(Refused::Full(item));
        }
        self.restore(id, priority, item)
    }

    /// As [`Queue::push`], whatever the capacity: for jobs that were accepted by an earlier process,
    /// perhaps under a larger limit. They come in the order of their acceptance.
    ///
    /// # Errors
    /// [`Refused::Waits`] when the name waits already.
    pub fn restore(&mut self, id: impl Into<String>, priority: u8, item: T) -> Result<u64, Refused<T>> {
        let number = self.next_number;
        self.insert(Entry { id: id.into(), priority, number, item }).map_err(Refused::Waits)?;
        Ok(number)
    }

    /// Puts a job that was interrupted back to where it stood: before all of its priority that were
    /// accepted later. The capacity does not count, for what was accepted is kept.
    ///
    /// # Errors
    /// [`Refused::Waits`] when the name waits already.
    pub fn requeue_front(&mut self, entry: Entry<T>) -> Result<(), Refused<T>> {
        self.insert(entry).map_err(Refused::Waits)
    }

    fn insert(&mut self, entry: Entry<T>) -> Result<(), T> {
        let place = (Reverse(entry.priority), entry.number);
        if self.places.contains_key(&entry.id) || self.waiting.contains_key(&place) {
            return Err(entry.item);
        }
        self.next_number = self.next_number.max(entry.number.saturating_add(1));
        self.places.insert(entry.id.clone(), place);
        self.waiting.insert(place, entry);
        Ok(())
    }

    /// Takes the next job.
    pub fn pop(&mut self) -> Option<Entry<T>> {
        let (_, entry) = self.waiting.pop_first()?;
        self.places.remove(&entry.id);
        Some(entry)
    }

    /// Takes a job out, wherever it stands.
    pub fn remove(&mut self, id: &str) -> Option<Entry<T>> {
        let place = self.places.remove(id)?;
        self.waiting.remove(&place)
    }

    /// How many wait.
    pub fn len(&self) -> usize {
        self.waiting.len()
    }

    /// Whether none waits.
    pub fn is_empty(&self) -> bool {
        self.waiting.is_empty()
    }

    /// How many stand before a job; `None` when it does not wait.
    pub fn position(&self, id: &str) -> Option<usize> {
        let place = self.places.get(id)?;
        Some(self.waiting.range(..place).count())
    }

    /// Those that wait, the next one first.
    pub fn iter(&self) -> impl Iterator<Item = &Entry<T>> {
        self.waiting.values()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn order(queue: &Queue<()>) -> Vec<&str> {
        queue.iter().map(|e| e.id.as_str()).collect()
    }

    #[test]
    fn higher_priorities_first_and_within_one_whoever_came_first() {
        let mut queue = Queue::new(5);
        for (id, priority) in [("a", 5), ("b", 9), ("c", 5), ("d", 0), ("e", 9)] {
            queue.push(id, priority, ()).unwrap();
        }
        assert_eq!(order(&queue), ["b", "e", "a", "c", "d"]);
        assert_eq!(queue.position("c"), Some(3));
        assert_eq!(queue.push("f", 10, ()), Err(Refused::Full(())));
        assert_eq!(queue.remove("a").map(|e| e.number), Some(0));
        assert_eq!((queue.position("a"), queue.remove("a")), (None, None));
        assert_eq!(queue.push("c", 10, ()), Err(Refused::Waits(())));
        assert_eq!(queue.position("c"), Some(2), "it keeps its place");
        assert_eq!(queue.len(), 4);
    }

    #[test]
    fn an_interrupted_job_stands_where_it_stood_even_in_a_full_queue() {
        let mut queue = Queue::new(2);
        queue.push("a", 5, ()).unwrap();
        let first = queue.pop().unwrap();
        queue.push("b", 5, ()).unwrap();
        queue.push("c", 6, ()).unwrap();
        queue.requeue_front(first.clone()).unwrap();
        assert_eq!(order(&queue), ["c", "a", "b"]);
        assert_eq!(queue.requeue_front(first), Err(Refused::Waits(())));
        assert_eq!(queue.restore("old", 5, ()), Ok(3));
        assert_eq!(order(&queue), ["c", "a", "b", "old"]);
        assert_eq!(queue.push("d", 5, ()), Err(Refused::Full(())));
    }

    #[derive(Clone, Debug)]
    enum Step {
        Push(u8, u8),
        Restore(u8, u8),
        Pop,
        Remove(u8),
        Requeue(usize),
    }

    fn step() -> impl Strategy<Value = Step> {
        let id = 0u8..12;
        prop_oneof![
            4 => (id.clone(), 0u8..4).prop_map(|(id, p)| Step::Push(id, p)),
            1 => (id.clone(), 0u8..4).prop_map(|(id, p)| Step::Restore(id, p)),
            2 => Just(Step::Pop),
            1 => id.prop_map(Step::Remove),
            1 => any::<usize>().prop_map(Step::Requeue),
        ]
    }

    /// The same by sorting a list anew for each question.
    #[derive(Default)]
    struct Naive {
        list: Vec<Entry<u64>>,
        count: u64,
    }

    impl Naive {
        fn sorted(&self) -> Vec<Entry<u64>> {
            let mut list = self.list.clone();
            list.sort_by_key(|e| (255 - e.priority, e.number));
            list
        }

        fn enter(&mut self, id: String, priority: u8, room: usize) -> Result<u64, Refused<u64>> {
            let number = self.count;
            if self.list.len() >= room {
                return Err(Refused::Full(number));
            }
            if self.list.iter().any(|e| e.id == id) {
                return Err(Refused::Waits(number));
            }
            self.count += 1;
            self.list.push(Entry { id, priority, number, item: number });
            Ok(number)
        }

        fn leave(&mut self, id: Option<String>) -> Option<Entry<u64>> {
            let at = self.list.iter().position(|e| Some(&e.id) == id.as_ref())?;
            Some(self.list.remove(at))
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(2000))]

        #[test]
        fn it_does_what_a_sorted_list_does(steps in prop::collection::vec(step(), 0..60), capacity in 0usize..8) {
            let mut queue = Queue::new(capacity);
            let mut naive = Naive::default();
            let mut out: Vec<Entry<u64>> = Vec::new();
            for step in steps {
                match step {
                    Step::Push(id, p) => {
                        let item = naive.count;
                        let expected = naive.enter(id.to_string(), p, capacity);
                        prop_assert_eq!(queue.push(id.to_string(), p, item), expected);
                    }
                    Step::Restore(id, p) => {
                        let item = naive.count;
                        let expected = naive.enter(id.to_string(), p, usize::MAX);
                        prop_assert_eq!(queue.restore(id.to_string(), p, item), expected);
                    }
                    Step::Pop => {
                        let next = naive.sorted().first().map(|e| e.id.clone());
                        let expected = naive.leave(next);
                        prop_assert_eq!(queue.pop(), expected.clone());
                        out.extend(expected);
                    }
                    Step::Remove(id) => {
                        prop_assert_eq!(queue.remove(&id.to_string()), naive.leave(Some(id.to_string())));
                    }
                    Step::Requeue(i) if !out.is_empty() => {
                        let entry = out.remove(i % out.len());
                        let free = naive.list.iter().all(|e| e.id != entry.id);
                        prop_assert_eq!(queue.requeue_front(entry.clone()).is_ok(), free);
                        naive.list.extend(free.then_some(entry));
                    }
                    Step::Requeue(_) => {}
                }
                let sorted = naive.sorted();
                prop_assert_eq!(queue.iter().cloned().collect::<Vec<_>>(), sorted.clone());
                prop_assert_eq!((queue.len(), queue.is_empty()), (sorted.len(), sorted.is_empty()));
                for (i, entry) in sorted.iter().enumerate() {
                    prop_assert_eq!(queue.position(&entry.id), Some(i));
                }
            }
        }
    }
}

//! Idempotency keys: whoever asks again under the same key gets the answer that the first got, and nothing is published
//! again. A key is known while its request is being carried out, and then for a while; bounded in keys and bytes.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::{Instant, timeout_at};

/// What a key costs beside its text and its answer.
const KEY_BYTES: usize = 160;

/// An answer, as it is given and given again.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Given {
    /// The HTTP status.
    pub(crate) status: u16,
    /// The body.
    pub(crate) json: String,
}

/// The keys, for everybody on the control plane.
#[derive(Clone, Debug)]
pub(crate) struct Keys(Arc<Mutex<Table>>);

#[derive(Debug)]
struct Table {
    by_key: HashMap<Arc<str>, Entry>,
    /// Those whose answer is known, the oldest first.
    known: VecDeque<(Instant, Arc<str>)>,
    bytes: usize,
    window: Duration,
    keys_max: usize,
    bytes_max: usize,
    counts: KeyCounts,
}

#[derive(Debug)]
struct Entry {
    /// Of what was asked.
    print: u64,
    answer: Answer,
}

#[derive(Debug)]
enum Answer {
    Pending(watch::Receiver<Option<Arc<Given>>>),
    Known(Arc<Given>),
}

/// How the keys stand.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct KeyCounts {
    /// Keys whose answer is known.
    pub(crate) known: u64,
    /// Answers that were given again.
    pub(crate) repeated: u64,
    /// Keys that came with another request than the first time.
    pub(crate) misused: u64,
    /// Keys that were forgotten before their time.
    pub(crate) forgotten: u64,
}

/// What becomes of a request with a key.
#[derive(Debug)]
pub(crate) enum Claim {
    /// It is the first: it has to be carried out.
    First(Ticket),
    /// Another one is carrying it out.
    Pending(Waiting),
    /// It has been.
    Known(Arc<Given>),
    /// The key was used for something else.
    Misused,
}

impl Keys {
    /// Keys for so long, so many, of so many bytes.
    pub(crate) fn new(window: Duration, keys_max: usize, bytes_max: usize) -> Self {
        Self(Arc::new(Mutex::new(Table {
            by_key: HashMap::new(),
            known: VecDeque::new(),
            bytes: 0,
            window,
            keys_max,
            bytes_max,
            counts: KeyCounts::default(),
        })))
    }

    /// Says what becomes of a request with this key; `print` tells requests apart.
    pub(crate) fn claim(&self, key: &str, print: u64, now: Instant) -> Claim {
        let mut table = self.lock();
        table.forget_old(now);
        let Some(entry) = table.by_key.get(key) else {
            let key: Arc<str> = key.into();
            let (done, pending) = watch::channel(None);
            table.by_key.insert(Arc::clone(&key), Entry { print, answer: Answer::Pending(pending) });
            return Claim::First(Ticket { keys: self.clone(), key, done });
        };
        if entry.print != print {
            table.counts.misused += 1;
            return Claim::Misused;
        }
        let claim = match &entry.answer {
            Answer::Pending(pending) => Claim::Pending(Waiting(pending.clone())),
            Answer::Known(given) => Claim::Known(Arc::clone(given)),
        };
        table.counts.repeated += 1;
        claim
    }

    /// How they stand.
    pub(crate) fn counts(&self) -> KeyCounts {
        let table = self.lock();
        KeyCounts { known: table.known.len() as u64, ..table.counts }
    }

    fn lock(&self) -> MutexGuard<'_, Table> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Table {
    fn forget_old(&mut self, now: Instant) {
        while self.known.front().is_some_and(|(at, _)| *at + self.window <= now) {
            self.forget_first();
        }
    }

    fn keep(&mut self, key: &Arc<str>, given: Arc<Given>, now: Instant) {
        let Some(entry) = self.by_key.get_mut(key) else { return };
        self.bytes += bytes(key, &given);
        entry.answer = Answer::Known(given);
        self.known.push_back((now, Arc::clone(key)));
        while self.known.len() > self.keys_max || self.bytes > self.bytes_max {
            self.forget_first();
            self.counts.forgotten += 1;
        }
    }

    fn forget_first(&mut self) {
        let Some((_, key)) = self.known.pop_front() else { return };
        if let Some(Entry { answer: Answer::Known(given), .. }) = self.by_key.remove(&key) {
            self.bytes -= bytes(&key, &given);
        }
    }
}

fn bytes(key: &str, given: &Given) -> usize {
    KEY_BYTES + key.len() + given.json.len()
}

/// The right to carry a request out. Dropped without an answer, the next who asks has it.
#[derive(Debug)]
pub(crate) struct Ticket {
    keys: Keys,
    key: Arc<str>,
    done: watch::Sender<Option<Arc<Given>>>,
}

impl Ticket {
    /// The answer, to everybody who waits for it; and to those who come later, if it is final.
    pub(crate) fn answer(self, given: &Arc<Given>, is_final: bool, now: Instant) {
        if is_final {
            self.keys.lock().keep(&self.key, Arc::clone(given), now);
        }
        self.done.send_replace(Some(Arc::clone(given)));
    }
}

impl Drop for Ticket {
    fn drop(&mut self) {
        let mut table = self.keys.lock();
        if matches!(table.by_key.get(&self.key), Some(Entry { answer: Answer::Pending(_), .. })) {
            table.by_key.remove(&self.key);
        }
    }
}

/// Waits for somebody else's answer.
#[derive(Debug)]
pub(crate) struct Waiting(watch::Receiver<Option<Arc<Given>>>);

impl Waiting {
    /// The answer; nothing when the other has given up, or at the deadline.
    pub(crate) async fn answer(mut self, deadline: Instant) -> Option<Arc<Given>> {
        let given = timeout_at(deadline, self.0.wait_for(Option::is_some)).await;
        given.ok()?.ok()?.clone()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const WINDOW: Duration = Duration::from_secs(60);

    fn given(json: &str) -> Arc<Given> {
        Arc::new(Given { status: 200, json: json.to_owned() })
    }

    fn first(keys: &Keys, key: &str, now: Instant) -> Ticket {
        match keys.claim(key, 1, now) {
            Claim::First(ticket) => ticket,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn an_answer_is_known_for_its_time_and_for_what_it_answered() {
        let keys = Keys::new(WINDOW, 10, 100_000);
        let now = Instant::now();
        first(&keys, "a", now).answer(&given("{}"), true, now);
        assert!(matches!(keys.claim("a", 1, now + WINDOW / 2), Claim::Known(known) if known == given("{}")));
        assert!(matches!(keys.claim("a", 2, now), Claim::Misused));
        drop(first(&keys, "a", now + WINDOW));
        let counts = keys.counts();
        assert_eq!((counts.known, counts.repeated, counts.misused, counts.forgotten), (0, 1, 1, 0));
    }

    #[test]
    fn an_answer_that_is_not_final_and_a_request_given_up_leave_the_key_free() {
        let keys = Keys::new(WINDOW, 10, 100_000);
        let now = Instant::now();
        first(&keys, "a", now).answer(&given("busy"), false, now);
        drop(first(&keys, "a", now));
        drop(first(&keys, "a", now));
    }

    #[test]
    fn keys_are_bounded_in_number_and_bytes() {
        let keys = Keys::new(WINDOW, 2, 10_000);
        let now = Instant::now();
        for key in ["a", "b", "c"] {
            first(&keys, key, now).answer(&given("{}"), true, now);
        }
        assert!(matches!(keys.claim("b", 1, now), Claim::Known(_)));
        first(&keys, "d", now).answer(&given(&"x".repeat(9_800)), true, now);
        assert_eq!((keys.counts().known, keys.counts().forgotten), (1, 3));
        first(&keys, "e", now).answer(&given(&"x".repeat(10_000)), true, now);
        assert_eq!((keys.counts().known, keys.lock().bytes), (0, 0), "too long to be kept at all");
        drop(first(&keys, "a", now));
    }

    #[test]
    fn who_asks_meanwhile_gets_the_same_answer_or_their_turn() {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().expect("a runtime");
        runtime.block_on(async {
            let keys = Keys::new(WINDOW, 10, 100_000);
            let (now, late) = (Instant::now(), Instant::now() + WINDOW);
            let waiting = |keys: &Keys| match keys.claim("a", 1, now) {
                Claim::Pending(waiting) => waiting,
                other => panic!("{other:?}"),
            };
            let ticket = first(&keys, "a", now);
            let (one, other) = (waiting(&keys), waiting(&keys));
            ticket.answer(&given("busy"), false, now);
            assert_eq!(one.answer(late).await, Some(given("busy")), "what the first got, they get");
            assert_eq!(other.answer(late).await, Some(given("busy")));
            let ticket = first(&keys, "a", now);
            let waiting = waiting(&keys);
            drop(ticket);
            assert_eq!(waiting.answer(late).await, None);
        });
    }
}

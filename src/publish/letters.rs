//! Dead letters: what could not be delivered, kept for the operator until it is tried again, removed, or pushed out by
//! newer ones. Bounded in letters and bytes, of which those of clients push nobody else's out. Shards hand them in; requests look at them. All on the control plane's thread.

use std::collections::{BTreeMap, BTreeSet};
use std::hash::{BuildHasher as _, RandomState};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::SystemTime;

use shards::core::channel::{DeadLetter, Publication, Publisher, UNDELIVERABLES, Undeliverable};

/// What a letter costs beside its texts.
const LETTER_BYTES: usize = 256;

/// The dead letters, for everybody on the control plane.
#[derive(Clone, Debug)]
pub(crate) struct Letters(Arc<Mutex<Kept>>);

/// A kept letter.
#[derive(Clone, Debug)]
pub(crate) struct Letter {
    /// When it came.
    pub(crate) at: SystemTime,
    /// What was to be published.
    pub(crate) publication: Publication,
    /// Why it was not, the last time.
    pub(crate) reason: Undeliverable,
    /// How often it has been tried again.
    pub(crate) retries: u32,
    /// Whether it is just being tried again.
    pub(crate) retrying: bool,
    /// What it costs.
    bytes: usize,
}

#[derive(Debug)]
struct Kept {
    /// By their numbers, from 1, never used again while the process lives.
    letters: BTreeMap<u64, Letter>,
    bytes: usize,
    /// Those that clients published, which push each other out once they take half of the room.
    of_clients: BTreeSet<u64>,
    clients_bytes: usize,
    /// Those tried again of which a shard has yet to say that they could not be delivered again either: that is the
    /// letter itself, and no new one.
    echoes: Vec<u64>,
    letters_max: usize,
    bytes_max: usize,
    last: u64,
    /// Tells the ids of this process from those of the one before.
    mark: u32,
    counts: LetterCounts,
}

/// How the dead letters stand.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct LetterCounts {
    /// Those that came, by reason.
    pub(crate) came: [u64; UNDELIVERABLES.len()],
    /// Those that are kept.
    pub(crate) kept: u64,
    /// Their bytes.
    pub(crate) bytes: u64,
    /// Those that newer ones pushed out.
    pub(crate) pushed_out: u64,
    /// Those that were tried again and went out.
    pub(crate) retried: u64,
    /// Attempts that failed again.
    pub(crate) failed_again: u64,
    /// Those that the operator removed.
    pub(crate) removed: u64,
}

/// Why a letter can't be tried again or removed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum NoLetter {
    /// There is none of this id, or there is none any more.
    Unknown,
    /// It is just being tried again.
    Busy,
}

impl Letters {
    /// Room for so many, and for so many bytes.
    pub(crate) fn new(letters_max: usize, bytes_max: usize) -> Self {
        let mark = RandomState::new().hash_one(std::process::id()) as u32;
        Self(Arc::new(Mutex::new(Kept {
            letters: BTreeMap::new(),
            bytes: 0,
            of_clients: BTreeSet::new(),
            clients_bytes: 0,
            echoes: Vec::new(),
            letters_max,
            bytes_max,
            last: 0,
            mark,
            counts: LetterCounts::default(),
        })))
    }

    /// Keeps a letter. One that is just being tried again is not kept twice.
    pub(crate) fn take(&self, letter: DeadLetter) {
        #[expect(clippy::disallowed_methods, reason = "letters are dated as people date them")]
        let now = SystemTime::now();
        self.lock().take(letter, now);
    }

    /// The latest first: those of the reason, at most so many, and how many there are of it in all.
    pub(crate) fn list(&self, reason: Option<&str>, limit: usize) -> (Vec<(String, Letter)>, usize) {
        let kept = self.lock();
        let wanted =
            |(_, letter): &(&u64, &Letter)| reason.is_none_or(|reason| letter.reason.name() == reason);
        let all = kept.letters.iter().rev().filter(wanted);
        let total = all.clone().count();
        (all.take(limit).map(|(number, letter)| (kept.id(*number), letter.clone())).collect(), total)
    }

    /// Takes a letter out to try it again. It stays in its place until [`Self::tried`].
    ///
    /// # Errors
    /// When that can't be done.
    pub(crate) fn begin_retry(&self, id: &str) -> Result<Retry, NoLetter> {
        let mut kept = self.lock();
        let (number, letter) = kept.find(id)?;
        letter.retrying = true;
        let publication = letter.publication.clone();
        if !kept.echoes.contains(&number) {
            kept.echoes.push(number);
        }
        Ok(Retry { letters: self.clone(), number, comes_back: false, publication })
    }

    /// Removes a letter.
    ///
    /// # Errors
    /// When that can't be done.
    pub(crate) fn remove(&self, id: &str) -> Result<(), NoLetter> {
        let mut kept = self.lock();
        let (number, _) = kept.find(id)?;
        kept.remove(number);
        kept.counts.removed += 1;
        Ok(())
    }

    /// How they stand.
    pub(crate) fn counts(&self) -> LetterCounts {
        let kept = self.lock();
        LetterCounts { kept: kept.letters.len() as u64, bytes: kept.bytes as u64, ..kept.counts }
    }

    fn lock(&self) -> MutexGuard<'_, Kept> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A letter that is being tried again. Dropped without [`Self::went_out`] it is kept.
#[derive(Debug)]
pub(crate) struct Retry {
    letters: Letters,
    number: u64,
    /// Whether a shard has refused it, and sends it back as a letter.
    comes_back: bool,
    /// What to publish.
    pub(crate) publication: Publication,
}

impl Retry {
    /// A shard has refused it again.
    pub(crate) fn refused(mut self) {
        self.comes_back = true;
    }

    /// It went out: the letter is gone, unless a shard has sent it back by now because it did not reach everybody.
    pub(crate) fn went_out(self) {
        let mut kept = self.letters.lock();
        if kept.echoes.contains(&self.number) && kept.remove(self.number) {
            kept.counts.retried += 1;
        }
    }
}

impl Drop for Retry {
    fn drop(&mut self) {
        let mut kept = self.letters.lock();
        if let Some(letter) = kept.letters.get_mut(&self.number) {
            letter.retrying = false;
            letter.retries += 1;
            kept.counts.failed_again += 1;
            if !self.comes_back {
                kept.expect_nothing_of(self.number);
            }
        }
    }
}

impl Kept {
    fn take(&mut self, letter: DeadLetter, now: SystemTime) {
        let DeadLetter { publication, reason } = letter;
        self.counts.came[reason as usize] += 1;
        let letters = &mut self.letters;
        let again =
            |number: &u64| letters.get(number).is_some_and(|kept| is_again(&kept.publication, &publication));
        if let Some(at) = self.echoes.iter().position(again) {
            if let Some(kept) = letters.get_mut(&self.echoes.remove(at)) {
                // What has got its place in its stream has no key any more.
                (kept.reason, kept.at, kept.publication.dedupe) = (reason, now, publication.dedupe);
            }
            return;
        }
        self.last += 1;
        let bytes = bytes(&publication);
        self.bytes += bytes;
        if matches!(publication.by, Publisher::User(_)) {
            self.of_clients.insert(self.last);
            self.clients_bytes += bytes;
        }
        let letter = Letter { at: now, publication, reason, retries: 0, retrying: false, bytes };
        letters.insert(self.last, letter);
        while self.letters.len() > self.letters_max || self.bytes > self.bytes_max {
            let Some(number) = self.first_to_go() else { break };
            self.remove(number);
            self.counts.pushed_out += 1;
        }
    }

    fn first_to_go(&self) -> Option<u64> {
        let clients = self.of_clients.len() > self.letters_max / 2 || self.clients_bytes > self.bytes_max / 2;
        if clients { self.of_clients.first().copied() } else { self.letters.keys().next().copied() }
    }

    fn id(&self, number: u64) -> String {
        format!("dl_{:08x}_{number}", self.mark)
    }

    fn find(&mut self, id: &str) -> Result<(u64, &mut Letter), NoLetter> {
        let number = id.rsplit('_').next().and_then(|number| number.parse().ok());
        let number = number.filter(|&number| self.id(number) == id).ok_or(NoLetter::Unknown)?;
        let letter = self.letters.get_mut(&number).ok_or(NoLetter::Unknown)?;
        if letter.retrying { Err(NoLetter::Busy) } else { Ok((number, letter)) }
    }

    /// Forgets a letter; whether it was there.
    fn remove(&mut self, number: u64) -> bool {
        let Some(letter) = self.letters.remove(&number) else { return false };
        self.bytes -= letter.bytes;
        if self.of_clients.remove(&number) {
            self.clients_bytes -= letter.bytes;
        }
        self.expect_nothing_of(number);
        true
    }

    fn expect_nothing_of(&mut self, number: u64) {
        self.echoes.retain(|expected| *expected != number);
    }
}

/// Whether what came is what is kept, tried again.
fn is_again(kept: &Publication, came: &Publication) -> bool {
    let same_key = came.dedupe.is_none() || kept.dedupe == came.dedupe;
    kept.channel == came.channel && kept.data == came.data && kept.session == came.session && same_key
}

fn bytes(publication: &Publication) -> usize {
    let dedupe = publication.dedupe.as_ref().map_or(0, |key| key.len());
    LETTER_BYTES + publication.channel.len() + publication.data.len() + dedupe
}

#[cfg(test)]
mod tests {
    use super::*;

    fn letter(data: &str, reason: Undeliverable) -> DeadLetter {
        let publication = Publication {
            channel: "system:news".into(),
            data: data.into(),
            dedupe: None,
            ttl: None,
            needs_subscriber: true,
            session: None,
            by: Publisher::Admin,
        };
        DeadLetter { publication, reason }
    }

    fn listed(letters: &Letters) -> Vec<String> {
        letters.list(None, 10).0.into_iter().map(|(_, letter)| letter.publication.data.into()).collect()
    }

    #[test]
    fn the_oldest_goes_when_there_are_too_many_or_they_are_too_long() {
        let letters = Letters::new(2, 10_000);
        for data in ["1", "2", "3"] {
            letters.take(letter(data, Undeliverable::NoSubscriber));
        }
        assert_eq!(listed(&letters), ["3", "2"]);
        letters.take(letter(&"x".repeat(9_500), Undeliverable::Expired));
        let counts = letters.counts();
        assert_eq!((counts.kept, counts.pushed_out, counts.came), (1, 3, [1, 0, 0, 3, 0]));
        letters.take(letter(&"y".repeat(10_000), Undeliverable::Expired));
        let counts = letters.counts();
        assert_eq!((counts.kept, counts.bytes, counts.pushed_out), (0, 0, 5), "too long to be kept at all");
    }

    #[test]
    fn a_letter_that_fails_again_stays_the_one_it_was() {
        let letters = Letters::new(10, 100_000);
        letters.take(letter("1", Undeliverable::NoSubscriber));
        letters.take(letter("1", Undeliverable::NoSubscriber));
        let (list, total) = letters.list(Some("no_subscriber"), 1);
        assert_eq!((list.len(), total), (1, 2));
        let id = list[0].0.clone();
        let retry = letters.begin_retry(&id).expect("it is there");
        assert_eq!(letters.begin_retry(&id).err(), Some(NoLetter::Busy));
        assert_eq!(letters.remove(&id), Err(NoLetter::Busy));
        // The shard's letter may come before its answer or behind it.
        letters.take(letter("1", Undeliverable::Expired));
        retry.refused();
        letters.begin_retry(&id).expect("it is there").refused();
        letters.take(letter("1", Undeliverable::RateLimited));
        drop(letters.begin_retry(&id).expect("no answer: nothing comes back"));
        let (list, _) = letters.list(None, 10);
        let seen: Vec<_> = list.iter().map(|(_, letter)| (letter.reason, letter.retries)).collect();
        assert_eq!(seen, [(Undeliverable::RateLimited, 3), (Undeliverable::NoSubscriber, 0)]);
        letters.take(letter("1", Undeliverable::RateLimited));
        assert_eq!(letters.counts().kept, 3, "another one");
        letters.begin_retry(&id).expect("it is there").went_out();
        assert_eq!(letters.begin_retry(&id).err(), Some(NoLetter::Unknown));
        let counts = letters.counts();
        assert_eq!((counts.kept, counts.retried, counts.failed_again), (2, 1, 3));
        assert!(counts.bytes > 0);
    }

    #[test]
    fn clients_push_out_what_clients_published() {
        let letters = Letters::new(4, 100_000);
        let take = |by: Publisher, data: &str| {
            let letter = letter(data, Undeliverable::RateLimited);
            letters.take(DeadLetter { publication: Publication { by, ..letter.publication }, ..letter });
        };
        take(Publisher::Admin, "mine");
        take(Publisher::Server, "too");
        for n in 0..100 {
            take(Publisher::User(None), &n.to_string());
        }
        assert_eq!(listed(&letters), ["99", "98", "too", "mine"]);
        take(Publisher::Admin, "another");
        assert_eq!(listed(&letters), ["another", "99", "98", "too"], "half is theirs");
        take(Publisher::User(None), &"x".repeat(60_000));
        take(Publisher::User(None), &"y".repeat(60_000));
        let list = listed(&letters);
        assert_eq!((list.len(), &*list[1], &list[0][..1]), (3, "another", "y"));
        for (id, _) in letters.list(None, 10).0 {
            assert_eq!(letters.remove(&id), Ok(()));
        }
        let kept = letters.lock();
        assert_eq!((kept.bytes, kept.clients_bytes, kept.of_clients.len()), (0, 0, 0));
    }

    #[test]
    fn a_letter_that_went_out_to_some_stays() {
        let letters = Letters::new(10, 100_000);
        let mut keyed = letter("1", Undeliverable::RateLimited);
        keyed.publication.dedupe = Some("k".into());
        letters.take(keyed);
        let (id, _) = letters.list(None, 1).0.remove(0);
        let retry = letters.begin_retry(&id).expect("it is there");
        letters.take(letter("1", Undeliverable::Overloaded));
        retry.went_out();
        let (list, _) = letters.list(None, 10);
        let [(_, kept)] = &list[..] else { panic!("{list:?}") };
        assert_eq!((kept.reason, kept.retries, kept.retrying), (Undeliverable::Overloaded, 1, false));
        assert_eq!(kept.publication.dedupe, None, "it may be published again");
        letters.begin_retry(&id).expect("it is there").went_out();
        let counts = letters.counts();
        assert_eq!((counts.kept, counts.bytes, counts.retried, counts.failed_again), (0, 0, 1, 1));
    }

    #[test]
    fn ids_are_of_this_process() {
        let letters = Letters::new(10, 100_000);
        letters.take(letter("1", Undeliverable::Refused));
        for id in ["1", "", "dl_1", "dl_zzzzzzzz_1", "_", "dl_00000000_1_1"] {
            assert_eq!(letters.remove(id), Err(NoLetter::Unknown), "{id}");
        }
        let id = letters.list(None, 1).0[0].0.clone();
        assert_eq!(letters.remove(&id), Ok(()));
        assert_eq!(letters.remove(&id), Err(NoLetter::Unknown));
        assert_eq!(letters.counts().removed, 1);
    }
}

//! Dead letters: what could not be delivered, kept for the operator until it is tried again, removed, or pushed out by
//! newer ones. Bounded in letters and bytes. Shards hand them in; requests look at them. All on the control plane's thread.

use std::collections::VecDeque;
use std::hash::{BuildHasher as _, RandomState};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::SystemTime;

use shards::core::channel::{DeadLetter, Publication, UNDELIVERABLES, Undeliverable};

/// What a letter costs beside its texts.
const LETTER_BYTES: usize = 256;

/// The dead letters, for everybody on the control plane.
#[derive(Clone, Debug)]
pub(crate) struct Letters(Arc<Mutex<Kept>>);

/// A kept letter.
#[derive(Clone, Debug)]
pub(crate) struct Letter {
    /// Its number, from 1, never used again while the process lives.
    number: u64,
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
    /// Whether a shard has yet to say that it could not be delivered again either: that is this letter, and no new one.
    echo_due: bool,
}

#[derive(Debug)]
struct Kept {
    letters: VecDeque<Letter>,
    bytes: usize,
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
            letters: VecDeque::new(),
            bytes: 0,
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
        let wanted = |letter: &&Letter| reason.is_none_or(|reason| letter.reason.name() == reason);
        let all = kept.letters.iter().rev().filter(wanted);
        let total = all.clone().count();
        (all.take(limit).map(|letter| (kept.id(letter.number), letter.clone())).collect(), total)
    }

    /// Takes a letter out to try it again. It stays in its place until [`Self::tried`].
    ///
    /// # Errors
    /// When that can't be done.
    pub(crate) fn begin_retry(&self, id: &str) -> Result<Retry, NoLetter> {
        let mut kept = self.lock();
        let at = kept.find(id)?;
        let letter = &mut kept.letters[at];
        (letter.retrying, letter.echo_due) = (true, true);
        let (number, publication) = (letter.number, letter.publication.clone());
        Ok(Retry { letters: self.clone(), number, comes_back: false, publication })
    }

    /// Removes a letter.
    ///
    /// # Errors
    /// When that can't be done.
    pub(crate) fn remove(&self, id: &str) -> Result<(), NoLetter> {
        let mut kept = self.lock();
        let at = kept.find(id)?;
        kept.remove(at);
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

    /// It went out: the letter is gone.
    pub(crate) fn went_out(self) {
        let mut kept = self.letters.lock();
        if let Some(at) = kept.place(self.number) {
            kept.remove(at);
            kept.counts.retried += 1;
        }
    }
}

impl Drop for Retry {
    fn drop(&mut self) {
        let mut kept = self.letters.lock();
        if let Some(at) = kept.place(self.number) {
            let letter = &mut kept.letters[at];
            letter.retrying = false;
            letter.echo_due &= self.comes_back;
            letter.retries += 1;
            kept.counts.failed_again += 1;
        }
    }
}

impl Kept {
    fn take(&mut self, letter: DeadLetter, now: SystemTime) {
        let DeadLetter { publication, reason } = letter;
        self.counts.came[reason as usize] += 1;
        let again = |kept: &&mut Letter| kept.echo_due && is_same(&kept.publication, &publication);
        if let Some(kept) = self.letters.iter_mut().find(again) {
            (kept.reason, kept.at, kept.echo_due) = (reason, now, false);
            return;
        }
        self.last += 1;
        let letter = Letter {
            number: self.last,
            at: now,
            publication,
            reason,
            retries: 0,
            retrying: false,
            echo_due: false,
        };
        self.bytes += bytes(&letter.publication);
        self.letters.push_back(letter);
        while self.letters.len() > self.letters_max || self.bytes > self.bytes_max {
            self.remove(0);
            self.counts.pushed_out += 1;
        }
    }

    fn id(&self, number: u64) -> String {
        format!("dl_{:08x}_{number}", self.mark)
    }

    fn place(&self, number: u64) -> Option<usize> {
        self.letters.binary_search_by_key(&number, |letter| letter.number).ok()
    }

    fn find(&self, id: &str) -> Result<usize, NoLetter> {
        let number = id.rsplit('_').next().and_then(|number| number.parse().ok());
        let number = number.filter(|&number| self.id(number) == id).ok_or(NoLetter::Unknown)?;
        let at = self.place(number).ok_or(NoLetter::Unknown)?;
        if self.letters[at].retrying { Err(NoLetter::Busy) } else { Ok(at) }
    }

    fn remove(&mut self, at: usize) {
        if let Some(letter) = self.letters.remove(at) {
            self.bytes -= bytes(&letter.publication);
        }
    }
}

fn is_same(a: &Publication, b: &Publication) -> bool {
    a.channel == b.channel && a.data == b.data && a.dedupe == b.dedupe && a.session == b.session
}

fn bytes(publication: &Publication) -> usize {
    let dedupe = publication.dedupe.as_ref().map_or(0, |key| key.len());
    LETTER_BYTES + publication.channel.len() + publication.data.len() + dedupe
}

#[cfg(test)]
mod tests {
    use shards::core::channel::Publisher;

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

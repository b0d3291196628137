//! Publishing from outside: what the management API asks the owners of channels, and what becomes of it.
//!
//! Runs on the control plane's thread. What is begun one after the other reaches a channel in that order. What is dropped
//! while it waits may have gone out all the same, so requests are carried out in tasks that outlive their connection.

mod answer;
mod command;
mod keys;
mod letters;
mod report;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use shards::core::channel::{DeadLetter, Publication, Undeliverable, owner};
use tokio::time::Instant;

pub(crate) use answer::{OUTCOMES, misused, still_running};
pub(crate) use command::{PublishOptions, run};
pub(crate) use keys::{Claim, Given, KeyCounts, Keys};
pub(crate) use letters::{Letter, LetterCounts, Letters, NoLetter};
pub(crate) use report::describe;

use crate::config::PublishConfig;
use crate::control::{Awaited, Line, NotPublished, Reach};
use keys::{Ticket, Waiting};

/// What publishing needs beside the line to the shards.
#[derive(Debug)]
pub(crate) struct Publishing {
    /// What could not be delivered.
    pub(crate) letters: Letters,
    /// Answers that may be asked for again.
    pub(crate) keys: Keys,
    /// Publications in one request.
    pub(crate) batch_max: usize,
    outcomes: [AtomicU64; OUTCOMES.len()],
}

/// Something to be published.
#[derive(Debug)]
pub(crate) struct Wanted {
    /// What.
    pub(crate) publication: Publication,
    /// The idempotency key with what tells this request from others.
    pub(crate) key: Option<(String, u64)>,
}

/// A publication on its way.
#[derive(Debug)]
pub(crate) enum InFlight {
    /// Its owner was asked. The publication is here if it has to be heard by somebody.
    Asked(Awaited, Option<Ticket>, Option<Box<Publication>>),
    /// Another request with its key is on its way.
    Behind(Waiting, Wanted),
    /// It is over.
    Over(Arc<Given>),
}

/// How publishing stands, for metrics.
#[derive(Clone, Copy, Debug)]
pub(crate) struct PublishReport {
    /// By outcome, in the order of [`OUTCOMES`].
    pub(crate) outcomes: [u64; OUTCOMES.len()],
    /// The dead letters.
    pub(crate) letters: LetterCounts,
    /// The idempotency keys.
    pub(crate) keys: KeyCounts,
}

impl Publishing {
    /// Nothing was published yet.
    pub(crate) fn new(config: PublishConfig) -> Self {
        Self {
            letters: Letters::new(config.letters_max, config.letters_bytes_max),
            keys: Keys::new(config.idempotency, config.keys_max, config.keys_bytes_max),
            batch_max: config.batch_max,
            outcomes: Default::default(),
        }
    }

    /// Asks the owner, unless somebody else has under the same key.
    pub(crate) async fn begin(&self, line: &Line, wanted: Wanted, deadline: Instant) -> InFlight {
        let claim = wanted.key.as_ref().map(|(key, print)| self.keys.claim(key, *print, Instant::now()));
        let ticket = match claim {
            None => None,
            Some(Claim::First(ticket)) => Some(ticket),
            Some(Claim::Pending(waiting)) => return InFlight::Behind(waiting, wanted),
            Some(Claim::Known(given)) => return InFlight::Over(given),
            Some(Claim::Misused) => return InFlight::Over(Arc::new(answer::misused())),
        };
        let owner = owner(&wanted.publication.channel, line.shards().count() as u16);
        let publication = wanted.publication;
        let to_be_heard = publication.needs_subscriber.then(|| Box::new(publication.clone()));
        match line.publish(owner, publication, deadline).await {
            Ok(awaited) => InFlight::Asked(awaited, ticket, to_be_heard),
            Err(error) => InFlight::Over(self.settle(Err(NotPublished::Unanswered(error)), ticket)),
        }
    }

    /// Waits for what becomes of it.
    pub(crate) async fn finish(&self, line: &Line, mut begun: InFlight, deadline: Instant) -> Arc<Given> {
        loop {
            match begun {
                InFlight::Over(given) => return given,
                InFlight::Asked(awaited, ticket, to_be_heard) => {
                    let outcome = self.heard(awaited.outcome(deadline).await, to_be_heard);
                    return self.settle(outcome, ticket);
                }
                InFlight::Behind(waiting, wanted) => {
                    if let Some(given) = waiting.answer(deadline).await {
                        return given;
                    }
                    if Instant::now() >= deadline {
                        return Arc::new(answer::still_running());
                    }
                    // The other has given up: it is this one's turn, or a third one's.
                    begun = Box::pin(self.begin(line, wanted, deadline)).await;
                }
            }
        }
    }

    /// What is answered to a publication whose batch has taken all the time that it may: it is not published.
    pub(crate) fn not_begun(&self) -> Arc<Given> {
        self.count(Undeliverable::Overloaded.name());
        Arc::new(answer::not_begun())
    }

    /// Notes a request that was no publication.
    pub(crate) fn count_invalid(&self) {
        self.count(answer::INVALID);
    }

    /// How it stands.
    pub(crate) fn report(&self) -> PublishReport {
        PublishReport {
            outcomes: self.outcomes.each_ref().map(|count| count.load(Ordering::Relaxed)),
            letters: self.letters.counts(),
            keys: self.keys.counts(),
        }
    }

    /// Its owner can't always know whether another shard has a subscriber; the shards' answers say so.
    fn heard(
        &self,
        outcome: Result<Reach, NotPublished>,
        to_be_heard: Option<Box<Publication>>,
    ) -> Result<Reach, NotPublished> {
        let (Some(mut publication), Ok(reach)) = (to_be_heard, &outcome) else { return outcome };
        if reach.silent > 0 || reach.published.duplicate || reach.published.subscribers > 0 {
            return outcome;
        }
        // Its owner knows the key by now, and would not publish it again.
        publication.dedupe = None;
        let reason = Undeliverable::NoSubscriber;
        self.letters.take(DeadLetter { publication: *publication, reason });
        Err(NotPublished::Undeliverable(reason))
    }

    fn settle(&self, outcome: Result<Reach, NotPublished>, ticket: Option<Ticket>) -> Arc<Given> {
        self.count(answer::outcome_name(&outcome));
        let given = Arc::new(answer::given(&outcome));
        if let Some(ticket) = ticket {
            ticket.answer(&given, answer::is_final(&given), Instant::now());
        }
        given
    }

    fn count(&self, outcome: &str) {
        let place = OUTCOMES.iter().position(|known| *known == outcome).expect("every outcome is named");
        self.outcomes[place].fetch_add(1, Ordering::Relaxed);
    }
}

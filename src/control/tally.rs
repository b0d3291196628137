//! The answers to one publication: its owner's, and one of each other shard that was sent it. They come in any order.

use shards::core::channel::{Published, Undeliverable};
use shards::core::message::Answer;
use tokio::sync::watch;
use tokio::time::{Instant, timeout_at};

use super::line::AskError;

/// Why a publication did not go out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum NotPublished {
    /// Its owner says so.
    Undeliverable(Undeliverable),
    /// Its owner says nothing: where it was only late, the publication may have gone out.
    Unanswered(AskError),
}

/// A publication that went out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Reach {
    /// As its owner has it, with the subscribers of every shard that answered.
    pub(crate) published: Published,
    /// Shards that were sent it, and did not say in time who heard it.
    pub(crate) silent: usize,
}

/// What is known so far.
#[derive(Debug, Default)]
pub(super) struct Tally {
    owner: Option<Result<Published, Undeliverable>>,
    /// Answers of other shards, and how many subscribers they told of.
    answers: usize,
    subscribers: usize,
    error: Option<AskError>,
}

impl Tally {
    /// Takes an answer: whether it was the last one.
    pub(super) fn take(&mut self, answer: Result<Answer, AskError>) -> bool {
        match answer {
            Ok(Answer::Published(owner)) => self.owner = Some(owner),
            Ok(Answer::Delivered(subscribers)) => {
                self.answers += 1;
                self.subscribers += subscribers;
            }
            Ok(_) => {}
            Err(error) => self.error = Some(error),
        }
        self.is_whole()
    }

    fn is_whole(&self) -> bool {
        self.error.is_some() || self.owner.is_some() && self.missing() == 0
    }

    fn missing(&self) -> usize {
        match &self.owner {
            Some(Ok(published)) => others(published).saturating_sub(self.answers),
            Some(Err(_)) | None => 0,
        }
    }

    fn outcome(&self) -> Result<Reach, NotPublished> {
        match &self.owner {
            Some(Ok(published)) => {
                let subscribers = published.subscribers + self.subscribers;
                Ok(Reach {
                    published: Published { subscribers, ..published.clone() },
                    silent: self.missing(),
                })
            }
            Some(Err(reason)) => Err(NotPublished::Undeliverable(*reason)),
            None => Err(NotPublished::Unanswered(self.error.unwrap_or(AskError::Late))),
        }
    }
}

/// How many shards besides its owner answer for a publication. The repetition of one is sent to nobody.
fn others(published: &Published) -> usize {
    if published.duplicate { 0 } else { published.shards - usize::from(published.subscribers > 0) }
}

/// Waits for what becomes of a publication. Safe to drop: its answers find nobody and are forgotten.
#[derive(Debug)]
pub(crate) struct Awaited(pub(super) watch::Receiver<Tally>);

impl Awaited {
    /// What is known when every answer is there, or at the deadline.
    pub(crate) async fn outcome(mut self, deadline: Instant) -> Result<Reach, NotPublished> {
        let _ = timeout_at(deadline, self.0.wait_for(Tally::is_whole)).await;
        self.0.borrow().outcome()
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use shards::core::ShardId;
    use shards::core::channel::{Publication, Publisher};

    use super::super::testing::{FakeMesh, on_control_thread};
    use super::*;

    fn published(shards: usize, subscribers: usize, duplicate: bool) -> Result<Answer, AskError> {
        Ok(Answer::Published(Ok(Published { id: "m".into(), seq: 1, duplicate, shards, subscribers })))
    }

    fn outcome(
        answers: Vec<Result<Answer, AskError>>,
    ) -> (bool, Result<(usize, usize, usize), NotPublished>) {
        let (mut tally, mut last) = (Tally::default(), false);
        for answer in answers {
            assert!(!last, "no answer was missing any more");
            last = tally.take(answer);
        }
        let reach = tally.outcome();
        (last, reach.map(|Reach { published, silent }| (published.shards, published.subscribers, silent)))
    }

    #[test]
    fn every_shard_that_was_sent_it_is_counted_in_whatever_order_they_answer() {
        let elsewhere = || Ok(Answer::Delivered(2));
        for (answers, expected) in [
            (vec![published(1, 3, false)], (true, Ok((1, 3, 0)))),
            (vec![published(0, 0, false)], (true, Ok((0, 0, 0)))),
            (vec![published(3, 3, false), elsewhere()], (false, Ok((3, 5, 1)))),
            (vec![elsewhere(), published(3, 3, false), elsewhere()], (true, Ok((3, 7, 0)))),
            (vec![published(1, 0, false), elsewhere()], (true, Ok((1, 2, 0)))),
            (vec![published(2, 9, true)], (true, Ok((2, 9, 0)))),
            (vec![elsewhere()], (false, Err(NotPublished::Unanswered(AskError::Late)))),
            (vec![Err(AskError::Busy)], (true, Err(NotPublished::Unanswered(AskError::Busy)))),
            (
                vec![Ok(Answer::Published(Err(Undeliverable::Expired)))],
                (true, Err(NotPublished::Undeliverable(Undeliverable::Expired))),
            ),
        ] {
            assert_eq!(outcome(answers), expected);
        }
    }

    #[test]
    fn at_the_deadline_what_is_known_is_told() {
        on_control_thread(FakeMesh::new(3), |line, mesh| async move {
            mesh.silence(ShardId(1));
            let ask = async |within: Duration, to: ShardId| {
                let deadline = Instant::now() + within;
                let publication = Publication {
                    channel: "system:a".into(),
                    data: "1".into(),
                    dedupe: None,
                    ttl: None,
                    needs_subscriber: false,
                    session: None,
                    by: Publisher::Server,
                };
                line.publish(to, publication, deadline).await.expect("room").outcome(deadline).await
            };
            let reach = ask(Duration::from_millis(50), ShardId(0)).await.expect("its owner answers");
            assert_eq!((reach.published.subscribers, reach.silent), (11, 1));
            let silent = ask(Duration::from_millis(50), ShardId(1)).await;
            assert_eq!(silent, Err(NotPublished::Unanswered(AskError::Late)));
        });
    }
}

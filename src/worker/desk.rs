//! The requests that are out: who asked, how often it was told, who answers. It decides what an answer means and what
//! becomes of a request whose worker is silent; it talks to nobody.
//!
//! Bounded by `worker.in_flight_max` requests and [`BYTES_MAX`] bytes of them.

use std::collections::{HashMap, HashSet};

use shards::core::work::{RequestId, Work, WorkFailure, WorkNews, WorkRequest};
use shards::core::{RoomKey, SessionId, ShardId};
use tokio::time::{Duration, Instant};

use super::answer::{Answer, By, Said};
use super::payload::Payload;

/// Bytes of all requests that are out, as they are told to workers: thousands of utterances.
pub(super) const BYTES_MAX: usize = 256 << 20;
/// How much longer than its room waits for a sign a request is kept: what tells us that the room has given up may be lost.
const GRACE: Duration = Duration::from_secs(30);

/// The table of requests.
#[derive(Debug)]
pub(super) struct Desk {
    requests: HashMap<RequestId, Request>,
    /// From a stream's entry to the request it tells.
    entries: HashMap<Box<str>, RequestId>,
    bytes: usize,
    in_flight_max: usize,
    /// A worker that gave no sign for so long counts as lost.
    claim: Duration,
    deliveries_max: u32,
}

/// One request.
#[derive(Debug)]
pub(super) struct Request {
    pub(super) shard: ShardId,
    pub(super) room: RoomKey,
    pub(super) session: SessionId,
    pub(super) payload: Payload,
    /// Which telling is the newest.
    pub(super) attempt: u32,
    /// Where that stands in the stream, once it does.
    pub(super) entry: Option<Box<str>>,
    /// Who answers: whoever began first.
    winner: Option<By>,
    /// Who had begun, and was lost.
    deposed: Option<By>,
    /// Answers to earlier tellings come from somebody who was given up.
    least: u32,
    /// When the last sign of a worker came, or it was told.
    sign: Instant,
    /// How long the room waits for one.
    within: Duration,
}

/// What an answer means.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Heard {
    /// Nothing: the request is not out, or somebody else answers it.
    Ignored,
    /// Nothing for the room.
    Noted,
    /// News for the room.
    News(WorkNews),
    /// The last news for the room: the request is to be closed.
    Over(WorkNews),
}

/// What becomes of a request whose worker seems to be lost.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Lost {
    /// It is told again, for the time that is given; with whether the room has heard of an answer already.
    Again { attempt: u32, begun: bool },
    /// It was told often enough.
    Dead { deliveries: u32 },
}

impl Desk {
    pub(super) fn new(in_flight_max: usize, claim: Duration, deliveries_max: u32) -> Self {
        let (requests, entries) = (HashMap::new(), HashMap::new());
        Self { requests, entries, bytes: 0, in_flight_max, claim, deliveries_max }
    }

    /// Takes a request.
    ///
    /// # Errors
    /// When there are too many.
    pub(super) fn open(
        &mut self,
        work: &Work,
        request: &WorkRequest,
        deadline_ms: u64,
        now: Instant,
    ) -> Result<&Request, WorkFailure> {
        let payload = Payload::new(&work.session, request, deadline_ms);
        if self.requests.len() >= self.in_flight_max || self.bytes + payload.len() > BYTES_MAX {
            return Err(WorkFailure::busy());
        }
        self.bytes += payload.len();
        Ok(self.requests.entry(request.id).or_insert(Request {
            shard: work.shard,
            room: work.room,
            session: work.session.clone(),
            payload,
            attempt: 1,
            entry: None,
            winner: None,
            deposed: None,
            least: 0,
            sign: now,
            within: Duration::from_micros(request.within.0),
        }))
    }

    pub(super) fn get(&self, id: RequestId) -> Option<&Request> {
        self.requests.get(&id)
    }

    pub(super) fn len(&self) -> usize {
        self.requests.len()
    }

    /// Forgets a request.
    pub(super) fn close(&mut self, id: RequestId) -> Option<Request> {
        let request = self.requests.remove(&id)?;
        self.bytes -= request.payload.len();
        if let Some(entry) = &request.entry {
            self.entries.remove(entry);
        }
        Some(request)
    }

    /// A telling stands in the stream. `false` when nobody wants it any more.
    pub(super) fn told(&mut self, id: RequestId, attempt: u32, entry: &str) -> bool {
        let Some(request) = self.requests.get_mut(&id).filter(|request| request.attempt == attempt) else {
            return false;
        };
        let overtaken = request.winner.as_ref().and_then(|by| by.attempt).is_some_and(|by| by < attempt);
        if overtaken {
            return false;
        }
        if let Some(before) = request.entry.replace(entry.into()) {
            self.entries.remove(&before);
        }
        self.entries.insert(entry.into(), id);
        true
    }

    /// What a worker has said on a session's channel. With it the entry of a telling that nobody needs any more.
    pub(super) fn heard(&mut self, session: &str, answer: Answer, now: Instant) -> (Heard, Option<Box<str>>) {
        let Answer { request: id, by, said } = answer;
        let Some(request) = self.requests.get_mut(&id).filter(|request| request.session.as_str() == session)
        else {
            return (Heard::Ignored, None);
        };
        let given_up = by.attempt.is_some_and(|attempt| attempt < request.least || attempt > request.attempt)
            || request.deposed.as_ref() == Some(&by);
        if given_up || request.winner.as_ref().is_some_and(|winner| *winner != by) {
            return (Heard::Ignored, None);
        }
        request.sign = now;
        if said == Said::Working {
            return (Heard::Noted, None);
        }
        let mut needless = None;
        if request.winner.is_none() {
            // Somebody who seemed lost is back, and the telling for the next is not needed.
            if by.attempt.is_some_and(|attempt| attempt < request.attempt) {
                needless = request.entry.take();
                if let Some(entry) = &needless {
                    self.entries.remove(entry);
                }
            }
            request.winner = Some(by);
        }
        let heard = match said {
            Said::Audio { bytes, last } => Heard::News(WorkNews::Audio { bytes, last }),
            Said::Words(words) => Heard::News(WorkNews::Words(words)),
            Said::Passed(passed) => Heard::News(WorkNews::Passed(passed)),
            Said::Working => Heard::Noted,
            Said::Done => Heard::Over(WorkNews::Done),
            Said::Failed { message, retryable } => Heard::Over(WorkNews::Failed(WorkFailure {
                code: "worker_failed",
                message: message.into(),
                retryable,
            })),
        };
        (heard, needless)
    }

    /// An entry has been with a worker for long, which has had it so many times: what becomes of its request, if it is
    /// one of ours and its worker has been silent all the time.
    pub(super) fn stale(&mut self, entry: &str, deliveries: u32, now: Instant) -> Option<(RequestId, Lost)> {
        let id = *self.entries.get(entry)?;
        let request = self.requests.get_mut(&id)?;
        if now.saturating_duration_since(request.sign) < self.claim {
            return None;
        }
        let deliveries = request.attempt - 1 + deliveries.max(1);
        if deliveries >= self.deliveries_max {
            return Some((id, Lost::Dead { deliveries }));
        }
        request.attempt += 1;
        request.sign = now;
        let begun = request.winner.is_some();
        if begun {
            request.deposed = request.winner.take();
            request.least = request.attempt;
        }
        Some((id, Lost::Again { attempt: request.attempt, begun }))
    }

    /// Whether an entry of the stream is told for a request that is out.
    pub(super) fn owns(&self, entry: &str) -> bool {
        self.entries.contains_key(entry)
    }

    /// Requests whose rooms must have given up long ago.
    pub(super) fn overdue(&self, now: Instant) -> Vec<RequestId> {
        let late = |request: &Request| now.saturating_duration_since(request.sign) > request.within + GRACE;
        self.requests.iter().filter(|(_, request)| late(request)).map(|(&id, _)| id).collect()
    }

    /// Requests by whether a worker has begun to answer them.
    pub(super) fn begun(&self, begun: bool) -> Vec<RequestId> {
        let is = |request: &Request| request.winner.is_some() == begun;
        self.requests.iter().filter(|(_, request)| is(request)).map(|(&id, _)| id).collect()
    }

    /// Sessions for which something is out.
    pub(super) fn sessions(&self) -> HashSet<&str> {
        self.requests.values().map(|request| request.session.as_str()).collect()
    }
}

#[cfg(test)]
mod tests {
    use shards::core::Micros;
    use shards::core::event::{Modality, SessionSettings};
    use shards::core::work::{Matter, WorkOrder};

    use super::*;

    const CLAIM: Duration = Duration::from_secs(8);
    const ID: RequestId = RequestId(1);

    fn desk(in_flight_max: usize) -> Desk {
        Desk::new(in_flight_max, CLAIM, 3)
    }

    fn open(desk: &mut Desk, id: RequestId, now: Instant) -> Result<(), WorkFailure> {
        let request = WorkRequest {
            id,
            item: None,
            matter: Matter::Text("hi".into()),
            format: SessionSettings::default().format,
            modality: Modality::Audio,
            metadata: None,
            extras: None,
            within: Micros::from_s(30),
        };
        let work = Work {
            shard: ShardId(0),
            room: RoomKey { index: 0, generation: 0 },
            session: SessionId::parse("room").expect("valid"),
            order: WorkOrder::Cancel(id),
        };
        desk.open(&work, &request, 0, now).map(|_| ())
    }

    fn says(desk: &mut Desk, worker: &str, attempt: u32, said: Said, now: Instant) -> Heard {
        let by = By { worker: worker.into(), attempt: Some(attempt) };
        desk.heard("room", Answer { request: ID, by, said }, now).0
    }

    fn word() -> Said {
        Said::Words("w".into())
    }

    #[tokio::test]
    async fn who_begins_first_answers_and_everybody_else_is_ignored() {
        let (mut desk, now) = (desk(2), Instant::now());
        open(&mut desk, ID, now).expect("room");
        assert_eq!(says(&mut desk, "a", 1, Said::Working, now), Heard::Noted);
        assert_eq!(says(&mut desk, "b", 1, word(), now), Heard::News(WorkNews::Words("w".into())));
        for said in [Said::Working, word(), Said::Done] {
            assert_eq!(says(&mut desk, "a", 1, said, now), Heard::Ignored);
        }
        let elsewhere =
            Answer { request: ID, by: By { worker: "b".into(), attempt: Some(1) }, said: Said::Done };
        assert_eq!(desk.heard("other", elsewhere, now).0, Heard::Ignored);
        assert_eq!(says(&mut desk, "b", 1, Said::Done, now), Heard::Over(WorkNews::Done));
        assert!(desk.close(ID).is_some() && desk.close(ID).is_none());
        assert_eq!(says(&mut desk, "b", 1, word(), now), Heard::Ignored);
        assert_eq!(desk.bytes, 0);
    }

    #[tokio::test]
    async fn a_request_whose_worker_is_silent_is_told_again_until_it_was_told_often_enough() {
        let (mut desk, now) = (desk(2), Instant::now());
        open(&mut desk, ID, now).expect("room");
        assert!(desk.told(ID, 1, "1-0"));
        assert_eq!(desk.stale("1-0", 1, now + CLAIM / 2), None, "it may yet give a sign");
        assert_eq!(desk.stale("9-0", 1, now + CLAIM), None, "somebody else's");
        assert_eq!(desk.stale("1-0", 1, now + CLAIM), Some((ID, Lost::Again { attempt: 2, begun: false })));
        assert!(desk.told(ID, 2, "2-0") && !desk.owns("1-0"));
        let later = now + CLAIM * 2;
        assert_eq!(desk.stale("2-0", 1, later), Some((ID, Lost::Again { attempt: 3, begun: false })));
        assert!(desk.told(ID, 3, "3-0"));
        assert_eq!(desk.stale("3-0", 1, now + CLAIM * 3), Some((ID, Lost::Dead { deliveries: 3 })));
    }

    #[tokio::test]
    async fn a_slow_worker_that_comes_first_after_all_makes_the_second_telling_needless() {
        let (mut desk, now) = (desk(2), Instant::now());
        open(&mut desk, ID, now).expect("room");
        assert!(desk.told(ID, 1, "1-0"));
        assert!(desk.stale("1-0", 1, now + CLAIM).is_some());
        assert!(desk.told(ID, 2, "2-0"));
        let by = By { worker: "slow".into(), attempt: Some(1) };
        let (heard, needless) = desk.heard("room", Answer { request: ID, by, said: word() }, now + CLAIM);
        assert_eq!((heard, needless), (Heard::News(WorkNews::Words("w".into())), Some("2-0".into())));
        assert_eq!(says(&mut desk, "quick", 2, word(), now), Heard::Ignored);
        assert_eq!(says(&mut desk, "slow", 1, Said::Done, now), Heard::Over(WorkNews::Done));
    }

    #[tokio::test]
    async fn who_was_lost_in_the_middle_of_an_answer_is_not_heard_again() {
        let (mut desk, now) = (desk(2), Instant::now());
        open(&mut desk, ID, now).expect("room");
        assert!(desk.told(ID, 1, "1-0"));
        assert_eq!(says(&mut desk, "lost", 1, word(), now), Heard::News(WorkNews::Words("w".into())));
        assert_eq!(desk.stale("1-0", 1, now + CLAIM / 2), None);
        assert_eq!(desk.stale("1-0", 1, now + CLAIM), Some((ID, Lost::Again { attempt: 2, begun: true })));
        assert_eq!(says(&mut desk, "lost", 1, word(), now), Heard::Ignored);
        assert_eq!(says(&mut desk, "next", 3, word(), now), Heard::Ignored, "there was no third telling");
        assert_eq!(says(&mut desk, "next", 2, Said::Done, now), Heard::Over(WorkNews::Done));
    }

    #[tokio::test]
    async fn requests_are_bounded_and_none_is_kept_for_ever() {
        let (mut desk, now) = (desk(1), Instant::now());
        open(&mut desk, ID, now).expect("room");
        assert_eq!(open(&mut desk, RequestId(2), now), Err(WorkFailure::busy()));
        assert_eq!(desk.overdue(now + Duration::from_secs(59)), []);
        assert_eq!(desk.overdue(now + Duration::from_secs(61)), [ID]);
        assert_eq!((desk.begun(false), desk.begun(true)), (vec![ID], vec![]));
        assert_eq!(desk.sessions(), HashSet::from(["room"]));
    }
}

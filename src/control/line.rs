//! The control plane's end of the mesh: questions to shards, their answers, and the sockets they hand over.
//!
//! A [`Switchboard`] owns the mailbox and runs on the control plane's thread; everybody else there holds a [`Line`]
//! and talks to it through a bounded channel. Dropping a waiting `ask` is safe: its answer finds nobody and is
//! forgotten. What bounds it: [`ASKS_MAX`] open questions, and the mesh's own queues.

use std::collections::HashMap;
use std::convert::Infallible;
use std::io;
use std::os::fd::BorrowedFd;
use std::time::Duration;

use shards::core::channel::Publication;
use shards::core::memory::{Recall, Recalled, StoreFailed};
#[cfg(debug_assertions)]
use shards::core::message::Fault;
use shards::core::message::{Answer, AskId, Query};
use shards::core::work::{Work, WorkFailure, WorkNews, WorkOrder, Worked};
use shards::core::{Handoff, ShardId, ShardMessage};
use shards::rt::{ControlLine, Link};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;
use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::{Instant, timeout_at};

use super::tally::{Awaited, Tally};
use crate::jobs::Jobs;
use crate::publish::Letters;
use crate::store::Stores;
use crate::worker::Workers;

/// Questions that may be open at once.
const ASKS_MAX: usize = 1_024;
/// Messages taken from the mailbox before others on this thread have a turn.
const BUDGET: usize = 128;

/// Who takes what shards hand out, where there is somebody.
#[derive(Clone, Debug, Default)]
pub(crate) struct Takers {
    /// Reports of ended rooms.
    pub(crate) jobs: Option<Jobs>,
    /// What rooms want of workers.
    pub(crate) workers: Option<Workers>,
    /// What rooms remember, and want to know.
    pub(crate) stores: Option<Stores>,
    /// What could not be delivered.
    pub(crate) letters: Option<Letters>,
}

/// What the switchboard needs of the mesh.
pub(crate) trait Mailbox {
    /// Sends without waiting; `false` when the shard's queue is full.
    fn tell(&self, to: ShardId, message: ShardMessage<Link>) -> bool;
    /// Takes the next message.
    fn receive(&self) -> Option<ShardMessage<Link>>;
    /// Announces sleep; `true` when nothing waits and the doorbell will ring for the next message.
    fn prepare_to_sleep(&self) -> bool;
    /// What becomes readable when it rings.
    fn doorbell(&self) -> BorrowedFd<'_>;
    /// Silences it.
    fn clear_doorbell(&self);
    /// How many shards there are.
    fn shards(&self) -> usize;
}

impl Mailbox for ControlLine {
    fn tell(&self, to: ShardId, message: ShardMessage<Link>) -> bool {
        self.tell(to, message).is_ok()
    }

    fn receive(&self) -> Option<ShardMessage<Link>> {
        self.receive()
    }

    fn prepare_to_sleep(&self) -> bool {
        self.prepare_to_sleep()
    }

    fn doorbell(&self) -> BorrowedFd<'_> {
        self.doorbell()
    }

    fn clear_doorbell(&self) {
        self.clear_doorbell();
    }

    fn shards(&self) -> usize {
        self.shards()
    }
}

/// Why a question has no answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum AskError {
    /// The shard's queue, or the table of open questions, is full.
    #[error("the shard has too much to do")]
    Busy,
    /// The deadline passed.
    #[error("the shard did not answer in time")]
    Late,
}

/// Asks shards, from anywhere on the control plane's thread.
#[derive(Clone, Debug)]
pub(crate) struct Line {
    requests: mpsc::Sender<Request>,
    shards: u16,
}

#[derive(Debug)]
enum Request {
    Ask { shard: ShardId, query: Query, reply: Reply },
    Tell { shard: ShardId, message: ShardMessage<Link>, reply: oneshot::Sender<bool> },
    Settle { reply: oneshot::Sender<()> },
}

/// Where answers go.
#[derive(Debug)]
enum Reply {
    /// One answer.
    One(oneshot::Sender<Result<Answer, AskError>>),
    /// As many as there are to a publication.
    Several(watch::Sender<Tally>),
}

impl Reply {
    /// Whoever asked has stopped waiting.
    fn is_closed(&self) -> bool {
        match self {
            Self::One(reply) => reply.is_closed(),
            Self::Several(tally) => tally.is_closed(),
        }
    }

    /// Passes an answer on, and gives back where further ones go.
    fn pass(self, answer: Result<Answer, AskError>) -> Option<Self> {
        match self {
            Self::One(reply) => {
                // Whoever asked may have stopped waiting.
                let _ = reply.send(answer);
                None
            }
            Self::Several(tally) => {
                let mut last = false;
                tally.send_modify(|known| last = known.take(answer));
                (!last).then_some(Self::Several(tally))
            }
        }
    }
}

impl Line {
    /// Every shard, in order.
    pub(crate) fn shards(&self) -> impl Iterator<Item = ShardId> + use<> {
        (0..self.shards).map(ShardId)
    }

    /// Asks one shard and waits for its answer, at most so long.
    pub(crate) async fn ask(
        &self,
        shard: ShardId,
        query: Query,
        within: Duration,
    ) -> Result<Answer, AskError> {
        let deadline = Instant::now() + within;
        let answer = self.put(shard, query, deadline).await?;
        wait(answer, deadline).await
    }

    /// Asks every shard at once; all share the deadline. In the order of the shards.
    pub(crate) async fn ask_all(
        &self,
        query: impl Fn() -> Query,
        within: Duration,
    ) -> Vec<Result<Answer, AskError>> {
        let deadline = Instant::now() + within;
        let mut waiting = Vec::with_capacity(usize::from(self.shards));
        for shard in self.shards() {
            waiting.push(self.put(shard, query(), deadline).await);
        }
        let mut answers = Vec::with_capacity(waiting.len());
        for answer in waiting {
            answers.push(match answer {
                Ok(answer) => wait(answer, deadline).await,
                Err(error) => Err(error),
            });
        }
        answers
    }

    /// Asks the owner of a channel to publish on it. Who asks one after the other is heard in that order.
    pub(crate) async fn publish(
        &self,
        owner: ShardId,
        publication: Publication,
        deadline: Instant,
    ) -> Result<Awaited, AskError> {
        let (tally, awaited) = watch::channel(Tally::default());
        let query = Query::Publish(Box::new(publication));
        let request = Request::Ask { shard: owner, query, reply: Reply::Several(tally) };
        match timeout_at(deadline, self.requests.send(request)).await {
            Ok(Ok(())) => Ok(Awaited(awaited)),
            Ok(Err(_)) | Err(_) => Err(AskError::Busy),
        }
    }

    /// Sends a message; `false` when the shard's queue is full.
    pub(crate) async fn tell(&self, shard: ShardId, message: ShardMessage<Link>) -> bool {
        let (reply, told) = oneshot::channel();
        let sent = self.requests.send(Request::Tell { shard, message, reply }).await;
        sent.is_ok() && told.await.unwrap_or(false)
    }

    /// Waits until everything is taken that shards have sent so far.
    pub(crate) async fn settle(&self) {
        let (reply, settled) = oneshot::channel();
        if self.requests.send(Request::Settle { reply }).await.is_ok() {
            let _ = settled.await;
        }
    }

    async fn put(
        &self,
        shard: ShardId,
        query: Query,
        deadline: Instant,
    ) -> Result<oneshot::Receiver<Result<Answer, AskError>>, AskError> {
        let (reply, answer) = oneshot::channel();
        let request = Request::Ask { shard, query, reply: Reply::One(reply) };
        match timeout_at(deadline, self.requests.send(request)).await {
            Ok(Ok(())) => Ok(answer),
            Ok(Err(_)) | Err(_) => Err(AskError::Late),
        }
    }
}

async fn wait(
    answer: oneshot::Receiver<Result<Answer, AskError>>,
    deadline: Instant,
) -> Result<Answer, AskError> {
    match timeout_at(deadline, answer).await {
        Ok(Ok(answer)) => answer,
        Ok(Err(_)) | Err(_) => Err(AskError::Late),
    }
}

/// Carries questions out and answers back.
pub(crate) struct Switchboard<M> {
    mailbox: M,
    requests: mpsc::Receiver<Request>,
    waiting: HashMap<AskId, Reply>,
    last: u64,
    /// Those who wait until everything is taken that has been sent.
    settling: Vec<oneshot::Sender<()>>,
}

impl<M: Mailbox> Switchboard<M> {
    /// A switchboard over the mailbox, and the line to it.
    pub(crate) fn new(mailbox: M) -> (Self, Line) {
        let (sender, requests) = mpsc::channel(256);
        let line = Line { requests: sender, shards: mailbox.shards() as u16 };
        (Self { mailbox, requests, waiting: HashMap::new(), last: 0, settling: Vec::new() }, line)
    }

    /// Runs until the doorbell breaks. Handed-over sockets go to the `door`, everything else that shards hand out to the
    /// `takers`.
    pub(crate) async fn run(
        mut self,
        mut door: impl FnMut(Handoff<Link>),
        takers: Takers,
    ) -> io::Result<Infallible> {
        let doorbell = self.mailbox.doorbell().try_clone_to_owned()?;
        #[expect(
            deprecated,
            reason = "sound here: an OwnedFd names the same open descriptor as long as it lives"
        )]
        let doorbell = AsyncFd::with_interest(doorbell, Interest::READABLE)?;
        loop {
            let settling = std::mem::take(&mut self.settling);
            let taken = self.take_messages(&mut door, &takers);
            if taken < BUDGET {
                // Whoever has stopped waiting does not mind.
                for reply in settling {
                    let _ = reply.send(());
                }
            } else {
                self.settling = settling;
            }
            while let Ok(request) = self.requests.try_recv() {
                self.carry(request);
            }
            if taken == BUDGET || !self.settling.is_empty() || !self.mailbox.prepare_to_sleep() {
                tokio::task::yield_now().await;
                continue;
            }
            tokio::select! {
                Some(request) = self.requests.recv() => self.carry(request),
                ready = doorbell.readable() => {
                    self.mailbox.clear_doorbell();
                    ready?.clear_ready();
                }
            }
        }
    }

    fn take_messages(&mut self, door: &mut impl FnMut(Handoff<Link>), takers: &Takers) -> usize {
        for taken in 0..BUDGET {
            match self.mailbox.receive() {
                Some(message) => self.take(message, door, takers),
                None => return taken,
            }
        }
        BUDGET
    }

    fn take(&mut self, message: ShardMessage<Link>, door: &mut impl FnMut(Handoff<Link>), takers: &Takers) {
        match message {
            ShardMessage::Answer { id, answer, .. } => {
                let rest = self.waiting.remove(&id).and_then(|reply| reply.pass(Ok(answer)));
                if let Some(rest) = rest.filter(|rest| !rest.is_closed()) {
                    self.waiting.insert(id, rest);
                }
            }
            ShardMessage::Serve(handoff) => door(handoff),
            ShardMessage::RoomEnded(report) => {
                if let Some(jobs) = &takers.jobs {
                    jobs.take(&report);
                }
            }
            ShardMessage::Work(work) => self.pass_work(work, takers.workers.as_ref()),
            ShardMessage::Remember(told) => {
                if let Some(stores) = &takers.stores {
                    stores.remember(told);
                }
            }
            ShardMessage::Recall(recall) => self.pass_recall(*recall, takers.stores.as_ref()),
            ShardMessage::DeadLetter(letter) => {
                if let Some(letters) = &takers.letters {
                    letters.take(*letter);
                }
            }
            ShardMessage::Adopt(_)
            | ShardMessage::Ask { .. }
            | ShardMessage::Worked(_)
            | ShardMessage::Recalled(_)
            | ShardMessage::RememberAgain(_)
            | ShardMessage::Parcel { .. }
            | ShardMessage::Drain { .. }
            | ShardMessage::Stop => {
                tracing::error!("a shard sent the control plane a message that is for shards");
            }
        }
    }

    /// Where nobody can take it, the room is told so.
    fn pass_work(&self, work: Box<Work>, workers: Option<&Workers>) {
        let (refused, failure) = match workers {
            Some(workers) => match workers.take(work) {
                Ok(()) => return,
                Err(work) => (work, WorkFailure::busy()),
            },
            None => (work, WorkFailure::unavailable()),
        };
        if let Work { shard, room, order: WorkOrder::Ask(request), .. } = *refused {
            let worked = Worked { room, request: request.id, news: WorkNews::Failed(failure) };
            self.mailbox.tell(shard, ShardMessage::Worked(Box::new(worked)));
        }
    }

    /// Where nobody can say, the room begins without.
    fn pass_recall(&self, recall: Recall, stores: Option<&Stores>) {
        match stores {
            Some(stores) => stores.recall(recall),
            None => {
                let Recall { shard, session } = recall;
                let recalled = Recalled { session, memory: Err(StoreFailed) };
                self.mailbox.tell(shard, ShardMessage::Recalled(Box::new(recalled)));
            }
        }
    }

    fn carry(&mut self, request: Request) {
        match request {
            Request::Ask { shard, query, reply } => self.ask(shard, query, reply),
            Request::Tell { shard, message, reply } => {
                let _ = reply.send(self.mailbox.tell(shard, message));
            }
            Request::Settle { reply } => self.settling.push(reply),
        }
    }

    fn ask(&mut self, shard: ShardId, query: Query, reply: Reply) {
        #[cfg(debug_assertions)]
        if let Query::Fault(fault @ Fault::ControlPlane) = query {
            fault.panic();
        }
        if self.waiting.len() >= ASKS_MAX {
            // Questions whose deadline has passed are still in the table until their answer comes.
            self.waiting.retain(|_, reply| !reply.is_closed());
        }
        self.last += 1;
        let id = AskId(self.last);
        if self.waiting.len() >= ASKS_MAX || !self.mailbox.tell(shard, ShardMessage::Ask { id, query }) {
            reply.pass(Err(AskError::Busy));
            return;
        }
        self.waiting.insert(id, reply);
    }
}

#[cfg(test)]
mod tests {
    use shards::core::event::{Modality, SessionSettings};
    use shards::core::work::{Matter, RequestId, WorkRequest};
    use shards::core::{Micros, RoomKey, SessionId};

    use super::super::testing::{FakeMesh, on_control_thread};
    use super::*;

    const SOON: Duration = Duration::from_millis(50);
    const LONG: Duration = Duration::from_secs(20);

    #[test]
    fn answers_find_their_questions_in_whatever_order_they_come() {
        on_control_thread(FakeMesh::new(3), |line, mesh| async move {
            mesh.hold_answers(true);
            let asked = tokio::spawn(async move { line.ask_all(|| Query::Counters, LONG).await });
            mesh.questions(3).await;
            mesh.release_answers_reversed();
            let answers = asked.await.expect("no panic");
            let opened: Vec<u64> = answers
                .into_iter()
                .map(|answer| match answer {
                    Ok(Answer::Counters(counters)) => counters.opened,
                    other => panic!("{other:?}"),
                })
                .collect();
            assert_eq!(opened, [100, 101, 102], "each fake shard counts from 100 by its number");
        });
    }

    #[test]
    fn a_shard_that_is_silent_or_full_does_not_hold_up_the_others() {
        on_control_thread(FakeMesh::new(3), |line, mesh| async move {
            mesh.silence(ShardId(0));
            mesh.fill(ShardId(1));
            let answers = line.ask_all(|| Query::Counters, SOON).await;
            assert_eq!(answers[0].as_ref().err(), Some(&AskError::Late));
            assert_eq!(answers[1].as_ref().err(), Some(&AskError::Busy));
            assert!(answers[2].is_ok());
            assert!(!line.tell(ShardId(1), ShardMessage::Stop).await);
        });
    }

    #[test]
    fn a_room_that_asks_workers_where_there_are_none_is_told_so() {
        on_control_thread(FakeMesh::new(1), |_, mesh| async move {
            let request = WorkRequest {
                id: RequestId(7),
                item: None,
                matter: Matter::Nothing,
                format: SessionSettings::default().format,
                modality: Modality::Text,
                metadata: None,
                extras: None,
                within: Micros::from_s(1),
            };
            let room = RoomKey { index: 3, generation: 1 };
            let session = SessionId::parse("room").expect("valid");
            let order = WorkOrder::Ask(Box::new(request));
            mesh.want_workers(Work { shard: ShardId(0), room, session, order });
            let Worked { room: told, request, news } = mesh.worked().await;
            assert_eq!((told, request), (room, RequestId(7)));
            assert_eq!(news, WorkNews::Failed(WorkFailure::unavailable()));
        });
    }
}

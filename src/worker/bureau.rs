//! The task that has to do with Redis: it connects, tells requests, hears answers, and heals by itself.
//!
//! While Redis is away a new request fails at once, with an error that says to try again. What nobody has begun to answer
//! waits for Redis within its own deadline and is told again if Redis has lost it; what somebody had begun fails, because
//! pieces of the answer may be missing.

use std::collections::HashSet;
use std::convert::Infallible;
use std::pin::Pin;
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use futures_util::StreamExt as _;
use futures_util::stream::FuturesUnordered;
use redis::aio::PubSubStream;
use redis::{Msg, RedisError, RedisResult};
use shards::core::ShardMessage;
use shards::core::work::{RequestId, Work, WorkFailure, WorkNews, WorkOrder, WorkRequest, Worked};
use tokio::sync::mpsc;
use tokio::time::{Duration, Instant, MissedTickBehavior, interval, sleep};

use super::answer::Answer;
use super::desk::{Desk, Heard, Lost, Request};
use super::link::{Link, Swept, Told, is_lost};
use super::payload::{ANSWERS, channel};
use super::report::Counts;
use crate::backoff::Backoff;
use crate::config::{WorkerConfig, WorkerMode};
use crate::control::Line;

/// See the module.
pub(crate) struct Bureau {
    config: Arc<WorkerConfig>,
    wants: mpsc::Receiver<Box<Work>>,
    counts: Arc<Counts>,
    desk: Desk,
    /// Channels that are heard.
    channels: HashSet<String>,
}

/// Something on its way to Redis.
type Job = Pin<Box<dyn Future<Output = Done> + Send>>;

/// What came of it.
enum Done {
    Told {
        request: RequestId,
        attempt: u32,
        result: RedisResult<Told>,
    },
    Swept(RedisResult<Swept>),
    /// Nothing depends on it.
    Other(RedisResult<()>),
}

/// A connection that stands, and what is under way on it.
struct Session {
    link: Link,
    answers: PubSubStream,
    jobs: FuturesUnordered<Job>,
    sweeping: bool,
}

impl Bureau {
    pub(super) fn new(config: WorkerConfig, wants: mpsc::Receiver<Box<Work>>, counts: Arc<Counts>) -> Self {
        let desk = Desk::new(config.in_flight_max, config.claim, config.deliveries_max);
        Self { config: Arc::new(config), wants, counts, desk, channels: HashSet::new() }
    }

    /// Works until it is dropped.
    pub(crate) async fn run(mut self, line: Line) -> Infallible {
        let (mut backoff, mut rest) = (Backoff::default(), Duration::ZERO);
        let mut away = false;
        loop {
            match self.connect(rest, away, &line).await {
                Ok(session) => {
                    self.counts.redis_up.set(1);
                    self.counts.connects.add(1);
                    tracing::info!(out = self.desk.len(), "the workers' Redis is connected");
                    let why = self.serve(session, &line).await;
                    self.counts.redis_up.set(0);
                    tracing::warn!(%why, "the workers' Redis is lost; connecting again");
                    self.fail_begun(&line).await;
                    backoff.reset();
                    (rest, away) = (Duration::ZERO, false);
                }
                Err(error) => {
                    tracing::warn!(%error, "the workers' Redis can't be reached; trying again");
                    rest = backoff.next();
                    away = true;
                }
            }
        }
    }

    /// Connects after a rest. When Redis is known to be away, rooms that ask meanwhile are told so; when it may not be, as
    /// at the start, what they ask waits that long.
    async fn connect(&mut self, rest: Duration, away: bool, line: &Line) -> RedisResult<Session> {
        let config = Arc::clone(&self.config);
        let attempt = async move {
            sleep(rest).await;
            Link::connect(&config).await
        };
        tokio::pin!(attempt);
        loop {
            tokio::select! {
                made = &mut attempt => {
                    let (link, answers) = made?;
                    return Ok(Session { link, answers, jobs: FuturesUnordered::new(), sweeping: false });
                }
                Some(work) = self.wants.recv(), if away => self.turn_away(*work, line).await,
            }
        }
    }

    async fn turn_away(&mut self, work: Work, line: &Line) {
        match &work.order {
            WorkOrder::Ask(request) => {
                self.counts.refused.add(1);
                let news = WorkNews::Failed(WorkFailure::unavailable());
                self.report(line, &work, request.id, news).await;
            }
            WorkOrder::Cancel(request) => drop(self.end(*request)),
        }
    }

    /// Serves until the connection is lost: why.
    async fn serve(&mut self, mut session: Session, line: &Line) -> RedisError {
        self.channels.clear();
        self.tell_all_again(&mut session, line).await;
        let every = (self.config.claim / 8).clamp(Duration::from_millis(100), Duration::from_secs(1));
        let mut ticks = interval(every);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            let lost = tokio::select! {
                Some(work) = self.wants.recv() => {
                    self.take(*work, &mut session, line).await;
                    None
                }
                answer = session.answers.next() => match answer {
                    Some(message) => {
                        self.hear(&message, &mut session, line).await;
                        None
                    }
                    None => Some(std::io::Error::from(std::io::ErrorKind::UnexpectedEof).into()),
                },
                Some(done) = session.jobs.next() => self.done(done, &mut session, line).await,
                _ = ticks.tick() => {
                    self.tick(&mut session);
                    None
                }
            };
            self.counts.in_flight.set(self.desk.len() as u64);
            if let Some(why) = lost {
                return why;
            }
        }
    }

    /// After a loss: what was out and not begun is told again where Redis has lost it.
    async fn tell_all_again(&mut self, session: &mut Session, line: &Line) {
        for id in self.desk.begun(false) {
            if self.config.mode == WorkerMode::PubSub {
                // Nobody keeps it there, and who listened may not be back yet.
                self.fail(id, WorkFailure::unavailable(), line).await;
                continue;
            }
            let Some(request) = self.desk.get(id) else { continue };
            let (link, config) = (session.link.clone(), Arc::clone(&self.config));
            let (channel, attempt) = (channel(&request.session), request.attempt);
            let (payload, entry) = (request.payload.attempt(attempt), request.entry.clone());
            self.channels.insert(channel.clone());
            session.jobs.push(Box::pin(async move {
                let result = link.tell_lost(&config, &channel, &payload, entry.as_deref()).await;
                Done::Told { request: id, attempt, result }
            }));
        }
    }

    async fn take(&mut self, work: Work, session: &mut Session, line: &Line) {
        match &work.order {
            WorkOrder::Ask(request) => self.ask(&work, request, session, line).await,
            WorkOrder::Cancel(id) => {
                let Some(request) = self.end(*id) else { return };
                self.counts.cancelled.add(1);
                self.forget(request.entry, session);
                let (link, config, id) = (session.link.clone(), Arc::clone(&self.config), id.to_string());
                session.jobs.push(Box::pin(async move { Done::Other(link.call_off(&config, &id).await) }));
            }
        }
    }

    async fn ask(&mut self, work: &Work, request: &WorkRequest, session: &mut Session, line: &Line) {
        if self.counts.depth.get() >= self.config.stream_max {
            // Past its length the stream would lose what others wait for.
            self.counts.refused.add(1);
            return self.report(line, work, request.id, WorkNews::Failed(WorkFailure::busy())).await;
        }
        let deadline = now_ms() + request.within.as_ms();
        let open = match self.desk.open(work, request, deadline, Instant::now()) {
            Ok(open) => open,
            Err(failure) => {
                self.counts.refused.add(1);
                return self.report(line, work, request.id, WorkNews::Failed(failure)).await;
            }
        };
        self.counts.requests.add(1);
        let (channel, payload) = (channel(&work.session), open.payload.attempt(1));
        let (link, config, id) = (session.link.clone(), Arc::clone(&self.config), request.id);
        self.channels.insert(channel.clone());
        session.jobs.push(Box::pin(async move {
            let result = link.tell(&config, &channel, &payload).await;
            Done::Told { request: id, attempt: 1, result }
        }));
    }

    /// A message on one of the channels.
    async fn hear(&mut self, message: &Msg, session: &mut Session, line: &Line) {
        let Some(named) = message.get_channel_name().strip_prefix(ANSWERS) else { return };
        let answer = match Answer::parse(message.get_payload_bytes()) {
            Ok(answer) => answer,
            Err(why) => {
                self.counts.unreadable.add(1);
                tracing::warn!(session = named, %why, "a message from a worker is no answer");
                return;
            }
        };
        let id = answer.request;
        let (heard, needless) = self.desk.heard(named, answer, Instant::now());
        self.forget(needless, session);
        match heard {
            Heard::Ignored => self.counts.ignored.add(1),
            Heard::Noted => {}
            Heard::News(news) => {
                if !self.tell_room(line, id, news).await {
                    // What the room has heard is not whole any more; its deadline will say so.
                    let request = self.end(id);
                    self.forget(request.and_then(|request| request.entry), session);
                }
            }
            Heard::Over(news) => {
                let count = if news == WorkNews::Done { &self.counts.answered } else { &self.counts.failed };
                count.add(1);
                self.tell_room(line, id, news).await;
                let request = self.end(id);
                self.forget(request.and_then(|request| request.entry), session);
            }
        }
    }

    /// Something has come back from Redis. With why, when the connection is lost.
    async fn done(&mut self, done: Done, session: &mut Session, line: &Line) -> Option<RedisError> {
        let error = match done {
            Done::Told { request, attempt, result } => match result {
                Ok(Told::Entry(entry)) => {
                    if !self.desk.told(request, attempt, &entry) {
                        self.forget(Some(entry), session);
                    }
                    return None;
                }
                Ok(Told::Listeners(0)) => {
                    let message = "No worker is listening; try again in a moment.".into();
                    let failure = WorkFailure { code: "worker_unavailable", message, retryable: true };
                    self.fail(request, failure, line).await;
                    return None;
                }
                Ok(Told::Listeners(_)) => return None,
                // Whether it stands in the stream nobody knows; it is looked for when Redis is back.
                Err(error) if is_lost(&error) => return Some(error),
                Err(error) => {
                    self.fail(request, WorkFailure::unavailable(), line).await;
                    error
                }
            },
            Done::Swept(result) => {
                session.sweeping = false;
                match result {
                    Ok(swept) => {
                        self.counts.depth.set(swept.depth);
                        self.mind_stale(swept, session, line).await;
                        return None;
                    }
                    Err(error) => error,
                }
            }
            Done::Other(Ok(())) => return None,
            Done::Other(Err(error)) => error,
        };
        if is_lost(&error) {
            return Some(error);
        }
        tracing::warn!(%error, "the workers' Redis refuses a command");
        None
    }

    fn tick(&mut self, session: &mut Session) {
        let now = Instant::now();
        for id in self.desk.overdue(now) {
            let request = self.end(id);
            self.forget(request.and_then(|request| request.entry), session);
        }
        if session.sweeping {
            return;
        }
        session.sweeping = true;
        let wanted = self.desk.sessions();
        let needless: Vec<String> = self
            .channels
            .iter()
            .filter(|channel| !wanted.contains(&channel[ANSWERS.len()..]))
            .cloned()
            .collect();
        for channel in &needless {
            self.channels.remove(channel);
        }
        let (link, config) = (session.link.clone(), Arc::clone(&self.config));
        session.jobs.push(Box::pin(async move {
            let feel = async {
                if !needless.is_empty() {
                    link.unsubscribe(&needless).await?;
                }
                link.feel().await
            };
            Done::Swept(match feel.await {
                Ok(()) => link.sweep(&config).await,
                Err(error) => Err(error),
            })
        }));
    }

    /// Entries that have been with a worker for long.
    async fn mind_stale(&mut self, swept: Swept, session: &mut Session, line: &Line) {
        for (entry, idle, deliveries) in swept.stale {
            let Some((id, lost)) = self.desk.stale(&entry, deliveries, Instant::now()) else {
                if !self.desk.owns(&entry) && idle >= self.config.age {
                    // Another node's, which has not minded it for so long that nobody waits.
                    self.forget(Some(entry.into()), session);
                }
                continue;
            };
            match lost {
                Lost::Again { attempt, begun } => {
                    self.counts.retold.add(1);
                    tracing::warn!(request = %id, attempt, "a worker is lost: its request is told again");
                    if begun {
                        self.tell_room(line, id, WorkNews::Again).await;
                    }
                    self.retell(id, attempt, entry, session);
                }
                Lost::Dead { deliveries } => {
                    self.counts.buried.add(1);
                    tracing::warn!(request = %id, deliveries, "a request goes to the dead letters");
                    self.bury(id, deliveries, &entry, session);
                    let message = "No worker could answer this; it is set aside for the operator.".into();
                    let failure = WorkFailure { code: "worker_gave_up", message, retryable: false };
                    self.fail(id, failure, line).await;
                }
            }
        }
    }

    fn retell(&mut self, id: RequestId, attempt: u32, entry: String, session: &mut Session) {
        let Some(request) = self.desk.get(id) else { return };
        let (link, config, payload) =
            (session.link.clone(), Arc::clone(&self.config), request.payload.attempt(attempt));
        session.jobs.push(Box::pin(async move {
            let result = link.tell_again(&config, &payload, &entry).await;
            Done::Told { request: id, attempt, result }
        }));
    }

    fn bury(&mut self, id: RequestId, deliveries: u32, entry: &str, session: &mut Session) {
        let Some(request) = self.desk.get(id) else { return };
        let (link, config, payload) =
            (session.link.clone(), Arc::clone(&self.config), request.payload.attempt(request.attempt));
        let (entry, reason) = (entry.to_owned(), format!("delivered {deliveries} times, answered never"));
        session
            .jobs
            .push(Box::pin(async move { Done::Other(link.bury(&config, &payload, &entry, &reason).await) }));
    }

    fn forget(&self, entry: Option<Box<str>>, session: &mut Session) {
        let Some(entry) = entry else { return };
        let (link, config) = (session.link.clone(), Arc::clone(&self.config));
        session.jobs.push(Box::pin(async move { Done::Other(link.forget(&config, &entry).await) }));
    }

    async fn fail_begun(&mut self, line: &Line) {
        for id in self.desk.begun(true) {
            self.fail(id, WorkFailure::unavailable(), line).await;
        }
    }

    async fn fail(&mut self, id: RequestId, failure: WorkFailure, line: &Line) {
        if self.desk.get(id).is_some() {
            self.counts.failed.add(1);
            self.tell_room(line, id, WorkNews::Failed(failure)).await;
            self.end(id);
        }
    }

    fn end(&mut self, id: RequestId) -> Option<Request> {
        let request = self.desk.close(id);
        self.counts.in_flight.set(self.desk.len() as u64);
        request
    }

    /// `false` when the shard's queue is full: then its room's deadline passes.
    async fn tell_room(&self, line: &Line, id: RequestId, news: WorkNews) -> bool {
        let Some(request) = self.desk.get(id) else { return true };
        let worked = Worked { room: request.room, request: id, news };
        let told = line.tell(request.shard, ShardMessage::Worked(Box::new(worked))).await;
        if !told {
            self.counts.shard_full.add(1);
        }
        told
    }

    /// Tells a room whose request was never taken.
    async fn report(&self, line: &Line, work: &Work, request: RequestId, news: WorkNews) {
        let worked = Worked { room: work.room, request, news };
        if !line.tell(work.shard, ShardMessage::Worked(Box::new(worked))).await {
            self.counts.shard_full.add(1);
        }
    }
}

#[expect(clippy::disallowed_methods, reason = "workers are told a wall clock's time; this is no shard")]
fn now_ms() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_millis() as u64)
}

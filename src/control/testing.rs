//! A mesh without shards, for the control plane's own tests.

use std::collections::VecDeque;
use std::future::Future;
use std::io::{Read as _, Write as _};
use std::os::fd::{AsFd as _, BorrowedFd};
use std::os::unix::net::UnixStream;
use std::sync::{Arc, Mutex, MutexGuard};

use shards::core::channel::{DeadLetter, Publication, Published, Undeliverable};
use shards::core::counters::Counters;
use shards::core::message::{Answer, AskId, Query, RoomSummary};
use shards::core::work::{Work, Worked};
use shards::core::{Handoff, SessionId, ShardId, ShardMessage};
use shards::rt::Link;
use tokio::sync::Notify;

use super::line::Takers;
use super::line::{Line, Mailbox, Switchboard};
use super::public::Door;
use super::{App, Beside, Plane};
use crate::config::{FlagSetting, RawConfig};

const REASONS: [Undeliverable; 5] = [
    Undeliverable::Expired,
    Undeliverable::Refused,
    Undeliverable::RateLimited,
    Undeliverable::NoSubscriber,
    Undeliverable::Overloaded,
];

/// Shards that answer at once, unless told to be silent, full or slow. Each lists one room, `room-<shard>`, and knows every room of such a name.
#[derive(Clone)]
pub(crate) struct FakeMesh {
    inner: Arc<Mutex<Inner>>,
    asked: Arc<Notify>,
    bell: Arc<(UnixStream, UnixStream)>,
}

struct Inner {
    shards: usize,
    inbox: VecDeque<ShardMessage<Link>>,
    held: Option<Vec<ShardMessage<Link>>>,
    silent: Vec<ShardId>,
    full: Vec<ShardId>,
    asked: usize,
    posts: Vec<(String, String, Option<u16>)>,
    worked: Vec<Worked>,
    published: Vec<(ShardId, Publication)>,
    /// Whether what could not be delivered can be by now.
    healed: bool,
    /// Keys of what nobody heard.
    keys: Vec<Box<str>>,
}

impl FakeMesh {
    pub(crate) fn new(shards: usize) -> Self {
        let bell = UnixStream::pair().expect("a socket pair");
        bell.0.set_nonblocking(true).expect("a socket takes that");
        let inner = Inner {
            shards,
            inbox: VecDeque::new(),
            held: None,
            silent: Vec::new(),
            full: Vec::new(),
            asked: 0,
            posts: Vec::new(),
            worked: Vec::new(),
            published: Vec::new(),
            healed: false,
            keys: Vec::new(),
        };
        Self { inner: Arc::new(Mutex::new(inner)), asked: Arc::new(Notify::new()), bell: Arc::new(bell) }
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().expect("no test panics inside")
    }

    fn ring(&self) {
        (&self.bell.1).write_all(&[1]).expect("the bell rings");
    }

    pub(crate) fn hold_answers(&self, hold: bool) {
        self.lock().held = hold.then(Vec::new);
    }

    pub(crate) fn release_answers_reversed(&self) {
        let mut inner = self.lock();
        let held = inner.held.take().unwrap_or_default();
        inner.inbox.extend(held.into_iter().rev());
        drop(inner);
        self.ring();
    }

    pub(crate) fn silence(&self, shard: ShardId) {
        self.lock().silent.push(shard);
    }

    pub(crate) fn fill(&self, shard: ShardId) {
        self.lock().full.push(shard);
    }

    /// Waits until so many questions have been asked.
    pub(crate) async fn questions(&self, count: usize) {
        loop {
            let heard = self.asked.notified();
            if self.lock().asked >= count {
                return;
            }
            heard.await;
        }
    }

    /// Session, data and member of every post.
    pub(crate) fn posts(&self) -> Vec<(String, String, Option<u16>)> {
        self.lock().posts.clone()
    }

    /// What owners were asked to publish.
    pub(crate) fn published(&self) -> Vec<(ShardId, Publication)> {
        self.lock().published.clone()
    }

    /// From now on everything can be delivered.
    pub(crate) fn heal(&self) {
        self.lock().healed = true;
    }

    /// As a shard does with what a room wants of workers.
    pub(crate) fn want_workers(&self, work: Work) {
        self.lock().inbox.push_back(ShardMessage::Work(Box::new(work)));
        self.ring();
    }

    /// Waits for what a shard is told about it.
    pub(crate) async fn worked(&self) -> Worked {
        loop {
            let heard = self.asked.notified();
            if let Some(worked) = self.lock().worked.pop() {
                return worked;
            }
            heard.await;
        }
    }

    /// As a shard does with a request that is not for it.
    pub(crate) fn hand_over(&self, handoff: Handoff<Link>) {
        self.lock().inbox.push_back(ShardMessage::Serve(handoff));
        self.ring();
    }
}

impl Inner {
    fn answer(&mut self, from: ShardId, query: Query) -> Answer {
        let has = |id: &SessionId| id.as_str().starts_with("room-");
        match query {
            Query::Counters => {
                let mut counters =
                    Counters { opened: 100 + u64::from(from.0), open: 7, ..Counters::default() };
                counters.send_latency_us.observe(4_000);
                counters.count_close(1_001);
                counters.dropped[1][2] = 5;
                Answer::Counters(Box::new(counters))
            }
            Query::Rooms(_) => Answer::Rooms(vec![RoomSummary {
                id: SessionId::parse(&format!("room-{from}")).expect("valid"),
                shard: from,
                engine: "parrot",
                members: usize::from(from.0) + 1,
                age_ms: 10,
                frames_received: 0,
                frames_sent: 0,
                queued_bytes: 0,
                engine_started: false,
                lingering: false,
            }]),
            Query::Publish(publication) => self.publish(from, *publication),
            Query::Room(_) => Answer::Room(None),
            Query::Send(id, post) => {
                let there = has(&id);
                if there {
                    self.posts.push((id.to_string(), post.data.into(), post.to.map(|member| member.0)));
                }
                Answer::Sent(there.then_some(1))
            }
            Query::CloseRoom(id) => Answer::RoomClosed(has(&id).then_some(2)),
            Query::CloseConnection(key, ..) => Answer::ConnectionClosed(key.index == 1),
            Query::DisconnectUser(sub) => Answer::UserDisconnected(usize::from(&*sub == "ann/1")),
            #[cfg(debug_assertions)]
            Query::Fault(fault) => fault.panic(),
        }
    }

    /// Says of a channel whose last segment names a reason that it can't be delivered for that reason. Everything else
    /// goes to every shard; the others answer before the owner does. What is said on an `unheard` one nobody hears, and its
    /// keys are known.
    fn publish(&mut self, owner: ShardId, publication: Publication) -> Answer {
        let last = publication.channel.rsplit(':').next().unwrap_or_default();
        let reason = REASONS.into_iter().find(|reason| reason.name() == last);
        self.published.push((owner, publication.clone()));
        if let Some(reason) = reason.filter(|_| !self.healed) {
            let letter = DeadLetter { publication, reason };
            self.inbox.push_back(ShardMessage::DeadLetter(Box::new(letter)));
            return Answer::Published(Err(reason));
        }
        let seq = self.published.len() as u64;
        if last == "unheard" {
            let key = publication.dedupe.clone();
            let duplicate = key.as_ref().is_some_and(|key| self.keys.contains(key));
            self.keys.extend(key);
            let subscribers = if self.healed && !duplicate { 1 } else { 0 };
            return Answer::Published(Ok(Published {
                id: "m".into(),
                seq,
                duplicate,
                shards: 1,
                subscribers,
            }));
        }
        Answer::Published(Ok(Published {
            id: format!("m{seq}").into(),
            seq,
            duplicate: false,
            shards: self.shards,
            subscribers: 10,
        }))
    }

    /// What the other shards say to a publication that went out: each has one subscriber.
    fn delivered(&mut self, owner: ShardId, id: AskId) {
        for shard in (0..self.shards).map(|shard| ShardId(shard as u16)) {
            if shard != owner && !self.silent.contains(&shard) {
                self.inbox.push_back(ShardMessage::Answer { from: shard, id, answer: Answer::Delivered(1) });
            }
        }
    }

    fn take_question(&mut self, to: ShardId, id: AskId, query: Query) {
        self.asked += 1;
        if self.silent.contains(&to) {
            return;
        }
        let answer = self.answer(to, query);
        if let Answer::Published(Ok(_)) = answer {
            self.delivered(to, id);
        }
        let answer = ShardMessage::Answer { from: to, id, answer };
        match &mut self.held {
            Some(held) => held.push(answer),
            None => self.inbox.push_back(answer),
        }
    }
}

impl Mailbox for FakeMesh {
    fn tell(&self, to: ShardId, message: ShardMessage<Link>) -> bool {
        let mut inner = self.lock();
        if inner.full.contains(&to) {
            return false;
        }
        match message {
            ShardMessage::Ask { id, query } => inner.take_question(to, id, query),
            ShardMessage::Worked(worked) => inner.worked.push(*worked),
            _ => {}
        }
        drop(inner);
        self.ring();
        self.asked.notify_waiters();
        true
    }

    fn receive(&self) -> Option<ShardMessage<Link>> {
        self.lock().inbox.pop_front()
    }

    fn prepare_to_sleep(&self) -> bool {
        self.lock().inbox.is_empty()
    }

    fn doorbell(&self) -> BorrowedFd<'_> {
        self.bell.0.as_fd()
    }

    fn clear_doorbell(&self) {
        let mut rings = [0; 64];
        while (&self.bell.0).read(&mut rings).is_ok_and(|read| read > 0) {}
    }

    fn shards(&self) -> usize {
        self.lock().shards
    }
}

/// Runs the test on a control thread of its own, beside a switchboard over the mesh.
pub(crate) fn on_control_thread<F: Future<Output = ()>>(
    mesh: FakeMesh,
    test: impl FnOnce(Line, FakeMesh) -> F,
) {
    with_app(mesh, &[], |app, mesh| test(app.line.clone(), mesh));
}

/// The same with everything that handlers use; handed-over sockets come to the public door.
pub(crate) fn with_app<F: Future<Output = ()>>(
    mesh: FakeMesh,
    settings: &[(&str, &str)],
    test: impl FnOnce(App, FakeMesh) -> F,
) {
    let flags: Vec<FlagSetting> = settings
        .iter()
        .map(|(key, value)| FlagSetting { flag: "--set".into(), key: (*key).into(), value: (*value).into() })
        .collect();
    let config =
        crate::config::resolve(RawConfig::gather(None, [], &flags), &tuning::Host::read()).expect("valid");
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    runtime.block_on(async {
        let (switchboard, line) = Switchboard::new(mesh.clone());
        let beside = Beside { gate: crate::auth::open(&config).expect("good keys"), ..Beside::default() };
        let app = Plane::new(&config, beside, None, line);
        let door = Door::new(Arc::clone(&app));
        let takers = Takers { letters: Some(app.publishing.letters.clone()), ..Takers::default() };
        tokio::select! {
            ended = switchboard.run(move |handoff| door.take(handoff), takers) => panic!("it ended: {:?}", ended.err()),
            () = test(app, mesh) => {}
        }
    });
}

//! Rooms in Redis: for each a hash with what changes and a stream with its events, in the portions in which they were written.
//! Both live for a time after the last server has looked after them.
//!
//! Lives on the store's thread with a runtime of its own; every wait has an end. Redis may have forgotten everything, or a part,
//! whenever the connection was lost; so after that every room is written whole again.

#![expect(
    clippy::disallowed_methods,
    reason = "how long ago rooms were looked after is nobody else's concern"
)]

use std::collections::BTreeMap;
use std::io;
use std::time::{Duration, Instant};

use redis::aio::MultiplexedConnection;
use redis::streams::StreamRangeReply;
use redis::{AsyncConnectionConfig, Client, FromRedisValue, Pipeline, RedisError, pipe};
use shards::core::SessionId;
use shards::core::memory::Remembered;
use tokio::runtime::{Builder, Runtime};

use super::form;
use super::{Broken, Found, Living, Mended, Store, Write};
use crate::config::Secret;

/// How long connecting may take.
const CONNECT: Duration = Duration::from_secs(2);
/// How long Redis may take to answer.
const RESPONSE: Duration = Duration::from_secs(2);
/// Rooms that are dealt with in one go, so that others who use the same Redis have their turn.
const AT_ONCE: usize = 256;

/// See the module.
pub(super) struct RedisStore {
    runtime: Runtime,
    client: Client,
    prefix: String,
    ttl: Duration,
    connection: Option<MultiplexedConnection>,
    key: [u8; 32],
    /// Tokens are signed with it.
    handed_out: bool,
    /// When rooms were last told to live on.
    touched: Instant,
}

impl RedisStore {
    /// A store over this Redis, which is not connected yet.
    ///
    /// # Errors
    /// A sentence.
    pub(super) fn new(url: &Secret, prefix: &str, ttl: Duration) -> Result<Self, String> {
        // What `rediss://` is secured with. Somebody may have said so before: it is the same.
        let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
        let client =
            Client::open(url.reveal()).map_err(|_| "store.url can't be used as the address of a Redis")?;
        let runtime = Builder::new_current_thread().enable_all().build();
        Ok(Self {
            runtime: runtime.map_err(|error| format!("the store's runtime broke: {error}"))?,
            client,
            prefix: prefix.to_owned(),
            ttl,
            connection: None,
            key: super::random_key(),
            handed_out: false,
            touched: Instant::now(),
        })
    }

    /// Asks everything at once, and takes the answers in their order.
    fn ask<T: FromRedisValue>(&self, questions: &Pipeline) -> Result<T, Broken> {
        let mut connection =
            self.connection.clone().ok_or_else(|| Broken("Redis is not connected".to_owned()))?;
        self.runtime.block_on(questions.query_async(&mut connection)).map_err(broken)
    }

    fn room(&self, session: &SessionId) -> String {
        format!("{}:room:{session}", self.prefix)
    }

    fn events(&self, session: &SessionId) -> String {
        format!("{}:events:{session}", self.prefix)
    }

    /// The key that everybody here uses, which also tells that Redis has not been emptied: whether it was there.
    fn agree_on_key(&mut self) -> Result<bool, Broken> {
        let name = format!("{}:resume_key", self.prefix);
        let mut questions = pipe();
        questions.cmd("SET").arg(&name).arg(&self.key[..]).arg("NX").cmd("GET").arg(&name);
        let (set, kept): (Option<String>, Vec<u8>) = self.ask(&questions)?;
        let key = kept.try_into().map_err(|_| Broken(format!("{name} has another length")))?;
        if self.handed_out && key != self.key {
            tracing::error!(
                "Redis was away at the start and has another key for resume tokens than this process signs with: unless \
                 auth.resume_key is set, the tokens of this run end with it; restart soon, or set the key"
            );
        }
        if set.is_none() {
            self.key = key;
        }
        Ok(set.is_none())
    }

    fn write(&self, into: &mut Pipeline, write: &Write<'_>) {
        let session = write.session();
        let (room, events, ttl) = (self.room(session), self.events(session), self.ttl.as_millis() as u64);
        let Write::Room { memory, appends } = write else {
            into.cmd("UNLINK").arg(&room).arg(&events).ignore();
            return;
        };
        if !appends {
            into.cmd("UNLINK").arg(&room).arg(&events).ignore();
        }
        if !memory.events.is_empty() {
            let portion = form::events(&memory.events);
            into.cmd("XADD").arg(&events).arg(format!("{}-0", memory.seq)).arg("e").arg(portion).ignore();
        }
        into.cmd("XTRIM").arg(&events).arg("MINID").arg(memory.oldest).ignore();
        into.cmd("HSET").arg(&room).arg("room").arg(form::head(memory)).ignore();
        into.cmd("HDEL").arg(&room).arg("clean").ignore();
        into.cmd("PEXPIRE").arg(&room).arg(ttl).ignore();
        into.cmd("PEXPIRE").arg(&events).arg(ttl).ignore();
    }

    /// Rooms live on for another while: those that are gone.
    pub(super) fn touch(&mut self, living: &Living) -> Result<Vec<SessionId>, Broken> {
        self.touched = Instant::now();
        let ttl = self.ttl.as_millis() as u64;
        let sessions: Vec<&SessionId> = living.keys().collect();
        let mut gone = Vec::new();
        for some in sessions.chunks(AT_ONCE) {
            let mut questions = pipe();
            for session in some {
                questions.cmd("PEXPIRE").arg(self.room(session)).arg(ttl);
                questions.cmd("PEXPIRE").arg(self.events(session)).arg(ttl).ignore();
            }
            let there: Vec<u8> = self.ask(&questions)?;
            let lost = some.iter().zip(there).filter(|(_, there)| *there == 0);
            gone.extend(lost.map(|(&session, _)| session.clone()));
        }
        Ok(gone)
    }
}

impl Store for RedisStore {
    fn resume_key(&mut self) -> [u8; 32] {
        self.handed_out = true;
        self.key
    }

    /// Redis drops them by itself.
    fn leftovers(&mut self) -> Result<Vec<SessionId>, Broken> {
        Ok(Vec::new())
    }

    fn recall(&mut self, sessions: &[SessionId]) -> Result<Vec<Option<Found>>, Broken> {
        let mut questions = pipe();
        for session in sessions {
            let (room, events) = (self.room(session), self.events(session));
            questions.cmd("HMGET").arg(&room).arg("room").arg("clean");
            // From here on it changes.
            questions.cmd("HDEL").arg(&room).arg("clean").ignore();
            questions.cmd("XRANGE").arg(&events).arg("-").arg("+");
        }
        let answers: Vec<redis::Value> = self.ask(questions.atomic())?;
        let found = |(session, answer): (&SessionId, &[redis::Value])| {
            let [head, events] = answer else { return Err(Broken("an answer is missing".to_owned())) };
            let (head, clean): (Option<Vec<u8>>, Option<String>) = read(head)?;
            let Some(head) = head else { return Ok(None) };
            let portions = portions(&read(events)?);
            let portions = portions.iter().map(|(last, bytes)| (*last, &bytes[..]));
            Ok(Some(match form::read(session.clone(), &head, portions) {
                Ok(memory) => Found::Room(Remembered { memory: Box::new(memory), whole: clean.is_some() }),
                Err(form::Unreadable) => Found::Unreadable,
            }))
        };
        sessions.iter().zip(answers.chunks(2)).map(found).collect()
    }

    fn commit(&mut self, writes: &[Write<'_>]) -> Result<(), Broken> {
        for some in writes.chunks(AT_ONCE) {
            let mut pipe = pipe();
            some.iter().for_each(|write| self.write(&mut pipe, write));
            self.ask::<()>(pipe.atomic())?;
        }
        Ok(())
    }

    fn check(&mut self, living: &Living) -> Result<Vec<SessionId>, Broken> {
        if !self.agree_on_key()? {
            return Ok(living.keys().cloned().collect());
        }
        if self.touched.elapsed() >= self.ttl / 3 { self.touch(living) } else { Ok(Vec::new()) }
    }

    fn mend(&mut self) -> Result<Mended, Broken> {
        let settings = AsyncConnectionConfig::new()
            .set_connection_timeout(Some(CONNECT))
            .set_response_timeout(Some(RESPONSE));
        self.connection = None;
        let connecting = self.client.get_multiplexed_async_connection_with_config(&settings);
        let connecting = async { tokio::time::timeout(CONNECT + RESPONSE, connecting).await };
        let connected = self.runtime.block_on(connecting);
        let late = |_| -> RedisError { io::Error::from(io::ErrorKind::TimedOut).into() };
        let connection = connected.map_err(late).and_then(std::convert::identity).map_err(broken)?;
        self.connection = Some(connection);
        self.agree_on_key()?;
        Ok(Mended::Empty)
    }

    fn end(&mut self, sound: &Living) -> Result<(), Broken> {
        let sessions: Vec<&SessionId> = sound.keys().collect();
        for some in sessions.chunks(AT_ONCE) {
            let mut marks = pipe();
            for session in some {
                marks.cmd("HSET").arg(self.room(session)).arg("clean").arg(1).ignore();
                marks.cmd("PEXPIRE").arg(self.room(session)).arg(self.ttl.as_millis() as u64).ignore();
                marks.cmd("PEXPIRE").arg(self.events(session)).arg(self.ttl.as_millis() as u64).ignore();
            }
            self.ask::<()>(marks.atomic())?;
        }
        Ok(())
    }
}

/// The portions of a stream, each with the number of its last event.
fn portions(range: &StreamRangeReply) -> Vec<(u64, Vec<u8>)> {
    let portion = |entry: &redis::streams::StreamId| {
        let last = entry.id.split('-').next()?.parse().ok()?;
        Some((last, entry.get::<Vec<u8>>("e")?))
    };
    range.ids.iter().filter_map(portion).collect::<BTreeMap<_, _>>().into_iter().collect()
}

fn read<T: FromRedisValue>(value: &redis::Value) -> Result<T, Broken> {
    redis::from_redis_value_ref(value).map_err(|error| Broken(error.to_string()))
}

fn broken(error: RedisError) -> Broken {
    Broken(error.to_string())
}

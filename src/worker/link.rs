//! The connections to Redis: one for commands, one for answers; and what is done over them. Every wait here has an end.

use std::time::Duration;

use redis::aio::{MultiplexedConnection, PubSubSink, PubSubStream};
use redis::{
    AsyncConnectionConfig, Client, Cmd, ErrorKind, RedisError, RedisResult, ServerErrorKind, cmd, pipe,
};
use tokio::time::timeout;

use crate::config::{WorkerConfig, WorkerMode};

/// How long connecting may take.
const CONNECT: Duration = Duration::from_secs(2);
/// How long one command may take.
const RESPONSE: Duration = Duration::from_secs(3);
/// Entries looked at in one sweep: those that are with workers for too long.
const STALE_MAX: usize = 1_024;

/// Both connections. A clone uses the same ones.
#[derive(Clone)]
pub(super) struct Link {
    commands: MultiplexedConnection,
    answers: PubSubSink,
}

/// What a telling came to.
#[derive(Debug)]
pub(super) enum Told {
    /// It stands in the stream, as this entry.
    Entry(Box<str>),
    /// So many workers were listening.
    Listeners(u64),
}

/// What a sweep has found.
#[derive(Debug, Default)]
pub(super) struct Swept {
    /// Entries in the stream.
    pub(super) depth: u64,
    /// Those that are with a worker for long: how long, and how often they were delivered.
    pub(super) stale: Vec<(String, Duration, u32)>,
}

impl Link {
    /// Connects, and sees to it that the workers' group is there.
    pub(super) async fn connect(config: &WorkerConfig) -> RedisResult<(Self, PubSubStream)> {
        let client = Client::open(config.redis_url.reveal())?;
        let settings = AsyncConnectionConfig::new()
            .set_connection_timeout(Some(CONNECT))
            .set_response_timeout(Some(RESPONSE));
        let commands = client.get_multiplexed_async_connection_with_config(&settings).await?;
        let pubsub = within(CONNECT, client.get_async_pubsub()).await?;
        let (answers, stream) = pubsub.split();
        let link = Self { commands, answers };
        if config.mode == WorkerMode::Streams {
            link.make_group(config).await?;
        }
        Ok((link, stream))
    }

    /// Makes the workers' group, and the stream if there is none yet.
    async fn make_group(&self, config: &WorkerConfig) -> RedisResult<()> {
        let mut command = cmd("XGROUP");
        command.arg("CREATE").arg(&config.stream).arg(&config.group).arg("0").arg("MKSTREAM");
        match self.ask::<()>(&command).await {
            Err(error) if error.code() == Some("BUSYGROUP") => Ok(()),
            other => other,
        }
    }

    async fn ask<T: redis::FromRedisValue>(&self, command: &Cmd) -> RedisResult<T> {
        command.query_async(&mut self.commands.clone()).await
    }

    /// Tells a request: the channel of its answers is heard before.
    pub(super) async fn tell(
        &self,
        config: &WorkerConfig,
        channel: &str,
        payload: &str,
    ) -> RedisResult<Told> {
        within(RESPONSE, self.answers.clone().subscribe(channel)).await?;
        if config.mode == WorkerMode::PubSub {
            return self.ask(cmd("PUBLISH").arg(&config.stream).arg(payload)).await.map(Told::Listeners);
        }
        self.ask::<String>(&add(config, payload)).await.map(|entry| Told::Entry(entry.into()))
    }

    /// Tells a request that stood in the stream before the connection was lost, if it does no more.
    pub(super) async fn tell_lost(
        &self,
        config: &WorkerConfig,
        channel: &str,
        payload: &str,
        entry: Option<&str>,
    ) -> RedisResult<Told> {
        if let Some(entry) = entry {
            within(RESPONSE, self.answers.clone().subscribe(channel)).await?;
            let found: Vec<redis::Value> =
                self.ask(cmd("XRANGE").arg(&config.stream).arg(entry).arg(entry)).await?;
            if !found.is_empty() {
                return Ok(Told::Entry(entry.into()));
            }
        }
        self.tell(config, channel, payload).await
    }

    /// Tells a request again, in the place of an entry.
    pub(super) async fn tell_again(
        &self,
        config: &WorkerConfig,
        payload: &str,
        entry: &str,
    ) -> RedisResult<Told> {
        let mut pipe = pipe();
        pipe.atomic().add_command(add(config, payload));
        remove(&mut pipe, config, entry);
        let (entry,): (String,) = pipe.query_async(&mut self.commands.clone()).await?;
        Ok(Told::Entry(entry.into()))
    }

    /// Takes an entry out of the stream.
    pub(super) async fn forget(&self, config: &WorkerConfig, entry: &str) -> RedisResult<()> {
        let mut pipe = pipe();
        remove(&mut pipe, config, entry);
        pipe.query_async(&mut self.commands.clone()).await
    }

    /// Tells workers that nobody waits for a request any more.
    pub(super) async fn call_off(&self, config: &WorkerConfig, request: &str) -> RedisResult<()> {
        self.ask(cmd("PUBLISH").arg(format!("{}:cancelled", config.stream)).arg(request)).await
    }

    /// Moves an entry to the dead letters.
    pub(super) async fn bury(
        &self,
        config: &WorkerConfig,
        payload: &str,
        entry: &str,
        reason: &str,
    ) -> RedisResult<()> {
        let mut letter = cmd("XADD");
        letter.arg(format!("{}:dead", config.stream)).arg("MAXLEN").arg("~").arg(config.stream_max);
        letter.arg("*").arg("request").arg(payload).arg("reason").arg(reason);
        let mut pipe = pipe();
        pipe.atomic().add_command(letter).ignore();
        remove(&mut pipe, config, entry);
        pipe.query_async(&mut self.commands.clone()).await
    }

    /// Looks at the stream, and drops what is too old.
    pub(super) async fn sweep(&self, config: &WorkerConfig) -> RedisResult<Swept> {
        if config.mode == WorkerMode::PubSub {
            let () = self.ask(&cmd("PING")).await?;
            return Ok(Swept::default());
        }
        // By the clock that dates the entries.
        let (now_s, _): (u64, u64) = self.ask(&cmd("TIME")).await?;
        let too_old_ms = now_s.saturating_sub(config.age.as_secs()) * 1_000;
        let mut trim = cmd("XTRIM");
        trim.arg(&config.stream).arg("MINID").arg(too_old_ms);
        let mut pending = cmd("XPENDING");
        pending.arg(&config.stream).arg(&config.group).arg("IDLE").arg(config.claim.as_millis() as u64);
        pending.arg("-").arg("+").arg(STALE_MAX);
        let stale = self.ask::<Vec<(String, String, u64, u32)>>(&pending).await;
        let stale = match stale {
            Err(error) if error.code() == Some("NOGROUP") => {
                // Somebody has emptied the server.
                self.make_group(config).await?;
                Vec::new()
            }
            stale => stale?,
        };
        self.ask::<()>(&trim).await?;
        let depth = self.ask(cmd("XLEN").arg(&config.stream)).await?;
        let idle = |(entry, _, idle, deliveries)| (entry, Duration::from_millis(idle), deliveries);
        Ok(Swept { depth, stale: stale.into_iter().map(idle).collect() })
    }

    /// Whether answers would still be heard.
    pub(super) async fn feel(&self) -> RedisResult<()> {
        let mut answers = self.answers.clone();
        within(RESPONSE, answers.ping::<redis::Value>()).await.map(|_| ())
    }

    /// Hears these channels no more.
    pub(super) async fn unsubscribe(&self, channels: &[String]) -> RedisResult<()> {
        within(RESPONSE, self.answers.clone().unsubscribe(channels)).await
    }
}

fn add(config: &WorkerConfig, payload: &str) -> Cmd {
    let mut command = cmd("XADD");
    command.arg(&config.stream).arg("MAXLEN").arg("~").arg(config.stream_max);
    command.arg("*").arg("request").arg(payload);
    command
}

fn remove(pipe: &mut redis::Pipeline, config: &WorkerConfig, entry: &str) {
    pipe.cmd("XACK").arg(&config.stream).arg(&config.group).arg(entry).ignore();
    pipe.cmd("XDEL").arg(&config.stream).arg(entry).ignore();
}

/// Whether the connection is of no use any more, rather than one command refused.
pub(super) fn is_lost(error: &RedisError) -> bool {
    let away = matches!(
        error.kind(),
        ErrorKind::Server(
            ServerErrorKind::BusyLoading | ServerErrorKind::ReadOnly | ServerErrorKind::MasterDown
        )
    );
    away || error.is_io_error()
        || error.is_timeout()
        || error.is_connection_dropped()
        || error.is_unrecoverable_error()
}

async fn within<T>(span: Duration, what: impl Future<Output = RedisResult<T>>) -> RedisResult<T> {
    timeout(span, what)
        .await
        .unwrap_or_else(|_| Err(std::io::Error::from(std::io::ErrorKind::TimedOut).into()))
}

//! What a run is: resolved once from the command line, then handed unchanged to every worker process.
//!
//! A client is a connection, numbered from 0 over all processes; everything about it (its room, its role, when it
//! speaks) follows from that number, so no process needs to tell another.

use std::net::SocketAddr;

use clap::ValueEnum;
use serde::{Deserialize, Serialize};

/// The shapes of load.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize, ValueEnum)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Scenario {
    /// Connect and hold, saying nothing
    Idle,
    /// Connect in steps and read the server's memory at each
    Ramp,
    /// Every room sends frames at a steady rate and gets them back
    Echo,
    /// A share of the rooms speaks at any time, in spurts of 20 ms frames, full duplex
    Talk,
    /// Two clients a room; each hears the other
    Relay,
    /// One speaker, N listeners, one room
    Fanout,
    /// As echo, while a share of the clients stops reading
    Slow,
    /// As echo, while another address asks for rooms as fast as it can
    Flood,
    /// All clients are cut at once and come back
    Storm,
    /// Connect, a short talk, disconnect, at a steady rate
    Churn,
    /// A share of the rooms speaks at any time; each asks for an answer and checks that it is what it said
    Converse,
}

impl Scenario {
    /// The name as typed and as reported.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Idle => "idle",
            Self::Ramp => "ramp",
            Self::Echo => "echo",
            Self::Talk => "talk",
            Self::Relay => "relay",
            Self::Fanout => "fanout",
            Self::Slow => "slow",
            Self::Flood => "flood",
            Self::Storm => "storm",
            Self::Churn => "churn",
            Self::Converse => "converse",
        }
    }

    /// Whether clients send at a steady rate given by `--rate`.
    pub(crate) fn has_rate(self) -> bool {
        matches!(self, Self::Echo | Self::Relay | Self::Fanout | Self::Slow | Self::Flood)
    }
}

/// What is negotiated in `Sec-WebSocket-Protocol`.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize, ValueEnum)]
pub(crate) enum Subprotocol {
    /// Nothing is offered
    #[value(name = "none")]
    None,
    /// `voxhall.v1.plain`: one JSON event a frame, bare audio
    #[value(name = "voxhall.v1.plain")]
    Plain,
    /// `voxhall.v1`: batches of events, audio with a header
    #[value(name = "voxhall.v1")]
    V1,
}

impl Subprotocol {
    /// The name to offer, if any.
    pub(crate) fn offered(self) -> Option<&'static str> {
        match self {
            Self::None => None,
            Self::Plain => Some("voxhall.v1.plain"),
            Self::V1 => Some("voxhall.v1"),
        }
    }

    /// Bytes the server puts before the payload of a binary frame.
    pub(crate) fn header_bytes(self) -> usize {
        match self {
            Self::V1 => 8,
            Self::None | Self::Plain => 0,
        }
    }
}

/// How clients hear their rooms.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize, ValueEnum)]
pub(crate) enum Transport {
    /// A WebSocket each
    #[value(name = "websocket")]
    WebSocket,
    /// A stream of server-sent events each
    #[value(name = "sse")]
    Sse,
}

/// One run, or one worker's share of it (`first`, `count`).
#[derive(Clone, Debug, Deserialize, Serialize)]
pub(crate) struct Plan {
    pub(crate) scenario: Scenario,
    pub(crate) target: SocketAddr,
    pub(crate) host: String,
    pub(crate) prefix: String,
    pub(crate) engine: String,
    pub(crate) subprotocol: Subprotocol,
    pub(crate) transport: Transport,
    /// Connections over all processes; `fanout` counts its speaker here.
    pub(crate) connections: u32,
    /// Number of this worker's first client.
    pub(crate) first: u32,
    /// How many clients this worker has.
    pub(crate) count: u32,
    /// Frames a second over all senders.
    pub(crate) rate: f64,
    pub(crate) frame_bytes: usize,
    pub(crate) tick_us: u64,
    /// How long arrivals are left alone after some were read.
    pub(crate) read_gap_us: u64,
    pub(crate) connect_rate: f64,
    pub(crate) connect_concurrency: u32,
    pub(crate) connect_timeout_us: u64,
    pub(crate) sources: u8,
    pub(crate) warmup_us: u64,
    pub(crate) duration_us: u64,
    /// Share of rooms that speak at any time (`talk`).
    pub(crate) speaking: f64,
    pub(crate) frame_ms: u64,
    pub(crate) spurt_ms: u64,
    /// Share of clients that stop reading (`slow`).
    pub(crate) slow_share: f64,
    /// When they stop, or the flood begins, counted from the end of warm-up.
    pub(crate) trouble_after_us: u64,
    /// Frames a second for each slow client; 0 means as everyone else.
    pub(crate) slow_rate: f64,
    /// Ready at 101, whatever events follow.
    pub(crate) peer: bool,
    /// Come back with the resume token (`storm`).
    pub(crate) resume: bool,
    /// Over which they come back (`storm`).
    pub(crate) over_us: u64,
    /// Conversations this worker holds (`churn`).
    pub(crate) churn_total: u64,
    pub(crate) churn_frames: u32,
    /// Samples a second that rooms are asked to take; nothing leaves it to the server.
    pub(crate) audio_rate: Option<u32>,
    /// Cores this worker may use; empty means any.
    pub(crate) cores: Vec<usize>,
}

impl Plan {
    /// How many rooms `connections` make.
    pub(crate) fn rooms(&self, connections: u32) -> u32 {
        match self.scenario {
            Scenario::Relay => connections.div_ceil(2),
            Scenario::Fanout => 1,
            _ => connections,
        }
    }

    /// The room of a client.
    pub(crate) fn room_of(&self, client: u32) -> u32 {
        match self.scenario {
            Scenario::Relay => client / 2,
            Scenario::Fanout => 0,
            _ => client,
        }
    }

    /// Whether a client stops reading; they are spread evenly over the numbers.
    pub(crate) fn is_slow(&self, client: u32) -> bool {
        let before = (f64::from(client) * self.slow_share).floor();
        self.scenario == Scenario::Slow && (f64::from(client + 1) * self.slow_share).floor() > before
    }

    /// Clients that send frames.
    pub(crate) fn senders(&self) -> u32 {
        match self.scenario {
            Scenario::Idle | Scenario::Ramp | Scenario::Storm => 0,
            Scenario::Fanout => 1,
            _ => self.connections,
        }
    }

    /// Splits the clients over `processes` workers; pairs of `relay` stay together.
    pub(crate) fn shares(&self, processes: u32) -> Vec<Plan> {
        let unit = if self.scenario == Scenario::Relay { 2 } else { 1 };
        let units = self.connections / unit;
        (0..processes)
            .map(|n| {
                let bound = |n: u32| (u64::from(units) * u64::from(n) / u64::from(processes)) as u32 * unit;
                let total = |n: u32| self.churn_total * u64::from(n) / u64::from(processes);
                let cores = match self.cores.len() {
                    0 => Vec::new(),
                    len => vec![self.cores[n as usize % len]],
                };
                Plan {
                    first: bound(n),
                    count: bound(n + 1) - bound(n),
                    churn_total: total(n + 1) - total(n),
                    connect_rate: self.connect_rate / f64::from(processes),
                    connect_concurrency: self.connect_concurrency.div_ceil(processes),
                    cores,
                    ..self.clone()
                }
            })
            .collect()
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// A small plan to vary in tests.
    pub(crate) fn plan(scenario: Scenario, connections: u32) -> Plan {
        Plan {
            scenario,
            target: "127.0.0.1:8080".parse().expect("an address"),
            host: "127.0.0.1:8080".into(),
            prefix: "load-".into(),
            engine: "echo".into(),
            subprotocol: Subprotocol::None,
            transport: Transport::WebSocket,
            connections,
            first: 0,
            count: connections,
            rate: 100.0,
            frame_bytes: 640,
            tick_us: 250,
            read_gap_us: 100,
            connect_rate: 0.0,
            connect_concurrency: 64,
            connect_timeout_us: 5_000_000,
            sources: 1,
            warmup_us: 0,
            duration_us: 1_000_000,
            speaking: 0.1,
            frame_ms: 20,
            spurt_ms: 2000,
            slow_share: 0.01,
            trouble_after_us: 0,
            slow_rate: 0.0,
            peer: false,
            resume: false,
            over_us: 0,
            churn_total: 0,
            churn_frames: 5,
            audio_rate: None,
            cores: Vec::new(),
        }
    }

    #[test]
    fn shares_cover_every_client_once_and_keep_pairs_together() {
        let shares = plan(Scenario::Relay, 14).shares(3);
        let mut next = 0;
        for share in &shares {
            assert_eq!(share.first, next);
            assert_eq!(share.count % 2, 0);
            next += share.count;
        }
        assert_eq!(next, 14);
    }

    #[test]
    fn slow_clients_are_the_asked_share() {
        let plan = plan(Scenario::Slow, 10_000);
        assert_eq!((0..10_000).filter(|&client| plan.is_slow(client)).count(), 100);
    }
}

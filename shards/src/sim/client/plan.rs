//! What a client means to do with one connection.

use super::super::dice::Dice;
use super::super::gate;
use super::super::scenario::Scenario;
use super::memory::Memory;
use crate::core::Micros;

/// A connection's course, fixed when it begins; only the moments and the bytes are drawn later.
#[derive(Clone, Debug)]
pub(super) struct Plan {
    pub(super) target: Target,
    /// How it comes back, if it does.
    pub(super) back: Option<Back>,
    /// Whose token it brings, where tokens are asked for.
    pub(super) user: Option<String>,
    /// 0 none, 1 plain, 2 `voxhall.v1`.
    pub(super) subprotocol: u8,
    pub(super) head: HeadManner,
    /// Whether it speaks before the 101 has come.
    pub(super) eager: bool,
    pub(super) actions: u64,
    pub(super) pause_max: Micros,
    /// Weights of: speak, append, event, ping, commit, message, burst, misbehave.
    pub(super) weights: [u64; 8],
    pub(super) speech_bytes_max: usize,
    pub(super) reading: Reading,
    pub(super) leave: Leave,
    pub(super) answers_pings: bool,
    /// Whether it keeps to every rule, so that nothing may be lost without a word.
    pub(super) proper: bool,
}

/// Where a client says that it was, and what it has.
#[derive(Clone, Debug)]
pub(super) struct Back {
    pub(super) token: String,
    pub(super) after: u64,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Target {
    /// A room: its name and the engine asked for.
    Room(String, &'static str),
    Echo,
    PlainHttp,
}

/// How the request head is sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum HeadManner {
    Whole,
    /// So many bytes a time.
    Dripping(usize),
    /// Its end never comes.
    Unfinished,
    /// Not a head.
    Garbage(u64),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Reading {
    Everything,
    /// So many bytes a time, with pauses.
    Sipping(usize),
    /// Stops after so many bytes, perhaps for ever.
    Stopping(usize),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Leave {
    Polite,
    Vanish,
    HalfClose,
    Reset,
    /// Ends the stream behind its close frame.
    CloseAndEnd,
}

const NAMES: [&str; 4] = ["echo", "relay", "parrot", "mixed"];

impl Plan {
    pub(super) fn draw(dice: &mut Dice, scenario: &Scenario, client: usize, memory: Option<&Memory>) -> Self {
        let memory = memory.filter(|_| dice.permille(650));
        let back = memory.map(|memory| {
            let position = memory.position();
            let after = if dice.permille(100) { dice.range(0, position) } else { position };
            Back { token: memory.token.clone(), after }
        });
        let mut plan = Self {
            target: memory.map_or_else(|| room(dice, scenario, client), |memory| memory.target.clone()),
            back,
            user: scenario.config.gate.as_ref().map(|_| gate::user(client)),
            subprotocol: dice.range(0, 2) as u8,
            head: HeadManner::Whole,
            eager: dice.permille(200),
            actions: dice.range(3, 60),
            pause_max: Micros::from_ms(dice.pick(&[2, 20, 200, 1_000])),
            weights: [30, 3, 0, 5, 3, 3, 2, 0],
            speech_bytes_max: dice.pick(&[12, 60, 200, 640, 640, 3_000]),
            reading: Reading::Everything,
            leave: Leave::Polite,
            answers_pings: true,
            proper: true,
        };
        plan.bend(dice, scenario);
        plan
    }

    /// Makes it the kind of client that the mix draws.
    fn bend(&mut self, dice: &mut Dice, scenario: &Scenario) {
        let mix = &scenario.mix;
        let kinds = [
            mix.talker,
            mix.eventful,
            mix.listener,
            mix.slow,
            mix.hostile,
            mix.bad_head,
            mix.slow_head,
            mix.plain_http,
            mix.echo_path,
        ];
        match weighted(dice, &kinds) {
            0 => {}
            1 => self.weights = [5, 3, 30, 10, 5, 20, 2, 0],
            2 => (self.weights, self.actions) = ([0, 0, 0, 1, 0, 0, 0, 0], self.actions / 3),
            3 => {
                self.proper = false;
                self.reading = Reading::Stopping(dice.size(0, 4_000));
                self.weights[6] = 20;
                self.actions *= 3;
            }
            4 => (self.proper, self.weights) = (false, [10, 2, 10, 3, 2, 3, 2, 5]),
            5 => (self.proper, self.head) = (false, HeadManner::Garbage(dice.number())),
            6 if dice.permille(500) => (self.proper, self.head) = (false, HeadManner::Unfinished),
            6 => (self.proper, self.head) = (false, HeadManner::Dripping(dice.size(1, 40))),
            7 => (self.proper, self.target) = (false, Target::PlainHttp),
            _ if scenario.config.echo_endpoint => (self.proper, self.target) = (false, Target::Echo),
            _ => {}
        }
        if !scenario.gentle {
            self.spoil(dice, scenario.crowded);
        }
        let fast = scenario.faults.receive_bytes_max >= 1_460 && scenario.faults.capacity.0 >= 16_000;
        if fast && scenario.config.limits.message_bytes_max > 100_000 && dice.permille(20) {
            (self.speech_bytes_max, self.actions) = (70_000, 6);
        }
        if scenario.faults.receive_bytes_max < 8 {
            // Each byte is an event of its own.
            self.speech_bytes_max = self.speech_bytes_max.min(60);
            self.actions /= 2;
        }
    }

    /// What happens to the best of clients in a rough world.
    fn spoil(&mut self, dice: &mut Dice, crowded: bool) {
        if crowded {
            self.weights[6] += dice.range(0, 15);
        }
        self.leave = match dice.range(0, 9) {
            0 => Leave::Vanish,
            1 => Leave::HalfClose,
            2 => Leave::Reset,
            3 => Leave::CloseAndEnd,
            _ => Leave::Polite,
        };
        self.answers_pings = dice.permille(900);
        if self.reading == Reading::Everything && dice.permille(if crowded { 600 } else { 150 }) {
            self.reading = Reading::Sipping(dice.size(60, 3_000));
        }
    }

    /// Whether the room's engine can't change.
    pub(super) fn pure(&self) -> bool {
        matches!(self.target, Target::Room(_, "echo" | "relay"))
    }

    fn resume(&self) -> String {
        let back = self.back.as_ref();
        back.map(|Back { token, after }| format!("&resume={token}&after={after}")).unwrap_or_default()
    }

    /// The request head.
    pub(super) fn head_bytes(&self) -> Vec<u8> {
        let target = match &self.target {
            Target::Room(name, "mixed") => format!("/ws/{name}?{}", self.resume()),
            Target::Room(name, engine) => format!("/ws/{name}?engine={engine}{}", self.resume()),
            Target::Echo => "/echo".into(),
            Target::PlainHttp => return b"GET /healthz HTTP/1.1\r\nHost: sim\r\n\r\n".to_vec(),
        };
        let bearer = self.user.as_ref().map(|user| format!("Authorization: Bearer {user}\r\n"));
        let bearer = bearer.unwrap_or_default();
        let subprotocol = match self.subprotocol {
            0 => "",
            1 => "Sec-WebSocket-Protocol: voxhall.v1.plain\r\n",
            _ => "Sec-WebSocket-Protocol: unknown, voxhall.v1\r\n",
        };
        let head = format!(
            "GET {target} HTTP/1.1\r\nHost: sim\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
             Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n{bearer}{subprotocol}\r\n"
        );
        match self.head {
            HeadManner::Whole | HeadManner::Dripping(_) => head.into_bytes(),
            HeadManner::Unfinished => head.as_bytes()[..head.len() - 2].to_vec(),
            HeadManner::Garbage(how) => garbage(how, &head),
        }
    }
}

fn garbage(how: u64, head: &str) -> Vec<u8> {
    match how % 8 {
        0 => vec![0x16, 3, 1, 2, 0, 1, 0, 1, 0xfc, 3, 3, b'\r', b'\n', b'\r', b'\n'],
        1 => head.replace("GET", "G\0T").into_bytes(),
        2 => head.replace("Host: sim", &format!("X: {}", "y".repeat(9_000))).into_bytes(),
        3 => head.replace("dGhlIHNhbXBsZSBub25jZQ==", "short").into_bytes(),
        4 => head.replace("Version: 13", "Version: 8").into_bytes(),
        5 => head.replace("/ws/", "/ws/%20/").into_bytes(),
        6 => head.replace("\r\nHost", "\nHost").into_bytes(),
        _ => head.replace("?engine=", "?engine=no-").into_bytes(),
    }
}

fn room(dice: &mut Dice, scenario: &Scenario, client: usize) -> Target {
    let kind = weighted(dice, &scenario.mix.engines);
    let name = NAMES[kind];
    if dice.permille(300) {
        return Target::Room(format!("{name}-own-{client}"), name);
    }
    Target::Room(format!("{name}-{}", dice.range(0, scenario.rooms - 1)), name)
}

pub(super) fn weighted(dice: &mut Dice, weights: &[u64]) -> usize {
    let mut left = dice.range(1, weights.iter().sum::<u64>().max(1));
    for (at, &weight) in weights.iter().enumerate() {
        if left <= weight {
            return at;
        }
        left -= weight;
    }
    0
}

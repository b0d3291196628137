//! Random worlds: subscribers that come, go and come back, publishers, and a mesh that is slow and full. Every subscriber
//! gets every message of its streams once and in order, or is told that it did not.
//!
//! `VOXHALL_SIM_SEEDS` says how many worlds, `VOXHALL_SIM_FIRST` which is the first.

use std::collections::BTreeMap;

use serde_json::{Value, json};
use shards::core::channel::{ChannelConfig, Namespace, Pattern, Publication, Publisher, Publishers, owner};
use shards::core::{Micros, ShardConfig};

use super::rig::{Client, Node};

const STREAMS: u64 = 4;
const STEPS: u64 = 400;

struct Dice(u64);

impl Dice {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (z ^ (z >> 31)) % bound
    }

    fn pick<'a, T: ?Sized>(&mut self, of: &[&'a T]) -> &'a T {
        of[self.below(of.len() as u64) as usize]
    }
}

/// A message's place: numbering and number.
type Place = (u64, u64);

fn place(event: &Value) -> Place {
    let (epoch, seq) = event["id"].as_str().expect("an id").split_once('-').expect("a place");
    let number = |text: &str| u64::from_str_radix(text, 16).expect("hexadecimal");
    let place = (number(epoch), number(seq));
    assert_eq!(event["offset"].as_u64(), Some(place.1));
    place
}

/// Everything that a stream has said, in order: where, on which channel, what.
type Log = Vec<(Place, String, u64)>;

/// What a client knows of its subscription to one stream.
struct Belief {
    stream: u64,
    pattern: Pattern,
    /// What it has heard since it last knew where it was, and where that was.
    from: Option<Place>,
    heard: Vec<(Place, u64)>,
    /// What it has said last that it had heard, until it is answered.
    asked: Option<Option<Place>>,
    ends: bool,
}

/// Messages of a stream that a client has heard without a break: of which stream, by which pattern, from where on, what, and
/// whether to the end.
type Run = (u64, Pattern, Place, Vec<(Place, u64)>, bool);

struct World {
    node: Node,
    dice: Dice,
    /// Each hears everything of one stream, next to its owner.
    auditors: Vec<Client>,
    logs: Vec<Log>,
    clients: BTreeMap<Client, Vec<Belief>>,
    /// Runs of messages that are over, to be compared with the log at the end.
    runs: Vec<Run>,
    said: u64,
    not_recovered: u64,
    recovered: u64,
}

impl World {
    fn new(seed: u64) -> Self {
        let mut dice = Dice(seed);
        let shards = 1 + dice.below(4) as u16;
        let streams_max = [1, 2, 64][dice.below(3) as usize];
        let mut channels = ChannelConfig { streams_max, ..ChannelConfig::default() };
        channels.namespaces.push(Namespace {
            history_messages_max: [2, 10, 1_000][dice.below(3) as usize],
            ttl: Micros::from_s(2),
            rate: None,
            publishers: Publishers { admin: true, server: true, user: true },
            ..Namespace::named("s")
        });
        let mut config = ShardConfig { shards, channels, ..ShardConfig::default() };
        config.heartbeat.ping = Micros::from_s(3_600);
        config.heartbeat.idle = Micros::from_s(3_600);
        let mut node = Node::with(config);
        node.mesh_max = 1 + dice.below(3) as usize;
        let mut auditors = Vec::new();
        for stream in 0..STREAMS {
            let auditor = node.client(owner(&format!("s:{stream}"), shards).index());
            node.say(
                auditor,
                &json!({ "type": "channel.subscribe", "channel": format!("s:{stream}:*") }).to_string(),
            );
            auditors.push(auditor);
        }
        node.settle();
        let logs = (0..STREAMS).map(|_| Vec::new()).collect();
        let (clients, runs) = (BTreeMap::new(), Vec::new());
        Self { node, dice, auditors, logs, clients, runs, said: 0, not_recovered: 0, recovered: 0 }
    }

    fn run(&mut self) {
        for _ in 0..STEPS {
            match self.dice.below(100) {
                0..5 => self.come(),
                5..8 => self.go(),
                8..20 => self.subscribe(),
                20..23 => self.unsubscribe(),
                23..55 => self.publish(),
                55..56 => self.node.now = self.node.now + Micros::from_ms(self.dice.below(3_000)),
                _ => self.carry(),
            }
            self.listen();
        }
        self.node.settle();
        self.listen();
        let clients = std::mem::take(&mut self.clients);
        for belief in clients.into_values().flatten() {
            assert!(belief.asked.is_none(), "a subscription without an answer");
            self.end_run(belief, true);
        }
        self.check();
    }

    fn come(&mut self) {
        if self.clients.len() < 12 {
            let shard = self.dice.below(self.node.shards.len() as u64) as usize;
            let client = self.node.client(shard);
            self.clients.insert(client, Vec::new());
        }
    }

    fn any(&mut self) -> Option<Client> {
        let at = self.dice.below(self.clients.len().max(1) as u64) as usize;
        self.clients.keys().nth(at).copied()
    }

    fn go(&mut self) {
        let Some(client) = self.any() else { return };
        self.listen();
        self.node.hang_up(client);
        for belief in self.clients.remove(&client).into_iter().flatten() {
            self.end_run(belief, false);
        }
    }

    /// Subscribes anew, or says again what it has heard last.
    fn subscribe(&mut self) {
        let Some(client) = self.any() else { return };
        let stream = self.dice.below(STREAMS);
        let beliefs = self.clients.get_mut(&client).expect("a client");
        let known = beliefs.iter_mut().find(|belief| belief.stream == stream && !belief.ends);
        if let Some(belief) = known {
            let last = belief.heard.last().map(|(place, _)| *place).or(belief.from);
            let Some(last) = last.filter(|_| belief.asked.is_none()) else { return };
            belief.asked = Some(Some(last));
            let id = format!("{:x}-{:x}", last.0, last.1);
            let event =
                json!({ "type": "channel.subscribe", "channel": belief.pattern.as_str(), "after": id });
            return self.node.say(client, &event.to_string());
        }
        if beliefs.iter().any(|belief| belief.stream == stream) {
            return;
        }
        let rest = self.dice.pick(&["*", "a", "*:x", "b:*"]);
        let pattern = Pattern::parse(&format!("s:{stream}:{rest}")).expect("a pattern");
        let asks = self.dice.below(3) == 0;
        let last = self.logs[stream as usize].iter().map(|(place, ..)| *place).next_back().filter(|_| asks);
        let mut event = json!({ "type": "channel.subscribe", "channel": pattern.as_str() });
        if let Some((epoch, seq)) = last {
            // As somebody who comes back and has missed some.
            let seq = seq.saturating_sub(self.dice.below(6));
            event["after"] = json!(format!("{epoch:x}-{seq:x}"));
            beliefs.push(Belief::new(stream, pattern, Some((epoch, seq))));
        } else {
            beliefs.push(Belief::new(stream, pattern, None));
        }
        self.node.say(client, &event.to_string());
    }

    fn unsubscribe(&mut self) {
        let Some(client) = self.any() else { return };
        let beliefs = self.clients.get_mut(&client).expect("a client");
        if let Some(belief) = beliefs.iter_mut().find(|belief| !belief.ends) {
            belief.ends = true;
            let event = json!({ "type": "channel.unsubscribe", "channel": belief.pattern.as_str() });
            self.node.say(client, &event.to_string());
        }
    }

    fn publish(&mut self) {
        self.said += 1;
        let channel =
            format!("s:{}:{}", self.dice.below(STREAMS), self.dice.pick(&["a", "b:c", "c:x", "b:x"]));
        match self.any().filter(|_| self.dice.below(2) == 0) {
            Some(client) => {
                let event = json!({ "type": "channel.publish", "channel": channel, "data": self.said });
                self.node.say(client, &event.to_string());
            }
            None => {
                let publication = Publication::new(&channel, &self.said.to_string(), Publisher::Admin);
                self.node.publish(publication).expect("taken");
            }
        }
    }

    fn carry(&mut self) {
        let shards = self.node.shards.len() as u64;
        let (from, to) = (self.dice.below(shards) as usize, self.dice.below(shards) as usize);
        self.node.carry(from, to);
    }

    fn listen(&mut self) {
        for stream in 0..self.auditors.len() {
            for event in self.node.heard(self.auditors[stream]) {
                if event["type"] == "channel.message" {
                    let (place, log) = (place(&event), &mut self.logs[stream]);
                    let before = log.last().map_or((0, 0), |(place, ..)| *place);
                    let next = place == (before.0, before.1 + 1) || (place.0 > before.0 && place.1 == 1);
                    assert!(next, "{place:?} behind {before:?}");
                    let channel = event["channel"].as_str().expect("a channel").to_owned();
                    log.push((place, channel, event["data"].as_u64().expect("a number")));
                }
            }
        }
        for client in self.clients.keys().copied().collect::<Vec<_>>() {
            for event in self.node.heard(client) {
                self.hear(client, &event);
            }
        }
    }

    fn hear(&mut self, client: Client, event: &Value) {
        let channel = event["channel"].as_str().unwrap_or_else(|| panic!("{event}"));
        let stream: u64 = channel.split(':').nth(1).and_then(|text| text.parse().ok()).expect("a stream");
        let beliefs = self.clients.get_mut(&client).expect("a client");
        let at = beliefs.iter().position(|belief| belief.stream == stream).expect("nobody asked for it");
        match event["type"].as_str() {
            Some("channel.message") => {
                let data = event["data"].as_u64().expect("a number");
                assert!(beliefs[at].pattern.names(channel) && beliefs[at].from.is_some(), "{event}");
                beliefs[at].heard.push((place(event), data));
            }
            Some("channel.unsubscribed") => {
                let belief = beliefs.remove(at);
                self.end_run(belief, false);
            }
            Some("channel.subscribed") => {
                let belief = &mut beliefs[at];
                let Some(asked) = belief.asked.take() else { panic!("nobody asked: {event}") };
                let over = Belief::new(stream, belief.pattern.clone(), None);
                let over = std::mem::replace(belief, over);
                belief.asked = None;
                belief.ends = over.ends;
                match (asked, event["recovered"].as_bool()) {
                    (None, None) => belief.from = Some(place(event)),
                    (Some(after), Some(true)) => {
                        self.recovered += 1;
                        belief.from = Some(after);
                    }
                    (Some(_), Some(false)) => {
                        self.not_recovered += 1;
                        assert!(event["reason"].is_string());
                        belief.from = Some(place(event));
                    }
                    other => panic!("{other:?}: {event}"),
                }
                self.end_run(over, false);
            }
            _ => panic!("{event}"),
        }
    }

    fn end_run(&mut self, belief: Belief, whole: bool) {
        let Belief { stream, pattern, from, heard, .. } = belief;
        if let Some(from) = from {
            self.runs.push((stream, pattern, from, heard, whole));
        }
    }

    /// What was heard is what was said, from where on, without a hole; to the end if the subscription lasted.
    fn check(&self) {
        for (stream, pattern, from, heard, whole) in &self.runs {
            let log = self.logs[*stream as usize].iter();
            let said = log.filter(|(place, channel, _)| place > from && pattern.names(channel));
            let mut said: Vec<_> = said.map(|(place, _, data)| (*place, *data)).collect();
            if !whole {
                assert!(heard.len() <= said.len(), "more than was said");
                said.truncate(heard.len());
            }
            assert_eq!(heard, &said, "{pattern} from {from:?}");
        }
    }
}

impl Belief {
    fn new(stream: u64, pattern: Pattern, after: Option<Place>) -> Self {
        Self { stream, pattern, from: None, heard: Vec::new(), asked: Some(after), ends: false }
    }
}

#[test]
fn every_subscriber_gets_every_message_once_in_order_or_is_told() {
    let number =
        |name: &str, usual: u64| std::env::var(name).ok().and_then(|text| text.parse().ok()).unwrap_or(usual);
    let first = number("VOXHALL_SIM_FIRST", 0);
    let (mut runs, mut recovered, mut not_recovered) = (0, 0, 0);
    for seed in first..first + number("VOXHALL_SIM_SEEDS", 200) {
        let world = std::panic::catch_unwind(|| {
            let mut world = World::new(seed);
            world.run();
            world
        });
        let world = world.unwrap_or_else(|_| {
            panic!("seed {seed}: run it with VOXHALL_SIM_FIRST={seed} VOXHALL_SIM_SEEDS=1")
        });
        runs += world.runs.len();
        recovered += world.recovered;
        not_recovered += world.not_recovered;
    }
    assert!(runs > 0 && recovered > 0 && not_recovered > 0, "{runs} {recovered} {not_recovered}");
}

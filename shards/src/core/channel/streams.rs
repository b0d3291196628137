//! The streams that a shard owns.
//!
//! Bounded in number and in bytes: what is too much takes those away that have been silent longest, first what they
//! remember, then their numbering. Nothing here wakes anybody: what is over is forgotten when somebody publishes.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use xxhash_rust::xxh3::{xxh3_64_with_seed, xxh3_128_with_seed};

use super::super::time::Micros;
use super::name::{ChannelName, Pattern, stream_of};
use super::namespace::ChannelConfig;
use super::stream::{After, Delivery, Lost, Position, Standing, Stream};
use super::{Publication, Published, Undeliverable};

/// Streams that are looked at for what is over, for each publication.
const LOOKS: usize = 2;

/// See the module.
#[derive(Debug)]
pub struct Streams {
    slots: Vec<Option<Stream>>,
    free: Vec<u32>,
    names: BTreeMap<Box<str>, u32>,
    /// Uses of streams that remember something, by namespace, the earliest first; only the last of each stream counts.
    recent: Vec<VecDeque<(u64, u32)>>,
    /// The same of those that remember nothing but their numbering.
    bare: VecDeque<(u64, u32)>,
    uses: u64,
    bytes: usize,
    /// Streams forgotten so far: with each, streams that begin have another numbering, so that no position in one is
    /// taken for one in its successor.
    forgotten: u64,
    seed: u64,
}

/// What became of a publication at its owner.
#[derive(Debug)]
pub enum Outcome {
    /// It has its place.
    New(Arc<Delivery>),
    /// It was published before.
    Repeated(Published),
}

/// A publication that was refused, and why.
#[derive(Debug)]
pub struct Refused {
    /// What it was.
    pub publication: Publication,
    /// Why.
    pub reason: Undeliverable,
}

impl Streams {
    /// None yet. `seed` names the numberings, and keeps anybody from choosing keys that collide.
    #[must_use]
    pub fn new(config: &ChannelConfig, seed: u64) -> Self {
        Self {
            slots: Vec::new(),
            free: Vec::new(),
            names: BTreeMap::new(),
            recent: config.namespaces.iter().map(|_| VecDeque::new()).collect(),
            bare: VecDeque::new(),
            uses: 0,
            bytes: 0,
            forgotten: 0,
            seed,
        }
    }

    /// How many there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.names.len()
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.names.is_empty()
    }

    /// Bytes that they remember.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// Gives a publication its place in its stream. `since` is when it was published, `heard` whether anybody may listen.
    ///
    /// # Errors
    /// When it can't be delivered; it has no place then.
    pub fn publish(
        &mut self,
        now: Micros,
        since: Micros,
        config: &ChannelConfig,
        heard: bool,
        publication: Publication,
    ) -> Result<Outcome, Refused> {
        let refused = |publication, reason| Err(Refused { publication, reason });
        let name = ChannelName::parse(&publication.channel).ok();
        let Some((place, namespace)) = name.and_then(|name| config.find(name.namespace())) else {
            return refused(publication, Undeliverable::Refused);
        };
        if !namespace.admits(&publication) {
            return refused(publication, Undeliverable::Refused);
        }
        let expires = publication.ttl.map(|ttl| since + ttl);
        if expires.is_some_and(|expires| expires <= now) {
            return refused(publication, Undeliverable::Expired);
        }
        let at = self.find_or_make(stream_of(&publication.channel), place);
        let key = publication.dedupe.as_ref().map(|key| self.key(&publication.channel, key));
        self.tidy(now, config);
        let Some(stream) = &mut self.slots[at as usize] else {
            return refused(publication, Undeliverable::Overloaded);
        };
        let before = stream.bytes();
        let repeated = key.and_then(|key| stream.repeated(now, key));
        let outcome = if let Some(published) = repeated {
            Ok(Outcome::Repeated(published))
        } else if publication.needs_subscriber && !heard {
            refused(publication, Undeliverable::NoSubscriber)
        } else if !stream.affords(now, namespace.rate) {
            refused(publication, Undeliverable::RateLimited)
        } else {
            Ok(Outcome::New(stream.push(now, expires, namespace, key, publication)))
        };
        self.bytes = self.bytes + stream.bytes() - before;
        self.touch(at);
        self.make_room(config, at);
        outcome
    }

    /// Where a stream stands, and what of it a subscriber to the pattern has missed. Nothing begins with a question.
    #[must_use]
    pub fn standing(&self, now: Micros, name: &str, pattern: &Pattern, after: Option<After>) -> Standing {
        if let Some(stream) = self.names.get(name).and_then(|&at| self.slots[at as usize].as_ref()) {
            return stream.standing(now, pattern, after);
        }
        let at = self.beginning(name);
        let missed = after.map(|after| match after {
            After::Id(position) if position == at => Ok(Vec::new()),
            After::Seq(0) => Ok(Vec::new()),
            After::Seq(_) => Err(Lost::Ahead),
            After::Id(_) => Err(Lost::Epoch),
        });
        Standing { at, missed }
    }

    /// The place of the last message of a stream.
    #[must_use]
    pub fn place(&self, name: &str) -> Position {
        let stream = self.names.get(name).and_then(|&at| self.slots[at as usize].as_ref());
        stream.map_or_else(|| self.beginning(name), Stream::place)
    }

    /// Where a stream begins that there is not yet: in a numbering of its own, so that a message's id names it among those
    /// of all streams.
    fn beginning(&self, name: &str) -> Position {
        let epoch = xxh3_64_with_seed(name.as_bytes(), self.seed).wrapping_add(self.forgotten);
        Position { epoch, seq: 0 }
    }

    fn key(&self, channel: &str, key: &str) -> u128 {
        // No channel's name has a line feed in it.
        xxh3_128_with_seed(format!("{channel}\n{key}").as_bytes(), self.seed)
    }

    fn find_or_make(&mut self, name: &str, namespace: usize) -> u32 {
        if let Some(&at) = self.names.get(name) {
            return at;
        }
        let stream = Stream::new(name, namespace, self.beginning(name));
        let at = match self.free.pop() {
            Some(at) => {
                self.slots[at as usize] = Some(stream);
                at
            }
            None => {
                self.slots.push(Some(stream));
                self.slots.len() as u32 - 1
            }
        };
        self.names.insert(name.into(), at);
        at
    }

    /// Notes that a stream was used now.
    fn touch(&mut self, at: u32) {
        self.uses += 1;
        let Some(stream) = &mut self.slots[at as usize] else { return };
        stream.touched = self.uses;
        let (bare, namespace) = (stream.is_bare(), stream.namespace);
        let most = 64 + 2 * self.names.len();
        let queue = if bare { &mut self.bare } else { &mut self.recent[namespace] };
        queue.push_back((self.uses, at));
        if queue.len() > most {
            let slots = &self.slots;
            queue.retain(|&(used, at)| is_last(slots, used, at));
        }
    }

    /// Forgets what is over, of those streams that have been silent longest.
    fn tidy(&mut self, now: Micros, config: &ChannelConfig) {
        for namespace in 0..self.recent.len() {
            for _ in 0..LOOKS {
                let Some(&(used, at)) = self.recent[namespace].front() else { break };
                if is_last(&self.slots, used, at) {
                    let Some(stream) = &mut self.slots[at as usize] else { break };
                    let before = stream.bytes();
                    stream.trim(now, &config.namespaces[namespace]);
                    self.bytes = self.bytes + stream.bytes() - before;
                    if !stream.is_bare() {
                        break;
                    }
                    self.bare.push_back((used, at));
                }
                self.recent[namespace].pop_front();
            }
        }
    }

    /// Forgets what is too much, but never the stream that is being used.
    fn make_room(&mut self, config: &ChannelConfig, used_now: u32) {
        while self.bytes > config.history_bytes_max {
            let Some((used, at)) = self.longest_silent() else { break };
            if at == used_now {
                self.touch(at);
                break;
            }
            if let Some(stream) = &mut self.slots[at as usize] {
                self.bytes -= stream.bytes();
                stream.forget();
                self.bare.push_back((used, at));
            }
        }
        while self.names.len() > config.streams_max.max(1) {
            let bare = self.bare.pop_front().filter(|&(used, at)| is_last(&self.slots, used, at));
            let Some((_, at)) = bare.or_else(|| self.bare.is_empty().then(|| self.longest_silent())?) else {
                if self.bare.is_empty() {
                    break;
                }
                continue;
            };
            if at == used_now {
                self.touch(at);
                break;
            }
            if let Some(stream) = self.slots[at as usize].take() {
                self.bytes -= stream.bytes();
                self.names.remove(&stream.name);
                self.free.push(at);
                self.forgotten += 1;
            }
        }
    }

    /// Takes the stream from its queue whose last use is longest ago, of those that remember something.
    fn longest_silent(&mut self) -> Option<(u64, u32)> {
        let slots = &self.slots;
        for queue in &mut self.recent {
            while queue.front().is_some_and(|&(used, at)| !is_last(slots, used, at)) {
                queue.pop_front();
            }
        }
        let queue = self.recent.iter_mut().filter(|queue| !queue.is_empty());
        queue.min_by_key(|queue| queue[0].0)?.pop_front()
    }
}

/// Whether a use of a stream was its last.
fn is_last(slots: &[Option<Stream>], used: u64, at: u32) -> bool {
    slots[at as usize].as_ref().is_some_and(|stream| stream.touched == used)
}

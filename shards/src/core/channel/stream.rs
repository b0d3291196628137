//! One stream: its order, its history, what it has been told before, and how much.

use std::collections::{BTreeMap, VecDeque};
use std::fmt;
use std::sync::Arc;

use super::super::event::Class;
use super::super::time::Micros;
use super::name::Pattern;
use super::namespace::{Importance, Namespace, Rate};
use super::{Publication, Published};

/// `dedupe` keys that a stream knows at most; the oldest go first.
const KEYS_MAX: usize = 1_024;
/// What a remembered key takes, about.
const KEY_BYTES: usize = 64;
/// What a remembered message takes beside its text, about.
const ENTRY_BYTES: usize = 160;

/// A publication with its place in its stream, shared by all who have to do with it.
#[derive(Debug)]
pub struct Delivery {
    /// What was published.
    pub publication: Publication,
    /// Its place.
    pub at: Position,
    /// Until when it may be delivered, if its publisher says so.
    pub expires: Option<Micros>,
    /// Until when it is kept for those who missed it.
    pub until: Micros,
    /// What gives way to it.
    pub importance: Importance,
}

impl Delivery {
    /// What happens to it when a lane is full.
    #[must_use]
    pub fn class(&self) -> Class {
        self.importance.class()
    }

    /// Whether its publisher meant it to be over by now.
    #[must_use]
    pub fn is_over(&self, now: Micros) -> bool {
        self.expires.is_some_and(|expires| expires <= now)
    }

    /// Bytes that it takes, about.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.publication.bytes() + ENTRY_BYTES
    }

    /// The answer to whoever published it.
    #[must_use]
    pub fn published(&self, shards: usize, subscribers: usize) -> Published {
        let id = self.at.to_string().into();
        Published { id, seq: self.at.seq, duplicate: false, shards, subscribers }
    }
}

/// A place in a stream: behind the message of this number. Written as the id of that message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Position {
    /// Which numbering.
    pub epoch: u64,
    /// The number.
    pub seq: u64,
}

impl fmt::Display for Position {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:x}-{:x}", self.epoch, self.seq)
    }
}

/// What a subscriber has heard last.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum After {
    /// The message of this name.
    Id(Position),
    /// The message of this number, in whichever numbering holds.
    Seq(u64),
}

impl After {
    /// Reads a message's id; nothing when it is none.
    #[must_use]
    pub fn parse(id: &str) -> Option<Self> {
        let (epoch, seq) = id.split_once('-')?;
        let number = |text: &str| {
            // `from_str_radix` would take a sign as well.
            let hex = (1..=16).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_hexdigit());
            hex.then(|| u64::from_str_radix(text, 16).ok())?
        };
        Some(Self::Id(Position { epoch: number(epoch)?, seq: number(seq)? }))
    }
}

/// Why what was missed can't be told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lost {
    /// The numbering is another one by now.
    Epoch,
    /// Some of it is not kept any more.
    Expired,
    /// Nothing was numbered so high.
    Ahead,
    /// It is more than a lane takes at once.
    TooMuch,
    /// It was lost between shards.
    Overloaded,
}

impl Lost {
    /// As clients read it.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Epoch => "epoch",
            Self::Expired => "expired",
            Self::Ahead => "ahead",
            Self::TooMuch => "too_much",
            Self::Overloaded => "overloaded",
        }
    }
}

/// Where a stream stands for a subscriber, and what it has missed.
#[derive(Debug)]
pub struct Standing {
    /// Everything up to here is past; what follows is told as it comes.
    pub at: Position,
    /// What it missed, in order; nothing when it did not ask.
    pub missed: Option<Result<Vec<Arc<Delivery>>, Lost>>,
}

/// See the module.
#[derive(Debug)]
pub(super) struct Stream {
    pub(super) name: Box<str>,
    /// Which of the namespaces.
    pub(super) namespace: usize,
    /// The last use of it, in the count of its shard.
    pub(super) touched: u64,
    /// The last number.
    at: Position,
    /// Everything from this number on is kept, but what was meant to be short-lived and is over.
    kept_from: u64,
    history: VecDeque<Arc<Delivery>>,
    history_bytes: usize,
    keys: Option<Box<Keys>>,
    /// When what was published so far has been paid for.
    paid: Micros,
}

/// Keys that were used of late, with the number of what was published with them.
#[derive(Debug, Default)]
struct Keys {
    seqs: BTreeMap<u128, u64>,
    order: VecDeque<(Micros, u128)>,
}

impl Stream {
    pub(super) fn new(name: &str, namespace: usize, at: Position) -> Self {
        Self {
            name: name.into(),
            namespace,
            touched: 0,
            at,
            kept_from: 1,
            history: VecDeque::new(),
            history_bytes: 0,
            keys: None,
            paid: Micros(0),
        }
    }

    /// The place of its last message.
    pub(super) fn place(&self) -> Position {
        self.at
    }

    /// Bytes that it takes, about.
    pub(super) fn bytes(&self) -> usize {
        self.history_bytes + self.keys.as_ref().map_or(0, |keys| keys.order.len() * KEY_BYTES)
    }

    /// Whether nothing but its numbering is remembered.
    pub(super) fn is_bare(&self) -> bool {
        self.history.is_empty() && self.keys.is_none()
    }

    /// What was published with this key within the window; nothing when nothing was.
    pub(super) fn repeated(&mut self, now: Micros, key: u128) -> Option<Published> {
        self.forget_keys(now);
        let seq = *self.keys.as_ref()?.seqs.get(&key)?;
        let id = Position { seq, ..self.at }.to_string().into();
        Some(Published { id, seq, duplicate: true, shards: 0, subscribers: 0 })
    }

    /// Whether one more may be published; if so, it is counted.
    pub(super) fn affords(&mut self, now: Micros, rate: Option<Rate>) -> bool {
        let Some(Rate { per_s, burst }) = rate else { return true };
        let price = 1_000_000 / per_s.max(1);
        let paid = Micros(self.paid.0.max(now.0) + price);
        let affords = paid.since(now).0 <= price * burst.max(1);
        if affords {
            self.paid = paid;
        }
        affords
    }

    /// Gives a publication its number and remembers it as long as its namespace says.
    pub(super) fn push(
        &mut self,
        now: Micros,
        expires: Option<Micros>,
        namespace: &Namespace,
        key: Option<u128>,
        publication: Publication,
    ) -> Arc<Delivery> {
        self.at.seq += 1;
        let importance = namespace.importance;
        let kept = now + namespace.ttl;
        let until = expires.map_or(kept, |expires| expires.min(kept));
        let delivery = Arc::new(Delivery { publication, at: self.at, expires, until, importance });
        if let Some(key) = key.filter(|_| namespace.dedupe.0 > 0) {
            let keys = self.keys.get_or_insert_default();
            keys.seqs.insert(key, self.at.seq);
            keys.order.push_back((now + namespace.dedupe, key));
        }
        self.history_bytes += delivery.bytes();
        self.history.push_back(Arc::clone(&delivery));
        self.trim(now, namespace);
        delivery
    }

    /// Forgets what is too old or too much.
    pub(super) fn trim(&mut self, now: Micros, namespace: &Namespace) {
        self.forget_keys(now);
        while let Some(oldest) = self.history.front() {
            let over = oldest.until <= now;
            let much = self.history.len() > namespace.history_messages_max
                || self.history_bytes > namespace.history_bytes_max;
            if !over && !much {
                break;
            }
            // What its publisher meant to be over by now is no loss.
            if !oldest.is_over(now) {
                self.kept_from = oldest.at.seq + 1;
            }
            self.history_bytes -= oldest.bytes();
            self.history.pop_front();
        }
        if self.history.is_empty() {
            self.history = VecDeque::new();
        }
    }

    /// Forgets everything but its numbering.
    pub(super) fn forget(&mut self) {
        if !self.history.is_empty() {
            self.kept_from = self.at.seq + 1;
        }
        (self.history, self.history_bytes, self.keys) = (VecDeque::new(), 0, None);
    }

    fn forget_keys(&mut self, now: Micros) {
        let Some(keys) = &mut self.keys else { return };
        while let Some(&(until, key)) = keys.order.front()
            && (until <= now || keys.order.len() > KEYS_MAX)
        {
            keys.order.pop_front();
            keys.seqs.remove(&key);
        }
        if keys.order.is_empty() {
            self.keys = None;
        }
    }

    /// Where it stands, and what of it a subscriber to the pattern has missed.
    pub(super) fn standing(&self, now: Micros, pattern: &Pattern, after: Option<After>) -> Standing {
        let missed = after.map(|after| {
            let seq = match after {
                After::Id(position) if position.epoch != self.at.epoch => return Err(Lost::Epoch),
                After::Id(position) => position.seq,
                After::Seq(seq) => seq,
            };
            if seq > self.at.seq {
                return Err(Lost::Ahead);
            }
            if seq + 1 < self.kept_from {
                return Err(Lost::Expired);
            }
            let later = self.history.iter().filter(|delivery| delivery.at.seq > seq);
            if later.clone().any(|delivery| delivery.until <= now && !delivery.is_over(now)) {
                // Nobody has published since its time was over, or it would have been forgotten.
                return Err(Lost::Expired);
            }
            let concerns = |delivery: &&Arc<Delivery>| {
                !delivery.is_over(now) && pattern.names(&delivery.publication.channel)
            };
            Ok(later.filter(concerns).cloned().collect())
        });
        Standing { at: self.at, missed }
    }
}

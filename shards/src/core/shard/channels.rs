//! What a shard has to do with channels: its own subscribers, the streams that it owns, and what is on its way to other
//! shards.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::super::channel::{
    ChannelCounters, DeadLetter, Delivery, Publication, Streams, Tree, Undeliverable,
};
use super::super::config::ShardConfig;
use super::super::effect::{Effect, Effects};
use super::super::event::{Dialect, ServerEvent};
use super::super::ids::{ConnKey, ShardId};
use super::super::rng::SplitMix64;
use super::super::time::Micros;
use super::Shard;
use super::event_forms::Spread;
use super::feeds::Feed;
use super::parcels::Outgoing;
use super::subscribing::{Asking, Subscription};

/// Everything of channels but the node's table of interest. A connection without subscriptions is not in it.
#[derive(Debug)]
pub(super) struct ChannelDesk {
    pub(super) streams: Streams,
    pub(super) tree: Tree<ConnKey>,
    pub(super) subscribers: BTreeMap<ConnKey, Vec<Subscription>>,
    pub(super) outgoing: Outgoing,
    /// What could not be delivered, until the end of the turn.
    pub(super) letters: Vec<DeadLetter>,
    pub(super) last_ticket: u64,
    /// Those whose question about what they missed is on its way.
    pub(super) asking: Vec<Asking>,
    /// What those want who hear the feed.
    pub(super) feeds: BTreeMap<ConnKey, Feed>,
    /// Subscribers of a message, in a list to be used again.
    pub(super) listeners: Vec<ConnKey>,
}

impl ChannelDesk {
    pub(super) fn new(config: &ShardConfig, id: ShardId, seed: u64) -> Self {
        let seed = SplitMix64::new(seed ^ (u64::from(id.0) << 16)).next_u64();
        Self {
            streams: Streams::new(&config.channels, seed),
            tree: Tree::default(),
            subscribers: BTreeMap::new(),
            outgoing: Outgoing::new(config.shards),
            letters: Vec::new(),
            last_ticket: 0,
            asking: Vec::new(),
            feeds: BTreeMap::new(),
            listeners: Vec::new(),
        }
    }
}

impl Shard {
    /// Puts a message into the lanes of its subscribers here. How many there are.
    pub(super) fn tell_subscribers(&mut self, now: Micros, delivery: &Arc<Delivery>) -> usize {
        let mut listeners = std::mem::take(&mut self.channels.listeners);
        listeners.clear();
        self.channels.tree.matching(&delivery.publication.channel, &mut listeners);
        self.note_told(&listeners, delivery);
        let feeds = self.tell_feeds(now, &mut listeners, delivery, false);
        if !listeners.is_empty() {
            self.tell_message(now, &listeners, delivery, false);
            self.counters.channels.delivered += listeners.len() as u64;
        }
        let count = listeners.len() + feeds;
        self.channels.listeners = listeners;
        count
    }

    /// Puts a message into lanes: written once, however many there are. `replayed` says that it was missed before.
    pub(super) fn tell_message(
        &mut self,
        now: Micros,
        listeners: &[ConnKey],
        delivery: &Arc<Delivery>,
        replayed: bool,
    ) {
        let event = ServerEvent::ChannelMessage(Arc::clone(delivery));
        let id = self.next_event_id();
        let mut json = std::mem::take(&mut self.json);
        json.clear();
        event.write(id, None, Dialect::Native, &mut json);
        let span = self.config.outbox.coalesce;
        let wait = (event.waits() && span.0 > 0).then_some(span);
        let (of, class) = (Some((&event, id)), delivery.class());
        self.spread(
            now,
            listeners,
            &Spread { json: &json, of, seq: None, response: 0, class, wait, replayed },
        );
        self.json = json;
    }

    /// Notes that something could not be delivered.
    pub(super) fn dead_letter(&mut self, publication: Publication, reason: Undeliverable) {
        self.counters.channels.dead_letters[reason as usize] += 1;
        self.channels.letters.push(DeadLetter { publication, reason });
    }

    /// Hands on what could not be delivered.
    pub(super) fn send_letters(&mut self, fx: &mut Effects) {
        fx.extend(self.channels.letters.drain(..).map(|letter| Effect::DeadLetter(Box::new(letter))));
    }

    /// What is only known by looking.
    pub(super) fn count_channels(&self, counters: &mut ChannelCounters) {
        counters.streams = self.channels.streams.len() as u64;
        counters.history_bytes = self.channels.streams.bytes() as u64;
        counters.parcels_waiting = self.channels.outgoing.waiting() as u64;
    }
}

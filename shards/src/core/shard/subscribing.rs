//! Subscriptions of this shard's connections: how they begin, what a subscriber is told of what it missed, and how they end.
//!
//! A subscription to a stream of another shard begins with a question to its owner. What comes from there before the answer
//! is not for the subscriber: it is either in the answer or before it. What comes behind is news. So nothing is told twice
//! and nothing is left out, and nothing has to be held back.

use std::sync::Arc;

use super::super::channel::{
    After, Delivery, Gap, Join, Joined, Lost, Namespace, Parcel, Pattern, Position, Publication, Publisher,
    Standing, Subscribers, second_of, stream_of,
};
use super::super::event::{ChannelWish, ClientError, Dialect, ServerEvent, Subscribed};
use super::super::gate::{Channels, Right};
use super::super::ids::ConnKey;
use super::super::time::Micros;
use super::Shard;

/// One subscription of a connection.
#[derive(Debug)]
pub(super) struct Subscription {
    pattern: Pattern,
    /// Those that are out about it, in their order.
    questions: Vec<Question>,
    /// Whether it is in the tree, so that what comes is told.
    live: bool,
}

/// A question to the owner of a stream.
#[derive(Clone, Copy, Debug)]
struct Question {
    ticket: u64,
    /// Whether it asks for what was missed.
    after: bool,
}

/// Somebody who has asked what was missed of a stream of another shard, and hears some of that stream meanwhile.
#[derive(Debug)]
pub(super) struct Asking {
    conn: ConnKey,
    ticket: u64,
    stream: Box<str>,
    /// What other subscriptions of the connection have told since: the answer has it as well.
    told: Vec<u64>,
}

impl Shard {
    /// One event of a client that is about a channel.
    ///
    /// # Errors
    /// For the client; nothing has changed.
    pub(super) fn channel_wish(
        &mut self,
        now: Micros,
        key: ConnKey,
        event_id: Option<&str>,
        wish: ChannelWish,
    ) -> Result<(), ClientError> {
        if self.dialect(key) != Dialect::Native {
            let message = "There are no channels on /v1/realtime; join the room as a native client.";
            return Err(ClientError::new("channels_not_supported", message));
        }
        match wish {
            ChannelWish::Subscribe { channel, after } => {
                let pattern = self.pattern(&channel)?;
                let (_, namespace) = self.namespace(pattern.namespace())?;
                self.may_use(key, namespace, pattern.as_str(), Right::Subscribe)?;
                self.subscribe(now, key, pattern, after)
            }
            ChannelWish::Unsubscribe { channel } => {
                let pattern = self.pattern(&channel)?;
                if !self.end_subscription(key, &pattern) {
                    let message = format!("You have not subscribed to '{pattern}'.");
                    return Err(ClientError::invalid_value("channel", message));
                }
                self.tell(now, key, &ServerEvent::ChannelUnsubscribed { channel, reason: None });
                Ok(())
            }
            ChannelWish::Publish { channel, data, ttl, dedupe } => {
                let identity = self.open_conn(key).and_then(|(_, open)| open.identity.as_ref());
                let by = Publisher::User(identity.map(|identity| identity.sub.clone()));
                let publication =
                    Publication { channel, data, dedupe, ttl, needs_subscriber: false, session: None, by };
                self.channel_publish(now, key, event_id, publication)
            }
        }
    }

    /// Subscribes a member to what its token says.
    pub(super) fn subscribe_claimed(&mut self, now: Micros, key: ConnKey) {
        let identity = self.open_conn(key).and_then(|(_, open)| open.identity.as_ref());
        let patterns = identity.map(|identity| identity.subscriptions.clone()).unwrap_or_default();
        if patterns.is_empty() || self.dialect(key) != Dialect::Native {
            return;
        }
        for pattern in patterns {
            let namespace = self.namespace(pattern.namespace()).map(|_| ());
            if let Err(error) = namespace.and_then(|()| self.subscribe(now, key, pattern, None)) {
                self.client_error(now, key, error);
            }
        }
    }

    /// Ends the subscriptions that a fresh token does not allow any more.
    pub(super) fn end_forbidden(&mut self, now: Micros, key: ConnKey) {
        let known = self.channels.subscribers.get(&key).into_iter().flatten();
        let patterns: Vec<Pattern> = known.map(|known| known.pattern.clone()).collect();
        for pattern in patterns {
            let identity = self.open_conn(key).and_then(|(_, open)| open.identity.as_ref());
            let claimed = identity.is_some_and(|identity| identity.subscriptions.contains(&pattern));
            let may = claimed
                || self.namespace(pattern.namespace()).is_ok_and(|(_, namespace)| {
                    self.may_use(key, namespace, pattern.as_str(), Right::Subscribe).is_ok()
                });
            if !may && self.end_subscription(key, &pattern) {
                let event = ServerEvent::ChannelUnsubscribed {
                    channel: pattern.as_str().into(),
                    reason: Some("forbidden"),
                };
                self.tell(now, key, &event);
            }
        }
    }

    fn pattern(&self, text: &str) -> Result<Pattern, ClientError> {
        let wrong = |bad| ClientError::invalid_value("channel", format!("This is no channel: {bad}."));
        Pattern::parse(text).map_err(wrong)
    }

    /// The namespace of this name.
    ///
    /// # Errors
    /// When there is none.
    pub(super) fn namespace(&self, name: &str) -> Result<(usize, &Namespace), ClientError> {
        self.config.channels.find(name).ok_or_else(|| {
            let shown: String = name.chars().take(64).collect();
            ClientError::invalid_value("channel", format!("There is no namespace '{shown}' here."))
        })
    }

    /// Whether a connection may do this on what a name or pattern names.
    ///
    /// # Errors
    /// For the client.
    pub(super) fn may_use(
        &self,
        key: ConnKey,
        namespace: &Namespace,
        channel: &str,
        right: Right,
    ) -> Result<(), ClientError> {
        if self.config.gate.is_none() {
            return Ok(());
        }
        let identity = self.open_conn(key).and_then(|(_, open)| open.identity.as_ref());
        let may = identity.is_some_and(|identity| {
            token_allows(namespace, &identity.sub, &identity.channels, channel, right)
        });
        let message = "Your token does not allow this on this channel.";
        if may { Ok(()) } else { Err(ClientError::new("forbidden", message)) }
    }

    /// Begins a subscription, or tells what is new of one that there is.
    pub(super) fn subscribe(
        &mut self,
        now: Micros,
        key: ConnKey,
        pattern: Pattern,
        after: Option<After>,
    ) -> Result<(), ClientError> {
        let stream = pattern.stream().map(str::to_owned);
        if after.is_some() && stream.is_none() {
            let message = "'after' needs a channel that names one stream: its second segment is a '*'.";
            return Err(ClientError::invalid_value("after", message));
        }
        let begins = self.note_subscription(key, &pattern)?;
        let Some(stream) = stream else {
            self.go_live(key, &pattern);
            self.tell_subscribed(now, key, &pattern, None, None);
            return Ok(());
        };
        let owner = super::super::channel::owner(&stream, self.config.shards);
        self.channels.last_ticket += 1;
        let ticket = self.channels.last_ticket;
        let question = Question { ticket, after: after.is_some() };
        let join = Join { conn: key, ticket, pattern: pattern.clone(), after };
        if owner == self.id {
            self.note_question(key, &pattern, question);
            let joined = self.standing_for(now, &stream, join);
            self.joined(now, joined);
            return Ok(());
        }
        if self.channels.outgoing.send(owner, Parcel::Join(Box::new(join))).is_err() {
            // One that there was goes on as it was.
            if begins {
                self.end_subscription(key, &pattern);
            }
            return Err(ClientError::new("overloaded", "There was no room for it on the way. Try again."));
        }
        self.note_question(key, &pattern, question);
        if question.after {
            let stream = stream.into();
            self.channels.asking.push(Asking { conn: key, ticket, stream, told: Vec::new() });
        }
        Ok(())
    }

    /// Counts a subscription, if it is a new one; whether it is.
    fn note_subscription(&mut self, key: ConnKey, pattern: &Pattern) -> Result<bool, ClientError> {
        let most = self.config.limits.subscriptions_max;
        let known = self.channels.subscribers.get(&key);
        if known.is_some_and(|known| known.iter().any(|known| known.pattern == *pattern)) {
            return Ok(false);
        }
        if known.map_or(0, Vec::len) >= most {
            let message = format!("A connection may have {most} subscriptions.");
            return Err(ClientError::new("too_many_subscriptions", message));
        }
        let subscription = Subscription { pattern: pattern.clone(), questions: Vec::new(), live: false };
        self.channels.subscribers.entry(key).or_default().push(subscription);
        self.quotas.interest.add(self.id, pattern);
        self.counters.channels.subscriptions += 1;
        Ok(true)
    }

    /// Notes that a question about a subscription is out.
    fn note_question(&mut self, key: ConnKey, pattern: &Pattern, question: Question) {
        let mut known = self.channels.subscribers.get_mut(&key).into_iter().flatten();
        let Some(known) = known.find(|known| known.pattern == *pattern) else { return };
        known.questions.push(question);
        if question.after {
            // What it heard meanwhile would be in what it missed as well.
            known.live = false;
            self.channels.tree.remove(pattern, key);
        }
    }

    /// From now on what comes is told.
    fn go_live(&mut self, key: ConnKey, pattern: &Pattern) {
        let known = self.channels.subscribers.get_mut(&key).into_iter().flatten();
        known.filter(|known| known.pattern == *pattern).for_each(|known| known.live = true);
        self.channels.tree.insert(pattern, key);
    }

    /// Notes whom a message is told who will be told it again: it is news only once.
    pub(super) fn note_told(&mut self, listeners: &[ConnKey], delivery: &Delivery) {
        for asking in &mut self.channels.asking {
            let here = stream_of(&delivery.publication.channel) == &*asking.stream;
            if here && listeners.contains(&asking.conn) {
                asking.told.push(delivery.at.seq);
            }
        }
    }

    /// What a subscriber has to know of a stream of this shard.
    pub(super) fn standing_for(&self, now: Micros, stream: &str, join: Join) -> Joined {
        let Join { conn, ticket, pattern, after } = join;
        Joined { conn, ticket, standing: self.channels.streams.standing(now, stream, &pattern, after) }
    }

    /// The owner has answered: the subscription begins here.
    pub(super) fn joined(&mut self, now: Micros, joined: Joined) {
        let Joined { conn, ticket, standing: Standing { at, missed } } = joined;
        // It may have ended meanwhile, or begun anew.
        let Some((pattern, is_last)) = self.answered(conn, ticket) else { return };
        let asking = self.channels.asking.iter().position(|asking| asking.ticket == ticket);
        let told = asking.map_or(Vec::new(), |at| self.channels.asking.swap_remove(at).told);
        let is_news = |delivery: &Arc<Delivery>| !told.contains(&delivery.at.seq);
        let missed = missed.map(|missed| missed.map(|all| all.into_iter().filter(is_news).collect()));
        let missed = missed.map(|missed| missed.and_then(|missed| self.fits_lane(conn, missed)));
        match &missed {
            Some(Ok(missed)) => self.counters.channels.recovered += missed.len() as u64,
            Some(Err(_)) => self.counters.channels.not_recovered += 1,
            None => {}
        }
        let count = missed.as_ref().map(|missed| missed.as_ref().map(Vec::len).map_err(|lost| *lost));
        self.tell_subscribed(now, conn, &pattern, Some(at), count);
        for delivery in missed.into_iter().flatten().flatten() {
            if !self.tell_feed(now, conn, &delivery) {
                self.tell_message(now, &[conn], &delivery, true);
            }
        }
        // Otherwise what comes is in the answer that is to come.
        if is_last {
            self.go_live(conn, &pattern);
        }
    }

    /// Notes that a question has its answer: about which subscription, and whether none is out that asks for what was missed.
    fn answered(&mut self, conn: ConnKey, ticket: u64) -> Option<(Pattern, bool)> {
        for known in self.channels.subscribers.get_mut(&conn)? {
            let place = known.questions.iter().position(|question| question.ticket == ticket);
            if let Some(place) = place {
                known.questions.remove(place);
                let is_last = known.questions.iter().all(|question| !question.after);
                return Some((known.pattern.clone(), is_last));
            }
        }
        None
    }

    /// What was missed, if half of a lane has room for it.
    fn fits_lane(&self, key: ConnKey, missed: Vec<Arc<Delivery>>) -> Result<Vec<Arc<Delivery>>, Lost> {
        let outbox = &self.config.outbox;
        let Some((conn, _)) = self.open_conn(key) else { return Ok(Vec::new()) };
        let bytes: usize = missed.iter().map(|delivery| delivery.bytes()).sum();
        let fits = (conn.lane.len() + missed.len()) * 2 <= outbox.messages_max
            && (conn.lane.bytes() + bytes) * 2 <= outbox.bytes_max;
        if fits || missed.is_empty() { Ok(missed) } else { Err(Lost::TooMuch) }
    }

    fn tell_subscribed(
        &mut self,
        now: Micros,
        key: ConnKey,
        pattern: &Pattern,
        at: Option<Position>,
        missed: Option<Result<usize, Lost>>,
    ) {
        if self.tell_feed_standing(now, key, at, missed) {
            return;
        }
        let subscribed = Subscribed { channel: pattern.as_str().into(), at, missed };
        self.tell(now, key, &ServerEvent::ChannelSubscribed(Box::new(subscribed)));
    }

    /// Messages were lost on the way here: whoever may have been meant is told.
    pub(super) fn gap(&mut self, now: Micros, gap: &Gap) {
        let mut keys = Vec::new();
        self.channels.tree.concerned(&gap.stream, &mut keys);
        let subscribers = &self.channels.subscribers;
        let concerned: Vec<(ConnKey, Pattern)> = keys
            .iter()
            .flat_map(|key| subscribers.get(key).into_iter().flatten().map(move |known| (*key, known)))
            // Whoever hears nothing before its answer gets that behind this.
            .filter(|(_, known)| known.live && known.pattern.may_meet(&gap.stream))
            .map(|(key, known)| (key, known.pattern.clone()))
            .collect();
        for (key, pattern) in concerned {
            self.counters.channels.gaps += 1;
            self.tell_subscribed(now, key, &pattern, Some(gap.at), Some(Err(Lost::Overloaded)));
        }
    }

    /// Ends a subscription; false when there was none.
    fn end_subscription(&mut self, key: ConnKey, pattern: &Pattern) -> bool {
        let Some(known) = self.channels.subscribers.get_mut(&key) else { return false };
        let Some(place) = known.iter().position(|known| known.pattern == *pattern) else { return false };
        let ended = known.swap_remove(place);
        if known.is_empty() {
            self.channels.subscribers.remove(&key);
        }
        self.forget_subscription(key, &ended);
        true
    }

    /// A connection is going, and its subscriptions with it.
    pub(super) fn end_subscriptions(&mut self, key: ConnKey) {
        self.channels.feeds.remove(&key);
        for known in self.channels.subscribers.remove(&key).into_iter().flatten() {
            self.forget_subscription(key, &known);
        }
    }

    fn forget_subscription(&mut self, key: ConnKey, ended: &Subscription) {
        self.channels.tree.remove(&ended.pattern, key);
        let out = &ended.questions;
        self.channels.asking.retain(|asking| out.iter().all(|question| question.ticket != asking.ticket));
        self.quotas.interest.remove(self.id, &ended.pattern);
        self.counters.channels.subscriptions -= 1;
    }
}

/// Whether a user with a token for these channels may do this on what a name or pattern names.
pub(super) fn token_allows(
    namespace: &Namespace,
    sub: &str,
    channels: &Channels,
    channel: &str,
    right: Right,
) -> bool {
    channels.allow(channel, right)
        && match namespace.subscribers {
            Subscribers::Anyone => true,
            // A pattern's `*` is everybody's, also where somebody is called that.
            Subscribers::Own => sub != "*" && second_of(channel) == Some(sub),
            Subscribers::Claimed => channels.claim(channel, right),
        }
}

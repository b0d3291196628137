//! From a publication to its subscribers: to the owner of its stream, and from there to every shard that may have some.

use std::sync::Arc;

use super::super::channel::{
    ChannelName, Delivery, NotTaken, Outcome, Parcel, Posted, Publication, Published, Publisher, Refused,
    Undeliverable, owner,
};
use super::super::effect::{Effect, Effects};
use super::super::event::{ClientError, ErrorEvent, ServerEvent};
use super::super::gate::Right;
use super::super::ids::{ConnKey, MemberNumber, RoomKey, ShardId};
use super::super::message::{Answer, AskId};
use super::super::time::Micros;
use super::Shard;

impl Shard {
    /// The control plane publishes on a stream of this shard. Other shards answer the same question.
    pub(super) fn publish_asked(
        &mut self,
        now: Micros,
        ask: AskId,
        publication: Publication,
    ) -> Result<Published, Undeliverable> {
        if owner(&publication.channel, self.config.shards) != self.id {
            self.dead_letter(publication, Undeliverable::Refused);
            return Err(Undeliverable::Refused);
        }
        self.publish_here(now, now, publication, Some(ask))
    }

    /// Publishes on a stream that this shard owns.
    fn publish_here(
        &mut self,
        now: Micros,
        since: Micros,
        publication: Publication,
        ask: Option<AskId>,
    ) -> Result<Published, Undeliverable> {
        let shards = self.quotas.interest.shards(&publication.channel);
        let heard = !publication.needs_subscriber
            || shards.iter().any(|&shard| shard != self.id)
            || self.has_subscriber(&publication.channel);
        let streams = &mut self.channels.streams;
        match streams.publish(now, since, &self.config.channels, heard, publication) {
            Err(Refused { publication, reason }) => {
                self.dead_letter(publication, reason);
                Err(reason)
            }
            Ok(Outcome::Repeated(published)) => {
                self.counters.channels.duplicates += 1;
                Ok(published)
            }
            Ok(Outcome::New(delivery)) => {
                self.counters.channels.published += 1;
                Ok(self.fan_out(now, &shards, &delivery, ask))
            }
        }
    }

    fn has_subscriber(&mut self, channel: &str) -> bool {
        let mut listeners = std::mem::take(&mut self.channels.listeners);
        listeners.clear();
        self.channels.tree.matching(channel, &mut listeners);
        let any = !listeners.is_empty();
        self.channels.listeners = listeners;
        any
    }

    fn fan_out(
        &mut self,
        now: Micros,
        shards: &[ShardId],
        delivery: &Arc<Delivery>,
        ask: Option<AskId>,
    ) -> Published {
        let subscribers = if shards.contains(&self.id) { self.tell_subscribers(now, delivery) } else { 0 };
        let (mut sent, mut lost) = (usize::from(subscribers > 0), false);
        let id = self.id;
        for &shard in shards.iter().filter(|&&shard| shard != id) {
            if self.send_delivery(shard, delivery, ask) {
                sent += 1;
            } else {
                lost = true;
            }
        }
        if lost {
            self.undelivered(delivery, Undeliverable::Overloaded);
        }
        delivery.published(sent, subscribers)
    }

    /// Notes that a message which has its place in its stream did not reach everybody. Its key is known by now, and would
    /// keep it from being published again.
    fn undelivered(&mut self, delivery: &Delivery, reason: Undeliverable) {
        self.dead_letter(Publication { dedupe: None, ..delivery.publication.clone() }, reason);
    }

    /// A message of another shard's stream has come.
    pub(super) fn delivered(
        &mut self,
        now: Micros,
        delivery: &Arc<Delivery>,
        ask: Option<AskId>,
        fx: &mut Effects,
    ) {
        let over = delivery.is_over(now) && self.has_subscriber(&delivery.publication.channel);
        if over {
            self.undelivered(delivery, Undeliverable::Expired);
        }
        let subscribers = if over { 0 } else { self.tell_subscribers(now, delivery) };
        if let Some(ask) = ask {
            self.send_letters(fx);
            fx.push(Effect::Answer(ask, Answer::Delivered(subscribers)));
        }
    }

    /// A client of another shard publishes on a stream of this one.
    pub(super) fn posted(&mut self, now: Micros, shard: ShardId, posted: Posted) {
        let Posted { publication, since, from, event_id } = posted;
        let outcome = self.publish_here(now, since, publication, None);
        if let (Err(reason), Some(to)) = (outcome, from) {
            let refused = NotTaken { to, event_id, reason };
            self.channels.outgoing.answer(shard, Parcel::NotTaken(Box::new(refused)));
        }
    }

    /// A client publishes.
    ///
    /// # Errors
    /// When it may not, or writes the channel wrongly. What the owner has against it the client is told as well.
    pub(super) fn channel_publish(
        &mut self,
        now: Micros,
        key: ConnKey,
        event_id: Option<&str>,
        publication: Publication,
    ) -> Result<(), ClientError> {
        let name = ChannelName::parse(&publication.channel).map_err(|bad| {
            ClientError::invalid_value("channel", format!("No channel has this name: {bad}."))
        })?;
        let (_, namespace) = self.namespace(name.namespace())?;
        let admitted = if namespace.admits(&publication) {
            self.may_use(key, namespace, name.as_str(), Right::Publish)
        } else {
            Err(ClientError::new("forbidden", "Clients may not publish on this channel."))
        };
        if let Err(error) = admitted {
            // Nobody will want to try it again, and clients must not push out what the operator has to see.
            self.counters.channels.dead_letters[Undeliverable::Refused as usize] += 1;
            return Err(error);
        }
        let event_id = event_id.map(Into::into);
        if let Err((event_id, reason)) = self.publish_anywhere(now, Some(key), event_id, publication) {
            self.tell_undeliverable(now, key, event_id, reason);
        }
        Ok(())
    }

    /// Publishes on a stream, whoever owns it.
    fn publish_anywhere(
        &mut self,
        now: Micros,
        from: Option<ConnKey>,
        event_id: Option<Box<str>>,
        publication: Publication,
    ) -> Result<(), (Option<Box<str>>, Undeliverable)> {
        let owner = owner(&publication.channel, self.config.shards);
        if owner == self.id {
            let published = self.publish_here(now, now, publication, None);
            return published.map(|_| ()).map_err(|reason| (event_id, reason));
        }
        let posted = Box::new(Posted { publication, since: now, from, event_id });
        match self.channels.outgoing.send(owner, Parcel::Post(posted)) {
            Err(Parcel::Post(posted)) => {
                self.dead_letter(posted.publication, Undeliverable::Overloaded);
                Err((posted.event_id, Undeliverable::Overloaded))
            }
            _ => Ok(()),
        }
    }

    /// Publishes something of a room's life on a channel `events:…`, if anybody may listen. `fields` gives the members of a
    /// JSON object behind those that every event has, as in `,"members":2`; perhaps none.
    pub(super) fn announce(
        &mut self,
        now: Micros,
        key: RoomKey,
        channel: &'static str,
        fields: impl FnOnce() -> String,
    ) {
        if self.quotas.interest.shards(channel).is_empty() {
            return;
        }
        let Some(session) = self.rooms.find(key).map(|room| room.session_id.clone()) else { return };
        let event = channel.split_once(':').map_or(channel, |(_, event)| event);
        let (id, fields) = (self.id, fields());
        // A session's name has nothing that JSON would escape.
        let data = format!(r#"{{"event":"{event}","session_id":"{session}","shard":{id}{fields}}}"#);
        let publication =
            Publication { session: Some(session), ..Publication::new(channel, &data, Publisher::Server) };
        // What can't be delivered is a dead letter, and nobody waits to be told.
        let _ = self.publish_anywhere(now, None, None, publication);
    }

    /// A member has come to a room, or left it.
    pub(super) fn announce_member(
        &mut self,
        now: Micros,
        key: RoomKey,
        channel: &'static str,
        member: MemberNumber,
    ) {
        let members = self.rooms.find(key).map_or(0, |room| room.members.len());
        self.announce(now, key, channel, || format!(r#","member":{},"members":{members}"#, member.0));
    }

    /// Tells a client that what it published was not taken.
    pub(super) fn tell_undeliverable(
        &mut self,
        now: Micros,
        key: ConnKey,
        event_id: Option<Box<str>>,
        reason: Undeliverable,
    ) {
        let (message, retryable) = match reason {
            Undeliverable::Expired => ("Its time was over before it could be delivered.", false),
            Undeliverable::Refused => ("You may not publish on this channel.", false),
            Undeliverable::RateLimited => ("The channel has had too many messages of late.", true),
            Undeliverable::NoSubscriber => ("Nobody listens to this channel.", true),
            Undeliverable::Overloaded => ("There was no room for it on the way.", true),
        };
        self.counters.client_errors += 1;
        let kind = if reason == Undeliverable::Overloaded { "server_error" } else { "invalid_request_error" };
        let error = ErrorEvent {
            kind,
            code: reason.name(),
            message: message.into(),
            param: None,
            event_id,
            retryable,
        };
        self.tell(now, key, &ServerEvent::Error(Box::new(error)));
    }
}

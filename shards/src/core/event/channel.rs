//! The events of channels: what clients ask, and what they are told.

use simd_json::prelude::*;

use super::client::{ClientCommand, ClientError};
use super::fields::Fields;
use super::json::Json;
use super::server::ServerEvent;
use crate::core::channel::{After, Delivery, Importance, Lost, Position};
use crate::core::time::Micros;

/// What a client wants of a channel.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ChannelWish {
    /// `channel.subscribe`.
    Subscribe {
        /// The pattern.
        channel: Box<str>,
        /// What it has heard last, if it wants to know what it missed.
        after: Option<After>,
    },
    /// `channel.unsubscribe`.
    Unsubscribe {
        /// The pattern, as it was subscribed to.
        channel: Box<str>,
    },
    /// `channel.publish`.
    Publish {
        /// The channel.
        channel: Box<str>,
        /// Raw JSON, as it came.
        data: Box<str>,
        /// For how long it may be delivered.
        ttl: Option<Micros>,
        /// What is delivered once.
        dedupe: Option<Box<str>>,
    },
}

/// `channel.subscribed`: a subscription has begun, or something of it is lost.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Subscribed {
    /// The pattern.
    pub channel: Box<str>,
    /// What follows is behind this; nothing when the pattern may name several streams.
    pub at: Option<Position>,
    /// Whether what was missed follows, and how many messages; nothing when nobody asked.
    pub missed: Option<Result<usize, Lost>>,
}

/// Longest `dedupe` key.
const KEY_BYTES_MAX: usize = 256;
/// Longest time for which something may be delivered: 30 days.
const TTL_S_MAX: u64 = 30 * 24 * 3_600;

/// One of the events of channels, if it is one. `data` gives the raw value of that name.
pub(super) fn decode(
    kind: &str,
    event: &Fields<'_, '_, '_>,
    data: impl FnOnce() -> Result<Option<Box<str>>, ClientError>,
) -> Option<Result<ClientCommand, ClientError>> {
    let wish = match kind {
        "channel.subscribe" => subscribe(event),
        "channel.unsubscribe" => channel(event).map(|channel| ChannelWish::Unsubscribe { channel }),
        "channel.publish" => publish(event, data),
        _ => return None,
    };
    Some(wish.map(|wish| ClientCommand::Channel(Box::new(wish))))
}

fn channel(event: &Fields<'_, '_, '_>) -> Result<Box<str>, ClientError> {
    event.text("channel")?.map(Into::into).ok_or_else(|| event.missing("channel"))
}

fn subscribe(event: &Fields<'_, '_, '_>) -> Result<ChannelWish, ClientError> {
    let channel = channel(event)?;
    let after = match event.value("after") {
        None => None,
        Some(value) if value.is_str() => {
            let id = event.text("after")?.unwrap_or_default();
            Some(After::parse(id).ok_or_else(|| event.invalid("after", "the id or offset of a message"))?)
        }
        Some(_) => event.integer("after", 0, u64::MAX)?.map(After::Seq),
    };
    Ok(ChannelWish::Subscribe { channel, after })
}

fn publish(
    event: &Fields<'_, '_, '_>,
    data: impl FnOnce() -> Result<Option<Box<str>>, ClientError>,
) -> Result<ChannelWish, ClientError> {
    let channel = channel(event)?;
    let ttl = event.integer("ttl_s", 1, TTL_S_MAX)?.map(Micros::from_s);
    let dedupe = event.text("dedupe")?;
    if dedupe.is_some_and(|key| key.is_empty() || key.len() > KEY_BYTES_MAX) {
        return Err(event.invalid("dedupe", "1 to 256 bytes"));
    }
    let data = data()?.ok_or_else(|| event.missing("data"))?;
    Ok(ChannelWish::Publish { channel, data, ttl, dedupe: dedupe.map(Into::into) })
}

pub(super) fn subscribed_fields(subscribed: &Subscribed, json: &mut Json<'_>) {
    json.text("channel", &subscribed.channel);
    if let Some(at) = subscribed.at {
        json.plain("id", at);
        json.number("offset", at.seq);
    }
    match subscribed.missed {
        None => {}
        Some(Ok(missed)) => {
            json.flag("recovered", true);
            json.number("missed", missed as u64);
        }
        Some(Err(lost)) => {
            json.flag("recovered", false);
            json.plain("reason", lost.name());
        }
    }
}

pub(super) fn message_fields(delivery: &Delivery, json: &mut Json<'_>) {
    json.text("channel", &delivery.publication.channel);
    json.plain("id", delivery.at);
    json.number("offset", delivery.at.seq);
    json.raw("data", &delivery.publication.data);
}

impl ServerEvent {
    /// Whether it goes ahead of what may be lost.
    pub fn goes_first(&self) -> bool {
        matches!(self, Self::ChannelMessage(delivery) if delivery.importance == Importance::Highest)
    }
}

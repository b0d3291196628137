//! `/events`: connections that hear application events, in no room. Each has one subscription to the namespace of events,
//! and what it does not want of that is left out here. What the server itself has to tell is flat like all the rest.

use std::sync::Arc;

use super::super::channel::{After, Delivery, Lost, Namespace, Pattern, Position};
use super::super::conn::{Phase, Seat, Subprotocol, Terms};
use super::super::counters::Refusal;
use super::super::event::{
    Class, ClientCommand, ClientError, ClientEvent, FEED_NAMESPACE, ServerEvent, SessionUpdate, feed_type,
    write_feed,
};
use super::super::frame::Frame;
use super::super::gate::{Denied, Pass, Right, Role};
use super::super::http::{Handshake, Request};
use super::super::ids::{ConnKey, SessionId};
use super::super::outbox::{Message, Shape};
use super::super::time::Micros;
use super::Shard;
use super::door::{Refused, refused};
use super::event_forms::Spread;
use super::heads::{Verdict, problem};
use super::subscribing::token_allows;

/// The channels of all events.
const EVERYTHING: &str = "events:*";
const NOT_YOURS: Denied = Denied::Forbidden(
    "the token does not allow to hear these events: its claim \"channels\" has to name them, or its role to be admin",
);

/// What a connection of the feed wants to hear.
#[derive(Debug)]
pub(super) struct Feed {
    /// Channels; all where there is none.
    wanted: Vec<Pattern>,
    /// Events about this session; all where there is none.
    session: Option<SessionId>,
    /// Whether each event says where it stands.
    positions: bool,
    /// Whether it was told that it has begun.
    begun: bool,
}

impl Feed {
    fn wants(&self, delivery: &Delivery) -> bool {
        let publication = &delivery.publication;
        (self.wanted.is_empty() || self.wanted.iter().any(|pattern| pattern.names(&publication.channel)))
            && self.session.as_ref().is_none_or(|session| publication.session.as_ref() == Some(session))
    }

    /// Whether a token is for all that it wants.
    ///
    /// # Errors
    /// When it is not.
    fn admits(&self, namespace: &Namespace, pass: &Pass) -> Result<(), Denied> {
        let may =
            |channel: &str| token_allows(namespace, &pass.sub, &pass.channels, channel, Right::Subscribe);
        let all = if self.wanted.is_empty() {
            may(EVERYTHING)
        } else {
            self.wanted.iter().all(|pattern| may(pattern.as_str()))
        };
        if pass.role == Role::Admin || all { Ok(()) } else { Err(NOT_YOURS) }
    }
}

/// What somebody asks of the feed.
#[derive(Debug)]
pub(super) struct FeedWish {
    feed: Feed,
    pattern: Pattern,
    after: Option<After>,
}

impl FeedWish {
    /// From `types`, `session_id`, `positions` and `after`.
    ///
    /// # Errors
    /// What is wrong, for the client.
    fn read(request: &Request<'_>, types_max: usize) -> Result<Self, String> {
        let (mut wanted, mut session, mut positions, mut after) = (Vec::new(), None, false, None);
        let mut named = 0;
        for (name, value) in request.query_pairs() {
            match &*name {
                "types" => {
                    for kind in value.split(',') {
                        // Those that are named twice too: each is looked for among all before it.
                        named += 1;
                        if named > types_max {
                            return Err(format!(
                                "\"types\" names more than limits.subscriptions_max = {types_max}"
                            ));
                        }
                        let pattern = Pattern::parse(&format!("{FEED_NAMESPACE}:{kind}"))
                            .map_err(|bad| format!("\"types\" has one that is none: {bad}"))?;
                        if !wanted.contains(&pattern) {
                            wanted.push(pattern);
                        }
                    }
                }
                "session_id" => session = Some(SessionId::parse(&value).map_err(|bad| bad.to_string())?),
                "positions" => {
                    positions = match &*value {
                        "true" | "1" => true,
                        "false" | "0" => false,
                        _ => return Err("\"positions\" is true or false".to_owned()),
                    };
                }
                "after" => {
                    let position = After::parse(&value).or_else(|| value.parse().ok().map(After::Seq));
                    after = Some(position.ok_or("\"after\" is the position of an event")?);
                }
                _ => {}
            }
        }
        // What a browser has heard last counts for more than the address that it goes back to.
        let mut last = request.header_values("last-event-id");
        if let Some(id) = last.next().and_then(|id| std::str::from_utf8(id).ok()) {
            after = After::parse(id.trim()).or(after);
        }
        let pattern = match &wanted[..] {
            [only] => only.clone(),
            _ => Pattern::parse(EVERYTHING).map_err(|bad| bad.to_string())?,
        };
        Ok(Self { feed: Feed { wanted, session, positions, begun: false }, pattern, after })
    }
}

impl Shard {
    pub(super) fn feed_verdict<'a>(
        &mut self,
        key: ConnKey,
        request: &Request<'a>,
        handshake: &Handshake<'a>,
    ) -> Verdict {
        match self.feed_wanted(key, request, &handshake.subprotocols) {
            Err((refusal, answer)) => Verdict::Refuse(refusal, answer),
            Ok((wish, pass)) => {
                // The vendor has no words for what is told here.
                let offered = handshake.subprotocols.iter().copied().filter(|name| *name != "realtime");
                let spoken = Subprotocol::choose(offered, false);
                let (terms, answer) = self.agree(handshake, spoken);
                feed_verdict(wish, pass, terms, answer, request.len)
            }
        }
    }

    pub(super) fn feed_stream_verdict(&mut self, key: ConnKey, request: &Request<'_>) -> Verdict {
        if request.announces_body() {
            let detail = "a request for a stream has no body";
            return Verdict::Refuse(Refusal::BadRequest, problem(400, detail, None));
        }
        match self.feed_wanted(key, request, &[]) {
            Err((refusal, answer)) => Verdict::Refuse(refusal, answer),
            Ok((wish, pass)) => {
                let (terms, mut answer) = self.agree_on_stream(request);
                self.begin_stream(request.minor_version >= 1, None, &mut answer);
                feed_verdict(wish, pass, terms, answer, request.len)
            }
        }
    }

    /// What somebody wants to hear who may.
    ///
    /// # Errors
    /// For everybody else.
    fn feed_wanted<'a>(
        &mut self,
        key: ConnKey,
        request: &Request<'a>,
        offered: &[&'a str],
    ) -> Result<(FeedWish, Option<Pass>), Refused> {
        if let Some(refused) = self.turns_away() {
            return Err(refused);
        }
        let pass = self.let_in(request, offered)?;
        self.remember_user(key, pass.as_ref());
        let bad = |detail: &str| (Refusal::BadRequest, problem(400, detail, None));
        let wish = FeedWish::read(request, self.config.limits.subscriptions_max);
        let wish = wish.map_err(|detail| bad(&detail))?;
        let Some((_, namespace)) = self.config.channels.find(FEED_NAMESPACE) else {
            return Err(refused(NOT_YOURS));
        };
        pass.as_ref().map_or(Ok(()), |pass| wish.feed.admits(namespace, pass)).map_err(refused)?;
        Ok((wish, pass))
    }

    /// The connection is open: from now on it hears what it wants.
    pub(super) fn begin_feed(&mut self, now: Micros, key: ConnKey, wish: FeedWish) {
        let FeedWish { feed, pattern, after } = wish;
        self.channels.feeds.insert(key, feed);
        if let Err(error) = self.subscribe(now, key, pattern, after) {
            // Nothing will be heard on it: the client learns so, and may come again.
            self.tell_feed_standing(now, key, None, Some(Err(Lost::Overloaded)));
            self.client_error(now, key, error);
        }
    }

    /// Takes those who hear the feed out of the listeners of a message, and tells it to those who want it: how many.
    pub(super) fn tell_feeds(
        &mut self,
        now: Micros,
        listeners: &mut Vec<ConnKey>,
        delivery: &Arc<Delivery>,
        replayed: bool,
    ) -> usize {
        // Who hears the feed hears nothing else.
        if self.channels.feeds.is_empty() || feed_type(&delivery.publication.channel).is_none() {
            return 0;
        }
        let mut wanting: [Vec<ConnKey>; 2] = Default::default();
        let (mut streams, mut told) = (Vec::new(), 0);
        for &key in listeners.iter() {
            let Some(feed) = self.channels.feeds.get(&key).filter(|feed| feed.wants(delivery)) else {
                continue;
            };
            told += 1;
            match self.streams.get(&key) {
                Some(stream) => streams.push((key, stream.chunked)),
                None => wanting[usize::from(feed.positions)].push(key),
            }
        }
        listeners.retain(|key| !self.channels.feeds.contains_key(key));
        for (positions, keys) in wanting.iter().enumerate().filter(|(_, keys)| !keys.is_empty()) {
            self.spread_feed(now, keys, delivery, positions > 0, replayed);
        }
        self.stream_feed(now, &streams, delivery, replayed);
        self.counters.channels.delivered += told as u64;
        told
    }

    /// Tells one who hears the feed a message that it has missed, if it does hear it.
    pub(super) fn tell_feed(&mut self, now: Micros, key: ConnKey, delivery: &Arc<Delivery>) -> bool {
        if !self.hears_feed(key) {
            return false;
        }
        self.tell_feeds(now, &mut vec![key], delivery, true);
        true
    }

    fn spread_feed(
        &mut self,
        now: Micros,
        keys: &[ConnKey],
        delivery: &Delivery,
        positions: bool,
        replayed: bool,
    ) {
        let mut json = std::mem::take(&mut self.json);
        json.clear();
        write_delivery(delivery, positions, &mut json);
        let span = self.config.outbox.coalesce;
        let wait = (span.0 > 0).then_some(span);
        let (seq, class) = (Some(delivery.at.seq), delivery.class());
        self.spread(now, keys, &Spread { json: &json, of: None, seq, response: 0, class, wait, replayed });
        self.json = json;
    }

    /// The same for those who hear it as a stream: there the position is the event's id.
    fn stream_feed(
        &mut self,
        now: Micros,
        listeners: &[(ConnKey, bool)],
        delivery: &Delivery,
        replayed: bool,
    ) {
        let mut forms: [Option<Frame>; 2] = [None, None];
        for &(key, chunked) in listeners {
            let form = forms[usize::from(chunked)].take();
            let frame = form.unwrap_or_else(|| {
                self.counters.events_encoded += 1;
                let mut json = Vec::new();
                write_delivery(delivery, false, &mut json);
                let id = format!("id: {}\n", delivery.at);
                let text = [id.as_bytes(), b"data: ", &json, b"\n\n"].concat();
                self.stream_text(&text, chunked)
            });
            forms[usize::from(chunked)] = Some(frame.clone());
            let (seq, class) = (delivery.at.seq, delivery.class());
            let message = Message { frame, at: now, seq, response: 0, class, shape: Shape::Event, replayed };
            self.enqueue(key, message, None);
        }
        for frame in forms.into_iter().flatten() {
            self.pool.recycle(frame);
        }
    }

    /// Tells one who hears the feed where it stands, if it does hear it: at the beginning where it asked, and whenever
    /// something is lost.
    pub(super) fn tell_feed_standing(
        &mut self,
        now: Micros,
        key: ConnKey,
        at: Option<Position>,
        missed: Option<Result<usize, Lost>>,
    ) -> bool {
        let Some(feed) = self.channels.feeds.get_mut(&key) else { return false };
        let first = !std::mem::replace(&mut feed.begun, true);
        let positions = feed.positions;
        let chunked = self.streams.get(&key).map(|stream| stream.chunked);
        if let (Some(chunked), Some(at), None | Some(Ok(0))) = (chunked, at, missed) {
            // Whoever comes back says so, even if nothing has come by then.
            let id = self.stream_text(format!("id: {at}\n\n").as_bytes(), chunked);
            self.enqueue(key, Message::control(id, now, Shape::Whole), None);
        }
        if missed.is_some() || positions {
            let position = at.map_or(String::new(), |at| format!(",\"position\":\"{at}\""));
            let kind = if first { "feed.started" } else { "feed.gap" };
            let what = match missed {
                None => String::new(),
                Some(Ok(missed)) => format!(",\"recovered\":true,\"missed\":{missed}"),
                Some(Err(lost)) => format!(",\"recovered\":false,\"reason\":\"{}\"", lost.name()),
            };
            self.tell_flat(now, key, format!("{{\"event\":\"{kind}\"{what}{position}}}").as_bytes());
        }
        true
    }

    fn tell_flat(&mut self, now: Micros, key: ConnKey, json: &[u8]) {
        let class = Class::Control;
        self.spread(
            now,
            &[key],
            &Spread { json, of: None, seq: None, response: 0, class, wait: None, replayed: false },
        );
    }

    /// Whether a connection is one of the feed.
    pub(super) fn hears_feed(&self, key: ConnKey) -> bool {
        matches!(self.conns.find(key).map(|conn| &conn.phase), Some(Phase::Open(open)) if open.seat == Seat::Feed)
    }

    /// What is said on the feed: a ping has its answer, a fresh token counts, everything else is an error.
    pub(super) fn feed_command(&mut self, now: Micros, key: ConnKey, event: ClientEvent) {
        let ClientEvent { event_id, command, .. } = event;
        match command {
            ClientCommand::Ping { t } => self.tell(now, key, &ServerEvent::Pong { t }),
            ClientCommand::SessionUpdate(update) => match *update {
                SessionUpdate {
                    token: Some(token),
                    session: None,
                    extras: None,
                    state: None,
                    after: None,
                } => {
                    if let Err(error) = self.refresh_feed(now, key, &token) {
                        self.client_error(now, key, error.about(event_id));
                    }
                }
                _ => self.deaf(now, key, event_id),
            },
            _ => self.deaf(now, key, event_id),
        }
    }

    fn refresh_feed(&mut self, now: Micros, key: ConnKey, token: &str) -> Result<(), ClientError> {
        let feed = self.channels.feeds.get(&key);
        let namespace = self.config.channels.find(FEED_NAMESPACE);
        let pass = self.fresh_pass(key, token, |pass| match (feed, namespace) {
            (Some(feed), Some((_, namespace))) => feed.admits(namespace, pass),
            _ => Err(NOT_YOURS),
        })?;
        self.counters.tokens_refreshed += 1;
        self.identify(now, key, Some(pass));
        self.tell_flat(now, key, br#"{"event":"session.updated"}"#);
        Ok(())
    }

    /// Says that this is not heard here.
    pub(super) fn deaf(&mut self, now: Micros, key: ConnKey, event_id: Option<Box<str>>) {
        let message = "Nothing but ping and a fresh token is taken on the feed of events.";
        self.client_error(now, key, ClientError::new("not_supported_on_feed", message).about(event_id));
    }
}

fn feed_verdict(
    wish: FeedWish,
    pass: Option<Pass>,
    terms: Terms,
    answer: Vec<u8>,
    head_len: usize,
) -> Verdict {
    Verdict::Apart { feed: Some(Box::new(wish)), pass, terms, answer, head_len }
}

fn write_delivery(delivery: &Delivery, positions: bool, out: &mut Vec<u8>) {
    let publication = &delivery.publication;
    let kind = feed_type(&publication.channel).unwrap_or_default();
    write_feed(kind, &publication.data, positions.then_some(delivery.at), out);
}

/// Makes an event of the server's as flat as those of applications: its `type` is its `event`.
pub(super) fn flatten(json: &mut Vec<u8>) {
    if json.starts_with(b"{\"type\":") {
        json.splice(2..6, *b"event");
    }
}

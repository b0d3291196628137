//! From an accepted socket to an open WebSocket: the request head, who owns it, and the answer.

use ::core::net::{IpAddr, SocketAddr};

use super::super::audit::Asked;
use super::super::conn::{Address, Conn, Head, Open, Phase, Seat, Subprotocol, Terms};
use super::super::counters::Refusal;
use super::super::effect::{Caller, CloseMode, Destination, Effect, ReceiveMode};
use super::super::event::Dialect;
use super::super::gate::Pass;
use super::super::http::{
    self, DeflateOffer, Handshake, HandshakeError, HeadError, Parsed, Request, Route, answer,
};
use super::super::ids::{ConnKey, SessionId};
use super::super::outbox::{Message, Shape};
use super::super::route;
use super::super::time::Micros;
use super::super::uplink::{Post, Stream};
use super::super::ws::Decoder;
use super::compatible::speaks_beta;
use super::door::{Refused, refused};
use super::feeds::FeedWish;
use super::joining::Joining;
use super::recovery::Comeback;
use super::rooms::{Door, Wishes};
use super::{Effects, Shard};

/// What becomes of a head.
pub(super) enum Verdict {
    /// More bytes are needed.
    More,
    /// Another shard's, or the control plane's.
    Elsewhere(Destination),
    /// A member for a room that lives here.
    Join { joining: Joining, head_len: usize },
    /// A connection for `/echo`, or for the feed.
    Apart { feed: Option<Box<FeedWish>>, pass: Option<Pass>, terms: Terms, answer: Vec<u8>, head_len: usize },
    /// Events of a member that hears a stream; whether it waits to be told that they are welcome.
    Post { post: Box<Post>, waits: bool, head_len: usize },
    /// What a path can do, on a connection that may go on.
    Options { post: Box<Post>, head_len: usize },
    /// Answered with this, and over.
    Refuse(Refusal, Vec<u8>),
}

/// What somebody wants of a room who may have it.
struct Wanted {
    wishes: Wishes,
    pass: Option<Pass>,
    back: Option<Comeback>,
}

impl Shard {
    pub(super) fn accepted(&mut self, now: Micros, key: ConnKey, peer: Caller, fx: &mut Effects) {
        self.counters.accepted += 1;
        if !self.may_shake_hands(now, peer) {
            // An answer could be read only behind the handshake that is to be spared.
            self.counters.refused[Refusal::TooOften as usize] += 1;
            self.note_turned_away(peer.address(), Refusal::TooOften, fx);
            fx.push(Effect::Close(key, CloseMode::Reset));
            return;
        }
        self.begin_head(now, key, peer, None, self.address_of(peer));
        self.receive(key, ReceiveMode::Once, fx);
    }

    /// A connection whose head another shard has read. It is parsed again here: parsing is cheap, and nothing
    /// that was derived from it has to travel.
    pub(super) fn adopted(
        &mut self,
        now: Micros,
        key: ConnKey,
        peer: SocketAddr,
        via: Option<IpAddr>,
        head: &mut [u8],
        fx: &mut Effects,
    ) {
        self.counters.moved_in += 1;
        self.begin_head(now, key, Caller::At(peer), via, Address::Settled);
        self.head_bytes(now, key, head, fx);
    }

    fn begin_head(&mut self, now: Micros, key: ConnKey, peer: Caller, via: Option<IpAddr>, address: Address) {
        let head = Head {
            bytes: Vec::new(),
            deadline: now + self.config.limits.head,
            address,
            local: peer == Caller::Local,
            via,
            asked: Asked::Unknown,
            user: None,
            waits: None,
            origin: None,
        };
        let conn = Conn::new(now, key, peer.address(), Phase::Head(Box::new(head)));
        let before = self.conns.insert(key.index, conn);
        debug_assert!(before.is_none(), "the pump gave a key twice");
        self.heads += 1;
        self.counters.heads += 1;
        self.arm(now, key);
    }

    /// Bytes of a head: what is whole is parsed where it lies, only a part is copied aside.
    pub(super) fn head_bytes(&mut self, now: Micros, key: ConnKey, bytes: &mut [u8], fx: &mut Effects) {
        let Some(Conn { phase: Phase::Head(head), .. }) = self.conn(key) else { return };
        if head.bytes.is_empty() {
            return self.judge_head(now, key, bytes, fx);
        }
        let mut all = std::mem::take(&mut head.bytes);
        all.extend_from_slice(bytes);
        self.judge_head(now, key, &mut all, fx);
    }

    fn judge_head(&mut self, now: Micros, key: ConnKey, bytes: &mut [u8], fx: &mut Effects) {
        let Some(skipped) = self.take_proxy_header(now, key, bytes, fx) else { return };
        let bytes = &mut bytes[skipped..];
        match self.verdict(now, key, bytes) {
            Verdict::More => {
                if let Some(Conn { phase: Phase::Head(head), .. }) = self.conn(key) {
                    head.bytes = bytes.to_vec();
                }
                self.receive(key, ReceiveMode::Once, fx);
            }
            Verdict::Elsewhere(to) => self.move_away(key, to, bytes, fx),
            Verdict::Join { joining, head_len } => {
                if self.may_be_stored(&joining.session) {
                    self.wait_for_store(now, key, joining, bytes[head_len..].to_vec(), fx);
                } else {
                    self.join(now, key, joining, &mut bytes[head_len..], fx);
                }
            }
            Verdict::Apart { feed, pass, terms, answer, head_len } => {
                match self.reserve(key, pass.as_ref()) {
                    Ok(()) => {
                        let via = self.via(key);
                        let seat = if feed.is_some() { Seat::Feed } else { Seat::Echo };
                        self.open(now, key, seat, terms, &answer, fx);
                        self.identify(now, key, pass);
                        self.note_opened(key, via, fx);
                        if let Some(wish) = feed {
                            self.begin_feed(now, key, *wish);
                        }
                        self.open_rest(now, key, &mut bytes[head_len..], fx);
                    }
                    Err((refusal, answer)) => self.refuse(now, key, refusal, &answer, fx),
                }
            }
            Verdict::Post { post, waits, head_len } => {
                self.begin_post(now, key, post, waits, &mut bytes[head_len..], fx);
            }
            Verdict::Options { mut post, head_len } => {
                post.rest = bytes[head_len..].to_vec();
                let Some(conn) = self.conn(key) else { return };
                conn.phase = Phase::Post(post);
                self.answer_post(now, key, http::stream::options, fx);
            }
            Verdict::Refuse(refusal, answer) => self.refuse(now, key, refusal, &answer, fx),
        }
    }

    fn verdict(&mut self, now: Micros, key: ConnKey, bytes: &[u8]) -> Verdict {
        let request = match http::parse(bytes, self.config.limits.head_bytes_max) {
            Ok(Parsed::Partial) => return Verdict::More,
            Ok(Parsed::Complete(request)) => request,
            Err(error) => return bad_head(error),
        };
        let route = http::classify(&request, self.config.echo_endpoint);
        self.remember_route(key, &route);
        self.remember_origin(key, &request, &route);
        let asks = matches!(
            route,
            Route::Room(_) | Route::Realtime(_) | Route::Echo | Route::Sse(_) | Route::Feed { .. }
        );
        if let Some(from) = self.settle_address(key, &request)
            && asks
            && !self.upgrades.take(now, from)
        {
            let (refusal, answer) = self.too_often();
            return Verdict::Refuse(refusal, answer);
        }
        match route {
            Route::ControlPlane => Verdict::Elsewhere(Destination::ControlPlane),
            Route::BadSessionId => {
                let detail = super::super::ids::BadSessionId.to_string();
                Verdict::Refuse(Refusal::BadRequest, problem(400, &detail, None))
            }
            Route::Room(session) => self.room_verdict(key, &request, session, Door::Native),
            Route::Realtime(Some(session)) => self.room_verdict(key, &request, session, Door::Realtime),
            Route::Realtime(None) => {
                let session = self.make_up_session();
                self.remember_route(key, &Route::Room(session.clone()));
                self.join_verdict(key, &request, session, Door::Realtime)
            }
            Route::Sse(session) => self.room_verdict(key, &request, session, Door::Sse),
            Route::SsePost(session) => self.post_verdict(key, &request, &session),
            Route::SseOptions => self.options_verdict(key, &request),
            Route::SseWrongMethod => wrong_method(request.method),
            Route::Feed { as_stream: true } => self.feed_stream_verdict(key, &request),
            Route::Echo | Route::Feed { .. } => match request.websocket() {
                Err(error) => bad_handshake(error),
                Ok(handshake) if route == Route::Echo => self.echo_verdict(key, &request, &handshake),
                Ok(handshake) => self.feed_verdict(key, &request, &handshake),
            },
        }
    }

    fn echo_verdict<'a>(
        &mut self,
        key: ConnKey,
        request: &Request<'a>,
        handshake: &Handshake<'a>,
    ) -> Verdict {
        if let Some((refusal, answer)) = self.turns_away() {
            return Verdict::Refuse(refusal, answer);
        }
        match self.let_in(request, &handshake.subprotocols) {
            Err((refusal, answer)) => Verdict::Refuse(refusal, answer),
            Ok(pass) => {
                self.remember_user(key, pass.as_ref());
                let (terms, answer) = self.agree(handshake, Subprotocol::None);
                Verdict::Apart { feed: None, pass, terms, answer, head_len: request.len }
            }
        }
    }

    fn room_verdict(
        &mut self,
        key: ConnKey,
        request: &Request<'_>,
        session: SessionId,
        door: Door,
    ) -> Verdict {
        let owner = route::owner(session.as_str(), self.config.shards);
        if owner == self.id {
            match door {
                Door::Native | Door::Realtime => self.join_verdict(key, request, session, door),
                Door::Sse => self.stream_verdict(key, request, session),
            }
        } else {
            Verdict::Elsewhere(Destination::Shard(owner))
        }
    }

    fn join_verdict(
        &mut self,
        key: ConnKey,
        request: &Request<'_>,
        session: SessionId,
        door: Door,
    ) -> Verdict {
        let handshake = match request.websocket() {
            Ok(handshake) => handshake,
            Err(error) => return bad_handshake(error),
        };
        let beta = speaks_beta(request, &handshake);
        let subprotocol = match door {
            Door::Realtime => Subprotocol::realtime(beta),
            Door::Native | Door::Sse => Subprotocol::choose(handshake.subprotocols.iter().copied(), beta),
        };
        match self.wanted(key, request, &session, door, subprotocol, &handshake.subprotocols) {
            Err((refusal, answer)) => Verdict::Refuse(refusal, answer),
            Ok(Wanted { wishes, pass, back }) => {
                let (terms, answer) = self.agree(&handshake, subprotocol);
                let joining = Joining { session, wishes, pass, back, terms, answer };
                Verdict::Join { joining, head_len: request.len }
            }
        }
    }

    /// One who wants to hear a room as a stream of events.
    fn stream_verdict(&mut self, key: ConnKey, request: &Request<'_>, session: SessionId) -> Verdict {
        if request.announces_body() {
            let detail = "a request for a stream has no body";
            return Verdict::Refuse(Refusal::BadRequest, problem(400, detail, None));
        }
        let subprotocol = Subprotocol::Sse { chunked: true };
        match self.wanted(key, request, &session, Door::Sse, subprotocol, &[]) {
            Err((refusal, answer)) => Verdict::Refuse(refusal, answer),
            Ok(Wanted { wishes, pass, back }) => {
                let (terms, answer) = self.agree_on_stream(request);
                let joining = Joining { session, wishes, pass, back, terms, answer };
                Verdict::Join { joining, head_len: request.len }
            }
        }
    }

    /// What somebody wants of a room who may have it.
    ///
    /// # Errors
    /// For everybody else.
    fn wanted<'a>(
        &mut self,
        key: ConnKey,
        request: &Request<'a>,
        session: &SessionId,
        door: Door,
        subprotocol: Subprotocol,
        offered: &[&'a str],
    ) -> Result<Wanted, Refused> {
        if let Some(refused) = self.turns_away() {
            return Err(refused);
        }
        let pass = self.let_in(request, offered)?;
        self.remember_user(key, pass.as_ref());
        let engine = pass.as_ref().and_then(|pass| pass.engine).unwrap_or(self.config.room.engine);
        let bad = |detail: &str| (Refusal::BadRequest, problem(400, detail, None));
        let mut wishes = Wishes::from_query(request.query_pairs(), engine, door, subprotocol)
            .map_err(|detail| bad(&detail))?;
        wishes.claim = pass.as_ref().and_then(|pass| pass.realtime.clone());
        self.has_engine(wishes.kind).map_err(bad)?;
        if let Some(pass) = &pass {
            self.admit(pass, session, wishes.kind).map_err(refused)?;
        }
        let back = Comeback::from_request(request, door).map_err(|detail| bad(&detail))?;
        let back = back.filter(|_| subprotocol.dialect() == Dialect::Native);
        Ok(Wanted { wishes, pass, back })
    }

    /// What is agreed on with a client, and the 101 that tells it so.
    pub(super) fn agree(&self, handshake: &Handshake<'_>, subprotocol: Subprotocol) -> (Terms, Vec<u8>) {
        let deflate = handshake.deflate.filter(|_| self.config.deflate.enabled);
        let mut accepted = Vec::new();
        // `/v1/realtime` is what it is, whether or not its name was offered.
        let offered = subprotocol.name().filter(|name| handshake.subprotocols.contains(name));
        answer::switching_protocols(handshake.key, offered, deflate, &mut accepted);
        (Terms { subprotocol, deflate: deflate.map(DeflateOffer::window) }, accepted)
    }

    fn move_away(&mut self, key: ConnKey, to: Destination, bytes: &[u8], fx: &mut Effects) {
        match to {
            Destination::Shard(_) => self.counters.moved_out += 1,
            Destination::ControlPlane => self.counters.handed_over += 1,
        }
        let via = self.via(key);
        let Some(conn) = self.conn(key) else { return };
        conn.phase = Phase::Gone;
        let peer = conn.peer.into();
        fx.push(Effect::Move { conn: key, to, head: bytes.to_vec(), peer, via });
        self.head_done();
    }

    pub(super) fn head_done(&mut self) {
        self.heads -= 1;
        self.counters.heads -= 1;
    }

    /// The 101 goes into the lane; from here on it is a WebSocket.
    pub(super) fn open(
        &mut self,
        now: Micros,
        key: ConnKey,
        seat: Seat,
        terms: Terms,
        answer: &[u8],
        fx: &mut Effects,
    ) {
        self.head_done();
        self.counters.opened += 1;
        self.counters.open += 1;
        let Some(conn) = self.conn(key) else { return };
        let decoder = Decoder::new();
        let Terms { subprotocol, deflate } = terms;
        conn.phase = Phase::Open(Open {
            decoder,
            seat,
            subprotocol,
            deflate,
            pinged: false,
            since: now,
            drain_at: Micros(0),
            identity: None,
        });
        conn.lane.batches = subprotocol == Subprotocol::V1;
        // The head's timer may stay: when it goes off, the heartbeat's is set.
        let answer = self.pool.copy(answer).seal_raw();
        self.enqueue(key, Message::control(answer, now, Shape::Answer), None);
        if let Subprotocol::Sse { chunked } = subprotocol {
            self.counters.streams += 1;
            let taken = self.client_seq_of(seat);
            self.streams.insert(key, Stream::new(now, chunked, taken));
        }
        self.receive(key, ReceiveMode::Stream, fx);
    }

    /// What came in behind the head is already WebSocket, and for a stream nothing may come.
    pub(super) fn open_rest(&mut self, now: Micros, key: ConnKey, rest: &mut [u8], fx: &mut Effects) {
        let stream = self.open_conn(key).is_some_and(|(_, open)| open.subprotocol.is_stream());
        match rest {
            [] => {}
            rest if stream => self.stray_bytes(now, key, rest, fx),
            rest => self.open_bytes(now, key, rest, fx),
        }
    }

    /// Answers in plain HTTP, and the connection ends.
    pub(super) fn refuse(
        &mut self,
        now: Micros,
        key: ConnKey,
        refusal: Refusal,
        answer: &[u8],
        fx: &mut Effects,
    ) {
        self.counters.refused[refusal as usize] += 1;
        self.note_refused(key, refusal, answer, fx);
        self.head_done();
        let mut answer = answer.to_vec();
        if let Some(Conn { phase: Phase::Head(head), .. }) = self.conn(key)
            && let Some(origin) = &head.origin
        {
            http::stream::allow_origin_in(&mut answer, origin);
        }
        let answer = self.pool.copy(&answer).seal_raw();
        self.say_last(now, key, answer, fx);
    }

    pub(super) fn head_timeout(&mut self, now: Micros, key: ConnKey, fx: &mut Effects) {
        if let Some(Conn { phase: Phase::Head(head), .. }) = self.conn(key)
            && let Some(session) = head.waits.take()
        {
            return self.waited_too_long(now, session, fx);
        }
        let answer = problem(408, "the request head did not arrive in time", None);
        self.refuse(now, key, Refusal::HeadTimeout, &answer, fx);
    }
}

pub(super) fn problem(status: u16, detail: &str, retry_after_s: Option<u32>) -> Vec<u8> {
    let title = match status {
        404 => "Not Found",
        405 => "Method Not Allowed",
        408 => "Request Timeout",
        409 => "Conflict",
        413 => "Content Too Large",
        429 => "Too Many Requests",
        503 => "Service Unavailable",
        _ => "Bad Request",
    };
    let mut out = Vec::new();
    answer::problem(status, title, detail, retry_after_s, &[], &mut out);
    out
}

fn bad_head(error: HeadError) -> Verdict {
    let refusal = if error == HeadError::TooLong { Refusal::HeadTooLong } else { Refusal::BadRequest };
    let mut out = Vec::new();
    error.answer(&mut out);
    Verdict::Refuse(refusal, out)
}

fn bad_handshake(error: HandshakeError) -> Verdict {
    let mut out = Vec::new();
    error.answer(&mut out);
    Verdict::Refuse(Refusal::BadRequest, out)
}

fn wrong_method(method: &str) -> Verdict {
    let mut out = Vec::new();
    let allow = [("Allow", "GET, POST, OPTIONS")];
    answer::problem(
        405,
        "Method Not Allowed",
        "a stream is opened with GET and spoken to with POST",
        None,
        &allow,
        &mut out,
    );
    if method == "HEAD" {
        // RFC 9110 section 9.3.2: no content, however long it says that it would be.
        let end = out.windows(4).position(|four| four == b"\r\n\r\n").map_or(out.len(), |at| at + 4);
        out.truncate(end);
    }
    Verdict::Refuse(Refusal::WrongMethod, out)
}

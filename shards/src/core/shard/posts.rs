//! What members say that hear a stream (PROTOCOL 2): `POST /sse/{session_id}`, from the head to the answer, and on to the next
//! request on the connection.
//!
//! A body is read only for a member that is there. Bounds: a body by `limits.message_bytes_max`, in [`BODY`]; all bodies of a
//! member, and what waits for its turn, by [`SHARE_MAX`] such bodies, those of a shard by [`BODIES_MAX`]; requests in flight as heads are, by
//! `limits.upgrades_in_flight_max`; and as many connections wait for another request, for [`IDLE`] each. Nothing is in flight
//! on a connection between two requests, so that the next may take it to another shard.

use super::super::audit::Asked;
use super::super::conn::{Address, Conn, Head, Phase};
use super::super::counters::Refusal;
use super::super::effect::{Destination, ReceiveMode};
use super::super::http::{Body, BodyError, Request, Route, answer, stream};
use super::super::ids::{ConnKey, SessionId};
use super::super::origin;
use super::super::outbox::{Message, Shape};
use super::super::route;
use super::super::time::Micros;
use super::super::uplink::{Post, PostStage};
use super::door::{WRONG_ORIGIN, refused};
use super::heads::{Verdict, problem};
use super::{Effects, Shard};

/// How long a body may take.
pub(super) const BODY: Micros = Micros::from_s(30);
/// How long a connection may be silent between two requests.
const IDLE: Micros = Micros::from_s(30);
/// Longest bodies that a shard holds in memory.
const BODIES_MAX: usize = 16;
/// And one member: nobody keeps the others from being heard by not finishing what it says.
const SHARE_MAX: usize = 2;

const CONTINUE: &[u8] = b"HTTP/1.1 100 Continue\r\n\r\n";

/// What requests with a body hold of a shard.
#[derive(Debug, Default)]
pub(super) struct Posts {
    /// Bytes of bodies, and of events that wait for their turn.
    pub(super) bytes: usize,
    /// Connections that wait for another request.
    idle: usize,
}

impl Shard {
    /// Remembers which page may read the answer. Who may not open a WebSocket may read nothing here either.
    pub(super) fn remember_origin(&mut self, key: ConnKey, request: &Request<'_>, route: &Route) {
        let plain = matches!(
            route,
            Route::Sse(_)
                | Route::SsePost(_)
                | Route::SseOptions
                | Route::SseWrongMethod
                | Route::Feed { as_stream: true }
        );
        if !plain || !self.config.origins.allow(request) {
            return;
        }
        let origin = origin::named(request).map(Into::into);
        if let Some(Conn { phase: Phase::Head(head), .. }) = self.conn(key) {
            head.origin = origin;
        }
    }

    /// Events for a member that hears a stream.
    pub(super) fn post_verdict(
        &mut self,
        key: ConnKey,
        request: &Request<'_>,
        session: &SessionId,
    ) -> Verdict {
        let owner = route::owner(session.as_str(), self.config.shards);
        if owner != self.id {
            return Verdict::Elsewhere(Destination::Shard(owner));
        }
        let listener = self.let_in(request, &[]).and_then(|pass| {
            self.remember_user(key, pass.as_ref());
            self.listener_of(request, session, pass.as_ref())
        });
        match listener {
            Err((refusal, answer)) => Verdict::Refuse(refusal, answer),
            Ok(listener) => {
                let stage = PostStage::Body(Body::of(request));
                let post = self.post_of(key, request, stage, listener);
                Verdict::Post { post, waits: request.expects_continue(), head_len: request.len }
            }
        }
    }

    /// Somebody asks what can be done here: a browser on behalf of a page of another origin.
    pub(super) fn options_verdict(&mut self, key: ConnKey, request: &Request<'_>) -> Verdict {
        if !self.config.origins.allow(request) {
            let (refusal, answer) = refused(WRONG_ORIGIN);
            return Verdict::Refuse(refusal, answer);
        }
        if request.announces_body() {
            return Verdict::Refuse(Refusal::BadRequest, problem(400, "no body is taken with OPTIONS", None));
        }
        let post = self.post_of(key, request, PostStage::Answering, key);
        Verdict::Options { post, head_len: request.len }
    }

    fn post_of(
        &mut self,
        key: ConnKey,
        request: &Request<'_>,
        stage: PostStage,
        listener: ConnKey,
    ) -> Box<Post> {
        let head = match self.conn(key).map(|conn| &mut conn.phase) {
            Some(Phase::Head(head)) => Some(head),
            _ => None,
        };
        let (origin, local, via) =
            head.map_or((None, false, None), |head| (head.origin.clone(), head.local, head.via));
        Box::new(Post {
            stage,
            listener,
            bytes: Vec::new(),
            rest: Vec::new(),
            deadline: Micros(0),
            keep: request.keeps_alive(),
            origin,
            local,
            via,
        })
    }

    /// The body of a request follows its head. What has come behind that is its beginning.
    pub(super) fn begin_post(
        &mut self,
        now: Micros,
        key: ConnKey,
        post: Box<Post>,
        waits: bool,
        bytes: &mut [u8],
        fx: &mut Effects,
    ) {
        self.counters.posts += 1;
        if let Some(stream) = self.streams.get_mut(&post.listener) {
            stream.bodies.count += 1;
        }
        let Some(conn) = self.conn(key) else { return };
        conn.phase = Phase::Post(post);
        if let Phase::Post(post) = &mut conn.phase {
            post.deadline = now + BODY;
        }
        self.arm(now, key);
        if waits && bytes.is_empty() {
            let go_on = self.pool.copy(CONTINUE).seal_raw();
            self.enqueue_raw(now, key, Message::control(go_on, now, Shape::Whole));
        }
        self.post_bytes(now, key, bytes, fx);
    }

    pub(super) fn post_bytes(&mut self, now: Micros, key: ConnKey, mut bytes: &mut [u8], fx: &mut Effects) {
        let bytes_max = self.config.limits.message_bytes_max;
        let conn = self.conns.find_mut(key);
        let Some(Conn { phase: Phase::Post(post), .. }) = conn else { return };
        let before = post.bytes.len();
        let taken = match &mut post.stage {
            PostStage::Body(body) => body.take(&mut bytes, &mut post.bytes, bytes_max),
            PostStage::Answering => return post.rest.extend_from_slice(bytes),
            PostStage::Idle => return self.next_request(now, key, bytes, fx),
        };
        let (listener, more) = (post.listener, post.bytes.len() - before);
        self.posts.bytes += more;
        let share = self.streams.get_mut(&listener).is_none_or(|stream| {
            stream.bodies.bytes += more;
            let bytes = stream.bodies.bytes + stream.uplink.bytes();
            bytes <= SHARE_MAX * bytes_max && (taken == Ok(true) || stream.bodies.count <= SHARE_MAX)
        });
        match taken {
            Err(BodyError::TooLong) => {
                let detail = format!("a body has at most {bytes_max} bytes");
                self.refuse_post(now, key, Refusal::BodyTooLong, 413, &detail, fx);
            }
            Err(error @ BodyError::Malformed) => {
                self.refuse_post(now, key, Refusal::BadRequest, 400, &error.to_string(), fx);
            }
            Ok(_) if !share => {
                let detail = "as many of your requests are being read as may be: send one after the other";
                self.refuse_post(now, key, Refusal::BodiesFull, 429, detail, fx);
            }
            Ok(_) if self.posts.bytes > BODIES_MAX * bytes_max => {
                let detail = "this shard holds as many bodies as it may";
                self.refuse_post(now, key, Refusal::Unavailable, 503, detail, fx);
            }
            Ok(false) => self.receive(key, ReceiveMode::Once, fx),
            Ok(true) => {
                post.rest = bytes.to_vec();
                self.post_complete(now, key, fx);
            }
        }
    }

    fn post_complete(&mut self, now: Micros, key: ConnKey, fx: &mut Effects) {
        let Some(Conn { phase: Phase::Post(post), .. }) = self.conn(key) else { return };
        let listener = post.listener;
        let mut bytes = std::mem::take(&mut post.bytes);
        post.stage = PostStage::Answering;
        self.body_done(listener, bytes.len());
        let events = match self.parse_posted(&mut bytes) {
            Ok(events) => events,
            Err(detail) => return self.refuse_post(now, key, Refusal::BadRequest, 400, &detail, fx),
        };
        let Some(outcome) = self.take_posted(now, listener, events, bytes.len(), fx) else {
            let detail = "the stream of this member has ended";
            return self.refuse_post(now, key, Refusal::NoStream, 409, detail, fx);
        };
        let mut body = serde_json::json!({ "accepted": outcome.accepted, "client_seq": outcome.client_seq });
        if outcome.waiting > 0 {
            body["waiting"] = outcome.waiting.into();
        }
        if outcome.refused {
            let detail = "more was sent than the limits allow: what is not counted as accepted was not taken";
            let fields = body.as_object().cloned().unwrap_or_default();
            let answer = answer::problem_with(429, "Too Many Requests", detail, 1, fields);
            return self.say_last_post(now, key, answer, fx);
        }
        self.answer_post(
            now,
            key,
            |keep, origin, out| stream::json(&body.to_string(), keep, origin, out),
            fx,
        );
    }

    /// Answers a request well, and waits for the next where one may follow.
    pub(super) fn answer_post(
        &mut self,
        now: Micros,
        key: ConnKey,
        write: impl FnOnce(bool, Option<&str>, &mut Vec<u8>),
        fx: &mut Effects,
    ) {
        let room = self.posts.idle < self.config.limits.upgrades_in_flight_max && self.draining.is_none();
        let proxies = &self.config.proxies;
        let close = self.config.limits.close;
        let conn = self.conns.find_mut(key);
        let Some(Conn { phase: Phase::Post(post), .. }) = conn else { return };
        // What a proxy sends next may be somebody else's, who has to be found out anew. What a PROXY header or the file of a
        // socket said has not been kept.
        let known = post.via.is_none_or(|via| !proxies.protocol && proxies.trusted.contains(via));
        let keep = post.keep && room && known;
        let mut answer = Vec::new();
        write(keep, post.origin.as_deref(), &mut answer);
        if !keep {
            self.forget_post(key);
            let answer = self.pool.copy(&answer).seal_raw();
            return self.say_last(now, key, answer, fx);
        }
        (post.stage, post.deadline) = (PostStage::Answering, now + close);
        let answer = self.pool.copy(&answer).seal_raw();
        self.enqueue_raw(now, key, Message::control(answer, now, Shape::Whole));
        self.arm(now, key);
    }

    /// The lane of such a connection is empty: the answer has left, if it was that.
    pub(super) fn post_sent(&mut self, now: Micros, key: ConnKey, fx: &mut Effects) {
        // A node that drains waits for no other request.
        let until = if self.draining.is_some() { now } else { now + IDLE };
        let Some(Conn { phase: Phase::Post(post), .. }) = self.conn(key) else { return };
        if !matches!(post.stage, PostStage::Answering) {
            return;
        }
        (post.stage, post.deadline) = (PostStage::Idle, until);
        let mut rest = std::mem::take(&mut post.rest);
        self.head_done();
        self.posts.idle += 1;
        if rest.is_empty() {
            self.receive(key, ReceiveMode::Once, fx);
            self.arm(now, key);
        } else {
            self.next_request(now, key, &mut rest, fx);
        }
    }

    /// Another request begins.
    fn next_request(&mut self, now: Micros, key: ConnKey, bytes: &mut [u8], fx: &mut Effects) {
        let deadline = now + self.config.limits.head;
        let Some(Conn { phase, peer, .. }) = self.conn(key) else { return };
        let Phase::Post(post) = phase else { return };
        if let Some(via) = post.via {
            *peer = ::core::net::SocketAddr::new(via, 0).into();
        }
        *phase = Phase::Head(Box::new(Head {
            bytes: Vec::new(),
            deadline,
            address: Address::InHead,
            local: post.local,
            via: None,
            asked: Asked::Unknown,
            user: None,
            waits: None,
            origin: None,
        }));
        self.posts.idle -= 1;
        self.heads += 1;
        self.counters.heads += 1;
        self.arm(now, key);
        self.head_bytes(now, key, bytes, fx);
    }

    /// What such a connection holds is given back.
    pub(super) fn forget_post(&mut self, key: ConnKey) {
        let Some(Conn { phase: Phase::Post(post), .. }) = self.conn(key) else { return };
        let (listener, bytes) = (post.listener, post.bytes.len());
        match post.stage {
            PostStage::Idle => return self.posts.idle -= 1,
            PostStage::Body(_) => self.body_done(listener, bytes),
            PostStage::Answering => {}
        }
        self.head_done();
    }

    /// A body is read no more.
    fn body_done(&mut self, listener: ConnKey, bytes: usize) {
        self.posts.bytes -= bytes;
        if let Some(stream) = self.streams.get_mut(&listener) {
            stream.bodies.count -= 1;
            stream.bodies.bytes -= bytes;
        }
    }

    fn refuse_post(
        &mut self,
        now: Micros,
        key: ConnKey,
        refusal: Refusal,
        status: u16,
        detail: &str,
        fx: &mut Effects,
    ) {
        self.counters.refused[refusal as usize] += 1;
        self.note_refused_post(key, refusal, status, fx);
        let after_s = matches!(status, 429 | 503).then(|| self.come_back_in(1));
        self.say_last_post(now, key, problem(status, detail, after_s), fx);
    }

    fn say_last_post(&mut self, now: Micros, key: ConnKey, mut answer: Vec<u8>, fx: &mut Effects) {
        let Some(Conn { phase: Phase::Post(post), .. }) = self.conn(key) else { return };
        if let Some(origin) = post.origin.take() {
            stream::allow_origin_in(&mut answer, &origin);
        }
        self.forget_post(key);
        let answer = self.pool.copy(&answer).seal_raw();
        self.say_last(now, key, answer, fx);
    }

    pub(super) fn post_timeout(&mut self, now: Micros, key: ConnKey, fx: &mut Effects) {
        let Some(Conn { phase: Phase::Post(post), .. }) = self.conn(key) else { return };
        match post.stage {
            PostStage::Body(_) => {
                let detail = "the body did not arrive in time";
                self.refuse_post(now, key, Refusal::BodyTimeout, 408, detail, fx);
            }
            PostStage::Answering => self.cut_with(key, false, fx),
            PostStage::Idle => self.cut_with(key, true, fx),
        }
    }

    /// The node drains: who is between two requests need not wait for its end.
    pub(super) fn end_idle_posts(&mut self, now: Micros) {
        let idle =
            |conn: &Conn| matches!(&conn.phase, Phase::Post(post) if matches!(post.stage, PostStage::Idle));
        let keys = self.conns.iter().filter(|(_, conn)| idle(conn));
        let keys: Vec<ConnKey> =
            keys.map(|(index, conn)| ConnKey { index, generation: conn.generation }).collect();
        for key in keys {
            if let Some(Conn { phase: Phase::Post(post), .. }) = self.conn(key) {
                post.deadline = now;
                self.arm(now, key);
            }
        }
    }

    /// What waits with a stream for its turn goes with it.
    pub(super) fn forget_stream(&mut self, key: ConnKey) {
        if let Some(stream) = self.streams.remove(&key) {
            self.posts.bytes -= stream.uplink.bytes();
            self.counters.streams -= 1;
        }
    }
}

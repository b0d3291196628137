//! What is noted for the operator's audit log: once for whoever comes in, once for whoever is sent away, once for
//! whoever leaves. Where nobody asks for it (`ShardConfig::audit`), nothing is made.

use ::core::net::{IpAddr, SocketAddr};

use super::super::audit::{Asked, AuditRecord, By, Closed, Opened, Refused, Source};
use super::super::conn::{Conn, Head, Open, Phase, Seat};
use super::super::counters::{REFUSALS, Refusal};
use super::super::effect::Effect;
use super::super::gate::Pass;
use super::super::http::{Route, answer};
use super::super::ids::{ConnKey, ConnectionId};
use super::super::time::Micros;
use super::{Effects, Shard};

/// How an open WebSocket ends.
#[derive(Clone, Copy, Debug)]
pub(super) struct Ending<'a> {
    pub(super) code: u16,
    pub(super) reason: &'a str,
    pub(super) by: By,
}

impl Shard {
    /// Notes every connection that is still open: the shard leaves, and they end with it.
    pub fn note_cut(&self, now: Micros, fx: &mut Effects) {
        let ending = Ending { code: 1006, reason: "cut: the server ended", by: By::Server };
        for (index, conn) in self.conns.iter() {
            self.note_closed(now, ConnKey { index, generation: conn.generation }, ending, fx);
        }
    }

    /// The proxy between, if one has named the client. To be asked while the head is still there.
    pub(super) fn via(&self, key: ConnKey) -> Option<IpAddr> {
        self.head(key).and_then(|(_, head)| head.via)
    }

    /// Remembers what a request is for.
    pub(super) fn remember_route(&mut self, key: ConnKey, route: &Route) {
        if !self.config.audit {
            return;
        }
        let asked = match route {
            Route::Room(session) => Asked::Room(Some(session.clone())),
            Route::Realtime(session) => Asked::Room(session.clone()),
            Route::Sse(session) | Route::SsePost(session) => Asked::Room(Some(session.clone())),
            Route::BadSessionId => Asked::Room(None),
            Route::Echo => Asked::Echo,
            Route::Feed { .. } => Asked::Feed,
            Route::ControlPlane | Route::SseOptions | Route::SseWrongMethod => Asked::Unknown,
        };
        if let Some(Conn { phase: Phase::Head(head), .. }) = self.conn(key) {
            head.asked = asked;
        }
    }

    /// Remembers who asks.
    pub(super) fn remember_user(&mut self, key: ConnKey, pass: Option<&Pass>) {
        if let Some(pass) = pass.filter(|_| self.config.audit)
            && let Some(Conn { phase: Phase::Head(head), .. }) = self.conn(key)
        {
            head.user = Some(pass.sub.clone());
        }
    }

    pub(super) fn note_opened(&self, key: ConnKey, via: Option<IpAddr>, fx: &mut Effects) {
        if !self.config.audit {
            return;
        }
        let Some((conn, open)) = self.open_conn(key) else { return };
        let (asked, engine) = self.place(open);
        note(
            AuditRecord::Opened(Opened {
                connection: ConnectionId { shard: self.id, key },
                source: Source { client: conn.peer.into(), via },
                asked,
                user: user(open),
                subprotocol: open.subprotocol.name(),
                engine,
            }),
            fx,
        );
    }

    /// To be called while the head is still there.
    pub(super) fn note_refused(&self, key: ConnKey, refusal: Refusal, answer: &[u8], fx: &mut Effects) {
        self.note_sent_away(key, answer::status(answer), REFUSALS[refusal as usize], fx);
    }

    /// Nobody could be answered, because no TLS came about.
    pub(super) fn note_unsecured(&self, key: ConnKey, fx: &mut Effects) {
        self.note_sent_away(key, None, "tls_handshake", fx);
    }

    /// What was said for a member that hears a stream is not taken. To be called while the request is still there.
    pub(super) fn note_refused_post(&self, key: ConnKey, refusal: Refusal, status: u16, fx: &mut Effects) {
        self.note_sent_away(key, Some(status), REFUSALS[refusal as usize], fx);
    }

    fn note_sent_away(&self, key: ConnKey, status: Option<u16>, reason: &'static str, fx: &mut Effects) {
        if !self.config.audit {
            return;
        }
        let Some(conn) = self.conns.find(key) else { return };
        let (via, asked, user) = match &conn.phase {
            Phase::Head(head) => (head.via, head.asked.clone(), head.user.clone()),
            Phase::Post(post) => {
                let listener = self.open_conn(post.listener).map(|(_, open)| open);
                let asked = listener.map_or(Asked::Room(None), |open| self.place(open).0);
                (post.via, asked, listener.and_then(user))
            }
            _ => return,
        };
        let source = Source { client: conn.peer.into(), via };
        note(AuditRecord::Refused(Refused { source, status, reason, asked, user }), fx);
    }

    /// Of a peer that was not even listened to.
    pub(super) fn note_turned_away(&self, peer: SocketAddr, refusal: Refusal, fx: &mut Effects) {
        if self.config.audit {
            let source = Source { client: peer, via: None };
            let (status, reason) = (None, REFUSALS[refusal as usize]);
            note(
                AuditRecord::Refused(Refused { source, status, reason, asked: Asked::Unknown, user: None }),
                fx,
            );
        }
    }

    /// To be called while it is still open.
    pub(super) fn note_closed(&self, now: Micros, key: ConnKey, ending: Ending<'_>, fx: &mut Effects) {
        if !self.config.audit {
            return;
        }
        let Some((conn, open)) = self.open_conn(key) else { return };
        let Ending { code, reason, by } = ending;
        note(
            AuditRecord::Closed(Closed {
                connection: ConnectionId { shard: self.id, key },
                client: conn.peer.into(),
                asked: self.place(open).0,
                user: user(open),
                code,
                reason: reason.into(),
                by,
                lasted: now.since(open.since),
                dropped: conn.lane.dropped(),
            }),
            fx,
        );
    }

    fn head(&self, key: ConnKey) -> Option<(&Conn, &Head)> {
        let conn = self.conns.find(key)?;
        let Phase::Head(head) = &conn.phase else { return None };
        Some((conn, head))
    }

    /// What an open connection is for, and what answers there.
    fn place(&self, open: &Open) -> (Asked, Option<&'static str>) {
        let key = match open.seat {
            Seat::Member(key, _) => key,
            Seat::Echo => return (Asked::Echo, None),
            Seat::Feed => return (Asked::Feed, None),
        };
        let room = self.rooms.find(key);
        room.map_or((Asked::Room(None), None), |room| {
            (Asked::Room(Some(room.session_id.clone())), Some(room.kind.name()))
        })
    }
}

fn user(open: &Open) -> Option<Box<str>> {
    open.identity.as_ref().map(|identity| identity.sub.clone())
}

fn note(record: AuditRecord, fx: &mut Effects) {
    fx.push(Effect::Audit(Box::new(record)));
}

//! Answers to the control plane.

use super::super::conn::Phase;
use super::super::counters::Counters;
use super::super::engine::Audience;
use super::super::event::ServerEvent;
use super::super::ids::{ConnKey, ConnectionId, MemberNumber, RoomKey, SessionId};
use super::super::message::{
    Answer, AskId, MemberDetail, Query, RoomDetail, RoomPost, RoomSummary, RoomsQuery, RoomsSort,
};
use super::super::report::RoomEnd;
use super::super::room::Room;
use super::super::time::Micros;
use super::{Effects, Shard};

impl Shard {
    pub(super) fn answer(&mut self, now: Micros, id: AskId, query: Query, fx: &mut Effects) -> Answer {
        match query {
            Query::Counters => Answer::Counters(Box::new(self.counted())),
            Query::Rooms(query) => Answer::Rooms(self.list_rooms(now, query)),
            Query::Room(session) => Answer::Room(self.room_detail(now, &session).map(Box::new)),
            Query::Send(session, post) => Answer::Sent(self.post(now, &session, post)),
            Query::CloseRoom(session) => Answer::RoomClosed(self.close_room(now, &session, fx)),
            Query::CloseConnection(key, code, reason) => {
                let open = matches!(self.conn(key).map(|conn| &conn.phase), Some(Phase::Open(_)));
                self.close(now, key, code, &reason, fx);
                Answer::ConnectionClosed(open)
            }
            Query::DisconnectUser(sub) => Answer::UserDisconnected(self.disconnect_user(now, &sub, fx)),
            Query::Publish(publication) => {
                let published = self.publish_asked(now, id, *publication);
                // Whoever hears that it failed finds the letter.
                self.send_letters(fx);
                Answer::Published(published)
            }
            #[cfg(debug_assertions)]
            Query::Fault(fault) => fault.panic(),
        }
    }

    /// The counters, with what is only known by looking.
    fn counted(&self) -> Counters {
        let mut counters = self.counters.clone();
        counters.blocks_allocated = self.pool.allocated();
        counters.reports_waiting = self.reports.len() as u64;
        self.count_channels(&mut counters.channels);
        counters.timers = self.wheel.len() as u64;
        counters.store.untold_since = self.untold_since();
        counters.shedding = self.shedding();
        self.upstreams.count_lanes(&mut counters.upstreams);
        counters.state_bytes = (self.conns.bytes() + self.rooms.bytes()) as u64;
        counters
    }

    fn list_rooms(&self, now: Micros, query: RoomsQuery) -> Vec<RoomSummary> {
        let mut rooms: Vec<RoomSummary> =
            self.rooms.iter().map(|(_, room)| self.summary(now, room)).collect();
        match query.sort {
            RoomsSort::Id => rooms.sort_unstable_by(|a, b| a.id.as_str().cmp(b.id.as_str())),
            RoomsSort::Members => rooms.sort_unstable_by_key(|room| std::cmp::Reverse(room.members)),
            RoomsSort::Queued => rooms.sort_unstable_by_key(|room| std::cmp::Reverse(room.queued_bytes)),
            RoomsSort::Age => rooms.sort_unstable_by_key(|room| std::cmp::Reverse(room.age_ms)),
            RoomsSort::Frames => rooms.sort_unstable_by_key(|room| std::cmp::Reverse(room.frames_received)),
        }
        rooms.truncate(query.limit);
        rooms
    }

    fn summary(&self, now: Micros, room: &Room) -> RoomSummary {
        let lanes = room.members.iter().filter_map(|member| self.open_conn(member.conn));
        RoomSummary {
            id: room.session_id.clone(),
            shard: self.id,
            engine: room.kind.name(),
            members: room.members.len(),
            age_ms: now.since(room.since).as_ms(),
            frames_received: room.frames_received,
            frames_sent: room.frames_sent,
            queued_bytes: lanes.map(|(conn, _)| conn.lane.bytes() as u64).sum(),
            engine_started: room.engine.is_some(),
            lingering: room.ends_at.0 > 0,
        }
    }

    fn room_detail(&self, now: Micros, session: &SessionId) -> Option<RoomDetail> {
        let room = self.rooms.get(self.find_room(session)?.index)?;
        let member = |number: MemberNumber, key: ConnKey| {
            let (conn, open) = self.open_conn(key)?;
            let identity = open.identity.as_ref();
            Some(MemberDetail {
                id: ConnectionId { shard: self.id, key },
                member: number,
                user: identity.map(|identity| identity.sub.clone()),
                channels: identity.map(|identity| identity.channels.clone()).unwrap_or_default(),
                subprotocol: open.subprotocol.name().unwrap_or("none"),
                peer: conn.peer.into(),
                connected_ms: now.since(open.since).as_ms(),
                queued_messages: conn.lane.len(),
                queued_bytes: conn.lane.bytes(),
                dropped: conn.lane.dropped(),
            })
        };
        let connections = room.members.iter().filter_map(|at| member(at.number, at.conn)).collect();
        Some(RoomDetail { summary: self.summary(now, room), seq: room.seq, connections })
    }

    fn post(&mut self, now: Micros, session: &SessionId, post: RoomPost) -> Option<usize> {
        let key = self.find_room(session)?;
        let room = self.room(key)?;
        let audience = post.to.map_or(Audience::All, Audience::One);
        let concerned = match post.to {
            None => room.members.len(),
            Some(to) => room.members.iter().filter(|member| member.number == to).count(),
        };
        let event = ServerEvent::RoomMessage { from: MemberNumber(0), data: post.data };
        self.tell_room(now, key, audience, &event, 0);
        Some(concerned)
    }

    fn close_room(&mut self, now: Micros, session: &SessionId, fx: &mut Effects) -> Option<usize> {
        let key: RoomKey = self.find_room(session)?;
        let members: Vec<ConnKey> = self.room(key)?.members.iter().map(|member| member.conn).collect();
        if let Some(record) = self.room(key)?.kept.as_mut().and_then(|kept| kept.record.as_mut()) {
            record.closed = true;
        }
        for &conn in &members {
            self.close(now, conn, 1000, "the room was closed", fx);
        }
        // Its members have left it with their goodbyes: nobody has to wait for it.
        if self.room(key).is_some() {
            self.end_room(now, key, RoomEnd::Closed);
        }
        Some(members.len())
    }
}

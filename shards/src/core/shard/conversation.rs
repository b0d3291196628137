//! What members say to their room: audio for the engine, and commands.

use smallvec::SmallVec;

use super::super::conn::{Conn, Open, Phase};
use super::super::engine::{EngineInput, EngineKind};
use super::super::event::{
    ClientCommand, ClientError, ClientEvent, ServerEvent, SessionUpdate, merge_extras,
};
use super::super::ids::{ConnKey, MemberNumber, RoomKey};
use super::super::room::Room;
use super::super::time::Micros;
use super::super::upstream_conn::Known;
use super::Shard;

/// Longest `state` of a room: a reading position and the like, not a document.
const STATE_BYTES_MAX: usize = 8_192;

impl Shard {
    /// Audio goes into the room's inbound queue; the engine takes it at the end of the turn.
    pub(super) fn audio_in(&mut self, now: Micros, key: RoomKey, member: MemberNumber, payload: &[u8]) {
        let full = self.config.audio.inbound_frames_max;
        if self.room(key).is_some_and(|room| room.inbound.len() >= full) {
            // One receive may bring more frames than the queue holds. The engine is no other thread that has to be
            // waited for: it takes them now, in order, and nothing is lost.
            self.run_engine(now, key);
        }
        let draft = self.pool.copy(payload);
        let Some(room) = self.rooms.find_mut(key) else {
            return self.pool.discard(draft);
        };
        room.frames_received += 1;
        if room.inbound.len() == 0 {
            self.runnable.push(key);
        }
        self.arrivals.push(&mut room.inbound, member, draft);
        self.counters.inbound_queued += 1;
    }

    /// One event of a member.
    pub(super) fn command(
        &mut self,
        now: Micros,
        key: ConnKey,
        room: RoomKey,
        member: MemberNumber,
        event: ClientEvent,
    ) {
        let ClientEvent { event_id, command, .. } = event;
        match command {
            ClientCommand::Append => {
                let audio = std::mem::take(&mut self.scratch.audio);
                self.audio_in(now, room, member, &audio);
                self.scratch.audio = audio;
            }
            ClientCommand::Ping { t } => self.tell(now, key, &ServerEvent::Pong { t }),
            ClientCommand::RoomSend { data, to } => {
                if let Err(error) = self.room_send(now, room, member, data, to) {
                    self.client_error(now, key, error.about(event_id));
                }
            }
            ClientCommand::SessionUpdate(update) => {
                // What was said before the update is heard under the settings of before.
                self.run_engine(now, room);
                if let Err(error) = self.session_update(now, key, room, member, event_id.clone(), *update) {
                    self.client_error(now, key, error.about(event_id));
                }
            }
            ClientCommand::Channel(wish) => {
                if let Err(error) = self.channel_wish(now, key, event_id.as_deref(), *wish) {
                    self.client_error(now, key, error.about(event_id));
                }
            }
            command => {
                self.meter_command(now, room, &command);
                self.drive_engine(now, room, Some(EngineInput::Command { from: member, event_id, command }));
            }
        }
    }

    /// The connection stays; the client is told.
    pub(super) fn client_error(&mut self, now: Micros, key: ConnKey, error: ClientError) {
        self.counters.client_errors += 1;
        self.tell(now, key, &ServerEvent::from(error));
    }

    fn room_send(
        &mut self,
        now: Micros,
        key: RoomKey,
        from: MemberNumber,
        data: Box<str>,
        to: Option<MemberNumber>,
    ) -> Result<(), ClientError> {
        use super::super::engine::Audience;
        let Some(room) = self.room(key) else { return Ok(()) };
        let audience = match to {
            None => Audience::AllBut(from),
            Some(to) if room.members.iter().any(|member| member.number == to) => Audience::One(to),
            Some(to) => {
                return Err(ClientError::invalid_value(
                    "to",
                    format!("Member {} is not in this room.", to.0),
                ));
            }
        };
        self.tell_room(now, key, audience, &ServerEvent::RoomMessage { from, data }, 0);
        Ok(())
    }

    /// Token, settings and state are taken together or not at all.
    fn session_update(
        &mut self,
        now: Micros,
        conn: ConnKey,
        key: RoomKey,
        member: MemberNumber,
        event_id: Option<Box<str>>,
        mut update: SessionUpdate,
    ) -> Result<(), ClientError> {
        if update.after.is_some() {
            self.may_recover(conn)?;
        }
        let (token, after) = (update.token.take(), update.after.take());
        let pass = token.map(|token| self.fresh_pass_of_member(conn, key, &token)).transpose()?;
        if update.session.is_some() || update.state.is_some() {
            self.change_session(now, conn, key, member, event_id, update)?;
        }
        if let Some(pass) = pass {
            self.refresh(now, conn, key, member, pass);
        }
        if let Some(after) = after {
            self.restore(now, conn, key, member, Ok(after));
        }
        Ok(())
    }

    fn change_session(
        &mut self,
        now: Micros,
        conn: ConnKey,
        key: RoomKey,
        member: MemberNumber,
        event_id: Option<Box<str>>,
        update: SessionUpdate,
    ) -> Result<(), ClientError> {
        if let Some(engine) = update.session.as_ref().and_then(|patch| patch.engine) {
            self.may_choose(conn, engine)?;
            self.has_engine(engine)
                .map_err(|message| ClientError::invalid_value("session.engine", message))?;
        }
        let Some(room) = self.room(key) else { return Ok(()) };
        let merged = match &update.state {
            Some(patch) => Some(merge_state(room.state(), patch)?),
            None => None,
        };
        let extras = match &update.extras {
            Some(patch) => {
                let before = room.kept.as_ref().and_then(|kept| kept.extras.as_deref());
                Some(merge_extras(before, patch)?)
            }
            None => None,
        };
        let mut settings = room.settings;
        let mut lines = SmallVec::new();
        if let Some(patch) = &update.session {
            let changes = settings.apply(patch)?;
            if let Some(kind) = changes.engine.filter(|&kind| kind != room.kind) {
                lines = change_engine(room, kind)?;
            }
            room.settings = settings;
        }
        if merged.is_some() {
            room.kept.get_or_insert_default().state = merged;
        }
        if let Some(extras) = extras {
            room.kept.get_or_insert_default().extras = extras;
        }
        let started = room.engine.is_some();
        self.changed(key);
        self.forget_lines(lines);
        if started && update.session.is_some() {
            let command = ClientCommand::SessionUpdate(Box::new(update));
            self.drive_engine(now, key, Some(EngineInput::Command { from: member, event_id, command }));
        }
        self.tell_session_updated(now, key);
        Ok(())
    }

    /// Everyone in the room learns of the new settings, each with its own view.
    fn tell_session_updated(&mut self, now: Micros, key: RoomKey) {
        let Some(room) = self.room(key) else { return };
        for member in room.members.clone() {
            if let Some(view) = self.session_view(key, member) {
                self.tell(now, member.conn, &ServerEvent::SessionUpdated(Box::new(view)));
            }
        }
    }

    /// The connection, if it is open.
    pub(super) fn open_conn(&self, key: ConnKey) -> Option<(&Conn, &Open)> {
        let conn = self.conns.find(key)?;
        match &conn.phase {
            Phase::Open(open) => Some((conn, open)),
            _ => None,
        }
    }
}

/// An engine may be chosen as long as it has not begun to answer. Gives the upstream sessions of the one before.
fn change_engine(room: &mut Room, kind: EngineKind) -> Result<SmallVec<[Known; 2]>, ClientError> {
    if room.engine.as_ref().is_some_and(|engine| engine.busy()) {
        let message = "The engine can't be changed while it answers.";
        return Err(ClientError::invalid_value("session.engine", message));
    }
    room.kind = kind;
    room.engine = None;
    Ok(room.kept.as_mut().map(|kept| std::mem::take(&mut kept.lines)).unwrap_or_default())
}

/// Merges a JSON object into the room's state, member by member; `null` takes a member away (RFC 7396 at the first
/// level).
fn merge_state(state: Option<&str>, patch: &str) -> Result<Box<str>, ClientError> {
    use serde_json::{Map, Value};
    let bad = || ClientError::invalid_value("state", "state has to be a JSON object.");
    let patch: Map<String, Value> = serde_json::from_str(patch).map_err(|_| bad())?;
    let mut merged: Map<String, Value> =
        state.map(serde_json::from_str).transpose().map_err(|_| bad())?.unwrap_or_default();
    for (key, value) in patch {
        if value.is_null() {
            merged.remove(&key);
        } else {
            merged.insert(key, value);
        }
    }
    let text = Value::Object(merged).to_string();
    if text.len() > STATE_BYTES_MAX {
        let message =
            format!("The room's state would have {} bytes; at most {STATE_BYTES_MAX} are kept.", text.len());
        return Err(ClientError::invalid_value("state", message));
    }
    Ok(text.into())
}

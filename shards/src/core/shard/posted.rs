//! The events that members post who hear a stream: whose they are, and in which order they are taken.

use smallvec::SmallVec;

use super::super::conn::{Open, Seat};
use super::super::counters::Refusal;
use super::super::event::{self, ClientCommand, ClientError, ClientEvent};
use super::super::gate::Pass;
use super::super::http::Request;
use super::super::ids::{ConnKey, ConnectionId, SessionId};
use super::super::time::Micros;
use super::super::uplink::{Offer, Posted};
use super::door::{Refused, refused};
use super::heads::problem;
use super::{Effects, Shard};

/// Most events of one body.
const EVENTS_MAX: usize = 1_000;

/// What became of a body.
pub(super) struct Outcome {
    /// Events that need not be sent again.
    pub(super) accepted: usize,
    /// Events that wait for earlier ones. They go with their stream: with it they have to be sent again.
    pub(super) waiting: usize,
    /// The number of the last one that was taken, of those with numbers.
    pub(super) client_seq: u64,
    /// Whether the others were refused.
    pub(super) refused: bool,
}

impl Shard {
    /// Where the sender of a request listens: the stream that it names, or the only one that can be meant.
    ///
    /// # Errors
    /// With 403, 404, 409 or 503.
    pub(super) fn listener_of(
        &mut self,
        request: &Request<'_>,
        session: &SessionId,
        pass: Option<&Pass>,
    ) -> Result<ConnKey, Refused> {
        let room = self.find_room(session).and_then(|key| self.rooms.find(key));
        let room = room.ok_or_else(|| (Refusal::NoRoom, problem(404, "there is no such room", None)))?;
        if let Some(pass) = pass {
            pass.admits(session, room.kind).map_err(refused)?;
        }
        let theirs = |open: &Open| {
            let sub = open.identity.as_ref().map(|identity| &*identity.sub);
            open.subprotocol.is_stream() && sub == pass.map(|pass| &*pass.sub)
        };
        let members = room.members.iter().map(|member| member.conn);
        let streams = members.filter(|&key| self.open_conn(key).is_some_and(|(_, open)| theirs(open)));
        let streams: SmallVec<[ConnKey; 4]> = streams.collect();
        let none = |detail: &str| (Refusal::NoStream, problem(409, detail, None));
        let named = request.query_pairs().find(|(name, _)| matches!(&**name, "id" | "resume"));
        let listener = match (named, &streams[..]) {
            (Some((name, value)), streams) => {
                let key = if name == "id" {
                    let id: Option<ConnectionId> = value.parse().ok();
                    id.filter(|id| id.shard == self.id).map(|id| id.key)
                } else {
                    let number = self.bearer_of(&value, session, pass);
                    let seat = room.members.iter().find(|member| Some(member.number) == number);
                    seat.map(|member| member.conn)
                };
                let key = key.filter(|key| streams.contains(key));
                key.ok_or_else(|| none("that names no stream of yours in this room"))
            }
            (None, []) => Err(none("you hear no stream of this room: open it first, with GET")),
            (None, &[only]) => Ok(only),
            (None, _) => Err(none("this room has several streams: say with id or resume whose this is")),
        }?;
        let lane = &self.open_conn(listener).ok_or_else(|| none("the stream has ended"))?.0.lane;
        if lane.half_full_of_answers(&self.config.outbox) {
            let after_s = Some(self.come_back_in(1));
            return Err((Refusal::Unavailable, problem(503, "your stream is too far behind", after_s)));
        }
        Ok(listener)
    }

    /// The events of a body.
    ///
    /// # Errors
    /// With a sentence, when any of it is not JSON; nothing is taken then.
    pub(super) fn parse_posted(&mut self, body: &mut [u8]) -> Result<Vec<(Option<u64>, Posted)>, String> {
        let mut events = Vec::new();
        for range in event::split(body, EVENTS_MAX)? {
            let text = &mut body[range];
            let bytes = text.len();
            let mut event = event::parse(text, self.config.limits.json_depth_max, &mut self.scratch);
            if let Err(error) = &event
                && error.code == "invalid_json"
            {
                return Err(format!("event {} of the body: {}", events.len() + 1, error.message));
            }
            let mut seq = event.as_ref().map_or_else(|error| error.client_seq, |event| event.client_seq);
            if seq == Some(0) {
                let wrong = ClientError::invalid_value("client_seq", "client_seq counts from 1.");
                event = event.and_then(|event| Err(wrong.about(event.event_id)));
                seq = None;
            }
            let audio = match &event {
                Ok(ClientEvent { command: ClientCommand::Append, .. }) => {
                    std::mem::take(&mut self.scratch.audio)
                }
                _ => Vec::new(),
            };
            events.push((seq, Posted { event, audio, bytes }));
        }
        Ok(events)
    }

    /// Takes what a member has posted: what has its turn at once, the rest when that comes. Nothing when the member has
    /// gone.
    pub(super) fn take_posted(
        &mut self,
        now: Micros,
        key: ConnKey,
        events: Vec<(Option<u64>, Posted)>,
        bytes: usize,
        fx: &mut Effects,
    ) -> Option<Outcome> {
        self.streams.get(&key)?;
        let conn = self.conn(key)?;
        conn.allowance.pass(now.since(conn.heard));
        conn.heard = now;
        self.charge_bytes(key, bytes);
        self.counters.texts_received += 1;
        let bytes_max = self.config.limits.message_bytes_max;
        let (mut handled, mut refused) = (0, false);
        let mut early: SmallVec<[u64; 8]> = SmallVec::new();
        for (seq, posted) in events {
            if !self.affords(now, key, fx) {
                refused = true;
                break;
            }
            // It may have ended with what was said before.
            let Some(stream) = self.streams.get_mut(&key) else { break };
            let bytes = posted.bytes;
            let offer = match seq {
                None => Offer::Now(posted),
                Some(seq) => stream.uplink.offer(now, seq, posted, bytes_max),
            };
            match offer {
                Offer::Now(posted) => {
                    self.say_posted(now, key, posted);
                    self.say_waiting(now, key);
                }
                Offer::Waits => {
                    self.posts.bytes += bytes;
                    early.extend(seq);
                }
                Offer::WaitsAlready => early.extend(seq),
                Offer::Duplicate => {}
                Offer::Full => {
                    refused = true;
                    break;
                }
            }
            handled += 1;
        }
        self.arm(now, key);
        let client_seq = self.streams.get_mut(&key).map_or(0, |stream| stream.uplink.taken);
        // Its turn may have come with what stood behind it.
        let waiting = early.iter().filter(|&&seq| seq > client_seq).count();
        Some(Outcome { accepted: handled - waiting, waiting, client_seq, refused })
    }

    fn say_posted(&mut self, now: Micros, key: ConnKey, posted: Posted) {
        let Some((_, &Open { seat: Seat::Member(room, member), .. })) = self.open_conn(key) else { return };
        // It is the member's own from now on, also over another connection.
        let number = posted.event.as_ref().map_or_else(|error| error.client_seq, |event| event.client_seq);
        if self.is_repeated(room, member, number.filter(|&number| number > 0)) {
            return;
        }
        match posted.event {
            Ok(event) => {
                self.scratch.audio = posted.audio;
                self.command(now, key, room, member, event);
            }
            Err(error) => self.client_error(now, key, error),
        }
    }

    /// What waited for what has come now.
    fn say_waiting(&mut self, now: Micros, key: ConnKey) {
        while let Some(posted) = self.streams.get_mut(&key).and_then(|stream| stream.uplink.next(now)) {
            self.posts.bytes -= posted.bytes;
            self.say_posted(now, key, posted);
        }
    }

    /// What is missing has not come in time: the member is told, and what waits is taken.
    pub(super) fn give_up_gap(&mut self, now: Micros, key: ConnKey) {
        let Some((first, last)) = self.streams.get_mut(&key).and_then(|stream| stream.uplink.skip()) else {
            return;
        };
        let missing =
            if first == last { format!("Event {first}") } else { format!("Events {first} to {last}") };
        let message = format!("{missing} did not come in time: what came behind is taken, and that is not.");
        self.client_error(now, key, ClientError::new("client_seq_gap", message));
        self.say_waiting(now, key);
    }
}

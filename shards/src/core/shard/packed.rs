//! What arrives from clients of `voxhall.v1.msgpack`: binary messages behind a header, with audio or with events.

use super::super::conn::Seat;
use super::super::event::{self, ClientError, MsgpackBounds};
use super::super::frame::{BinaryHeader, KIND_AUDIO, KIND_EVENTS};
use super::super::ids::ConnKey;
use super::super::time::Micros;
use super::{Effects, Shard};

/// How much longer an event may be as JSON than a message may be. What is long is audio, and base64 adds a third to it.
const JSON_FACTOR: usize = 2;

/// Bytes of an event as JSON that are kept for the next one.
const KEPT_MAX: usize = 64 * 1_024;

impl Shard {
    /// One message of such a client.
    pub(super) fn msgpack_in(
        &mut self,
        now: Micros,
        key: ConnKey,
        seat: Seat,
        message: &mut [u8],
        fx: &mut Effects,
    ) {
        match BinaryHeader::split(message) {
            Some((header, audio)) if header.kind == KIND_AUDIO => {
                if !self.affords(now, key, fx) {
                    return;
                }
                match seat {
                    Seat::Member(room, member) => {
                        self.counters.frames_received += 1;
                        self.audio_in(now, room, member, audio);
                    }
                    _ => self.deaf(now, key, None),
                }
            }
            Some((header, events)) if header.kind == KIND_EVENTS => {
                self.counters.texts_received += 1;
                self.msgpack_events(now, key, seat, events, fx);
            }
            header => {
                if !self.affords(now, key, fx) {
                    return;
                }
                let what = match header {
                    Some((header, _)) => format!("Messages of kind {} are not known here", header.kind),
                    None => "A binary message begins with a header of eight bytes".to_owned(),
                };
                let message = format!("{what}: the kind is 1 for audio and 2 for events.");
                self.client_error(now, key, ClientError::new("invalid_binary_header", message));
            }
        }
    }

    /// One event behind the other. What can't be read ends the message: nobody knows where the next one would begin.
    fn msgpack_events(&mut self, now: Micros, key: ConnKey, seat: Seat, mut events: &[u8], fx: &mut Effects) {
        let limits = &self.config.limits;
        let bounds = MsgpackBounds {
            depth_max: limits.json_depth_max,
            json_bytes_max: limits.message_bytes_max.saturating_mul(JSON_FACTOR),
        };
        loop {
            // An empty message has no event, which is an error as well.
            let affords = self.affords(now, key, fx);
            let mut json = std::mem::take(&mut self.packed);
            json.clear();
            json.shrink_to(KEPT_MAX);
            let found = event::json_of(&mut events, bounds, &mut json);
            if affords {
                match found {
                    Ok(()) => self.event_in(now, key, seat, &mut json),
                    Err(ref error) => self.client_error(now, key, error.clone()),
                }
            }
            self.packed = json;
            let ended = self.overflowed.contains(&key) || self.open_conn(key).is_none();
            if ended || found.is_err() || events.is_empty() {
                return;
            }
        }
    }
}

//! Members that hear their events as a stream over plain HTTP (PROTOCOL 2): how it begins, what an event looks like there, and
//! how it ends.
//!
//! An event is `id:` with its number, where it has one, and `data:` with its JSON on one line. It is framed once and shared by
//! every lane, as a chunk for HTTP/1.1 and without one for HTTP/1.0. A comment goes out every [`PING`], since nothing that is said here is
//! answered: a client that has gone is noticed by the kernel, and by `outbox.slow_client_ms` once its lane is blocked.

use super::super::conn::{Seat, Subprotocol, Terms};
use super::super::frame::{Draft, Frame};
use super::super::http::{Request, stream};
use super::super::ids::ConnKey;
use super::super::origin;
use super::super::outbox::{Message, Shape};
use super::super::time::Micros;
use super::super::uplink::Stream;
use super::{Effects, Shard};

/// How long a stream is silent at most (PROTOCOL 2).
pub(super) const PING: Micros = Micros::from_s(15);

/// A browser waits so long before it comes back, and up to as long again: those who were sent away together should not come
/// back together.
const RETRY_MS: u64 = 1_000;
/// And so long when it was sent away for good.
const RETRY_UNWANTED_MS: u64 = 60_000;

const DATA: &[u8] = b"data: ";
const EVENT_END: &[u8] = b"\n\n";
const LINE_END: &[u8] = b"\r\n";

impl Shard {
    /// What is agreed on with one who asks for a stream, and the head that begins it.
    pub(super) fn agree_on_stream(&mut self, request: &Request<'_>) -> (Terms, Vec<u8>) {
        let chunked = request.minor_version >= 1;
        let mut answer = Vec::new();
        stream::event_stream(chunked, origin::named(request), &mut answer);
        (Terms { subprotocol: Subprotocol::Sse { chunked }, deflate: None }, answer)
    }

    /// Puts the first lines of a stream behind its head: of the block that the welcome ends, since some readers take a block
    /// without data for an event. `after` is the number behind which the stream goes on: a browser that comes back names it,
    /// or that of a later event. Nothing where that is said later.
    pub(super) fn begin_stream(&mut self, chunked: bool, after: Option<u64>, answer: &mut Vec<u8>) {
        let retry = RETRY_MS + self.rng.below(RETRY_MS);
        let id = after.map_or(String::new(), |seq| format!("id: {seq}\n"));
        let begin = self.stream_text(format!("retry: {retry}\n{id}").as_bytes(), chunked);
        answer.extend_from_slice(begin.wire());
        self.pool.recycle(begin);
    }

    /// The last number that a member has given an event of its own.
    pub(super) fn client_seq_of(&self, seat: Seat) -> u64 {
        let Seat::Member(room, member) = seat else { return 0 };
        let past = self.rooms.find(room).and_then(|room| room.past());
        past.and_then(|past| past.client_seq(member)).unwrap_or(0)
    }

    /// An event of a stream, made of its JSON.
    pub(super) fn stream_event(&mut self, json: &[u8], seq: Option<u64>, chunked: bool) -> Frame {
        // The end of a line would end the field. Outside of strings it is mere space, and inside it is none.
        let is_end = |byte: &u8| matches!(byte, b'\n' | b'\r');
        let ends = memchr::memchr2_iter(b'\n', b'\r', json).count();
        let mut draft = self.stream_draft(json.len() - ends, seq, chunked);
        for piece in json.split(is_end) {
            draft.extend(&mut self.pool, piece);
        }
        self.stream_seal(draft, chunked)
    }

    /// An event whose data of so many bytes is still to be written.
    pub(super) fn stream_draft(&mut self, data: usize, seq: Option<u64>, chunked: bool) -> Draft {
        let mut digits = [0; 20];
        let id: &[u8] = seq.map_or(b"", |seq| written(seq, 10, &mut digits));
        let id_len = if id.is_empty() { 0 } else { b"id: \n".len() + id.len() };
        let len = id_len + DATA.len() + data + EVENT_END.len();
        let mut draft = self.pool.draft(len + 2 * LINE_END.len() + 16);
        if chunked {
            draft.extend(&mut self.pool, written(len as u64, 16, &mut [0; 20]));
            draft.extend(&mut self.pool, LINE_END);
        }
        if !id.is_empty() {
            draft.extend(&mut self.pool, b"id: ");
            draft.extend(&mut self.pool, id);
            draft.extend(&mut self.pool, b"\n");
        }
        draft.extend(&mut self.pool, DATA);
        draft
    }

    /// The same when its data has been written.
    pub(super) fn stream_seal(&mut self, mut draft: Draft, chunked: bool) -> Frame {
        draft.extend(&mut self.pool, EVENT_END);
        if chunked {
            draft.extend(&mut self.pool, LINE_END);
        }
        draft.seal_raw()
    }

    /// Text of a stream that is no event of the room.
    pub(super) fn stream_text(&mut self, text: &[u8], chunked: bool) -> Frame {
        let mut draft = self.pool.draft(text.len() + 2 * LINE_END.len() + 16);
        if chunked {
            draft.extend(&mut self.pool, written(text.len() as u64, 16, &mut [0; 20]));
            draft.extend(&mut self.pool, LINE_END);
        }
        draft.extend(&mut self.pool, text);
        if chunked {
            draft.extend(&mut self.pool, LINE_END);
        }
        draft.seal_raw()
    }

    /// The last event of a stream says what a close frame would, and then the body ends.
    pub(super) fn stream_end(&mut self, code: u16, reason: &str, chunked: bool) -> Frame {
        let reason = serde_json::to_string(reason).unwrap_or_default();
        // Who is not wanted should not be back at once, as a browser would by itself.
        let retry =
            if matches!(code, 1000 | 1008) { format!("retry: {RETRY_UNWANTED_MS}\n") } else { String::new() };
        let text = format!("{retry}event: close\ndata: {{\"code\":{code},\"reason\":{reason}}}\n\n");
        let last = self.stream_text(text.as_bytes(), chunked);
        if !chunked {
            return last;
        }
        let mut draft = self.pool.copy(last.wire());
        self.pool.recycle(last);
        draft.extend(&mut self.pool, b"0\r\n\r\n");
        draft.seal_raw()
    }

    /// A stream's own deadlines: when its next comment is due, or a gap in what its member posts is given up.
    pub(super) fn stream_due(stream: &Stream) -> Micros {
        let ping = stream.pinged + PING;
        stream.uplink.deadline().map_or(ping, |gap| gap.min(ping))
    }

    /// One of them may have come.
    pub(super) fn stream_timer(&mut self, now: Micros, key: ConnKey) {
        let idle = self.conn(key).is_some_and(|conn| conn.lane.is_empty());
        let Some(stream) = self.streams.get_mut(&key) else { return };
        let chunked = stream.chunked;
        let gap = stream.uplink.deadline().is_some_and(|at| at <= now);
        if stream.pinged + PING <= now {
            stream.pinged = now;
            // What waits to be taken is sign of life enough.
            if idle {
                let ping = self.stream_text(b": ping\n", chunked);
                self.enqueue(key, Message::control(ping, now, Shape::Whole), None);
            }
        }
        if gap {
            self.give_up_gap(now, key);
        }
    }

    /// What a client sends on the connection of its stream is no request, since its answer has no end: it ends the stream. Empty
    /// lines are passed over, as in front of a request (RFC 9112 section 2.2).
    pub(super) fn stray_bytes(&mut self, now: Micros, key: ConnKey, bytes: &[u8], fx: &mut Effects) {
        if bytes.iter().any(|byte| !matches!(byte, b'\r' | b'\n')) {
            self.fail(now, key, 1002, "nothing may follow the request for a stream", fx);
        }
    }
}

/// A number in digits of this base.
fn written(mut number: u64, base: u64, digits: &mut [u8; 20]) -> &[u8] {
    let mut at = digits.len();
    loop {
        at -= 1;
        digits[at] = b"0123456789abcdef"[(number % base) as usize];
        number /= base;
        if number == 0 {
            return &digits[at..];
        }
    }
}

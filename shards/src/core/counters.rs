//! What a shard counts. Plain numbers in the shard's own memory: the control plane asks for a copy, so that
//! counting costs an addition and nothing is shared between cores.

mod history;
mod store;
mod upstreams;

pub use history::{HistoryCounters, UNRECOVERED, Unrecovered};
pub use store::StoreCounters;
pub use upstreams::{CONNECT_BOUNDS_US, UPSTREAM_ENDS, UpstreamCounters};
pub(super) use upstreams::{HUNG_UP, end_of};

use super::channel::ChannelCounters;
use super::usage::ResponseCounters;

/// Upper bounds of `ws_outbox_batch_size`.
pub const BATCH_SIZE_BOUNDS: [u64; 7] = [1, 2, 5, 10, 20, 50, 100];
/// Upper bounds of `ws_outbox_send_latency_seconds`, in microseconds.
pub const SEND_LATENCY_BOUNDS_US: [u64; 7] = [1_000, 5_000, 10_000, 25_000, 50_000, 100_000, 250_000];
/// Upper bounds of `voxhall_turn_seconds`, in microseconds.
pub const TURN_BOUNDS_US: [u64; 8] = [50, 100, 250, 500, 1_000, 2_500, 10_000, 50_000];

/// A histogram with fixed bounds, in the unit of its bounds.
#[derive(Clone, Debug)]
pub struct Histogram<const N: usize> {
    bounds: [u64; N],
    /// Per bucket, not cumulative; the last is above every bound.
    counts: [u64; N],
    above: u64,
    sum: u64,
}

impl<const N: usize> Histogram<N> {
    /// An empty one.
    pub const fn new(bounds: [u64; N]) -> Self {
        Self { bounds, counts: [0; N], above: 0, sum: 0 }
    }

    /// Counts one value.
    pub fn observe(&mut self, value: u64) {
        self.observe_many(value, 1);
    }

    /// Counts `times` equal values.
    pub fn observe_many(&mut self, value: u64, times: u64) {
        self.sum += value * times;
        match self.bounds.iter().position(|&bound| value <= bound) {
            Some(bucket) => self.counts[bucket] += times,
            None => self.above += times,
        }
    }

    /// Upper bounds with their own (not cumulative) counts.
    pub fn buckets(&self) -> impl Iterator<Item = (u64, u64)> {
        self.bounds.iter().copied().zip(self.counts.iter().copied())
    }

    /// Values above every bound.
    pub fn above(&self) -> u64 {
        self.above
    }

    /// The sum of all values.
    pub fn sum(&self) -> u64 {
        self.sum
    }

    /// How many values.
    pub fn count(&self) -> u64 {
        self.counts.iter().sum::<u64>() + self.above
    }
}

/// By traffic class, in the order control, audio, droppable.
pub type ByClass = [u64; 3];

/// Why a message left a lane unsent. The order is that of [`DROP_REASONS`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DropReason {
    /// The lane was full of messages or bytes.
    Full,
    /// Audio older than `outbox.audio_age_ms_max`.
    Aged,
    /// A control message took its place.
    Displaced,
    /// Its response was cancelled.
    Flushed,
    /// The connection ended with it in the lane.
    Closed,
}

/// The labels of [`DropReason`], in its order.
pub const DROP_REASONS: [&str; 5] = ["full", "aged", "displaced", "flushed", "closed"];

/// Why a request got no room. The order is that of [`REFUSALS`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// 400: the head can't be parsed or the upgrade is malformed.
    BadRequest,
    /// 408: the head did not arrive in time.
    HeadTimeout,
    /// 431: the head is too long.
    HeadTooLong,
    /// 503: the node is full, draining, or the owner's queue is.
    Unavailable,
    /// 429: the room is full.
    RoomFull,
    /// 401: no token, or not a good one.
    Unauthorized,
    /// 403: a good token for something else, or a page of another origin.
    Forbidden,
    /// 429: the address asks too often.
    TooOften,
    /// 429: the user has as many connections as one may.
    UserFull,
    /// 429: the address has as many connections as one may.
    AddressFull,
    /// 503: the shard is too busy, or memory is short.
    Shedding,
    /// 404: something was posted to a room that is not there.
    NoRoom,
    /// 409: it was posted by somebody who hears no stream of it.
    NoStream,
    /// 405: the path does not know the method.
    WrongMethod,
    /// 413: the body is too long.
    BodyTooLong,
    /// 408: the body did not arrive in time.
    BodyTimeout,
    /// 429: the member has as many bodies under way as one may.
    BodiesFull,
}

/// The labels of [`Refusal`], in its order.
pub const REFUSALS: [&str; 17] = [
    "bad_request",
    "head_timeout",
    "head_too_long",
    "unavailable",
    "room_full",
    "unauthorized",
    "forbidden",
    "too_often",
    "user_full",
    "address_full",
    "shedding",
    "no_room",
    "no_stream",
    "wrong_method",
    "body_too_long",
    "body_timeout",
    "bodies_full",
];

/// Why a shard turns new work away. The order is that of [`SHED_CAUSES`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ShedCause {
    /// Its turns are late.
    Lag,
    /// The process has as much memory as it may.
    Memory,
}

/// The labels of [`ShedCause`], in its order.
pub const SHED_CAUSES: [&str; 2] = ["lag", "memory"];

/// Everything one shard counts. Gauges are marked; the rest only grows.
#[derive(Clone, Debug)]
pub struct Counters {
    /// Sockets accepted on this shard's listener.
    pub accepted: u64,
    /// Connections moved to the shard that owns their room.
    pub moved_out: u64,
    /// Connections taken from the shard that accepted them.
    pub moved_in: u64,
    /// Connections handed to the control plane.
    pub handed_over: u64,
    /// Heads being read now (gauge).
    pub heads: u64,
    /// Requests refused, by [`Refusal`].
    pub refused: [u64; REFUSALS.len()],
    /// WebSocket connections opened (101 answered).
    pub opened: u64,
    /// WebSocket connections open now, and streams of events (gauge).
    pub open: u64,
    /// Streams of events open now (gauge).
    pub streams: u64,
    /// Requests that brought events for a member that hears a stream.
    pub posts: u64,
    /// Connections closed, by close code class: see `close_codes`.
    pub closed: u64,
    /// Close codes sent or received, with how often; at most a dozen different ones.
    pub close_codes: Vec<(u16, u64)>,
    /// Rooms now (gauge), lingering ones included.
    pub rooms: u64,
    /// Rooms without a member that wait for one to come back (gauge).
    pub rooms_lingering: u64,
    /// Rooms made.
    pub rooms_created: u64,
    /// Lingering rooms ended before their time to stay within `limits.rooms_max`.
    pub rooms_evicted: u64,
    /// Engines started.
    pub engines_started: u64,
    /// What responses took and gave.
    pub responses: ResponseCounters,
    /// Times that queued audio of a response was taken back.
    pub interruptions: u64,
    /// Reports made of rooms that had ended.
    pub reports_made: u64,
    /// Those of them that found no room to wait in.
    pub reports_dropped: u64,
    /// Those that wait for room on their way to the control plane (gauge).
    pub reports_waiting: u64,
    /// Tokens refreshed in band.
    pub tokens_refreshed: u64,
    /// Connections closed because their token expired.
    pub tokens_expired: u64,
    /// Connections closed because the operator disconnected their user.
    pub tokens_revoked: u64,
    /// Binary messages received.
    pub frames_received: u64,
    /// Text messages received.
    pub texts_received: u64,
    /// Bytes received from sockets.
    pub bytes_received: u64,
    /// Binary messages sent completely.
    pub frames_sent: u64,
    /// Text messages sent completely; a batch is one.
    pub texts_sent: u64,
    /// Events sent, each of a batch counted.
    pub events_sent: u64,
    /// Bytes the kernel took.
    pub bytes_sent: u64,
    /// Audio frames encoded: once per wire form, however many members take it.
    pub frames_encoded: u64,
    /// Events encoded: once, however many members take it.
    pub events_encoded: u64,
    /// Audio frames put into lanes.
    pub frames_enqueued: u64,
    /// Messages compressed: once for each window size, however many members take it.
    pub messages_compressed: u64,
    /// Their bytes before.
    pub compressed_bytes_before: u64,
    /// Their bytes after; those of before where compressing them made nothing shorter.
    pub compressed_bytes_after: u64,
    /// Compressed messages put into lanes.
    pub compressed_enqueued: u64,
    /// Compressed messages received and inflated.
    pub messages_inflated: u64,
    /// Client events that were answered with an `error`.
    pub client_errors: u64,
    /// Messages refused because their connection had passed a limit.
    pub rate_limited: u64,
    /// Messages waiting in all lanes (gauge).
    pub queued_messages: u64,
    /// Bytes waiting in all lanes (gauge).
    pub queued_bytes: u64,
    /// Frames waiting in inbound audio queues (gauge).
    pub inbound_queued: u64,
    /// Messages dropped from lanes, by [`DropReason`], then class.
    pub dropped: [ByClass; DROP_REASONS.len()],
    /// Sends that failed.
    pub send_errors: u64,
    /// Sends that found the socket full.
    pub sends_blocked: u64,
    /// Connections closed as too slow.
    pub slow_closed: u64,
    /// Events per text message sent.
    pub batch_size: Histogram<7>,
    /// From the moment a message was due (its coalescing window over) to the kernel's taking its last byte.
    pub send_latency_us: Histogram<7>,
    /// How long events waited for company.
    pub coalesce_wait_us: Histogram<7>,
    /// Blocks the frame pool took from the allocator.
    pub blocks_allocated: u64,
    /// Timers set now (gauge).
    pub timers: u64,
    /// Whether new work is turned away (gauge), by [`ShedCause`].
    pub shedding: [bool; SHED_CAUSES.len()],
    /// Bytes of the shard's own bookkeeping for connections and rooms (gauge).
    pub state_bytes: u64,
    /// Rooms' histories, and those who come back to them.
    pub history: HistoryCounters,
    /// What the store is told and asked.
    pub store: StoreCounters,
    /// Channels.
    pub channels: ChannelCounters,
    /// Upstream sessions. They are no clients: nothing above counts them.
    pub upstreams: UpstreamCounters,
    /// What the runtime under the shard counts.
    pub wire: WireCounters,
}

/// What the wire counts for its shard.
#[derive(Clone, Debug)]
pub struct WireCounters {
    /// Turns of the loop.
    pub turns: u64,
    /// `io_uring_enter` calls.
    pub enters: u64,
    /// Most `io_uring_enter` calls in one turn.
    pub enters_per_turn_max: u64,
    /// Times the shard slept.
    pub sleeps: u64,
    /// Doorbells heard.
    pub doorbells: u64,
    /// Completions taken.
    pub completions: u64,
    /// Receives that brought bytes.
    pub receives: u64,
    /// Sends handed to the kernel.
    pub sends: u64,
    /// Receives that found the buffer pool empty.
    pub buffers_exhausted: u64,
    /// Messages that found another shard's queue full.
    pub mesh_full: u64,
    /// Messages waiting for this shard (gauge).
    pub mesh_depth: u64,
    /// Descriptors held by the wire (gauge).
    pub descriptors: u64,
    /// Operations in flight (gauge).
    pub in_flight: u64,
    /// Times accepting paused for want of descriptors.
    pub accept_paused: u64,
    /// Turns given to glommio.
    pub executor_turns: u64,
    /// TLS handshakes that were completed on this shard.
    pub tls_handshakes: u64,
    /// Those of them that a ticket shortened.
    pub tls_resumed: u64,
    /// TLS handshakes that were not completed: refused, out of time, or given up by the client.
    pub tls_failed: u64,
    /// Time from waking to going to sleep again, per turn.
    pub turn_us: Histogram<8>,
}

impl Default for Counters {
    fn default() -> Self {
        Self {
            accepted: 0,
            moved_out: 0,
            moved_in: 0,
            handed_over: 0,
            heads: 0,
            refused: [0; REFUSALS.len()],
            opened: 0,
            open: 0,
            streams: 0,
            posts: 0,
            closed: 0,
            close_codes: Vec::new(),
            rooms: 0,
            rooms_lingering: 0,
            rooms_created: 0,
            rooms_evicted: 0,
            engines_started: 0,
            responses: ResponseCounters::default(),
            interruptions: 0,
            reports_made: 0,
            reports_dropped: 0,
            reports_waiting: 0,
            tokens_refreshed: 0,
            tokens_expired: 0,
            tokens_revoked: 0,
            frames_received: 0,
            texts_received: 0,
            bytes_received: 0,
            frames_sent: 0,
            texts_sent: 0,
            events_sent: 0,
            bytes_sent: 0,
            frames_encoded: 0,
            events_encoded: 0,
            frames_enqueued: 0,
            messages_compressed: 0,
            compressed_bytes_before: 0,
            compressed_bytes_after: 0,
            compressed_enqueued: 0,
            messages_inflated: 0,
            client_errors: 0,
            rate_limited: 0,
            queued_messages: 0,
            queued_bytes: 0,
            inbound_queued: 0,
            dropped: [[0; 3]; DROP_REASONS.len()],
            send_errors: 0,
            sends_blocked: 0,
            slow_closed: 0,
            batch_size: Histogram::new(BATCH_SIZE_BOUNDS),
            send_latency_us: Histogram::new(SEND_LATENCY_BOUNDS_US),
            coalesce_wait_us: Histogram::new(SEND_LATENCY_BOUNDS_US),
            blocks_allocated: 0,
            timers: 0,
            shedding: [false; SHED_CAUSES.len()],
            state_bytes: 0,
            history: HistoryCounters::default(),
            store: StoreCounters::default(),
            channels: ChannelCounters::default(),
            upstreams: UpstreamCounters::default(),
            wire: WireCounters::default(),
        }
    }
}

impl Default for WireCounters {
    fn default() -> Self {
        Self {
            turns: 0,
            enters: 0,
            enters_per_turn_max: 0,
            sleeps: 0,
            doorbells: 0,
            completions: 0,
            receives: 0,
            sends: 0,
            buffers_exhausted: 0,
            mesh_full: 0,
            mesh_depth: 0,
            descriptors: 0,
            in_flight: 0,
            accept_paused: 0,
            executor_turns: 0,
            tls_handshakes: 0,
            tls_resumed: 0,
            tls_failed: 0,
            turn_us: Histogram::new(TURN_BOUNDS_US),
        }
    }
}

impl Counters {
    /// Counts a close code. A hostile client may send any code it likes: only so many get a row of their own, and
    /// the rest share that of 0.
    pub fn count_close(&mut self, code: u16) {
        let known = self.close_codes.iter().any(|(known, _)| *known == code);
        let code = if known || self.close_codes.len() < CLOSE_CODES_MAX { code } else { 0 };
        match self.close_codes.iter_mut().find(|(known, _)| *known == code) {
            Some((_, count)) => *count += 1,
            None => self.close_codes.push((code, 1)),
        }
    }
}

/// Close codes that are counted apart.
const CLOSE_CODES_MAX: usize = 15;

//! Every number a shard counts, with the names it has in stats and metrics.
//!
//! The counters are taken apart field by field, without a rest: whoever adds one is made to give it a name here.

use shards::core::channel::ChannelCounters;
use shards::core::counters::{Counters, HistoryCounters, StoreCounters, UpstreamCounters, WireCounters};

/// Whether a number only grows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Growth {
    /// It does.
    Counter,
    /// It goes up and down.
    Gauge,
}

/// One number of one shard.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Reading {
    /// In stats.
    pub(crate) field: &'static str,
    /// In metrics; a counter gets `_total` behind it.
    pub(crate) metric: &'static str,
    /// Whether it only grows.
    pub(crate) growth: Growth,
    /// What it counts.
    pub(crate) help: &'static str,
    /// How many.
    pub(crate) value: u64,
}

/// Makes a function that reads a struct of counters. Naming every field, those in brackets without reading them, is
/// what the compiler then insists on.
macro_rules! table {
    (
        $(#[$doc:meta])*
        $name:ident($of:ident), named $prefix:literal, without [$($skipped:ident),*]:
        $($growth:ident, $field:ident, $metric:literal, $help:literal;)*
    ) => {
        $(#[$doc])*
        fn $name(counters: &$of) -> Vec<Reading> {
            let $of { $($field,)* $($skipped: _),* } = counters;
            vec![$(Reading {
                field: concat!($prefix, stringify!($field)),
                metric: $metric,
                growth: Growth::$growth,
                help: $help,
                value: *$field,
            }),*]
        }
    };
}

/// The plain numbers of a shard; labelled ones and histograms are read from [`Counters`] itself.
pub(crate) fn readings(counters: &Counters) -> Vec<Reading> {
    let mut all = shard(counters);
    all.extend(history(&counters.history));
    all.extend(store(&counters.store));
    all.extend(channels(&counters.channels));
    all.extend(upstreams(&counters.upstreams));
    all.extend(wire(&counters.wire));
    all
}

table! {
    shard(Counters), named "", without [refused, responses, close_codes, dropped, shedding, batch_size, send_latency_us, coalesce_wait_us, channels, history, store, upstreams, wire]:
    Counter, accepted, "voxhall_accepted", "Sockets accepted on this shard's listener";
    Counter, moved_out, "voxhall_moved_out", "Connections moved to the shard that owns their room";
    Counter, moved_in, "voxhall_moved_in", "Connections taken from the shard that accepted them";
    Counter, handed_over, "voxhall_handed_over", "Connections handed to the control plane";
    Gauge, heads, "voxhall_heads", "Request heads being read";
    Counter, opened, "websocket_connections", "WebSocket connections opened";
    Gauge, open, "websocket_connections", "WebSocket connections open";
    Gauge, streams, "voxhall_sse_connections", "Streams of server-sent events open, also counted among the connections";
    Counter, posts, "voxhall_sse_posts", "Requests that brought events for a member that hears a stream";
    Counter, closed, "voxhall_closed", "WebSocket connections closed";
    Gauge, rooms, "voxhall_rooms", "Rooms, lingering ones included";
    Gauge, rooms_lingering, "voxhall_rooms_lingering", "Rooms that wait for a member to come back";
    Counter, rooms_created, "voxhall_rooms_created", "Rooms made";
    Counter, rooms_evicted, "voxhall_rooms_evicted", "Lingering rooms ended early to stay within the limit";
    Counter, engines_started, "voxhall_engines_started", "Engines started";
    Counter, interruptions, "voxhall_interruptions", "Times that queued audio of a response was taken back";
    Counter, reports_made, "voxhall_room_reports", "Reports made of rooms that had ended";
    Counter, reports_dropped, "voxhall_room_reports_dropped", "Reports that found no room to wait in";
    Gauge, reports_waiting, "voxhall_room_reports_waiting", "Reports that wait for room on their way to the control plane";
    Counter, tokens_refreshed, "voxhall_tokens_refreshed", "Tokens refreshed in band";
    Counter, tokens_expired, "voxhall_tokens_expired", "Connections closed because their token expired";
    Counter, tokens_revoked, "voxhall_tokens_revoked", "Connections closed because their user was disconnected";
    Counter, frames_received, "voxhall_frames_received", "Binary messages received";
    Counter, texts_received, "voxhall_texts_received", "Text messages received";
    Counter, bytes_received, "voxhall_bytes_received", "Bytes received from sockets";
    Counter, frames_sent, "voxhall_frames_sent", "Binary messages sent completely";
    Counter, texts_sent, "voxhall_texts_sent", "Text messages sent completely, a batch counted once";
    Counter, events_sent, "voxhall_events_sent", "Events sent, each of a batch counted";
    Counter, bytes_sent, "voxhall_bytes_sent", "Bytes the kernel took";
    Counter, frames_encoded, "voxhall_frames_encoded", "Audio frames encoded, however many members take them";
    Counter, events_encoded, "voxhall_events_encoded", "Events encoded, however many members take them";
    Counter, frames_enqueued, "voxhall_frames_enqueued", "Audio frames put into lanes";
    Counter, messages_compressed, "voxhall_messages_compressed", "Messages compressed, once for each window size however many members take them";
    Counter, compressed_bytes_before, "voxhall_compressed_bytes_before", "Bytes of those messages before";
    Counter, compressed_bytes_after, "voxhall_compressed_bytes_after", "Bytes of those messages after";
    Counter, compressed_enqueued, "voxhall_compressed_enqueued", "Compressed messages put into lanes";
    Counter, messages_inflated, "voxhall_messages_inflated", "Compressed messages received and inflated";
    Counter, client_errors, "voxhall_client_errors", "Client events answered with an error";
    Counter, rate_limited, "voxhall_rate_limited", "Messages refused because their connection had passed a limit";
    Gauge, queued_messages, "ws_outbox_queue_size", "Messages waiting in all lanes";
    Gauge, queued_bytes, "voxhall_queued_bytes", "Bytes waiting in all lanes";
    Gauge, inbound_queued, "voxhall_inbound_queued", "Audio frames waiting for engines";
    Counter, send_errors, "ws_outbox_send_errors", "Sends that failed";
    Counter, sends_blocked, "voxhall_sends_blocked", "Sends that found the socket full";
    Counter, slow_closed, "voxhall_slow_closed", "Connections closed as too slow";
    Counter, blocks_allocated, "voxhall_blocks_allocated", "Blocks the frame pool took from the allocator";
    Gauge, timers, "voxhall_timers", "Timers set";
    Gauge, state_bytes, "voxhall_state_bytes", "Bytes of bookkeeping for connections and rooms";
}

table! {
    history(HistoryCounters), named "history_", without [not_recovered]:
    Gauge, events, "voxhall_history_events", "Events that rooms keep for members that come back";
    Gauge, bytes, "voxhall_history_bytes", "Bytes of those events";
    Counter, recovered, "voxhall_recovered", "Times that a client was told all that it had missed, or that that was nothing";
    Counter, replayed, "voxhall_events_replayed", "Events told again";
    Counter, taken_over, "voxhall_connections_taken_over", "Connections closed because a newer one of their member came";
    Counter, repeated, "voxhall_client_events_repeated", "Client events that had been seen before and were not done again";
}

table! {
    store(StoreCounters), named "store_", without [untold_since]:
    Counter, told, "voxhall_store_told", "Changes of rooms, and their ends, that the store was told";
    Counter, recalls, "voxhall_store_asked", "Rooms that the store was asked for";
    Counter, revived, "voxhall_rooms_revived", "Rooms that go on where the store had them";
    Counter, failed, "voxhall_rooms_without_store", "Rooms that began without the store, which failed or took too long";
    Counter, not_asked, "voxhall_store_not_asked", "Clients sent away for a moment, because too many waited for the store";
}

table! {
    channels(ChannelCounters), named "channel_", without [dead_letters]:
    Gauge, subscriptions, "voxhall_channel_subscriptions", "Subscriptions of connections to channels";
    Gauge, streams, "voxhall_channel_streams", "Streams of channels that the shard owns";
    Gauge, history_bytes, "voxhall_channel_history_bytes", "Bytes that those streams remember";
    Counter, published, "voxhall_channel_published", "Publications taken by the shard that owns their stream";
    Counter, duplicates, "voxhall_channel_duplicates", "Publications repeated within their window, and not delivered again";
    Counter, delivered, "voxhall_channel_delivered", "Channel messages put into lanes as they came";
    Counter, recovered, "voxhall_channel_recovered", "Channel messages told to subscribers that had missed them";
    Counter, not_recovered, "voxhall_channel_not_recovered", "Subscribers that could not be told what they had missed";
    Counter, gaps, "voxhall_channel_gaps", "Subscribers told of messages that were lost between shards";
    Counter, parcels_sent, "voxhall_channel_parcels_sent", "Messages about channels sent to other shards";
    Gauge, parcels_waiting, "voxhall_channel_parcels_waiting", "Messages about channels that wait for room on their way to other shards";
}

table! {
    upstreams(UpstreamCounters), named "upstream_", without [ended, connect_us]:
    Gauge, connecting, "voxhall_upstream_connecting", "Model sessions being opened";
    Gauge, open, "voxhall_upstream_open", "Model sessions open";
    Counter, dialled, "voxhall_upstream_dialled", "Connections to the model server that were begun";
    Counter, opened, "voxhall_upstream_opened", "Model sessions that opened";
    Counter, messages_received, "voxhall_upstream_messages_received", "Messages received from the model server";
    Counter, bytes_received, "voxhall_upstream_bytes_received", "Bytes received from the model server";
    Counter, messages_sent, "voxhall_upstream_messages_sent", "Messages sent to the model server completely";
    Counter, bytes_sent, "voxhall_upstream_bytes_sent", "Bytes for the model server that the kernel took";
    Counter, dropped, "voxhall_upstream_dropped", "Messages not sent because their model session ended";
    Gauge, queued_messages, "voxhall_upstream_queued_messages", "Messages waiting for the model server";
    Gauge, queued_bytes, "voxhall_upstream_queued_bytes", "Bytes waiting for the model server";
}

table! {
    wire(WireCounters), named "", without [turn_us]:
    Counter, turns, "voxhall_turns", "Turns of the loop";
    Counter, enters, "voxhall_enters", "io_uring_enter calls";
    Gauge, enters_per_turn_max, "voxhall_enters_per_turn_max", "Most io_uring_enter calls in one turn";
    Counter, sleeps, "voxhall_sleeps", "Times the shard slept";
    Counter, doorbells, "voxhall_doorbells", "Doorbells heard";
    Counter, completions, "voxhall_completions", "Completions taken";
    Counter, receives, "voxhall_receives", "Receives that brought bytes";
    Counter, sends, "voxhall_sends", "Sends handed to the kernel";
    Counter, buffers_exhausted, "voxhall_buffers_exhausted", "Receives that found the buffer pool empty";
    Counter, mesh_full, "voxhall_mesh_full", "Messages that found another shard's queue full";
    Gauge, mesh_depth, "voxhall_mesh_depth", "Messages from other shards waiting for this one";
    Gauge, descriptors, "voxhall_descriptors", "Descriptors held by the wire";
    Gauge, in_flight, "voxhall_in_flight", "Operations in flight";
    Counter, accept_paused, "voxhall_accept_paused", "Times accepting paused for want of descriptors";
    Counter, tls_handshakes, "voxhall_tls_handshakes", "TLS handshakes completed";
    Counter, tls_resumed, "voxhall_tls_resumed", "TLS handshakes that a ticket shortened";
    Counter, tls_failed, "voxhall_tls_failed", "TLS handshakes refused, out of time or given up";
    Counter, executor_turns, "voxhall_executor_turns", "Turns given to the executor";
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_two_numbers_share_a_name() {
        let all = readings(&Counters::default());
        let mut fields: Vec<_> = all.iter().map(|reading| reading.field).collect();
        let mut metrics: Vec<_> = all.iter().map(|r| (r.metric, r.growth == Growth::Counter)).collect();
        fields.sort_unstable();
        metrics.sort_unstable();
        assert!(fields.windows(2).all(|two| two[0] != two[1]));
        assert!(metrics.windows(2).all(|two| two[0] != two[1]));
    }
}

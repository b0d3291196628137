//! The steady state allocates nothing: counted by the allocator itself, over the core as the pump drives it.

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::sync::Arc;

use shards::core::config::Dialect;
use shards::core::engine::{EngineInput, EngineKind, EngineOutput};
use shards::core::event::{AudioFormat, Codec, SessionSettings};
use shards::core::frame::FramePool;
use shards::core::ids::MemberNumber;
use shards::core::upstream::{Line, UpstreamNews, UpstreamOrder};
use shards::core::{
    ConnKey, Effect, Effects, Gather, Input, Micros, SendOutcome, Shard, ShardConfig, ShardId,
};

thread_local! {
    static ALLOCATIONS: Cell<u64> = const { Cell::new(0) };
}

struct Counting;

// SAFETY: every call goes to the system's allocator unchanged; the count is a thread's own and allocates nothing.
unsafe impl GlobalAlloc for Counting {
    // SAFETY: the caller keeps `GlobalAlloc::alloc`'s contract, which is passed on.
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        ALLOCATIONS.with(|count| count.set(count.get() + 1));
        // SAFETY: as above.
        unsafe { System.alloc(layout) }
    }

    // SAFETY: the caller keeps `GlobalAlloc::dealloc`'s contract, which is passed on.
    unsafe fn dealloc(&self, at: *mut u8, layout: Layout) {
        // SAFETY: as above.
        unsafe { System.dealloc(at, layout) }
    }

    // SAFETY: the caller keeps `GlobalAlloc::realloc`'s contract, which is passed on.
    unsafe fn realloc(&self, at: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        ALLOCATIONS.with(|count| count.set(count.get() + 1));
        // SAFETY: as above.
        unsafe { System.realloc(at, layout, size) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

use shards::sim::Solo;

struct Rig {
    shard: Shard,
    now: Micros,
    fx: Effects,
    gather: Gather,
    sent: usize,
}

impl Rig {
    fn new() -> Self {
        let mut config = ShardConfig::default();
        // On, and wide enough for eight frames in a millisecond.
        (config.limits.messages_per_s, config.limits.bytes_per_s) = (1_000_000, 1 << 32);
        let shard = Shard::new(ShardId(0), Arc::new(config), 1);
        Self { shard, now: Micros(1), fx: Vec::with_capacity(64), gather: Gather::default(), sent: 0 }
    }

    fn join(&mut self, index: u32, query: &str, subprotocol: &str) -> ConnKey {
        let conn = ConnKey { index, generation: 1 };
        let peer = "127.0.0.1:1000".parse().expect("an address");
        let mut head = format!(
            "GET /ws/room?{query} HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
             Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\
             Sec-WebSocket-Protocol: {subprotocol}\r\n\r\n"
        )
        .into_bytes();
        self.shard.handle(self.now, Input::Adopted { conn, peer, via: None, head: &mut head }, &mut self.fx);
        self.turn();
        conn
    }

    fn receive(&mut self, conn: ConnKey, frame: &mut [u8]) {
        self.shard.handle(self.now, Input::Received { conn, bytes: frame }, &mut self.fx);
    }

    /// Ends the turn; the kernel takes everything.
    fn turn(&mut self) {
        self.now = Micros(self.now.0 + 1_000);
        self.shard.end_turn(self.now, &mut self.fx);
        while let Some(effect) = self.fx.pop() {
            if let Effect::Send(conn) = effect {
                self.shard.gather(conn, &mut self.gather);
                let bytes = self.gather.len();
                self.gather.clear();
                self.sent += bytes;
                let input = Input::Sent { conn, outcome: SendOutcome::Sent(bytes) };
                self.shard.handle(self.now, input, &mut self.fx);
            }
        }
    }
}

/// A client's frame of 640 bytes, masked.
fn frame() -> Vec<u8> {
    let mut frame = vec![0x82, 0x80 | 126, 0x02, 0x80, 1, 2, 3, 4];
    frame.extend((0..640u32).map(|i| i as u8));
    frame
}

fn assert_steady(query: &str, members: &[&str]) {
    let mut rig = Rig::new();
    let conns: Vec<ConnKey> =
        members.iter().enumerate().map(|(at, subprotocol)| rig.join(at as u32, query, subprotocol)).collect();
    let frames: Vec<Vec<u8>> = (0..8).map(|_| frame()).collect();
    let mut buffer: Vec<u8> = frames.concat();
    let mut round = |rig: &mut Rig| {
        for frame in &frames {
            buffer[..frame.len()].copy_from_slice(frame);
            let len = frame.len();
            rig.receive(conns[0], &mut buffer[..len]);
        }
        rig.turn();
    };
    for _ in 0..100 {
        round(&mut rig);
    }
    let (before, sent) = (ALLOCATIONS.get(), rig.sent);
    for _ in 0..1_000 {
        round(&mut rig);
    }
    let made = ALLOCATIONS.get() - before;
    assert!(rig.sent - sent >= 8_000 * 640, "frames did come out");
    assert_eq!(made, 0, "{query} with {members:?} allocated for 8,000 frames");
}

#[test]
fn echoing_a_frame_allocates_nothing() {
    assert_steady("engine=echo", &["voxhall.v1.plain"]);
    assert_steady("engine=echo", &["voxhall.v1"]);
}

#[test]
fn relaying_a_frame_to_listeners_of_both_forms_allocates_nothing() {
    let mut members = vec!["voxhall.v1"; 20];
    members.extend(["voxhall.v1.plain"; 20]);
    assert_steady("engine=relay", &members);
}

#[test]
fn relaying_a_frame_to_listeners_in_events_allocates_nothing() {
    assert_steady("engine=relay", &["voxhall.v1", "realtime"]);
    assert_steady(
        "engine=relay",
        &["voxhall.v1", "realtime", "realtime, openai-beta.realtime-v1", "voxhall.v1"],
    );
}

/// Gives back what came out; how many bytes of audio and messages that were.
fn take_back(pool: &mut FramePool, output: EngineOutput) -> usize {
    let draft = match output {
        EngineOutput::Audio { audio, .. } => audio,
        EngineOutput::Upstream(UpstreamOrder::Send { message, .. }) => message,
        _ => return 0,
    };
    let len = draft.len();
    pool.discard(draft);
    len
}

fn assert_relays_steadily(rate: u16, dialect: Dialect, delta: &str) {
    let mut config = ShardConfig::default();
    config.realtime.dialect = dialect;
    let format = AudioFormat { codec: Codec::Pcm16, rate };
    let mut solo =
        Solo::new(EngineKind::Realtime, config, SessionSettings { format, ..SessionSettings::default() });
    let line = Line(1);
    let frame = vec![7; usize::from(rate) / 25];
    let event = format!(
        r#"{{"type":"{delta}","event_id":"event_1","response_id":"resp_1","item_id":"item_1","output_index":0,"content_index":0,"delta":"{}"}}"#,
        "AAAA".repeat(1_280)
    );
    let mut buffer = event.clone().into_bytes();
    let mut bytes = 0;
    let mut round = |solo: &mut Solo| {
        solo.now = solo.now + Micros::from_ms(20);
        let audio = solo.pool.copy(&frame);
        solo.turn(
            |engine, cx| engine.handle(EngineInput::Audio { from: MemberNumber(1), audio }, cx),
            |pool, output| bytes += take_back(pool, output),
        );
        buffer.copy_from_slice(event.as_bytes());
        solo.turn(
            |engine, cx| engine.upstream(line, UpstreamNews::Message(&mut buffer), cx),
            |pool, output| bytes += take_back(pool, output),
        );
    };
    round(&mut solo);
    solo.turn(|engine, cx| engine.upstream(line, UpstreamNews::Open, cx), |_, _| {});
    let mut created = br#"{"type":"session.created"}"#.to_vec();
    solo.turn(|engine, cx| engine.upstream(line, UpstreamNews::Message(&mut created), cx), |_, _| {});
    (0..1_000).for_each(|_| round(&mut solo));
    let before = ALLOCATIONS.get();
    (0..1_000).for_each(|_| round(&mut solo));
    let made = ALLOCATIONS.get() - before;
    assert!(bytes > 2_000 * (frame.len() + 2_560), "audio went both ways");
    assert_eq!(made, 0, "{rate} Hz, {delta}");
}

#[test]
fn relaying_audio_to_and_from_a_model_server_allocates_nothing() {
    assert_relays_steadily(24_000, Dialect::Ga, "response.output_audio.delta");
    assert_relays_steadily(16_000, Dialect::Beta, "response.audio.delta");
}

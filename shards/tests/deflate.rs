//! permessage-deflate over the core as the pump drives it: who gets what compressed, how often that is done, and what
//! memory it takes.

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::sync::Arc;

use shards::core::counters::Counters;
use shards::core::message::{Answer, AskId, Query};
use shards::core::{
    ConnKey, Effect, Effects, Gather, Input, Micros, SendOutcome, Shard, ShardConfig, ShardId,
};

thread_local! {
    /// The largest piece of memory asked for.
    static LARGEST: Cell<usize> = const { Cell::new(0) };
}

struct Counting;

fn count(size: usize) {
    LARGEST.set(LARGEST.get().max(size));
}

// SAFETY: every call goes to the system's allocator unchanged; the count is a thread's own and allocates nothing.
unsafe impl GlobalAlloc for Counting {
    // SAFETY: the caller keeps `GlobalAlloc::alloc`'s contract, which is passed on.
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count(layout.size());
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
        count(size);
        // SAFETY: as above.
        unsafe { System.realloc(at, layout, size) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

const DEFLATE: &str = "Sec-WebSocket-Extensions: permessage-deflate\r\n";
const V1: &str = "Sec-WebSocket-Protocol: voxhall.v1\r\n";
const MESSAGE_BYTES_MAX: usize = 1 << 20;

/// A shard, and what each connection was sent since it was last looked at.
struct Rig {
    shard: Shard,
    now: Micros,
    fx: Effects,
    sent: Vec<Vec<u8>>,
}

impl Rig {
    fn new() -> Self {
        let mut config = ShardConfig { echo_endpoint: true, ..ShardConfig::default() };
        config.deflate.enabled = true;
        Self {
            shard: Shard::new(ShardId(0), Arc::new(config), 1),
            now: Micros(1),
            fx: Vec::new(),
            sent: vec![],
        }
    }

    /// Connects: the head that answers, and what was sent behind it is forgotten.
    fn connect(&mut self, target: &str, lines: &str) -> (ConnKey, String) {
        let conn = ConnKey { index: self.sent.len() as u32, generation: 1 };
        self.sent.push(Vec::new());
        let peer = "127.0.0.1:1000".parse().expect("an address");
        let mut head = format!(
            "GET {target} HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
             Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n{lines}\r\n"
        )
        .into_bytes();
        self.shard.handle(self.now, Input::Adopted { conn, peer, via: None, head: &mut head }, &mut self.fx);
        self.turn(30);
        let sent = self.take(conn);
        let end = sent.windows(4).position(|four| four == b"\r\n\r\n").expect("a head");
        (conn, String::from_utf8(sent[..end].to_vec()).expect("ASCII"))
    }

    fn join(&mut self, lines: &str) -> ConnKey {
        let conn = self.connect("/ws/room?engine=relay", lines).0;
        for sent in &mut self.sent {
            sent.clear(); // The news of its coming.
        }
        conn
    }

    fn receive(&mut self, conn: ConnKey, first: u8, payload: &[u8]) {
        let mut bytes = vec![first];
        match payload.len() {
            len @ 0..=125 => bytes.push(0x80 | len as u8),
            len @ 126..=65_535 => {
                bytes.push(0x80 | 126);
                bytes.extend((len as u16).to_be_bytes());
            }
            len => {
                bytes.push(0x80 | 127);
                bytes.extend((len as u64).to_be_bytes());
            }
        }
        bytes.extend([0; 4]);
        bytes.extend(payload);
        self.shard.handle(self.now, Input::Received { conn, bytes: &mut bytes }, &mut self.fx);
    }

    /// Ends the turn so much later; the kernel takes everything.
    fn turn(&mut self, after_ms: u64) {
        self.now = Micros(self.now.0 + after_ms * 1_000);
        self.shard.end_turn(self.now, &mut self.fx);
        let mut gather = Gather::default();
        while let Some(effect) = self.fx.pop() {
            if let Effect::Send(conn) = effect {
                self.shard.gather(conn, &mut gather);
                for slice in gather.slices() {
                    self.sent[conn.index as usize].extend_from_slice(slice);
                }
                let input = Input::Sent { conn, outcome: SendOutcome::Sent(gather.len()) };
                gather.clear();
                self.shard.handle(self.now, input, &mut self.fx);
            }
        }
    }

    fn take(&mut self, conn: ConnKey) -> Vec<u8> {
        std::mem::take(&mut self.sent[conn.index as usize])
    }

    /// The frames a connection was sent: their first bytes and payloads.
    fn frames(&mut self, conn: ConnKey) -> Vec<(u8, Vec<u8>)> {
        let sent = self.take(conn);
        let (mut rest, mut frames) = (&sent[..], Vec::new());
        while let [first, short, ..] = *rest {
            let (len, header) = match short {
                126 => (usize::from(u16::from_be_bytes([rest[2], rest[3]])), 4),
                127 => (u64::from_be_bytes(rest[2..10].try_into().expect("eight")) as usize, 10),
                short => (short.into(), 2),
            };
            frames.push((first, rest[header..header + len].to_vec()));
            rest = &rest[header + len..];
        }
        frames
    }

    fn counters(&mut self) -> Counters {
        self.shard.handle(self.now, Input::Ask { id: AskId(1), query: Query::Counters }, &mut self.fx);
        match self.fx.pop() {
            Some(Effect::Answer(_, Answer::Counters(counters))) => *counters,
            other => panic!("{other:?}"),
        }
    }
}

fn inflated(payload: &[u8]) -> Vec<u8> {
    shards::core::deflate::Inflater::default().inflate(payload, MESSAGE_BYTES_MAX).expect("valid")
}

/// A `room.send` with that many bytes of data, which repeats itself.
fn room_send(bytes: usize) -> Vec<u8> {
    let data = "all of us ".repeat(bytes / 10);
    format!(r#"{{"type":"room.send","data":"{data}"}}"#).into_bytes()
}

fn compressed(message: &[u8]) -> Vec<u8> {
    let mut compressor = shards::core::deflate::Compressor::default();
    compressor.compress(shards::core::deflate::WindowBits::MAX, message).expect("shorter").to_vec()
}

#[test]
fn an_event_is_compressed_once_for_all_who_take_it_so() {
    let mut rig = Rig::new();
    let speaker = rig.join("");
    let taking: Vec<ConnKey> =
        (0..20).map(|at| rig.join(&[DEFLATE, if at % 2 == 0 { V1 } else { "" }].concat())).collect();
    let plain = rig.join(V1);
    rig.receive(speaker, 0x81, &room_send(2_000));
    rig.turn(30);
    let [(0x81, event)] = &rig.frames(plain)[..] else { panic!("one event as it is") };
    let mut first = None;
    for conn in taking {
        let [(0xc1, payload)] = &rig.frames(conn)[..] else { panic!("one compressed event") };
        assert!(payload.len() < 200);
        assert_eq!(first.get_or_insert_with(|| payload.clone()), payload);
        assert_eq!(&inflated(payload), event);
    }
    let counters = rig.counters();
    assert_eq!((counters.messages_compressed, counters.compressed_enqueued), (1, 20));
    assert_eq!(counters.compressed_bytes_before, event.len() as u64);
    assert_eq!(counters.compressed_bytes_after, first.expect("twenty").len() as u64);
}

#[test]
fn a_window_of_its_own_is_a_compression_of_its_own() {
    let mut rig = Rig::new();
    let speaker = rig.join("");
    for bits in [9, 9, 9, 15, 12, 12] {
        let line = format!("Sec-WebSocket-Extensions: permessage-deflate; server_max_window_bits={bits}\r\n");
        rig.join(&line);
    }
    rig.join(DEFLATE);
    rig.receive(speaker, 0x81, &room_send(2_000));
    rig.turn(30);
    let counters = rig.counters();
    assert_eq!((counters.messages_compressed, counters.compressed_enqueued), (3, 7));
}

#[test]
fn neither_short_events_nor_audio_nor_batches_are_compressed() {
    let mut rig = Rig::new();
    let speaker = rig.join("");
    let listener = rig.join(&[DEFLATE, V1].concat());
    let audio = vec![0; 4_000];
    rig.receive(speaker, 0x82, &audio);
    rig.turn(1);
    assert!(matches!(&rig.frames(listener)[..], [(0x82, frame)] if frame[8..] == audio));
    for _ in 0..5 {
        rig.receive(speaker, 0x81, &room_send(500));
    }
    rig.turn(30);
    let [(0x81, batch)] = &rig.frames(listener)[..] else { panic!("one batch") };
    assert_eq!(batch.split(|&byte| byte == b'\n').count(), 5);
    assert_eq!(rig.counters().messages_compressed, 0);
}

#[test]
fn a_compressed_event_takes_along_what_waits_and_keeps_the_order() {
    let mut rig = Rig::new();
    let speaker = rig.join("");
    let listener = rig.join(&[DEFLATE, V1].concat());
    for bytes in [100, 100, 3_000, 100, 100] {
        rig.receive(speaker, 0x81, &room_send(bytes));
    }
    rig.turn(0);
    let now = rig.frames(listener);
    assert_eq!(now.iter().map(|(first, _)| *first).collect::<Vec<_>>(), [0x81, 0xc1], "the rest may wait");
    rig.turn(30);
    let later = rig.frames(listener);
    let events: Vec<u8> = now
        .into_iter()
        .chain(later)
        .map(|(first, payload)| if first == 0xc1 { inflated(&payload) } else { payload })
        .collect::<Vec<_>>()
        .join(&b'\n');
    let seqs: Vec<u64> = events
        .split(|&byte| byte == b'\n')
        .map(|line| {
            serde_json::from_slice::<serde_json::Value>(line).expect("JSON")["seq"].as_u64().expect("one")
        })
        .collect();
    assert_eq!(seqs.len(), 5);
    assert!(seqs.windows(2).all(|two| two[1] == two[0] + 1), "{seqs:?}");
}

#[test]
fn echo_compresses_text_and_binary_from_the_threshold_on() {
    let mut rig = Rig::new();
    let (echo, head) = rig.connect("/echo", DEFLATE);
    assert!(
        head.contains("Sec-WebSocket-Extensions: permessage-deflate; server_no_context_takeover"),
        "{head}"
    );
    for (first, len, answered) in
        [(0x81, 1_023, 0x81), (0x81, 1_024, 0xc1), (0x82, 1_023, 0x82), (0x82, 5_000, 0xc2)]
    {
        let message = vec![b'x'; len];
        for sent_compressed in [false, true] {
            if sent_compressed {
                rig.receive(echo, first | 0x40, &compressed(&message));
            } else {
                rig.receive(echo, first, &message);
            }
            rig.turn(1);
            let [(got, payload)] = &rig.frames(echo)[..] else { panic!("one message") };
            assert_eq!(*got, answered, "{len}");
            assert_eq!(if got & 0x40 > 0 { inflated(payload) } else { payload.clone() }, message);
        }
    }
    assert_eq!(rig.counters().messages_inflated, 4);
}

#[test]
fn what_was_not_agreed_on_is_not_done() {
    let mut rig = Rig::new();
    let (echo, head) = rig.connect("/echo", "");
    assert!(!head.contains("Extensions"), "{head}");
    rig.receive(echo, 0x81, &[b'x'; 5_000]);
    rig.turn(1);
    assert!(matches!(rig.frames(echo)[..], [(0x81, _)]));
    rig.receive(echo, 0xc1, &compressed(&[b'x'; 5_000]));
    rig.turn(1);
    assert!(matches!(&rig.frames(echo)[..], [(0x88, close)] if close[..2] == 1002_u16.to_be_bytes()));
}

#[test]
fn a_bad_compressed_message_closes_with_its_code() {
    for (message, code) in [
        (compressed(&[&b"text? "[..], &[0xff; 500]].concat()), 1007_u16),
        (b"no deflate at all".to_vec(), 1007),
        (compressed(&vec![0; MESSAGE_BYTES_MAX + 1]), 1009),
    ] {
        let mut rig = Rig::new();
        let (echo, _) = rig.connect("/echo", DEFLATE);
        rig.receive(echo, 0xc1, &message);
        rig.turn(1);
        let frames = rig.frames(echo);
        assert!(
            matches!(&frames[..], [(0x88, close)] if close[..2] == code.to_be_bytes()),
            "{code}: {frames:?}"
        );
    }
}

#[test]
fn a_bomb_costs_a_close_and_not_memory() {
    let bomb = compressed(&vec![0; 64 << 20]);
    assert!(bomb.len() < 1 << 17);
    let mut rig = Rig::new();
    let (echo, _) = rig.connect("/echo", DEFLATE);
    LARGEST.set(0);
    rig.receive(echo, 0xc2, &bomb);
    rig.turn(1);
    let frames = rig.frames(echo);
    assert!(matches!(&frames[..], [(0x88, close)] if close[..2] == 1009_u16.to_be_bytes()));
    let largest = LARGEST.get();
    assert!(largest <= MESSAGE_BYTES_MAX + 1, "{largest} bytes were allocated at once");
}

#[test]
fn in_the_steady_state_neither_windows_nor_outputs_nor_frames_are_allocated() {
    let mut rig = Rig::new();
    let speaker = rig.join(DEFLATE);
    let listeners = [rig.join(DEFLATE), rig.join(&[DEFLATE, V1].concat())];
    let (echo, _) = rig.connect("/echo", DEFLATE);
    let message = vec![b'x'; 8_000];
    let (packed, event) = (compressed(&message), compressed(&room_send(4_000)));
    let round = |rig: &mut Rig| {
        rig.receive(echo, 0xc2, &packed);
        rig.receive(speaker, 0xc1, &event);
        rig.turn(1);
        listeners.iter().chain([&echo]).map(|&conn| rig.take(conn).len()).sum::<usize>()
    };
    for _ in 0..50 {
        round(&mut rig);
    }
    let before = rig.counters();
    LARGEST.set(0);
    for _ in 0..200 {
        assert!(round(&mut rig) > 0);
    }
    let after = rig.counters();
    assert_eq!(after.messages_compressed - before.messages_compressed, 400);
    assert_eq!(after.blocks_allocated, before.blocks_allocated, "no frame was allocated");
    assert!(LARGEST.get() < 8_000, "neither a window nor an output was allocated again");
}

//! A message's way through a shard: received, decoded, given to the engine, encoded, put into every listener's
//! lane, gathered for the kernel, and taken off the lanes. The kernel's own part is left out.
//!
//! Items are what listeners get: frames, or events.

use divan::Bencher;
use divan::counter::ItemsCount;
use shards::core::Micros;

use crate::client::frame;
use crate::rig::Rig;

/// 20 ms of audio at 16 kHz.
const FRAME_BYTES: usize = 640;
const FRAME_PACE: Micros = Micros::from_ms(20);
/// Longer than events wait for company.
const COALESCE: Micros = Micros::from_ms(30);
/// An event of usual size.
const DATA: &str = r#"{"cursor":{"x":812,"y":44},"note":"chapter three, second paragraph"}"#;
const KEY: [u8; 4] = [1, 2, 3, 4];

/// One member speaks a frame, and `sends` of them come out. Audio may be anything: the frame is decoded again and
/// again as it was left.
fn speak(bencher: Bencher, mut rig: Rig, sends: usize) {
    let mut frame = frame(2, KEY, &[7; FRAME_BYTES]);
    let mut round = || {
        rig.receive(0, &mut frame);
        rig.turn_after(FRAME_PACE)
    };
    let (sent, bytes) = round();
    assert!(sent == sends && bytes >= sends * FRAME_BYTES, "{bytes} bytes in {sent} sends");
    bencher.counter(ItemsCount::new(sends)).bench_local(round);
}

/// One frame back to who sent it.
#[divan::bench(args = ["voxhall.v1.plain", "voxhall.v1"])]
fn echo(bencher: Bencher, subprotocol: &str) {
    speak(bencher, Rig::new("echo", &[subprotocol]), 1);
}

/// One frame to so many listeners, half of them of either form.
#[divan::bench(args = [1, 10, 100, 1_000])]
fn fan_out(bencher: Bencher, listeners: usize) {
    let members: Vec<&str> =
        ["voxhall.v1", "voxhall.v1.plain"].into_iter().cycle().take(listeners + 1).collect();
    speak(bencher, Rig::new("relay", &members), listeners);
}

/// So many `room.send` events of one member in one message, to another as one batch: parsed, written as JSON,
/// gathered under one header.
#[divan::bench(args = [1, 8, 64])]
fn events(bencher: Bencher, batch: usize) {
    let mut rig = Rig::new("relay", &["voxhall.v1"; 2]);
    let line = format!("{{\"type\":\"room.send\",\"data\":{DATA}}}\n");
    let message = frame(1, KEY, line.repeat(batch).as_bytes());
    let mut buffer = message.clone();
    let mut round = || {
        // Parsing leaves nothing of the text.
        buffer.copy_from_slice(&message);
        rig.receive(0, &mut buffer);
        rig.turn_after(COALESCE)
    };
    let (sent, bytes) = round();
    assert!(sent == 1 && bytes > batch * DATA.len(), "{bytes} bytes in {sent} sends");
    bencher.counter(ItemsCount::new(batch)).bench_local(round);
}

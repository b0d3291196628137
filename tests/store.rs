//! Rooms that outlive their server: killed, told to end, with a disk that is full, and with a Redis that comes and goes.

#![expect(clippy::disallowed_methods, reason = "an operator has a clock, and kills at any moment")]

mod support;

#[path = "store/full.rs"]
mod full;
#[path = "store/kills.rs"]
mod kills;
#[path = "store/redis.rs"]
mod redis_store;
#[path = "store/rig.rs"]
mod rig;
#[path = "store/window.rs"]
mod window;

use std::collections::HashMap;
use std::fs;
use std::time::Instant;

use rig::{Client, Folder, until};
use serde_json::json;
use support::{PATIENCE, Server, voxhall};
use window::{Ages, Word};

/// Events keep their room, and go to a second member, so that there is somebody to have seen them.
#[test]
fn a_server_that_is_killed_under_load_loses_what_is_stated_and_nothing_beyond() {
    const ROOMS: usize = 24;
    let folder = Folder::new("killed");
    let mut server = folder.serve(&[]);
    let mut rooms: Vec<_> = (0..ROOMS)
        .map(|room| {
            let name = format!("room-{room}");
            (Client::join(&server, &name), Client::join(&server, &name))
        })
        .collect();
    let begun = Instant::now();
    let mut ages = Ages::default();
    let mut number = 0;
    // The last word is worth something when much must have been saved by then.
    let word = loop {
        for _ in 0..10 {
            number += 1;
            for (writer, reader) in &mut rooms {
                writer.tell(&json!(number));
                reader.hear(&json!(number));
            }
        }
        let word = Word::of(&server);
        if word.asked > begun + word.window {
            ages.said(&word);
        }
        if word.safe.is_some_and(|safe| safe > begun + 4 * word.window) {
            break word;
        }
        assert!(begun.elapsed() < 2 * PATIENCE, "the store does not keep up: {:?}", word.unsaved);
    };
    server.kill();
    let killed = Instant::now();

    let server = folder.serve(&[]);
    for (room, (_, reader)) in rooms.iter().enumerate() {
        let late = Client::come_back_after(&server, reader, reader.seq);
        // From the beginning: everything that is kept, in order, without a gap.
        let (restored, mut again) = Client::come_back_after(&server, reader, 0);
        assert_eq!(restored["recovered"], true, "{restored}");
        assert_eq!(restored["restarted"], true);
        again.hear_all(restored["missed"].as_u64().expect("a count"));
        let numbers: Vec<u64> = again.heard.iter().map(|(seq, _)| *seq).collect();
        assert!(numbers.is_sorted() && numbers.first() <= Some(&2), "{numbers:?}");
        let saved = numbers.iter().filter(|&&seq| seq <= reader.seq).max().copied().unwrap_or(0);
        let before: HashMap<u64, _> = reader.heard.iter().cloned().collect();
        for (seq, data) in again.heard.iter().filter(|(seq, _)| *seq <= saved) {
            if let Some(then) = before.get(seq) {
                assert_eq!(then, data, "number {seq} is the event that it was");
            }
        }
        assert!(saved >= 2, "room {room} has nothing");
        ages.lost(word.judge(&reader.seen, saved, killed));
        // Who saw more than was saved is told so.
        let (restored, _) = late;
        assert_eq!(restored["recovered"], saved >= reader.seq, "{restored}, saved {saved}");
    }
    ages.show("under load");
    ages.check();
}

#[test]
fn a_server_that_is_told_to_end_loses_nothing_and_its_rooms_go_on() {
    let folder = Folder::new("ended");
    let server = folder.serve(&["server.drain_s=0"]);
    let (mut writer, mut reader) = (Client::join(&server, "a"), Client::join(&server, "a"));
    let quiet = Client::join(&server, "quiet");
    writer.send(&json!({ "type": "session.update", "state": { "page": 7 } }));
    for number in 0..50 {
        writer.tell(&json!(number));
        reader.hear(&json!(number));
    }
    // What happens now is within everybody's lag.
    writer.send(&json!({ "type": "room.send", "data": "last", "client_seq": 50 }));
    reader.hear(&json!("last"));
    server.signal("TERM");
    let (status, log) = server.wait();
    assert!(status.success(), "{log}");
    assert!(log.contains("the store has everything"), "{log}");

    let server = folder.serve(&[]);
    let (restored, mut back) = Client::come_back_after(&server, &reader, reader.seq - 1);
    assert_eq!(restored["recovered"], true, "{restored}");
    assert_eq!((&restored["state"]["page"], &restored["epoch"]), (&json!(7), &json!(reader.epoch)));
    back.hear(&json!("last"));
    assert_eq!(back.seq, reader.seq);
    let (restored, mut writer) = Client::come_back_after(&server, &writer, reader.seq);
    assert_eq!(restored["client_seq"], 50);
    writer.tell(&json!("more"));
    back.hear(&json!("more"));
    assert!(back.seq > reader.seq, "numbers go on");
    let (restored, _) = Client::come_back_after(&server, &quiet, 0);
    assert_eq!((&restored["recovered"], &restored["missed"]), (&json!(true), &json!(0)), "{restored}");
}

#[test]
fn the_first_welcome_of_a_quiet_room_is_good_after_a_crash_and_its_room_goes_when_nobody_comes() {
    let folder = Folder::new("quiet");
    let mut server = folder.serve(&[]);
    let quiet = Client::join(&server, "quiet");
    let _other = Client::join(&server, "forsaken");
    until("both are written", || server.metric("voxhall_store_rooms_written_total") >= 2.0);
    server.kill();
    let server = folder.serve(&["room.linger_s=2"]);
    let (restored, _back) = Client::come_back_after(&server, &quiet, 0);
    assert_eq!((&restored["recovered"], &restored["missed"]), (&json!(true), &json!(0)), "{restored}");
    until("the other is dropped", || server.metric("voxhall_store_expired_rooms_total") == 1.0);
    assert_eq!(server.metric("voxhall_rooms_revived_total"), 1.0);
    let fresh = Client::join(&server, "forsaken");
    assert_eq!(fresh.seq, 0);
}

#[test]
fn a_room_that_has_ended_is_forgotten() {
    let folder = Folder::new("forgotten");
    let server = folder.serve(&["room.linger_s=1"]);
    let mut member = Client::join(&server, "a");
    member.tell(&json!(1));
    until("it is written", || server.metric("voxhall_store_rooms_written_total") >= 1.0);
    let token = member.leave();
    until("it has ended", || server.metric("voxhall_rooms") == 0.0);
    let (restored, _) = Client::come_back_after(&server, &token, 0);
    assert_eq!((&restored["recovered"], &restored["reason"]), (&json!(false), &json!("room_ended")));
}

#[test]
fn a_store_that_can_t_be_used_is_refused_with_a_remedy() {
    let folder = Folder::new("refused");
    let server = folder.serve(&[]);
    let refused = |settings: &[&str]| {
        let mut command = voxhall(&["serve", "--listen", "127.0.0.1:0", "--admin", "127.0.0.1:0"]);
        command.args(settings.iter().flat_map(|setting| ["--set", *setting]));
        let output = command.output().expect("it ends");
        (output.status.code(), String::from_utf8_lossy(&output.stderr).into_owned())
    };
    let path = format!("store.path={}", folder.file().display());
    let (code, words) = refused(&["store.kind=file", &path]);
    assert_eq!(code, Some(1));
    assert!(words.contains("in use by another process; end that one"), "{words}");
    drop(server);
    fs::write(folder.file(), b"not a store").expect("written");
    let (code, words) = refused(&["store.kind=file", &path]);
    assert_eq!(code, Some(1));
    assert!(words.contains("move the file away"), "{words}");
    assert_eq!(fs::read(folder.file()).expect("there"), b"not a store");
    for (settings, remedy) in [
        (&["store.kind=file"][..], "set store.path"),
        (&["store.kind=redis"], "set store.url"),
        (&[&*path], "set store.kind = \"file\", or leave it out"),
        (&["store.url=redis://a"], "set store.kind = \"redis\", or leave it out"),
        (&["store.kind=redis", "store.url=http://a"], "write it like redis://127.0.0.1:6379/0"),
        (&["store.kind=file", &path, "room.linger_s=0"], "set room.linger_s to the time"),
    ] {
        let (code, words) = refused(settings);
        assert_eq!(code, Some(2), "{words}");
        assert!(words.contains(remedy), "{words}");
    }
}

#[test]
fn without_a_store_nothing_is_asked_and_nothing_kept() {
    let server = Server::start(&[]);
    let _member = Client::join(&server, "a");
    let page = server.admin_get("/metrics");
    assert!(!page.contains("voxhall_store_degraded"));
    assert_eq!(server.metric("voxhall_store_asked_total") + server.metric("voxhall_store_told_total"), 0.0);
}

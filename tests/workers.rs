//! Rooms whose answers come from processes elsewhere: a real Redis, real Python workers, and what goes wrong with them.

#![expect(
    clippy::disallowed_methods,
    reason = "what Redis does is not announced: it is looked at again and again"
)]

mod support;
#[path = "workers/mod.rs"]
mod workers;

use serde_json::json;

use support::tls::Files;
use support::{Server, ask, repository, voxhall};
use workers::{Asker, Outcome, Redis, free_port, until};

/// A worker counts as lost after two seconds.
const QUICK: [&str; 2] = ["worker.claim_s=2", "worker.deadline_s=25"];

fn voice(bytes: usize) -> Vec<u8> {
    (0..bytes).map(|n| (n * 7_919 % 251) as u8).collect()
}

fn answered(text: &str) -> Outcome {
    Outcome {
        statuses: vec!["completed".to_owned()],
        words: format!("You wrote: {text}"),
        ..Outcome::default()
    }
}

#[test]
fn every_utterance_is_answered_once_although_a_worker_is_killed_in_the_middle_of_its_work() {
    let redis = Redis::start("killed");
    let server = redis.serve(&QUICK);
    let mut unlucky = redis.worker(&[]);
    let mut first = Asker::join(&server, "first");
    first.ask("hang");
    unlucky.reaches("hangs");
    let _others = [redis.worker(&[]), redis.worker(&[])];
    let mut rooms: Vec<Asker> = (0..6).map(|n| Asker::join(&server, &format!("room-{n}"))).collect();
    for (n, room) in rooms.iter_mut().enumerate() {
        room.ask(&n.to_string());
    }
    unlucky.kill();
    for (n, room) in rooms.iter_mut().enumerate() {
        assert_eq!(room.outcome(), answered(&n.to_string()));
        room.say(&voice(20_000 + n * 2));
    }
    for (n, room) in rooms.iter_mut().enumerate() {
        let outcome = room.outcome();
        assert_eq!((outcome.statuses, outcome.words), (vec!["completed".to_owned()], "You said:".to_owned()));
        assert!(outcome.audio == voice(20_000 + n * 2), "whole and in order");
    }
    assert_eq!(first.outcome(), answered("hang"), "by another worker");
    for room in rooms.iter_mut().chain([&mut first]) {
        assert_eq!(room.rest(), Vec::<serde_json::Value>::new(), "answered once");
    }
    assert_eq!(server.metric("voxhall_worker_answered_total"), 13.0);
    assert!(server.metric("voxhall_worker_retold_total") >= 1.0);
    assert_eq!(server.metric("voxhall_worker_in_flight"), 0.0);
    until("nothing is left in the stream", || redis.ask(&["XLEN", "voxhall:requests"]) == "0");
}

#[test]
fn an_answer_that_breaks_off_with_its_worker_is_given_whole_by_the_next() {
    let redis = Redis::start("stumbles");
    let server = redis.serve(&QUICK);
    let mut unlucky = redis.worker(&[]);
    let mut room = Asker::join(&server, "room");
    room.ask("stumble");
    unlucky.reaches("stumbles");
    unlucky.kill();
    let _next = redis.worker(&[]);
    let statuses = vec!["failed".to_owned(), "completed".to_owned()];
    assert_eq!(room.outcome(), Outcome { statuses, ..answered("stumble") });
    room.ask("event");
    let outcome = room.outcome();
    assert_eq!((&outcome.others[0]["type"], &outcome.others[0]["degrees"]), (&json!("weather"), &json!(21)));
    room.ask("fail");
    let outcome = room.outcome();
    assert_eq!(
        (&outcome.statuses[..], &outcome.errors[..]),
        (&["failed".to_owned()][..], &[("worker_failed".to_owned(), false)][..])
    );
}

#[test]
fn rooms_stay_up_while_redis_is_away_and_everything_resumes() {
    let mut redis = Redis::start("away");
    let server = redis.serve(&["worker.claim_s=2", "worker.deadline_s=60"]);
    let mut waiting = Asker::join(&server, "waiting");
    waiting.ask("patience");
    let told = redis.request();
    let mut begun = Asker::join(&server, "begun");
    begun.ask("half");
    until("it is asked too", || redis.request()["session"] == "begun");
    redis.say(&redis.request(), &json!({ "type": "text", "delta": "I was about" }));
    begun.0.event("response.output_audio_transcript.delta");

    redis.stop();
    let cut = begun.outcome();
    assert_eq!((&cut.statuses[..], &cut.words[..]), (&["failed".to_owned()][..], "I was about"));
    assert_eq!(cut.errors, [("worker_unavailable".to_owned(), true)]);
    let mut room = Asker::join(&server, "new");
    for _ in 0..3 {
        room.ask("anybody?");
        let refused = room.outcome();
        assert_eq!(refused.statuses, ["failed"]);
        assert_eq!(refused.errors, [("worker_unavailable".to_owned(), true)]);
    }
    assert_eq!(server.metric("voxhall_worker_redis_up"), 0.0);

    redis.go_on();
    let _worker = redis.worker(&[]);
    assert_eq!(waiting.outcome(), answered("patience"), "what was queued is answered: {told}");
    until("it heals", || server.metric("voxhall_worker_redis_up") == 1.0);
    for room in [&mut room, &mut begun, &mut waiting] {
        room.ask("again");
        assert_eq!(room.outcome(), answered("again"));
    }
}

#[test]
fn a_redis_that_hangs_is_one_that_is_away() {
    let redis = Redis::start("hangs");
    let server = redis.serve(&["worker.deadline_s=60"]);
    let mut room = Asker::join(&server, "room");
    let _worker = redis.worker(&[]);
    room.ask("before");
    assert_eq!(room.outcome(), answered("before"));
    redis.signal("STOP");
    room.ask("meanwhile");
    until("it is noticed", || server.metric("voxhall_worker_redis_up") == 0.0);
    let mut other = Asker::join(&server, "other");
    other.ask("anybody?");
    assert_eq!(other.outcome().errors, [("worker_unavailable".to_owned(), true)]);
    redis.signal("CONT");
    assert_eq!(room.outcome(), answered("meanwhile"));
    assert_eq!(room.rest(), Vec::<serde_json::Value>::new());
}

#[test]
fn what_redis_has_forgotten_is_told_again() {
    let mut redis = Redis::start("forgetful");
    let server = redis.serve(&["worker.deadline_s=60"]);
    let mut room = Asker::join(&server, "room");
    room.ask("still there?");
    redis.request();
    redis.ask(&["FLUSHALL", "SYNC"]);
    redis.stop();
    redis.go_on();
    let _worker = redis.worker(&[]);
    assert_eq!(room.outcome(), answered("still there?"));
    assert_eq!(room.rest(), Vec::<serde_json::Value>::new());
}

#[test]
fn over_pubsub_the_first_worker_answers_and_without_any_the_client_may_try_again() {
    let redis = Redis::start("pubsub");
    let server = redis.serve(&["worker.mode=pubsub"]);
    let mut room = Asker::join(&server, "room");
    room.ask("nobody");
    let refused = room.outcome();
    assert_eq!(refused.errors, [("worker_unavailable".to_owned(), true)]);
    let _workers = [redis.worker(&["--pubsub"]), redis.worker(&["--pubsub"])];
    until("both listen", || redis.ask(&["PUBSUB", "NUMSUB", "voxhall:requests"]).ends_with('2'));
    for n in 0..5 {
        room.ask(&n.to_string());
        assert_eq!(room.outcome(), answered(&n.to_string()));
    }
    until("the other's answers are ignored", || server.metric("voxhall_worker_answers_ignored_total") >= 5.0);
    assert_eq!(room.rest(), Vec::<serde_json::Value>::new());
}

#[test]
fn audio_may_come_back_as_bytes() {
    let redis = Redis::start("bytes");
    let server = redis.serve(&[]);
    let _worker = redis.worker(&[]);
    let mut room = Asker::join(&server, "room?format=g711_ulaw");
    room.say(&voice(8_000));
    let outcome = room.outcome();
    assert_eq!(outcome.statuses, ["completed"]);
    assert!(outcome.audio == voice(8_000));
}

#[test]
fn what_no_worker_answers_goes_to_the_dead_letters() {
    let redis = Redis::start("poison");
    let server = redis.serve(&["worker.claim_s=2", "worker.deadline_s=25", "worker.deliveries_max=2"]);
    let _worker = redis.worker(&[]);
    let mut room = Asker::join(&server, "room");
    room.ask("poison");
    let outcome = room.outcome();
    assert_eq!(outcome.statuses, ["failed"]);
    assert_eq!(outcome.errors, [("worker_gave_up".to_owned(), false)]);
    let mut letters = String::new();
    until("it lies there", || {
        letters = redis.ask(&["XRANGE", "voxhall:requests:dead", "-", "+"]);
        !letters.is_empty()
    });
    assert!(letters.contains("poison") && letters.contains("delivered 2 times"), "{letters}");
    assert_eq!(server.metric("voxhall_worker_dead_letters_total"), 1.0);
    room.ask("something else");
    assert_eq!(room.outcome(), answered("something else"));
    until("nothing is left in the stream", || redis.ask(&["XLEN", "voxhall:requests"]) == "0");
}

#[test]
fn what_nobody_wants_any_more_leaves_the_stream() {
    let redis = Redis::start("cancel");
    let server = redis.serve(&["room.linger_s=0"]);
    let mut room = Asker::join(&server, "room");
    room.ask("never mind");
    let request = redis.request();
    room.send(&json!({ "type": "response.cancel" }));
    assert_eq!(room.outcome().statuses, ["cancelled"]);
    until("nobody is asked any more", || redis.ask(&["XLEN", "voxhall:requests"]) == "0");
    redis.say(&request, &json!({ "type": "text", "delta": "late" }));
    assert_eq!(room.rest(), Vec::<serde_json::Value>::new());
    room.ask("and who leaves");
    redis.request();
    drop(room);
    until("the room has ended", || redis.ask(&["XLEN", "voxhall:requests"]) == "0");
    until("both were called off", || server.metric("voxhall_worker_cancelled_total") == 2.0);
}

#[test]
fn a_client_waits_no_longer_than_the_deadline() {
    let redis = Redis::start("deadline");
    let server = redis.serve(&["worker.claim_s=1", "worker.deliveries_max=1", "worker.deadline_s=2"]);
    let mut room = Asker::join(&server, "room");
    room.ask("anybody?");
    let late = room.outcome();
    assert_eq!((&late.statuses[..], &late.words[..]), (&["failed".to_owned()][..], ""));
    assert_eq!(late.errors, [("worker_timeout".to_owned(), true)]);
    until("nobody is asked any more", || redis.ask(&["XLEN", "voxhall:requests"]) == "0");
}

#[test]
fn nodes_share_the_workers_and_clear_away_what_a_dead_one_has_left() {
    let redis = Redis::start("nodes");
    let settings = ["worker.claim_s=1", "worker.deliveries_max=4", "worker.deadline_s=5", "worker.age_s=6"];
    let (mut dying, living) = (redis.serve(&settings), redis.serve(&settings));
    let mut hanging = redis.worker(&[]);
    let mut left = Asker::join(&dying, "left");
    left.ask("hang");
    hanging.reaches("hangs");
    let mut unheard = Asker::join(&dying, "unheard");
    unheard.ask("never");
    until("both stand there", || redis.ask(&["XLEN", "voxhall:requests"]) == "2");
    dying.kill();
    hanging.kill();
    let _next = redis.worker(&[]);
    let mut room = Asker::join(&living, "room");
    room.ask("hello");
    assert_eq!(room.outcome(), answered("hello"));
    until("nothing is left in the stream", || redis.ask(&["XLEN", "voxhall:requests"]) == "0");
    until("nor with the dead worker", || {
        redis.ask(&["XPENDING", "voxhall:requests", "workers"]).starts_with('0')
    });
    assert_eq!(room.rest(), Vec::<serde_json::Value>::new());
}

#[test]
fn redis_may_be_reached_over_tls() {
    let files = Files::new("workers");
    files.issue();
    let (cert, key) = (files.cert().display().to_string(), files.key().display().to_string());
    let port = free_port().to_string();
    let arguments = ["--tls-port", &port, "--tls-cert-file", &cert, "--tls-key-file", &key];
    let redis = Redis::start_with("tls", &[&arguments[..], &["--tls-auth-clients", "no"]].concat());
    let url = format!("worker.redis_url=rediss://127.0.0.1:{port}");
    let arguments = ["--shards", "1", "--engine", "worker", "--set", &url];
    let server = Server::start_in(&[("SSL_CERT_FILE", &cert)], &arguments);
    let _worker = redis.worker(&[]);
    let mut room = Asker::join(&server, "room");
    room.ask("safely");
    assert_eq!(room.outcome(), answered("safely"));
    let stranger = Server::start(&arguments);
    let mut room = Asker::join(&stranger, "room");
    room.ask("safely?");
    assert_eq!(
        room.outcome().errors,
        [("worker_unavailable".to_owned(), true)],
        "it knows nobody who signed it"
    );
}

#[test]
fn bad_answers_harm_nobody() {
    let redis = Redis::start("hostile");
    let server = redis.serve(&[]);
    let mut room = Asker::join(&server, "room");
    room.ask("well?");
    let request = redis.request();
    let name = request["request"].as_str().expect("a name");
    let named = |members: &str| format!("{{\"request\":\"{name}\",\"worker\":\"bad\",{members}}}");
    let unreadable = [
        "not JSON".to_owned(),
        "{}".to_owned(),
        "[".repeat(10_000),
        "\u{1}".to_owned(),
        named("\"type\":\"audio\",\"audio\":\"%%\""),
        named("\"type\":\"response.done\""),
        named("\"type\":\"text\",\"delta\":{}"),
        named(&format!("\"type\":\"big\",\"a\":\"{}\"", "a".repeat(100_000))),
        named(&format!("\"type\":\"text\",\"delta\":\"{}\"", "a".repeat(1_100_000))),
    ];
    for message in &unreadable {
        assert_eq!(redis.publish(&request, message), "1");
    }
    let strangers = [
        r#"{"request":"req_00000000000000ff","type":"done"}"#.to_owned(),
        named("\"type\":\"done\",\"attempt\":9"),
    ];
    for message in &strangers {
        redis.publish(&request, message);
    }
    redis.say(&request, &json!({ "type": "text", "delta": "fine" }));
    redis.say(&request, &json!({ "type": "done" }));
    let outcome = room.outcome();
    assert_eq!((&outcome.statuses[..], &outcome.words[..]), (&["completed".to_owned()][..], "fine"));
    assert_eq!((outcome.errors, outcome.others), (vec![], vec![]));
    assert_eq!(server.metric("voxhall_worker_answers_unreadable_total"), unreadable.len() as f64);
    assert_eq!(server.metric("voxhall_worker_answers_ignored_total"), strangers.len() as f64);
}

#[test]
fn without_a_redis_there_are_no_workers_and_whoever_asks_is_told() {
    let refused = voxhall(&["serve", "--engine", "worker"]).output().expect("it runs");
    let errors = String::from_utf8_lossy(&refused.stderr);
    assert_eq!(refused.status.code(), Some(2), "{errors}");
    assert!(errors.contains("set worker.redis_url"), "{errors}");
    let server = Server::start(&["--shards", "1"]);
    let handshake = "upgrade: websocket\r\nconnection: upgrade\r\nsec-websocket-version: 13\r\n\
                     sec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==";
    let answer = support::exchange(
        server.public,
        &format!("GET /ws/room?engine=worker HTTP/1.1\r\nhost: a\r\n{handshake}\r\n\r\n"),
    );
    assert!(answer.starts_with("HTTP/1.1 400") && answer.contains("worker.redis_url"), "{answer}");
    let mut room = Asker::join(&server, "room");
    room.send(&json!({ "type": "session.update", "session": { "engine": "worker" } }));
    let error = room.0.event("error");
    assert_eq!(error["error"]["param"], "session.engine");
    assert!(!ask(server.admin, "GET", "/metrics", "").contains("voxhall_worker_"));
}

#[test]
fn the_page_about_workers_shows_the_worker_that_is_tested() {
    let page = std::fs::read_to_string(repository("docs/engines-worker.md")).expect("the page");
    let worker = std::fs::read_to_string(repository("tests/workers/worker.py")).expect("the worker");
    assert!(page.contains(&format!("```python\n{worker}```")), "docs/engines-worker.md shows another worker");
}

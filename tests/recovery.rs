//! Coming back to a running server: after a cut, and to one that was started anew.

mod support;

use serde_json::{Value, json};
use support::{Member, Server, connect};
use tungstenite::Message;

/// Opens a WebSocket at this path.
fn join(server: &Server, path: &str) -> Member {
    server.join_over(connect(server.public), path, None).expect("a room")
}

fn token(welcome: &Value) -> String {
    welcome["session"]["resume"]["token"].as_str().expect("a token").to_owned()
}

fn say(member: &mut Member, event: &Value) {
    member.send(Message::text(event.to_string()));
}

#[test]
fn a_member_whose_connection_breaks_hears_what_it_missed_when_it_is_back() {
    let server = Server::start(&["--shards", "2", "--engine", "relay"]);
    let mut ann = join(&server, "/ws/meeting");
    ann.event("session.created");
    let mut ben = join(&server, "/ws/meeting");
    let welcome = ben.event("session.created");
    ann.event("room.member_joined");
    say(&mut ann, &json!({"type": "room.send", "data": 1}));
    let last = ben.event("room.message")["seq"].as_u64().expect("a number");
    drop(ben);
    ann.event("room.member_left");
    for n in 2..=4 {
        say(&mut ann, &json!({"type": "room.send", "data": n}));
    }
    say(&mut ann, &json!({"type": "session.update", "state": {"page": 4}}));
    ann.event("session.updated");
    let mut ben = join(&server, &format!("/ws/meeting?resume={}&after={last}", token(&welcome)));
    let again = ben.event("session.created");
    assert_eq!(again["session"]["member"], welcome["session"]["member"]);
    let restored = ben.event("session.restored");
    assert_eq!((&restored["recovered"], &restored["missed"]), (&json!(true), &json!(3)));
    assert_eq!(restored["state"], json!({"page": 4}));
    for n in 2..=4 {
        assert_eq!(ben.event("room.message")["data"], n);
    }
    // The older connection still stands: the newer one takes over.
    let mut newer =
        join(&server, &format!("/ws/meeting?resume={}&after={}", token(&again), restored["last_seq"]));
    newer.event("session.restored");
    assert_eq!(ben.goodbye(), 1_008);
    for (metric, value) in [
        ("voxhall_recovered_total", 2.0),
        ("voxhall_events_replayed_total", 3.0),
        ("voxhall_connections_taken_over_total", 1.0),
        ("voxhall_not_recovered_total", 0.0),
        ("voxhall_client_events_repeated_total", 0.0),
    ] {
        assert_eq!(server.metric(metric), value, "{metric}");
    }
    assert!(server.metric("voxhall_history_events") >= 6.0 && server.metric("voxhall_history_bytes") > 300.0);
    let limit = server.metric_where("voxhall_limit", "key=\"room.history_events_max\"");
    assert_eq!(limit, 256.0);
}

#[test]
fn a_token_is_known_again_where_the_operator_has_given_the_key_of_it() {
    let key = "auth.resume_key=0123456789abcdef0123456789abcdef";
    for (settings, reason) in [(&["--set", key][..], "room_ended"), (&[], "invalid_token")] {
        let start = || Server::start(&[&["--shards", "1"], settings].concat());
        let mut first = start();
        let welcome = join(&first, "/ws/meeting").event("session.created");
        first.kill();
        let second = start();
        let mut back = join(&second, &format!("/ws/meeting?resume={}&after=0", token(&welcome)));
        let restored = back.event("session.restored");
        assert_eq!((&restored["recovered"], &restored["reason"]), (&json!(false), &json!(reason)));
        let told = second.metric_where("voxhall_not_recovered_total", &format!("reason=\"{reason}\""));
        assert_eq!(told, 1.0);
    }
}

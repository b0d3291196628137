//! Publishing from outside, as applications and operators see it: the management API, the command line and the feed of
//! events, on a real server with two shards.

#[path = "../support/mod.rs"]
mod support;

mod command;
mod feed;

use std::net::TcpStream;
use std::thread;

use serde_json::{Value, json};
use support::{Member, Server, ask, exchange};

const PUBLISH: &str = "/api/v1/publish";
const LETTERS: &str = "/api/v1/dead-letters";

fn server(arguments: &[&str]) -> Server {
    Server::start(&[&["--shards", "2", "--engine", "relay"], arguments].concat())
}

/// Asks the management API: status, head and JSON.
fn manage(server: &Server, method: &str, path: &str, headers: &str, body: &str) -> (u16, String, Value) {
    let (admin, length) = (server.admin, body.len());
    let answer = exchange(
        admin,
        &format!(
            "{method} {path} HTTP/1.1\r\nhost: {admin}\r\nconnection: close\r\n{headers}content-length: {length}\r\n\r\n{body}"
        ),
    );
    let (head, body) = answer.split_once("\r\n\r\n").expect("a head");
    let status = head.split(' ').nth(1).and_then(|status| status.parse().ok()).expect("a status");
    (status, head.to_ascii_lowercase(), serde_json::from_str(body).unwrap_or(Value::Null))
}

fn publish(server: &Server, body: &Value) -> (u16, Value) {
    let (status, _, answer) = manage(server, "POST", PUBLISH, "", &body.to_string());
    (status, answer)
}

/// A member of a room of its own who has subscribed.
fn subscriber(server: &Server, room: &str, channel: &str) -> Member<TcpStream> {
    let mut member = server.join(room, None);
    member.event("session.created");
    member.send(json!({ "type": "channel.subscribe", "channel": channel }).to_string());
    member.event("channel.subscribed");
    member
}

#[test]
fn a_publication_reaches_every_subscriber_on_both_shards_and_they_are_counted() {
    let server = server(&[]);
    let mut members: Vec<_> =
        (0..200).map(|at| subscriber(&server, &format!("room-{at}"), "system:*")).collect();
    let (status, answer) =
        publish(&server, &json!({ "channel": "system:notice", "data": { "n": [1, "x"] } }));
    assert_eq!(
        (status, &answer["shards"], &answer["subscribers"]),
        (200, &json!(2), &json!(200)),
        "{answer}"
    );
    assert_eq!(answer["duplicate"], false);
    for member in &mut members {
        let message = member.event("channel.message");
        assert_eq!(
            (&message["channel"], &message["data"]),
            (&json!("system:notice"), &json!({ "n": [1, "x"] }))
        );
        assert_eq!((&message["id"], &message["offset"]), (&answer["id"], &answer["offset"]));
    }
    members.truncate(1);
    let again = json!({ "channel": "system:notice", "data": 2, "dedupe": "k" });
    let (_, first) = publish(&server, &again);
    let (status, repeated) = publish(&server, &again);
    assert_eq!((status, &repeated["duplicate"], &repeated["id"]), (200, &json!(true), &first["id"]));
    publish(&server, &json!({ "channel": "system:notice", "data": 3 }));
    let heard: Vec<Value> = (0..2).map(|_| members[0].event("channel.message")["data"].clone()).collect();
    assert_eq!(heard, [json!(2), json!(3)]);
    assert_eq!(server.metric_where("voxhall_publications_total", "published"), 3.0);
    assert_eq!(server.metric_where("voxhall_publications_total", "duplicate"), 1.0);
}

#[test]
fn a_batch_goes_out_in_its_order_and_each_item_has_its_answer() {
    let server = server(&[]);
    let mut members: Vec<_> =
        (0..3).map(|at| subscriber(&server, &format!("room-{at}"), &format!("user:{at}:*"))).collect();
    let mut items: Vec<Value> =
        (0..150).map(|n| json!({ "channel": format!("user:{}:n", n % 3), "data": n })).collect();
    items[50] = json!({ "channel": "nowhere:a", "data": 0 });
    items[51] = json!({ "channel": "user:1:n", "data": 0, "ttl_s": -1 });
    let (status, answer) = publish(&server, &json!(items));
    assert_eq!((status, &answer["published"], &answer["failed"]), (200, &json!(148), &json!(2)), "{answer}");
    let results = answer["results"].as_array().expect("a list");
    assert_eq!((&results[50]["status"], &results[50]["reason"]), (&json!(403), &json!("refused")));
    assert_eq!((&results[51]["status"], &results[51]["field"]), (&json!(400), &json!("ttl_s")));
    assert!(
        results.iter().enumerate().all(|(at, result)| (50..52).contains(&at) || result["subscribers"] == 1)
    );
    for (at, member) in members.iter_mut().enumerate() {
        let expected = (0..150).filter(|n| n % 3 == at && !(50..52).contains(n));
        for n in expected {
            assert_eq!(member.event("channel.message")["data"], n);
        }
    }
}

#[test]
fn requests_at_once_under_one_key_publish_once() {
    let server = server(&[]);
    let mut member = subscriber(&server, "room", "user:7:*");
    let body = json!({ "channel": "user:7:a", "data": "once" }).to_string();
    let headers = "idempotency-key: order-7\r\n";
    let answers: Vec<_> = thread::scope(|scope| {
        let asking: Vec<_> =
            (0..8).map(|_| scope.spawn(|| manage(&server, "POST", PUBLISH, headers, &body))).collect();
        asking.into_iter().map(|asked| asked.join().expect("an answer")).collect()
    });
    assert!(
        answers.iter().all(|(status, _, answer)| *status == 200 && *answer == answers[0].2),
        "{answers:?}"
    );
    let (status, _, problem) =
        manage(&server, "POST", PUBLISH, headers, r#"{"channel":"user:7:a","data":"other"}"#);
    assert_eq!((status, &problem["reason"]), (422, &json!("idempotency_key_reused")));
    publish(&server, &json!({ "channel": "user:7:a", "data": "last" }));
    let heard: Vec<Value> = (0..2).map(|_| member.event("channel.message")["data"].clone()).collect();
    assert_eq!(heard, [json!("once"), json!("last")]);
    assert_eq!(server.metric("voxhall_idempotent_answers_repeated_total"), 7.0);
    assert_eq!(server.metric("voxhall_idempotency_keys_misused_total"), 1.0);
}

#[test]
fn what_nobody_hears_is_a_dead_letter_until_somebody_does() {
    let server = server(&[]);
    let body = json!({ "channel": "user:7:a", "data": { "n": 1 }, "require_subscriber": true });
    let (status, problem) = publish(&server, &body);
    assert_eq!((status, &problem["reason"]), (409, &json!("no_subscriber")), "{problem}");
    let (_, _, list) = manage(&server, "GET", LETTERS, "", "");
    let letter = &list["dead_letters"][0];
    assert_eq!(
        (&list["total"], &letter["reason"], &letter["data"]),
        (&json!(1), &json!("no_subscriber"), &json!({ "n": 1 }))
    );
    let retry = format!("{LETTERS}/{}/retry", letter["id"].as_str().expect("an id"));
    let (status, _, problem) = manage(&server, "POST", &retry, "", "");
    assert_eq!((status, &problem["reason"]), (409, &json!("no_subscriber")));
    let mut member = subscriber(&server, "room", "user:7:*");
    let (status, _, answer) = manage(&server, "POST", &retry, "", "");
    assert_eq!((status, &answer["subscribers"]), (200, &json!(1)), "{answer}");
    assert_eq!(member.event("channel.message")["data"], json!({ "n": 1 }));
    let (_, _, list) = manage(&server, "GET", LETTERS, "", "");
    assert_eq!(list["total"], 0, "what failed again was no new letter: {list}");
    assert_eq!(manage(&server, "POST", &retry, "", "").0, 404);
    assert_eq!(server.metric_where("voxhall_dead_letters_received_total", "no_subscriber"), 2.0);
    assert_eq!(server.metric("voxhall_dead_letters_retried_total"), 1.0);
    assert_eq!(server.metric("voxhall_dead_letters_failed_again_total"), 1.0);
    assert_eq!(server.metric("voxhall_dead_letters_kept"), 0.0);
}

#[test]
fn clients_letters_are_seen_too_and_bad_bodies_do_no_harm() {
    let few = "channels.namespaces=[\"user messages_per_s=1 messages_burst=1\"]";
    let server = server(&["--set", "limits.message_bytes_max=65536", "--set", few]);
    let mut member = server.join("room", None);
    member.event("session.created");
    for (channel, code, times) in [("system:notice", "forbidden", 1), ("user:9:a", "rate_limited", 20)] {
        let said = json!({ "type": "channel.publish", "channel": channel, "data": "mine" }).to_string();
        (0..times).for_each(|_| member.send(said.as_str()));
        assert_eq!(member.event("error")["error"]["code"], code);
    }
    // What the client was told is on its way to the control plane by then, and nothing overtakes it.
    let (_, _, list) = manage(&server, "GET", LETTERS, "", "");
    let letter = &list["dead_letters"][0];
    assert_eq!((&letter["by"], &letter["reason"]), (&json!("user"), &json!("rate_limited")), "{list}");
    let (_, _, list) = manage(&server, "GET", &format!("{LETTERS}?reason=refused"), "", "");
    assert_eq!(list["total"], 0, "what it may not publish is only counted");
    assert_eq!(server.metric_where("voxhall_dead_letters_total", "refused"), 1.0);
    let deep = format!(r#"{{"channel":"user:1:a","data":{}{}}}"#, "[".repeat(5_000), "]".repeat(5_000));
    let long = format!(r#"{{"channel":"user:1:a","data":"{}"}}"#, "x".repeat(70_000));
    for (body, expected) in [
        (deep.as_str(), 400),
        (long.as_str(), 413),
        ("{\"channel\":\"user:1:a\",\"data\":\"\u{0}\"}", 400),
        ("[[[[", 400),
        (r#"{"channel":"user:1:a","data":1}garbage"#, 400),
        (r#"{"publish":[]}"#, 400),
    ] {
        assert_eq!(manage(&server, "POST", PUBLISH, "", body).0, expected, "{}", &body[..body.len().min(60)]);
    }
    for headers in
        ["idempotency-key: a\r\nidempotency-key: b\r\n", "idempotency-key: \r\n", "idempotency-key: a b\r\n"]
    {
        let good = r#"{"channel":"user:1:a","data":1}"#;
        assert_eq!(manage(&server, "POST", PUBLISH, headers, good).0, 400, "{headers}");
    }
    assert!(ask(server.admin, "GET", PUBLISH, "").starts_with("HTTP/1.1 405"));
    assert_eq!(publish(&server, &json!({ "channel": "user:1:a", "data": 1 })).0, 200);
}

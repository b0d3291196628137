//! Streams and posts where everybody brings a token: whose stream it is that somebody may speak for.

use serde_json::json;

use super::listener::{Listener, Poster};
use super::support::{Server, connect, exchange, voxhall};

const SECRET: &str = "VOXHALL_AUTH__HS256_SECRET";
const SECRET_TEXT: &str = "a secret of more than thirty-two bytes for these tests";

fn token(sub: &str, room: &str) -> String {
    mint(&["--sub", sub, "--room", room])
}

fn mint(arguments: &[&str]) -> String {
    let minted = voxhall(&[&["token", "--ttl", "1h"], arguments].concat())
        .envs([(SECRET, SECRET_TEXT), ("VOXHALL_AUTH__MODE", "jwt")])
        .output()
        .expect("the program runs");
    assert!(minted.status.success(), "{}", String::from_utf8_lossy(&minted.stderr));
    String::from_utf8(minted.stdout).expect("text").trim().to_owned()
}

#[test]
fn a_member_speaks_for_itself_alone() {
    let server = Server::start_in(&[(SECRET, SECRET_TEXT)], &["--shards", "2", "--set", "auth.mode=jwt"]);
    let (ann, bob) = (token("ann", "room*"), token("bob", "room*"));
    let refused = |request: &str| exchange(server.public, request)[9..12].to_owned();
    assert_eq!(refused("GET /sse/room1 HTTP/1.1\r\nHost: x\r\n\r\n"), "401");
    assert_eq!(refused(&format!("GET /sse/other?token={ann} HTTP/1.1\r\nHost: x\r\n\r\n")), "403");
    let mut anns = Listener::open(&server, &format!("/sse/room1?engine=relay&token={ann}"));
    let created = anns.event("session.created");
    let id = created["session"]["id"].as_str().expect("a name");
    let bearer = format!("Authorization: Bearer {bob}\r\n");
    let ping = json!({"type": "ping", "t": 1}).to_string();
    let post = |target: &str| Poster::new(&server).post(target, &ping).0;
    assert_eq!(post("/sse/room1"), 401);
    assert_eq!(post(&format!("/sse/room1?token={bob}")), 409, "he hears no stream");
    assert_eq!(post(&format!("/sse/room1?token={bob}&id={id}")), 409, "hers is not his");
    assert_eq!(post(&format!("/sse/other?token={ann}")), 404, "no such room");
    // Each has one stream, so that nobody has to name it.
    let mut bobs = Listener::over(connect(server.public), "/sse/room1", &bearer);
    bobs.event("session.created");
    for (token, stream) in [(&ann, &mut anns), (&bob, &mut bobs)] {
        assert_eq!(post(&format!("/sse/room1?token={token}")), 200);
        assert_eq!(stream.event("pong")["t"], 1);
    }
    // Who is disconnected is told why, and posts no more.
    let admin = mint(&["--sub", "root", "--role", "admin"]);
    let request = format!(
        "POST /api/v1/users/ann/disconnect HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: 0\r\n\
         Authorization: Bearer {}\r\n\r\n",
        admin
    );
    assert!(exchange(server.admin, &request).starts_with("HTTP/1.1 200"));
    assert_eq!(anns.goodbye(), 1008);
    assert_eq!(post(&format!("/sse/room1?token={ann}")), 409);
}

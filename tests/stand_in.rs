//! The parrot as a stand-in with which others test their clients: slow, coarse and faulty as the command line says.

mod support;

use std::time::{Duration, Instant};

use serde_json::json;
use support::{Server, connect};

#[test]
#[expect(clippy::disallowed_methods, reason = "the delay is between this process and the server's")]
fn pace_and_faults_are_those_of_the_command_line() {
    let server = Server::start(&[
        "--shards",
        "2",
        "--parrot-delay-ms",
        "300",
        "--set",
        "parrot.chunk_ms=200",
        "--set",
        "parrot.pace=0",
        "--set",
        "parrot.fail_after=1",
    ]);
    let stream = connect(server.public);
    let mut member = server.join_over(stream, "/v1/realtime?model=any", Some("realtime")).expect("a room");
    member.event("session.created");
    let asked = Instant::now();
    member.send(json!({"type": "response.create"}).to_string());
    let delta = member.event("response.output_audio.delta");
    assert!(asked.elapsed() >= Duration::from_millis(300), "it thinks first");
    // 200 ms of 24 kHz in base64.
    assert_eq!(delta["delta"].as_str().map(str::len), Some(12_800));
    assert_eq!(member.event("response.done")["response"]["status"], "completed");
    member.send(json!({"type": "response.create"}).to_string());
    let failed = member.event("response.done")["response"].clone();
    assert_eq!(failed["status"], "failed");
    assert_eq!(failed["status_details"]["error"]["type"], "server_error");
    member.send(json!({"type": "response.create"}).to_string());
    assert_eq!(member.event("response.done")["response"]["status"], "completed");
}

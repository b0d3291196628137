//! Events that come in bursts share text frames where the client takes batches, and nowhere else.

mod support;

use support::{Member, Server};

const EVENTS: u64 = 1_000;
const BURST: u64 = 10;

#[test]
fn a_thousand_events_reach_a_client_of_batches_in_few_frames_and_a_plain_one_in_a_thousand() {
    // Long enough for a burst to come in on any machine; a burst's last event never waits for more.
    let server = Server::start(&["--shards", "1", "--engine", "relay", "--set", "outbox.coalesce_ms=60"]);
    let mut plain = server.join("news", Some("voxhall.v1.plain"));
    plain.event("session.created");
    let mut batching = server.join("news", Some("voxhall.v1"));
    batching.event("session.created");
    plain.event("room.member_joined");
    let before = Batches::read(&server);

    let (mut frames, mut plain_frames) = (0, 0);
    for first in (0..EVENTS).step_by(BURST as usize) {
        let answers = support::exchange(server.admin, &burst(&server, first));
        assert_eq!(answers.matches("{\"delivered\":2}").count() as u64, BURST, "{answers}");
        frames += take_burst(&mut batching, first);
        plain_frames += take_burst(&mut plain, first);
    }

    assert_eq!(plain_frames, EVENTS, "a plain client gets one event a frame");
    assert!(frames < EVENTS / 5, "{EVENTS} events came in {frames} frames");
    let after = Batches::read(&server);
    assert_eq!(
        after.frames - before.frames,
        frames + plain_frames,
        "metrics count the frames the clients saw"
    );
    let large = after.above_5 - before.above_5;
    assert!(large * 2 > frames, "of {frames} frames for a client of batches {large} held more than 5 events");
    assert_eq!(server.metric("ws_outbox_dropped_messages_total"), 0.0);
}

/// What `ws_outbox_batch_size` says.
struct Batches {
    frames: u64,
    above_5: u64,
}

impl Batches {
    fn read(server: &Server) -> Self {
        let frames = server.metric("ws_outbox_batch_size_count");
        let small = server.metric_where("ws_outbox_batch_size_bucket", "le=\"5.0\"");
        Self { frames: frames as u64, above_5: (frames - small) as u64 }
    }
}

/// Requests that send the numbers of a burst to the room, for one connection.
fn burst(server: &Server, first: u64) -> String {
    let mut requests = String::new();
    for number in first..first + BURST {
        let connection = if number + 1 == first + BURST { "close" } else { "keep-alive" };
        let body = format!("{{\"data\":{number}}}");
        requests += &format!(
            "POST /api/v1/rooms/news/send HTTP/1.1\r\nhost: {}\r\nconnection: {connection}\r\n\
             content-length: {}\r\n\r\n{body}",
            server.admin,
            body.len()
        );
    }
    requests
}

/// Reads a burst, every number in its turn: the text frames it came in.
fn take_burst(member: &mut Member, first: u64) -> u64 {
    let (mut frames, mut due) = (0, first);
    while due < first + BURST {
        let text = member.read().into_text().expect("events");
        frames += 1;
        for line in text.lines() {
            let event: serde_json::Value = serde_json::from_str(line).expect("JSON");
            assert_eq!((&event["type"], &event["data"]), (&"room.message".into(), &due.into()), "{line}");
            due += 1;
        }
    }
    frames
}

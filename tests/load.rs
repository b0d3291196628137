//! The program under the bundled load generator, at a size that any machine carries: nothing is lost, what is
//! counted agrees, and nothing is left behind. Speed is not judged here.

mod support;

use support::{Server, program};

/// Runs a scenario; the report, once every bound has held.
fn load(server: &Server, scenario: &str, arguments: &[&str]) -> serde_json::Value {
    let output = program("voxhall-loadtest")
        .arg(scenario)
        .args(["--url", &format!("ws://{}", server.public), "--admin", &format!("http://{}", server.admin)])
        .args(["--json", "-", "--quiet"])
        .args(arguments)
        .output()
        .expect("the generator runs");
    let report = String::from_utf8_lossy(&output.stdout);
    assert!(
        output.status.success(),
        "{scenario} {arguments:?}: {}\n{report}\n{}",
        output.status,
        String::from_utf8_lossy(&output.stderr)
    );
    serde_json::from_str(&report).unwrap_or_else(|error| panic!("{error}: {report}"))
}

#[test]
fn every_frame_comes_back_once_and_the_counts_agree() {
    let server = Server::start(&["--shards", "2", "--engine", "echo"]);
    let arguments =
        ["--clients", "200", "--rate", "2000", "--warmup-s", "1", "--duration-s", "3", "--expect", "loss=0"];
    let report = load(&server, "echo", &arguments);
    assert_eq!(report["duplicated"], 0);
    assert_eq!(report["reordered"], 0);
    assert_eq!(report["server"]["agrees"], true, "{report}");
}

#[test]
fn a_frame_for_many_listeners_is_encoded_once() {
    let server = Server::start(&["--shards", "1", "--set", "limits.members_per_room_max=200"]);
    let arguments =
        ["--clients", "100", "--rate", "50", "--warmup-s", "1", "--duration-s", "3", "--expect", "loss=0"];
    load(&server, "fanout", &arguments);
    let (encoded, received) =
        (server.metric("voxhall_frames_encoded_total"), server.metric("voxhall_frames_received_total"));
    assert_eq!(encoded, received, "one encoding for each frame that came in, not one for each listener");
    assert_eq!(server.metric("voxhall_frames_sent_total"), received * 100.0);
}

#[test]
fn streams_of_events_are_held_and_come_back_after_a_storm() {
    let server = Server::start(&["--shards", "2"]);
    let arguments = ["--transport", "sse", "--clients", "500", "--warmup-s", "0.5", "--duration-s", "2"];
    let bounds = ["--expect", "handshake_failures=0,errors=0"];
    let report = load(&server, "idle", &[&arguments[..], &bounds].concat());
    assert_eq!(report["handshakes"]["ok"], 500);
    assert_eq!(report["events_received"], 500, "a welcome each: {report}");
    assert_eq!(server.metric("voxhall_sse_connections"), 0.0, "all have left");
    let report = load(&server, "storm", &[&arguments[..], &bounds, &["--resume"]].concat());
    assert_eq!(report["storm"]["recovered"], 500, "{report}");
}

#[test]
fn connections_that_come_and_go_leave_nothing_behind() {
    let server = Server::start(&["--shards", "2", "--engine", "echo", "--set", "room.linger_s=0"]);
    load(
        &server,
        "churn",
        &["--clients", "50", "--total", "2000", "--connect-rate", "1000", "--duration-s", "2"],
    );
    for gauge in [
        "websocket_connections",
        "voxhall_descriptors",
        "voxhall_rooms",
        "voxhall_queued_bytes",
        "voxhall_heads",
    ] {
        assert_eq!(server.metric(gauge), 0.0, "{gauge}\n{}", server.admin_get("/metrics"));
    }
}

#[test]
fn a_flood_from_one_address_is_refused_and_costs_the_others_nothing() {
    let server = Server::start(&["--shards", "1", "--engine", "echo"]);
    let arguments = ["--clients", "100", "--rate", "1000", "--warmup-s", "1", "--duration-s", "3"];
    let bounds = ["--flood-after-s", "1", "--expect", "loss=0,errors=0"];
    let report = load(&server, "flood", &[&arguments[..], &bounds[..]].concat());
    let refused = report["flood"]["answers"]["429"].as_f64().expect("some");
    assert_eq!(server.metric_where("voxhall_refused_total", "too_often"), refused);
    let admitted = report["flood"]["answers"]["101"].as_f64().expect("a second's worth at least");
    assert!(admitted >= 200.0, "{report}");
}

#[test]
fn the_parrot_says_to_each_exactly_what_it_said() {
    let server = Server::start(&["--shards", "2"]);
    let arguments = ["--clients", "100", "--engine", "parrot", "--speaking", "0.3", "--spurt-ms", "600"];
    let bounds = ["--warmup-s", "1", "--duration-s", "5", "--expect", "broken_utterances=0,loss=0,errors=0"];
    let report = load(&server, "converse", &[&arguments[..], &bounds[..]].concat());
    assert!(report["converse"]["utterances"].as_u64() > Some(100), "{report}");
}

#[test]
fn those_who_come_back_with_their_tokens_are_all_recovered() {
    let server = Server::start(&["--shards", "2"]);
    let arguments = ["--clients", "300", "--resume", "--over-s", "1", "--warmup-s", "1", "--duration-s", "3"];
    let report = load(&server, "storm", &[&arguments[..], &["--expect", "not_recovered=0"]].concat());
    assert_eq!(report["storm"]["recovered"], 300, "{report}");
}

/// Each listener has all that was said, in a room that forgets nothing, over cuts of every kind.
#[test]
fn a_soak_misses_nothing() {
    let server = Server::start(&["--shards", "2"]);
    let calm = ["--words-percent", "0", "--long-percent", "0"];
    let arguments = [&["--rooms", "60", "--members", "3", "--rate", "600"], &calm[..]].concat();
    let report = soak(&server, &arguments);
    assert_eq!(report["counts"]["exact"], 180, "{report}");
    let messages = &report["messages"];
    assert_eq!(messages["heard"].as_u64(), messages["said"].as_u64().map(|said| said * 2), "{report}");
    assert!(server.metric("voxhall_events_replayed_total") > 0.0);
}

/// Rooms that forget soon, lanes that are short: much is lost, and never without a word.
#[test]
fn a_soak_is_told_what_it_misses() {
    let forgetful = ["--set", "room.history_events_max=20", "--set", "outbox.messages_max=16"];
    let server = Server::start(&[&["--shards", "2"], &forgetful[..]].concat());
    let absences = ["--words-percent", "0", "--long-percent", "20", "--long-s", "2"];
    let report = soak(&server, &[&["--rooms", "30", "--rate", "900"], &absences[..]].concat());
    assert!(report["messages"]["told"].as_u64() > Some(0), "{report}");
}

/// An answer is longer than a lane: what gives way is named, told again from the history, and counted as the server counts it.
#[test]
fn a_soak_gets_back_what_was_dropped() {
    let remembers = ["--set", "room.history_events_max=8192", "--set", "room.history_bytes_max=4194304"];
    let server =
        Server::start(&[&["--shards", "2", "--set", "outbox.messages_max=64"], &remembers[..]].concat());
    let report = soak(&server, &[&DROPS[..], &["--spare-busy", "--long-percent", "0"]].concat());
    assert_eq!(report["counts"]["exact"], 60, "{report}");
    let drops = &report["counts"]["drops"];
    assert!(drops["recovered_messages"].as_u64() > Some(0), "{report}");
    assert_eq!((&drops["lost"], &drops["unnamed"]), (&0.into(), &0.into()), "{report}");
    assert_eq!(drops["messages"], report["server_dropped"], "{report}");
    assert_eq!(drops["messages"], server.metric_where(DROPPED, "class=\"droppable\"") as u64, "{report}");
}

/// The same in rooms that forget soon, whose connections are cut as well.
#[test]
fn a_soak_is_told_which_drops_are_lost() {
    let server = Server::start(&[
        "--shards",
        "2",
        "--set",
        "outbox.messages_max=64",
        "--set",
        "room.history_events_max=40",
    ]);
    let report = soak(&server, &DROPS);
    let drops = &report["counts"]["drops"];
    assert!(drops["lost_messages"].as_u64() > Some(0), "{report}");
    assert!(report["words"]["told"].as_u64() > Some(0), "{report}");
    assert!(drops["messages"].as_u64() <= report["server_dropped"].as_u64(), "{report}");
}

/// A run that was to have drops and had none proves nothing, and says so.
#[test]
fn a_soak_without_drops_is_no_proof() {
    let server = Server::start(&["--shards", "1"]);
    let arguments = ["--rooms", "4", "--rate", "20", "--duration-s", "1", "--doze-s", "0.1"];
    let (report, success) = try_soak(&server, &arguments);
    assert!(!success, "{report}");
    assert_eq!(report["counts"]["drops"]["news"], 0, "{report}");
    assert!(report["faults"][0].as_str().is_some_and(|fault| fault.contains("proven")), "{report}");
}

const DROPPED: &str = "ws_outbox_dropped_messages_total";

/// Answers of 150 words, some of them a second.
const DROPS: [&str; 10] =
    ["--rooms", "30", "--busy-rooms", "3", "--rate", "1500", "--words-percent", "60", "--doze-s", "2"];

/// Runs a soak, which ends well only if nothing was missing without a word.
fn soak(server: &Server, arguments: &[&str]) -> serde_json::Value {
    let (report, success) = try_soak(server, &[&["--duration-s", "5", "--cuts", "30"], arguments].concat());
    assert!(success, "{report}");
    report
}

/// Runs a soak; what it reports, and whether it ended well.
fn try_soak(server: &Server, arguments: &[&str]) -> (serde_json::Value, bool) {
    let output = program("voxhall-loadtest")
        .args(["soak", "--url", &format!("ws://{}", server.public)])
        .args(["--admin", &format!("http://{}", server.admin), "--json", "-"])
        .args(arguments)
        .output()
        .expect("the generator runs");
    let report = String::from_utf8_lossy(&output.stdout);
    let errors = String::from_utf8_lossy(&output.stderr);
    let report = serde_json::from_str(&report).unwrap_or_else(|error| panic!("{error}: {report}{errors}"));
    (report, output.status.success())
}

/// Each subscriber hears what the answers say that it was told, once and in order, over both shards and two processes.
#[test]
fn publications_reach_each_subscriber_once_and_in_order() {
    let server = Server::start(&["--shards", "2", "--engine", "echo"]);
    let common = ["--clients", "40", "--processes", "2", "--sources", "2", "--duration-s", "2"];
    let report = load(&server, "publish", &[&common[..], &["--to", "users", "--rate", "400"]].concat());
    assert_eq!(report["published"], 800, "{report}");
    assert_eq!(report["deliveries"]["received"], 800, "{report}");
    let system = ["--to", "system", "--rate", "60", "--batch", "20", "--subprotocol", "voxhall.v1.plain"];
    let report = load(&server, "publish", &[&common[..], &system].concat());
    assert_eq!(report["answers"]["200"], 120, "{report}");
    assert_eq!(report["deliveries"]["received"], 120 * 40, "{report}");
    assert_eq!(report["agrees"], true, "{report}");
}

/// What the server refuses is counted by its reason, and is nobody's loss.
#[test]
fn publications_that_are_refused_are_not_missed() {
    let few = "channels.namespaces=[\"system messages_per_s=1 messages_burst=5\"]";
    let server = Server::start(&["--shards", "2", "--set", few]);
    let arguments = ["--clients", "20", "--to", "system", "--rate", "50", "--duration-s", "1"];
    let report = load(&server, "publish", &arguments);
    let published = report["published"].as_u64().expect("a count");
    assert!((5..50).contains(&published), "{report}");
    assert_eq!(report["answers"]["429 rate_limited"], 50 - published, "{report}");
    assert_eq!(report["deliveries"]["received"], published * 20, "{report}");
}

#[test]
fn all_come_back_after_a_storm_and_find_their_rooms() {
    let server = Server::start(&["--shards", "2", "--engine", "echo"]);
    load(&server, "storm", &["--clients", "300", "--warmup-s", "1", "--duration-s", "3"]);
    assert_eq!(server.metric("voxhall_rooms_created_total"), 300.0, "no room was lost and none made anew");
}

#[test]
fn clients_that_stop_reading_are_told_1013_and_cost_the_others_nothing() {
    let server = Server::start(&["--shards", "1", "--engine", "echo", "--set", "outbox.slow_client_ms=1000"]);
    // More bytes for each slow client than the kernel holds for it, or its lane would never fill.
    let slow = ["--slow", "0.05", "--slow-rate", "200", "--frame-bytes", "8000"];
    let others =
        ["--clients", "100", "--rate", "1000", "--warmup-s", "1", "--duration-s", "8", "--expect", "loss=0"];
    let report = load(&server, "slow", &[&slow[..], &others[..]].concat());
    assert_eq!(report["slow"]["closes"]["1013"], 5, "{report}");
    assert_eq!(report["server"]["agrees"], true, "{report}");
    assert_eq!(server.metric("voxhall_slow_closed_total"), 5.0);
}

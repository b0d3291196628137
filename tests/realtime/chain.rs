//! Voxhall behind Voxhall: the rooms of one have their sessions with the parrots of another.

use serde_json::Value;

use crate::support::{Server, program};

fn load(server: &Server, arguments: &[&str]) -> Value {
    let output = program("voxhall-loadtest")
        .args(["converse", "--engine", "realtime", "--audio-rate", "24000", "--frame-bytes", "960"])
        .args(["--url", &format!("ws://{}", server.public), "--json", "-", "--quiet"])
        .args(["--expect", "broken_utterances=0,loss=0,errors=0"])
        .args(arguments)
        .output()
        .expect("the generator runs");
    let report = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{report}\n{}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_str(&report).unwrap_or_else(|error| panic!("{error}: {report}"))
}

fn chain(settings: &[&str]) -> (Server, Server) {
    let behind = Server::start(&["--shards", "1"]);
    let url = format!("realtime.url=ws://{}/v1/realtime", behind.public);
    let mut arguments = vec!["--shards", "1", "--engine", "realtime", "--set", &url];
    settings.iter().for_each(|setting| arguments.extend(["--set", *setting]));
    (Server::start(&arguments), behind)
}

#[test]
fn every_utterance_comes_back_whole_and_only_rooms_that_speak_have_a_session() {
    let (server, _behind) = chain(&[]);
    let silent: Vec<_> = (0..10).map(|index| server.join(&format!("silent-{index}"), None)).collect();
    let report = load(
        &server,
        &[
            "--clients",
            "40",
            "--speaking",
            "0.3",
            "--spurt-ms",
            "600",
            "--warmup-s",
            "3",
            "--duration-s",
            "5",
        ],
    );
    assert!(report["converse"]["utterances"].as_u64() > Some(40), "{report}");
    assert_eq!(server.metric("voxhall_upstream_opened_total"), 40.0, "one for each room that spoke");
    drop(silent);
}

#[test]
fn sessions_are_replaced_between_turns_and_nothing_is_cut_or_said_twice() {
    let (server, _behind) = chain(&["realtime.age_s=5"]);
    load(
        &server,
        &[
            "--clients",
            "20",
            "--speaking",
            "0.3",
            "--spurt-ms",
            "400",
            "--warmup-s",
            "2",
            "--duration-s",
            "12",
        ],
    );
    let opened = server.metric("voxhall_upstream_opened_total");
    assert!(opened >= 40.0, "each room's session was replaced at least once, and {opened} were opened");
}

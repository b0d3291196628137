//! The program as a whole against a small WebSocket server on loopback: a thread a connection, few clients.

mod server;

use std::process::{Command, Output};

use serde_json::Value;

use server::{Manner, Server};

/// Runs the program against a server for a moment; gives exit code, report, and what it complained of.
fn run(server: &Server, line: &str) -> (i32, Value, String) {
    let output = start(&format!("{line} --url {} --json - --quiet", server.url()));
    let complaint = String::from_utf8_lossy(&output.stderr).into_owned();
    let report = serde_json::from_slice(&output.stdout).unwrap_or(Value::Null);
    (output.status.code().unwrap_or(-1), report, complaint)
}

fn start(line: &str) -> Output {
    Command::new(env!("CARGO_BIN_EXE_voxhall-loadtest"))
        .args(line.split_whitespace())
        .output()
        .expect("the program starts")
}

const SHORT: &str = "--warmup-s 0.2 --duration-s 0.8";

#[test]
fn echo_comes_back_whole_over_each_subprotocol() {
    for subprotocol in ["none", "voxhall.v1.plain", "voxhall.v1"] {
        let server = Server::start(Manner::default());
        let line = format!(
            "echo --clients 10 --rate 200 --subprotocol {subprotocol} {SHORT} --expect loss=0,errors=0 --expect handshake_failures=0"
        );
        let (code, report, complaint) = run(&server, &line);
        assert_eq!(code, 0, "{complaint}");
        assert_eq!(report["offered"], 160, "the clock decides, not the server");
        assert_eq!(report["delivered"], 160);
        assert_eq!(report["lost"], 0);
        assert_eq!(report["handshakes"]["ok"], 10);
        assert_eq!(report["events_received"], 10, "a welcome each");
        assert!(report["latency_us"]["p50"].as_u64() <= report["latency_us"]["p99"].as_u64());
        assert_eq!(report["server"]["pid"], std::process::id(), "the listener's owner is this test");
        assert!(report["server"]["cpu_us_per_message"].as_f64().is_some_and(|us| us > 0.0));
        assert!(report["slow"].is_null() && report["storm"].is_null() && report["ramp"].is_null());
    }
}

#[test]
fn frames_that_never_return_are_lost_and_break_the_bound() {
    let server = Server::start(Manner { swallow_every: 10, ..Manner::default() });
    let (code, report, complaint) =
        run(&server, &format!("echo --clients 4 --rate 200 {SHORT} --drain-s 0.3 --expect loss=0,p99<10s"));
    assert_eq!(code, 1);
    let lost = report["lost"].as_u64().expect("a count");
    assert!((8..=24).contains(&lost), "a tenth of 160 is lost, as each connection counts: {lost}");
    assert!(complaint.contains("loss=0") && complaint.contains(&lost.to_string()), "{complaint}");
    assert!(!complaint.contains("p99<10s"), "a bound that held is not complained of: {complaint}");
    assert_eq!(report["expect"][0]["ok"], false);
    assert_eq!(report["expect"][1]["ok"], true);
}

#[test]
fn frames_that_return_twice_are_counted_apart() {
    let server = Server::start(Manner { repeat: true, ..Manner::default() });
    let (_, report, _) = run(&server, &format!("echo --clients 2 --rate 50 {SHORT}"));
    assert_eq!(report["delivered"], 40);
    assert_eq!(report["lost"], 0);
    assert!(report["duplicated"].as_u64() >= Some(40));
}

#[test]
fn a_server_without_events_is_served_too() {
    let server = Server::start(Manner { silent: true, ..Manner::default() });
    for line in ["echo --clients 5 --rate 50", "echo --clients 5 --rate 50 --peer --read-gap-us 0"] {
        let (code, report, complaint) = run(&server, &format!("{line} {SHORT} --expect loss=0,errors=0"));
        assert_eq!(code, 0, "{complaint}");
        assert_eq!(report["events_received"], 0);
    }
}

#[test]
fn talkers_pairs_and_listeners_hear_everything() {
    let server = Server::start(Manner::default());
    let talk = format!("talk --clients 20 --speaking 0.5 --spurt-ms 200 {SHORT} --expect loss=0");
    let (code, report, complaint) = run(&server, &talk);
    assert_eq!(code, 0, "{complaint}");
    assert!(report["offered"].as_u64() > Some(100));

    let (code, report, complaint) =
        run(&server, &format!("relay --clients 6 --rate 120 {SHORT} --expect loss=0"));
    assert_eq!(code, 0, "{complaint}");
    assert_eq!(report["delivered"], 96);
    assert_eq!(report["rooms"], 3);

    let (code, report, complaint) =
        run(&server, &format!("fanout --clients 8 --rate 50 {SHORT} --expect loss=0"));
    assert_eq!(code, 0, "{complaint}");
    assert_eq!((&report["offered"], &report["delivered"]), (&Value::from(40), &Value::from(320)));
}

#[test]
fn several_processes_and_sources_make_one_report() {
    let server = Server::start(Manner::default());
    let line = format!("fanout --clients 9 --rate 50 --processes 3 --sources 4 {SHORT} --expect loss=0");
    let (code, report, complaint) = run(&server, &line);
    assert_eq!(code, 0, "{complaint}");
    assert_eq!(report["delivered"], 360, "listeners in other processes count");
    assert_eq!(report["handshakes"]["ok"], 10);
    assert!(server.peers().len() >= 4, "each source address was seen: {:?}", server.peers());
}

#[test]
fn after_a_storm_all_are_back() {
    let server = Server::start(Manner::default());
    let (code, report, complaint) =
        run(&server, &format!("storm --clients 20 {SHORT} --expect back_s<60,errors=0"));
    assert_eq!(code, 0, "{complaint}");
    assert_eq!(report["storm"]["back"], 20);
    assert_eq!(report["handshakes"]["ok"], 40);
    assert!(report["storm"]["slowest_ms"].as_f64() >= report["storm"]["p50_ms"].as_f64());
}

#[test]
fn a_ramp_reads_memory_at_each_step() {
    let server = Server::start(Manner::default());
    let (code, report, complaint) = run(&server, &format!("ramp --steps 4,8,12 --settle-s 0.1 {SHORT}"));
    assert_eq!(code, 0, "{complaint}");
    let steps: Vec<u64> =
        report["ramp"].as_array().into_iter().flatten().filter_map(|step| step["clients"].as_u64()).collect();
    assert_eq!(steps, [4, 8, 12]);
    assert!(report["ramp"][0]["rss_bytes"].as_u64() > Some(0));
    assert!(report["server"]["rss_bytes_per_room"].is_number());
}

#[test]
fn churn_holds_every_conversation_and_leaves_nothing_open() {
    let server = Server::start(Manner::default());
    let line = "churn --clients 10 --total 60 --connect-rate 200 --churn-frames 3 --frame-ms 5 --expect loss=0,errors=0";
    let (code, report, complaint) = run(&server, line);
    assert_eq!(code, 0, "{complaint}");
    assert_eq!((&report["conversations"], &report["delivered"]), (&Value::from(60), &Value::from(180)));
    server.wait_until_empty();
}

#[test]
fn slow_clients_do_not_hide_in_the_figures_of_the_others() {
    let server = Server::start(Manner { close_when_blocked: true, ..Manner::default() });
    let line = "slow --clients 20 --slow 0.1 --rate 200 --slow-rate 1000 --slow-after-s 0.3 --warmup-s 0.2 --duration-s 2.5";
    let (code, report, complaint) = run(&server, &format!("{line} --expect loss=0"));
    assert_eq!(code, 0, "{complaint}");
    let slow = &report["slow"];
    assert_eq!(slow["clients"], 2);
    let ended: u64 = slow["closes"].as_object().into_iter().flatten().filter_map(|(_, n)| n.as_u64()).sum();
    assert_eq!(ended + slow["still_open"].as_u64().unwrap_or(0), 2);
    assert!(slow["offered"].as_u64() > Some(1_000), "their frames are offered all the same");
    assert!(
        slow["others_before_us"]["p99"].as_u64() > Some(0)
            && slow["others_after_us"]["p99"].as_u64() > Some(0)
    );
}

#[test]
fn closes_by_the_server_are_reported_by_code() {
    let server = Server::start(Manner { close_after: Some((3, 1013)), ..Manner::default() });
    let (_, report, _) = run(&server, &format!("echo --clients 4 --rate 80 {SHORT} --drain-s 0.2"));
    assert_eq!(report["closes"]["1013"], 4);
    assert_eq!(report["errors"]["closed_by_server"], 4);
    assert!(report["lost"].as_u64() > Some(0), "what was offered after that is lost");
}

#[test]
fn the_servers_own_counters_are_laid_beside() {
    let server = Server::start(Manner::default());
    let line = format!("echo --clients 5 --rate 100 {SHORT} --admin {}", server.admin());
    let (code, report, complaint) = run(&server, &line);
    assert_eq!(code, 0, "{complaint}");
    assert_eq!(report["server"]["agrees"], true, "{}", report["server"]);
    assert_eq!(report["server"]["metrics"]["websocket_connections"], 5.0);

    let lying = Server::start(Manner { overcount: 7, ..Manner::default() });
    let line = format!("echo --clients 5 --rate 100 {SHORT} --admin {}", lying.admin());
    assert_eq!(run(&lying, &line).1["server"]["agrees"], false);
}

#[test]
fn refused_handshakes_are_told_by_status() {
    let server = Server::start(Manner { refuse: true, ..Manner::default() });
    let (code, _, complaint) = run(&server, &format!("echo --clients 3 {SHORT}"));
    assert_eq!(code, 1);
    assert!(complaint.contains("no handshake succeeded: handshake_503 3"), "{complaint}");
}

#[test]
fn wrong_input_and_an_absent_server_are_answered() {
    let usage = start("echo --expect p98<1ms");
    assert_eq!(usage.status.code(), Some(2));
    assert!(String::from_utf8_lossy(&usage.stderr).contains("no metric is called"));
    let many = start("echo --clients 4000000000");
    assert_eq!(many.status.code(), Some(2));
    let absent = start("echo --url ws://127.0.0.1:1");
    assert_eq!(absent.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&absent.stderr).contains("no server at 127.0.0.1:1"));
}

#[test]
fn table_and_page_are_written() {
    let server = Server::start(Manner::default());
    let page = std::env::temp_dir().join(format!("voxhall-loadtest-{}.html", std::process::id()));
    let line =
        format!("echo --clients 5 --rate 100 {SHORT} --url {} --html {}", server.url(), page.display());
    let output = start(&line);
    let table = String::from_utf8_lossy(&output.stdout).into_owned();
    for row in ["echo", "handshakes", "latency", "generator late", "server", "5 clients in 5 rooms"] {
        assert!(table.contains(row), "{row} is missing in\n{table}");
    }
    let html = std::fs::read_to_string(&page).expect("the page was written");
    let _ = std::fs::remove_file(&page);
    assert!(html.matches("<svg").count() >= 4 && html.contains("prefers-color-scheme: dark"));
    assert!(!html.contains("http://www") || html.contains("xmlns"), "nothing is fetched from elsewhere");
    assert!(!html.contains("<script src") && !html.contains("<link"));
}

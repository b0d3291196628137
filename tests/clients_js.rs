//! The JavaScript client in Node: its parts, its types, its package, the shared table of cases, and rooms of this server. The
//! browser's share is in `clients.rs`, by the talk page.

mod support;

use support::{Server, repository, run_suite};

const SCRIPT: &str = "clients/js/test/run.sh";

/// One after the other: both install into the same folder.
#[test]
fn it_passes_every_case_of_the_shared_table_and_talks_to_the_server() {
    run_suite(SCRIPT, "parts", &[]);
    let server = Server::start(&["--shards", "2"]);
    let addresses = [
        ("VOXHALL_URL", format!("ws://{}", server.public)),
        ("VOXHALL_ADMIN", format!("http://{}", server.admin)),
    ];
    run_suite(SCRIPT, "live", &addresses);
    assert!(server.metric("voxhall_events_replayed_total") > 0.0);
    let secret = "clients-js-0123456789-0123456789";
    let key = format!("auth.hs256_secret={secret}");
    let server = Server::start(&["--shards", "2", "--set", "auth.mode=jwt", "--set", &key]);
    let addresses = [
        ("VOXHALL_URL", format!("ws://{}", server.public)),
        ("VOXHALL_ADMIN", format!("http://{}", server.admin)),
        ("VOXHALL_SECRET", secret.to_owned()),
    ];
    run_suite(SCRIPT, "tokens", &addresses);
}

/// What is served is what is packed.
#[test]
fn it_is_served_to_pages_of_every_origin() {
    let server = Server::start(&["--shards", "1"]);
    let answer = support::ask(server.public, "GET", "/client.js", "");
    let (head, body) = answer.split_once("\r\n\r\n").expect("a head and a body");
    assert!(head.contains("access-control-allow-origin: *"), "{head}");
    assert!(head.contains("text/javascript"), "{head}");
    assert_eq!(body, std::fs::read_to_string(repository("clients/js/voxhall.js")).expect("the client"));
}

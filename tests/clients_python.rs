//! The Python client, installed from its folder as its users do it.

mod support;

use support::{Server, run_suite};

const SCRIPT: &str = "clients/python/tests/run.sh";

/// One after the other: both install into the same folder.
#[test]
fn it_passes_every_case_of_the_shared_table_and_talks_to_the_server() {
    run_suite(SCRIPT, "cases", &[]);
    let server = Server::start(&["--shards", "2"]);
    run_suite(SCRIPT, "live", &[("VOXHALL_URL", format!("ws://{}", server.public))]);
    assert!(server.metric("voxhall_events_replayed_total") > 0.0);
}

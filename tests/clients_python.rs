//! The Python client, installed from its folder as its users do it.

mod support;

use support::{Server, run_suite};

const SCRIPT: &str = "clients/python/tests/run.sh";

/// One after the other: both install into the same folder.
#[test]
fn it_passes_every_case_of_the_shared_table_and_talks_to_the_server() {
    run_suite(SCRIPT, "cases", &[]);
    let server = Server::start(&["--shards", "2"]);
    let program = env!("CARGO_BIN_EXE_voxhall").to_owned();
    let url = format!("ws://{}", server.public);
    run_suite(SCRIPT, "live", &[("VOXHALL_URL", url), ("VOXHALL_BIN", program)]);
    assert!(server.metric("voxhall_events_replayed_total") > 0.0);
}

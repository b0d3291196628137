//! What a node makes of a shard's death, as whoever runs it sees it.

#![cfg(debug_assertions)]
#![expect(clippy::disallowed_methods, reason = "an operator has a clock")]

use std::os::unix::process::ExitStatusExt as _;
use std::process::Command;
use std::time::{Duration, Instant};

use shards::core::message::{AskId, Fault, Query};
use shards::core::{Micros, ShardConfig, ShardId, ShardMessage};
use shards::rt::{Clock, ControlLine, DrainOutcome, Listen, Node, NodeConfig, WireConfig, start};

const PATIENCE: Duration = Duration::from_secs(20);
const ABORT: i32 = 6;
/// Set in the process that is to be aborted.
const UNATTENDED: &str = "VOXHALL_TEST_UNATTENDED";

fn node() -> (Node, ControlLine) {
    let config = NodeConfig {
        audit: Vec::new(),
        clock: Clock::start(),
        listen: Listen::Tcp("127.0.0.1:0".parse().expect("an address")),
        cores: vec![None; 2],
        wire: WireConfig { ring_entries: 256, receive_buffers: 16, ..WireConfig::default() },
        shard: ShardConfig { shards: 2, ..ShardConfig::default() },
        descriptors_max: 100,
        seed: 7,
    };
    start(config).expect("the host can run a node")
}

fn kill(line: &ControlLine, shard: u16) {
    let query = Query::Fault(Fault::Core);
    line.tell(ShardId(shard), ShardMessage::Ask { id: AskId(1), query }).expect("room");
}

#[test]
fn the_others_leave_by_themselves_and_the_node_says_who_died() {
    let (node, line) = node();
    assert!(!node.has_lost_a_shard());
    kill(&line, 1);
    let begun = Instant::now();
    while !node.has_ended() {
        assert!(begun.elapsed() < PATIENCE, "the shard that lives leaves without being told");
        std::thread::yield_now();
    }
    assert!(node.has_lost_a_shard());
    let Err(_) = line.tell(ShardId(1), ShardMessage::Drain { window: Micros(0) }) else {
        panic!("a dead shard takes nothing")
    };
    let message = "a fault was asked for: Core".to_owned();
    assert_eq!(node.join(Instant::now() + PATIENCE), DrainOutcome::ShardDied { shard: ShardId(1), message });
}

#[test]
fn an_evacuation_ends_a_node_without_a_death() {
    let (node, _line) = node();
    node.evacuate();
    assert_eq!(node.join(Instant::now() + PATIENCE), DrainOutcome::Clean);
}

#[test]
fn when_nobody_ends_the_process_the_dead_shard_does() {
    if std::env::var_os(UNATTENDED).is_some() {
        let (_node, line) = node();
        kill(&line, 0);
        loop {
            std::thread::park();
        }
    }
    let this = std::env::current_exe().expect("a test binary");
    let mut child = Command::new(this);
    child.args(["--exact", "when_nobody_ends_the_process_the_dead_shard_does"]).env(UNATTENDED, "1");
    let output = child.output().expect("it runs");
    assert_eq!(output.status.signal(), Some(ABORT), "{}", String::from_utf8_lossy(&output.stderr));
}

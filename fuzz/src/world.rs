//! The simulated world: shards, network, clients and an oracle, after a script.

use shards::sim;

/// The bytes are the script.
pub(crate) fn run(bytes: &[u8]) {
    if let Err(violation) = sim::run_script(bytes, None) {
        panic!("{violation}");
    }
}

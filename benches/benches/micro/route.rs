//! Routing: which shard owns a session, by hash and jump, for an id as long as a UUID.

use divan::{Bencher, black_box};
use shards::core::route;

/// Many ids, because the jump's length depends on the hash.
const IDS: usize = 1_024;

/// The owner of one session.
#[divan::bench(args = [2, 64])]
fn owner(bencher: Bencher, shards: u16) {
    let ids: Vec<String> = (0..IDS).map(|number| format!("550e8400-e29b-41d4-a716-{number:012x}")).collect();
    let mut next = ids.iter().cycle();
    bencher.bench_local(|| {
        let id = next.next().expect("a cycle has no end");
        route::owner(black_box(id), black_box(shards))
    });
}

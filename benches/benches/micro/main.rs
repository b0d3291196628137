//! Micro benches: what single steps of the data plane cost, without sockets and without a kernel in between.
//!
//! One module for each step, which its header describes. All run on one thread pinned to a core, as a shard is,
//! with the allocator of the server; only [`mesh`] starts another thread, on another core. Names after `--` choose
//! benches: `cargo bench -p voxhall-benches -- codec`.

mod client;
mod codec;
mod head;
mod mesh;
mod outbox;
mod rig;
mod route;
mod timer;

use std::sync::LazyLock;

use core_affinity::CoreId;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// The cores that this process may use, read before the first thread is pinned to one of them.
static CORES: LazyLock<Vec<CoreId>> = LazyLock::new(|| core_affinity::get_core_ids().unwrap_or_default());

fn main() {
    pin(CORES.first());
    divan::main();
}

/// Keeps the thread on the core. Without one, or without leave, it stays where the kernel puts it.
fn pin(core: Option<&CoreId>) {
    if let Some(&core) = core {
        let _ = core_affinity::set_for_current(core);
    }
}

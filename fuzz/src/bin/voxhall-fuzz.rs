//! One target under libFuzzer, with its options: the environment's `VOXHALL_FUZZ_TARGET` says which. `fuzz/run` builds and
//! starts it.

#![no_main]

use std::sync::OnceLock;

use fuzz::Target;

static TARGET: OnceLock<Target> = OnceLock::new();

fn choose() -> Target {
    let name = std::env::var("VOXHALL_FUZZ_TARGET").unwrap_or_default();
    fuzz::find(&name).unwrap_or_else(|| panic!("VOXHALL_FUZZ_TARGET={name:?} is no target"))
}

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| (TARGET.get_or_init(choose).run)(bytes));

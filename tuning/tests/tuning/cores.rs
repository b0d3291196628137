//! Which cores get a shard, and what the operator reads when the wish cannot be met.

use crate::fake::FakeHost;
use tuning::{CorePlan, Profile, ProfileName, resolve_cores};

fn profile(plan: CorePlan) -> Profile {
    Profile { cores: plan, ..Profile::named(ProfileName::Laptop) }
}

#[test]
fn the_plan_decides_when_nobody_asks() {
    let host = FakeHost::healthy();
    host.status("2-5", 0);
    let facts = host.read();
    let planned = |plan| resolve_cores(&facts, &profile(plan), None, None).expect("it can be met");
    assert_eq!(planned(CorePlan::All), [2, 3, 4, 5]);
    assert_eq!(planned(CorePlan::AllButFirst), [3, 4, 5]);
    assert_eq!(planned(CorePlan::Quota), [2, 3, 4, 5], "there is no quota");
    host.set("sys/fs/cgroup/user.slice/cpu.max", "15000 100000");
    let planned = resolve_cores(&host.read(), &profile(CorePlan::Quota), None, None);
    assert_eq!(planned, Ok(vec![2]), "a part of a core is a shard");
}

#[test]
fn the_only_core_is_taken_by_every_plan() {
    let host = FakeHost::healthy();
    host.status("4", 0);
    for name in ProfileName::ALL {
        let cores = resolve_cores(&host.read(), &Profile::named(name), None, None);
        assert_eq!(cores, Ok(vec![4]), "{name}");
    }
}

#[test]
fn a_number_of_shards_takes_whole_cores_first_and_the_spared_core_last() {
    let host = FakeHost::healthy();
    for core in 0..8 {
        let pair = format!("{}-{}", core / 2 * 2, core / 2 * 2 + 1);
        let path = format!("sys/devices/system/cpu/cpu{core}/topology/thread_siblings_list");
        host.set(&path, pair);
    }
    let facts = host.read();
    let take = |shards| {
        let plan = profile(CorePlan::AllButFirst);
        resolve_cores(&facts, &plan, Some(shards), None).expect("it can be met")
    };
    assert_eq!(take(3), [1, 2, 4]);
    assert_eq!(take(4), [1, 2, 4, 6]);
    assert_eq!(take(7), [1, 2, 3, 4, 5, 6, 7]);
    assert_eq!(take(8), [0, 1, 2, 3, 4, 5, 6, 7]);
}

#[test]
fn named_cores_keep_their_order() {
    let facts = FakeHost::healthy().read();
    let plan = profile(CorePlan::All);
    let named = |shards, cores: &[usize]| resolve_cores(&facts, &plan, shards, Some(cores));
    assert_eq!(named(None, &[5, 0]), Ok(vec![5, 0]));
    assert_eq!(named(Some(1), &[5, 0]), Ok(vec![5]));
}

#[test]
fn an_impossible_wish_is_a_sentence_with_the_remedy() {
    let host = FakeHost::healthy();
    host.status("0-3", 0);
    let facts = host.read();
    let plan = profile(CorePlan::All);
    let sentence = |shards, cores: Option<&[usize]>| {
        let error = resolve_cores(&facts, &plan, shards, cores).expect_err("it cannot be met");
        error.to_string()
    };
    assert_eq!(
        sentence(None, Some(&[0, 64])),
        "this host has no core 64; the cores allowed are 0-3: say --cores 0"
    );
    let not_allowed = sentence(None, Some(&[6]));
    assert!(not_allowed.starts_with("core 6 exists, but this process may only run on 0-3;"));
    assert!(not_allowed.contains("taskset -c 0-3,6"));
    assert!(sentence(None, Some(&[1, 1])).starts_with("core 1 is named twice"));
    assert!(sentence(Some(5), None).ends_with("say --shards 4"));
    assert!(sentence(Some(3), Some(&[0, 1])).contains("name 3 cores"));
    assert!(sentence(Some(0), None).contains("at least one shard"));
    assert!(sentence(None, Some(&[])).contains("at least one shard"));
}

#[test]
fn profile_names_read_back_and_others_are_refused_with_the_choice() {
    for name in ProfileName::ALL {
        assert_eq!(name.to_string().parse(), Ok(name));
        assert_eq!(Profile::named(name).name, name);
    }
    let error = "turbo".parse::<ProfileName>().expect_err("there is no such profile");
    assert_eq!(
        error.to_string(),
        "there is no profile \"turbo\"; choose laptop, container, bare-metal or latency"
    );
}

#[test]
fn pools_fit_what_the_kernel_takes() {
    for profile in ProfileName::ALL.map(Profile::named) {
        assert!(profile.receive_buffers.is_power_of_two());
        assert!(profile.receive_buffers <= 32_768);
        assert!(profile.ring_entries.is_power_of_two());
        assert!(profile.ring_entries <= 32_768);
        assert!(profile.backlog <= profile.needs.somaxconn_min);
    }
}

//! The interrupt script, on a host made of files.

use std::process::{Command, Output};

use crate::fake::FakeHost;
use tuning::{ProfileName, Standing};

const SCRIPT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/irq/voxhall-irq");

/// Eight cores; a card with two queues whose interrupts are all on the first.
fn host() -> FakeHost {
    let host = FakeHost::healthy();
    for queue in 0..2 {
        host.set(&format!("sys/class/net/eth0/queues/rx-{queue}/rps_cpus"), "00");
        host.set(&format!("sys/class/net/eth0/queues/tx-{queue}/xps_cpus"), "00");
    }
    host.set("sys/class/net/lo/queues/rx-0/rps_cpus", "00");
    host
}

fn run(host: &FakeHost, arguments: &[&str]) -> Output {
    Command::new("bash")
        .arg(SCRIPT)
        .args(arguments)
        .env("VOXHALL_IRQ_ROOT", host.root())
        .output()
        .expect("bash runs")
}

fn text(output: &Output) -> String {
    assert!(output.status.success(), "{output:?}");
    String::from_utf8_lossy(&output.stdout).into_owned()
}

#[test]
fn the_script_is_valid_bash() {
    let checked = Command::new("bash").args(["-n", SCRIPT]).output().expect("bash runs");
    assert!(checked.status.success(), "{checked:?}");
}

#[test]
fn a_dry_run_tells_and_changes_nothing() {
    let host = host();
    let told = text(&run(&host, &["--dry-run", "onto", "--cores", "1-7"]));
    assert_eq!(
        told,
        "echo 1 > /proc/irq/40/smp_affinity_list   # was 0\n\
         echo 2 > /proc/irq/41/smp_affinity_list   # was 0\n\
         echo 000000fe > /sys/class/net/eth0/queues/rx-0/rps_cpus   # was 00\n\
         echo 000000fe > /sys/class/net/eth0/queues/rx-1/rps_cpus   # was 00\n\
         echo 000000aa > /sys/class/net/eth0/queues/tx-0/xps_cpus   # was 00\n\
         echo 00000055 > /sys/class/net/eth0/queues/tx-1/xps_cpus   # was 00\n"
    );
    assert_eq!(host.get("proc/irq/40/smp_affinity_list"), "0");
    assert!(!host.root().join("run").exists());
}

#[test]
fn the_checks_are_content_with_what_the_script_does() {
    let host = host();
    let standing = |profile| host.check(profile, "interrupts").standing;
    assert_eq!(standing(ProfileName::BareMetal), Standing::FallsShort);
    text(&run(&host, &["onto", "--cores", "1-7", "eth0"]));
    assert_eq!(standing(ProfileName::BareMetal), Standing::Ok);
    assert_eq!(standing(ProfileName::Latency), Standing::FallsShort);
    text(&run(&host, &["away", "--cores=1-7"]));
    assert_eq!(standing(ProfileName::Latency), Standing::Ok);
}

#[test]
fn undo_goes_back_to_before_the_first_change() {
    let host = host();
    let before = text(&run(&host, &["show"]));
    text(&run(&host, &["onto", "--cores", "1-7"]));
    text(&run(&host, &["away", "--cores", "1,2"]));
    assert_ne!(text(&run(&host, &["show"])), before);
    text(&run(&host, &["undo"]));
    assert_eq!(text(&run(&host, &["show"])), before);
    assert_eq!(text(&run(&host, &["undo"])), "nothing to undo\n");
}

#[test]
fn a_wrong_word_is_refused_with_a_sentence() {
    let host = host();
    for (arguments, sentence) in [
        (&["onto"][..], "onto needs --cores"),
        (&["away", "--cores", "0-7"], "leave one out of --cores"),
        (&["onto", "--cores", "9"], "core 9 is not online"),
        (&["onto", "--cores", "one"], "not a list of cores: one"),
        (&["onto", "--cores", "1", "eth7"], "no interface eth7"),
        (&["--sideways"], "unknown option --sideways"),
    ] {
        let refused = run(&host, arguments);
        assert_eq!(refused.status.code(), Some(2), "{arguments:?}");
        let said = String::from_utf8_lossy(&refused.stderr).into_owned();
        assert!(said.contains(sentence), "{said}");
        assert_eq!(host.get("proc/irq/40/smp_affinity_list"), "0");
    }
}

//! What the host denies: each denial is told in a sentence with its remedy, by `serve` and by `doctor` alike. What it
//! takes away later is waited for.

mod support;

use std::fs;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::process::{Command, Output};

use rustix::process::{Pid, Resource, Rlimit, getrlimit, prlimit};
use support::{Server, connect, voxhall};

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

fn assert_fault(output: &Output, words: &[&str]) {
    let errors = text(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{errors}");
    assert!(words.iter().all(|word| errors.contains(word)), "{words:?} are not all in {errors}");
    assert!(output.stdout.is_empty(), "nothing is ready");
}

#[test]
fn a_taken_port_is_a_fault_with_its_remedy() {
    let taken = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = taken.local_addr().expect("an address").to_string();
    for [public, admin] in [[&*address, "127.0.0.1:0"], ["127.0.0.1:0", &*address]] {
        let output = voxhall(&["serve", "--shards", "1", "--listen", public, "--admin", admin]).output();
        assert_fault(&output.expect("the program runs"), &[&address, "ss -ltnp"]);
    }
}

#[test]
fn a_second_server_does_not_join_the_port_of_the_first() {
    let first = Server::start(&["--shards", "2"]);
    let address = first.public.to_string();
    let output =
        voxhall(&["serve", "--shards", "2", "--listen", &address, "--admin", "127.0.0.1:0"]).output();
    assert_fault(&output.expect("the program runs"), &[&address, "ss -ltnp"]);
}

#[test]
fn too_few_descriptors_are_a_fault_with_its_remedy() {
    for limit in [64, 100] {
        let limited = format!(
            "ulimit -n {limit} && exec {} serve --shards 1 --listen 127.0.0.1:0 --admin 127.0.0.1:0",
            env!("CARGO_BIN_EXE_voxhall")
        );
        let output = Command::new("sh").args(["-c", &limited]).output().expect("a shell");
        assert_fault(&output, &["descriptors", "ulimit -n"]);
    }
}

#[test]
fn without_descriptors_accepting_rests_and_goes_on_when_some_are_free() {
    const SPARE: u64 = 3;
    let server = Server::start(&["--shards", "1"]);
    let mut member = server.join("kitchen", None);
    member.event("session.created");
    let mut operator = BufReader::new(connect(server.admin));
    assert_eq!(rests(&mut operator), 0.0);

    let highest = fs::read_dir(format!("/proc/{}/fd", server.pid()))
        .expect("our own child")
        .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse::<u64>().ok())
        .max()
        .expect("it has some");
    let pid = Pid::from_raw(server.pid() as i32).expect("a process");
    let soft = Some(highest + 1 + SPARE);
    // The hard limit is ours, which it inherited.
    let limit = Rlimit { current: soft, ..getrlimit(Resource::Nofile) };
    prlimit(Some(pid), Resource::Nofile, limit).expect("it is our child");

    let mut clients: Vec<TcpStream> = (0..4 * SPARE + highest)
        .map(|number| {
            let mut client = connect(server.public);
            let head = format!(
                "GET /ws/room-{number} HTTP/1.1\r\nhost: x\r\nupgrade: websocket\r\nconnection: upgrade\r\n\
                 sec-websocket-version: 13\r\nsec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
            );
            client.write_all(head.as_bytes()).expect("the kernel holds it");
            client
        })
        .collect();
    while rests(&mut operator) == 0.0 {}
    member.send(r#"{"type":"ping","t":7}"#);
    assert_eq!(member.event("pong")["t"], 7, "who is in is served");
    // Each that leaves makes room for one that waits.
    for mut client in clients.drain(..) {
        let mut answer = [0; 12];
        client.read_exact(&mut answer).expect("served at last");
        assert_eq!(&answer, b"HTTP/1.1 101");
    }
    member.send(r#"{"type":"ping","t":8}"#);
    assert_eq!(member.event("pong")["t"], 8);
}

/// Times accepting began to rest, asked over a connection that stays: a new one would want a descriptor.
fn rests(operator: &mut BufReader<TcpStream>) -> f64 {
    operator.get_mut().write_all(b"GET /metrics HTTP/1.1\r\nhost: x\r\n\r\n").expect("the server reads");
    let mut length = 0;
    let mut line = String::new();
    while line != "\r\n" {
        line.clear();
        operator.read_line(&mut line).expect("a head");
        if let Some(value) = line.to_ascii_lowercase().strip_prefix("content-length:") {
            length = value.trim().parse().expect("a number");
        }
    }
    let mut page = vec![0; length];
    operator.read_exact(&mut page).expect("the page");
    let page = text(&page);
    let row = page.lines().find(|row| row.starts_with("voxhall_accept_paused_total{"));
    row.and_then(|row| row.rsplit(' ').next()?.parse().ok())
        .unwrap_or_else(|| panic!("not counted in\n{page}"))
}

#[test]
fn a_forbidden_io_uring_is_a_fault_with_its_remedy() {
    let serve =
        without_io_uring(&["serve", "--shards", "1", "--listen", "127.0.0.1:0", "--admin", "127.0.0.1:0"]);
    assert_fault(&serve, &["io_uring", "seccomp", "io_uring_setup"]);

    let doctor = without_io_uring(&["doctor", "--shards", "1"]);
    let report = text(&doctor.stdout);
    assert_eq!(doctor.status.code(), Some(1), "{report}");
    let mut lines = report.lines().skip_while(|line| !line.starts_with("fails "));
    assert!(lines.next().is_some_and(|line| line.contains("io_uring")), "{report}");
    assert!(lines.any(|line| line.trim_start().starts_with("$ allow io_uring_setup")), "{report}");
}

/// Runs the program under a seccomp filter like that of container engines: `io_uring_setup` is not permitted.
fn without_io_uring(arguments: &[&str]) -> Output {
    const FILTER: &str = "
import ctypes, os, struct, sys
SETUP, PERMISSION = 425, 1
steps = [
    (0x20, 0, 0, 0),  # load the number of the system call
    (0x15, 0, 1, SETUP),  # if it is another one, skip the next step
    (0x06, 0, 0, 0x00050000 | PERMISSION),  # return the error
    (0x06, 0, 0, 0x7FFF0000),  # allow
]
code = ctypes.create_string_buffer(b''.join(struct.pack('HBBI', *step) for step in steps))
program = struct.pack('HxxxxxxP', len(steps), ctypes.addressof(code))
libc = ctypes.CDLL(None, use_errno=True)
NO_NEW_PRIVILEGES, SECCOMP, MODE_FILTER = 38, 22, 2
zero, one, filtering = map(ctypes.c_ulong, (0, 1, MODE_FILTER))
for call in [(NO_NEW_PRIVILEGES, one, zero, zero, zero), (SECCOMP, filtering, program, zero, zero)]:
    if libc.prctl(*call) != 0:
        sys.exit('prctl: ' + os.strerror(ctypes.get_errno()))
os.execv(sys.argv[1], sys.argv[1:])
";
    Command::new("python3")
        .args(["-c", FILTER, env!("CARGO_BIN_EXE_voxhall")])
        .args(arguments)
        .output()
        .expect("Python runs")
}

#[test]
fn doctor_looks_at_the_folder_of_a_socket_file() {
    let doctor = |path: &str| {
        let arguments =
            ["doctor", "--shards", "1", "--listen", path, "--admin", "unix:/proc/voxhall/admin.sock"];
        text(&voxhall(&arguments).output().expect("the program runs").stdout)
    };
    let here = std::env::temp_dir();
    let report = doctor(&format!("unix:{}/public.sock", here.display()));
    let line = |key: &str| report.lines().find(|line| line.contains(key)).unwrap_or_default();
    assert!(line("server.listen").starts_with("ok "), "{report}");
    assert!(line("server.admin").starts_with("fails "), "{report}");
    assert!(report.contains("$ sudo install -d -o $(id -un) /proc/voxhall"), "{report}");
}

#[test]
fn doctor_judges_each_profile_by_its_own_needs() {
    for profile in ["laptop", "container", "bare-metal", "latency"] {
        let output = voxhall(&["doctor", "--profile", profile]).output().expect("the program runs");
        let report = text(&output.stdout);
        for word in [
            &format!("profile {profile},"),
            "io_uring",
            "nofile",
            "somaxconn",
            "limits in force",
            "limits.connections_max",
        ] {
            assert!(report.contains(word), "{word} is not in\n{report}");
        }
        let standing =
            |line: &&str| ["ok ", "falls short ", "fails "].iter().any(|word| line.starts_with(word));
        let checks: Vec<_> = report.lines().filter(standing).collect();
        let failed = checks.iter().filter(|line| line.starts_with("fails ")).count();
        assert!(checks.len() > 10, "{report}");
        for once in ["kernel", "nofile", "memlock"] {
            let of = checks.iter().filter(|line| line[11..].split_whitespace().next() == Some(once));
            assert_eq!(of.count(), 1, "{once} is shown once in\n{report}");
        }
        assert!(report.contains(&format!(" {failed} failed\n")), "{report}");
        assert_eq!(output.status.code(), Some(i32::from(failed > 0)), "{report}");
    }
}

//! The systemd unit and the program agree: what the unit takes away is not missed. Where systemd does not run, its
//! sandbox is made by hand, and tighter: what the unit refuses with an error ends the process here.

mod support;

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io::Read as _;
use std::os::linux::net::SocketAddrExt as _;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::process::{Command, Stdio};

use support::{PATIENCE, Server, ask, repository};
use tungstenite::Message;

/// Sheds privileges as the unit does, then becomes the program.
const CAGE: &str = r#"
import ctypes, os, sys
program, families, calls = os.open(sys.argv[1], os.O_RDONLY), sys.argv[2].split(), sys.argv[3].split()
libc = ctypes.CDLL(None, use_errno=True)
lib = ctypes.CDLL("libseccomp.so.2", use_errno=True)

def prctl(option, *values):
    zeros = (0,) * (4 - len(values))
    return libc.prctl(option, *(ctypes.c_ulong(value) for value in values + zeros))

def must(result):
    if result != 0:
        sys.exit(f"the cage can't be made: {result}, {os.strerror(ctypes.get_errno())}")

READ_BOUNDING_SET, DROP_FROM_BOUNDING_SET, NO_NEW_PRIVILEGES, NO_NEW_EXECUTABLE_MEMORY = 23, 24, 38, 65
if os.getuid() == 0:
    capability = 0
    while prctl(READ_BOUNDING_SET, capability) >= 0:
        must(prctl(DROP_FROM_BOUNDING_SET, capability))
        capability += 1
    os.setgroups([])
    os.setgid(65534)
    os.setuid(65534)
must(prctl(NO_NEW_PRIVILEGES, 1))

class Comparison(ctypes.Structure):
    _fields_ = [("argument", ctypes.c_uint), ("how", ctypes.c_int), ("a", ctypes.c_uint64), ("b", ctypes.c_uint64)]

KILL, ALLOW, EQUAL = 0x80000000, 0x7FFF0000, 4
lib.seccomp_init.restype = ctypes.c_void_p
lib.seccomp_init.argtypes = [ctypes.c_uint32]
lib.seccomp_rule_add_array.argtypes = [ctypes.c_void_p, ctypes.c_uint32, ctypes.c_int, ctypes.c_uint, ctypes.c_void_p]
lib.seccomp_load.argtypes = [ctypes.c_void_p]
cage = lib.seccomp_init(KILL)
for name in calls:
    number = lib.seccomp_syscall_resolve_name(name.encode())
    if number < 0:
        continue  # of another architecture
    if name == "socket":
        for family in families:
            family = {"AF_UNIX": 1, "AF_INET": 2, "AF_INET6": 10}[family]
            only = Comparison(0, EQUAL, family, 0)
            must(lib.seccomp_rule_add_array(cage, ALLOW, number, 1, ctypes.byref(only)))
    else:
        must(lib.seccomp_rule_add_array(cage, ALLOW, number, 0, None))
# Kernels before 6.3 don't know it.
prctl(NO_NEW_EXECUTABLE_MEMORY, 1)
must(lib.seccomp_load(cage))
os.execve(program, sys.argv[1:2] + sys.argv[4:], os.environ)
"#;

fn unit() -> String {
    fs::read_to_string(repository("tuning/systemd/voxhall.service")).expect("the unit")
}

/// All values of a setting, in order.
fn values<'a>(unit: &'a str, key: &str) -> Vec<&'a str> {
    unit.lines().filter_map(|line| line.strip_prefix(key)?.strip_prefix('=')).collect()
}

/// The groups of system calls as systemd defines them; nothing where it is not installed.
fn groups() -> Option<BTreeMap<String, Vec<String>>> {
    let output = Command::new("systemd-analyze").arg("syscall-filter").output().ok()?;
    let text = String::from_utf8(output.stdout).expect("text");
    let mut groups: BTreeMap<String, Vec<String>> = BTreeMap::new();
    let mut last = None;
    for line in text.lines().filter(|line| !line.trim_start().starts_with('#')) {
        if line.starts_with('@') {
            last = Some(line.trim().to_owned());
        } else if let (Some(group), [name]) = (&last, &line.split_whitespace().collect::<Vec<_>>()[..]) {
            groups.entry(group.clone()).or_default().push((*name).to_owned());
        }
    }
    Some(groups)
}

fn expand(name: &str, groups: &BTreeMap<String, Vec<String>>, into: &mut BTreeSet<String>) {
    match groups.get(name) {
        Some(members) => members.iter().for_each(|member| expand(member, groups, into)),
        None => {
            assert!(!name.starts_with('@'), "systemd knows no {name}");
            into.insert(name.to_owned());
        }
    }
}

/// The system calls that the unit allows.
fn allowed(unit: &str, groups: &BTreeMap<String, Vec<String>>) -> BTreeSet<String> {
    let mut allowed = BTreeSet::new();
    for line in values(unit, "SystemCallFilter") {
        let mut named = BTreeSet::new();
        for name in line.trim_start_matches('~').split_whitespace() {
            expand(name, groups, &mut named);
        }
        if line.starts_with('~') {
            allowed.retain(|name| !named.contains(name));
        } else {
            allowed.extend(named);
        }
    }
    allowed
}

fn notices() -> (String, UnixDatagram) {
    let name = format!("voxhall-test-{}", std::process::id());
    let address = SocketAddr::from_abstract_name(&name).expect("a name");
    let socket = UnixDatagram::bind_addr(&address).expect("a name of our own");
    socket.set_read_timeout(Some(PATIENCE)).expect("a socket takes that");
    (format!("@{name}"), socket)
}

fn heard(socket: &UnixDatagram) -> String {
    let mut bytes = [0; 512];
    let length = socket.recv(&mut bytes).expect("a notice");
    String::from_utf8_lossy(&bytes[..length]).into_owned()
}

#[test]
fn the_server_serves_inside_the_sandbox_of_its_unit() {
    let Some(groups) = groups() else { return };
    let unit = unit();
    let calls: Vec<String> = allowed(&unit, &groups).into_iter().collect();
    assert!(calls.iter().any(|call| call == "io_uring_enter"));
    assert!(
        !calls.iter().any(|call| ["setuid", "mount", "ptrace", "bpf", "keyctl"].contains(&call.as_str()))
    );
    let families = values(&unit, "RestrictAddressFamilies").join(" ");

    let (name, manager) = notices();
    let mut command = Command::new("python3");
    command.args(["-c", CAGE, env!("CARGO_BIN_EXE_voxhall"), &families, &calls.join(" ")]);
    command.args(["serve", "--profile", "bare-metal", "--shards", "1", "--listen", "127.0.0.1:0"]);
    command.args(["--admin", "127.0.0.1:0"]).env_clear().stdin(Stdio::null());
    command.env("NOTIFY_SOCKET", &name).env("WATCHDOG_USEC", "200000");
    let server = Server::start_by(command);
    assert!(heard(&manager).starts_with("READY=1\nSTATUS=voxhall ready: "));
    assert_eq!(heard(&manager), "WATCHDOG=1");

    let status = fs::read_to_string(format!("/proc/{}/status", server.pid())).expect("our own child");
    let field = |name: &str| {
        let line = status.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
        line.unwrap_or_default().trim().to_owned()
    };
    assert_eq!((field("NoNewPrivs"), field("Seccomp")), ("1".to_owned(), "2".to_owned()));
    assert_eq!(field("CapEff"), "0000000000000000", "no privilege is needed");
    assert!(!field("Uid").starts_with("0\t"), "{}", field("Uid"));

    let mut member = server.join("kitchen?engine=echo", None);
    member.event("session.created");
    member.send(Message::binary(vec![7; 640]));
    while !member.read().is_binary() {}
    assert!(ask(server.public, "GET", "/", "").starts_with("HTTP/1.1 200"));
    assert!(server.metric("process_open_fds") > 0.0 && server.metric("websocket_connections") > 0.0);

    server.signal("HUP");
    member.send(r#"{"type":"ping","t":7}"#);
    assert_eq!(member.event("pong")["t"], 7, "under a service manager SIGHUP does not kill");
    server.signal("TERM");
    while !heard(&manager).starts_with("STOPPING=1") {}
    server.signal("TERM");
    let (status, log) = server.wait();
    assert_eq!(status.code(), Some(0), "{log}");
}

#[test]
fn the_sandbox_is_as_tight_as_it_is_said_to_be() {
    let page = fs::read_to_string(repository("docs/operations.md")).expect("the page");
    let unit = repository("tuning/systemd/voxhall.service");
    let mut command = Command::new("systemd-analyze");
    command.args(["security", "--offline=true", "--no-pager"]).arg(unit).stderr(Stdio::null());
    let Ok(mut child) = command.stdout(Stdio::piped()).spawn() else { return };
    let mut report = String::new();
    child.stdout.take().expect("piped").read_to_string(&mut report).expect("text");
    let _ = child.wait();
    let score = report.split("Overall exposure level for voxhall.service: ").nth(1);
    let score: f64 = score.and_then(|rest| rest.split(' ').next()?.parse().ok()).expect("a score");
    let said = page.split("exposure level of ").nth(1).and_then(|rest| rest.split(' ').next()?.parse().ok());
    let said: f64 = said.expect("the page names the score");
    assert!(score <= said, "systemd says {score}, the page {said}");
}

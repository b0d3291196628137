//! The public address as a Unix-domain socket: its file, and who is believed over it.

use std::io::{ErrorKind, Read as _, Write as _};
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;
use std::process::Command;
use std::{fs, thread};

use super::support::{Member, PATIENCE, Server, voxhall};
use super::{Folder, VERSION_1, member_of, unix};

fn connect(path: &Path) -> UnixStream {
    let stream = UnixStream::connect(path).expect("the server listens");
    stream.set_read_timeout(Some(PATIENCE)).expect("a socket takes that");
    stream
}

fn serve(path: &Path, arguments: &[&str]) -> Server {
    Server::start(&[&["--shards", "2", "--listen", &unix(path)], arguments].concat())
}

fn join(server: &Server, stream: UnixStream, session: &str) -> Member<UnixStream> {
    let mut member = server.join_over(stream, &format!("/ws/{session}?engine=echo"), None).expect("a room");
    member.event("session.created");
    member
}

/// The answer to an upgrade whose head has these lines besides.
fn upgrade(path: &Path, session: &str, lines: &str) -> (UnixStream, String) {
    let mut stream = connect(path);
    let head = format!(
        "GET /ws/{session} HTTP/1.1\r\nHost: rooms.example\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n{lines}\
         Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
    );
    stream.write_all(head.as_bytes()).expect("the server reads");
    let mut answer = vec![0; 12];
    stream.read_exact(&mut answer).expect("an answer");
    (stream, String::from_utf8(answer).expect("text"))
}

#[test]
fn rooms_and_pages_are_served_and_the_file_goes_with_the_server() {
    let folder = Folder::new("served");
    let path = folder.path("public.sock");
    let server = serve(&path, &["--set", "server.drain_s=0"]);
    assert!(server.ready.contains(&format!("http://unix:{} ", path.display())), "{}", server.ready);
    let mode = fs::metadata(&path).expect("the file").permissions().mode();
    assert_eq!(mode & 0o777, 0o660);
    for number in 0..8 {
        let session = format!("served-{number}");
        let mut member = join(&server, connect(&path), &session);
        member.send(vec![number; 40_000]);
        assert_eq!(member.read().into_data(), vec![number; 40_000]);
        assert_eq!(member_of(&server, &session), "127.0.0.1:0", "of this host, as far as is known");
    }
    let output = Command::new("curl")
        .args(["--silent", "--show-error", "--fail", "--unix-socket"])
        .arg(&path)
        .arg("http://localhost/")
        .output()
        .expect("curl runs: `make packages` installs it");
    assert!(output.status.success() && output.stdout.ends_with(b"</html>\n"), "{output:?}");
    server.signal("TERM");
    let (status, log) = server.wait();
    assert_eq!(status.code(), Some(0), "{log}");
    assert!(!path.exists());
}

#[test]
fn a_dead_servers_file_is_replaced_and_nothing_else_is() {
    let folder = Folder::new("places");
    let path = folder.path("public.sock");
    drop(UnixListener::bind(&path).expect("a socket as a crash leaves it"));
    let first = serve(&path, &["--set", "server.unix_mode=600"]);
    assert_eq!(fs::metadata(&path).expect("the file").permissions().mode() & 0o777, 0o600);
    let refused = |listen: &str, admin: &str, words: &str| {
        let output = voxhall(&["serve", "--shards", "1", "--listen", listen, "--admin", admin]).output();
        let output = output.expect("the program runs");
        let errors = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(errors.contains(words) && output.status.code() == Some(1), "{errors}");
        assert!(output.stdout.is_empty(), "nothing is ready");
    };
    refused(&unix(&path), "127.0.0.1:0", "somebody is listening on");
    refused("127.0.0.1:0", &unix(&path), "somebody is listening on");
    join(&first, connect(&path), "still-served");

    let file = folder.path("precious.txt");
    fs::write(&file, "precious").expect("a file");
    refused(&unix(&file), "127.0.0.1:0", "is no socket, so it was left alone");
    refused("127.0.0.1:0", &unix(&file), "is no socket, so it was left alone");
    assert_eq!(fs::read_to_string(&file).expect("it is still there"), "precious");
    refused(&unix(&folder.path("missing/public.sock")), "127.0.0.1:0", "its folder has to exist");
}

#[test]
fn a_drain_answers_everybody_who_got_in() {
    let folder = Folder::new("drain");
    let path = folder.path("public.sock");
    let server = serve(&path, &["--set", "server.drain_s=1"]);
    let mut member = join(&server, connect(&path), "drained");
    server.signal("TERM");
    member.event("session.draining");
    // From here to the end each connection is refused in words, or there is nobody to connect to.
    let mut answered = 0;
    let (late, log_of) = (path.clone(), server);
    let knocking = thread::spawn(move || {
        loop {
            let mut stream = match UnixStream::connect(&late) {
                Ok(stream) => stream,
                Err(error) if [ErrorKind::NotFound, ErrorKind::ConnectionRefused].contains(&error.kind()) => {
                    return answered;
                }
                Err(error) => panic!("{error}"),
            };
            stream.set_read_timeout(Some(PATIENCE)).expect("a socket takes that");
            let head = "GET /ws/late HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
                        Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n";
            stream.write_all(head.as_bytes()).expect("the server reads");
            let mut answer = String::new();
            stream.read_to_string(&mut answer).expect("an answer");
            assert!(answer.starts_with("HTTP/1.1 503"), "{answer:?} after {answered}");
            answered += 1;
        }
    });
    assert_eq!(member.goodbye(), 1001);
    assert!(knocking.join().expect("each was answered") > 0);
    let (status, log) = log_of.wait();
    assert_eq!(status.code(), Some(0), "{log}");
}

#[test]
fn a_local_proxys_word_is_taken_without_being_listed() {
    let folder = Folder::new("believed");
    let path = folder.path("public.sock");
    let server = serve(&path, &[]);
    let (_member, answer) = upgrade(&path, "named", "X-Forwarded-For: 192.0.2.1, 198.51.100.7\r\n");
    assert_eq!(answer, "HTTP/1.1 101");
    assert_eq!(member_of(&server, "named"), "198.51.100.7:0");
    // Its limits are those of the client that it names, and the local process has none.
    let many = |session: &str, lines: &str| {
        (0..60)
            .filter(|number| upgrade(&path, &format!("{session}-{number}"), lines).1.ends_with("429"))
            .count()
    };
    drop(server);
    let server = serve(&path, &["--set", "limits.upgrades_per_s_per_ip=1"]);
    assert_eq!(many("host", ""), 0);
    assert!(many("client", "X-Forwarded-For: 198.51.100.7\r\n") > 0);
    drop(server);
    // A page that does not belong to the proxy's host is no friend's.
    let _server = serve(&path, &[]);
    assert_eq!(upgrade(&path, "page", "Origin: https://rooms.example\r\n").1, "HTTP/1.1 101");
    assert_eq!(upgrade(&path, "page", "Origin: https://elsewhere.example\r\n").1, "HTTP/1.1 403");
}

#[test]
fn with_the_proxy_protocol_a_header_must_come_first() {
    let folder = Folder::new("header");
    let path = folder.path("public.sock");
    let server = serve(&path, &["--set", "server.proxy_protocol=true"]);
    let mut stream = connect(&path);
    stream.write_all(VERSION_1).expect("the server reads");
    let _member = join(&server, stream, "proxied");
    assert_eq!(member_of(&server, "proxied"), "198.51.100.7:5000");
    assert_eq!(upgrade(&path, "bare", "").1, "HTTP/1.1 400");
}

#[test]
fn the_admin_address_may_be_one_too() {
    let folder = Folder::new("admin");
    let (public, admin) = (folder.path("public.sock"), folder.path("admin.sock"));
    let server = serve(&public, &["--admin", &unix(&admin)]);
    assert!(server.ready.contains(&format!("(admin http://unix:{})", admin.display())), "{}", server.ready);
    let _member = join(&server, connect(&public), "seen");
    let mut stream = connect(&admin);
    let request = "GET /api/v1/rooms/seen HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n";
    stream.write_all(request.as_bytes()).expect("the server reads");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).expect("an answer");
    assert!(answer.starts_with("HTTP/1.1 200") && answer.contains("\"members\":1"), "{answer}");
    server.signal("TERM");
    drop(_member);
    let (status, log) = server.wait();
    assert_eq!(status.code(), Some(0), "{log}");
    assert!(!admin.exists() && !public.exists());
}

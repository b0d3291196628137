//! A PROXY header in front of TLS, byte for byte.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::thread;

use super::support::tls::{Files, any_client, secure, secure_over};
use super::support::{Server, connect};
use super::{VERSION_1, member_of, version_2};

const SHARDS: &[&str] = &["--shards", "2", "--set", "server.proxy_protocol=true"];

fn trusting(files: &Files, network: &str) -> Server {
    let trusted = format!("server.trusted_proxies={network}");
    files.serve(&[SHARDS, &["--set", &trusted]].concat())
}

/// The client's address as the server understands it.
fn told(server: &Server, files: &Trusted, stream: TcpStream, session: &str) -> String {
    let stream = secure_over(&any_client(&files.1), stream).expect("a handshake");
    let mut member = server.join_over(stream, &format!("/ws/{session}"), None).expect("a room");
    member.event("session.created");
    member_of(server, session)
}

struct Trusted(Files, rustls::pki_types::CertificateDer<'static>);

impl Trusted {
    fn new(name: &str) -> Self {
        let files = Files::new(name);
        let trusted = files.issue();
        Self(files, trusted)
    }
}

#[test]
fn a_trusted_proxy_names_its_client_however_the_header_is_split() {
    let files = Trusted::new("proxied");
    let server = trusting(&files.0, "127.0.0.0/8");
    for (version, header) in [(1, VERSION_1.to_vec()), (2, version_2())] {
        for cut in 0..header.len() {
            let mut stream = connect(server.public);
            stream.set_nodelay(true).expect("a socket takes that");
            stream.write_all(&header[..cut]).expect("the server reads");
            // As far as the kernels are concerned the two parts are two.
            thread::yield_now();
            stream.write_all(&header[cut..]).expect("the server reads");
            let session = format!("split-{version}-{cut}");
            assert_eq!(told(&server, &files, stream, &session), "198.51.100.7:5000", "cut at {cut}");
        }
    }
    assert!(
        server.metric("voxhall_moved_in_total") > 0.0,
        "some moved to another shard, and the address with them"
    );
    assert_eq!(server.metric("voxhall_tls_failed_total"), 0.0);
}

/// A stream that puts a header before the first bytes that are written, in one segment with them.
struct Together(Vec<u8>, TcpStream);

impl std::io::Read for Together {
    fn read(&mut self, into: &mut [u8]) -> std::io::Result<usize> {
        self.1.read(into)
    }
}

impl std::io::Write for Together {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        let header = std::mem::take(&mut self.0);
        self.1.write_all(&[&header[..], bytes].concat())?;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        self.1.flush()
    }
}

#[test]
fn header_and_first_message_may_come_in_one_segment() {
    let files = Trusted::new("together");
    let server = trusting(&files.0, "127.0.0.0/8");
    for (number, header) in [VERSION_1.to_vec(), version_2()].into_iter().enumerate() {
        let name = rustls::pki_types::ServerName::try_from("localhost").expect("a name");
        let client = rustls::ClientConnection::new(any_client(&files.1), name).expect("a client");
        let stream = rustls::StreamOwned::new(client, Together(header, connect(server.public)));
        let session = format!("together-{number}");
        let mut member = server.join_over(stream, &format!("/ws/{session}"), None).expect("a room");
        member.event("session.created");
        assert_eq!(member_of(&server, &session), "198.51.100.7:5000");
    }
    // A page goes to the control plane with its session.
    let mut stream = connect(server.public);
    stream.write_all(VERSION_1).expect("the server reads");
    let mut stream = secure_over(&any_client(&files.1), stream).expect("a handshake");
    write!(stream, "GET /healthz HTTP/1.1\r\nhost: x\r\n\r\n").expect("the server reads");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).expect("an answer with a proper end");
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
}

#[test]
fn who_must_send_a_header_and_does_not_is_cut_and_counted() {
    let files = Trusted::new("unproxied");
    let server = trusting(&files.0, "127.0.0.0/8");
    assert!(
        secure(&any_client(&files.1), server.public).is_err(),
        "a handshake without the header before it"
    );
    let ended = |said: &[u8]| {
        let mut stream = connect(server.public);
        stream.write_all(said).expect("the server reads");
        let mut answer = Vec::new();
        // An end or a reset: either is the server's.
        let _ = stream.read_to_end(&mut answer);
        assert_eq!(answer, b"", "nothing could be understood");
    };
    ended(b"GET / HTTP/1.1\r\n\r\n");
    ended(b"PROXY TCP4 198.51.100.7 192.0.2.9 5000\r\n");
    ended(&[b"PROXY UNKNOWN ", &[b'x'; 200][..]].concat());
    ended(&[&version_2()[..14], &[0xff, 0xff], &[0; 20_000]].concat());
    // Each but those who were merely too long is a head that was no request.
    while server.metric_where("voxhall_refused_total", "bad_request") < 5.0 {
        thread::yield_now();
    }
    while server.metric("voxhall_heads") > 0.0 {
        thread::yield_now();
    }
    let mut stream = connect(server.public);
    stream.write_all(&version_2()).expect("the server reads");
    assert_eq!(told(&server, &files, stream, "after-all"), "198.51.100.7:5000");
}

#[test]
fn half_a_header_ends_at_the_deadline_of_the_head() {
    let files = Trusted::new("half");
    let limit = ["--set", "limits.head_s=1", "--set", "server.trusted_proxies=127.0.0.0/8"];
    let server = files.0.serve(&[SHARDS, &limit].concat());
    for half in [&VERSION_1[..20], &version_2()[..20], b""] {
        let mut stream = connect(server.public);
        stream.write_all(half).expect("the server reads");
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).expect("an end");
        assert_eq!(answer, b"");
    }
    assert_eq!(server.metric_where("voxhall_refused_total", "head_timeout"), 3.0);
}

#[test]
fn anybody_else_speaks_for_themselves_and_may_not_send_one() {
    let files = Trusted::new("stranger");
    let server = trusting(&files.0, "10.0.0.0/8");
    let stream = connect(server.public);
    let own = stream.local_addr().expect("connected").to_string();
    assert_eq!(told(&server, &files, stream, "own"), own);
    let mut forged = connect(server.public);
    forged.write_all(VERSION_1).expect("the server reads");
    let mut answer = String::new();
    forged.read_to_string(&mut answer).expect("an answer");
    assert!(answer.starts_with("HTTP/1.1 400") && answer.contains("speaks TLS"), "{answer}");
    let mut forged = connect(server.public);
    forged.write_all(&version_2()).expect("the server reads");
    assert!(secure_over(&any_client(&files.1), forged).is_err());
}

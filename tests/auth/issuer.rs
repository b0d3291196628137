//! Key sets of issuers: fetched over http and https, followed, and looked for early when a token names a new key.

#![expect(clippy::disallowed_methods, reason = "a client has a clock")]

use std::io::{BufRead as _, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Instant;

use jsonwebtoken::Algorithm::RS256;
use rcgen::{BasicConstraints, CertificateParams, IsCa, KeyPair};
use rustls::pki_types::PrivateKeyDer;
use rustls::{ServerConfig, ServerConnection, StreamOwned};
use serde_json::json;

use super::support::{Server, voxhall};
use super::tokens::{key_set, sign};
use super::{File, Way, bring};

/// An issuer on this machine: answers every request with what it has at the moment.
struct Issuer {
    address: SocketAddr,
    answer: Arc<Mutex<String>>,
    asked: Arc<AtomicUsize>,
}

impl Issuer {
    fn new(answer: String, tls: Option<Arc<ServerConfig>>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let address = listener.local_addr().expect("an address");
        let (answer, asked) = (Arc::new(Mutex::new(answer)), Arc::new(AtomicUsize::new(0)));
        let issuer = Self { address, answer: Arc::clone(&answer), asked: Arc::clone(&asked) };
        thread::spawn(move || {
            for stream in listener.incoming() {
                let stream = stream.expect("a connection");
                let body = || {
                    asked.fetch_add(1, Ordering::SeqCst);
                    answer.lock().expect("no panic").clone()
                };
                match &tls {
                    None => serve(stream, body),
                    Some(config) => {
                        let server = ServerConnection::new(Arc::clone(config)).expect("a good config");
                        serve(StreamOwned::new(server, stream), body);
                    }
                }
            }
        });
        issuer
    }

    /// From now on it has other keys, or something else.
    fn has(&self, answer: &str) {
        answer.clone_into(&mut self.answer.lock().expect("no panic"));
    }

    /// How often it was asked.
    fn asked(&self) -> usize {
        self.asked.load(Ordering::SeqCst)
    }
}

/// Answers one request; whoever trusts nobody here goes without an answer.
fn serve(stream: impl Read + Write, body: impl Fn() -> String) {
    let mut stream = BufReader::new(stream);
    let mut head = String::new();
    while !head.ends_with("\r\n\r\n") {
        if !stream.read_line(&mut head).is_ok_and(|read| read > 0) {
            return;
        }
    }
    let body = body();
    let status = if body.is_empty() { "500 Broken" } else { "200 OK" };
    let length = body.len();
    let head = format!("HTTP/1.1 {status}\r\ncontent-length: {length}\r\nconnection: close\r\n\r\n");
    let _ = stream.get_mut().write_all((head + &body).as_bytes());
    let _ = stream.get_mut().flush();
}

/// An authority of our own, as a file, and a server that it vouches for.
fn authority(name: &str) -> (File, Arc<ServerConfig>) {
    let mut params = CertificateParams::new(Vec::new()).expect("no names");
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let key = KeyPair::generate().expect("a key");
    let certificate = params.self_signed(&key).expect("a certificate");
    let file = File::new(name, &certificate.pem());
    let authority = rcgen::Issuer::new(params, key);
    let key = KeyPair::generate().expect("a key");
    let params = CertificateParams::new(vec!["127.0.0.1".to_owned()]).expect("a name");
    let certificate = params.signed_by(&key, &authority).expect("a certificate");
    let private = PrivateKeyDer::Pkcs8(key.serialize_der().into());
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .expect("known versions")
        .with_no_client_auth()
        .with_single_cert(vec![certificate.der().clone()], private)
        .expect("a certificate with its key");
    (file, Arc::new(config))
}

/// Asks for the keys to be read again, and waits until that shows.
fn reread(server: &Server, metric: &str) {
    let before = server.metric(metric);
    server.signal("HUP");
    while server.metric(metric) <= before {
        thread::yield_now();
    }
}

#[test]
fn an_issuers_key_set_is_fetched_and_followed() {
    let issuer = Issuer::new(key_set(&[("old", "rsa")]), None);
    let jwks = format!("auth.jwks=http://{}/keys?key=hidden-in-the-query", issuer.address);
    let server = Server::start(&["--shards", "1", "--set", "auth.mode=jwt", "--set", &jwks]);
    let (old, new) =
        (sign(RS256, "rsa", Some("old"), json!({})), sign(RS256, "stranger", Some("new"), json!({})));
    let statuses = |server: &Server| [&old, &new].map(|token| bring(server, Way::Query, "/ws/a", token).1);
    assert_eq!(statuses(&server), [101, 401]);
    // The new one's key is looked for, in vain.
    while server.metric("voxhall_auth_key_reads_total") < 1.0 {
        thread::yield_now();
    }
    issuer.has(&key_set(&[("old", "rsa"), ("new", "stranger")]));
    reread(&server, "voxhall_auth_key_reads_total");
    assert_eq!(statuses(&server), [101, 101]);
    for broken in ["", "no JSON", r#"{"keys":[]}"#] {
        issuer.has(broken);
        reread(&server, "voxhall_auth_key_reads_failed_total");
        assert_eq!(statuses(&server), [101, 101], "the old keys stay after {broken:?}");
    }
    issuer.has(&key_set(&[("new", "stranger")]));
    reread(&server, "voxhall_auth_key_reads_total");
    assert_eq!(statuses(&server), [401, 101]);
    server.signal("TERM");
    let (_, log) = server.wait();
    assert!(log.contains("the old ones stay") && !log.contains("hidden-in-the-query"), "{log}");
}

#[test]
fn a_key_set_in_a_file_is_followed_without_being_asked() {
    let file = File::new("set.json", &key_set(&[("a", "rsa")]));
    let jwks = format!("auth.jwks={}", file.path());
    let arguments = ["--set", "auth.mode=jwt", "--set", "auth.jwks_refresh_s=1", "--set", &jwks];
    let server = Server::start(&arguments);
    // Without a kid there is nothing that could be missed.
    let later = sign(RS256, "stranger", None, json!({}));
    assert_eq!(bring(&server, Way::Query, "/ws/a", &later).1, 401);
    std::fs::write(file.path(), key_set(&[("b", "stranger")])).expect("the file");
    while bring(&server, Way::Query, "/ws/a", &later).1 == 401 {
        thread::yield_now();
    }
    assert_eq!(server.metric("voxhall_auth_key_reads_early_total"), 0.0);
}

#[test]
fn an_issuer_speaks_https_and_has_to_be_vouched_for() {
    let (trusted, config) = authority("authority.pem");
    let issuer = Issuer::new(key_set(&[("a", "rsa")]), Some(config));
    let jwks = format!("auth.jwks=https://{}/keys", issuer.address);
    let arguments = ["--shards", "1", "--set", "auth.mode=jwt", "--set", &jwks];
    let server = Server::start_in(&[("SSL_CERT_FILE", trusted.path())], &arguments);
    assert_eq!(bring(&server, Way::Header, "/ws/a", &sign(RS256, "rsa", Some("a"), json!({}))).1, 101);
    assert_eq!(issuer.asked(), 1);

    let (other, _) = authority("other-authority.pem");
    let own = ["serve", "--listen", "127.0.0.1:0", "--admin", "127.0.0.1:0"];
    let mut refused = voxhall(&[&own[..], &arguments].concat());
    let output = refused.env("SSL_CERT_FILE", other.path()).output().expect("the program runs");
    let said = String::from_utf8(output.stderr).expect("text");
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert!(said.contains("auth.jwks names https://") && said.contains("can't be fetched"), "{said}");
    assert_eq!(issuer.asked(), 1, "who is not trusted is asked for nothing");
}

#[test]
fn a_key_that_is_new_is_looked_for_when_a_token_names_it_and_no_oftener() {
    let (trusted, config) = authority("rotating.pem");
    let issuer = Issuer::new(key_set(&[("old", "rsa")]), Some(config));
    let jwks = format!("auth.jwks=https://{}/keys", issuer.address);
    let (mode, refresh) = ("auth.mode=jwt", "auth.jwks_refresh_s=86400");
    let began = Instant::now();
    let server = Server::start_in(
        &[("SSL_CERT_FILE", trusted.path())],
        &["--shards", "2", "--set", mode, "--set", refresh, "--set", &jwks],
    );
    issuer.has(&key_set(&[("new", "stranger")]));
    let new = sign(RS256, "stranger", Some("new"), json!({}));
    assert_eq!(bring(&server, Way::Header, "/ws/a", &new).1, 401, "nobody waits for the issuer");
    while bring(&server, Way::Header, "/ws/a", &new).1 == 401 {
        thread::yield_now();
    }
    let nobodys = sign(RS256, "rsa", Some("nobody"), json!({}));
    for at in 0..100 {
        assert_eq!(bring(&server, Way::Header, &format!("/ws/{at}"), &nobodys).1, 401);
    }
    // At the start, for the new key, and then every ten seconds at most.
    let most = 2 + began.elapsed().as_secs() / 10;
    let asked = issuer.asked() as u64;
    assert!((2..=most).contains(&asked), "asked {asked} times");
    assert!(server.metric("voxhall_auth_key_reads_early_total") >= 1.0);
}

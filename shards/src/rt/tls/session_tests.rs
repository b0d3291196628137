//! Sessions against a client of the same library, byte by byte, and against bytes that are no TLS.

use std::io::{Read, Write};
use std::sync::Arc;

use proptest::prelude::*;
use rustls::pki_types::ServerName;
use rustls::{ClientConfig, ClientConnection, RootCertStore, SupportedProtocolVersion};

use super::{Broken, Session, Tls};

/// A certificate in files that are gone when this returns.
fn tls(name: &str) -> (Tls, RootCertStore) {
    let folder = std::env::temp_dir().join(format!("voxhall-session-{}-{name}", std::process::id()));
    std::fs::create_dir_all(&folder).expect("a folder");
    let issued = rcgen::generate_simple_self_signed(["localhost".to_owned()]).expect("a certificate");
    let (cert, key) = (folder.join("cert.pem"), folder.join("key.pem"));
    std::fs::write(&cert, issued.cert.pem()).expect("a file");
    std::fs::write(&key, issued.signing_key.serialize_pem()).expect("a file");
    let tls = Tls::load(&cert, &key).expect("a good certificate");
    std::fs::remove_dir_all(&folder).expect("ours");
    let mut roots = RootCertStore::empty();
    roots.add(issued.cert.der().clone()).expect("a certificate");
    (tls, roots)
}

struct Pair {
    client: ClientConnection,
    server: Box<Session>,
    /// What the server has opened.
    heard: Vec<u8>,
    /// What the client has.
    told: Vec<u8>,
}

impl Pair {
    fn new(tls: &Tls, roots: RootCertStore, versions: &[&'static SupportedProtocolVersion]) -> Self {
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let config = ClientConfig::builder_with_provider(provider)
            .with_protocol_versions(versions)
            .expect("known versions")
            .with_root_certificates(roots)
            .with_no_client_auth();
        let name = ServerName::try_from("localhost").expect("a name");
        let client = ClientConnection::new(Arc::new(config), name).expect("a client");
        Self { client, server: tls.session(None).expect("a session"), heard: Vec::new(), told: Vec::new() }
    }

    fn client_says(&mut self) -> Vec<u8> {
        let mut said = Vec::new();
        while self.client.wants_write() {
            self.client.write_tls(&mut said).expect("memory takes everything");
        }
        said
    }

    /// Carries what the client says to the server in pieces.
    fn up(&mut self, piece: usize) -> Result<(), Broken> {
        let mut said = self.client_says();
        said.chunks_mut(piece).try_for_each(|piece| self.server.receive(piece, &mut self.heard))
    }

    /// Carries what the server says to the client.
    fn down(&mut self) {
        let said = std::mem::take(self.server.unsent());
        let mut rest = &said[..];
        while !rest.is_empty() {
            self.client.read_tls(&mut rest).expect("memory");
            self.client.process_new_packets().expect("the server speaks TLS");
            // "Would block" is where it ends.
            let _ = self.client.reader().read_to_end(&mut self.told);
        }
    }

    fn shake_hands(&mut self, piece: usize) {
        while self.client.is_handshaking() || self.server.is_handshaking() {
            self.up(piece).expect("a good client");
            self.down();
        }
    }

    fn client_hears(&mut self) -> Vec<u8> {
        std::mem::take(&mut self.told)
    }
}

#[test]
fn both_sides_understand_each_other_however_the_bytes_are_split() {
    let (tls, roots) = tls("split");
    for versions in [&[&rustls::version::TLS13], &[&rustls::version::TLS12]] {
        for piece in [1, 2, 3, 5, 7, 64, 1_000, 16_384, 100_000] {
            let mut pair = Pair::new(&tls, roots.clone(), versions);
            pair.shake_hands(piece);
            let said: Vec<u8> = (0..40_000_u32).map(|at| at as u8).collect();
            for part in [1, 100, 20_000, 40_000] {
                pair.client.writer().write_all(&said[..part]).expect("memory");
                pair.up(piece).expect("a good client");
                assert_eq!(pair.heard, said[..part]);
                pair.heard.clear();
                let mut sealed = Vec::new();
                pair.server.seal(&said[..part], &mut sealed).expect("an open session");
                *pair.server.unsent() = sealed;
                pair.down();
                assert_eq!(pair.client_hears(), said[..part]);
            }
            pair.client.send_close_notify();
            pair.up(piece).expect("a good client");
            assert!(pair.server.has_ended());
            pair.server.close();
            pair.server.close();
            pair.down();
            assert_eq!(pair.client.reader().read(&mut [0; 8]).ok(), Some(0), "a proper end");
        }
    }
}

#[test]
fn a_proxy_header_comes_first_in_clear_however_it_is_split() {
    let (tls, roots) = tls("proxied");
    let four = [192, 0, 2, 1, 192, 0, 2, 9, 0x13, 0x88, 0, 80];
    let binary = [&b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x0c"[..], &four].concat();
    for header in [b"PROXY TCP4 192.0.2.1 192.0.2.9 5000 80\r\n".to_vec(), binary] {
        for cut in 0..=header.len() + 1 {
            let mut pair = Pair::new(&tls, roots.clone(), &[&rustls::version::TLS13]);
            pair.server = tls.session(Some(1_024)).expect("a session");
            // Cut within the header, behind it, and a byte later: the rest comes with the client's first message.
            let mut said = [header.clone(), pair.client_says()].concat();
            let (first, rest) = said.split_at_mut(cut);
            for part in [first, rest] {
                pair.server.receive(part, &mut pair.heard).expect("a good proxy and a good client");
            }
            assert_eq!(pair.heard, header, "cut at {cut}: as it is, and nothing else yet");
            pair.down();
            pair.shake_hands(usize::MAX);
            pair.client.writer().write_all(b"hello").expect("memory");
            pair.up(usize::MAX).expect("a good client");
            assert_eq!(pair.heard, [&header[..], b"hello"].concat());
        }
    }
}

#[test]
fn what_should_be_a_proxy_header_and_is_none_is_for_the_core_to_refuse() {
    let (tls, roots) = tls("unproxied");
    let endless = [&b"\r\n\r\n\0\r\nQUIT\n\x21\x11\xff\xff"[..], &[0; 2_000]].concat();
    let hello = Pair::new(&tls, roots, &[&rustls::version::TLS13]).client_says();
    for said in [hello, b"GET / HTTP/1.1\r\n".to_vec(), endless] {
        let mut session = tls.session(Some(1_024)).expect("a session");
        let mut heard = Vec::new();
        for piece in said.clone().chunks_mut(100) {
            // Once it is told, what comes is not listened to.
            let _ = session.receive(piece, &mut heard);
        }
        assert!(!heard.is_empty() && heard.len() <= 1_100 && said.starts_with(&heard), "{}", heard.len());
        assert!(session.is_handshaking() && session.unsent().is_empty(), "nobody is answered in TLS");
        assert_eq!(session.receive(&mut b"more".to_vec(), &mut heard), Err(Broken));
    }
}

#[test]
fn a_ticket_waits_for_an_answer_and_what_ends_a_handshake_does_not() {
    let (tls, roots) = tls("waits");
    for (version, may_wait) in [(&rustls::version::TLS13, true), (&rustls::version::TLS12, false)] {
        let mut pair = Pair::new(&tls, roots.clone(), &[version]);
        while pair.server.is_handshaking() {
            pair.down();
            pair.up(usize::MAX).expect("a good client");
            assert!(pair.server.must_speak() || !pair.server.is_handshaking(), "a client waits for it");
        }
        assert!(!pair.server.unsent().is_empty(), "a ticket, at least");
        assert_eq!(pair.server.must_speak(), !may_wait, "{version:?}");
        // The rest of what has begun to be sent does not wait.
        let mut rest = pair.server.take_unsent().split_off(1);
        pair.server.unsent().append(&mut rest);
        assert!(pair.server.must_speak());
    }
}

#[test]
fn it_speaks_and_ends_while_it_holds_the_beginning_of_something() {
    let (tls, roots) = tls("partial");
    let mut pair = Pair::new(&tls, roots.clone(), rustls::ALL_VERSIONS);
    // Half of the client's first message: nothing can be sealed, and ending says nothing.
    let mut said = pair.client_says();
    let half = said.len() / 2;
    pair.server.receive(&mut said[..half], &mut pair.heard).expect("it waits for more");
    assert_eq!(pair.server.seal(b"too early", &mut Vec::new()), Err(Broken));
    pair.server.close();
    assert!(pair.server.unsent().is_empty());

    let mut pair = Pair::new(&tls, roots, rustls::ALL_VERSIONS);
    pair.shake_hands(usize::MAX);
    pair.client.writer().write_all(b"in two pieces").expect("memory");
    let mut said = pair.client_says();
    let half = said.len() / 2;
    pair.server.receive(&mut said[..half], &mut pair.heard).expect("it waits for more");
    let mut sealed = Vec::new();
    pair.server.seal(b"meanwhile", &mut sealed).expect("an open session");
    *pair.server.unsent() = sealed;
    pair.down();
    assert_eq!(pair.client_hears(), b"meanwhile");
    pair.server.receive(&mut said[half..], &mut pair.heard).expect("the rest");
    assert_eq!(pair.heard, b"in two pieces");
}

#[test]
fn a_handshake_message_cut_over_records_is_followed_and_one_without_end_is_not() {
    let (tls, roots) = tls("records");
    let mut pair = Pair::new(&tls, roots, rustls::ALL_VERSIONS);
    let hello = pair.client_says();
    // The same message, a record for every 50 bytes (RFC 8446 section 5.1 allows it); the server speaks between.
    for part in hello[5..].chunks(50) {
        let mut record = vec![0x16, 3, 1, 0, part.len() as u8];
        record.extend_from_slice(part);
        pair.server.receive(&mut record, &mut pair.heard).expect("a good client");
        assert!(pair.server.seal(b"too early", &mut Vec::new()).is_err());
    }
    pair.down();
    pair.shake_hands(usize::MAX);

    let mut endless = tls.session(None).expect("a session");
    let mut record = vec![0x16, 3, 1, 0x10, 4, 1, 0, 0xff, 0xff];
    record.resize(5 + 0x1004, 0);
    let outcomes = (0..8).map(|_| endless.receive(&mut record.clone(), &mut Vec::new()));
    assert!(outcomes.last().expect("eight").is_err(), "what is held is bounded");
}

#[test]
fn who_speaks_http_is_told_in_http() {
    let (tls, _) = tls("http");
    let mut session = tls.session(None).expect("a session");
    assert_eq!(session.receive(&mut b"GET / HTTP/1.1\r\n\r\n".to_vec(), &mut Vec::new()), Err(Broken));
    let said = String::from_utf8(session.unsent().clone()).expect("text");
    let (head, body) = said.split_once("\r\n\r\n").expect("a head");
    assert!(head.starts_with("HTTP/1.1 400 ") && head.contains(&format!("Content-Length: {}", body.len())));
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, failure_persistence: None, ..ProptestConfig::default() })]

    /// Whatever is changed in what a client sends, and wherever it is cut: a session may break, and says so, but
    /// nothing worse happens, and speaking or ending between the pieces does no harm.
    #[test]
    fn nothing_a_client_sends_brings_a_session_down(
        changes in proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..4),
        piece in 1usize..700,
        stage in 0..3,
        old in any::<bool>(),
        tail in proptest::collection::vec(any::<u8>(), 0..300),
    ) {
        let (tls, roots) = tls("fuzz");
        let version = if old { &rustls::version::TLS12 } else { &rustls::version::TLS13 };
        let mut pair = Pair::new(&tls, roots, &[version]);
        // Its first flight, its second, or what it says when the handshake is over.
        match stage {
            0 => {}
            1 => {
                pair.up(usize::MAX).expect("a good client");
                pair.down();
            }
            _ => {
                pair.shake_hands(usize::MAX);
                pair.client.writer().write_all(&[7; 500]).expect("memory");
            }
        }
        let mut said = pair.client_says();
        said.extend_from_slice(&tail);
        for (at, to) in changes {
            let at = at.index(said.len());
            said[at] = to;
        }
        for piece in said.chunks_mut(piece) {
            let broken = pair.server.receive(piece, &mut pair.heard).is_err();
            let mut sealed = Vec::new();
            prop_assert!(!broken || pair.server.seal(b"x", &mut sealed).is_err());
            let _ = pair.server.seal(b"y", &mut sealed);
        }
        pair.server.close();
    }

    /// Records of every kind, each well-formed on the outside.
    #[test]
    fn nor_do_records_in_any_order(
        records in proptest::collection::vec((20u8..25, proptest::collection::vec(any::<u8>(), 0..60)), 1..12),
        piece in 1usize..200,
    ) {
        let (tls, _) = tls("order");
        let mut session = tls.session((piece % 2 == 0).then_some(64)).expect("a session");
        let mut said = Vec::new();
        for (kind, body) in records {
            said.extend_from_slice(&[kind, 3, 3, 0, body.len() as u8]);
            said.extend_from_slice(&body);
        }
        for piece in said.chunks_mut(piece) {
            let _ = session.receive(piece, &mut Vec::new());
            let _ = session.seal(b"x", &mut Vec::new());
        }
        session.close();
    }
}

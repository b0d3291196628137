//! Conversations that go well: plain and over TLS, beside clients of either kind.

use tungstenite::{Error, Message};

use super::model::{Identity, Model};
use super::*;

/// A long message, different for each `seed`.
fn long(len: usize, seed: usize) -> String {
    (0..len).map(|at| char::from(b'a' + ((at * 7 + seed) % 26) as u8)).collect()
}

/// Opens, talks both ways with messages of every size, and parts as servers of models do.
fn talks(models: Option<&Identity>, clients: Option<&Identity>) {
    let model = Model::socket(models, |mut socket| {
        let first = socket.read().expect("a message");
        assert_eq!(first, Message::text("hello"));
        socket.send(Message::Ping("are you there".into())).expect("connected");
        socket.send(Message::text(long(2 << 20, 1))).expect("connected");
        for seed in 0..60 {
            let wanted = Message::text(long(40_000, seed));
            loop {
                match socket.read().expect("a message") {
                    Message::Pong(payload) => assert_eq!(&payload[..], b"are you there"),
                    said => break assert!(said == wanted, "message {seed} is not what was sent"),
                }
            }
        }
        let bye = tungstenite::protocol::CloseFrame { code: 1001.into(), reason: "maximum age".into() };
        socket.close(Some(bye)).expect("connected");
        let end = loop {
            if let Err(end) = socket.read() {
                break end;
            }
        };
        assert!(matches!(end, Error::ConnectionClosed), "{end:?}");
    });
    let mut rig = Rig::new(&[model.at], models, clients, |_| {});
    rig.dial(LINE);
    assert_eq!(rig.heard(), "Open");
    rig.send(b"hello");
    let heard = rig.heard();
    assert!(heard == format!("Message({})", long(2 << 20, 1)), "{} bytes of another message", heard.len());
    for seed in 0..60 {
        rig.send(long(40_000, seed).as_bytes());
    }
    assert_eq!(rig.heard(), "Over(Closed { code: 1001, reason: \"maximum age\" })");
    rig.assert_nothing_left();
    model.finish();
}

#[test]
fn plain_on_both_sides() {
    talks(None, None);
}

#[test]
fn a_server_behind_tls_for_plain_clients() {
    talks(Some(&Identity::new("upstream")), None);
}

#[test]
fn a_plain_server_for_clients_behind_tls() {
    talks(None, Some(&Identity::new("clients")));
}

#[test]
fn tls_on_both_sides() {
    talks(Some(&Identity::new("both-a")), Some(&Identity::new("both-b")));
}

#[test]
fn a_line_that_is_closed_ends_politely() {
    for identity in [None, Some(Identity::new("closed"))] {
        let model = Model::socket(identity.as_ref(), |mut socket| {
            assert_eq!(socket.read().expect("a message"), Message::text("last words"));
            let close = socket.read().expect("a goodbye");
            let Message::Close(Some(frame)) = close else { panic!("{close:?}") };
            assert_eq!(u16::from(frame.code), 1000);
            while socket.read().is_ok() {}
        });
        let mut rig = Rig::new(&[model.at], identity.as_ref(), None, |_| {});
        rig.dial(LINE);
        assert_eq!(rig.heard(), "Open");
        rig.send(b"last words");
        rig.order(UpstreamOrder::Close { line: LINE });
        rig.assert_nothing_left();
        model.finish();
    }
}

#[test]
fn the_second_address_answers_when_the_first_does_not() {
    let model = Model::socket(None, |mut socket| while socket.read().is_ok() {});
    let nobody = std::net::TcpListener::bind("127.0.0.1:0").expect("a port").local_addr().expect("bound");
    let mut rig = Rig::new(&[nobody, model.at], None, None, |_| {});
    rig.dial(LINE);
    assert_eq!(rig.heard(), "Open");
    rig.order(UpstreamOrder::Close { line: LINE });
    rig.assert_nothing_left();
    model.finish();
}

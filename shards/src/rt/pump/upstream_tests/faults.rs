//! Servers that refuse, hang, break rules, or break off.

use std::net::TcpListener;
use std::sync::mpsc::channel;

use socket2::{Domain, Socket, Type};

use super::model::{Identity, Model};
use super::*;

/// A deadline that a test can wait for.
fn soon(settings: &mut ModelServerSettings) {
    settings.connect = Micros::from_ms(300);
}

/// What the engine hears of a dial to a server that does this with the connection.
fn heard_of(identity: Option<&Identity>, what: impl FnOnce(TcpStream) + Send + 'static) -> String {
    let model = Model::bare(what);
    let mut rig = Rig::new(&[model.at], identity, None, soon);
    rig.dial(LINE);
    let heard = rig.heard();
    rig.assert_nothing_left();
    model.finish();
    heard
}

/// Reads until the other end has had enough.
fn read_all(mut stream: TcpStream) {
    let mut bytes = [0; 4_096];
    while stream.read(&mut bytes).is_ok_and(|read| read > 0) {}
}

#[test]
fn nobody_listens() {
    let nobody = TcpListener::bind("127.0.0.1:0").expect("a port").local_addr().expect("bound");
    for identity in [None, Some(Identity::new("nobody"))] {
        let mut rig = Rig::new(&[nobody], identity.as_ref(), None, |_| {});
        rig.dial(LINE);
        let heard = rig.heard();
        assert!(heard.starts_with("Over(Unreachable") && heard.contains("refused"), "{heard}");
        rig.assert_nothing_left();
    }
}

#[test]
fn nobody_accepts() {
    // A queue of one that is full: what the kernel gets for it beyond that, it lets wait.
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None).expect("a socket");
    socket.bind(&SocketAddr::from(([127, 0, 0, 1], 0)).into()).expect("a port");
    socket.listen(0).expect("it listens");
    let at = socket.local_addr().expect("bound").as_socket().expect("an address");
    let fillers: Vec<_> = (0..4)
        .map(|_| {
            let filler = Socket::new(Domain::IPV4, Type::STREAM, None).expect("a socket");
            filler.set_nonblocking(true).expect("a flag");
            let _ = filler.connect(&at.into());
            filler
        })
        .collect();
    let mut rig = Rig::new(&[at], None, None, soon);
    rig.dial(LINE);
    assert_eq!(rig.heard(), "Over(TimedOut)");
    rig.assert_nothing_left();
    drop((fillers, socket));
}

#[test]
fn nothing_is_said_behind_the_connection() {
    assert_eq!(heard_of(None, read_all), "Over(TimedOut)");
    assert_eq!(heard_of(Some(&Identity::new("silent")), read_all), "Over(TimedOut)");
}

#[test]
fn a_refusal_says_when_to_come_back() {
    let heard = heard_of(None, |mut stream| {
        let mut request = [0; 4_096];
        let _ = stream.read(&mut request).expect("a request");
        let answer = b"HTTP/1.1 429 Too Many Requests\r\nRetry-After: 2\r\nContent-Length: 0\r\n\r\n";
        stream.write_all(answer).expect("connected");
        read_all(stream);
    });
    assert_eq!(heard, "Over(Refused { status: 429, retry_after: Some(Micros(2000000)) })");
}

#[test]
fn a_server_that_speaks_something_else() {
    let heard = heard_of(None, |mut stream| {
        stream.write_all(b"220 mail ready\r\n").expect("connected");
        read_all(stream);
    });
    assert_eq!(heard, "Over(Unreachable { why: \"its answer is not HTTP\" })");
    let heard = heard_of(Some(&Identity::new("clear")), |mut stream| {
        stream.write_all(b"HTTP/1.1 400 Bad Request\r\n\r\n").expect("connected");
        read_all(stream);
    });
    assert!(heard.starts_with("Over(Unreachable") && heard.contains("corrupt message"), "{heard}");
}

#[test]
fn a_server_whose_certificate_nobody_vouches_for() {
    let (known, other) = (Identity::new("known"), Identity::new("other"));
    // The handshake fails on its side too; the thread ends with that, and is not asked how.
    let model = Model::socket(Some(&other), |_| panic!("no handshake can succeed"));
    let mut rig = Rig::new(&[model.at], Some(&known), None, |_| {});
    rig.dial(LINE);
    let heard = rig.heard();
    assert!(heard.starts_with("Over(Unreachable") && heard.contains("certificate"), "{heard}");
    rig.assert_nothing_left();
}

#[test]
fn a_server_that_hangs_up_is_told_from_one_that_breaks_off() {
    for (linger, identity) in [(false, None), (true, None), (false, Some(Identity::new("hangs-up")))] {
        let (go, may_end) = channel();
        let model = Model::socket(identity.as_ref(), move |socket| {
            may_end.recv().expect("the test says when");
            drop(socket);
        });
        let at = model.at;
        let mut rig = Rig::new(&[at], identity.as_ref(), None, |_| {});
        rig.dial(LINE);
        assert_eq!(rig.heard(), "Open");
        if linger {
            // What it has not read when it closes makes the kernel reset the connection.
            rig.send(&[b'x'; 100_000]);
            for _ in 0..3 {
                rig.pump.turn().expect("the ring works");
            }
        }
        go.send(()).expect("the server listens");
        let heard = rig.heard();
        assert!(heard.starts_with("Over(Closed { code: 1006"), "{heard}");
        rig.assert_nothing_left();
        model.finish();
    }
}

#[test]
fn frames_that_break_the_rules() {
    for (frame, code) in [(&b"\x81\x81\0\0\0\0x"[..], 1002), (b"\x82\x01x", 1003), (b"\x81\x01\xff", 1007)] {
        let model = Model::socket(None, move |mut socket| {
            socket.get_mut().write_all(frame).expect("connected");
            let close = socket.read().expect("a goodbye");
            assert!(close.is_close(), "{close:?}");
        });
        let mut rig = Rig::new(&[model.at], None, None, |_| {});
        rig.dial(LINE);
        let heard = rig.all_heard(2);
        assert!(heard[1].starts_with(&format!("Over(Closed {{ code: {code}")), "{heard:?}");
        rig.assert_nothing_left();
        model.finish();
    }
}

#[test]
fn a_server_that_takes_nothing_is_lost_and_costs_nothing() {
    for identity in [None, Some(Identity::new("stalls"))] {
        let (go, may_end) = channel();
        let model = Model::socket(identity.as_ref(), move |socket| {
            may_end.recv().expect("the test says when");
            drop(socket);
        });
        let mut rig = Rig::new(&[model.at], identity.as_ref(), None, |settings| {
            settings.outbox.bytes_max = 1 << 20;
        });
        rig.dial(LINE);
        assert_eq!(rig.heard(), "Open");
        let heard = rig.until("the lane is full", |rig| {
            for _ in 0..8 {
                rig.send(&[b'x'; 60_000]);
            }
            rig.pump.shard.told_upstream().pop()
        });
        assert!(heard.1.contains("too much is waiting"), "{}", heard.1);
        rig.assert_nothing_left();
        go.send(()).expect("the server listens");
        model.finish();
    }
}

#[test]
fn a_node_without_sockets_dials_nobody() {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let mut rig = Rig::new(&[listener.local_addr().expect("bound")], None, None, |_| {});
    for _ in 0..99 {
        rig.sockets.add();
    }
    rig.dial(LINE);
    let heard = rig.heard();
    assert!(heard.contains("as many sockets as it may"), "{heard}");
}

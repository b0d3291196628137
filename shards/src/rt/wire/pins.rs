//! What the wire relies on in the kernel. When one of these fails on a new kernel, the wire is wrong there.

use std::collections::VecDeque;
use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::os::fd::AsFd;

use socket2::{SockRef, Socket};

use super::buffers::Buffers;
use super::ring::{Completion, PeerAddress, Ring, Wait};
use super::send::SendSlot;
use super::token::{Kind, Token};
use crate::core::frame::BINARY;
use crate::core::{Caller, Frame, FramePool, Micros};
use crate::rt::sys;

const TOKEN: Token = Token { kind: Kind::Receive, index: 7, generation: 3 };

fn pair() -> (TcpStream, TcpStream) {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a loopback port");
    let client = TcpStream::connect(listener.local_addr().expect("bound")).expect("it listens");
    let (server, _) = listener.accept().expect("somebody connects");
    (client, server)
}

/// Enters until a completion is there.
fn next(ring: &mut Ring) -> Completion {
    let mut taken = VecDeque::new();
    while taken.is_empty() {
        let wait = Wait { timeout: Some(Micros::from_s(10)), want: 1, batch: Micros(0) };
        ring.enter(Some(wait)).expect("the ring works");
        ring.take(&mut taken, 1);
    }
    taken.pop_front().expect("one was asked for")
}

#[test]
fn a_standing_receive_brings_every_piece_and_then_the_end() {
    let (mut client, server) = pair();
    let mut ring = Ring::new(8).expect("a ring");
    let mut buffers = Buffers::new(&ring, 4, 64).expect("buffers");
    ring.receive_stream(server.as_fd(), TOKEN);
    for round in 0..20u8 {
        client.write_all(&[round; 3]).expect("sent");
        let completion = next(&mut ring);
        assert_eq!((completion.token, completion.result), (TOKEN, 3));
        assert!(completion.more(), "it goes on");
        let id = completion.buffer().expect("a buffer");
        assert_eq!(buffers.filled(id, 3), [round; 3]);
        buffers.give_back(id);
        buffers.publish();
    }
    client.shutdown(Shutdown::Write).expect("connected");
    let end = next(&mut ring);
    assert_eq!((end.result, end.more()), (0, false));
    assert_eq!(ring.in_flight(), 0);
}

#[test]
fn without_a_buffer_a_receive_ends_and_goes_on_when_there_is_one() {
    let (mut client, server) = pair();
    let mut ring = Ring::new(8).expect("a ring");
    let mut buffers = Buffers::new(&ring, 2, 4).expect("buffers");
    client.write_all(b"0123456789ab").expect("sent");
    ring.receive_stream(server.as_fd(), TOKEN);
    let mut held = Vec::new();
    let starved = loop {
        let completion = next(&mut ring);
        match completion.buffer() {
            Some(id) => held.push(id),
            None => break completion,
        }
    };
    assert_eq!((held.len(), starved.result, starved.more()), (2, -libc::ENOBUFS, false));
    held.into_iter().for_each(|id| buffers.give_back(id));
    buffers.publish();
    ring.receive_stream(server.as_fd(), TOKEN);
    let rest = next(&mut ring);
    let id = rest.buffer().expect("a buffer");
    assert_eq!(buffers.filled(id, 4), b"89ab", "nothing was lost");
}

#[test]
fn a_single_receive_leaves_nothing_in_flight() {
    let (mut client, server) = pair();
    let mut ring = Ring::new(8).expect("a ring");
    let mut buffers = Buffers::new(&ring, 2, 64).expect("buffers");
    ring.receive_once(server.as_fd(), TOKEN);
    client.write_all(b"head").expect("sent");
    let completion = next(&mut ring);
    assert!(!completion.more());
    assert_eq!(ring.in_flight(), 0);
    assert_eq!(buffers.filled(completion.buffer().expect("a buffer"), 4), b"head");
    client.write_all(b"more").expect("sent");
    let mut rest = [0; 4];
    (&server).read_exact(&mut rest).expect("what follows stays in the socket");
    assert_eq!(&rest, b"more");
}

#[test]
fn a_cancelled_receive_says_so_and_loses_nothing() {
    let (mut client, server) = pair();
    let mut ring = Ring::new(8).expect("a ring");
    let _buffers = Buffers::new(&ring, 2, 64).expect("buffers");
    ring.receive_stream(server.as_fd(), TOKEN);
    ring.enter(None).expect("the ring works");
    ring.cancel(TOKEN);
    let mut ends = [next(&mut ring), next(&mut ring)];
    ends.sort_by_key(|completion| completion.token.kind as u8);
    assert_eq!((ends[0].token, ends[0].result, ends[0].more()), (TOKEN, -libc::ECANCELED, false));
    client.write_all(b"later").expect("sent");
    let mut rest = [0; 5];
    (&server).read_exact(&mut rest).expect("paused is not lost");
    assert_eq!(&rest, b"later");
}

#[test]
fn a_shutdown_ends_what_waits_on_the_socket() {
    let (_client, server) = pair();
    let mut ring = Ring::new(8).expect("a ring");
    let _buffers = Buffers::new(&ring, 2, 64).expect("buffers");
    ring.receive_stream(server.as_fd(), TOKEN);
    ring.enter(None).expect("the ring works");
    server.shutdown(Shutdown::Both).expect("connected");
    let end = next(&mut ring);
    assert_eq!((end.result, end.more()), (0, false));
}

/// Sends `pieces` copies of a frame in one call: what the completion said, if one came.
fn send(ring: &mut Ring, socket: &TcpStream, frame: &Frame, pieces: u32) -> Option<i32> {
    let mut slot = Box::new(SendSlot::new());
    for _ in 0..pieces {
        slot.gather.push(frame.clone(), 0..frame.wire().len() as u32);
    }
    ring.send(socket.as_fd(), &mut slot, Token::at(Kind::Send, 5));
    ring.enter(None).expect("the ring works");
    assert!(ring.has_submitted_all());
    let mut taken = VecDeque::new();
    ring.take(&mut taken, 8);
    assert!(taken.len() <= 1 && taken.iter().all(|completion| completion.token == Token::at(Kind::Send, 5)));
    assert_eq!(ring.in_flight(), 0, "a send is over with the call that submits it");
    taken.front().map(|completion| completion.result)
}

#[test]
fn a_send_that_went_through_whole_says_nothing() {
    let (mut client, server) = pair();
    let mut ring = Ring::new(8).expect("a ring");
    let frame = FramePool::default().copy(b"whole").seal(BINARY);
    assert_eq!(send(&mut ring, &server, &frame, 1), None);
    assert_eq!(send(&mut ring, &server, &frame, 3), None);
    let mut all = vec![0; frame.wire().len() * 4];
    client.read_exact(&mut all).expect("it has been sent");
    assert_eq!(all, frame.wire().repeat(4));
}

#[test]
fn a_send_never_waits_it_comes_back_short_or_empty_handed_in_the_same_call() {
    let (client, server) = pair();
    SockRef::from(&server).set_send_buffer_size(64 << 10).expect("a small buffer");
    let mut ring = Ring::new(8).expect("a ring");
    // Larger than any socket buffer here.
    let frame = FramePool::default().copy(&vec![5; 8 << 20]).seal(BINARY);
    let mut sent = 0;
    // In one piece, then in several: both kinds of send behave alike.
    for pieces in [1, 2] {
        loop {
            let result = send(&mut ring, &server, &frame, pieces).expect("it can't have gone through whole");
            if result == -libc::EAGAIN {
                break;
            }
            let size = frame.wire().len() * pieces as usize;
            assert!((1..size as i32).contains(&result), "short: {result}");
            sent += result as usize;
        }
    }
    assert!(sent > 0);
    ring.poll_writable(server.as_fd(), TOKEN);
    ring.enter(None).expect("the ring works");
    let reader = std::thread::spawn(move || {
        let mut sink = vec![0; 1 << 20];
        let mut left = sent;
        while left > 0 {
            left -= (&client).read(&mut sink).expect("connected");
        }
        client
    });
    let writable = next(&mut ring);
    assert!(writable.result & i32::from(libc::POLLOUT) != 0);
    drop(reader.join().expect("no panic"));
}

#[test]
fn a_send_to_a_peer_that_has_gone_is_an_error_and_no_signal() {
    let (client, server) = pair();
    SockRef::from(&client).set_linger(Some(std::time::Duration::ZERO)).expect("a socket");
    drop(client);
    let mut ring = Ring::new(8).expect("a ring");
    let frame = FramePool::default().copy(b"anyone?").seal(BINARY);
    let result = loop {
        if let Some(result) = send(&mut ring, &server, &frame, 1) {
            break result;
        }
    };
    assert!([libc::EPIPE, libc::ECONNRESET].contains(&-result), "{result}");
}

#[test]
fn a_burst_of_connections_is_accepted_with_addresses_and_options() {
    let listener = Socket::from(TcpListener::bind("127.0.0.1:0").expect("a loopback port"));
    listener.set_tcp_nodelay(true).expect("a socket");
    let address = listener.local_addr().expect("bound").as_socket().expect("an address");
    let mut ring = Ring::new(64).expect("a ring");
    let mut peers: Box<[PeerAddress]> = (0..16).map(|_| PeerAddress::new()).collect();
    for (slot, peer) in peers.iter_mut().enumerate() {
        ring.accept(listener.as_fd(), peer, Token::at(Kind::Accept, slot as u32));
    }
    ring.enter(None).expect("the ring works");
    let clients: Vec<_> = (0..16).map(|_| TcpStream::connect(address).expect("it listens")).collect();
    let mut expected: Vec<_> = clients.iter().map(|client| client.local_addr().expect("bound")).collect();
    let mut seen = Vec::new();
    for _ in 0..16 {
        let completion = next(&mut ring);
        let slot = completion.token.index as usize;
        let socket = completion.accepted().expect("a socket");
        assert!(SockRef::from(&socket).tcp_nodelay().expect("a socket"), "inherited from the listener");
        match peers[slot].read() {
            Some(Caller::At(address)) => seen.push(address),
            other => panic!("no address but {other:?}"),
        }
    }
    expected.sort();
    seen.sort();
    assert_eq!(seen, expected);
    assert_eq!(ring.in_flight(), 0);
}

#[test]
fn everything_can_be_cancelled_at_once() {
    let (_client, server) = pair();
    let listener = Socket::from(TcpListener::bind("127.0.0.1:0").expect("a loopback port"));
    let bell = sys::eventfd(false).expect("an eventfd");
    let (mut count, mut peer) = (Box::new([0; 8]), Box::new(PeerAddress::new()));
    let mut ring = Ring::new(8).expect("a ring");
    let _buffers = Buffers::new(&ring, 2, 64).expect("buffers");
    ring.receive_stream(server.as_fd(), TOKEN);
    ring.accept(listener.as_fd(), &mut peer, Token::at(Kind::Accept, 0));
    ring.read_doorbell(bell.as_fd(), &mut count, Token::DOORBELL);
    ring.enter(None).expect("the ring works");
    assert_eq!(ring.in_flight(), 3);
    ring.cancel_all();
    while ring.in_flight() > 0 {
        next(&mut ring);
    }
}

#[test]
fn more_operations_than_the_queue_holds_wait_their_turn() {
    let mut ring = Ring::new(4).expect("a ring");
    let sockets: Vec<_> = (0..20).map(|_| pair()).collect();
    for (index, (_, server)) in sockets.iter().enumerate() {
        ring.poll_writable(server.as_fd(), Token::at(Kind::Writable, index as u32));
    }
    assert!(ring.has_backlog());
    let mut seen: Vec<_> = (0..20).map(|_| next(&mut ring).token.index).collect();
    seen.sort_unstable();
    assert_eq!(seen, (0..20).collect::<Vec<_>>());
    assert_eq!(ring.in_flight(), 0);
}

#[test]
fn a_batch_window_gathers_and_still_ends() {
    let (mut client, server) = pair();
    let mut ring = Ring::new(8).expect("a ring");
    let mut buffers = Buffers::new(&ring, 4, 64).expect("buffers");
    ring.receive_stream(server.as_fd(), TOKEN);
    client.write_all(b"one").expect("sent");
    // Sixty-four are wanted, one is there: the window ends the wait long before the timeout.
    let wait = Wait { timeout: Some(Micros::from_s(60)), want: 64, batch: Micros(500) };
    let mut taken = VecDeque::new();
    ring.enter(Some(wait)).expect("the ring works");
    ring.take(&mut taken, 8);
    assert_eq!(taken.len(), 1);
    assert_eq!(buffers.filled(taken[0].buffer().expect("a buffer"), 3), b"one");
    // And with nothing there it sleeps past the window until something is.
    let late = std::thread::spawn(move || client.write_all(b"two").map(|()| client));
    ring.enter(Some(wait)).expect("the ring works");
    ring.take(&mut taken, 8);
    assert_eq!(taken.len(), 2);
    drop(late.join().expect("no panic"));
}

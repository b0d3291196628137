//! What the runtime relies on between threads: no message is lost, doubled or slept through.

use std::fs::File;
use std::io::Read;
use std::net::{TcpListener, TcpStream};
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

use glommio::{LocalExecutorBuilder, Placement};
use shards::core::message::{AskId, Query};
use shards::core::{Destination, Handoff, ShardId, ShardMessage};
use shards::rt::{Endpoint, Full, Link, wire_up};

fn numbered(number: u64) -> ShardMessage<Link> {
    ShardMessage::Ask { id: AskId(number), query: Query::Counters }
}

fn number(message: &ShardMessage<Link>) -> u64 {
    match message {
        ShardMessage::Ask { id, .. } => id.0,
        other => panic!("{other:?}"),
    }
}

/// Receives as a shard does: sleeps on a blocking doorbell whenever the mesh allows it.
fn receive(endpoint: &Endpoint, bell: &mut File, sleeps: &AtomicUsize) -> ShardMessage<Link> {
    loop {
        if let Some(message) = endpoint.receive() {
            return message;
        }
        if endpoint.prepare_to_sleep() {
            sleeps.fetch_add(1, Ordering::Relaxed);
            let count = bell.read(&mut [0; 8]).expect("the bell rings");
            assert_eq!(count, 8);
            endpoint.woke();
        }
    }
}

#[test]
fn no_message_is_slept_through_lost_or_put_before_an_earlier_one_of_its_sender() {
    const EACH: u64 = 30_000;
    let mut endpoints = wire_up(3, 16).expect("descriptors for the doorbells");
    let receiver = endpoints.remove(0);
    let sleeps = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&sleeps);
    let receiver = thread::spawn(move || {
        let mut bell = File::from(receiver.doorbell().try_clone_to_owned().expect("a descriptor"));
        let mut expected = [0; 3];
        for _ in 0..EACH * 3 {
            let number = number(&receive(&receiver, &mut bell, &counted));
            let (sender, sequence) = ((number >> 32) as usize, number & 0xffff_ffff);
            assert_eq!(sequence, expected[sender], "in the order of sender {sender}");
            expected[sender] += 1;
        }
        assert!(receiver.receive().is_none());
    });
    let senders: Vec<_> = endpoints
        .into_iter()
        .enumerate()
        .map(|(sender, endpoint)| {
            thread::spawn(move || {
                for sequence in 0..EACH {
                    let mut message = numbered((sender as u64) << 32 | sequence);
                    // Now and then the receiver is given time to fall asleep.
                    if sequence % 64 == 0 {
                        thread::yield_now();
                    }
                    while let Err(Full(back)) = endpoint.try_send(Destination::Shard(ShardId(0)), message) {
                        message = back;
                        thread::yield_now();
                    }
                }
            })
        })
        .collect();
    senders.into_iter().for_each(|sender| sender.join().expect("no panic"));
    receiver.join().expect("no panic");
    assert!(sleeps.load(Ordering::Relaxed) > 0, "the test never slept and so tested nothing");
}

#[test]
fn a_full_queue_and_a_receiver_that_left_give_the_message_back() {
    let endpoints = wire_up(2, 4).expect("descriptors for the doorbells");
    let to = Destination::Shard(ShardId(1));
    for number in 0..4 {
        endpoints[0].try_send(to, numbered(number)).expect("room");
    }
    let Err(Full(back)) = endpoints[0].try_send(to, numbered(4)) else { panic!("the queue is full") };
    assert_eq!(number(&back), 4);
    assert_eq!(endpoints[1].depth(), 4);
    endpoints[1].leave();
    assert_eq!(endpoints[1].receive().map(|message| number(&message)), Some(0), "what waited is still there");
    let Err(Full(back)) = endpoints[0].try_send(to, numbered(5)) else { panic!("the receiver has left") };
    assert_eq!(number(&back), 5);
    let Err(Full(_)) = endpoints[0].try_send(Destination::Shard(ShardId(9)), numbered(6)) else {
        panic!("there is no such shard")
    };
}

#[test]
fn an_endpoint_knows_whose_it_is() {
    let endpoints = wire_up(2, 4).expect("descriptors for the doorbells");
    assert!(endpoints[1].check(ShardId(1), 2).is_ok());
    assert!(endpoints[1].check(ShardId(0), 2).is_err());
    assert!(endpoints[1].check(ShardId(1), 3).is_err());
}

#[test]
fn a_handoff_that_nobody_takes_closes_its_socket() {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a loopback port");
    let mut client = TcpStream::connect(listener.local_addr().expect("bound")).expect("it listens");
    let (server, peer) = listener.accept().expect("somebody connects");
    let endpoints = wire_up(1, 4).expect("descriptors for the doorbells");
    let handoff = Handoff { socket: OwnedFd::from(server).into(), head: Vec::new(), peer, via: None };
    endpoints[0].try_send(Destination::ControlPlane, ShardMessage::Serve(handoff)).expect("room");
    drop(endpoints);
    assert_eq!(client.read(&mut [0; 1]).expect("an orderly end"), 0);
}

#[test]
fn glommio_gives_the_main_task_its_turn_back_while_others_run() {
    let executor = LocalExecutorBuilder::new(Placement::Unbound)
        .io_memory(64 << 10)
        .ring_depth(32)
        .make()
        .expect("the host can run glommio");
    let other = executor.run(async {
        let task = glommio::spawn_local(async { 42 });
        for _ in 0..100 {
            glommio::executor().yield_task_queue_now().await;
        }
        task.await
    });
    assert_eq!(other, 42);
}

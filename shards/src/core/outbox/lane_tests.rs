//! What a lane promises: order, bounds, who gives way, what the client is told, and how batches look.

use super::super::config::{Outbox, ShardConfig};
use super::super::counters::{Counters, DropReason};
use super::super::event::Class;
use super::super::frame::{BINARY, FramePool, Gather, TEXT};
use super::super::spare::SpareQueues;
use super::super::time::Micros;
use super::{Books, Enqueue, Lane, Message, Shape};

pub(super) struct Bench {
    pub(super) lane: Lane,
    pub(super) limits: Outbox,
    pub(super) counters: Counters,
    pub(super) pool: FramePool,
    queues: SpareQueues<Message>,
    pub(super) now: Micros,
    seq: u64,
}

impl Bench {
    pub(super) fn new(messages_max: usize, batches: bool) -> Self {
        let mut limits = ShardConfig::default().outbox;
        limits.messages_max = messages_max;
        let mut lane = Lane::default();
        lane.batches = batches;
        Self {
            lane,
            limits,
            counters: Counters::default(),
            pool: FramePool::default(),
            queues: SpareQueues::default(),
            now: Micros(1),
            seq: 0,
        }
    }

    pub(super) fn push(
        &mut self,
        class: Class,
        shape: Shape,
        text: &str,
        response: u32,
        waits: bool,
    ) -> Enqueue {
        self.seq += 1;
        let opcode = if shape == Shape::Event { TEXT } else { BINARY };
        let frame = self.pool.copy(text.as_bytes()).seal(opcode);
        let message = Message { seq: self.seq, response, ..Message::new(frame, self.now, class, shape) };
        let wait = waits.then_some(self.limits.coalesce);
        self.with_books(|lane, limits, books| lane.push(message, wait, limits, books))
    }

    pub(super) fn with_books<T>(&mut self, what: impl FnOnce(&mut Lane, &Outbox, &mut Books<'_>) -> T) -> T {
        let books =
            &mut Books { counters: &mut self.counters, pool: &mut self.pool, queues: &mut self.queues };
        what(&mut self.lane, &self.limits, books)
    }

    fn event(&mut self, text: &str) -> Enqueue {
        self.push(Class::Control, Shape::Event, text, 0, true)
    }

    fn urgent(&mut self, text: &str) -> Enqueue {
        self.push(Class::Control, Shape::Event, text, 0, false)
    }

    fn audio(&mut self, text: &str) -> Enqueue {
        self.push(Class::Audio, Shape::Audio, text, 0, false)
    }

    pub(super) fn gather(&mut self) -> Vec<u8> {
        let mut gather = Gather::default();
        self.lane.gather(&mut gather, &mut self.counters);
        gather.slices().collect::<Vec<_>>().concat()
    }

    pub(super) fn sent(&mut self, bytes: usize) -> bool {
        let now = self.now;
        self.with_books(|lane, _, books| lane.sent(now, bytes, books))
    }

    /// Sends everything, `step` bytes at a time, and returns what went over the wire.
    pub(super) fn send_all(&mut self, step: usize) -> Vec<u8> {
        let mut wire = Vec::new();
        while self.lane.ready() {
            let bytes = self.gather();
            let taken = bytes.len().min(step);
            wire.extend_from_slice(&bytes[..taken]);
            self.sent(taken);
            self.lane.blocked = false;
        }
        wire
    }

    fn dropped(&self, reason: DropReason, class: Class) -> u64 {
        self.counters.dropped[reason as usize][class as usize]
    }
}

#[test]
fn waiting_events_leave_as_one_text_frame_however_the_kernel_cuts_it() {
    for step in 1..40 {
        let mut bench = Bench::new(512, true);
        for text in ["{\"a\":1}", "{\"b\":2}", "{\"c\":3}"] {
            assert_eq!(bench.event(text), Enqueue::Queued);
        }
        assert!(!bench.lane.ready(), "they wait for company");
        bench.lane.end_wait(bench.now, &mut bench.counters);
        assert_eq!(bench.send_all(step), b"\x81\x17{\"a\":1}\n{\"b\":2}\n{\"c\":3}");
        assert_eq!((bench.counters.texts_sent, bench.counters.events_sent), (1, 3));
        assert_eq!((bench.counters.queued_messages, bench.counters.queued_bytes), (0, 0));
        assert_eq!(bench.counters.batch_size.sum(), 3);
    }
}

#[test]
fn an_urgent_message_takes_the_waiting_ones_with_it_and_keeps_their_order() {
    let mut bench = Bench::new(512, true);
    let _ = bench.event("1");
    let _ = bench.urgent("2");
    let _ = bench.audio("pcm");
    let _ = bench.event("3");
    assert!(bench.lane.ready());
    assert_eq!(bench.send_all(usize::MAX), b"\x81\x031\n2\x82\x03pcm");
    assert_eq!(bench.lane.len(), 1, "the last event still waits");
}

#[test]
fn a_lane_without_batches_never_waits() {
    let mut bench = Bench::new(512, false);
    let _ = bench.event("1");
    let _ = bench.event("2");
    assert_eq!(bench.send_all(usize::MAX), b"\x81\x011\x81\x012");
}

#[test]
fn droppable_messages_give_way_and_the_client_is_told_once() {
    let mut bench = Bench::new(4, false);
    for n in 0..6 {
        let outcome = bench.push(Class::Droppable, Shape::Event, &n.to_string(), 0, false);
        assert_eq!(outcome, if n < 4 { Enqueue::Queued } else { Enqueue::Dropped });
    }
    assert_eq!(bench.urgent("done"), Enqueue::Displaced);
    assert!(bench.lane.take_drops(&bench.limits).is_none(), "a full lane has no room for the news");
    assert_eq!(bench.send_all(usize::MAX), b"\x81\x011\x81\x012\x81\x013\x81\x04done");
    let drops = bench.lane.take_drops(&bench.limits).expect("told now");
    let note = drops[Class::Droppable as usize];
    assert_eq!((note.count, note.first_seq, note.last_seq), (3, 1, 6));
    assert!(bench.lane.take_drops(&bench.limits).is_none(), "told once");
    assert_eq!(bench.dropped(DropReason::Full, Class::Droppable), 2);
    assert_eq!(bench.dropped(DropReason::Displaced, Class::Droppable), 1);
}

#[test]
fn late_audio_goes_before_fresh_audio() {
    let mut bench = Bench::new(3, false);
    let _ = bench.audio("old");
    bench.now = Micros::from_s(3);
    let _ = bench.audio("new");
    let _ = bench.audio("newer");
    assert_eq!(bench.audio("newest"), Enqueue::Displaced);
    assert_eq!(bench.dropped(DropReason::Aged, Class::Audio), 1);
    assert_eq!(bench.send_all(usize::MAX), b"\x82\x03new\x82\x05newer\x82\x06newest");
}

#[test]
fn control_alone_may_overflow_and_never_takes_the_place_of_control() {
    let mut bench = Bench::new(2, false);
    let _ = bench.urgent("0");
    bench.lane.block(bench.now);
    let _ = bench.urgent("1");
    let _ = bench.urgent("2");
    assert_eq!(bench.urgent("3"), Enqueue::Overflow);
    assert_eq!(bench.audio("pcm"), Enqueue::Dropped);
    bench.lane.unblock();
    assert_eq!(bench.send_all(usize::MAX), b"\x81\x010\x81\x011\x81\x012");
}

#[test]
fn what_came_while_the_socket_took_everything_is_not_laid_to_the_client() {
    let mut bench = Bench::new(4, false);
    let _ = bench.audio("pcm");
    for _ in 0..3 {
        assert_eq!(bench.urgent("x"), Enqueue::Queued);
    }
    assert_eq!(bench.urgent("x"), Enqueue::Displaced, "what gives way does so as ever");
    for _ in 4..10 {
        assert_eq!(bench.urgent("x"), Enqueue::Queued);
        assert_eq!(bench.audio("pcm"), Enqueue::Dropped);
    }
    bench.gather();
    bench.sent(3);
    bench.lane.block(bench.now);
    for _ in 0..4 {
        assert_eq!(bench.urgent("y"), Enqueue::Queued, "as many as it may leave unread");
    }
    assert_eq!(bench.urgent("y"), Enqueue::Overflow);
    bench.lane.unblock();
    bench.gather();
    bench.sent(6);
    assert_eq!(bench.urgent("y"), Enqueue::Overflow, "a trickle does not begin it anew");
    bench.lane.unblock();
    bench.send_all(usize::MAX);
    for _ in 0..16 {
        assert_eq!(bench.urgent("z"), Enqueue::Queued);
    }
    assert_eq!(bench.urgent("z"), Enqueue::Overflow, "four times as many are the most");
}

#[test]
fn what_the_kernel_has_begun_is_finished_before_anything_gives_way() {
    let mut bench = Bench::new(2, false);
    let _ = bench.push(Class::Audio, Shape::Audio, "begun", 7, false);
    let _ = bench.push(Class::Audio, Shape::Audio, "next", 7, false);
    let wire = bench.gather();
    assert!(bench.sent(3), "a short send");
    bench.lane.block(bench.now);
    assert_eq!(bench.urgent("now"), Enqueue::Displaced);
    bench.with_books(|lane, _, books| lane.flush_response(7, books));
    bench.lane.blocked = false;
    let rest = bench.send_all(usize::MAX);
    assert_eq!([&wire[..3], &rest].concat(), b"\x82\x05begun\x81\x03now");
}

#[test]
fn a_barge_in_takes_the_response_out_of_the_lane_and_nothing_else() {
    let mut bench = Bench::new(512, true);
    let _ = bench.push(Class::Audio, Shape::Audio, "a", 1, false);
    let _ = bench.push(Class::Audio, Shape::Audio, "b", 2, false);
    let _ = bench.push(Class::Droppable, Shape::Event, "delta", 1, true);
    let frames = bench.with_books(|lane, _, books| lane.flush_response(1, books));
    assert_eq!(frames, 1, "one of the two was audio");
    assert_eq!(bench.lane.wait_until(), None, "nothing is left that waits");
    assert_eq!(bench.send_all(usize::MAX), b"\x82\x01b");
    assert!(bench.lane.take_drops(&bench.limits).is_none(), "the client asked for it");
}

#[test]
fn a_barge_in_tells_how_many_frames_no_kernel_was_given() {
    let mut bench = Bench::new(512, false);
    let _ = bench.push(Class::Control, Shape::Audio, "first", 1, false);
    for frame in ["second", "third", "fourth"] {
        let _ = bench.push(Class::Audio, Shape::Audio, frame, 1, false);
    }
    bench.gather();
    assert!(bench.sent(5 + 2 + 3), "a frame and a half");
    let _ = bench.push(Class::Audio, Shape::Event, "base64", 1, false);
    let mut flush = || bench.with_books(|lane, _, books| lane.flush_response(1, books));
    assert_eq!((flush(), flush()), (3, 0));
}

#[test]
fn a_lane_that_is_empty_takes_a_message_of_any_size() {
    let mut bench = Bench::new(512, false);
    bench.limits.bytes_max = 10;
    assert_eq!(bench.urgent(&"x".repeat(100)), Enqueue::Queued);
    assert_eq!(bench.urgent("y"), Enqueue::Overflow);
}

#[test]
fn a_client_is_slow_from_the_first_block_until_its_lane_is_empty() {
    let mut bench = Bench::new(512, false);
    let _ = bench.urgent("one");
    let _ = bench.urgent("two");
    bench.gather();
    bench.lane.block(Micros(100));
    bench.lane.blocked = false;
    bench.gather();
    assert!(bench.sent(5));
    bench.lane.block(Micros(200));
    assert_eq!(bench.lane.blocked_since(), Some(Micros(100)), "a trickle does not reset it");
    bench.lane.blocked = false;
    bench.send_all(usize::MAX);
    assert_eq!(bench.lane.blocked_since(), None);
}

#[test]
fn a_send_keeps_within_its_parts_when_a_batch_comes_last() {
    for singles in 60..=64 {
        let mut bench = Bench::new(512, true);
        for _ in 0..singles {
            let _ = bench.audio("pcm");
        }
        let _ = bench.event("1");
        let _ = bench.urgent("2");
        let mut gather = Gather::default();
        bench.lane.gather(&mut gather, &mut bench.counters);
        assert!(gather.parts() <= 64, "{singles} messages, then a batch: {} parts", gather.parts());
    }
}

#[test]
fn of_an_abandoned_lane_only_what_was_begun_still_leaves() {
    let mut bench = Bench::new(512, true);
    let _ = bench.event("first");
    let _ = bench.urgent("of a batch");
    let _ = bench.audio("pcm");
    let _ = bench.event("formed");
    let _ = bench.urgent("not begun");
    let wire = bench.gather();
    assert!(bench.sent(4), "a short send");
    bench.lane.block(bench.now);
    bench.with_books(|lane, _, books| lane.abandon(books));
    bench.lane.blocked = false;
    let rest = bench.send_all(usize::MAX);
    assert_eq!([&wire[..4], &rest].concat(), b"\x81\x10first\nof a batch");
    assert_eq!((bench.counters.queued_messages, bench.counters.queued_bytes), (0, 0));
}

#[test]
fn a_lane_that_was_flushed_while_blocked_makes_nobody_slow() {
    let mut bench = Bench::new(512, false);
    let _ = bench.push(Class::Audio, Shape::Audio, "a", 1, false);
    bench.gather();
    bench.lane.block(Micros(100));
    bench.with_books(|lane, _, books| lane.flush_response(1, books));
    bench.lane.unblock();
    assert_eq!(bench.lane.blocked_since(), None);
}

#[test]
fn a_lane_full_of_a_response_keeps_nobody_from_being_heard() {
    let mut bench = Bench::new(8, false);
    for _ in 0..7 {
        assert_eq!(bench.push(Class::Audio, Shape::Audio, "a", 1, false), Enqueue::Queued);
    }
    assert!(!bench.lane.half_full_of_answers(&bench.limits));
    let mut bench = Bench::new(8, false);
    (0..3).for_each(|_| _ = bench.push(Class::Audio, Shape::Audio, "a", 1, false));
    (0..3).for_each(|_| _ = bench.urgent("answer"));
    assert!(
        !bench.lane.half_full_of_answers(&bench.limits) && bench.lane.quarter_full_of_answers(&bench.limits)
    );
    assert_eq!(bench.urgent("answer"), Enqueue::Queued);
    assert!(bench.lane.half_full_of_answers(&bench.limits));
}

#[test]
fn what_is_told_again_stands_outside_the_bounds_and_never_gives_way() {
    let mut bench = Bench::new(4, false);
    bench.limits.bytes_max = 200;
    let again = |bench: &mut Bench| {
        let frame = bench.pool.copy(&[b'r'; 100]).seal(TEXT);
        let message = Message {
            replayed: true,
            seq: 1,
            ..Message::new(frame, bench.now, Class::Droppable, Shape::Event)
        };
        bench.with_books(|lane, limits, books| lane.push(message, None, limits, books))
    };
    assert_eq!(bench.push(Class::Droppable, Shape::Event, "d", 0, false), Enqueue::Queued);
    for _ in 0..20 {
        assert_eq!(again(&mut bench), Enqueue::Queued);
    }
    assert!(bench.lane.replays());
    for _ in 0..3 {
        assert_eq!(bench.urgent("live"), Enqueue::Queued, "beside it there is room for as much as ever");
    }
    assert_eq!(bench.urgent("live"), Enqueue::Displaced, "the one that was not told again gives way");
    (4..16).for_each(|_| assert_eq!(bench.urgent("live"), Enqueue::Queued, "its socket has refused nothing"));
    assert_eq!(bench.urgent("live"), Enqueue::Overflow);
    assert_eq!(bench.audio(&"a".repeat(200)), Enqueue::Dropped, "the bytes are bounded beside it too");
    assert_eq!(bench.lane.len(), 36);
    let sent = bench.gather().len();
    bench.sent(sent);
    assert!(!bench.lane.replays(), "once it is out there is nothing of it left");
}

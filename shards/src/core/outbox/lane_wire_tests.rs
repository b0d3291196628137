//! What leaves a lane is whole messages, whatever happens to it: one that was torn could be read by nobody, nor anything
//! behind it.

use proptest::collection::vec;
use proptest::prelude::*;

use super::super::event::Class;
use super::super::frame::{CLOSE, TEXT};
use super::lane_tests::Bench;
use super::{Enqueue, Message, Shape};

const ANSWER: &[u8] = b"HTTP/1.1 101 Switching Protocols\r\n\r\n";

impl Bench {
    /// A connection begins.
    fn answer(&mut self) {
        let message =
            Message::new(self.pool.copy(ANSWER).seal_raw(), self.now, Class::Control, Shape::Answer);
        let outcome = self.with_books(|lane, limits, books| lane.push(message, None, limits, books));
        assert_eq!(outcome, Enqueue::Queued);
    }

    /// Everything but what was begun is given up, and a goodbye is all that follows.
    fn give_up(&mut self) {
        let now = self.now;
        let close = Message::new(self.pool.copy(b"\x03\xf5").seal(CLOSE), now, Class::Control, Shape::Whole);
        self.with_books(|lane, _, books| {
            lane.abandon(books);
            lane.force(close, now, books);
        });
    }
}

/// The messages on a wire; `None` where they do not come out even.
fn messages(mut wire: &[u8]) -> Option<Vec<(u8, &[u8])>> {
    let mut found = Vec::new();
    while !wire.is_empty() {
        let (&[first, short], rest) = wire.split_first_chunk()?;
        let (len, rest) = match short {
            126 => {
                rest.split_first_chunk().map(|(len, rest)| (usize::from(u16::from_be_bytes(*len)), rest))?
            }
            0..126 => (short.into(), rest),
            _ => return None,
        };
        let known = [0x81, 0x82, 0x88].contains(&first);
        let (payload, rest) = rest.split_at_checked(len).filter(|_| known)?;
        found.push((first & 15, payload));
        wire = rest;
    }
    Some(found)
}

/// What was said in these messages, by the number that each event and frame begins with.
fn said(messages: &[(u8, &[u8])]) -> Vec<u64> {
    let lines = messages.iter().filter(|(opcode, _)| *opcode != 8).flat_map(|(opcode, payload)| {
        let lines: Vec<&[u8]> = match opcode {
            1 => payload.split(|&byte| byte == b'\n').collect(),
            _ => vec![payload],
        };
        lines
    });
    let number = |line: &[u8]| {
        let text = std::str::from_utf8(line).expect("as it was put in");
        let (number, rest) = text.split_once(' ').expect("a number and what is behind it");
        assert!(rest.bytes().all(|byte| byte == b'x') && rest.ends_with('x'), "{text}");
        number.parse().expect("a number")
    };
    lines.map(number).collect()
}

#[test]
fn a_batch_whose_header_has_left_is_finished_before_the_goodbye() {
    let mut bench = Bench::new(512, true);
    for number in 0..150 {
        let _ = bench.push(Class::Control, Shape::Event, &format!("{number} x"), 0, true);
    }
    bench.lane.end_wait(bench.now, &mut bench.counters);
    let mut wire = bench.gather();
    bench.sent(wire.len());
    bench.give_up();
    wire.extend(bench.send_all(usize::MAX));
    let messages = messages(&wire).expect("whole messages");
    assert_eq!(said(&messages), (0..150).collect::<Vec<_>>());
    assert_eq!(messages.last(), Some(&(8, &b"\x03\xf5"[..])));
    assert_eq!((bench.counters.queued_messages, bench.counters.queued_bytes), (0, 0));
}

#[test]
fn a_connection_that_ends_before_its_answer_has_left_is_answered_all_the_same() {
    let mut bench = Bench::new(4, true);
    bench.answer();
    let _ = bench.push(Class::Control, Shape::Event, "1 x", 0, true);
    bench.give_up();
    assert_eq!(bench.send_all(usize::MAX), [ANSWER, b"\x88\x02\x03\xf5"].concat());
}

/// What may happen to a lane.
#[derive(Clone, Debug)]
enum Happens {
    /// So many events come, of this length each.
    Events { count: usize, len: usize, class: usize, response: u32, waits: bool },
    /// One frame of audio.
    Audio { len: usize, response: u32 },
    /// Something that goes ahead.
    First,
    /// The wait for company is over.
    EndWait,
    /// What is ready is named for the kernel.
    Gather,
    /// The kernel takes so many thousandths of what was named.
    Takes(usize),
    /// It takes nothing.
    Refuses,
    /// It would take more again.
    Writable,
    /// A barge-in.
    Flush(u32),
}

fn happens() -> impl Strategy<Value = Happens> {
    let events = (1..90_usize, 1..300_usize, 0..3_usize, 0..3_u32, any::<bool>());
    prop_oneof![
        4 => events.prop_map(|(count, len, class, response, waits)| {
            Happens::Events { count, len, class, response, waits }
        }),
        2 => (1..400_usize, 0..3_u32).prop_map(|(len, response)| Happens::Audio { len, response }),
        1 => Just(Happens::First),
        2 => Just(Happens::EndWait),
        4 => Just(Happens::Gather),
        4 => prop_oneof![Just(1_000_usize), 1..1_000_usize].prop_map(Happens::Takes),
        1 => Just(Happens::Refuses),
        3 => Just(Happens::Writable),
        1 => (1..3_u32).prop_map(Happens::Flush),
    ]
}

/// A lane, and what has left it.
struct Line {
    bench: Bench,
    named: Vec<u8>,
    wire: Vec<u8>,
    number: u64,
    /// What went ahead of others.
    ahead: Vec<u64>,
}

impl Line {
    fn text(&mut self, len: usize) -> String {
        self.number += 1;
        format!("{} {}", self.number, "x".repeat(len))
    }

    fn takes(&mut self, bytes: usize) {
        let taken: Vec<u8> = self.named.drain(..bytes).collect();
        self.wire.extend(taken);
        self.named.clear();
        if self.bench.sent(bytes) {
            self.bench.lane.block(self.bench.now);
        }
    }

    fn go(&mut self, what: Happens) {
        match what {
            Happens::Events { count, len, class, response, waits } => {
                let class = [Class::Control, Class::Audio, Class::Droppable][class];
                for _ in 0..count {
                    let text = self.text(len);
                    let _ = self.bench.push(class, Shape::Event, &text, response, waits);
                }
            }
            Happens::Audio { len, response } => {
                let text = self.text(len);
                let _ = self.bench.push(Class::Audio, Shape::Audio, &text, response, false);
            }
            Happens::First => {
                let text = self.text(1);
                self.ahead.push(self.number);
                let frame = self.bench.pool.copy(text.as_bytes()).seal(TEXT);
                let message = Message::new(frame, self.bench.now, Class::Control, Shape::Event);
                let _ = self.bench.with_books(|lane, limits, books| lane.push_first(message, limits, books));
            }
            Happens::EndWait => self.bench.lane.end_wait(self.bench.now, &mut self.bench.counters),
            Happens::Gather if self.bench.lane.ready() => self.named = self.bench.gather(),
            Happens::Takes(part) if !self.named.is_empty() => {
                self.takes((self.named.len() * part / 1_000).max(1));
            }
            Happens::Refuses if !self.named.is_empty() => {
                self.named.clear();
                self.bench.lane.block(self.bench.now);
            }
            Happens::Writable => self.bench.lane.unblock(),
            Happens::Flush(response) => {
                self.bench.with_books(|lane, _, books| lane.flush_response(response, books));
            }
            Happens::Gather | Happens::Takes(_) | Happens::Refuses => {}
        }
    }
}

proptest! {
    #[test]
    fn what_leaves_is_whole_messages_in_order_and_a_goodbye_is_the_last(
        batches in any::<bool>(),
        messages_max in 4_usize..600,
        story in vec(happens(), 1..60),
    ) {
        let bench = Bench::new(messages_max, batches);
        let (named, wire, ahead) = (Vec::new(), Vec::new(), Vec::new());
        let mut line = Line { bench, named, wire, number: 0, ahead };
        line.bench.answer();
        for what in story {
            line.go(what);
        }
        line.bench.give_up();
        if !line.named.is_empty() {
            line.takes(line.named.len());
        }
        line.bench.lane.unblock();
        let rest = line.bench.send_all(usize::MAX);
        line.wire.extend(rest);
        prop_assert!(line.wire.starts_with(ANSWER));
        let messages = messages(&line.wire[ANSWER.len()..]);
        prop_assert!(messages.is_some(), "a message was torn");
        let messages = messages.expect("just seen");
        prop_assert_eq!(messages.iter().position(|(opcode, _)| *opcode == 8), Some(messages.len() - 1));
        let mut numbers = said(&messages);
        numbers.retain(|number| !line.ahead.contains(number));
        prop_assert!(numbers.is_sorted_by(|a, b| a < b), "{:?}", numbers);
        let counters = &line.bench.counters;
        prop_assert_eq!((counters.queued_messages, counters.queued_bytes), (0, 0));
    }
}

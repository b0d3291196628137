//! Anything in any order: each line hears one end at most, and nothing is left behind.

use std::collections::BTreeMap;

use super::super::super::effect::Ended;
use super::super::super::rng::SplitMix64;
use super::*;

/// What the test knows of a line.
#[derive(Default)]
struct Heard {
    /// We let go of it.
    closed: bool,
    opens: u32,
    overs: u32,
}

struct Walk {
    rig: Rig,
    dice: SplitMix64,
    lines: BTreeMap<Line, Heard>,
}

impl Walk {
    fn some_socket(&mut self) -> Option<ConnKey> {
        let open: Vec<_> =
            self.rig.sockets[1..].iter().filter(|at| at.closed.is_none()).map(|at| at.conn).collect();
        (!open.is_empty()).then(|| open[self.dice.below(open.len() as u64) as usize])
    }

    fn some_line(&mut self) -> Line {
        Line(self.dice.below(self.lines.len() as u64 + 1) as u32)
    }

    fn step(&mut self) {
        match self.dice.below(14) {
            0 | 1 => {
                let line = Line(self.lines.len() as u32);
                self.lines.insert(line, Heard::default());
                self.rig.dial(line);
            }
            2 => {
                let line = self.some_line();
                if let Some(heard) = self.lines.get_mut(&line) {
                    heard.closed = true;
                }
                self.rig.order(UpstreamOrder::Close { line });
            }
            3 | 4 => {
                let line = self.some_line();
                self.rig.send(line, "something to say");
            }
            5 | 6 if !self.rig.dials.is_empty() => {
                if self.dice.below(4) > 0 {
                    self.rig.take_dial();
                } else {
                    let (room, line, _) = self.rig.dials.remove(0);
                    self.rig.give(Input::Dialled { room, line, outcome: Err("no".into()) });
                }
            }
            7 => self.rig.wait(Micros(self.dice.below(3_000_000))),
            8 => self.rig.turn(),
            _ => {
                if let Some(conn) = self.some_socket() {
                    self.happen(conn);
                }
            }
        }
        self.hear();
    }

    fn happen(&mut self, conn: ConnKey) {
        let asked = !self.rig.at(conn).sent.is_empty();
        match self.dice.below(12) {
            0 => self.rig.give(Input::Ended { conn, how: Ended::Broken }),
            1 => self.rig.give(Input::Ended { conn, how: Ended::Eof }),
            2 => self.rig.at(conn).full ^= true,
            3 => self.rig.give(Input::Writable { conn }),
            4 => self.rig.give(Input::Connected { conn, outcome: Err("no".into()) }),
            5 | 6 => self.rig.give(Input::Connected { conn, outcome: Ok(()) }),
            7..=9 if asked && self.rig.at(conn).sent.starts_with(b"GET") => {
                let mut answer = self.rig.accept(conn);
                answer.extend(text("hello"));
                let cut = self.dice.below(answer.len() as u64 * 2) as usize;
                let cut = cut.min(answer.len());
                let (front, back) = answer.split_at_mut(cut);
                self.rig.receive(conn, front);
                self.rig.receive(conn, back);
            }
            10 => self.rig.receive(conn, &mut close(1001, "age")),
            _ => self.rig.receive(conn, &mut [text("hello"), frame(0x89, b"p")].concat()),
        }
    }

    fn hear(&mut self) {
        for (line, news) in self.rig.told() {
            let heard = self.lines.get_mut(&line).expect("a line that was dialled");
            assert!(!heard.closed, "{line:?} was closed, and is told {news}");
            assert_eq!(heard.overs, 0, "{line:?} was over, and is told {news}");
            match news.as_str() {
                "Open" => heard.opens += 1,
                over if over.starts_with("Over") => heard.overs += 1,
                _ => assert_eq!(heard.opens, 1, "{line:?} speaks before it is open"),
            }
        }
    }
}

#[test]
fn whatever_happens_nothing_is_left_behind() {
    for seed in 0..400 {
        let rig = Rig::new(|settings| {
            (settings.sessions_max, settings.connects_per_s, settings.breaker_failures) = (5, 20, 4);
            settings.outbox.messages_max = 6;
        });
        rig.server.set_addresses((1..=1 + seed as u8 % 3).map(address).collect());
        let mut walk = Walk { rig, dice: SplitMix64::new(seed), lines: BTreeMap::new() };
        for _ in 0..200 {
            walk.step();
            let counters = walk.rig.counters();
            let reserved = walk.rig.server.sessions() as u64;
            assert_eq!(counters.connecting + counters.open, reserved, "seed {seed}");
            assert!(reserved <= 5, "seed {seed}");
        }
        // Sockets that are never heard of again run into deadlines; those that were asked for come.
        walk.rig.turn();
        while !walk.rig.dials.is_empty() {
            walk.rig.take_dial();
        }
        walk.rig.wait(Micros::from_s(120));
        walk.hear();
        walk.rig.assert_over();
        for (line, heard) in &walk.lines {
            assert!(heard.closed || heard.overs == 1, "seed {seed}: {line:?} never heard its end");
        }
        let open = walk.rig.sockets[1..].iter().filter(|socket| socket.closed.is_none()).count();
        assert_eq!(open, 0, "seed {seed}: sockets are left");
    }
}

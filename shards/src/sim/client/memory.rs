//! What a client remembers from one connection to the next: which member it is, what it has heard, and what it has said.

use std::collections::{BTreeSet, VecDeque};

use serde_json::Value;

use super::super::recovery::{Agreed, Annal, Numbering};
use super::plan::Target;
use super::wire;
use super::{Connection, Stage};
use crate::core::config::RoomDefaults;
use crate::sim::world::World;

/// A client's place in a room, over all its connections.
#[derive(Clone, Debug)]
pub(super) struct Memory {
    pub(super) target: Target,
    pub(super) token: String,
    numbering: Numbering,
    number: u16,
    /// The last event that it has heard.
    last: u64,
    /// Those before that it has not heard, and has not been told of.
    owed: BTreeSet<u64>,
    /// Those that it has been told of.
    gaps: BTreeSet<u64>,
    /// Word of such events that it is not told, because it is told them themselves.
    needless: BTreeSet<u64>,
    /// What it has been promised to hear again, in order.
    promised: VecDeque<u64>,
    /// The event after which it wants to hear all again, until that is answered.
    asked: Option<u64>,
    client_seq: u64,
    /// Its messages: their numbers, and which they are.
    sent: Vec<(u64, Said)>,
}

/// A message: of whom, over which connection, and which.
type Said = (u64, u64, u64);

/// The first things that a connection hears, until all of them are there.
#[derive(Debug, Default)]
pub(super) struct Arrival {
    /// The welcome of one that has come back, until it is told what became of that.
    welcome: Option<Value>,
    /// Whether they are.
    pub(super) done: bool,
}

impl Memory {
    fn new(target: Target, welcome: &Value) -> Option<Self> {
        let session = &welcome["session"];
        let resume = &session["resume"];
        let numbering = (session["room"].as_str()?.to_owned(), resume["epoch"].as_u64()?);
        Some(Self {
            target,
            token: resume["token"].as_str()?.to_owned(),
            numbering,
            number: session["member"].as_u64()? as u16,
            last: resume["seq"].as_u64()?,
            owed: BTreeSet::new(),
            gaps: BTreeSet::new(),
            needless: BTreeSet::new(),
            promised: VecDeque::new(),
            asked: None,
            client_seq: 0,
            sent: Vec::new(),
        })
    }

    /// The event after which it wants to hear all: the last before which it misses none.
    pub(super) fn position(&self) -> u64 {
        let first = self.gaps.first().copied().into_iter().chain(self.promised.iter().copied()).min();
        first.map_or(self.last, |first| self.last.min(first - 1))
    }

    /// Whether nothing is under way to it.
    pub(super) fn is_settled(&self) -> bool {
        self.asked.is_none() && self.promised.is_empty()
    }

    /// What it has missed without a word.
    ///
    /// # Errors
    /// A sentence, when there is any, or when what it has said has not been taken.
    pub(super) fn settle(&self, annal: &Annal) -> Result<(), String> {
        let silent: Vec<u64> = self.owed.iter().copied().filter(|&seq| !annal.was_cleared(seq)).collect();
        if !silent.is_empty() {
            let first = annal.told(silent[0], self.number).map(String::from_utf8_lossy);
            return Err(format!("events {silent:?} are missing without a word, {first:?} and on: {self:?}"));
        }
        match self.sent.iter().find(|(_, said)| !annal.has_message(*said)) {
            Some(lost) => Err(format!("message {lost:?} was never taken")),
            None => Ok(()),
        }
    }

    /// A numbered event has arrived.
    fn heard(&mut self, seq: u64, line: &str, annal: &Annal) -> Result<(), String> {
        if annal.told(seq, self.number) != Some(line.as_bytes()) {
            return Err(format!("the room has never told member {} this: {line}", self.number));
        }
        if let Some(next) = self.promised.pop_front() {
            if next != seq {
                return Err(format!("event {seq} where {next} was promised: {self:?}"));
            }
            self.owed.remove(&seq);
            self.gaps.remove(&seq);
            self.last = self.last.max(seq);
            return Ok(());
        }
        if seq <= self.last {
            return Err(format!("event {seq} after {}: {line}", self.last));
        }
        let between = annal.between(self.last, seq - 1, self.number);
        self.owed.extend(between.filter(|seq| !self.needless.contains(seq)));
        self.last = seq;
        Ok(())
    }

    /// Some events gave way.
    fn told_of_gap(&mut self, first: u64, last: u64) {
        let named: Vec<u64> = self.owed.range(first..=last).copied().collect();
        for seq in named {
            self.owed.remove(&seq);
            self.gaps.insert(seq);
        }
    }

    /// The room goes on by another numbering after a crash, which shares with its own what comes up to an event. What it has heard
    /// later is none of the room's any more. Word of what gave way may have been lost with the node, as is documented: then it
    /// will not hear of that. Where the room still has such word it has to.
    fn goes_on(&mut self, epoch: u64, after: u64, annal: &Annal) {
        self.numbering.1 = epoch;
        self.last = self.last.min(after);
        let word = annal.word_of_gaps(after, self.number);
        let is_told = |seq: &u64| word.iter().any(|gap| gap.contains(seq));
        self.owed.retain(|seq| !annal.may_give_way(*seq) || is_told(seq));
        for set in [&mut self.owed, &mut self.gaps, &mut self.needless] {
            set.retain(|&seq| seq <= after);
        }
    }

    /// It is told that it will hear all again after an event.
    fn promise(&mut self, after: u64, restored: &Value, annal: &Annal) -> Result<(), String> {
        let to = restored["last_seq"].as_u64().ok_or("no number")?;
        self.promised = annal.again(after, to, self.number).into();
        let needless = annal.between(after, to, self.number).filter(|seq| !self.promised.contains(seq));
        self.needless.extend(needless);
        self.owed.retain(|seq| !self.needless.contains(seq));
        let missed = restored["missed"].as_u64();
        if missed == Some(self.promised.len() as u64) {
            Ok(())
        } else {
            Err(format!("{:?} after {after} of {self:?}: {restored}", self.promised))
        }
    }

    /// Whether the room has to know who it is.
    fn is_known(&self, agreed: Option<Agreed>) -> bool {
        agreed.is_some_and(|agreed| self.number <= agreed.members)
    }

    /// Checks that it can't be told again what came after an event. `agreed` says how far its numbering agrees with the room's,
    /// and `unasked` whether the room began although its store could not say what it had of it.
    fn doubt(
        &self,
        after: u64,
        agreed: Option<Agreed>,
        unasked: bool,
        restored: &Value,
        annal: &Annal,
        limits: &RoomDefaults,
    ) -> Result<(), String> {
        let to = restored["last_seq"].as_u64().ok_or("no number")?;
        let right = match (restored["reason"].as_str(), agreed) {
            (Some("too_old"), Some(Agreed { seq, .. })) => {
                self.is_known(agreed) && after <= seq && !annal.has_to_keep(after, to, limits)
            }
            (Some("lost"), Some(Agreed { seq, .. })) => !self.is_known(agreed) || after > seq,
            (Some("store_failed"), None) => unasked,
            // Of a room that has come from the store since it is no longer known.
            (Some("room_ended"), None) => !unasked || annal.is_revived(),
            _ => false,
        };
        if right { Ok(()) } else { Err(format!("after {after} of {self:?}: {restored}")) }
    }
}

impl Connection {
    fn may_ask(&self) -> bool {
        !self.closed && matches!(self.stage, Stage::Open | Stage::Settling)
    }
}

impl World {
    /// What an event means for what a client remembers.
    pub(super) fn client_recollect(&mut self, client: usize, line: &str) -> Result<(), String> {
        if self.babbled {
            // Nobody knows what it has asked for.
            self.clients[client].memory = None;
            return Ok(());
        }
        let event: Value = serde_json::from_str(line).map_err(|error| format!("{error} in {line}"))?;
        let me = &mut self.clients[client];
        let Some(conn) = me.conn.as_mut() else { return Ok(()) };
        match event["type"].as_str().unwrap_or_default() {
            "session.created" if conn.plan.back.is_some() => {
                conn.arrival.welcome = Some(event);
                return Ok(());
            }
            "session.created" => {
                conn.arrival.done = true;
                me.memory = Memory::new(conn.plan.target.clone(), &event);
                return if me.memory.is_some() {
                    Ok(())
                } else {
                    Err(format!("nothing to come back with: {line}"))
                };
            }
            "session.restored" => return self.client_restored(client, &event),
            // It has heard all of it, but the server does not know that yet.
            "error" if event["error"]["code"] == "recovery_under_way" => {
                self.client_asks(client);
                return Ok(());
            }
            _ if conn.arrival.welcome.is_some() => {
                return Err(format!("something before session.restored: {line}"));
            }
            _ => {}
        }
        let Some(seq) = event["seq"].as_u64() else { return Ok(()) };
        let Some(mut memory) = me.memory.take() else { return Ok(()) };
        let outcome = memory.heard(seq, line, self.annal(&memory.numbering));
        if event["type"] == "outbox.dropped" {
            self.client_misses(client, &mut memory, &event)?;
        }
        self.clients[client].memory = Some(memory);
        outcome
    }

    /// It was told that some events gave way, and may want them.
    fn client_misses(&mut self, client: usize, memory: &mut Memory, event: &Value) -> Result<(), String> {
        let (first, last) = (event["first_seq"].as_u64(), event["last_seq"].as_u64());
        let (Some(first), Some(last)) = (first, last) else { return Err(format!("no gap: {event}")) };
        memory.told_of_gap(first, last);
        let me = &mut self.clients[client];
        let wants = me.dice.permille(700) && memory.asked.is_none() && memory.promised.is_empty();
        let Some(conn) = me.conn.as_ref() else { return Ok(()) };
        if wants && conn.may_ask() {
            memory.asked = Some(memory.position());
            self.client_asks_after(client, memory.position());
        }
        Ok(())
    }

    /// Asks again for what it has asked for.
    fn client_asks(&mut self, client: usize) {
        let me = &self.clients[client];
        let asked = me.memory.as_ref().and_then(|memory| memory.asked);
        if let (Some(after), Some(conn)) = (asked, &me.conn)
            && conn.may_ask()
        {
            self.client_asks_after(client, after);
        }
    }

    fn client_asks_after(&mut self, client: usize, after: u64) {
        let text = format!("{{\"type\":\"session.update\",\"after\":{after}}}");
        self.client_frame(client, wire::TEXT, text.as_bytes());
    }

    /// It is told whether it hears what it has missed.
    fn client_restored(&mut self, client: usize, event: &Value) -> Result<(), String> {
        let me = &mut self.clients[client];
        let limits = self.scenario.config.room.clone();
        let Some(conn) = me.conn.as_mut() else { return Ok(()) };
        let welcome = conn.arrival.welcome.take();
        conn.arrival.done = true;
        let back = welcome.as_ref().and(conn.plan.back.clone());
        let target = conn.plan.target.clone();
        let recovered = event["recovered"] == true;
        self.restored += u64::from(recovered);
        let Some(mut memory) = self.clients[client].memory.take() else { return Ok(()) };
        let asked = memory.asked.take();
        let Some(after) = back.map(|back| back.after).or(asked) else {
            return Err(format!("nobody has asked for {event}"));
        };
        let epoch = event["epoch"].as_u64().ok_or("no epoch")?;
        let now = (memory.numbering.0.clone(), epoch);
        self.hear_all();
        let agreed = self.annals.agreed(&now.0, memory.numbering.1, epoch);
        let unasked = self.lives.unasked.contains(&now);
        let restarted = self.annal(&now).is_revived();
        if (event["restarted"] == true) != restarted {
            return Err(format!("that the room came from a store is {restarted}: {event}"));
        }
        if recovered {
            if !memory.is_known(agreed) || agreed.is_none_or(|agreed| after > agreed.seq) {
                return Err(format!("what {memory:?} has is not of the room, and nobody says so: {event}"));
            }
            if epoch != memory.numbering.1 {
                memory.goes_on(epoch, after, self.annal(&now));
            }
            memory.promise(after, event, self.annal(&now))?;
        } else {
            self.lives.before.lost += u64::from(event["reason"] == "lost");
            memory.doubt(after, agreed, unasked, event, self.annal(&now), &limits)?;
        }
        let Some(welcome) = welcome else {
            self.clients[client].memory = Some(memory);
            return Ok(());
        };
        let fresh = Memory::new(target, &welcome).ok_or_else(|| format!("no welcome: {welcome}"))?;
        let known = memory.is_known(agreed);
        if fresh.numbering != now || known && fresh.number != memory.number {
            return Err(format!("it was member {} and is told {welcome}", memory.number));
        }
        if recovered {
            memory.token = fresh.token;
        } else {
            let (client_seq, sent) = (memory.client_seq, std::mem::take(&mut memory.sent));
            memory = fresh;
            if known {
                // Of the events it knows nothing; that it is who it was, it does.
                (memory.client_seq, memory.sent) = (client_seq, sent);
            }
        }
        let taken = event["client_seq"].as_u64().unwrap_or(0);
        if taken > memory.client_seq || taken == 0 && known && self.took_any(&memory) {
            return Err(format!("{taken} is not the last taken of {memory:?}"));
        }
        self.clients[client].memory = Some(memory);
        self.client_says_again(client, taken);
        Ok(())
    }

    /// Whether the room has taken any of a client's messages.
    fn took_any(&mut self, memory: &Memory) -> bool {
        let annal = self.annal(&memory.numbering);
        memory.sent.iter().any(|(_, said)| annal.has_message(*said))
    }

    /// A message to everyone else in the room, numbered; what it is now goes into the line.
    pub(super) fn client_numbers(&mut self, client: usize, n: u64) -> String {
        let me = &mut self.clients[client];
        let said = (client as u64, u64::from(me.number), n);
        let number = me.memory.as_mut().map(|memory| {
            memory.client_seq += 1;
            memory.sent.push((memory.client_seq, said));
            memory.client_seq
        });
        line(said, number)
    }

    /// Says again what was not taken; now and then also what was.
    fn client_says_again(&mut self, client: usize, taken: u64) {
        let me = &mut self.clients[client];
        let unsure = if me.dice.permille(300) { 3 } else { 0 };
        let Some(memory) = &me.memory else { return };
        let again = memory.sent.iter().filter(|(number, _)| number + unsure > taken);
        let lines: Vec<String> = again.map(|&(number, said)| line(said, Some(number))).collect();
        for line in lines {
            self.client_frame(client, wire::TEXT, line.as_bytes());
        }
    }

    /// Says its last message again.
    pub(super) fn client_repeats(&mut self, client: usize) {
        let last = self.clients[client].memory.as_ref().and_then(|memory| memory.sent.last());
        if let Some(&(number, said)) = last {
            let line = line(said, Some(number));
            self.client_frame(client, wire::TEXT, line.as_bytes());
        }
    }

    /// Whether nothing is under way to a client, and then whether it has heard all that there is to hear or was told what it
    /// has not.
    pub(super) fn client_memory_settles(&mut self, client: usize) -> (bool, Result<(), String>) {
        let me = &mut self.clients[client];
        if !me.conn.as_ref().is_some_and(|conn| conn.arrival.done) {
            return (true, Ok(()));
        }
        let Some(memory) = me.memory.take() else { return (true, Ok(())) };
        let outcome = memory.settle(self.annal(&memory.numbering));
        let settled = memory.is_settled();
        self.clients[client].memory = Some(memory);
        (settled, outcome)
    }
}

fn line((client, connection, n): Said, number: Option<u64>) -> String {
    let number = number.map(|number| format!(",\"client_seq\":{number}")).unwrap_or_default();
    let data = format!("{{\"c\":{client},\"k\":{connection},\"n\":{n}}}");
    format!("{{\"type\":\"room.send\",\"data\":{data}{number}}}")
}

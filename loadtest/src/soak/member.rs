//! A member of a room: what it says, what it hears, and what it knows when it comes back. No socket, no clock.

use std::collections::VecDeque;

use super::events::{self, Line, Resume};
use super::ledger::{Heard, Hearing};
use super::tally::Tally;

/// A member asks so often, in messages of its own, what has been taken.
const PING_EVERY: u64 = 32;
/// Messages that were confirmed and are kept to be sent again all the same.
const CONFIRMED_KEPT: usize = 4;

/// Where its connection stands.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub(super) enum Phase {
    #[default]
    Greeting,
    Restoring,
    Live,
}

/// A member, across its connections.
#[derive(Debug, Default)]
pub(super) struct Member {
    /// Which of its room's members it is.
    pub(super) index: u8,
    pub(super) phase: Phase,
    /// What to come back with.
    token: Option<String>,
    /// The present connection's, until it has been restored.
    fresh: Option<(String, u64)>,
    /// Everything up to here has been heard.
    position: u64,
    /// The highest number heard.
    top: u64,
    /// The number behind which what was dropped has been asked for, and what came since.
    asked: Option<u64>,
    held: Vec<(u64, Option<(u8, u32)>)>,
    /// What the last restoration told again: behind the first number, up to the second.
    replayed: (u64, u64),
    /// What it said last.
    pub(super) said: u32,
    client_seq: u64,
    /// Said and not known to be taken.
    unconfirmed: VecDeque<(u64, u32)>,
    confirmed: VecDeque<(u64, u32)>,
    /// Of `unconfirmed`, those that this connection has not sent.
    unsent: usize,
    /// Said on a connection whose server forgot this member: nobody knows whether they were taken.
    pub(super) uncertain: Vec<u32>,
    pub(super) heard: Vec<Heard>,
}

impl Member {
    /// The `index`-th of so many.
    pub(super) fn new(index: u8, members: u8) -> Self {
        let heard = (0..members).map(|_| Heard::default()).collect();
        Self { index, heard, ..Self::default() }
    }

    /// What a connection has to ask for.
    pub(super) fn resume(&self) -> Option<(&str, u64)> {
        self.token.as_deref().map(|token| (token, self.position))
    }

    /// A connection is over.
    pub(super) fn lose(&mut self) {
        self.phase = Phase::Greeting;
        self.fresh = None;
        self.unsent = self.unconfirmed.len();
        if let Some(after) = self.asked.take() {
            // Coming back asks for the same, and brings what was held back.
            self.position = self.position.min(after);
            self.held.clear();
        }
    }

    /// How many messages wait for the server.
    pub(super) fn backlog(&self) -> usize {
        self.unconfirmed.len()
    }

    /// Says something; it goes out when it can.
    pub(super) fn say(&mut self) {
        self.said += 1;
        self.client_seq += 1;
        self.unconfirmed.push_back((self.client_seq, self.said));
        self.unsent += 1;
    }

    /// What never left this member, or may have been lost with its last connection.
    pub(super) fn never_sent(&self) -> impl Iterator<Item = u32> {
        self.unconfirmed.iter().map(|&(_, number)| number)
    }

    /// Puts what can go out now into `out`.
    pub(super) fn speak(&mut self, out: &mut Vec<String>) {
        if self.phase != Phase::Live {
            return;
        }
        let from = self.unconfirmed.len() - self.unsent;
        for &(client_seq, number) in self.unconfirmed.range(from..) {
            out.push(events::room_send(self.index, number, client_seq));
            if client_seq % PING_EVERY == 0 {
                out.push(events::ping(client_seq));
            }
        }
        self.unsent = 0;
    }

    /// Asks what has been taken.
    pub(super) fn ask(&self, out: &mut Vec<String>) {
        if self.phase == Phase::Live && !self.unconfirmed.is_empty() {
            out.push(events::ping(self.client_seq));
        }
    }

    /// Takes an event; what it makes this member say is put into `out`.
    pub(super) fn take(&mut self, line: &Line<'_>, out: &mut Vec<String>, tally: &mut Tally) {
        match &*line.kind {
            "session.created" => {
                let resume = line.session.as_ref().and_then(|session| session.resume.as_ref());
                self.created(resume, out, tally);
            }
            "session.restored" => self.restored(line, out, tally),
            "pong" => self.confirm(line.t.unwrap_or(0)),
            "error" => {
                let code = line.error.as_ref().and_then(|error| error.code.as_deref());
                tally.error(code.unwrap_or("error"));
            }
            kind => {
                let Some(seq) = line.seq else { return };
                if self.asked.is_some() {
                    self.held.push((seq, line.data));
                    return;
                }
                let is_new = seq > self.top;
                self.hear(seq, line.data, tally);
                let droppable = line.class.as_deref() == Some("droppable");
                if kind == "outbox.dropped" && droppable && is_new {
                    tally.drops += 1;
                    self.ask_again(line, out);
                }
            }
        }
    }

    fn created(&mut self, resume: Option<&Resume>, out: &mut Vec<String>, tally: &mut Tally) {
        self.fresh = resume.map(|resume| (resume.token.clone(), resume.seq));
        if self.token.is_some() {
            self.phase = Phase::Restoring;
            return;
        }
        let seq = self.adopt();
        (self.position, self.top) = (seq, seq);
        self.go_live(None, out, tally);
    }

    /// From now on the present connection is the one to come back from.
    fn adopt(&mut self) -> u64 {
        let (token, seq) = self.fresh.take().unzip();
        self.token = token;
        seq.unwrap_or(0)
    }

    fn restored(&mut self, line: &Line<'_>, out: &mut Vec<String>, tally: &mut Tally) {
        let recovered = line.recovered == Some(true);
        let seq = line.last_seq.unwrap_or(0);
        let asked = self.asked.take();
        let held = std::mem::take(&mut self.held);
        tally.restorations[usize::from(recovered)] += 1;
        if recovered {
            self.replayed = (asked.unwrap_or(self.position), seq);
        } else {
            self.heard.iter_mut().for_each(Heard::give_up);
            (self.position, self.top, self.replayed) = (seq, seq, (0, 0));
            held.into_iter().for_each(|(seq, data)| self.hear(seq, data, tally));
        }
        if self.phase == Phase::Restoring {
            self.adopt();
            let known = recovered.then_some(0);
            self.go_live(line.client_seq.or(known), out, tally);
        }
    }

    fn go_live(&mut self, taken: Option<u64>, out: &mut Vec<String>, tally: &mut Tally) {
        self.phase = Phase::Live;
        if let Some(taken) = taken {
            self.confirm(taken);
            // Whoever is not sure says it again; nobody may hear it twice.
            for &(client_seq, number) in &self.confirmed {
                out.push(events::room_send(self.index, number, client_seq));
                tally.repeated += 1;
            }
        } else {
            // The server knows nothing of this member: whatever waits may have been taken or not.
            self.uncertain.extend(self.unconfirmed.drain(..).map(|(_, number)| number));
            self.confirmed.clear();
        }
        self.unsent = self.unconfirmed.len();
        self.speak(out);
    }

    fn ask_again(&mut self, line: &Line<'_>, out: &mut Vec<String>) {
        let Some(first) = line.first_seq else { return };
        let (after, upto) = self.replayed;
        if first > after && line.seq.is_some_and(|seq| seq <= upto) {
            return;
        }
        self.position = self.position.min(first.saturating_sub(1));
        self.asked = Some(self.position);
        out.push(events::again_after(self.position));
    }

    fn hear(&mut self, seq: u64, data: Option<(u8, u32)>, tally: &mut Tally) {
        let is_new = seq > self.top;
        self.position = self.position.max(seq);
        self.top = self.top.max(seq);
        let Some((speaker, number)) = data else { return };
        let Some(heard) = self.heard.get_mut(usize::from(speaker)) else { return };
        match heard.hear(number) {
            Hearing::New | Hearing::Late => tally.heard += 1,
            Hearing::Again if is_new => tally.twice += 1,
            Hearing::Again => tally.told_again += 1,
        }
    }

    fn confirm(&mut self, taken: u64) {
        while self.unconfirmed.front().is_some_and(|&(client_seq, _)| client_seq <= taken) {
            let Some(one) = self.unconfirmed.pop_front() else { break };
            self.unsent = self.unsent.min(self.unconfirmed.len());
            self.confirmed.push_back(one);
            if self.confirmed.len() > CONFIRMED_KEPT {
                self.confirmed.pop_front();
            }
        }
    }
}

//! A member of a room: what it says, what it hears, and what it knows when it comes back. No socket, no clock.

use std::collections::VecDeque;

use super::events::{self, Line, Resume, Said, Saying, Topic};
use super::gaps::Gaps;
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
    held: Vec<(u64, Option<Said>)>,
    /// What the last restoration told again: behind the first number, up to the second.
    replayed: (u64, u64),
    gaps: Gaps,
    /// The number of what it said last, by topic.
    said: [u32; 2],
    client_seq: u64,
    /// Said and not known to be taken.
    unconfirmed: VecDeque<(u64, Saying)>,
    confirmed: VecDeque<(u64, Saying)>,
    /// Of `unconfirmed`, those that this connection has not sent.
    unsent: usize,
    /// Said on a connection whose server forgot this member: nobody knows whether they were taken.
    uncertain: Vec<Saying>,
    /// Questions that this connection has not answered.
    pings: u32,
    /// By topic, what each member has said.
    heard: [Vec<Heard>; 2],
}

impl Member {
    /// The `index`-th of so many.
    pub(super) fn new(index: u8, members: u8) -> Self {
        let heard = Topic::ALL.map(|_| (0..members).map(|_| Heard::default()).collect());
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
        self.pings = 0;
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

    /// Says so many things of a kind in one event; it goes out when it can.
    pub(super) fn say(&mut self, topic: Topic, count: u32) {
        let said = &mut self.said[topic as usize];
        let saying = Saying { topic, first: *said + 1, last: *said + count };
        *said = saying.last;
        self.client_seq += 1;
        self.unconfirmed.push_back((self.client_seq, saying));
        self.unsent += 1;
    }

    /// The number of what it said last.
    pub(super) fn said(&self, topic: Topic) -> u32 {
        self.said[topic as usize]
    }

    /// What need not have been heard: it never left this member, or may have been lost with a connection.
    pub(super) fn excused(&self, topic: Topic) -> Vec<u32> {
        let unconfirmed = self.unconfirmed.iter().map(|(_, saying)| saying);
        let sayings = self.uncertain.iter().chain(unconfirmed).filter(|saying| saying.topic == topic);
        sayings.flat_map(|saying| saying.first..=saying.last).collect()
    }

    /// What it has heard of a member of its room.
    pub(super) fn heard(&mut self, topic: Topic, speaker: usize) -> &mut Heard {
        &mut self.heard[topic as usize][speaker]
    }

    /// Whether it is to hear what this member says: its own messages it is not told.
    pub(super) fn hears(&self, topic: Topic, speaker: usize) -> bool {
        topic == Topic::Word || speaker != usize::from(self.index)
    }

    /// Whether it is through: it waits for no answer, and has heard or been told to be missing what these have said.
    pub(super) fn is_through(&self, room: &[Self]) -> bool {
        let has_all = |topic: Topic, other: &Self| {
            let speaker = usize::from(other.index);
            let (heard, last) = (&self.heard[topic as usize][speaker], other.said[topic as usize]);
            !self.hears(topic, speaker)
                || heard.has_all(last)
                || (!other.uncertain.is_empty() && heard.clone().silent(last, &other.excused(topic)) == 0)
        };
        self.phase == Phase::Live
            && self.backlog() == 0
            && self.gaps.open() == 0
            && room.iter().all(|other| Topic::ALL.iter().all(|&topic| has_all(topic, other)))
    }

    /// News of drops that nobody has answered.
    pub(super) fn unanswered(&self) -> u64 {
        self.gaps.open()
    }

    /// Puts what can go out now into `out`.
    pub(super) fn speak(&mut self, out: &mut Vec<String>) {
        if self.phase != Phase::Live {
            return;
        }
        let from = self.unconfirmed.len() - self.unsent;
        for (client_seq, saying) in self.unconfirmed.range(from..) {
            out.push(saying.event(self.index, *client_seq));
            if client_seq % PING_EVERY == 0 {
                out.push(events::ping(*client_seq));
                self.pings += 1;
            }
        }
        self.unsent = 0;
    }

    /// Asks what has been taken, if it does not know.
    pub(super) fn ask(&mut self, out: &mut Vec<String>) {
        if !self.unconfirmed.is_empty() {
            self.ping(out);
        }
    }

    /// Asks a question whose answer comes behind everything that waits for this member.
    pub(super) fn ping(&mut self, out: &mut Vec<String>) {
        if self.phase == Phase::Live {
            out.push(events::ping(self.client_seq));
            self.pings += 1;
        }
    }

    /// Whether its questions are answered.
    pub(super) fn is_quiet(&self) -> bool {
        self.pings == 0
    }

    /// Takes an event; what it makes this member say is put into `out`.
    pub(super) fn take(&mut self, line: &Line<'_>, out: &mut Vec<String>, tally: &mut Tally) {
        match &*line.kind {
            "session.created" => {
                let resume = line.session.as_ref().and_then(|session| session.resume.as_ref());
                self.created(resume, out, tally);
            }
            "session.restored" => self.restored(line, out, tally),
            "pong" => {
                self.pings = self.pings.saturating_sub(1);
                self.confirm(line.t.unwrap_or(0));
            }
            "error" => {
                let code = line.error.as_ref().and_then(|error| error.code.as_deref());
                tally.error(code.unwrap_or("error"));
                if let (Some("recovery_under_way"), Some(after)) = (code, self.asked) {
                    // What was under way has come before this.
                    out.push(events::again_after(after));
                }
            }
            kind => self.take_news(kind, line, out, tally),
        }
    }

    fn take_news(&mut self, kind: &str, line: &Line<'_>, out: &mut Vec<String>, tally: &mut Tally) {
        let drops = kind == "outbox.dropped";
        if drops {
            self.gaps.take(line, &mut tally.drops);
        }
        let Some(seq) = line.seq else { return };
        if self.asked.is_some() {
            self.held.push((seq, line.said()));
            return;
        }
        let is_new = seq > self.top;
        self.hear(seq, line.said(), tally);
        if drops && is_new {
            self.ask_again(line, out, tally);
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
        self.gaps.answered(recovered, &mut tally.drops);
        if recovered {
            self.replayed = (asked.unwrap_or(self.position), seq);
        } else {
            // The answer speaks of everything up to its number, so of gaps in what was held back as well.
            held.into_iter().for_each(|(seq, said)| self.hear(seq, said, tally));
            self.heard.iter_mut().flatten().for_each(Heard::give_up);
            (self.position, self.top, self.replayed) = (seq, seq, (0, 0));
        }
        if self.phase == Phase::Restoring {
            self.adopt();
            // One that has said nothing yet has no number there.
            let known = line.knows_member().then_some(0);
            self.go_live(line.client_seq.or(known), out, tally);
        }
    }

    fn go_live(&mut self, taken: Option<u64>, out: &mut Vec<String>, tally: &mut Tally) {
        self.phase = Phase::Live;
        if let Some(taken) = taken {
            self.confirm(taken);
            // Whoever is not sure says it again; nobody may hear it twice.
            for (client_seq, saying) in &self.confirmed {
                out.push(saying.event(self.index, *client_seq));
                tally.repeated += 1;
            }
        } else {
            // The server knows nothing of this member: whatever waits may have been taken or not.
            self.uncertain.extend(self.unconfirmed.drain(..).map(|(_, saying)| saying));
            self.confirmed.clear();
        }
        self.unsent = self.unconfirmed.len();
        self.speak(out);
    }

    fn ask_again(&mut self, line: &Line<'_>, out: &mut Vec<String>, tally: &mut Tally) {
        let Some(first) = line.first_seq else { return };
        let (after, upto) = self.replayed;
        if first > after && line.seq.is_some_and(|seq| seq <= upto) {
            // What it names is being told again.
            self.gaps.answered(true, &mut tally.drops);
            return;
        }
        self.position = self.position.min(first.saturating_sub(1));
        self.asked = Some(self.position);
        out.push(events::again_after(self.position));
    }

    fn hear(&mut self, seq: u64, said: Option<Said>, tally: &mut Tally) {
        let is_new = seq > self.top;
        self.position = self.position.max(seq);
        self.top = self.top.max(seq);
        let Some(Said { topic, speaker, number }) = said else { return };
        let Some(heard) = self.heard[topic as usize].get_mut(usize::from(speaker)) else { return };
        let heard = heard.hear(number);
        match heard {
            Hearing::New | Hearing::Late => tally.topics[topic as usize].heard += 1,
            Hearing::Again if is_new => tally.twice += 1,
            Hearing::Again => tally.told_again += 1,
        }
        if heard == Hearing::Late {
            tally.topics[topic as usize].late += 1;
            // Messages never give way, and nothing does that is not named.
            tally.drops.unnamed += u64::from(topic == Topic::Message || !self.gaps.has_named(seq));
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

#[cfg(test)]
mod tests {
    use super::*;

    fn take(member: &mut Member, tally: &mut Tally, line: &str) -> Vec<String> {
        let mut out = Vec::new();
        member.take(&serde_json::from_str(line).expect("a line"), &mut out, tally);
        out
    }

    fn word(seq: u64, number: u32) -> String {
        format!(r#"{{"type":"response.output_text.delta","seq":{seq},"delta":" 0.{number}"}}"#)
    }

    fn news(seq: u64, first: u64, last: u64) -> String {
        let bounds = format!(r#""first_seq":{first},"last_seq":{last}"#);
        format!(r#"{{"type":"outbox.dropped","seq":{seq},"class":"droppable","count":1,{bounds}}}"#)
    }

    /// A member that has heard word 1 of the first member, and has asked for word 2.
    fn asking(tally: &mut Tally) -> Member {
        let mut member = Member::new(1, 2);
        let welcome = r#"{"type":"session.created","session":{"resume":{"token":"t","epoch":1,"seq":0}}}"#;
        take(&mut member, tally, welcome);
        take(&mut member, tally, &word(1, 1));
        take(&mut member, tally, &word(3, 3));
        let asks = take(&mut member, tally, &news(4, 2, 2));
        assert_eq!(asks, [events::again_after(1)]);
        member
    }

    #[test]
    fn what_is_told_again_fills_the_gap_that_was_named() {
        let mut tally = Tally::default();
        let mut member = asking(&mut tally);
        take(&mut member, &mut tally, r#"{"type":"session.restored","recovered":true,"last_seq":4}"#);
        (2..=3).for_each(|n| assert_eq!(take(&mut member, &mut tally, &word(n.into(), n)), [""; 0]));
        assert_eq!((tally.drops.recovered, tally.drops.unnamed, tally.topics[1].late), (1, 0, 1));
        assert_eq!(member.heard(Topic::Word, 0).silent(3, &[]), 0);
        take(&mut member, &mut tally, &word(6, 5));
        take(&mut member, &mut tally, &word(5, 4));
        assert_eq!(tally.drops.unnamed, 1, "nobody had named it");
    }

    #[test]
    fn an_answer_that_says_no_speaks_of_all_gaps_before_it() {
        let mut tally = Tally::default();
        let mut member = asking(&mut tally);
        take(&mut member, &mut tally, &word(6, 5));
        take(&mut member, &mut tally, r#"{"type":"session.restored","recovered":false,"last_seq":8}"#);
        take(&mut member, &mut tally, &word(9, 7));
        let heard = member.heard(Topic::Word, 0);
        assert_eq!((heard.silent(7, &[]), heard.told), (0, 3));
        take(&mut member, &mut tally, &word(11, 9));
        assert_eq!(member.heard(Topic::Word, 0).silent(9, &[]), 1, "but of none behind it");
    }

    #[test]
    fn one_that_comes_back_too_late_for_the_history_says_what_it_had_to_say() {
        let mut tally = Tally::default();
        let mut member = Member::new(1, 2);
        let welcome = r#"{"type":"session.created","session":{"resume":{"token":"t","epoch":1,"seq":0}}}"#;
        take(&mut member, &mut tally, welcome);
        member.lose();
        member.say(Topic::Message, 1);
        take(&mut member, &mut tally, welcome);
        let restored = r#"{"type":"session.restored","recovered":false,"reason":"too_old","last_seq":90}"#;
        let said = take(&mut member, &mut tally, restored);
        assert_eq!(said, [r#"{"type":"room.send","data":[1,1],"client_seq":1}"#]);
        assert!(member.uncertain.is_empty());
    }

    #[test]
    fn whoever_asks_too_early_asks_again() {
        let mut tally = Tally::default();
        let mut member = asking(&mut tally);
        let too_early = r#"{"type":"error","error":{"code":"recovery_under_way"}}"#;
        assert_eq!(take(&mut member, &mut tally, too_early), [events::again_after(1)]);
    }
}

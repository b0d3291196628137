//! The life of a room's lines: dialled when needed, tried again, taken over from, closed.

use serde_json::json;
use smallvec::SmallVec;

use super::waiting::{Held, Message, What};
use super::{OUR_PRIMING, Realtime, names, session};
use crate::core::config::Dialect;
use crate::core::engine::{EngineContext, EngineOutput};
use crate::core::time::Micros;
use crate::core::upstream::{Line, UpstreamEnd, UpstreamOrder};

/// How long a model server may take to greet once it has shaken hands.
const GREETING: Micros = Micros::from_s(10);
/// The first pause between attempts; each further one is twice as long, up to the last.
const PAUSE_FIRST: Micros = Micros::from_ms(250);
const PAUSE_LAST: Micros = Micros::from_s(5);
/// A line that was lost at this age or before counts as one that could not be had.
const YOUNG: Micros = Micros::from_s(2);
/// Audio that is older than this when its line ends was a pause.
const FRESH: Micros = Micros::from_s(1);

/// A line, as the engine sees it.
#[derive(Debug)]
pub(super) struct Upline {
    pub(super) line: Line,
    pub(super) stage: Stage,
    /// When it was dialled; once it is ready, since when.
    pub(super) since: Micros,
    /// When it is old enough to be replaced.
    pub(super) ages_at: Micros,
    /// Messages that were no JSON.
    pub(super) bad_messages: u32,
    /// The items that it was told at its beginning.
    pub(super) primed: Vec<Box<str>>,
    /// Whether it has given audio: its voice can't be changed any more.
    pub(super) spoke: bool,
}

/// How far a line has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Stage {
    /// No handshake yet.
    Dialling,
    /// No `session.created` yet.
    Greeting,
    /// It takes messages.
    Ready,
}

/// What is known of trying.
#[derive(Debug, Default)]
pub(super) struct Courting {
    failures: u32,
    not_before: Micros,
    /// When what waits is given up; nothing while nothing is tried.
    give_up_at: Option<Micros>,
}

impl Courting {
    /// When to try again, or to give up.
    pub(super) fn deadline(&self, alone: bool) -> Option<Micros> {
        self.give_up_at.filter(|_| alone).map(|give_up_at| give_up_at.min(self.not_before))
    }

    /// A failure more; the pause before the next attempt.
    fn fail(&mut self, cx: &mut EngineContext<'_>) -> Micros {
        self.failures += 1;
        let span = (PAUSE_FIRST.0 << (self.failures - 1).min(10)).min(PAUSE_LAST.0);
        Micros(span / 2 + cx.rng.below(span / 2 + 1))
    }
}

impl Upline {
    pub(super) fn deadline(&self) -> Option<Micros> {
        (self.stage == Stage::Greeting).then_some(self.since + GREETING)
    }
}

impl Realtime {
    /// There is something for a model server: a line is dialled, if there is none and it is not too early for one.
    pub(super) fn need(&mut self, cx: &mut EngineContext<'_>) {
        if self.line.is_some() {
            return;
        }
        self.courting.give_up_at.get_or_insert(cx.now + cx.config.realtime.retry);
        if cx.now >= self.courting.not_before {
            self.line = Some(self.dial(cx));
        }
    }

    fn dial(&mut self, cx: &mut EngineContext<'_>) -> Upline {
        self.last_line += 1;
        let line = Line(self.last_line);
        cx.out.push(EngineOutput::Upstream(UpstreamOrder::Dial { line, target: session::target(cx) }));
        Upline {
            line,
            stage: Stage::Dialling,
            since: cx.now,
            ages_at: Micros(u64::MAX),
            bad_messages: 0,
            primed: Vec::new(),
            spoke: false,
        }
    }

    pub(super) fn opened(&mut self, line: Line, cx: &mut EngineContext<'_>) {
        if let Some(upline) = self.find(line) {
            (upline.stage, upline.since) = (Stage::Greeting, cx.now);
        }
    }

    /// The model server has greeted.
    pub(super) fn greeted(&mut self, line: Line, cx: &mut EngineContext<'_>) {
        let Some(upline) = self.find(line).filter(|upline| upline.stage == Stage::Greeting) else { return };
        (upline.stage, upline.since) = (Stage::Ready, cx.now);
        // Sessions that began together do not end together.
        let age = cx.config.realtime.age;
        upline.ages_at = cx.now + age - Micros(cx.rng.below(age.0 / 16 + 1));
        if self.is_current(line) {
            self.take_up(cx);
        }
    }

    /// The line that counts is ready: it learns the settings and the conversation so far, and gets what waits.
    fn take_up(&mut self, cx: &mut EngineContext<'_>) {
        let Some(upline) = &mut self.line else { return };
        let line = upline.line;
        self.courting.give_up_at = None;
        cx.send_json(line, &session::update(cx, true));
        for item in self.memory.items() {
            upline.primed.extend(item["id"].as_str().map(Into::into));
            let item =
                if cx.config.realtime.dialect == Dialect::Beta { names::item_to_beta(item) } else { item };
            let message =
                json!({ "type": "conversation.item.create", "event_id": OUR_PRIMING, "item": item });
            cx.send_json(line, &message);
        }
        self.used(cx);
        self.tell_lost(cx);
        self.flush_waiting(cx);
    }

    /// A line is over.
    pub(super) fn over(&mut self, line: Line, end: UpstreamEnd, cx: &mut EngineContext<'_>) {
        if self.next.as_ref().is_some_and(|next| next.line == line) {
            self.next = None;
            let pause = self.courting.fail(cx);
            if let Some(current) = &mut self.line {
                current.ages_at = cx.now + pause;
            }
        } else if self.is_current(line) {
            if self.ready_line().is_some() {
                self.lose(cx);
            } else {
                self.line = None;
                self.not_had(&end, cx);
            }
        }
    }

    /// A line could not be had: another attempt later, if that is of use.
    fn not_had(&mut self, end: &UpstreamEnd, cx: &mut EngineContext<'_>) {
        let mut not_before = cx.now + self.courting.fail(cx);
        let mut hopeless = false;
        match *end {
            UpstreamEnd::Broken { until } => not_before = not_before.max(until),
            UpstreamEnd::Refused { status, retry_after } => {
                hopeless = status < 500 && !matches!(status, 408 | 425 | 429);
                not_before = not_before.max(cx.now + retry_after.unwrap_or_default());
            }
            _ => {}
        }
        if hopeless {
            not_before = cx.now + PAUSE_LAST;
        }
        self.courting.not_before = not_before;
        let in_time = self.courting.give_up_at.is_some_and(|give_up_at| not_before < give_up_at);
        if hopeless || !in_time {
            self.give_up(!hopeless, cx);
        }
    }

    /// What waits is dropped, and the clients are told.
    fn give_up(&mut self, retryable: bool, cx: &mut EngineContext<'_>) {
        self.courting.give_up_at = None;
        if self.waiting.sum() != (0, 0) {
            self.tell_given_up(retryable, cx);
        }
        self.waiting.take();
        self.ear.cleared();
        self.turn = super::Turn::default();
    }

    /// The line that counts was lost. What it had not answered waits for another one.
    pub(super) fn lose(&mut self, cx: &mut EngineContext<'_>) {
        let Some(upline) = self.line.take() else { return };
        self.tell_failed(upline.line, cx);
        self.hold_unanswered(cx);
        self.courting.not_before = Micros(0);
        if cx.now.since(upline.since) <= YOUNG {
            self.courting.not_before = cx.now + self.courting.fail(cx);
        } else {
            self.courting.failures = 0;
        }
        if let Some(next) = self.next.take() {
            let ready = next.stage == Stage::Ready;
            self.line = Some(next);
            self.courting.give_up_at = Some(cx.now + cx.config.realtime.retry);
            if ready {
                self.take_up(cx);
            }
        } else if !self.waiting.is_empty() {
            self.need(cx);
        }
    }

    /// Cuts the line that counts, and goes on as if it had been lost.
    pub(super) fn drop_line(&mut self, cx: &mut EngineContext<'_>) {
        if let Some(upline) = &self.line {
            cx.out.push(EngineOutput::Upstream(UpstreamOrder::Close { line: upline.line }));
            self.lose(cx);
        }
    }

    /// Audio, commit and wish for a response that the line has not answered go before what waits.
    fn hold_unanswered(&mut self, cx: &EngineContext<'_>) {
        let worth = self.turn.speaking || !Self::detects_turns(cx) || cx.now.since(self.heard_at) <= FRESH;
        let (mut audio, marked) = self.ear.take_tail();
        let later = audio.split_off(marked.unwrap_or(0));
        let turn = std::mem::take(&mut self.turn);
        let message = |text, what| Held::Message(Message { text, what });
        let committed = turn.commit.map(|text| [Held::Audio(audio), message(text, What::Commit)]);
        let ask = turn.ask.map(|text| message(text, What::Ask));
        let later = worth.then_some(Held::Audio(later));
        let held: Vec<Held> = committed.into_iter().flatten().chain(ask).chain(later).collect();
        self.waiting.put_back(held.into_iter());
    }

    /// The moment that the deadline named has come.
    pub(super) fn tick(&mut self, cx: &mut EngineContext<'_>) {
        self.tick_greetings(cx);
        if self.line.is_none() {
            return self.tick_courting(cx);
        }
        if self.ready_line().is_none() {
            return;
        }
        if self.is_owed() && self.stall_at <= cx.now {
            // What makes a server hang is not said to the next one.
            self.turn.expecting |= self.turn.ask.take().is_some();
            self.drop_line(cx);
        } else if self.idle_at <= cx.now && !self.is_owed() {
            self.close_idle(cx);
        } else if self.idle_at <= cx.now {
            self.used(cx);
        }
        let old = self.line.as_ref().is_some_and(|line| line.stage == Stage::Ready && line.ages_at <= cx.now);
        if old && self.next.is_none() {
            self.next = Some(self.dial(cx));
        }
        self.try_swap(cx);
    }

    fn tick_greetings(&mut self, cx: &mut EngineContext<'_>) {
        let late = |upline: &&Upline| upline.deadline().is_some_and(|deadline| deadline <= cx.now);
        let uplines = [&self.line, &self.next].into_iter().flatten();
        for line in uplines.filter(late).map(|upline| upline.line).collect::<SmallVec<[Line; 2]>>() {
            cx.out.push(EngineOutput::Upstream(UpstreamOrder::Close { line }));
            self.over(line, UpstreamEnd::TimedOut, cx);
        }
    }

    fn tick_courting(&mut self, cx: &mut EngineContext<'_>) {
        let Some(give_up_at) = self.courting.give_up_at else { return };
        if give_up_at <= cx.now {
            self.give_up(true, cx);
        } else if self.courting.not_before <= cx.now {
            self.line = Some(self.dial(cx));
        }
    }

    /// Nothing has happened for long. The conversation is remembered; the next need opens another line.
    fn close_idle(&mut self, cx: &mut EngineContext<'_>) {
        for upline in [self.line.take(), self.next.take()].into_iter().flatten() {
            cx.out.push(EngineOutput::Upstream(UpstreamOrder::Close { line: upline.line }));
        }
        self.courting.failures = 0;
        self.hold_unanswered(cx);
    }

    /// Lets the younger line take over between two turns: when no response runs, nobody speaks, and nothing is unanswered.
    pub(super) fn try_swap(&mut self, cx: &mut EngineContext<'_>) {
        let ready = self.next.as_ref().is_some_and(|next| next.stage == Stage::Ready);
        if !ready || self.ready_line().is_none() || !self.is_between_turns(cx) {
            return;
        }
        // What the old one heard since the last turn, the new one hears again: a turn may have begun in it unnoticed.
        self.hold_unanswered(cx);
        if let Some(old) = std::mem::replace(&mut self.line, self.next.take()) {
            cx.out.push(EngineOutput::Upstream(UpstreamOrder::Close { line: old.line }));
        }
        self.courting.failures = 0;
        self.take_up(cx);
    }

    fn is_between_turns(&self, cx: &EngineContext<'_>) -> bool {
        let turn = &self.turn;
        let silent = Self::detects_turns(cx) || !self.ear.has_tail();
        // An answer that does not come is not waited for forever.
        let expecting = turn.expecting && cx.now < self.stall_at;
        let unasked = turn.unasked_until.is_some_and(|until| cx.now < until);
        let answered = turn.commit.is_none() && turn.ask.is_none() && !expecting && !unasked;
        silent && answered && !turn.speaking && !self.voice.busy()
    }

    pub(super) fn is_current(&self, line: Line) -> bool {
        self.line.as_ref().is_some_and(|upline| upline.line == line)
    }

    pub(super) fn find(&mut self, line: Line) -> Option<&mut Upline> {
        [&mut self.line, &mut self.next].into_iter().flatten().find(|upline| upline.line == line)
    }
}

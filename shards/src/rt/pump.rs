//! The pump: a shard's main loop. It carries what happens to the core and does what the core asks for; it decides
//! nothing.
//!
//! Lives on the shard's thread as the main task of its executor. A turn is: one system call that submits (the sends
//! of the turn before among it), waits and collects; what became of those sends; completions up to a budget; messages
//! of the mesh up to a budget; the end of the core's turn, which queues sends. The shard sleeps only in that one call,
//! until a completion, the next deadline, or the doorbell, and never while sends are queued.

mod answers;
mod handing;
mod leaving;
mod parcels;
mod remembers;
mod reports;
#[cfg(test)]
mod upstream_tests;

use std::collections::VecDeque;
use std::io;
use std::sync::Arc;

use self::leaving::Stage;
use super::WireConfig;
use super::audit::AuditLane;
use super::clock::Clock;
use super::error::Full;
use super::life::{Order, Roll};
use super::mesh::Endpoint;
use super::tls::Link;
use super::wire::ring::{Completion, Wait};
use super::wire::{Event, Opened, Wire};
use crate::core::audit::{Asked, AuditRecord, Refused, Source};
use crate::core::counters::WireCounters;
#[cfg(debug_assertions)]
use crate::core::message::{Fault, Query};
use crate::core::{
    ConnKey, Destination, Effect, Effects, Handoff, Input, Micros, SessionId, Shard, ShardId, ShardMessage,
    Shedding,
};

/// Completions handled in one turn: what bounds the wait of a timer or another shard.
const COMPLETIONS_PER_TURN_MAX: usize = 2_048;
/// Completions that the core is told of in advance: more would have left the cache before their turn comes.
const EXPECTED_MAX: usize = 32;
/// Messages from other parties handled in one turn.
const MESSAGES_PER_TURN_MAX: usize = 256;
/// Sockets taken from the listener in one turn.
const ACCEPTS_PER_TURN_MAX: usize = 128;
/// As many while the shard turns new work away: each still costs a handshake and an answer.
const ACCEPTS_PER_LATE_TURN_MAX: usize = 8;
/// Completions worth waking for before the batch window is over.
const BATCH_COMPLETIONS: u32 = 64;
/// Busy time after which the executor gets a turn.
const EXECUTOR_EVERY: Micros = Micros::from_ms(1);

/// Why the pump gave control back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Pause {
    /// The executor is due.
    Executor,
    /// The shard has left; so many connections were open.
    Left {
        /// Connections that were cut.
        connections: usize,
    },
}

/// See the module.
pub(super) struct Pump {
    id: ShardId,
    shard: Shard,
    wire: Wire,
    mesh: Endpoint,
    clock: Clock,
    /// Where what happens is written down; nothing when it isn't.
    audit: Option<AuditLane>,
    spin: Micros,
    batch: Micros,
    stage: Stage,
    now: Micros,
    /// When this turn woke.
    woke: Micros,
    /// What the node wants of all shards.
    roll: Arc<Roll>,
    evacuated: bool,
    /// Whether it has said that its connections are gone.
    emptied: bool,
    /// Rooms that the store has to be asked for when the mesh has room.
    unasked: VecDeque<SessionId>,
    /// Whether it had none for what the store has to be told.
    store_is_full: bool,
    busy: Micros,
    /// What the last turn took, its system call included unless it slept there.
    spent: Micros,
    counters: WireCounters,
    fx: Effects,
    doing: Effects,
    /// Completions that were not handled yet.
    taken: VecDeque<Completion>,
    /// When completions were collected: how many had been by then, and the moment. Those of which none waits any more go.
    collected: VecDeque<(u64, Micros)>,
    /// Reports dropped by the core that the log tells of.
    reports_dropped: u64,
    /// The next system call fails, for a test.
    #[cfg(debug_assertions)]
    refused: bool,
}

impl Pump {
    pub(super) fn new(
        id: ShardId,
        shard: Shard,
        wire: Wire,
        mesh: Endpoint,
        clock: Clock,
        roll: Arc<Roll>,
        config: &WireConfig,
    ) -> Self {
        let now = clock.now();
        Self {
            id,
            shard,
            wire,
            mesh,
            clock,
            audit: None,
            spin: Micros(config.spin_us.into()),
            batch: Micros(config.batch_us.into()),
            stage: Stage::Serving,
            now,
            woke: now,
            roll,
            evacuated: false,
            emptied: false,
            unasked: VecDeque::new(),
            store_is_full: false,
            busy: Micros(0),
            spent: Micros(0),
            counters: WireCounters::default(),
            fx: Vec::new(),
            doing: Vec::new(),
            taken: VecDeque::new(),
            collected: VecDeque::new(),
            reports_dropped: 0,
            #[cfg(debug_assertions)]
            refused: false,
        }
    }

    /// What happens is written down there.
    pub(super) fn audited(self, audit: Option<AuditLane>) -> Self {
        Self { audit, ..self }
    }

    /// Runs turns until the executor is due or the shard has left.
    ///
    /// # Errors
    /// When the kernel refuses the system call as such: a fault of ours.
    pub(super) fn run(&mut self) -> io::Result<Pause> {
        loop {
            self.turn()?;
            if self.stage == Stage::Leaving || self.roll.current() == Order::Stop {
                return self.leave();
            }
            if self.busy >= EXECUTOR_EVERY {
                self.busy = Micros(0);
                self.counters.executor_turns += 1;
                return Ok(Pause::Executor);
            }
        }
    }

    fn turn(&mut self) -> io::Result<()> {
        self.prepare();
        let enters = self.enter()?;
        self.counters.turns += 1;
        self.counters.enters += enters;
        self.counters.enters_per_turn_max = self.counters.enters_per_turn_max.max(enters);
        self.sent();
        self.completions();
        self.messages();
        self.accepted();
        self.now = self.clock.now();
        self.shard.end_turn(self.now, &mut self.fx);
        self.carry_out();
        self.deliver();
        self.go_on_leaving()
    }

    /// Queues what is to be submitted with this turn's system call.
    fn prepare(&mut self) {
        self.wire.feed_waiting(self.spent);
        if self.shard.accepting() && matches!(self.stage, Stage::Serving | Stage::Draining) {
            self.wire.arm_accepts(self.now);
        }
        self.wire.speak();
        let Self { wire, shard, .. } = self;
        wire.queue_waiting_sends(|conn, gather| shard.gather(conn, gather));
    }

    /// Submits, sleeps if there is nothing to do, collects. The number of system calls: one.
    fn enter(&mut self) -> io::Result<u64> {
        let wait = self.how_long(self.now);
        let before = self.now;
        #[cfg(debug_assertions)]
        if self.refused {
            return Err(io::ErrorKind::PermissionDenied.into());
        }
        self.wire.enter(wait)?;
        self.mesh.woke();
        self.now = self.clock.now();
        // A call that does not sleep is work too: the sends happen in it.
        let worked_until = if wait.is_some() { before } else { self.now };
        let spent = worked_until.since(self.woke);
        self.counters.turn_us.observe(spent.0);
        self.counters.sleeps += u64::from(wait.is_some());
        self.busy = self.busy + spent;
        self.spent = spent;
        self.woke = self.now;
        self.feel_lag();
        Ok(1)
    }

    /// Tells the core how late this turn is: what came just after the last one began has waited for all of that, and
    /// what was collected and not handled for longer.
    fn feel_lag(&mut self) {
        while self.collected.front().is_some_and(|&(until, _)| until <= self.counters.completions) {
            self.collected.pop_front();
        }
        let waited = self.collected.front().map_or(Micros(0), |&(_, at)| self.now.since(at));
        let lag = self.spent.max(waited);
        let shard = self.id.0;
        match self.shard.lagged(self.now, lag) {
            None => {}
            Some(Shedding::Begins) => {
                let lag_ms = lag.as_ms();
                tracing::warn!(shard, lag_ms, "a shard is behind its work: it turns new clients away");
            }
            Some(Shedding::Ends) => tracing::info!(shard, "the shard takes new clients again"),
        }
    }

    /// How long this turn may sleep; nothing when there is work. The doorbell is armed when it may.
    fn how_long(&mut self, mut now: Micros) -> Option<Wait> {
        if !self.taken.is_empty()
            || self.shard.has_more()
            || self.wire.is_pressed()
            || self.mesh.may_have_messages()
            || self.may_admit()
        {
            return None;
        }
        let deadlines = [self.shard.next_deadline(), self.wire.deadline(), self.retry_deadline(now)];
        let deadline = deadlines.into_iter().flatten().min();
        if self.spin > Micros(0) {
            let until = (now + self.spin).min(deadline.unwrap_or(Micros(u64::MAX)));
            while now < until {
                if self.wire.has_news() || self.mesh.may_have_messages() {
                    return None;
                }
                std::hint::spin_loop();
                now = self.clock.now();
            }
        }
        let timeout = deadline.map(|deadline| deadline.since(now));
        if timeout == Some(Micros(0)) || !self.mesh.prepare_to_sleep() {
            return None;
        }
        Some(Wait { timeout, want: BATCH_COMPLETIONS, batch: self.batch })
    }

    fn may_admit(&self) -> bool {
        self.wire.holds_accepted() && self.shard.accepting()
    }

    /// The sends of this turn's system call are over.
    fn sent(&mut self) {
        self.wire.take(&mut self.taken);
        let until = self.counters.completions + self.taken.len() as u64;
        if until > self.collected.back().map_or(self.counters.completions, |&(before, _)| before) {
            self.collected.push_back((until, self.now));
        }
        while let Some((conn, outcome)) = self.wire.next_sent() {
            self.counters.sends += 1;
            self.tell(Input::Sent { conn, outcome });
        }
        self.report_closed();
    }

    fn completions(&mut self) {
        let soon = self.taken.iter().take(EXPECTED_MAX);
        soon.filter_map(Completion::conn).for_each(|conn| self.shard.expect(conn));
        for _ in 0..COMPLETIONS_PER_TURN_MAX {
            let Some(completion) = self.taken.pop_front() else { break };
            self.counters.completions += 1;
            match self.wire.book(completion, self.now) {
                Event::Nothing => {}
                Event::Received { conn, buffer, len } => self.received(conn, buffer, len),
                Event::Ended { conn, how } => self.tell(Input::Ended { conn, how }),
                Event::Connected { conn, outcome } => self.tell(Input::Connected { conn, outcome }),
                Event::Writable { conn } => self.tell(Input::Writable { conn }),
                Event::Doorbell => self.counters.doorbells += 1,
            }
        }
        self.report_closed();
        self.carry_out();
    }

    fn received(&mut self, conn: ConnKey, buffer: u16, len: usize) {
        self.counters.receives += 1;
        let Opened { bytes, ended, secured } = self.wire.open(conn, buffer, len);
        if let Some(outcome) = secured {
            self.shard.handle(self.now, Input::Connected { conn, outcome }, &mut self.fx);
        }
        if !bytes.is_empty() {
            self.shard.handle(self.now, Input::Received { conn, bytes }, &mut self.fx);
        }
        if let Some(how) = ended {
            self.shard.handle(self.now, Input::Ended { conn, how }, &mut self.fx);
        }
        self.wire.give_back(buffer);
        self.carry_out();
        self.wire.read_on(conn);
    }

    fn tell(&mut self, input: Input<'_>) {
        self.shard.handle(self.now, input, &mut self.fx);
        self.carry_out();
    }

    fn messages(&mut self) {
        if !self.evacuated && self.roll.current() == Order::Evacuate {
            self.evacuate();
        }
        for _ in 0..MESSAGES_PER_TURN_MAX {
            let Some(message) = self.mesh.receive() else { return };
            match message {
                ShardMessage::Adopt(handoff) => self.adopt(handoff),
                #[cfg(debug_assertions)]
                ShardMessage::Ask { query: Query::Fault(Fault::Kernel), .. } => self.refused = true,
                #[cfg(debug_assertions)]
                ShardMessage::Ask { query: Query::Fault(fault @ Fault::Runtime), .. } => fault.panic(),
                ShardMessage::Ask { id, query } => self.tell(Input::Ask { id, query }),
                ShardMessage::Worked(worked) => self.tell(Input::Worked(worked)),
                ShardMessage::Parcel { from, parcel } => self.tell(Input::Parcel { from, parcel }),
                ShardMessage::Recalled(recalled) => self.tell(Input::Recalled(recalled)),
                ShardMessage::RememberAgain(session) => self.tell(Input::RememberAgain(session)),
                ShardMessage::Drain { window } => self.drain(window),
                ShardMessage::Stop => self.stage = Stage::Leaving,
                // Only the control plane is sent these.
                ShardMessage::Serve(handoff) => self.wire.refuse(handoff.socket, true),
                ShardMessage::Answer { .. }
                | ShardMessage::Work(_)
                | ShardMessage::RoomEnded(_)
                | ShardMessage::Remember(_)
                | ShardMessage::Recall(_)
                | ShardMessage::DeadLetter(_) => {}
            }
        }
    }

    fn adopt(&mut self, handoff: Handoff<Link>) {
        let Handoff { socket, mut head, peer, via } = handoff;
        if let Some(conn) = self.wire.adopt(socket) {
            self.tell(Input::Adopted { conn, peer, via, head: &mut head });
        }
    }

    fn accepted(&mut self) {
        let most = if self.shard.is_shedding() { ACCEPTS_PER_LATE_TURN_MAX } else { ACCEPTS_PER_TURN_MAX };
        for _ in 0..most {
            if !self.shard.accepting() {
                return;
            }
            let Some((socket, peer)) = self.wire.next_accepted() else { return };
            if let Some(conn) = self.wire.admit(socket, self.shard.proxy_header_max(peer)) {
                self.tell(Input::Accepted { conn, peer });
            }
        }
    }

    /// Does what the core has asked for, in order.
    fn carry_out(&mut self) {
        while !self.fx.is_empty() {
            let mut doing = std::mem::replace(&mut self.fx, std::mem::take(&mut self.doing));
            for effect in doing.drain(..) {
                self.carry_out_one(effect);
            }
            self.doing = doing;
            self.report_closed();
        }
    }

    fn carry_out_one(&mut self, effect: Effect) {
        match effect {
            Effect::Receive(conn, mode) => self.wire.receive(conn, mode),
            Effect::Send(conn) => {
                let Self { wire, shard, .. } = self;
                wire.send(conn, |conn, gather| shard.gather(conn, gather));
            }
            Effect::AwaitWritable(conn) => self.wire.await_writable(conn),
            Effect::Move { conn, to, head, peer, via } => {
                let stays_in_node = matches!(to, Destination::Shard(_));
                if let Some(socket) = self.wire.take_away(conn, stays_in_node) {
                    self.hand_off(to, Handoff { socket, head, peer, via });
                }
            }
            Effect::Dial { room, line, address } => {
                let outcome = self.wire.dial(address);
                self.shard.handle(self.now, Input::Dialled { room, line, outcome }, &mut self.fx);
            }
            Effect::UpstreamFailed(end) => {
                let shard = self.id.0;
                tracing::warn!(shard, cause = ?end, "a model session failed");
            }
            Effect::Shutdown(conn) => self.wire.shut_down(conn),
            Effect::Close(conn, mode) => self.wire.close(conn, mode),
            Effect::Answer(id, answer) => self.answer(id, answer),
            Effect::Work(work) => self.hand_work(work),
            Effect::Recall(session) => self.ask_store(session),
            Effect::DeadLetter(letter) => self.hand_letter(letter),
            Effect::Audit(record) => self.write_down(record),
        }
    }

    fn hand_off(&mut self, to: Destination, handoff: Handoff<Link>) {
        let (message, counted) = match to {
            Destination::Shard(_) => (ShardMessage::Adopt(handoff), true),
            Destination::ControlPlane => (ShardMessage::Serve(handoff), false),
        };
        let Err(Full(returned)) = self.mesh.try_send(to, message) else { return };
        self.counters.mesh_full += 1;
        if let ShardMessage::Adopt(handoff) | ShardMessage::Serve(handoff) = returned {
            self.note_refused(&handoff);
            self.wire.refuse(handoff.socket, counted);
        }
    }

    fn write_down(&self, record: Box<AuditRecord>) {
        if let Some(lane) = &self.audit {
            lane.put(record);
        }
    }

    /// Notes a connection that found no place on its way to another party.
    fn note_refused(&self, handoff: &Handoff<Link>) {
        if self.audit.is_some() {
            self.write_down(Box::new(AuditRecord::Refused(Refused {
                source: Source { client: handoff.peer, via: handoff.via },
                status: Some(503),
                reason: "queue_full",
                asked: Asked::Unknown,
                user: None,
            })));
        }
    }

    fn report_closed(&mut self) {
        while let Some(conn) = self.wire.next_closed() {
            self.shard.handle(self.now, Input::Closed { conn }, &mut self.fx);
        }
    }
}

//! One connection's outbound queue: bounded in messages and bytes, in order, with drops that are counted and told.
//!
//! Messages leave from the front. What the kernel is being given (`in_flight`) and what it took in part
//! (`front_sent`) stays where it is; everything behind may still be displaced, aged out or flushed. Events of a
//! `voxhall.v1` client may wait for company until [`Lane::wait_until`]; anything urgent behind them ends the wait,
//! so that the order of messages is the order of enqueueing.

mod bounds;
mod first;

use std::collections::VecDeque;

use super::super::config::Outbox;
use super::super::counters::{Counters, DropReason};
use super::super::event::Class;
use super::super::frame::{FramePool, Gather, TEXT, server_header};
use super::super::spare::SpareQueues;
use super::super::time::Micros;
use super::drops::DropNote;
use super::message::{Message, Shape};

/// Parts of one send at most: what a message header may name cheaply.
const PARTS_MAX: usize = 64;
/// Bytes after which a send takes no further message. A backlog of one receive buffer leaves in one send.
const SEND_BYTES_MAX: usize = 64 * 1024;
/// Events that wait at most; more leave at once.
const WAITING_MAX: u8 = 64;
/// Bytes of the events of one batch at most. A batch that has begun can't be dropped, so it stays small.
const BATCH_BYTES_MAX: usize = 16 * 1024;

/// What became of a message.
#[must_use]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Enqueue {
    /// It is in the lane.
    Queued,
    /// It is in the lane and others have given way.
    Displaced,
    /// It is not in the lane; the drop is counted and will be told.
    Dropped,
    /// Control alone has filled the lane, past what may be laid to the shard's own haste: the connection has to close with
    /// 1013.
    Overflow,
}

/// What a lane's changes are booked in.
#[derive(Debug)]
pub struct Books<'a> {
    /// The shard's counters.
    pub counters: &'a mut Counters,
    /// Where blocks go back to.
    pub pool: &'a mut FramePool,
    /// What empty lanes have left for the next one that gets a message.
    pub queues: &'a mut SpareQueues<Message>,
}

/// A connection's outbound queue.
#[derive(Debug, Default)]
pub struct Lane {
    queue: VecDeque<Message>,
    /// Wire bytes of everything queued, the sent part of the front included. No more than `outbox.bytes_max`, a message and
    /// what a room remembers, which is far from four gigabytes.
    bytes: u32,
    /// Bytes of the front message that the kernel has taken.
    front_sent: u32,
    /// Messages from the front that the current send names.
    in_flight: u8,
    /// Events at the tail that wait for company.
    waiting: u8,
    /// Whether a send is out.
    pub sending: bool,
    /// Whether the socket was found full and has not been writable since.
    pub blocked: bool,
    /// Whether the shard has it on its list for the end of the turn.
    pub dirty: bool,
    /// Whether events may share a text frame.
    pub batches: bool,
    /// When the waiting events leave at the latest, while there are any.
    wait_until: Micros,
    /// When the socket was first found full since the lane was last empty; zero when it was not.
    blocked_since: Micros,
    /// Lines of the front batch that have left.
    batch_lines: u16,
    /// Messages that are told again.
    replayed: u16,
    /// Messages at the front that were there when the socket was first found full since the lane was last empty.
    before_block: u16,
    drops: Option<Box<[DropNote; 3]>>,
    dropped: u32,
}

impl Lane {
    /// Messages in the lane.
    pub fn len(&self) -> usize {
        self.queue.len()
    }

    /// Whether nothing is in the lane.
    pub fn is_empty(&self) -> bool {
        self.queue.is_empty()
    }

    /// Bytes in the lane.
    pub fn bytes(&self) -> usize {
        self.bytes as usize
    }

    /// Messages dropped so far.
    pub fn dropped(&self) -> u64 {
        self.dropped.into()
    }

    /// When the socket was first found full since the lane was last empty.
    pub fn blocked_since(&self) -> Option<Micros> {
        (self.blocked_since.0 > 0).then_some(self.blocked_since)
    }

    /// When the waiting events leave at the latest.
    pub fn wait_until(&self) -> Option<Micros> {
        (self.waiting > 0).then_some(self.wait_until)
    }

    /// Whether there is something that should leave now.
    pub fn ready(&self) -> bool {
        !self.sending && !self.blocked && self.queue.len() > usize::from(self.waiting)
    }

    /// Puts a message at the end; others may have to give way by class. `wait` is how long an event may wait for
    /// company, if it may.
    pub fn push(
        &mut self,
        message: Message,
        wait: Option<Micros>,
        limits: &Outbox,
        books: &mut Books<'_>,
    ) -> Enqueue {
        let now = message.at;
        let size = message.size();
        let outcome = if message.replayed || self.fits(size, limits) {
            Enqueue::Queued
        } else {
            self.make_room(&message, limits, books)
        };
        if matches!(outcome, Enqueue::Dropped | Enqueue::Overflow) {
            self.note_drop(message.class, message.seq, DropReason::Full, books.counters);
            books.pool.recycle(message.frame);
            return outcome;
        }
        match wait.filter(|_| self.batches && message.shape == Shape::Event) {
            Some(span) => {
                if self.waiting == 0 {
                    self.wait_until = now + span;
                }
                self.waiting += 1;
            }
            None => self.end_wait(now, books.counters),
        }
        self.bytes += size as u32;
        self.replayed += u16::from(message.replayed);
        books.counters.queued_messages += 1;
        books.counters.queued_bytes += size as u64;
        books.queues.push(&mut self.queue, message);
        if self.waiting >= WAITING_MAX {
            self.end_wait(now, books.counters);
        }
        outcome
    }

    /// The wait is over: what waited is due now.
    pub fn end_wait(&mut self, now: Micros, counters: &mut Counters) {
        let from = self.queue.len() - usize::from(std::mem::take(&mut self.waiting));
        for message in self.queue.range_mut(from..).filter(|message| message.shape == Shape::Event) {
            counters.coalesce_wait_us.observe(now.since(message.at).0);
            message.at = now;
        }
    }

    /// Whether something in it is told again.
    pub fn replays(&self) -> bool {
        self.replayed > 0
    }

    /// Drops everything of one response that the kernel has not been given. How many frames of audio that were, in
    /// whichever form.
    pub fn flush_response(&mut self, response: u32, books: &mut Books<'_>) -> usize {
        let mut frames = 0;
        while let Some(at) = self.find_removable(|m| m.response == response) {
            let message = &self.queue[at];
            frames += usize::from(message.shape == Shape::Audio || message.class == Class::Audio);
            self.remove(at, DropReason::Flushed, books);
        }
        frames
    }

    /// Empties the lane but for what the kernel has begun, to the end of its batch, and for the answer without which nothing
    /// that follows could be read: only a goodbye may follow. Drops that the client has not been told of are left for
    /// [`Self::take_untold`].
    pub fn abandon(&mut self, books: &mut Books<'_>) {
        let unanswered = self.queue.front().is_some_and(|front| front.shape == Shape::Answer);
        let mut begun = self.begun().max(usize::from(unanswered));
        while begun > 0
            && begun < self.queue.len()
            && matches!(self.queue[begun - 1].shape, Shape::BatchFirst { .. } | Shape::BatchLine)
        {
            begun += 1;
        }
        while self.queue.len() > begun {
            self.remove(self.queue.len() - 1, DropReason::Closed, books);
        }
    }

    /// Empties the lane: the connection is gone.
    pub fn clear(&mut self, books: &mut Books<'_>) {
        (self.in_flight, self.front_sent, self.sending) = (0, 0, false);
        (self.waiting, self.drops) = (0, None);
        while let Some(message) = self.queue.pop_front() {
            self.dropped += 1;
            books.counters.dropped[DropReason::Closed as usize][message.class as usize] += 1;
            self.count_out(&message, books.counters);
            books.pool.recycle(message.frame);
        }
        books.queues.reclaim(&mut self.queue);
    }

    /// The first message that may still be taken out and meets the condition. What the kernel has been given or
    /// has begun, and a batch once formed, has to stay.
    fn find_removable(&self, wanted: impl Fn(&Message) -> bool) -> Option<usize> {
        (self.begun()..self.queue.len()).find(|&at| {
            let message = &self.queue[at];
            !message.in_batch() && !message.replayed && wanted(message)
        })
    }

    /// Messages that the kernel has been given or has taken a part of. A line at the front whose batch has lost its first is
    /// such a part, though nothing of its own has left: the header of its message has.
    fn begun(&self) -> usize {
        let in_batch = |front: &Message| matches!(front.shape, Shape::BatchLine | Shape::BatchLast);
        let front_begun = self.front_sent > 0 || self.queue.front().is_some_and(in_batch);
        usize::from(self.in_flight).max(usize::from(front_begun))
    }

    fn remove(&mut self, at: usize, reason: DropReason, books: &mut Books<'_>) {
        if at + usize::from(self.waiting) >= self.queue.len() {
            self.waiting -= 1;
        }
        let Some(message) = self.queue.remove(at) else { return };
        self.before_block -= u16::from(at < usize::from(self.before_block));
        self.count_out(&message, books.counters);
        match reason {
            // The client asked for the one, and can't be told of the other.
            DropReason::Flushed | DropReason::Closed => {
                self.dropped += 1;
                books.counters.dropped[reason as usize][message.class as usize] += 1;
            }
            _ => self.note_drop(message.class, message.seq, reason, books.counters),
        }
        books.pool.recycle(message.frame);
        books.queues.reclaim(&mut self.queue);
    }

    fn note_drop(&mut self, class: Class, seq: u64, reason: DropReason, counters: &mut Counters) {
        self.dropped += 1;
        counters.dropped[reason as usize][class as usize] += 1;
        if cfg!(feature = "planted-bug") && reason == DropReason::Aged {
            // Planted: late audio goes without a word. The simulation has to find it.
            return;
        }
        self.drops.get_or_insert_default()[class as usize].add(seq);
    }

    /// Takes the drops that the client should be told of, once the lane has room for the news.
    pub fn take_drops(&mut self, limits: &Outbox) -> Option<Box<[DropNote; 3]>> {
        if self.drops.is_none() || self.half_full(limits) { None } else { self.drops.take() }
    }

    /// Takes the drops that the client will not be told of any more on this connection.
    pub fn take_untold(&mut self) -> Option<Box<[DropNote; 3]>> {
        self.drops.take()
    }

    fn count_out(&mut self, message: &Message, counters: &mut Counters) {
        let size = message.size();
        self.bytes -= size as u32;
        self.replayed -= u16::from(message.replayed);
        counters.queued_messages -= 1;
        counters.queued_bytes -= size as u64;
    }

    /// Names what the next send carries, forming batches on the way. What still waits for company is left.
    pub fn gather(&mut self, into: &mut Gather, counters: &mut Counters) {
        let due = self.queue.len() - usize::from(self.waiting);
        let mut at = 0;
        let mut skip = self.front_sent;
        // The first event of a batch takes two parts: the header is its own.
        while at < due && into.parts() + 1 < PARTS_MAX && into.len() < SEND_BYTES_MAX {
            if self.batches && skip == 0 && self.queue[at].shape == Shape::Event {
                self.form_batch(at, due, counters);
            }
            self.queue[at].gather(skip, into);
            skip = 0;
            at += 1;
        }
        self.in_flight = at as u8;
        self.sending = at > 0;
    }

    /// Makes one text message of the due events that follow each other from `at`; one alone stays as it is.
    fn form_batch(&mut self, at: usize, due: usize, counters: &mut Counters) {
        let mut bytes = 0;
        let mut lines = 0;
        for message in self.queue.range(at..due) {
            let more = message.frame.payload().len() + 1;
            if message.shape != Shape::Event || (lines > 0 && bytes + more > BATCH_BYTES_MAX) {
                break;
            }
            bytes += more;
            lines += 1;
        }
        if lines < 2 {
            return;
        }
        let (long, len) = server_header(TEXT, bytes - 1);
        let header = [long[0], long[1], long[2], long[3]];
        let before: usize = self.queue.range(at..at + lines).map(Message::size).sum();
        for message in self.queue.range_mut(at..at + lines) {
            message.shape = Shape::BatchLine;
        }
        self.queue[at].shape = Shape::BatchFirst { header, len: len as u8 };
        self.queue[at + lines - 1].shape = Shape::BatchLast;
        let after: usize = self.queue.range(at..at + lines).map(Message::size).sum();
        self.bytes = self.bytes + after as u32 - before as u32;
        counters.queued_bytes = counters.queued_bytes + after as u64 - before as u64;
    }

    /// The kernel took `bytes` of what the last send named; what it has all of leaves the lane. True when it did not
    /// take everything.
    pub fn sent(&mut self, now: Micros, bytes: usize, books: &mut Books<'_>) -> bool {
        self.sending = false;
        let named = std::mem::take(&mut self.in_flight);
        let mut whole = 0;
        let mut left = bytes + self.front_sent as usize;
        while let Some(front) = self.queue.front() {
            let size = front.size();
            if left < size {
                break;
            }
            left -= size;
            whole += 1;
            self.leave(now, books);
        }
        self.front_sent = left as u32;
        if self.queue.is_empty() {
            self.blocked_since = Micros(0);
            books.queues.reclaim(&mut self.queue);
        }
        whole < named
    }

    /// Adds a message past every bound: the last one before the end.
    pub fn force(&mut self, message: Message, now: Micros, books: &mut Books<'_>) {
        self.end_wait(now, books.counters);
        self.bytes += message.size() as u32;
        books.counters.queued_messages += 1;
        books.counters.queued_bytes += message.size() as u64;
        books.queues.push(&mut self.queue, message);
    }

    fn leave(&mut self, now: Micros, books: &mut Books<'_>) {
        let Some(message) = self.queue.pop_front() else { return };
        self.before_block = self.before_block.saturating_sub(1);
        self.count_out(&message, books.counters);
        let counters = &mut *books.counters;
        counters.send_latency_us.observe(now.since(message.at).0);
        match message.shape {
            Shape::Audio => counters.frames_sent += 1,
            Shape::Event | Shape::Compressed => {
                counters.events_sent += 1;
                counters.texts_sent += 1;
                counters.batch_size.observe(1);
            }
            Shape::BatchFirst { .. } | Shape::BatchLine => {
                counters.events_sent += 1;
                self.batch_lines += 1;
            }
            Shape::BatchLast => {
                counters.events_sent += 1;
                counters.texts_sent += 1;
                counters.batch_size.observe(u64::from(std::mem::take(&mut self.batch_lines)) + 1);
            }
            Shape::Answer | Shape::Whole => {}
        }
        books.pool.recycle(message.frame);
    }

    /// The socket took only a part, or nothing: from now on the client is slow, until the lane is empty.
    pub fn block(&mut self, now: Micros) {
        self.sending = false;
        self.in_flight = 0;
        self.blocked = true;
        if !self.queue.is_empty() && self.blocked_since().is_none() {
            self.blocked_since = now;
            self.before_block = u16::try_from(self.queue.len()).unwrap_or(u16::MAX);
        }
    }

    /// The socket takes bytes again. A lane that was emptied otherwise meanwhile makes nobody slow.
    pub fn unblock(&mut self) {
        self.blocked = false;
        if self.queue.is_empty() {
            self.blocked_since = Micros(0);
        }
    }
}

//! What a lane may hold, and what gives way when it is full.

use super::super::super::config::Outbox;
use super::super::super::counters::DropReason;
use super::super::super::event::Class;
use super::super::message::Message;
use super::{Books, Enqueue, Lane};

/// How many times `outbox.messages_max` a lane holds at most while its socket has refused nothing: what several members may
/// say at once, each within its limits, before a turn ends and the first of it is sent.
const HASTE_FACTOR: usize = 4;

impl Lane {
    /// Whether the lane is at least half full.
    pub(super) fn half_full(&self, limits: &Outbox) -> bool {
        is_full(2, self.queue.len(), self.bytes(), limits)
    }

    /// Whether what is no part of a response fills at least half of the lane: its connection should not be read from. A
    /// response is left out, because what is read may be what cancels it.
    pub fn half_full_of_answers(&self, limits: &Outbox) -> bool {
        self.is_full_of_answers(2, limits)
    }

    /// Whether that has drained too little to read on.
    pub fn quarter_full_of_answers(&self, limits: &Outbox) -> bool {
        self.is_full_of_answers(4, limits)
    }

    fn is_full_of_answers(&self, part: usize, limits: &Outbox) -> bool {
        // Few lanes come so far that it is worth a look at what is in them.
        is_full(part, self.queue.len(), self.bytes(), limits) && {
            let answers = self.queue.iter().filter(|message| message.response == 0);
            let (count, bytes) = answers.fold((0, 0), |(n, bytes), message| (n + 1, bytes + message.size()));
            is_full(part, count, bytes, limits)
        }
    }

    /// Whether there is room for so many bytes beside what is in the lane. What is told again takes up none.
    pub(super) fn fits(&self, bytes: usize, limits: &Outbox) -> bool {
        let messages = self.live();
        messages == 0 || (messages < limits.messages_max && self.has_bytes_for(bytes, limits))
    }

    /// Whether a control message may be put in though there are too many: of those that came while the socket took
    /// everything it is not the client that they wait for, but only the end of a turn.
    fn may_exceed(&self, bytes: usize, limits: &Outbox) -> bool {
        let before_block = self.blocked_since().map_or(usize::MAX, |_| self.before_block.into());
        let since_block = self.queue.iter().skip(before_block).filter(|message| !message.replayed).count();
        since_block < limits.messages_max
            && self.live() < limits.messages_max * HASTE_FACTOR
            && self.has_bytes_for(bytes, limits)
    }

    /// Messages that are not told again.
    fn live(&self) -> usize {
        self.queue.len() - usize::from(self.replayed)
    }

    fn has_bytes_for(&self, bytes: usize, limits: &Outbox) -> bool {
        self.bytes() + bytes <= limits.bytes_max
            || (self.replays() && self.bytes() - self.replayed_bytes() + bytes <= limits.bytes_max)
    }

    fn replayed_bytes(&self) -> usize {
        self.queue.iter().filter(|message| message.replayed).map(Message::size).sum()
    }

    /// Lets others give way to `message`: for audio what is too old, then what is droppable, then the oldest audio;
    /// for control what is droppable, then audio.
    pub(super) fn make_room(&mut self, message: &Message, limits: &Outbox, books: &mut Books<'_>) -> Enqueue {
        let victims: &[(Class, DropReason)] = match message.class {
            Class::Control => {
                &[(Class::Droppable, DropReason::Displaced), (Class::Audio, DropReason::Displaced)]
            }
            Class::Audio => &[
                (Class::Audio, DropReason::Aged),
                (Class::Droppable, DropReason::Displaced),
                (Class::Audio, DropReason::Full),
            ],
            Class::Droppable => &[],
        };
        let size = message.size();
        for &(class, reason) in victims {
            while !self.fits(size, limits) {
                let old = |m: &Message| message.at.since(m.at) > limits.audio_age_max;
                let victim = |m: &Message| m.class == class && (reason != DropReason::Aged || old(m));
                let Some(at) = self.find_removable(victim) else { break };
                self.remove(at, reason, books);
            }
        }
        match (self.fits(size, limits), message.class) {
            (true, _) => Enqueue::Displaced,
            (false, Class::Control) if self.may_exceed(size, limits) => Enqueue::Queued,
            (false, Class::Control) => Enqueue::Overflow,
            (false, _) => Enqueue::Dropped,
        }
    }
}

/// Whether so much is at least this part of what a lane may hold.
fn is_full(part: usize, messages: usize, bytes: usize, limits: &Outbox) -> bool {
    messages * part >= limits.messages_max || bytes * part >= limits.bytes_max
}

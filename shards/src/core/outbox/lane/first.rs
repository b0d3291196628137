//! What goes ahead of everything that may be lost.

use super::super::super::config::Outbox;
use super::super::super::event::Class;
use super::super::message::Message;
use super::{Books, Enqueue, Lane};

impl Lane {
    /// Puts a control message behind the last one that never gives way: ahead of droppable messages and audio, of which only
    /// what the kernel has begun, or a batch has taken, stays before it.
    pub fn push_first(&mut self, message: Message, limits: &Outbox, books: &mut Books<'_>) -> Enqueue {
        let outcome = self.push(message, None, limits, books);
        if matches!(outcome, Enqueue::Queued | Enqueue::Displaced)
            && let Some(message) = self.queue.pop_back()
        {
            let stays = |at: &usize| self.queue[*at].class == Class::Control || self.queue[*at].in_batch();
            let at = (self.begun()..self.queue.len()).rfind(stays).map_or(self.begun(), |last| last + 1);
            self.queue.insert(at.min(self.queue.len()), message);
        }
        outcome
    }
}

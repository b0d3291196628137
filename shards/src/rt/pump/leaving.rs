//! How a shard leaves: told to drain, sent away, or stopped, it gives back what it holds in stages.

use std::io;

use super::{Pause, Pump};
use crate::core::{Input, Micros, ShardMessage};

/// How far the shard is from leaving.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Stage {
    /// It serves.
    Serving,
    /// It says goodbye to its connections; the listener stays open. It waits for the other shards, whose clients may still
    /// need the streams of channels that it owns.
    Draining,
    /// They are gone; accepts come back.
    Sweeping,
    /// The listener is closed; what it still brought is being answered.
    Emptying,
    /// Nothing is left, or it was told to leave at once.
    Leaving,
}

impl Pump {
    /// Begins to say goodbye over the window.
    pub(super) fn drain(&mut self, window: Micros) {
        // Clients are told how long they have: that begins now, and not when this turn did.
        self.now = self.clock.now();
        self.tell(Input::Drain { window });
        self.begin_to_leave();
    }

    pub(super) fn evacuate(&mut self) {
        self.evacuated = true;
        self.tell(Input::Evacuate);
        self.begin_to_leave();
    }

    fn begin_to_leave(&mut self) {
        if self.stage == Stage::Serving {
            self.stage = Stage::Draining;
        }
    }

    /// The stages of leaving, each entered when the one before is complete.
    pub(super) fn go_on_leaving(&mut self) -> io::Result<()> {
        if self.stage == Stage::Draining && self.has_said_everything() {
            self.say_it_is_empty();
        }
        match self.stage {
            Stage::Draining if self.nobody_needs_it() => {
                self.wire.cancel_accepts();
                self.stage = Stage::Sweeping;
            }
            Stage::Sweeping if self.wire.accepts_are_back() => {
                self.wire.close_listener()?;
                self.mesh.leave();
                self.stage = Stage::Emptying;
            }
            Stage::Emptying if self.is_empty() => self.stage = Stage::Leaving,
            _ => {}
        }
        Ok(())
    }

    fn has_said_everything(&self) -> bool {
        self.shard.connections() == 0 && !self.shard.has_reports() && !self.shard.has_remembers()
    }

    fn say_it_is_empty(&mut self) {
        if !std::mem::replace(&mut self.emptied, true) {
            self.roll.emptied();
        }
    }

    fn nobody_needs_it(&self) -> bool {
        let alone = self.evacuated || self.roll.have_all_emptied() || self.roll.has_lost_one();
        alone && self.has_said_everything()
    }

    fn is_empty(&self) -> bool {
        self.shard.connections() == 0 && self.wire.descriptors() == 0 && !self.mesh.may_have_messages()
    }

    pub(super) fn leave(&mut self) -> io::Result<Pause> {
        let connections = self.shard.connections();
        self.shard.note_cut(self.clock.now(), &mut self.fx);
        self.carry_out();
        self.deliver_last_remembers();
        self.deliver_last_reports();
        self.mesh.leave();
        while let Some(message) = self.mesh.receive() {
            if let ShardMessage::Adopt(handoff) | ShardMessage::Serve(handoff) = message {
                self.note_refused(&handoff);
                self.wire.refuse(handoff.socket, true);
            }
        }
        self.wire.leave()?;
        Ok(Pause::Left { connections })
    }
}

//! Rooms as a store keeps them, and rooms that come from there.

use super::super::counters::Refusal;
use super::super::ids::SessionId;
use super::super::memory::Memory;
use super::super::recall::LastEnd;
use super::super::room::Room;
use super::super::time::Micros;
use super::Shard;

impl Shard {
    /// What a store has to keep of a room, its events after the one of that number; nothing when there is no such room.
    pub fn memory(&self, session: &SessionId, since_seq: u64) -> Option<Memory> {
        let key = self.find_room(session)?;
        let room = self.rooms.find(key)?;
        Some(room.memory(self.epoch(key, room), since_seq))
    }

    /// Makes the room that a store remembers; until its first member is there it lingers. `whole` says that the store was
    /// told all of it before it ended.
    ///
    /// # Errors
    /// When there is such a room already, or no place for one.
    pub fn recall(&mut self, now: Micros, mut memory: Memory, whole: bool) -> Result<(), Refusal> {
        if self.find_room(&memory.session).is_some() || !self.take_room(now) {
            return Err(Refusal::Unavailable);
        }
        if self.has_engine(memory.engine).is_err() {
            memory.engine = self.config.room.engine;
        }
        let key = self.next_room();
        let end = if whole { LastEnd::Clean } else { LastEnd::Unclean { epoch: self.fresh_epoch(key) } };
        let room = Room::recalled(memory, key.generation, now, end, self.past_limits());
        let engine = room.kind.name();
        self.insert_room(key, room);
        self.announce(now, key, "events:room.opened", || format!(r#","engine":"{engine}","recalled":true"#));
        self.linger(now, key);
        Ok(())
    }
}

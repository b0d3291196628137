//! The end of a node, as its clients see it: a warning at once, and a goodbye at a time of their own. When the node
//! can't go on there is no time for that, and everybody is sent away at once.

use super::super::conn::Phase;
use super::super::event::ServerEvent;
use super::super::ids::ConnKey;
use super::super::report::RoomEnd;
use super::super::time::Micros;
use super::{Effects, Shard};

impl Shard {
    /// From now on nobody gets a room. Every open connection is told when it will be closed; the moments are spread
    /// over the first four fifths of the window, so that the rest is left for goodbyes, and other nodes are not
    /// stormed.
    pub(super) fn drain(&mut self, now: Micros, window: Micros) {
        if self.draining.is_some() {
            return;
        }
        self.draining = Some(now + window);
        let spread = window.0 / 5 * 4;
        for key in self.open_keys() {
            let wait = Micros(self.rng.below(spread.max(1)));
            if let Some(Phase::Open(open)) = self.conn(key).map(|conn| &mut conn.phase) {
                open.drain_at = now + wait;
            }
            let event = ServerEvent::SessionDraining { reconnect_in_ms: wait.as_ms() };
            self.tell(now, key, &event);
            self.arm(now, key);
        }
        self.end_idle_posts(now);
        self.end_lingering(now);
    }

    /// Everybody is told to come back, at once: the node ends in a moment.
    pub(super) fn evacuate(&mut self, now: Micros, fx: &mut Effects) {
        self.draining = Some(now);
        for key in self.open_keys() {
            self.close(now, key, 1012, "the node restarts: come back", fx);
        }
        self.end_lingering(now);
    }

    fn open_keys(&self) -> Vec<ConnKey> {
        self.conns
            .iter()
            .filter(|(_, conn)| matches!(conn.phase, Phase::Open(_)))
            .map(|(index, conn)| ConnKey { index, generation: conn.generation })
            .collect()
    }

    /// Rooms that nobody comes back to end, as far as there is room for their reports.
    pub(super) fn end_lingering(&mut self, now: Micros) {
        while !self.reports_full()
            && !self.last_words_full()
            && let Some((_, key)) = self.lingering.pop_front()
        {
            if self.room(key).is_some_and(|room| room.ends_at.0 > 0) {
                self.end_room(now, key, RoomEnd::Drained);
            }
        }
    }

    pub(super) fn drain_goodbye(&mut self, now: Micros, key: ConnKey, fx: &mut Effects) {
        self.close(now, key, 1001, "draining: come back", fx);
    }
}

//! Upstream sessions of rooms: their addresses, limits, handshakes and messages.

use super::super::ids::RoomKey;
use super::super::time::Micros;
use super::super::upstream::{Line, UpstreamNews, UpstreamOrder};
use super::Shard;

impl Shard {
    /// Does what a room's engine asks of an upstream session.
    pub(super) fn carry_upstream(&mut self, _key: RoomKey, order: UpstreamOrder) {
        if let UpstreamOrder::Send { message, .. } = order {
            self.pool.discard(message);
        }
    }

    /// Tells a room's engine what became of one.
    #[expect(dead_code, reason = "nothing upstream yet")]
    fn upstream_news(&mut self, now: Micros, key: RoomKey, line: Line, news: UpstreamNews<'_>) {
        self.with_engine(now, key, |engine, cx| engine.upstream(line, news, cx));
    }
}

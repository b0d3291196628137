//! Rooms' meters and records: what they are told of, and what comes of it.
//!
//! Everything passes here that an engine gives and that makes it answer; rooms whose engine makes no responses pass by. A
//! room has a meter from the first audio, text or request on.

use super::super::engine::{Audience, ResponseNumber};
use super::super::event::{ClientCommand, Metrics, PartRef, ServerEvent};
use super::super::ids::RoomKey;
use super::super::report::Record;
use super::super::room::Room;
use super::super::time::Micros;
use super::super::usage::{Meter, News, ResponseUsage, Said, news};
use super::Shard;

impl Shard {
    /// A member's command, before its engine has it: who asks for a response begins to wait.
    pub(super) fn meter_command(&mut self, now: Micros, key: RoomKey, command: &ClientCommand) {
        if matches!(command, ClientCommand::ResponseCreate(_))
            && let Some(meter) = self.meter(key)
        {
            meter.turn_over(now);
        }
    }

    /// A frame of a response's audio that goes into lanes, if there are any.
    pub(super) fn meter_audio(
        &mut self,
        now: Micros,
        key: RoomKey,
        bytes: usize,
        response: ResponseNumber,
        part: Option<&PartRef>,
    ) {
        let Some(room) = self.rooms.find_mut(key) else { return };
        if room.kind.has_responses() && !room.members.is_empty() {
            let format = room.settings.format;
            room.kept.get_or_insert_default().meter.spoke(now, format, bytes, response, part);
        }
    }

    /// What is queued of a response is taken back.
    pub(super) fn meter_flush(&mut self, key: RoomKey, response: ResponseNumber) {
        if let Some(meter) = self.meter(key) {
            meter.interrupted(response);
            self.counters.interruptions += 1;
        }
    }

    /// An event that its room has been told.
    pub(super) fn follow(&mut self, now: Micros, key: RoomKey, event: &ServerEvent) {
        let news = news(event);
        if news == News::Nothing {
            return;
        }
        let Some(meter) = self.meter(key) else { return };
        match news {
            News::Nothing => {}
            News::TurnOver => meter.turn_over(now),
            News::Committed => meter.committed(now),
            News::Cleared => meter.cleared(),
            News::Made { id } => meter.made(now, &id),
            News::Said(said) => self.write_down(now, key, said),
            News::Over { id, outcome, reason, said } => {
                said.into_iter().for_each(|said| self.write_down(now, key, said));
                let Some(room) = self.rooms.find_mut(key) else { return };
                let meter = &mut room.kept.get_or_insert_default().meter;
                if let Some(usage) = meter.over(now, room.since, &id, outcome, reason.as_deref()) {
                    self.response_over(now, key, usage);
                }
            }
        }
    }

    /// The responses of a room that ends are over as well.
    pub(super) fn end_responses(&mut self, now: Micros, key: RoomKey) {
        use super::super::usage::Outcome;
        let Some(room) = self.rooms.find_mut(key) else { return };
        let Some(kept) = &mut room.kept else { return };
        for id in kept.meter.unfinished() {
            let usage = kept.meter.over(now, room.since, &id, Outcome::Incomplete, Some("room_ended"));
            if let Some(usage) = usage {
                self.counters.responses.count(&usage);
                if let Some(record) = &mut kept.record {
                    record.response(usage);
                }
            }
        }
    }

    fn response_over(&mut self, now: Micros, key: RoomKey, usage: ResponseUsage) {
        self.counters.responses.count(&usage);
        self.announce(now, key, "events:response.done", || {
            let id = serde_json::Value::from(&*usage.id);
            format!(r#","response_id":{id},"status":"{}""#, usage.outcome.name())
        });
        if let Some(record) = self.record(key) {
            record.response(usage.clone());
        }
        self.tell_metrics(now, key, usage);
    }

    fn write_down(&mut self, now: Micros, key: RoomKey, said: Said<'_>) {
        let Some(reports) = &self.config.reports else { return };
        let bytes_max = reports.transcript_bytes_max;
        let since = self.room(key).map_or(now, |room| room.since);
        if let Some(record) = self.record(key) {
            record.said(now.since(since), said, bytes_max);
        }
    }

    /// The meter of a room whose engine makes responses.
    fn meter(&mut self, key: RoomKey) -> Option<&mut Meter> {
        let room = self.rooms.find_mut(key).filter(|room| room.kind.has_responses())?;
        Some(&mut room.kept.get_or_insert_default().meter)
    }

    /// What is written down of a room, where somebody takes reports.
    fn record(&mut self, key: RoomKey) -> Option<&mut Record> {
        self.config.reports.as_ref()?;
        let room: &mut Room = self.rooms.find_mut(key)?;
        let record = room.kept.get_or_insert_default().record.get_or_insert_default();
        record.members(room.members.len());
        Some(record)
    }

    /// Tells the members whose dialect has the event. It belongs to no history, so it has no number.
    fn tell_metrics(&mut self, now: Micros, key: RoomKey, usage: ResponseUsage) {
        let Some(room) = self.room(key) else { return };
        let session = room.kept.get_or_insert_default().meter.totals();
        let event = ServerEvent::Metrics(Box::new(Metrics { response: usage, session }));
        self.tell_members(now, key, Audience::All, &event, None, 0);
    }
}

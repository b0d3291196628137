//! A room as a store keeps it, and a room made of what a store has.

use smallvec::SmallVec;

use super::arrivals::Queue;
use super::memory::{Earlier, KeptEvent, Memory};
use super::past::{Numbering, Past, PastEvent, PastLimits};
use super::room::{Kept, Room};
use super::time::Micros;

/// Member numbers that are left out when it is not known which were given out last: whoever has one of them keeps it, and
/// nobody else gets it.
const MEMBERS_UNKNOWN: u16 = 256;

/// How a room ended that a store remembers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum LastEnd {
    /// The store was told all of it: its numbering goes on.
    Clean,
    /// The store was told all up to some moment: what follows is another numbering, of this name.
    Unclean {
        /// The name.
        epoch: u64,
    },
}

impl Room {
    /// What a store has to keep of it: of its events those after the one of that number, or all that are kept where they
    /// don't reach so far back.
    pub(super) fn memory(&self, epoch: u64, since_seq: u64) -> Memory {
        let past = self.past();
        let (held, latest) = (self.held().events, self.seq);
        let since = since_seq.clamp(latest - held, latest);
        let events =
            past.and_then(|past| past.after(since, latest)).into_iter().flatten().map(kept).collect();
        Memory {
            session: self.session_id.clone(),
            epoch,
            earlier: past
                .and_then(|past| past.numbering.as_ref())
                .map_or_else(Vec::new, |n| n.earlier.clone()),
            seq: latest,
            oldest: latest - held + 1,
            last_member: self.last_member,
            last_id: self.last_id,
            engine: self.kind,
            settings: self.settings,
            state: self.state().map(Into::into),
            extras: self.kept.as_ref().and_then(|kept| kept.extras.clone()),
            model: self.kept.as_ref().and_then(|kept| kept.model.clone()),
            client_seqs: past.map_or_else(Vec::new, |past| past.client_seqs().to_vec()),
            events,
        }
    }

    /// The room that a store remembers, without members.
    pub(super) fn recalled(
        memory: Memory,
        generation: u32,
        now: Micros,
        end: LastEnd,
        limits: PastLimits,
    ) -> Self {
        let mut past = Past::default();
        for KeptEvent { to, class, json } in &memory.events {
            past.push(*to, *class, json, limits);
        }
        let Memory { epoch, earlier, seq, last_member, .. } = memory;
        let members = last_member.checked_add(MEMBERS_UNKNOWN);
        let (numbering, last_member) = match (end, members) {
            (LastEnd::Clean, _) => (Numbering { epoch, earlier, recalled: true }, last_member),
            (LastEnd::Unclean { epoch: fresh }, Some(members)) => {
                (Numbering::begin(fresh, Earlier { epoch, seq, members }, earlier), members)
            }
            // All are given out again: nobody is known by one any more.
            (LastEnd::Unclean { epoch: fresh }, None) => {
                (Numbering { epoch: fresh, earlier: Vec::new(), recalled: true }, 0)
            }
        };
        if last_member > 0 {
            for (member, seq) in memory.client_seqs {
                past.take_client_seq(member, seq);
            }
        }
        past.numbering = Some(Box::new(numbering));
        let Memory { state, extras, model, .. } = memory;
        Self {
            generation,
            session_id: memory.session,
            kind: memory.engine,
            engine: None,
            settings: memory.settings,
            only_events: false,
            kept: Some(Box::new(Kept {
                state,
                extras,
                model,
                past: Some(Box::new(past)),
                ..Kept::default()
            })),
            members: SmallVec::new(),
            inbound: Queue::default(),
            last_member,
            seq,
            audio_seq: 0,
            last_id: memory.last_id,
            since: now,
            ends_at: Micros(0),
            armed: Micros(0),
            frames_received: 0,
            frames_sent: 0,
        }
    }
}

fn kept(event: PastEvent<'_>) -> KeptEvent {
    let PastEvent { to, class, json: (front, back), .. } = event;
    KeptEvent { to, class, json: [front, back].concat().into() }
}

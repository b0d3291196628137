//! What one connection was promised, and whether it is kept: order, no duplicates, no silent gaps.

use std::collections::BTreeMap;

use serde_json::Value;

use super::wire::Speech;

/// One client's books of one connection.
#[derive(Debug, Default)]
pub(super) struct Ledger {
    /// Whether the room's engine can't change, so that what comes back is known.
    pub(super) pure: bool,
    /// Whether own speech comes back.
    pub(super) echoes: bool,
    pub(super) v1: bool,
    pub(super) welcomed: bool,
    last_seq: u64,
    /// Speech frames sent.
    pub(super) spoken: u32,
    /// Own frames that came back.
    returned: u32,
    next_return: u32,
    /// The next frame expected of each other speaker, and how many were missed.
    speakers: BTreeMap<(u16, u16), u32>,
    gaps: u64,
    told_audio: u64,
    pub(super) pings: u64,
    pub(super) pongs: u64,
    pub(super) commits: u64,
    pub(super) committed: u64,
    /// The last `room.send` of each sender.
    messages: BTreeMap<(u64, u64), u64>,
    pub(super) frames_seen: u64,
}

impl Ledger {
    pub(super) fn new(pure: bool, echoes: bool, v1: bool) -> Self {
        Self { pure, echoes, v1, ..Self::default() }
    }

    /// A binary message arrived. True when it is an own frame that came back.
    pub(super) fn binary(&mut self, own: (u16, u16), payload: &[u8]) -> Result<bool, String> {
        self.frames_seen += 1;
        if !self.welcomed {
            return Err("audio before session.created".into());
        }
        let mut audio = payload;
        if self.v1 {
            let [kind, flags, _, _, _, _, _, _, rest @ ..] = payload else {
                return Err(format!("a binary message of {} bytes without its header", payload.len()));
            };
            if *kind != 1 || *flags > 3 {
                return Err(format!("a binary header of kind {kind} and flags {flags}"));
            }
            audio = rest;
        }
        let Some(speech) = Speech::read(audio).filter(|_| self.pure) else {
            return if self.pure {
                Err(format!("{} bytes that nobody said", audio.len()))
            } else {
                Ok(false)
            };
        };
        if (speech.client, speech.number) == own {
            if !self.echoes {
                return Err("a relay returned a frame to its speaker".into());
            }
            if speech.seq < self.next_return || speech.seq >= self.spoken {
                return Err(format!("own frame {} came back, expected {}", speech.seq, self.next_return));
            }
            self.gaps += u64::from(speech.seq - self.next_return);
            self.next_return = speech.seq + 1;
            self.returned += 1;
            return Ok(true);
        }
        if speech.client == own.0 && speech.number < own.1 {
            // It was said over the connection that this one has taken over from.
            return Ok(false);
        }
        if self.echoes {
            return Err("another member's frame in a room that echoes".into());
        }
        let next = self.speakers.entry((speech.client, speech.number)).or_insert(speech.seq);
        if speech.seq < *next {
            return Err(format!(
                "frame {} of {}.{} after {}",
                speech.seq, speech.client, speech.number, *next
            ));
        }
        self.gaps += u64::from(speech.seq - *next);
        *next = speech.seq + 1;
        Ok(false)
    }

    /// An event arrived.
    pub(super) fn event(&mut self, text: &str) -> Result<(), String> {
        let event: Value = serde_json::from_str(text).map_err(|error| format!("{error} in {text:?}"))?;
        let kind = event["type"].as_str().ok_or_else(|| format!("an event without a type: {text}"))?;
        if event["event_id"].as_str().is_none_or(str::is_empty) {
            return Err(format!("an event without an id: {text}"));
        }
        if self.welcomed == (kind == "session.created") {
            return Err(format!("session.created has to come first and once: {text}"));
        }
        self.welcomed = true;
        let seq = event["seq"].as_u64();
        // What is told again belongs to another time, or was looked at before.
        let again = seq.is_some_and(|seq| seq <= self.last_seq);
        let told = if kind == "session.restored" { event["last_seq"].as_u64() } else { seq };
        self.last_seq = self.last_seq.max(told.unwrap_or(0));
        if again {
            return Ok(());
        }
        match kind {
            "pong" => {
                if event["t"].as_u64() != Some(self.pongs) {
                    return Err(format!("expected pong {}: {text}", self.pongs));
                }
                self.pongs += 1;
            }
            "input_audio_buffer.committed" => self.committed += 1,
            "outbox.dropped" => self.dropped(&event)?,
            "room.message" => self.message(&event["data"], text)?,
            _ => {}
        }
        Ok(())
    }

    fn dropped(&mut self, event: &Value) -> Result<(), String> {
        let count = event["count"].as_u64().filter(|&count| count > 0).ok_or("a drop of nothing")?;
        match event["class"].as_str() {
            Some("audio") => self.told_audio += count,
            Some("droppable") => {}
            _ => return Err(format!("a drop that may not be: {event}")),
        }
        Ok(())
    }

    /// Messages of one sender come in order and none is missing: they are control.
    fn message(&mut self, data: &Value, text: &str) -> Result<(), String> {
        let (Some(client), Some(number), Some(n)) =
            (data["c"].as_u64(), data["k"].as_u64(), data["n"].as_u64())
        else {
            return Ok(());
        };
        let last = self.messages.entry((client, number)).or_insert(n - 1);
        if n != *last + 1 {
            return Err(format!("message {n} after {last}: {text}"));
        }
        *last = n;
        Ok(())
    }

    /// Everything asked for has been answered: what is missing has to be what the client was told of.
    pub(super) fn settle(&self) -> Result<(), String> {
        if self.pongs != self.pings {
            return Err(format!("{} pings and {} pongs", self.pings, self.pongs));
        }
        if !self.pure {
            return Ok(());
        }
        if self.committed != self.commits {
            return Err(format!("{} commits and {} committed", self.commits, self.committed));
        }
        let missing = u64::from(self.spoken - self.returned);
        if self.echoes && missing != self.told_audio {
            return Err(format!("{missing} frames are missing, {} were told", self.told_audio));
        }
        if self.gaps > self.told_audio {
            return Err(format!(
                "{} frames are missing in between, {} were told",
                self.gaps, self.told_audio
            ));
        }
        Ok(())
    }

    /// Own frames that are still to come back, or were dropped.
    pub(super) fn outstanding(&self) -> u32 {
        self.spoken - self.next_return
    }

    pub(super) fn told_of_drops(&self) -> bool {
        self.told_audio > 0
    }
}

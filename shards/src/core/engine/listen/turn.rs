//! Whose turn it is to speak: from the first sound to the commit.

use super::recording::{Cut, Recording, WINDOW_MS};
use super::{Listener, ear};
use crate::core::engine::{Audience, EngineContext};
use crate::core::event::{
    CancelReason, Content, Item, ItemId, ItemName, ItemStatus, Role, ServerEvent, ServerVad,
};
use crate::core::frame::Draft;
use crate::core::ids::MemberNumber;
use crate::core::time::Micros;

/// How much of the silence after speech stays with it, so that it does not end abruptly.
const TAIL_MS: u64 = 100;

/// How much longer than the silence that ends a turn nothing at all may arrive: a client that sends nothing while
/// its user is silent has its turns ended as well, and a stall of the network is not taken for that.
const STALL: Micros = Micros::from_ms(1_000);

/// The floor: one member at a time speaks to the engine.
#[derive(Debug)]
pub(in super::super) struct Turn {
    holder: MemberNumber,
    recording: Recording,
    /// What the voice detector knows of it; nothing in manual turns.
    speech: Option<Speech>,
}

/// Speech that the voice detector has noticed.
#[derive(Debug)]
struct Speech {
    item: ItemId,
    start_ms: u64,
    /// Where it ended, as far as is known.
    end: Cut,
    /// When it counts as over if nothing more arrives.
    deadline: Micros,
}

impl Turn {
    /// When it counts as over if nothing more arrives.
    pub(in super::super) fn deadline(&self) -> Option<Micros> {
        self.speech.as_ref().map(|speech| speech.deadline)
    }

    /// Whether the voice detector watches over it.
    fn detected(&self) -> bool {
        self.speech.is_some()
    }
}

/// An engine that listens: what it does with what is heard, and how it hears.
pub(in super::super) trait Listening {
    /// What listens.
    fn listener(&mut self) -> &mut Listener;

    /// The newest item of the conversation.
    fn last_item(&self) -> Option<ItemName>;

    /// Adds an item to the conversation.
    fn add_item(&mut self, item: Item, cx: &mut EngineContext<'_>);

    /// An utterance is whole: the item of that name.
    fn take_utterance(&mut self, item: ItemName, recording: Recording);

    /// Answers the newest input, at once or as soon as the running response is done.
    fn answer_when_free(&mut self, cx: &mut EngineContext<'_>);

    /// Someone speaks into the response that runs, if one does.
    fn cancel(&mut self, reason: CancelReason, cx: &mut EngineContext<'_>);

    /// The room's format has changed: audio kept in the old one is of no use.
    fn forget_audio(&mut self, cx: &mut EngineContext<'_>);

    /// Takes a frame of a member's audio.
    fn hear(&mut self, from: MemberNumber, audio: &Draft, cx: &mut EngineContext<'_>) {
        let Some(vad) = cx.settings.turn_detection else {
            return self.hear_manual(from, audio.payload(), cx);
        };
        let floor = self.listener().turn.as_ref().map(|turn| turn.holder);
        let mut partial = std::mem::take(&mut self.listener().ears.of(from, floor).partial);
        ear::windows(self.listener().format, &mut partial, audio.payload(), |window| {
            self.hear_window(from, window, &vad, cx)
        });
        if let Some(ear) = self.listener().ears.get(from) {
            ear.partial = partial;
        }
        if let Some(turn) = self.listener().turn.as_mut().filter(|turn| turn.holder == from)
            && let Some(speech) = &mut turn.speech
        {
            speech.deadline = cx.now + Micros::from_ms(vad.silence_duration_ms.into()) + STALL;
        }
    }

    /// Without turn detection everything of the first to speak is kept until the commit.
    fn hear_manual(&mut self, from: MemberNumber, mut audio: &[u8], cx: &mut EngineContext<'_>) {
        let format = self.listener().format;
        while !audio.is_empty() {
            let new = || Turn { holder: from, recording: Recording::default(), speech: None };
            let turn = self.listener().turn.get_or_insert_with(new);
            if turn.holder != from {
                return;
            }
            let (fits, rest) = audio.split_at(turn.recording.room_for(format, audio.len()));
            turn.recording.push(format, fits);
            audio = rest;
            if turn.recording.is_full(format) {
                self.commit_turn(cx);
            }
        }
    }

    fn hear_window(
        &mut self,
        from: MemberNumber,
        window: &[u8],
        vad: &ServerVad,
        cx: &mut EngineContext<'_>,
    ) {
        let format = self.listener().format;
        let floor = self.listener().turn.as_ref().map(|turn| turn.holder);
        let ear = self.listener().ears.of(from, floor);
        ear.hear(format, window, vad, floor == Some(from));
        if floor != Some(from) {
            ear.keep(format, window, vad);
            if floor.is_none() && ear.vad.onset() {
                self.start_speech(from, cx);
            }
            return;
        }
        let quiet_ms = ear.vad.quiet_ms();
        let Some(turn) = &mut self.listener().turn else { return };
        turn.recording.push(format, window);
        if let Some(speech) = &mut turn.speech
            && quiet_ms <= TAIL_MS
        {
            speech.end = turn.recording.end();
        }
        let silence_ms = u64::from(vad.silence_duration_ms).max(WINDOW_MS);
        if quiet_ms >= silence_ms || turn.recording.is_full(format) {
            self.end_turn(vad, cx);
        }
    }

    fn start_speech(&mut self, from: MemberNumber, cx: &mut EngineContext<'_>) {
        let interrupts = cx.settings.turn_detection.is_some_and(|vad| vad.interrupt_response);
        let ear = self.listener().ears.of(from, None);
        let recording = std::mem::take(&mut ear.before);
        let start_ms = ear.heard_ms().saturating_sub(recording.duration_ms(self.listener().format));
        let item = ItemId(cx.next_id());
        let speech = Speech { item, start_ms, end: recording.end(), deadline: cx.now + STALL };
        self.listener().turn = Some(Turn { holder: from, recording, speech: Some(speech) });
        cx.event(Audience::All, ServerEvent::SpeechStarted { item, audio_start_ms: start_ms });
        if interrupts {
            self.cancel(CancelReason::TurnDetected, cx);
        }
    }

    /// Speech is over: commits it and answers, if that is what the session wants.
    fn end_turn(&mut self, vad: &ServerVad, cx: &mut EngineContext<'_>) {
        if let Some(turn) = &mut self.listener().turn
            && let Some(speech) = &turn.speech
        {
            turn.recording.cut_after(speech.end);
        }
        self.commit_turn(cx);
        if vad.create_response {
            self.answer_when_free(cx);
        }
    }

    /// Makes an item of what the turn holds so far.
    fn commit_turn(&mut self, cx: &mut EngineContext<'_>) {
        let Some(mut turn) = self.listener().turn.take() else { return };
        if let Some(ear) = self.listener().ears.get(turn.holder) {
            ear.clear();
        }
        let item = match turn.speech {
            Some(speech) => {
                let audio_end_ms = speech.start_ms + turn.recording.duration_ms(self.listener().format);
                cx.event(Audience::All, ServerEvent::SpeechStopped { item: speech.item, audio_end_ms });
                speech.item
            }
            None => ItemId(cx.next_id()),
        };
        turn.recording.settle();
        self.add_utterance(item, turn.recording, cx);
    }

    /// A client ends the utterance: everything that it sent counts.
    fn commit(&mut self, from: MemberNumber, event_id: Option<Box<str>>, cx: &mut EngineContext<'_>) {
        let format = self.listener().format;
        if self.listener().turn.is_none() {
            // Nothing was loud enough for the voice detector; who commits means it all the same.
            let recording =
                self.listener().ears.get(from).map(|ear| std::mem::take(&mut ear.before)).unwrap_or_default();
            self.listener().turn = Some(Turn { holder: from, recording, speech: None });
        }
        let Listener { ears, turn, .. } = self.listener();
        let Some(turn) = turn else { return };
        if let Some(ear) = ears.get(turn.holder).filter(|ear| !ear.partial.is_empty()) {
            turn.recording.push(format, &ear.partial);
        }
        if turn.recording.is_empty() {
            self.listener().turn = None;
            let message = "The input audio buffer is empty.";
            return cx.refuse(from, event_id, "input_audio_buffer_commit_empty", message);
        }
        self.commit_turn(cx);
    }

    /// A client empties the input buffer.
    fn clear(&mut self, from: MemberNumber, cx: &mut EngineContext<'_>) {
        let holder = self.listener().turn.take().map(|turn| turn.holder);
        for member in [Some(from), holder].into_iter().flatten() {
            if let Some(ear) = self.listener().ears.get(member) {
                ear.clear();
            }
        }
        cx.event(Audience::All, ServerEvent::Cleared);
    }

    /// A member is gone, and its turn with it.
    fn forget(&mut self, member: MemberNumber, cx: &mut EngineContext<'_>) {
        self.listener().ears.forget(member);
        if self.listener().turn.take_if(|turn| turn.holder == member).is_some() {
            cx.event(Audience::All, ServerEvent::Cleared);
        }
    }

    /// Follows the settings: audio kept in another format, or for another manner of taking turns, is of no use.
    fn follow_settings(&mut self, cx: &mut EngineContext<'_>) {
        let format = cx.settings.format;
        let detects = cx.settings.turn_detection.is_some();
        let stale_turn = self.listener().turn.as_ref().is_some_and(|turn| turn.detected() != detects);
        if self.listener().format == format && !stale_turn {
            return;
        }
        if self.listener().turn.take().is_some() {
            cx.event(Audience::All, ServerEvent::Cleared);
        }
        self.listener().ears.clear();
        if self.listener().format != format {
            self.listener().format = format;
            self.forget_audio(cx);
        }
    }

    /// A speaker from whom nothing came for long has stopped.
    fn notice_stall(&mut self, cx: &mut EngineContext<'_>) {
        let stalled = self.listener().deadline().is_some_and(|deadline| deadline <= cx.now);
        if let (true, Some(vad)) = (stalled, cx.settings.turn_detection) {
            self.end_turn(&vad, cx);
        }
    }

    fn add_utterance(&mut self, id: ItemId, recording: Recording, cx: &mut EngineContext<'_>) {
        cx.event(Audience::All, ServerEvent::Committed { item: id, previous: self.last_item() });
        let content = vec![Content::InputAudio(None)];
        let item = Item { id: id.into(), role: Role::User, status: ItemStatus::Completed, content };
        self.add_item(item, cx);
        self.take_utterance(id.into(), recording);
    }
}

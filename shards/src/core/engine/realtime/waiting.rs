//! What came in before there was a session to take it: in order, and bounded.

use std::collections::VecDeque;

use serde_json::Value;

use crate::core::event::AudioFormat;

/// Audio that waits at most.
const AUDIO_MS_MAX: usize = 10_000;
/// Commands that wait at most.
const MESSAGES_MAX: usize = 64;
/// Bytes of those commands at most: an item may hold audio.
const MESSAGE_BYTES_MAX: usize = 2 << 20;

/// One thing that waits.
#[derive(Debug)]
pub(super) enum Held {
    /// Audio in the room's format.
    Audio(Vec<u8>),
    /// A message.
    Message(Message),
}

/// A message for the model server, and what its going out means.
#[derive(Debug)]
pub(super) struct Message {
    /// JSON.
    pub(super) text: Vec<u8>,
    /// Its purpose.
    pub(super) what: What,
}

/// What a message is for.
#[derive(Debug)]
pub(super) enum What {
    /// Ends the utterance.
    Commit,
    /// Asks for a response.
    Ask,
    /// Adds this item.
    Item(Box<Value>),
    /// Anything else.
    Other,
}

/// It does not fit any more.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Full;

/// What waits.
#[derive(Debug, Default)]
pub(super) struct Waiting {
    queue: VecDeque<Held>,
    audio_bytes: usize,
    /// Of those, what a lost session had heard already: it counts towards no bound.
    again_bytes: usize,
    messages: usize,
    message_bytes: usize,
    /// Audio that did not fit any more.
    pub(super) lost_audio_bytes: usize,
    /// Commands that did not fit any more.
    pub(super) lost_messages: usize,
}

impl Waiting {
    pub(super) fn is_empty(&self) -> bool {
        self.queue.is_empty()
    }

    /// Whether something was lost since the last [`Self::take`].
    pub(super) fn has_lost(&self) -> bool {
        self.lost_audio_bytes + self.lost_messages > 0
    }

    /// # Errors
    /// When there is too much already.
    pub(super) fn push_audio(&mut self, audio: &[u8], format: AudioFormat) -> Result<(), Full> {
        let most = format.bytes_per_ms().map_or(0, |bytes| bytes * AUDIO_MS_MAX);
        if self.audio_bytes + audio.len() > most + self.again_bytes {
            self.lost_audio_bytes += audio.len();
            return Err(Full);
        }
        self.audio_bytes += audio.len();
        match self.queue.back_mut() {
            Some(Held::Audio(held)) => held.extend_from_slice(audio),
            _ => self.queue.push_back(Held::Audio(audio.to_vec())),
        }
        Ok(())
    }

    /// # Errors
    /// When there is too much already.
    pub(super) fn push(&mut self, message: Message) -> Result<(), Full> {
        let bytes = self.message_bytes + message.text.len();
        if self.messages >= MESSAGES_MAX || bytes > MESSAGE_BYTES_MAX {
            self.lost_messages += 1;
            return Err(Full);
        }
        (self.messages, self.message_bytes) = (self.messages + 1, bytes);
        self.queue.push_back(Held::Message(message));
        Ok(())
    }

    /// Puts what a lost session had not answered before everything else; it is bounded by its own rules.
    pub(super) fn put_back(&mut self, held: impl DoubleEndedIterator<Item = Held>) {
        for held in held.rev() {
            match &held {
                Held::Audio(audio) if audio.is_empty() => continue,
                Held::Audio(audio) => {
                    self.audio_bytes += audio.len();
                    self.again_bytes += audio.len();
                }
                Held::Message(message) => {
                    self.messages += 1;
                    self.message_bytes += message.text.len();
                }
            }
            self.queue.push_front(held);
        }
    }

    /// Drops the audio: a client has cleared its buffer.
    pub(super) fn clear_audio(&mut self) {
        // What stands before a commit is committed.
        let from = self
            .queue
            .iter()
            .rposition(|held| matches!(held, Held::Message(Message { what: What::Commit, .. })));
        let kept = from.map_or(0, |at| at + 1);
        let mut at = 0;
        let bytes = &mut self.audio_bytes;
        self.queue.retain(|held| {
            at += 1;
            match held {
                Held::Audio(audio) if at > kept => {
                    *bytes -= audio.len();
                    false
                }
                _ => true,
            }
        });
    }

    /// Bytes of audio and number of commands that wait or were lost.
    pub(super) fn sum(&self) -> (usize, usize) {
        (self.audio_bytes + self.lost_audio_bytes, self.messages + self.lost_messages)
    }

    /// Everything, in order.
    pub(super) fn take(&mut self) -> VecDeque<Held> {
        std::mem::take(self).queue
    }
}

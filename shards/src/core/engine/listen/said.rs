//! What a member says in an item that it brings.

use super::recording::Recording;
use crate::core::event::{AudioFormat, NewContent};

/// What there is to answer.
#[derive(Debug)]
pub(in super::super) enum Said {
    /// Words.
    Words(Box<str>),
    /// Audio.
    Utterance(Recording),
}

impl Said {
    /// In these parts: their words if they have any, else their audio.
    pub(in super::super) fn of(content: Vec<NewContent>, format: AudioFormat) -> Option<Self> {
        let mut words = String::new();
        let mut recording = Recording::default();
        for part in content {
            match part {
                NewContent::Text(text) => {
                    let space = if words.is_empty() { "" } else { " " };
                    words.extend([space, &text]);
                }
                NewContent::Image => {}
                NewContent::Audio { audio, .. } => {
                    let fits = recording.room_for(format, audio.len());
                    recording.push(format, &audio[..fits]);
                }
            }
        }
        match (words.is_empty(), recording.is_empty()) {
            (false, _) => Some(Self::Words(words.into())),
            (true, false) => Some(Self::Utterance(recording)),
            (true, true) => None,
        }
    }
}

//! What the parrot keeps of each member who sends audio: a voice detector, an unfinished window, and the audio
//! from just before speech: as much as `prefix_padding_ms` asks for, two seconds at most.

use super::recording::{Recording, WINDOW_MS, window_bytes};
use super::vad::Vad;
use crate::core::event::{AudioFormat, ServerVad};
use crate::core::ids::MemberNumber;

/// Members listened to at a time. Past that the one silent longest is forgotten; heard again, it starts anew.
const EARS_MAX: usize = 8;

/// Listens to one member.
#[derive(Debug)]
pub(in super::super) struct Ear {
    pub(in super::super) member: MemberNumber,
    pub(in super::super) vad: Vad,
    /// Audio not yet enough for a window.
    pub(in super::super) partial: Vec<u8>,
    /// The last windows before speech.
    pub(in super::super) before: Recording,
    /// Windows heard so far.
    windows: u64,
    /// Orders the ears by when they last heard something.
    turn: u64,
}

impl Ear {
    /// Takes one window; it is the caller's to keep it.
    pub(in super::super) fn hear(
        &mut self,
        format: AudioFormat,
        window: &[u8],
        vad: &ServerVad,
        speaking: bool,
    ) {
        self.windows += 1;
        self.vad.hear(format.codec, window, vad.threshold_permille, speaking);
    }

    /// Keeps a window from before speech.
    pub(in super::super) fn keep(&mut self, format: AudioFormat, window: &[u8], vad: &ServerVad) {
        let padding = u64::from(vad.prefix_padding_ms).div_ceil(WINDOW_MS) as usize;
        self.before.push(format, window);
        self.before.keep_last(format, padding + Vad::onset_windows());
    }

    /// Milliseconds of audio heard so far, in whole windows.
    pub(in super::super) fn heard_ms(&self) -> u64 {
        self.windows * WINDOW_MS
    }

    /// Forgets the audio, not the place in it.
    pub(in super::super) fn clear(&mut self) {
        self.partial.clear();
        self.before = Recording::default();
        self.vad.rest();
    }
}

/// The ears of a room.
#[derive(Debug, Default)]
pub(in super::super) struct Ears {
    ears: Vec<Ear>,
    turns: u64,
}

impl Ears {
    /// The ear that listens to a member; if there are too many, another one goes, but never `floor`'s.
    pub(in super::super) fn of(&mut self, member: MemberNumber, floor: Option<MemberNumber>) -> &mut Ear {
        self.turns += 1;
        let at = match self.ears.iter().position(|ear| ear.member == member) {
            Some(at) => at,
            None => {
                self.make_room(floor);
                self.ears.push(Ear {
                    member,
                    vad: Vad::default(),
                    partial: Vec::new(),
                    before: Recording::default(),
                    windows: 0,
                    turn: 0,
                });
                self.ears.len() - 1
            }
        };
        self.ears[at].turn = self.turns;
        &mut self.ears[at]
    }

    /// The ear that listens to a member, if one does.
    pub(in super::super) fn get(&mut self, member: MemberNumber) -> Option<&mut Ear> {
        self.ears.iter_mut().find(|ear| ear.member == member)
    }

    /// Forgets a member.
    pub(in super::super) fn forget(&mut self, member: MemberNumber) {
        self.ears.retain(|ear| ear.member != member);
    }

    /// Forgets everyone.
    pub(in super::super) fn clear(&mut self) {
        self.ears.clear();
    }

    fn make_room(&mut self, floor: Option<MemberNumber>) {
        if self.ears.len() < EARS_MAX {
            return;
        }
        let others = self.ears.iter().enumerate().filter(|(_, ear)| Some(ear.member) != floor);
        if let Some((at, _)) = others.min_by_key(|(_, ear)| ear.turn) {
            self.ears.swap_remove(at);
        }
    }
}

/// Cuts a member's audio into windows, however it came in pieces; each Opus packet is one.
pub(in super::super) fn windows(
    format: AudioFormat,
    partial: &mut Vec<u8>,
    mut audio: &[u8],
    mut each: impl FnMut(&[u8]),
) {
    let Some(bytes) = window_bytes(format) else {
        return each(audio);
    };
    if !partial.is_empty() {
        let missing = bytes.saturating_sub(partial.len()).min(audio.len());
        partial.extend_from_slice(&audio[..missing]);
        audio = &audio[missing..];
        if partial.len() < bytes {
            return;
        }
        each(partial);
        partial.clear();
    }
    let mut whole = audio.chunks_exact(bytes);
    whole.by_ref().for_each(each);
    partial.extend_from_slice(whole.remainder());
}

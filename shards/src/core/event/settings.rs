//! What a client may set for its session, and only what is honoured: the audio format, turn detection, and
//! whether answers are spoken or written.

use std::fmt;
use std::str::FromStr;

use super::client::ClientError;
use crate::core::engine::EngineKind;

/// A room's settings. Small and cheap to copy; the default needs no memory of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SessionSettings {
    /// What audio frames hold, in both directions.
    pub format: AudioFormat,
    /// What ends a turn; nothing when the client says so itself with `commit`.
    pub turn_detection: Option<ServerVad>,
    /// What answers are made of.
    pub modality: Modality,
}

/// What audio frames hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AudioFormat {
    /// The encoding.
    pub codec: Codec,
    /// Samples per second.
    pub rate: u16,
}

/// An audio encoding.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Codec {
    /// 16-bit linear, little-endian, mono.
    Pcm16,
    /// G.711 µ-law.
    G711Ulaw,
    /// G.711 A-law.
    G711Alaw,
    /// One Opus packet of 20 ms per frame; never decoded here.
    Opus,
}

/// What answers are made of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Modality {
    /// Audio with a transcript.
    Audio,
    /// Text alone.
    Text,
}

/// Turn detection by the energy of the voice.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ServerVad {
    /// How far above the noise speech has to be, in thousandths: 0 takes nearly everything for speech.
    pub threshold_permille: u16,
    /// Audio kept from before speech was noticed.
    pub prefix_padding_ms: u16,
    /// Silence that ends a turn.
    pub silence_duration_ms: u16,
    /// Whether the end of a turn asks for a response.
    pub create_response: bool,
    /// Whether speech interrupts a response.
    pub interrupt_response: bool,
}

/// Longest `prefix_padding_ms`: so much audio is kept for each member who listens.
pub(super) const PREFIX_PADDING_MS_MAX: u16 = 2_000;
/// Longest `silence_duration_ms`.
pub(super) const SILENCE_DURATION_MS_MAX: u16 = 10_000;

/// The part of `session.update` that changes settings; what is absent stays as it is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SessionPatch {
    /// Another engine.
    pub engine: Option<EngineKind>,
    /// Another encoding.
    pub codec: Option<Codec>,
    /// Another sample rate.
    pub rate: Option<u16>,
    /// What the client expects to receive, if it says so: it has to be what it sends.
    pub output_codec: Option<Codec>,
    /// The rate that the client expects to receive.
    pub output_rate: Option<u16>,
    /// Turn detection: switched off (`Some(None)`) or changed.
    pub turn_detection: Option<Option<VadPatch>>,
    /// What answers are made of.
    pub modality: Option<Modality>,
}

/// Changes to turn detection; what is absent stays as it is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct VadPatch {
    /// See [`ServerVad`].
    pub threshold_permille: Option<u16>,
    /// See [`ServerVad`].
    pub prefix_padding_ms: Option<u16>,
    /// See [`ServerVad`].
    pub silence_duration_ms: Option<u16>,
    /// See [`ServerVad`].
    pub create_response: Option<bool>,
    /// See [`ServerVad`].
    pub interrupt_response: Option<bool>,
}

/// What [`SessionSettings::apply`] changed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Changes {
    /// The engine asked for; the room has it, not the settings.
    pub engine: Option<EngineKind>,
    /// Whether frames hold something else now.
    pub format: bool,
    /// Whether turns end otherwise now.
    pub turn_detection: bool,
    /// Whether answers are made of something else now.
    pub modality: bool,
}

impl Default for SessionSettings {
    fn default() -> Self {
        Self {
            format: AudioFormat { codec: Codec::Pcm16, rate: 16_000 },
            turn_detection: Some(ServerVad::default()),
            modality: Modality::Audio,
        }
    }
}

impl Default for ServerVad {
    fn default() -> Self {
        Self {
            threshold_permille: 500,
            prefix_padding_ms: 300,
            silence_duration_ms: 500,
            create_response: true,
            interrupt_response: true,
        }
    }
}

impl SessionSettings {
    /// Applies a patch as a whole, or not at all.
    ///
    /// # Errors
    /// When the codec has no such rate, or the two directions would differ.
    pub fn apply(&mut self, patch: &SessionPatch) -> Result<Changes, ClientError> {
        let mut next = *self;
        next.format = self.format.patched(patch)?;
        if let Some(turn_detection) = patch.turn_detection {
            next.turn_detection =
                turn_detection.map(|vad| self.turn_detection.unwrap_or_default().patched(vad));
        }
        if let Some(modality) = patch.modality {
            next.modality = modality;
        }
        let changes = Changes {
            engine: patch.engine,
            format: next.format != self.format,
            turn_detection: next.turn_detection != self.turn_detection,
            modality: next.modality != self.modality,
        };
        *self = next;
        Ok(changes)
    }
}

impl AudioFormat {
    /// Bytes of one millisecond; nothing for Opus, whose packets say how long they are.
    pub const fn bytes_per_ms(self) -> Option<usize> {
        match self.codec {
            Codec::Pcm16 => Some(self.rate as usize / 500),
            Codec::G711Ulaw | Codec::G711Alaw => Some(self.rate as usize / 1_000),
            Codec::Opus => None,
        }
    }

    fn patched(self, patch: &SessionPatch) -> Result<Self, ClientError> {
        let codec = patch.codec.or(patch.output_codec).unwrap_or(self.codec);
        let kept = codec.rates().iter().copied().find(|&rate| rate == self.rate);
        let rate = patch.rate.or(patch.output_rate).or(kept).unwrap_or(codec.rates()[0]);
        if !codec.rates().contains(&rate) {
            let rates: Vec<String> = codec.rates().iter().map(u16::to_string).collect();
            let message = format!("{codec} takes a rate of {}, not {rate}.", rates.join(" or "));
            return Err(ClientError::invalid_value("session.rate", message));
        }
        let other_codec = patch.output_codec.is_some_and(|output| output != codec);
        let other_rate = patch.output_rate.is_some_and(|output| output != rate);
        if other_codec || other_rate {
            let message = format!("One format serves both directions; the input is {codec} at {rate} Hz.");
            return Err(ClientError::invalid_value("session.audio.output.format", message));
        }
        Ok(Self { codec, rate })
    }
}

impl ServerVad {
    fn patched(self, patch: VadPatch) -> Self {
        Self {
            threshold_permille: patch.threshold_permille.unwrap_or(self.threshold_permille),
            prefix_padding_ms: patch.prefix_padding_ms.unwrap_or(self.prefix_padding_ms),
            silence_duration_ms: patch.silence_duration_ms.unwrap_or(self.silence_duration_ms),
            create_response: patch.create_response.unwrap_or(self.create_response),
            interrupt_response: patch.interrupt_response.unwrap_or(self.interrupt_response),
        }
    }
}

impl Codec {
    const ALL: [Self; 4] = [Self::Pcm16, Self::G711Ulaw, Self::G711Alaw, Self::Opus];

    /// As written in queries and in the flat keys of a session.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Pcm16 => "pcm16",
            Self::G711Ulaw => "g711_ulaw",
            Self::G711Alaw => "g711_alaw",
            Self::Opus => "opus",
        }
    }

    /// As written in the `type` of a session's audio format.
    pub const fn media_type(self) -> &'static str {
        match self {
            Self::Pcm16 => "audio/pcm",
            Self::G711Ulaw => "audio/pcmu",
            Self::G711Alaw => "audio/pcma",
            Self::Opus => "audio/opus",
        }
    }

    /// The codec with this media type.
    pub fn from_media_type(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|codec| codec.media_type() == name)
    }

    /// The rates it comes in, the usual one first.
    pub const fn rates(self) -> &'static [u16] {
        match self {
            Self::Pcm16 => &[16_000, 24_000],
            Self::G711Ulaw | Self::G711Alaw => &[8_000],
            Self::Opus => &[16_000, 24_000, 48_000],
        }
    }
}

impl fmt::Display for Codec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// No codec has this name.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("a format is one of pcm16, g711_ulaw, g711_alaw, opus")]
pub struct UnknownCodec;

impl FromStr for Codec {
    type Err = UnknownCodec;

    fn from_str(name: &str) -> Result<Self, UnknownCodec> {
        Self::ALL.into_iter().find(|codec| codec.name() == name).ok_or(UnknownCodec)
    }
}

impl Modality {
    /// As written in `output_modalities`.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Audio => "audio",
            Self::Text => "text",
        }
    }
}

//! What a conversation is made of: items with their content, and responses.

use super::ids::{ConversationId, ItemName, ResponseId};
use super::settings::{AudioFormat, Modality};

/// Who an item is from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// A member.
    User,
    /// The engine.
    Assistant,
    /// An instruction.
    System,
}

/// An item that a client asks to add.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NewItem {
    /// What it is.
    pub kind: ItemKind,
    /// The client's own name for it.
    pub id: Option<Box<str>>,
    /// Who it is from; of what is no message, who has to answer it.
    pub role: Role,
    /// Its parts; at least one in a message.
    pub content: Vec<NewContent>,
    /// Behind which item it stands: `root` for the beginning; nothing for the end.
    pub previous: Option<Box<str>>,
    /// All of it, a raw JSON object, for a model server.
    pub raw: Box<str>,
}

/// What an item is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ItemKind {
    /// Something said.
    #[default]
    Message,
    /// A call of a function, what came of one, or one of the vendor's other items, of which only a model server knows more.
    Other,
}

/// A part of an item that a client asks to add.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum NewContent {
    /// Text.
    Text(Box<str>),
    /// Audio in the room's format, decoded.
    Audio {
        /// The bare payload.
        audio: Vec<u8>,
        /// What the client knows of its words.
        transcript: Option<Box<str>>,
    },
    /// A picture, which only a model server looks at.
    Image,
}

/// An item as it is told to clients.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Item {
    /// Its name.
    pub id: ItemName,
    /// Who it is from.
    pub role: Role,
    /// How far it got.
    pub status: ItemStatus,
    /// Its parts.
    pub content: Vec<Content>,
}

/// How far an item got.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ItemStatus {
    /// Being made.
    InProgress,
    /// Complete.
    Completed,
    /// Cut short.
    Incomplete,
}

/// A part of an item as it is told to clients. Audio itself is never repeated in events.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Content {
    /// A member's text.
    InputText(Box<str>),
    /// A member's picture, which is not repeated either.
    InputImage,
    /// A member's audio, with its words if they are known.
    InputAudio(Option<Box<str>>),
    /// The engine's text.
    OutputText(Box<str>),
    /// The engine's audio, with its words.
    OutputAudio(Box<str>),
}

impl Content {
    /// Bytes of its text.
    pub fn text_bytes(&self) -> usize {
        match self {
            Self::InputText(text) | Self::OutputText(text) | Self::OutputAudio(text) => text.len(),
            Self::InputAudio(transcript) => transcript.as_ref().map_or(0, |text| text.len()),
            Self::InputImage => 0,
        }
    }
}

/// A response as it is told to clients.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Response {
    /// Its name.
    pub id: ResponseId,
    /// The room's conversation; number 0 when it is apart from it.
    pub conversation: ConversationId,
    /// How far it got.
    pub status: ResponseStatus,
    /// What it produced.
    pub output: Vec<Item>,
    /// What it is made of.
    pub modality: Modality,
    /// What its audio holds.
    pub format: AudioFormat,
    /// What it cost, once it is over.
    pub usage: Option<Usage>,
    /// The client's own data, raw JSON.
    pub metadata: Option<Box<str>>,
}

/// How far a response got.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ResponseStatus {
    /// Being made.
    InProgress,
    /// Complete.
    Completed,
    /// Cut short.
    Cancelled(CancelReason),
    /// Whoever made it could not go on: the code of the error.
    Failed(&'static str),
}

/// Why a response was cut short.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CancelReason {
    /// Someone spoke.
    TurnDetected,
    /// A client cancelled it.
    ClientCancelled,
}

/// What a response cost, in tokens as a model would count: text by the word, audio heard by 100 ms and audio
/// spoken by 50 ms.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Usage {
    /// Text in.
    pub input_text: u64,
    /// Audio in.
    pub input_audio: u64,
    /// Text out.
    pub output_text: u64,
    /// Audio out.
    pub output_audio: u64,
}

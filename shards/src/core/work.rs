//! Work for processes elsewhere: what a room asks of workers, and what comes back. The control plane carries both; here
//! nobody knows how.

use std::fmt;
use std::str::FromStr;

use super::event::{AudioFormat, ItemName, Modality, Passed};
use super::ids::{RoomKey, SessionId, ShardId};
use super::time::Micros;

/// Names a request: `req_` and 16 hexadecimal digits, drawn at random, so that an answer to a request of another node or
/// of an earlier start finds nobody.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RequestId(pub u64);

impl fmt::Display for RequestId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "req_{:016x}", self.0)
    }
}

/// The text is not a request's name.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("a request id is \"req_\" and 16 hexadecimal digits")]
pub struct BadRequestId;

impl FromStr for RequestId {
    type Err = BadRequestId;

    fn from_str(text: &str) -> Result<Self, BadRequestId> {
        let digits = text.strip_prefix("req_").ok_or(BadRequestId)?;
        if digits.len() != 16 || !digits.bytes().all(|byte| byte.is_ascii_hexdigit()) {
            return Err(BadRequestId);
        }
        u64::from_str_radix(digits, 16).map(Self).map_err(|_| BadRequestId)
    }
}

/// What a room wants of workers.
#[derive(Debug)]
pub struct Work {
    /// Who asks.
    pub shard: ShardId,
    /// Which room there.
    pub room: RoomKey,
    /// The room's name.
    pub session: SessionId,
    /// What is wanted.
    pub order: WorkOrder,
}

/// What is wanted of workers.
#[derive(Debug)]
pub enum WorkOrder {
    /// An answer.
    Ask(Box<WorkRequest>),
    /// None any more.
    Cancel(RequestId),
}

impl WorkOrder {
    /// The request that it is about.
    pub fn request(&self) -> RequestId {
        match self {
            Self::Ask(request) => request.id,
            Self::Cancel(request) => *request,
        }
    }
}

/// Something to be answered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WorkRequest {
    /// Its name.
    pub id: RequestId,
    /// The item of the conversation that asks; nothing where a client wants a response without having said something new.
    pub item: Option<ItemName>,
    /// What was said.
    pub matter: Matter,
    /// What its audio holds, and what the answer's is to hold.
    pub format: AudioFormat,
    /// What the answer is to be made of.
    pub modality: Modality,
    /// What the client said about the response, raw JSON.
    pub metadata: Option<Box<str>>,
    /// What clients said of their session, raw JSON; see [`super::engine::EngineContext::extras`].
    pub extras: Option<Box<str>>,
    /// For so long the room waits for a sign.
    pub within: Micros,
}

/// What was said.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Matter {
    /// An utterance in the room's format; each packet of Opus behind its length, two bytes, little-endian.
    Audio(Vec<u8>),
    /// A text.
    Text(Box<str>),
    /// Nothing new.
    Nothing,
}

/// What a worker says about a request.
#[derive(Debug)]
pub struct Worked {
    /// The room that asked.
    pub room: RoomKey,
    /// What it asked.
    pub request: RequestId,
    /// What there is to say.
    pub news: WorkNews,
}

/// What a room hears about its request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum WorkNews {
    /// A piece of the answer's audio; one packet if it is Opus.
    Audio {
        /// The bare payload.
        bytes: Vec<u8>,
        /// Whether the worker knows that none follows.
        last: bool,
    },
    /// More of the answer's words.
    Words(Box<str>),
    /// An event of the application's own, for the members as it is.
    Passed(Box<Passed>),
    /// The answer is whole. The last news of a request.
    Done,
    /// Who was answering is gone, and somebody else is asked: what came so far will not go on.
    Again,
    /// There will be no answer. The last news of a request.
    Failed(WorkFailure),
}

/// Why there is no answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WorkFailure {
    /// Which kind of failure.
    pub code: &'static str,
    /// A sentence for a human.
    pub message: Box<str>,
    /// Whether asking again may help.
    pub retryable: bool,
}

impl WorkFailure {
    /// Nobody could be asked, because too much waits already.
    pub fn busy() -> Self {
        Self {
            code: "worker_busy",
            message: "Too many requests wait for workers; try again in a moment.".into(),
            retryable: true,
        }
    }

    /// There is no way to the workers.
    pub fn unavailable() -> Self {
        Self {
            code: "worker_unavailable",
            message: "The workers can't be reached just now; try again in a moment.".into(),
            retryable: true,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_id_reads_back_what_it_writes() {
        for id in [0, 7, u64::MAX].map(RequestId) {
            assert_eq!(id.to_string().parse(), Ok(id));
        }
        for bad in ["", "req_", "req_1", "req_+000000000000001", "REQ_0000000000000001", "0000000000000001"] {
            assert_eq!(bad.parse::<RequestId>(), Err(BadRequestId), "{bad}");
        }
    }
}

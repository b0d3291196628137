//! What a decoder hands out, and what it fails a connection with.

use tungstenite::protocol::frame::coding::CloseCode;

/// A whole message, or a control frame.
#[derive(Debug, PartialEq, Eq)]
pub enum Item<'a> {
    /// A text message: valid UTF-8, which was checked.
    Text(&'a mut [u8]),
    /// A binary message.
    Binary(&'a mut [u8]),
    /// A data message as it was compressed (RFC 7692): only where that was negotiated. Whether text is valid UTF-8 is
    /// not known before it is inflated.
    Compressed {
        /// Whether it is a text message.
        text: bool,
        /// What has to be inflated.
        payload: &'a mut [u8],
    },
    /// A ping: at most 125 bytes, to be returned in a pong.
    Ping(&'a [u8]),
    /// A pong, asked for or not.
    Pong(&'a [u8]),
    /// A close frame. Nothing that follows it means anything (section 5.5.1).
    Close(Option<(CloseCode, &'a str)>),
}

/// The peer broke the protocol or a limit: the connection must be failed (section 7.1.7) with this code.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{code}: {reason}")]
pub struct Violation {
    /// The code for the close frame.
    pub code: CloseCode,
    /// The reason for the close frame.
    pub reason: &'static str,
}

impl Violation {
    /// 1002.
    pub(super) const fn protocol(reason: &'static str) -> Self {
        Self { code: CloseCode::Protocol, reason }
    }

    /// 1007: section 8.1.
    pub(in crate::core) const fn utf8() -> Self {
        Self { code: CloseCode::Invalid, reason: "text is not valid UTF-8" }
    }

    /// 1007: RFC 7692 names no code for data that can't be inflated. It is not consistent with the type of its message,
    /// as RFC 6455 section 7.4.1 has it.
    pub(in crate::core) const fn corrupt() -> Self {
        Self { code: CloseCode::Invalid, reason: "compressed data is corrupt" }
    }

    /// 1009.
    pub(in crate::core) const fn too_big() -> Self {
        Self { code: CloseCode::Size, reason: "message is too big" }
    }
}

/// Reads the payload of a close frame (section 5.5.1).
pub(super) fn close(payload: &[u8]) -> Result<Item<'_>, Violation> {
    match payload {
        [] => Ok(Item::Close(None)),
        [_] => Err(Violation::protocol("close payload of one byte")),
        [high, low, reason @ ..] => {
            let code = u16::from_be_bytes([*high, *low]);
            if !may_be_sent(code) {
                return Err(Violation::protocol("close code may not be sent"));
            }
            let reason = std::str::from_utf8(reason).map_err(|_| Violation::utf8())?;
            Ok(Item::Close(Some((CloseCode::from(code), reason))))
        }
    }
}

/// Sections 7.4.1 and 7.4.2, and what IANA registered since (1012 to 1014). The check is not tungstenite's
/// `CloseCode::is_allowed` because that refuses 1014.
const fn may_be_sent(code: u16) -> bool {
    matches!(code, 1000..=1003 | 1007..=1014 | 3000..=4999)
}

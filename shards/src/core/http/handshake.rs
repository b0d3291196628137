//! Opening a WebSocket, the server's half (RFC 6455 section 4.2).

use smallvec::SmallVec;

use super::answer;
use super::extensions::DeflateOffer;
use super::head::Request;

/// Most subprotocols a client may offer: ours are five, and a token.
pub const SUBPROTOCOLS_MAX: usize = 16;

/// What a request asks the connection to become.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum UpgradeKind {
    /// Nothing: it is a plain request, whatever else it may say.
    None,
    /// A WebSocket. Whether the handshake is valid, [`Request::websocket`] tells.
    WebSocket,
}

/// A valid opening handshake.
#[derive(Debug)]
pub struct Handshake<'a> {
    /// The `Sec-WebSocket-Key`, for [`answer::switching_protocols`].
    pub key: &'a [u8],
    /// The subprotocols offered, the client's favourite first, none twice.
    pub subprotocols: SmallVec<[&'a str; 4]>,
    /// How permessage-deflate can be agreed on, if it was offered so.
    pub deflate: Option<DeflateOffer>,
}

/// The opening handshake is not valid.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum HandshakeError {
    /// Section 4.2.1 item 6.
    #[error("Sec-WebSocket-Version must be 13")]
    Version,
    /// Section 4.2.1 item 5.
    #[error("there must be one Sec-WebSocket-Key, of 16 bytes in base64")]
    Key,
    /// Section 4.1 item 10.
    #[error("Sec-WebSocket-Protocol must list at most 16 different tokens")]
    Subprotocols,
    /// Section 9.1.
    #[error("Sec-WebSocket-Extensions must list extensions with their parameters")]
    Extensions,
    /// A body would be read as frames.
    #[error("an upgrade must not have a body")]
    Body,
}

impl HandshakeError {
    /// Writes the answer: 426 with the version that is spoken here, or 400.
    pub fn answer(self, out: &mut Vec<u8>) {
        let (status, title, headers): (_, _, &[_]) = match self {
            Self::Version => (
                426,
                "Upgrade Required",
                &[("Upgrade", "websocket"), ("Connection", "Upgrade"), ("Sec-WebSocket-Version", "13")],
            ),
            Self::Key | Self::Subprotocols | Self::Extensions | Self::Body => (400, "Bad Request", &[]),
        };
        answer::problem(status, title, &self.to_string(), None, headers, out);
    }
}

impl<'a> Request<'a> {
    /// What the connection should become.
    #[must_use]
    pub fn upgrade(&self) -> UpgradeKind {
        let lists = |name, token: &str| {
            self.header_list(name).any(|element| element.eq_ignore_ascii_case(token.as_bytes()))
        };
        let asks = self.method == "GET"
            && self.minor_version >= 1
            && lists("upgrade", "websocket")
            && lists("connection", "upgrade");
        if asks { UpgradeKind::WebSocket } else { UpgradeKind::None }
    }

    /// Checks the opening handshake of a request that asks for a WebSocket.
    ///
    /// # Errors
    /// When it must be refused.
    pub fn websocket(&self) -> Result<Handshake<'a>, HandshakeError> {
        if self.header("sec-websocket-version") != Some("13") {
            return Err(HandshakeError::Version);
        }
        let key = self.header("sec-websocket-key").map(str::as_bytes);
        let key = key.filter(|key| is_key(key)).ok_or(HandshakeError::Key)?;
        if self.announces_body() {
            return Err(HandshakeError::Body);
        }
        let mut subprotocols = SmallVec::new();
        for token in self.header_list("sec-websocket-protocol") {
            let name = std::str::from_utf8(token).map_err(|_| HandshakeError::Subprotocols)?;
            let refused = !token.iter().all(|&byte| is_token_byte(byte)) || subprotocols.contains(&name);
            if refused || subprotocols.len() == SUBPROTOCOLS_MAX {
                return Err(HandshakeError::Subprotocols);
            }
            subprotocols.push(name);
        }
        Ok(Handshake { key, subprotocols, deflate: self.deflate_offer()? })
    }
}

/// Whether it is 16 bytes in base64: 22 digits and the padding. The bits that the last digit has too many may be
/// anything, as most decoders take it.
fn is_key(key: &[u8]) -> bool {
    let digit = |byte: &u8| byte.is_ascii_alphanumeric() || matches!(byte, b'+' | b'/');
    matches!(key, [digits @ .., b'=', b'='] if digits.len() == 22 && digits.iter().all(digit))
}

/// RFC 9110 section 5.6.2.
pub(super) fn is_token_byte(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte)
}

#[cfg(test)]
mod tests {
    use super::super::head::{Parsed, parse};
    use super::*;

    const KEY: &str = "dGhlIHNhbXBsZSBub25jZQ==";

    fn with<R>(head: &str, check: impl FnOnce(&Request<'_>) -> R) -> R {
        match parse(head.as_bytes(), 8_192) {
            Ok(Parsed::Complete(request)) => check(&request),
            other => panic!("{other:?} for {head:?}"),
        }
    }

    /// The outcome for a valid upgrade with these lines besides.
    fn outcome(lines: &str) -> Result<Vec<String>, HandshakeError> {
        let head = format!(
            "GET /ws/a HTTP/1.1\r\nHost: h\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n{lines}\r\n"
        );
        with(&head, |request| {
            assert_eq!(request.upgrade(), UpgradeKind::WebSocket);
            request.websocket().map(|found| {
                assert_eq!(found.key, KEY.as_bytes());
                found.subprotocols.iter().map(ToString::to_string).collect()
            })
        })
    }

    #[test]
    fn section_4_2_1_what_asks_for_a_websocket() {
        let upgrade = |first: &str, lines: &str| {
            with(&format!("{first}\r\nHost: h\r\n{lines}\r\n"), |request| request.upgrade())
        };
        let get = "GET /ws/a HTTP/1.1";
        for lines in [
            "Connection: Upgrade\r\nUpgrade: websocket\r\n",
            "connection: keep-alive, UPGRADE\r\nupgrade: h2c, WebSocket\r\n",
            "Connection: keep-alive\r\nConnection: upgrade\r\nUpgrade:websocket\r\n",
        ] {
            assert_eq!(upgrade(get, lines), UpgradeKind::WebSocket, "{lines:?}");
        }
        for lines in [
            "",
            "Connection: Upgrade\r\n",
            "Upgrade: websocket\r\n",
            "Connection: Upgrade\r\nUpgrade: h2c\r\n",
            "Connection: Upgrades\r\nUpgrade: websocket\r\n",
            "Connection: keep-alive Upgrade\r\nUpgrade: websocket\r\n",
        ] {
            assert_eq!(upgrade(get, lines), UpgradeKind::None, "{lines:?}");
        }
        let good = "Connection: Upgrade\r\nUpgrade: websocket\r\n";
        for first in ["POST /ws/a HTTP/1.1", "get /ws/a HTTP/1.1", "GET /ws/a HTTP/1.0"] {
            assert_eq!(upgrade(first, good), UpgradeKind::None, "{first}");
        }
    }

    #[test]
    fn section_4_2_1_key_and_version() {
        let version = "Sec-WebSocket-Version: 13\r\n";
        let key = format!("Sec-WebSocket-Key: {KEY}\r\n");
        assert_eq!(outcome(&format!("{key}{version}")), Ok(vec![]));
        for bad in ["", "Sec-WebSocket-Version: 8\r\n", "Sec-WebSocket-Version: 13, 8\r\n"] {
            assert_eq!(outcome(&format!("{key}{bad}")), Err(HandshakeError::Version), "{bad:?}");
        }
        for bad in
            ["", "dGhl", "dGhlIHNhbXBsZSBub25jZQ=", "dGhlIHNhbXBsZSBub25jZQAA", "dGhlIHNhbXBsZSBub25j-Q=="]
        {
            let lines = format!("Sec-WebSocket-Key: {bad}\r\n{version}");
            assert_eq!(outcome(&lines), Err(HandshakeError::Key), "{bad:?}");
        }
        assert_eq!(outcome(version), Err(HandshakeError::Key));
        assert_eq!(outcome(&format!("{key}{key}{version}")), Err(HandshakeError::Key));
    }

    #[test]
    fn an_upgrade_has_no_body() {
        let good = format!("Sec-WebSocket-Key: {KEY}\r\nSec-WebSocket-Version: 13\r\n");
        assert_eq!(outcome(&format!("{good}Content-Length: 0\r\n")), Ok(vec![]));
        for bad in ["Content-Length: 5", "Content-Length: 00", "Transfer-Encoding: chunked"] {
            assert_eq!(outcome(&format!("{good}{bad}\r\n")), Err(HandshakeError::Body), "{bad}");
        }
    }

    #[test]
    fn section_4_1_subprotocols_keep_their_order() {
        let good = format!("Sec-WebSocket-Key: {KEY}\r\nSec-WebSocket-Version: 13\r\n");
        let offered = |value: &str| outcome(&format!("{good}Sec-WebSocket-Protocol: {value}\r\n"));
        assert_eq!(offered("voxhall.v1,bearer.a-_.b"), Ok(vec!["voxhall.v1".into(), "bearer.a-_.b".into()]));
        let two_lines = offered("realtime\r\nSec-WebSocket-Protocol: voxhall.v1 ");
        assert_eq!(two_lines, Ok(vec!["realtime".into(), "voxhall.v1".into()]));
        let many: Vec<String> = (0..=SUBPROTOCOLS_MAX).map(|i| i.to_string()).collect();
        assert!(offered(&many[1..].join(",")).is_ok());
        for bad in ["a b", "a, a", "a/b", "é", &many.join(",")] {
            assert_eq!(offered(bad), Err(HandshakeError::Subprotocols), "{bad}");
        }
    }

    #[test]
    fn section_4_4_a_wrong_version_is_told_the_right_one() {
        let mut out = Vec::new();
        HandshakeError::Version.answer(&mut out);
        let text = String::from_utf8(out).expect("ASCII");
        assert!(text.starts_with("HTTP/1.1 426 Upgrade Required\r\n"), "{text}");
        assert!(text.contains("\r\nSec-WebSocket-Version: 13\r\n"), "{text}");
    }
}

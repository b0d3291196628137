//! Opening a WebSocket, the client's half (RFC 6455 section 4.1): the request, and what is made of its answer.

use tungstenite::handshake::derive_accept_key;

/// Most header lines that an answer may have.
const HEADERS_MAX: usize = 64;
/// Longest head of an answer.
const HEAD_BYTES_MAX: usize = 16 << 10;
/// Longest wait that a server may ask for: more is not meant for somebody who waits.
const RETRY_AFTER_S_MAX: u64 = 3_600;

const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

/// A request for a WebSocket that has been written.
#[derive(Debug)]
pub struct Asked {
    /// What the answer must say in `Sec-WebSocket-Accept`.
    pub accept: Box<str>,
}

/// What came of it.
#[derive(Debug, PartialEq, Eq)]
pub enum Answered {
    /// More bytes are needed.
    Partial,
    /// A WebSocket: its frames begin after so many bytes.
    Open(usize),
    /// Something else than 101.
    Refused {
        /// The status.
        status: u16,
        /// `Retry-After` in seconds, if it says so in seconds.
        retry_after_s: Option<u64>,
    },
    /// Not what RFC 6455 wants: the connection must be failed. The end of a sentence about the server.
    Wrong(&'static str),
}

/// Writes a request. `lines` are header lines besides those of the handshake, each with its end; `nonce` is what the
/// key is made of. Nothing when the target can't be one.
pub fn ask(host: &str, target: &str, lines: &str, nonce: [u8; 16], out: &mut Vec<u8>) -> Option<Asked> {
    if !target.starts_with('/') || !target.bytes().all(|byte| byte.is_ascii_graphic()) {
        return None;
    }
    let key = base64_of(nonce);
    for piece in [
        b"GET ".as_slice(),
        target.as_bytes(),
        b" HTTP/1.1\r\nHost: ",
        host.as_bytes(),
        b"\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: ",
        &key,
        b"\r\n",
        lines.as_bytes(),
        b"\r\n",
    ] {
        out.extend_from_slice(piece);
    }
    Some(Asked { accept: derive_accept_key(&key).into() })
}

impl Asked {
    /// Reads as much of an answer as has come.
    #[must_use]
    pub fn answered(&self, head: &[u8]) -> Answered {
        let mut headers = [httparse::EMPTY_HEADER; HEADERS_MAX];
        let mut response = httparse::Response::new(&mut headers);
        let len = match response.parse(&head[..head.len().min(HEAD_BYTES_MAX)]) {
            Ok(httparse::Status::Complete(len)) => len,
            Ok(httparse::Status::Partial) if head.len() < HEAD_BYTES_MAX => return Answered::Partial,
            Ok(httparse::Status::Partial) => return Answered::Wrong("its answer has too long a head"),
            Err(_) => return Answered::Wrong("its answer is not HTTP"),
        };
        let Some(status) = response.code else { return Answered::Wrong("its answer has no status") };
        let values = |name: &str| {
            let named = response.headers.iter().filter(move |header| header.name.eq_ignore_ascii_case(name));
            named.map(|header| header.value.trim_ascii()).collect::<Vec<_>>()
        };
        if status != 101 {
            let retry_after = values("retry-after");
            let seconds = retry_after.first().and_then(|value| str::from_utf8(value).ok()?.parse().ok());
            let retry_after_s = seconds.map(|seconds: u64| seconds.min(RETRY_AFTER_S_MAX));
            return Answered::Refused { status, retry_after_s };
        }
        let lists = |name: &str, token: &[u8]| {
            let elements = values(name);
            let mut elements = elements.iter().flat_map(|value| value.split(|&byte| byte == b','));
            elements.any(|element| element.trim_ascii().eq_ignore_ascii_case(token))
        };
        // Section 4.1, what must be checked of the response: items 2 to 6.
        if !lists("upgrade", b"websocket") || !lists("connection", b"upgrade") {
            return Answered::Wrong("it says 101 and does not upgrade to a WebSocket");
        }
        if values("sec-websocket-accept") != [self.accept.as_bytes()] {
            return Answered::Wrong("it has not understood the handshake: Sec-WebSocket-Accept is wrong");
        }
        if !values("sec-websocket-extensions").is_empty() || !values("sec-websocket-protocol").is_empty() {
            return Answered::Wrong("it agreed to an extension or a subprotocol that was not offered");
        }
        Answered::Open(len)
    }
}

/// RFC 4648 section 4, of sixteen bytes.
fn base64_of(bytes: [u8; 16]) -> [u8; 24] {
    let mut text = [b'='; 24];
    for (three, four) in bytes.chunks(3).zip(text.chunks_mut(4)) {
        let bits =
            three.iter().fold(0_u32, |bits, &byte| bits << 8 | u32::from(byte)) << (8 * (3 - three.len()));
        for (at, digit) in four.iter_mut().take(three.len() + 1).enumerate() {
            *digit = ALPHABET[(bits >> (18 - 6 * at)) as usize & 63];
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What the example of section 1.2 is made of.
    const NONCE: [u8; 16] = *b"the sample nonce";
    const ACCEPT: &str = "Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n";
    const UPGRADE: &str = "Upgrade: websocket\r\nConnection: Upgrade\r\n";

    fn asked() -> (Asked, String) {
        let mut out = Vec::new();
        let lines = "Authorization: Bearer k\r\n";
        let asked = ask("api.example:8443", "/v1/realtime?model=m", lines, NONCE, &mut out);
        (asked.expect("a good target"), String::from_utf8(out).expect("ASCII"))
    }

    fn answer(head: &str) -> Answered {
        let whole = asked().0.answered(head.as_bytes());
        for cut in 0..head.len() {
            let part = asked().0.answered(&head.as_bytes()[..cut]);
            assert!(part == Answered::Partial || part == whole, "{part:?} at {cut} of {head:?}");
        }
        whole
    }

    #[test]
    fn section_4_1_the_request_is_that_of_the_rfc() {
        let expected = "GET /v1/realtime?model=m HTTP/1.1\r\nHost: api.example:8443\r\nUpgrade: websocket\r\n\
            Connection: Upgrade\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\
            Authorization: Bearer k\r\n\r\n";
        assert_eq!(asked().1, expected);
        for bad in ["", "v1", "/a b", "/a\r\nX: y", "/\u{e9}"] {
            assert!(ask("h", bad, "", NONCE, &mut Vec::new()).is_none(), "{bad:?}");
        }
    }

    #[test]
    fn section_4_1_a_good_answer_opens() {
        let head = format!("HTTP/1.1 101 Switching Protocols\r\n{UPGRADE}{ACCEPT}X-Request-Id: 1\r\n\r\n");
        assert_eq!(answer(&head), Answered::Open(head.len()));
        let with_frames = format!("{head}\u{1}\u{2}");
        assert_eq!(asked().0.answered(with_frames.as_bytes()), Answered::Open(head.len()));
    }

    #[test]
    fn section_4_1_what_must_be_failed_is() {
        let first = "HTTP/1.1 101 Switching Protocols\r\n";
        for lines in [
            UPGRADE.to_owned(),
            ACCEPT.to_owned(),
            format!("{UPGRADE}{ACCEPT}{ACCEPT}"),
            format!("{UPGRADE}Sec-WebSocket-Accept: AAAAAAAAAAAAAAAAAAAAAAAAAAA=\r\n"),
            format!("Upgrade: h2c\r\nConnection: Upgrade\r\n{ACCEPT}"),
            format!("{UPGRADE}{ACCEPT}Sec-WebSocket-Extensions: permessage-deflate\r\n"),
            format!("{UPGRADE}{ACCEPT}Sec-WebSocket-Protocol: realtime\r\n"),
        ] {
            let got = answer(&format!("{first}{lines}\r\n"));
            assert!(matches!(got, Answered::Wrong(_)), "{got:?} for {lines:?}");
        }
        assert_eq!(asked().0.answered(b"SSH-2.0-x\r\n"), Answered::Wrong("its answer is not HTTP"));
        let endless = format!("{first}X: {}", "a".repeat(20_000));
        assert!(matches!(asked().0.answered(endless.as_bytes()), Answered::Wrong(_)));
    }

    #[test]
    fn a_refusal_says_when_to_come_back() {
        let refused = |lines: &str| match answer(&format!("HTTP/1.1 429 Too Many\r\n{lines}\r\n")) {
            Answered::Refused { status: 429, retry_after_s } => retry_after_s,
            other => panic!("{other:?}"),
        };
        assert_eq!(refused("Retry-After: 7\r\n"), Some(7));
        assert_eq!(refused(""), None);
        assert_eq!(refused("Retry-After: Fri, 31 Dec 1999 23:59:59 GMT\r\n"), None);
        assert_eq!(refused("Retry-After: 99999999\r\n"), Some(3_600));
    }
}

//! The smallest WebSocket handshake that a conforming client accepts.

use tungstenite::handshake::derive_accept_key;

/// A request head longer than this is refused.
pub(super) const HEAD_BYTES_MAX: usize = 8192;

/// Length of the request head at the start of `bytes`, its empty line included, if it is complete.
pub(super) fn head_length(bytes: &[u8]) -> Option<usize> {
    bytes.windows(4).position(|window| window == b"\r\n\r\n").map(|at| at + 4)
}

/// The answer to the upgrade request `head`, or `None` if it is no upgrade request.
pub(super) fn answer(head: &[u8]) -> Option<String> {
    let head = std::str::from_utf8(head).ok()?;
    let (request, headers) = head.split_once("\r\n")?;
    if !request.starts_with("GET ") {
        return None;
    }
    let key = headers.lines().find_map(|line| {
        let (name, value) = line.split_once(':')?;
        name.eq_ignore_ascii_case("sec-websocket-key").then(|| value.trim())
    })?;
    Some(format!(
        "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
         Sec-WebSocket-Accept: {}\r\n\r\n",
        derive_accept_key(key.as_bytes())
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_upgrade_request_gets_the_key_of_the_rfc() {
        let head =
            b"GET /ws/a HTTP/1.1\r\nHost: x\r\nsec-websocket-KEY:  dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n\x81\x80";
        let length = head_length(head).expect("the head is complete");
        assert_eq!(length, head.len() - 2);
        let answer = answer(&head[..length]).expect("it is an upgrade");
        assert!(answer.contains("Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n"), "{answer}");
    }

    #[test]
    fn anything_else_is_refused() {
        assert_eq!(head_length(b"GET / HTTP/1.1\r\nHost: x\r\n"), None);
        assert_eq!(answer(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n"), None);
        assert_eq!(answer(b"POST / HTTP/1.1\r\nSec-WebSocket-Key: a\r\n\r\n"), None);
    }
}

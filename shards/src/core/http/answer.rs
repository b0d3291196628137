//! What a shard answers by itself: 101, or a refusal. Written to a buffer that the caller sends.

use std::io::Write as _;

use tungstenite::handshake::derive_accept_key;

use super::extensions::DeflateOffer;

/// Writes the answer that opens a WebSocket (RFC 6455 section 4.2.2), with the subprotocol chosen, if one was, and with
/// permessage-deflate, if an offer of it is accepted.
pub fn switching_protocols(
    key: &[u8],
    subprotocol: Option<&str>,
    deflate: Option<DeflateOffer>,
    out: &mut Vec<u8>,
) {
    out.extend_from_slice(
        b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: ",
    );
    out.extend_from_slice(derive_accept_key(key).as_bytes());
    if let Some(subprotocol) = subprotocol {
        out.extend_from_slice(b"\r\nSec-WebSocket-Protocol: ");
        out.extend_from_slice(subprotocol.as_bytes());
    }
    if let Some(deflate) = deflate {
        out.extend_from_slice(b"\r\nSec-WebSocket-Extensions: ");
        deflate.write(out);
    }
    out.extend_from_slice(b"\r\n\r\n");
}

/// The body of a refusal (RFC 9457).
#[derive(serde::Serialize)]
struct Problem<'a> {
    r#type: &'static str,
    title: &'a str,
    status: u16,
    detail: &'a str,
    /// What it says besides (section 3.2).
    #[serde(flatten)]
    extensions: Extensions,
}

/// Members of a refusal that its status does not have.
pub type Extensions = serde_json::Map<String, serde_json::Value>;

/// Writes a refusal. `title` is the status' own phrase, as RFC 9457 section 4.2.1 has it for `about:blank`, so that
/// it serves in both places. The connection ends with it.
pub fn problem(
    status: u16,
    title: &str,
    detail: &str,
    retry_after_s: Option<u32>,
    extra_headers: &[(&str, &str)],
    out: &mut Vec<u8>,
) {
    let extensions = Extensions::new();
    write_problem(
        &Problem { r#type: "about:blank", title, status, detail, extensions },
        retry_after_s,
        extra_headers,
        out,
    );
}

/// A refusal that says more, and when to come back.
#[must_use]
pub fn problem_with(
    status: u16,
    title: &str,
    detail: &str,
    retry_after_s: u32,
    extensions: Extensions,
) -> Vec<u8> {
    let mut out = Vec::new();
    let problem = Problem { r#type: "about:blank", title, status, detail, extensions };
    write_problem(&problem, Some(retry_after_s), &[], &mut out);
    out
}

fn write_problem(
    problem: &Problem<'_>,
    retry_after_s: Option<u32>,
    extra_headers: &[(&str, &str)],
    out: &mut Vec<u8>,
) {
    let body = serde_json::to_vec(problem).expect("strings and numbers make JSON");
    let Problem { status, title, .. } = problem;
    write_all(out, format_args!("HTTP/1.1 {status} {title}\r\nContent-Type: application/problem+json\r\n"));
    write_all(out, format_args!("Content-Length: {}\r\nConnection: close\r\n", body.len()));
    if let Some(seconds) = retry_after_s {
        write_all(out, format_args!("Retry-After: {seconds}\r\n"));
    }
    for (name, value) in extra_headers {
        write_all(out, format_args!("{name}: {value}\r\n"));
    }
    out.extend_from_slice(b"\r\n");
    out.extend_from_slice(&body);
}

/// The status of an answer that was written here.
#[must_use]
pub fn status(answer: &[u8]) -> Option<u16> {
    let digits = answer.strip_prefix(b"HTTP/1.1 ")?.get(..3)?;
    std::str::from_utf8(digits).ok()?.parse().ok()
}

/// Appends text.
pub(super) fn write_all(out: &mut Vec<u8>, text: std::fmt::Arguments<'_>) {
    out.write_fmt(text).expect("a vector takes every byte");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn section_4_2_2_the_accept_key_is_that_of_the_rfc() {
        let mut out = Vec::new();
        switching_protocols(b"dGhlIHNhbXBsZSBub25jZQ==", Some("voxhall.v1"), None, &mut out);
        let expected = "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
            Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\nSec-WebSocket-Protocol: voxhall.v1\r\n\r\n";
        assert_eq!(String::from_utf8(out).expect("ASCII"), expected);
    }

    #[test]
    fn a_refusal_says_why_and_when_to_come_back() {
        let mut out = Vec::new();
        problem(503, "Service Unavailable", "the node is \"full\"", Some(7), &[("X-A", "b")], &mut out);
        let text = String::from_utf8(out.clone()).expect("ASCII");
        let (head, body) = text.split_once("\r\n\r\n").expect("a head and a body");
        let lines: Vec<_> = head.split("\r\n").collect();
        assert_eq!(lines[0], "HTTP/1.1 503 Service Unavailable");
        assert_eq!(status(&out), Some(503));
        let length = format!("Content-Length: {}", body.len());
        for line in [
            "Content-Type: application/problem+json",
            "Connection: close",
            "Retry-After: 7",
            "X-A: b",
            &length,
        ] {
            assert!(lines.contains(&line), "{line} is missing in {head}");
        }
        let body: serde_json::Value = serde_json::from_str(body).expect("JSON");
        assert_eq!(body["status"], 503);
        assert_eq!(body["title"], "Service Unavailable");
        assert_eq!(body["detail"], "the node is \"full\"");
        assert_eq!(body["type"], "about:blank");
    }
}

//! What is said over plain HTTP besides refusals: the head of an event stream (the WHATWG's server-sent events), the answer to
//! what a listener posts, and what browsers want to know of other origins' pages (the Fetch standard's CORS).

use super::answer::write_all;
use super::head::Request;

/// How long a browser may remember the answer to a preflight.
const PREFLIGHT_S: u32 = 600;

/// What a page of another origin is told so that its browser shows it the answer.
pub fn allow_origin(origin: Option<&str>, out: &mut Vec<u8>) {
    if let Some(origin) = origin {
        write_all(out, format_args!("Access-Control-Allow-Origin: {origin}\r\nVary: Origin\r\n"));
        out.extend_from_slice(b"Access-Control-Expose-Headers: Retry-After\r\n");
    }
}

/// Puts the same into an answer that was written without.
pub fn allow_origin_in(answer: &mut Vec<u8>, origin: &str) {
    let status_line = answer.windows(2).position(|two| two == b"\r\n").map_or(0, |at| at + 2);
    let mut lines = Vec::new();
    allow_origin(Some(origin), &mut lines);
    answer.splice(status_line..status_line, lines);
}

/// The head of a stream of events. Without chunks it ends with the connection. Nothing may follow it.
pub fn event_stream(chunked: bool, origin: Option<&str>, out: &mut Vec<u8>) {
    out.extend_from_slice(
        b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nCache-Control: no-store\r\nX-Accel-Buffering: no\r\n",
    );
    allow_origin(origin, out);
    if chunked {
        out.extend_from_slice(b"Transfer-Encoding: chunked\r\n");
    }
    out.extend_from_slice(b"Connection: close\r\n\r\n");
}

/// An answer of JSON; whether the connection goes on with another request.
pub fn json(body: &str, keep: bool, origin: Option<&str>, out: &mut Vec<u8>) {
    out.extend_from_slice(
        b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nCache-Control: no-store\r\n",
    );
    allow_origin(origin, out);
    write_all(out, format_args!("Content-Length: {}\r\n{}\r\n\r\n{body}", body.len(), connection(keep)));
}

/// The answer to a preflight, and to whoever asks what a path can do.
pub fn options(keep: bool, origin: Option<&str>, out: &mut Vec<u8>) {
    out.extend_from_slice(b"HTTP/1.1 204 No Content\r\nAllow: GET, POST, OPTIONS\r\n");
    if origin.is_some() {
        allow_origin(origin, out);
        out.extend_from_slice(b"Access-Control-Allow-Methods: GET, POST\r\n");
        out.extend_from_slice(
            b"Access-Control-Allow-Headers: Authorization, Content-Type, Last-Event-ID\r\n",
        );
        write_all(out, format_args!("Access-Control-Max-Age: {PREFLIGHT_S}\r\n"));
    }
    write_all(out, format_args!("{}\r\n\r\n", connection(keep)));
}

fn connection(keep: bool) -> &'static str {
    if keep { "Connection: keep-alive" } else { "Connection: close" }
}

impl Request<'_> {
    /// Whether the client wants to send another request on the connection (RFC 9112 section 9.3).
    #[must_use]
    pub fn keeps_alive(&self) -> bool {
        self.minor_version >= 1
            && !self.header_list("connection").any(|word| word.eq_ignore_ascii_case(b"close"))
    }

    /// Whether it waits to be told that its body is welcome (RFC 9110 section 10.1.1).
    #[must_use]
    pub fn expects_continue(&self) -> bool {
        self.minor_version >= 1
            && self.header("expect").is_some_and(|what| what.eq_ignore_ascii_case("100-continue"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_origin_is_named_in_every_answer() {
        let mut out = Vec::new();
        super::super::answer::problem(409, "Conflict", "why", None, &[], &mut out);
        allow_origin_in(&mut out, "https://a.example");
        let text = String::from_utf8(out).expect("ASCII");
        let start =
            "HTTP/1.1 409 Conflict\r\nAccess-Control-Allow-Origin: https://a.example\r\nVary: Origin\r\n";
        assert!(text.starts_with(start), "{text}");
        let mut out = Vec::new();
        options(true, None, &mut out);
        assert!(!String::from_utf8(out).expect("ASCII").contains("Access-Control"));
    }

    #[test]
    fn a_stream_is_neither_stored_nor_buffered() {
        for chunked in [true, false] {
            let mut out = Vec::new();
            event_stream(chunked, None, &mut out);
            let text = String::from_utf8(out).expect("ASCII");
            for line in
                ["Content-Type: text/event-stream", "Cache-Control: no-store", "X-Accel-Buffering: no"]
            {
                assert!(text.contains(&format!("\r\n{line}\r\n")), "{line} is missing in {text}");
            }
            assert_eq!(text.contains("Transfer-Encoding: chunked"), chunked);
        }
    }
}

//! The request head.

use super::answer;
use super::query::QueryPairs;

/// Most header lines of one head: a browser behind two proxies sends some thirty.
pub const HEADERS_MAX: usize = 64;

/// What the bytes so far amount to.
#[derive(Debug)]
pub enum Parsed<'a> {
    /// The head goes on.
    Partial,
    /// The head is complete.
    Complete(Request<'a>),
}

/// A request, without its body.
#[derive(Debug)]
pub struct Request<'a> {
    /// As sent: methods are case-sensitive.
    pub method: &'a str,
    /// As sent, all ASCII.
    pub target: &'a str,
    /// The target's path, not decoded. For a target that has none (`*`, `host:port`), the target.
    pub path: &'a str,
    /// What follows the `?`, not decoded; empty if there is none.
    pub query: &'a str,
    /// Of HTTP/1.
    pub minor_version: u8,
    /// Bytes of the head, the empty line included.
    pub len: usize,
    headers: Vec<httparse::Header<'a>>,
}

/// The head can't be served.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum HeadError {
    /// It is longer than the limit, or has more than [`HEADERS_MAX`] header lines.
    #[error("the request head is too long")]
    TooLong,
    /// It is not HTTP/1, or could be read in more than one way.
    #[error("{0}")]
    Malformed(&'static str),
}

impl HeadError {
    /// Writes the answer: 431 or 400.
    pub fn answer(self, out: &mut Vec<u8>) {
        let (status, title) = match self {
            Self::TooLong => (431, "Request Header Fields Too Large"),
            Self::Malformed(_) => (400, "Bad Request"),
        };
        answer::problem(status, title, &self.to_string(), None, &[], out);
    }
}

/// Reads a request head at the start of `head`. What httparse forgives and two servers might read differently is
/// refused here.
///
/// # Errors
/// When it is too long or malformed. A head that grows past the limit is an error before it is complete.
pub fn parse(head: &[u8], head_bytes_max: usize) -> Result<Parsed<'_>, HeadError> {
    let mut headers = [httparse::EMPTY_HEADER; HEADERS_MAX];
    let mut parsed = httparse::Request::new(&mut headers);
    // What lies beyond the limit is not looked at, so that the answer does not depend on how much came at once.
    let within = &head[..head.len().min(head_bytes_max)];
    let len = match parsed.parse(within) {
        Ok(httparse::Status::Complete(len)) => len,
        Ok(httparse::Status::Partial) if head.len() <= head_bytes_max => return Ok(Parsed::Partial),
        Ok(_) | Err(httparse::Error::TooManyHeaders) => return Err(HeadError::TooLong),
        Err(error) => return Err(HeadError::Malformed(explain(error))),
    };
    // RFC 9112 2.2: a recipient may take a bare LF as the end of a line; not every one does. A complete head is
    // not empty.
    if has_bare_lf(&head[..len]) {
        return Err(HeadError::Malformed("a line of the head ends without CR"));
    }
    let (Some(method), Some(target), Some(minor_version)) = (parsed.method, parsed.path, parsed.version)
    else {
        return Err(HeadError::Malformed("the request line is incomplete"));
    };
    if !target.is_ascii() || target.contains('#') {
        return Err(HeadError::Malformed("the request target has a character that must be encoded"));
    }
    let (path, query) = split_target(target);
    let headers = parsed.headers.to_vec();
    let request = Request { method, target, path, query, minor_version, len, headers };
    if !request.has_one_length() {
        return Err(HeadError::Malformed("the length of the body could be read in more than one way"));
    }
    // RFC 9112 3.2: "A server MUST respond with a 400 (Bad Request) status code" to both.
    match request.header_values("host").count() {
        0 if minor_version > 0 => Err(HeadError::Malformed("the Host header is missing")),
        0 | 1 => Ok(Parsed::Complete(request)),
        _ => Err(HeadError::Malformed("there is more than one Host header")),
    }
}

impl<'a> Request<'a> {
    /// The values of all header lines of this name, in order.
    pub fn header_values(&self, name: &str) -> impl Iterator<Item = &'a [u8]> {
        let named = move |header: &&httparse::Header<'a>| header.name.eq_ignore_ascii_case(name);
        self.headers.iter().filter(named).map(|header| header.value)
    }

    /// The value of the only header line of this name; `None` if there is none, more than one, or it is not
    /// visible ASCII.
    #[must_use]
    pub fn header(&self, name: &str) -> Option<&'a str> {
        let mut values = self.header_values(name);
        let value = values.next().filter(|value| value.is_ascii())?;
        values.next().is_none().then(|| std::str::from_utf8(value).ok()).flatten()
    }

    /// The elements of a comma-separated header, over all its lines, in order; empty ones left out.
    pub fn header_list(&self, name: &str) -> impl Iterator<Item = &'a [u8]> {
        let elements = |value: &'a [u8]| value.split(|&byte| byte == b',').map(<[u8]>::trim_ascii);
        self.header_values(name).flat_map(elements).filter(|element| !element.is_empty())
    }

    /// The value of the `Authorization` header; two of them are as good as none.
    #[must_use]
    pub fn authorization(&self) -> Option<&'a str> {
        self.header("authorization")
    }

    /// The query's names and values, decoded.
    #[must_use]
    pub fn query_pairs(&self) -> QueryPairs<'a> {
        QueryPairs::new(self.query)
    }

    /// RFC 9112 6.3: whether every reader finds the end of the body at the same place. Stricter than it asks for:
    /// equal lengths twice and codings besides `chunked` have no use here, and hide requests from other readers.
    fn has_one_length(&self) -> bool {
        let mut lengths = self.header_values("content-length");
        let mut codings = self.header_values("transfer-encoding");
        // No more digits than always fit into 64 bits.
        let plain = |length: &[u8]| (1..=19).contains(&length.len()) && length.iter().all(u8::is_ascii_digit);
        let one = match (lengths.next(), codings.next()) {
            (None, None) => true,
            (Some(length), None) => plain(length),
            (None, Some(coding)) => self.minor_version > 0 && coding.eq_ignore_ascii_case(b"chunked"),
            (Some(_), Some(_)) => false,
        };
        one && lengths.next().is_none() && codings.next().is_none()
    }

    /// Whether a body follows, or might for another reader.
    #[must_use]
    pub fn announces_body(&self) -> bool {
        self.header_values("transfer-encoding").next().is_some()
            || self.header_values("content-length").any(|length| length != b"0")
    }
}

/// RFC 9112 3.2: origin form, absolute form, and those without a path.
fn split_target(target: &str) -> (&str, &str) {
    let rest = if target.starts_with('/') {
        target
    } else if let Some((scheme, rest)) = target.split_once("://")
        && (scheme.eq_ignore_ascii_case("http") || scheme.eq_ignore_ascii_case("https"))
    {
        &rest[rest.find(['/', '?']).unwrap_or(rest.len())..]
    } else {
        return (target, "");
    };
    let (path, query) = rest.split_once('?').unwrap_or((rest, ""));
    (if path.is_empty() { "/" } else { path }, query)
}

/// Looks at every byte without stopping at the first find, which is what lets the compiler take many at once.
fn has_bare_lf(head: &[u8]) -> bool {
    let pairs = head.iter().zip(&head[1..]);
    let bare = |found, (&before, &byte): (&u8, &u8)| found | ((byte == b'\n') & (before != b'\r'));
    head[0] == b'\n' || pairs.fold(false, bare)
}

fn explain(error: httparse::Error) -> &'static str {
    match error {
        httparse::Error::HeaderName => "a header name has a character that is not allowed",
        httparse::Error::HeaderValue => "a header value has a character that is not allowed",
        httparse::Error::NewLine => "a line of the head does not end as it should",
        httparse::Error::Version => "the version is not HTTP/1.1 or HTTP/1.0",
        _ => "the request line can't be read",
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const MAX: usize = 1_000;

    fn complete(head: &[u8]) -> Request<'_> {
        match parse(head, MAX) {
            Ok(Parsed::Complete(request)) => request,
            other => panic!("{other:?} for {}", head.escape_ascii()),
        }
    }

    #[track_caller]
    fn assert_malformed(head: &str) {
        assert!(matches!(parse(head.as_bytes(), MAX), Err(HeadError::Malformed(_))), "{head:?}");
    }

    #[test]
    fn a_head_is_partial_until_its_empty_line() {
        let head = b"GET /ws/a?x=1&y HTTP/1.1\r\nHost: h\r\nAccept: a\r\nACCEPT:b , ,c\r\n\r\n\x81\x80frames";
        let len = head.len() - b"\x81\x80frames".len();
        for cut in 0..len {
            assert!(matches!(parse(&head[..cut], MAX), Ok(Parsed::Partial)), "cut at {cut}");
        }
        let request = complete(head);
        assert_eq!((request.method, request.target, request.len), ("GET", "/ws/a?x=1&y", len));
        assert_eq!((request.path, request.query), ("/ws/a", "x=1&y"));
        assert!(request.header_list("accept").eq([b"a", b"b", b"c"]));
        assert_eq!((request.header("host"), request.header("accept")), (Some("h"), None));
    }

    #[test]
    fn targets_are_split_in_every_form() {
        for (target, path, query) in [
            ("/", "/", ""),
            ("/a?b?c", "/a", "b?c"),
            ("http://host/a?b", "/a", "b"),
            ("HTTPS://host:1", "/", ""),
            ("http://host?b", "/", "b"),
            ("*", "*", ""),
            ("host:443", "host:443", ""),
        ] {
            let head = format!("GET {target} HTTP/1.1\r\nHost: h\r\n\r\n");
            let request = complete(head.as_bytes());
            assert_eq!((request.path, request.query), (path, query), "{target}");
        }
    }

    #[test]
    fn what_two_servers_might_read_differently_is_refused() {
        for head in [
            "GET / HTTP/1.1\nHost: h\n\n",
            "GET / HTTP/1.1\r\nHost: h\r\nA: b\nC: d\r\n\r\n",
            "GET / HTTP/1.1\r\nHost: h\r\n\n",
            "\nGET / HTTP/1.1\r\nHost: h\r\n\r\n",
            "GET / HTTP/1.1\r\nHost: h\r\nA: b\r\n folded\r\n\r\n",
            "GET / HTTP/1.1\r\nHost : h\r\n\r\n",
            "GET / HTTP/1.1\r\n Host: h\r\n\r\n",
            "GET / HTTP/1.1\r\nHost: h\r\nA: b\0c\r\n\r\n",
            "GET / HTTP/1.1\r\nHost: h\r\nA: b\rc\r\n\r\n",
            "GET / HTTP/1.1\r\nHost: h\r\nA\r\n\r\n",
            "GET / HTTP/1.1\r\nHost: h\r\n: b\r\n\r\n",
            "GET  / HTTP/1.1\r\nHost: h\r\n\r\n",
            "GET / x HTTP/1.1\r\nHost: h\r\n\r\n",
            "GET /é HTTP/1.1\r\nHost: h\r\n\r\n",
            "GET /#a HTTP/1.1\r\nHost: h\r\n\r\n",
            "GET / HTTP/2.0\r\nHost: h\r\n\r\n",
            "GET / HTTP/1.1\r\nHost: h\r\nhost: h\r\n\r\n",
            "GET / HTTP/1.1\r\n\r\n",
            "\x16\x03\x01\x02",
        ] {
            assert_malformed(head);
        }
        complete(b"GET / HTTP/1.0\r\n\r\n");
    }

    #[test]
    fn a_body_whose_end_is_disputed_is_refused() {
        let head =
            |version: &str, lines: &str| format!("POST / HTTP/{version}\r\nHost: h\r\n{lines}\r\n\r\n");
        for lines in
            ["Content-Length: 0", "Content-Length: 9999999999999999999", "transfer-encoding: Chunked"]
        {
            complete(head("1.1", lines).as_bytes());
        }
        for lines in [
            "Content-Length: 5\r\nContent-Length: 5",
            "Content-Length: 0\r\nContent-Length: 5",
            "Content-Length: 5, 5",
            "Content-Length: +5",
            "Content-Length: -5",
            "Content-Length: 0x5",
            "Content-Length:",
            "Content-Length: 99999999999999999999",
            "Content-Length: 5\r\nTransfer-Encoding: chunked",
            "Transfer-Encoding: gzip, chunked",
            "Transfer-Encoding: chunked, identity",
            "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked",
            "Transfer-Encoding: \x0bchunked",
            "Transfer-Encoding:",
        ] {
            assert_malformed(&head("1.1", lines));
        }
        assert_malformed(&head("1.0", "Transfer-Encoding: chunked"));
    }

    #[test]
    fn the_limit_is_on_the_head_alone() {
        let head = b"GET / HTTP/1.1\r\nHost: h\r\n\r\n";
        assert!(parse(&[&head[..], &[0; 100]].concat(), head.len()).is_ok());
        assert_eq!(parse(head, head.len() - 1).err(), Some(HeadError::TooLong));
        let unfinished = [b"GET /".as_slice(), &[b'a'; MAX]].concat();
        assert_eq!(parse(&unfinished, MAX).err(), Some(HeadError::TooLong));
        let wrong_beyond = [&unfinished[..], b"\0 HTTP/1.1\r\n\r\n"].concat();
        assert_eq!(parse(&wrong_beyond, MAX).err(), Some(HeadError::TooLong), "it is not looked at");
        let many = format!("GET / HTTP/1.1\r\nHost: h\r\n{}\r\n", "a:b\r\n".repeat(HEADERS_MAX));
        assert_eq!(parse(many.as_bytes(), MAX).err(), Some(HeadError::TooLong));
    }

    proptest! {
        #[test]
        fn no_bytes_make_it_panic(
            line in "(GET|POST|G\\PC) (/|/ws/|\\*|http://)[!-~é]{0,20} HTTP/1\\.[01]",
            known in prop::sample::subsequence(KNOWN.to_vec(), 0..KNOWN.len()),
            others in prop::collection::vec("[A-Za-z-]{1,9}: ?[ -~\u{7f}é]{0,20}\r?\n", 0..3),
            noise in prop::collection::vec(any::<u8>(), 0..100),
        ) {
            let head = [&line, "\r\nHost: h\r\n", &known.concat(), &others.concat(), "\r\n"].concat();
            if let Ok(Parsed::Complete(request)) = parse(head.as_bytes(), MAX) {
                prop_assert_eq!(request.len, head.len());
                let _ = (request.query_pairs().count(), request.websocket());
                let _ = super::super::classify(&request, true);
            }
            let _ = parse(&noise, MAX);
        }
    }

    const KNOWN: [&str; 6] = [
        "Upgrade: websocket\r\n",
        "Connection: Upgrade\r\n",
        "Sec-WebSocket-Version: 13\r\n",
        "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n",
        "Sec-WebSocket-Protocol: a, b\r\n",
        "Content-Length: 3\r\n",
    ];
}

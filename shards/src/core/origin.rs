//! From which web pages a WebSocket may be opened (RFC 6455 section 10.2): a browser says in `Origin` whose script asks.

use super::gate::matches;
use super::http::Request;

/// Whose pages may connect. Programs that are no browsers send no `Origin` and are not concerned.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Origins {
    /// Anybody's.
    Any,
    /// Those of the host that the request was sent to.
    SameHost,
    /// Those whose origin is like one of these patterns, in lower case, `*` standing for any run of characters.
    Listed(Box<[Box<str>]>),
}

impl Origins {
    /// Whether the page that sent this request may connect.
    #[must_use]
    pub fn allow(&self, request: &Request<'_>) -> bool {
        if *self == Self::Any || request.header_values("origin").next().is_none() {
            return true;
        }
        // More than one, or one that is not ASCII, is no browser's.
        let Some(origin) = request.header("origin").map(str::to_ascii_lowercase) else { return false };
        match self {
            Self::Any => true,
            Self::SameHost => request.header("host").is_some_and(|host| same_host(&origin, host)),
            Self::Listed(patterns) => patterns.iter().any(|pattern| matches(pattern, &origin)),
        }
    }
}

/// The origin of the page that sent a request, to be told that it may read the answer.
pub(super) fn named<'a>(request: &Request<'a>) -> Option<&'a str> {
    request.header("origin")
}

/// Whether an origin is of this host and port; the port that belongs to its scheme may be left out.
fn same_host(origin: &str, host: &str) -> bool {
    let (authority, port) = match origin.split_once("://") {
        Some(("http", authority)) => (authority, ":80"),
        Some(("https", authority)) => (authority, ":443"),
        _ => return false,
    };
    let host = host.to_ascii_lowercase();
    authority.strip_suffix(port).unwrap_or(authority) == host.strip_suffix(port).unwrap_or(&host)
}

#[cfg(test)]
mod tests {
    use super::super::http::{Parsed, parse};
    use super::*;

    fn allow(origins: &Origins, headers: &str) -> bool {
        let head = format!("GET /ws/a HTTP/1.1\r\nHost: Voxhall.example:8080\r\n{headers}\r\n");
        match parse(head.as_bytes(), 8_192) {
            Ok(Parsed::Complete(request)) => origins.allow(&request),
            other => panic!("{other:?} for {head}"),
        }
    }

    #[test]
    fn a_page_of_the_same_host_and_port_may_connect() {
        for (headers, expected) in [
            ("", true),
            ("Origin: http://voxhall.example:8080\r\n", true),
            ("Origin: https://voxhall.example:8080\r\n", true),
            ("Origin: http://voxhall.example\r\n", false),
            ("Origin: http://evil.example:8080\r\n", false),
            ("Origin: null\r\n", false),
            ("Origin: http://voxhall.example:8080\r\nOrigin: http://voxhall.example:8080\r\n", false),
        ] {
            assert_eq!(allow(&Origins::SameHost, headers), expected, "{headers}");
        }
        assert!(same_host("https://a.b", "a.b") && same_host("https://a.b", "A.b:443"));
        assert!(same_host("http://a.b:80", "a.b") && !same_host("http://a.b:443", "a.b"));
    }

    #[test]
    fn listed_pages_may_connect_and_no_others() {
        let listed = Origins::Listed(["https://app.example".into(), "https://*.pages.example".into()].into());
        for (origin, expected) in [
            ("https://app.example", true),
            ("HTTPS://App.example", true),
            ("https://x.pages.example", true),
            ("https://pages.example", false),
            ("https://app.example.evil.example", false),
            ("http://app.example", false),
            ("http://voxhall.example:8080", false),
        ] {
            assert_eq!(allow(&listed, &format!("Origin: {origin}\r\n")), expected, "{origin}");
        }
        assert!(allow(&Origins::Any, "Origin: https://evil.example\r\n") && allow(&listed, ""));
    }
}

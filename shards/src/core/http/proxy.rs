//! What a proxy says of the client behind it: the PROXY protocol, versions 1 and 2 (HAProxy's proxy-protocol.txt,
//! sections 2.1 and 2.2), and `X-Forwarded-For` or `Forwarded` (RFC 7239).
//!
//! Anybody can say anything: these are only asked about peers that the configuration trusts.

use ::core::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use super::head::Request;
use crate::core::networks::Networks;

/// Longest line of version 1, its end included.
const LINE_BYTES_MAX: usize = 107;
/// How version 2 begins.
const SIGNATURE: &[u8; 12] = b"\r\n\r\n\0\r\nQUIT\n";
/// What stands before the addresses in version 2.
const PREFIX_BYTES: usize = 16;

/// A PROXY header at the start of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ProxyHeader {
    /// Bytes it takes.
    pub len: usize,
    /// The client; nothing when the proxy speaks for itself, as in a health check.
    pub client: Option<SocketAddr>,
}

/// No PROXY header, where one must be.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a PROXY header must come first from this address")]
pub struct BadProxyHeader;

/// Reads a PROXY header; nothing when more bytes are needed.
///
/// # Errors
/// When the bytes can't become one.
pub fn proxy_header(bytes: &[u8]) -> Result<Option<ProxyHeader>, BadProxyHeader> {
    let shared = bytes.len().min(SIGNATURE.len());
    if bytes[..shared] == SIGNATURE[..shared] {
        return version_2(bytes);
    }
    let shared = bytes.len().min(LINE.len());
    if bytes[..shared] == LINE[..shared] { version_1(bytes) } else { Err(BadProxyHeader) }
}

/// How version 1 begins.
const LINE: &[u8] = b"PROXY ";

fn version_1(bytes: &[u8]) -> Result<Option<ProxyHeader>, BadProxyHeader> {
    let line = &bytes[..bytes.len().min(LINE_BYTES_MAX)];
    let Some(end) = line.windows(2).position(|pair| pair == b"\r\n") else {
        return if bytes.len() < LINE_BYTES_MAX { Ok(None) } else { Err(BadProxyHeader) };
    };
    let words = std::str::from_utf8(&line[LINE.len()..end]).map_err(|_| BadProxyHeader)?;
    let words: Vec<&str> = words.split(' ').collect();
    let client = match words[..] {
        ["UNKNOWN", ..] => None,
        ["TCP4", from, to, port, to_port] => Some(pair::<Ipv4Addr>(from, to, port, to_port)?),
        ["TCP6", from, to, port, to_port] => Some(pair::<Ipv6Addr>(from, to, port, to_port)?),
        _ => return Err(BadProxyHeader),
    };
    Ok(Some(ProxyHeader { len: end + 2, client }))
}

/// The client's end of a connection, where the proxy's is well-formed as well.
fn pair<A>(from: &str, to: &str, port: &str, to_port: &str) -> Result<SocketAddr, BadProxyHeader>
where
    A: std::str::FromStr + Into<IpAddr>,
{
    let address = |text: &str| text.parse::<A>().map_err(|_| BadProxyHeader);
    let number = |text: &str| {
        let plain = text.bytes().all(|byte| byte.is_ascii_digit());
        text.parse::<u16>().ok().filter(|_| plain).ok_or(BadProxyHeader)
    };
    address(to)?;
    number(to_port)?;
    Ok(SocketAddr::new(address(from)?.into(), number(port)?))
}

fn version_2(bytes: &[u8]) -> Result<Option<ProxyHeader>, BadProxyHeader> {
    let Some((prefix, rest)) = bytes.split_at_checked(PREFIX_BYTES) else { return Ok(None) };
    let (command, family) = (prefix[12], prefix[13]);
    let size = usize::from(u16::from_be_bytes([prefix[14], prefix[15]]));
    if !matches!(command, 0x20 | 0x21) {
        return Err(BadProxyHeader);
    }
    let Some(addresses) = rest.get(..size) else { return Ok(None) };
    let client = match (command, family) {
        (0x20, _) => None,
        (_, 0x11) => Some(ends::<4>(addresses)?),
        (_, 0x21) => Some(ends::<16>(addresses)?),
        // A Unix socket or something that no address is given for; datagrams can't be what this came over.
        (_, 0x00 | 0x31) => None,
        _ => return Err(BadProxyHeader),
    };
    Ok(Some(ProxyHeader { len: PREFIX_BYTES + size, client }))
}

/// Source address, destination address, source port, destination port, then what we need not know.
fn ends<const N: usize>(addresses: &[u8]) -> Result<SocketAddr, BadProxyHeader>
where
    IpAddr: From<[u8; N]>,
{
    let source = addresses.first_chunk::<N>().ok_or(BadProxyHeader)?;
    let port = addresses.get(2 * N..2 * N + 4).ok_or(BadProxyHeader)?;
    Ok(SocketAddr::new(IpAddr::from(*source), u16::from_be_bytes([port[0], port[1]])))
}

/// Which header a trusted proxy names its client in. One, because a proxy passes on the other as the client wrote it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ForwardedBy {
    /// None.
    Nothing,
    /// `X-Forwarded-For`
    #[default]
    XForwardedFor,
    /// `Forwarded`
    Forwarded,
}

impl Request<'_> {
    /// The client's address as trusted proxies tell it: the last one in the list that is not itself trusted. Nothing
    /// when none is told, or not as an address.
    pub fn forwarded_for(&self, by: ForwardedBy, trusted: &Networks) -> Option<IpAddr> {
        let elements: Vec<&[u8]> = match by {
            ForwardedBy::Nothing => return None,
            ForwardedBy::XForwardedFor => self.header_list("x-forwarded-for").collect(),
            ForwardedBy::Forwarded => self.header_list("forwarded").collect(),
        };
        let mut told = None;
        for element in elements.into_iter().rev() {
            let node = match by {
                ForwardedBy::Forwarded => for_parameter(element),
                _ => std::str::from_utf8(element).ok(),
            };
            let Some(address) = node.and_then(address) else { break };
            told = Some(address);
            if !trusted.contains(address) {
                break;
            }
        }
        told
    }
}

/// The value of `for=` in an element of `Forwarded`, without quotes.
fn for_parameter(element: &[u8]) -> Option<&str> {
    let mut pairs = std::str::from_utf8(element).ok()?.split(';').filter_map(|pair| pair.split_once('='));
    let (_, value) = pairs.find(|(name, _)| name.trim().eq_ignore_ascii_case("for"))?;
    Some(value.trim().trim_matches('"'))
}

/// An address, with a port or without: `192.0.2.1`, `192.0.2.1:80`, `2001:db8::1`, `[2001:db8::1]:80`.
fn address(node: &str) -> Option<IpAddr> {
    let socket = || node.parse::<SocketAddr>().ok().map(|socket| socket.ip());
    let bracketed = || node.strip_prefix('[')?.strip_suffix(']')?.parse().ok();
    node.parse().ok().or_else(socket).or_else(bracketed)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::head::{Parsed, parse};
    use super::*;

    fn client(bytes: &[u8]) -> Result<Option<String>, BadProxyHeader> {
        let header = proxy_header(bytes)?.expect("it is whole");
        assert_eq!(header.len, bytes.len());
        Ok(header.client.map(|client| client.to_string()))
    }

    fn v2(command: u8, family: u8, addresses: &[u8]) -> Vec<u8> {
        let len = (addresses.len() as u16).to_be_bytes();
        [&SIGNATURE[..], &[command, family], &len, addresses].concat()
    }

    #[test]
    fn section_2_1_lines() {
        assert_eq!(client(b"PROXY TCP4 192.0.2.1 192.0.2.9 5000 80\r\n"), Ok(Some("192.0.2.1:5000".into())));
        assert_eq!(client(b"PROXY TCP6 2001:db8::1 ::1 5 80\r\n"), Ok(Some("[2001:db8::1]:5".into())));
        assert_eq!(client(b"PROXY UNKNOWN\r\n"), Ok(None));
        assert_eq!(client(b"PROXY UNKNOWN ffff:f...f:ffff ffff:f...f:ffff 65535 65535\r\n"), Ok(None));
        for bad in [
            "PROXY TCP4 192.0.2.1 192.0.2.9 5000\r\n",
            "PROXY TCP4 192.0.2.1 192.0.2.9 5000 65536\r\n",
            "PROXY TCP4 192.0.2.1 192.0.2.9 +5000 80\r\n",
            "PROXY TCP4 ::1 ::1 5000 80\r\n",
            "PROXY TCP4  192.0.2.1 192.0.2.9 5000 80\r\n",
            "PROXY UDP4 192.0.2.1 192.0.2.9 5000 80\r\n",
            "proxy TCP4 192.0.2.1 192.0.2.9 5000 80\r\n",
            "GET / HTTP/1.1\r\n",
        ] {
            assert_eq!(proxy_header(bad.as_bytes()), Err(BadProxyHeader), "{bad}");
        }
        let endless = format!("PROXY UNKNOWN {}", "x".repeat(LINE_BYTES_MAX));
        assert_eq!(proxy_header(endless.as_bytes()), Err(BadProxyHeader));
    }

    #[test]
    fn section_2_2_binary_headers() {
        let four = [192, 0, 2, 1, 192, 0, 2, 9, 0x13, 0x88, 0, 80];
        assert_eq!(client(&v2(0x21, 0x11, &four)), Ok(Some("192.0.2.1:5000".into())));
        let with_more = [&four[..], &[4, 0, 1, 0]].concat();
        assert_eq!(
            client(&v2(0x21, 0x11, &with_more)),
            Ok(Some("192.0.2.1:5000".into())),
            "TLVs are skipped"
        );
        let six = [[0x20; 16], [1; 16]].concat();
        let six = [&six[..], &[0, 7, 0, 80]].concat();
        let expected = "[2020:2020:2020:2020:2020:2020:2020:2020]:7";
        assert_eq!(client(&v2(0x21, 0x21, &six)), Ok(Some(expected.into())));
        assert_eq!(client(&v2(0x20, 0x00, &[])), Ok(None), "a health check of the proxy itself");
        assert_eq!(client(&v2(0x20, 0x11, &four)), Ok(None));
        assert_eq!(client(&v2(0x21, 0x31, &[0; 216])), Ok(None));
        for bad in
            [v2(0x11, 0x11, &four), v2(0x22, 0x11, &four), v2(0x21, 0x12, &four), v2(0x21, 0x11, &four[..11])]
        {
            assert_eq!(proxy_header(&bad), Err(BadProxyHeader), "{bad:?}");
        }
    }

    #[test]
    fn a_header_may_come_byte_by_byte() {
        for whole in [b"PROXY TCP4 192.0.2.1 192.0.2.9 5000 80\r\n".to_vec(), v2(0x21, 0x00, &[1, 2, 3])] {
            for cut in 0..whole.len() {
                assert_eq!(proxy_header(&whole[..cut]), Ok(None), "{cut}");
            }
            let behind = [&whole[..], b"GET / HTTP/1.1"].concat();
            assert_eq!(proxy_header(&behind).map(|header| header.map(|h| h.len)), Ok(Some(whole.len())));
        }
    }

    proptest! {
        #[test]
        fn no_bytes_are_too_strange(bytes: Vec<u8>, start in 0..3usize) {
            let start: &[u8] = [&b""[..], LINE, SIGNATURE][start];
            let bytes = [start, &bytes].concat();
            if let Ok(Some(header)) = proxy_header(&bytes) {
                prop_assert!(header.len <= bytes.len());
            }
        }
    }

    fn told(lines: &str, by: ForwardedBy) -> Option<String> {
        let head = format!("GET /ws/a HTTP/1.1\r\nHost: h\r\n{lines}\r\n");
        let trusted = "10.0.0.0/8,2001:db8::/32".parse().expect("networks");
        match parse(head.as_bytes(), 8_192) {
            Ok(Parsed::Complete(request)) => request.forwarded_for(by, &trusted).map(|ip| ip.to_string()),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn the_client_is_the_last_address_that_is_not_a_proxy_of_ours() {
        let x = |value: &str| told(&format!("X-Forwarded-For: {value}\r\n"), ForwardedBy::XForwardedFor);
        assert_eq!(x("198.51.100.1").as_deref(), Some("198.51.100.1"));
        assert_eq!(
            x("1.2.3.4, 198.51.100.1, 10.0.0.7").as_deref(),
            Some("198.51.100.1"),
            "not what it claims"
        );
        assert_eq!(x("10.0.0.1, 10.0.0.7").as_deref(), Some("10.0.0.1"));
        assert_eq!(x("198.51.100.1:4000, [2001:db8::9]:80").as_deref(), Some("198.51.100.1"));
        assert_eq!(x("1.2.3.4, unknown, 10.0.0.7").as_deref(), Some("10.0.0.7"), "nothing behind nonsense");
        assert_eq!(x("unknown"), None);
        let two =
            told("X-Forwarded-For: 1.2.3.4\r\nX-Forwarded-For: 5.6.7.8\r\n", ForwardedBy::XForwardedFor);
        assert_eq!(two.as_deref(), Some("5.6.7.8"));
    }

    #[test]
    fn rfc_7239_section_4_forwarded() {
        let forwarded = |value: &str| told(&format!("Forwarded: {value}\r\n"), ForwardedBy::Forwarded);
        assert_eq!(forwarded("for=192.0.2.43;proto=https, for=10.1.1.1").as_deref(), Some("192.0.2.43"));
        assert_eq!(forwarded("by=x;For=\"[2001:db9:cafe::17]:4711\"").as_deref(), Some("2001:db9:cafe::17"));
        assert_eq!(forwarded("for=_hidden"), None);
        assert_eq!(
            told("X-Forwarded-For: 1.2.3.4\r\n", ForwardedBy::Forwarded),
            None,
            "only the one it is in"
        );
        assert_eq!(told("Forwarded: for=1.2.3.4\r\n", ForwardedBy::Nothing), None);
    }
}

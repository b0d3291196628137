//! What proxies say of the client behind them.

use std::net::{IpAddr, SocketAddr};

use shards::core::http::{self, BadProxyHeader, ForwardedBy, Parsed, ProxyHeader, proxy_header};
use shards::core::networks::Networks;
use shards::core::{Destination, ShardConfig};

use crate::pieces::{choice, pieces};
use crate::rig::{Fate, fate};

const PROXY: &str = "10.0.0.1:4000";
const TRUSTED: &str = "10.0.0.0/8, fd00::/8";
/// Longest PROXY header of version 1.
const LINE_BYTES_MAX: usize = 107;
const HEAD_BYTES_MAX: usize = 400;

/// The first byte says what the rest is: the bytes of a connection from a trusted proxy, with a PROXY header or without; or
/// the value of a header line.
pub(crate) fn run(bytes: &[u8]) {
    let (conditions, rest) = choice(bytes);
    if conditions & 1 == 0 {
        header(rest);
        connection(rest, conditions & 2 == 0);
    } else {
        let by = if conditions & 2 == 0 { ForwardedBy::XForwardedFor } else { ForwardedBy::Forwarded };
        line(rest, by);
    }
}

/// A PROXY header on its own.
fn header(bytes: &[u8]) {
    let whole = proxy_header(bytes);
    let mut len = 0;
    for piece in pieces(bytes) {
        len += piece.len();
        let early = proxy_header(&bytes[..len]);
        assert!(early == Ok(None) || early == whole, "{early:?} after {len} bytes, {whole:?} at the end");
    }
    match whole {
        Ok(Some(header)) => {
            assert!(header.len <= bytes.len());
            assert_eq!(proxy_header(&bytes[..header.len]), whole, "it needs nothing behind it");
            assert_eq!(proxy_header(&bytes[..header.len - 1]), Ok(None), "and every byte of it");
            assert!(!bytes.starts_with(b"PROXY ") || header.len <= LINE_BYTES_MAX);
            header.client.into_iter().for_each(rewritten);
        }
        Ok(None) => {
            let most = if bytes.starts_with(b"P") { LINE_BYTES_MAX - 1 } else { 16 + 65_534 };
            assert!(bytes.len() <= most, "more is wanted than a header has");
        }
        Err(BadProxyHeader) => {}
    }
}

/// The client, told again in both versions, is the same.
fn rewritten(client: SocketAddr) {
    let (ip, port) = (client.ip(), client.port());
    let family = if ip.is_ipv4() { "TCP4" } else { "TCP6" };
    let line = format!("PROXY {family} {ip} {ip} {port} 443\r\n");
    let expected = |len| Ok(Some(ProxyHeader { len, client: Some(client) }));
    assert_eq!(proxy_header(line.as_bytes()), expected(line.len()), "{line}");
    let mut binary = b"\r\n\r\n\0\r\nQUIT\n\x21".to_vec();
    let ends = match ip {
        IpAddr::V4(ip) => [ip.octets(), ip.octets()].concat(),
        IpAddr::V6(ip) => [ip.octets(), ip.octets()].concat(),
    };
    binary.push(if ip.is_ipv4() { 0x11 } else { 0x21 });
    binary.extend((ends.len() as u16 + 4).to_be_bytes());
    binary.extend(ends);
    binary.extend([port.to_be_bytes(), 443_u16.to_be_bytes()].concat());
    assert_eq!(proxy_header(&binary), expected(binary.len()));
}

/// A connection from a proxy: what the shard takes it to come from.
fn connection(bytes: &[u8], protocol: bool) {
    let peer: SocketAddr = PROXY.parse().expect("an address");
    let config = |trusted: &str| {
        let mut config = ShardConfig::default();
        config.limits.head_bytes_max = HEAD_BYTES_MAX;
        config.proxies.trusted = trusted.parse().expect("networks");
        config.proxies.protocol = protocol;
        config
    };
    let at_once = fate(config(TRUSTED), peer, Some(bytes).filter(|bytes| !bytes.is_empty()));
    assert_eq!(fate(config(TRUSTED), peer, pieces(bytes)), at_once, "at once, and in pieces");
    if let Fate::Moved(to, head, _) = &at_once {
        assert_eq!(*to, Destination::ControlPlane);
        let told = proxy_header(bytes).ok().flatten().map_or(0, |header| header.len);
        assert_eq!(head, &bytes[if protocol { told } else { 0 }..], "all but the PROXY header moves on");
    }
    if let Fate::Moved(_, _, from) = fate(config("192.0.2.0/24"), peer, pieces(bytes)) {
        assert_eq!(from, peer, "who is not trusted is not believed");
    }
}

/// A header line, beside a reading of its own.
fn line(value: &[u8], by: ForwardedBy) {
    let name = if by == ForwardedBy::Forwarded { "Forwarded" } else { "X-Forwarded-For" };
    let head = [b"GET / HTTP/1.1\r\nHost: h\r\n", name.as_bytes(), b": ", value, b"\r\n\r\n"].concat();
    let Ok(Parsed::Complete(request)) = http::parse(&head, head.len()) else { return };
    if request.len < head.len() {
        return; // The value had more than one line.
    }
    let networks = |list: &str| -> Networks { list.parse().expect("networks") };
    let (trusted, nobody) = (networks(TRUSTED), Networks::default());
    let all = networks("0.0.0.0/0, ::/0");
    assert_eq!(request.forwarded_for(ForwardedBy::Nothing, &all), None);
    let told = request.forwarded_for(by, &trusted);
    let last = request.forwarded_for(by, &nobody);
    let first = request.forwarded_for(by, &all);
    assert_eq!(told.is_some(), last.is_some(), "the last proxy's word is asked first");
    assert_eq!(told.is_some(), first.is_some());
    if let (Some(told), Some(last), Some(first)) = (told, last, first) {
        assert!(trusted.contains(last) || told == last, "{last} is not trusted, so {told} is not believed");
        assert!(!trusted.contains(told) || told == first, "{told} is a proxy, and there was a client");
    }
    if by == ForwardedBy::XForwardedFor {
        let lists = request.header_list("x-forwarded-for").last().map(<[u8]>::to_vec);
        let plain = lists.and_then(|last| String::from_utf8(last).ok()?.parse::<IpAddr>().ok());
        assert!(plain.is_none() || plain == last, "{plain:?} is {last:?}");
    }
}

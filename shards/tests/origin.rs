//! Where a connection comes from when proxies stand between: believed of some, of others not.

use std::sync::Arc;

use shards::core::http::ForwardedBy;
use shards::core::{Caller, ConnKey, Effect, Effects, Gather, Input, Micros, Shard, ShardConfig, ShardId};

const PLAIN: &str = "GET / HTTP/1.1\r\nHost: h\r\n\r\n";

fn shard(protocol: bool, forwarded_by: ForwardedBy) -> Shard {
    let mut config = ShardConfig::default();
    config.proxies.trusted = "10.0.0.0/8".parse().expect("a network");
    (config.proxies.protocol, config.proxies.forwarded_by) = (protocol, forwarded_by);
    Shard::new(ShardId(0), Arc::new(config), 1)
}

/// A process of this host on a Unix-domain socket.
const LOCAL: &str = "local";

/// What becomes of a request: where it is handed on as coming from, with its head, or the answer it gets.
fn outcome(shard: &mut Shard, index: u32, peer: &str, pieces: &[&[u8]]) -> Result<(String, Vec<u8>), String> {
    let (conn, now) = (ConnKey { index, generation: 0 }, Micros::from_s(1));
    let mut fx: Effects = Vec::new();
    let peer = match peer {
        LOCAL => Caller::Local,
        address => Caller::At(address.parse().expect("an address")),
    };
    shard.handle(now, Input::Accepted { conn, peer }, &mut fx);
    for piece in pieces {
        shard.handle(now, Input::Received { conn, bytes: &mut piece.to_vec() }, &mut fx);
    }
    shard.end_turn(now, &mut fx);
    for effect in fx {
        match effect {
            Effect::Move { peer, head, .. } => return Ok((peer.to_string(), head)),
            Effect::Send(conn) => {
                let mut gather = Gather::default();
                shard.gather(conn, &mut gather);
                let bytes: Vec<u8> = gather.slices().flatten().copied().collect();
                return Err(String::from_utf8_lossy(&bytes).lines().next().unwrap_or_default().to_owned());
            }
            _ => {}
        }
    }
    Err("nothing".to_owned())
}

fn from(shard: &mut Shard, index: u32, peer: &str, head: &str) -> String {
    outcome(shard, index, peer, &[head.as_bytes()]).map_or_else(|answer| answer, |(from, _)| from)
}

#[test]
fn a_trusted_proxy_says_who_comes_before_the_head() {
    let mut shard = shard(true, ForwardedBy::Nothing);
    let line = "PROXY TCP4 198.51.100.7 10.0.0.7 5000 80\r\n";
    let whole = format!("{line}{PLAIN}");
    let at_once = outcome(&mut shard, 1, "10.0.0.7:1", &[whole.as_bytes()]);
    assert_eq!(at_once, Ok(("198.51.100.7:5000".to_owned(), PLAIN.as_bytes().to_vec())));
    let bytes: Vec<&[u8]> = whole.as_bytes().chunks(1).collect();
    assert_eq!(outcome(&mut shard, 2, "10.0.0.7:1", &bytes), at_once, "byte by byte as well");
    let check = [b"\r\n\r\n\0\r\nQUIT\n\x20\0\0\0", PLAIN.as_bytes()].concat();
    let check = outcome(&mut shard, 3, "10.0.0.7:1", &[&check]);
    assert_eq!(check.map(|(from, _)| from), Ok("10.0.0.7:1".to_owned()), "it asks for itself");
}

#[test]
fn nobody_else_may_say_so_and_a_trusted_one_must() {
    let mut shard = shard(true, ForwardedBy::Nothing);
    let forged = format!("PROXY TCP4 198.51.100.7 10.0.0.7 5000 80\r\n{PLAIN}");
    assert_eq!(from(&mut shard, 1, "203.0.113.5:1", &forged), "HTTP/1.1 400 Bad Request");
    assert_eq!(from(&mut shard, 2, "203.0.113.5:1", PLAIN), "203.0.113.5:1");
    assert_eq!(from(&mut shard, 3, "10.0.0.7:1", PLAIN), "HTTP/1.1 400 Bad Request");
    let endless = [&b"\r\n\r\n\0\r\nQUIT\n\x21\x11\xff\xff"[..], &[0; 9_000]].concat();
    let answer = outcome(&mut shard, 4, "10.0.0.7:1", &[&endless]);
    assert_eq!(answer, Err("HTTP/1.1 400 Bad Request".to_owned()), "it has no more room than a head");
    let too_long = [&b"\r\n\r\n\0\r\nQUIT\n\x21\x11\x23\x28"[..], &[0; 9_000], PLAIN.as_bytes()].concat();
    let answer = outcome(&mut shard, 5, "10.0.0.7:1", &[&too_long]);
    assert_eq!(answer, Err("HTTP/1.1 400 Bad Request".to_owned()), "whether or not all of it comes at once");
}

#[test]
fn a_header_line_counts_only_from_a_trusted_proxy_and_only_the_named_one() {
    let head = "GET / HTTP/1.1\r\nHost: h\r\nX-Forwarded-For: 1.1.1.1, 198.51.100.7\r\n\
                Forwarded: for=6.6.6.6\r\n\r\n";
    let mut by_x = shard(false, ForwardedBy::XForwardedFor);
    assert_eq!(from(&mut by_x, 1, "10.0.0.7:1", head), "198.51.100.7:0");
    assert_eq!(from(&mut by_x, 2, "203.0.113.5:1", head), "203.0.113.5:1");
    assert_eq!(from(&mut shard(false, ForwardedBy::Nothing), 1, "10.0.0.7:1", head), "10.0.0.7:1");
    assert_eq!(from(&mut shard(false, ForwardedBy::Forwarded), 1, "10.0.0.7:1", head), "6.6.6.6:0");
}

#[test]
fn a_local_process_is_believed_and_the_client_it_names_is_not() {
    let forwarded = "GET / HTTP/1.1\r\nHost: h\r\nX-Forwarded-For: 198.51.100.7\r\n\r\n";
    let mut plain = shard(false, ForwardedBy::XForwardedFor);
    assert_eq!(from(&mut plain, 1, LOCAL, forwarded), "198.51.100.7:0");
    assert_eq!(from(&mut plain, 2, LOCAL, PLAIN), "127.0.0.1:0", "of this host, which has no limits");
    let mut by_header = shard(true, ForwardedBy::XForwardedFor);
    assert_eq!(from(&mut by_header, 1, LOCAL, PLAIN), "HTTP/1.1 400 Bad Request", "it must say so");
    let line = "PROXY TCP4 203.0.113.5 192.0.2.1 5000 443\r\n";
    assert_eq!(from(&mut by_header, 2, LOCAL, &format!("{line}{PLAIN}")), "203.0.113.5:5000");
    assert_eq!(
        from(&mut by_header, 3, LOCAL, &format!("{line}{forwarded}")),
        "203.0.113.5:5000",
        "a stranger's header line counts for nothing, through whatever socket it comes"
    );
    let unknown = format!("PROXY UNKNOWN\r\n{forwarded}");
    assert_eq!(from(&mut by_header, 4, LOCAL, &unknown), "198.51.100.7:0", "the process speaks for itself");
}

#[test]
fn a_flood_is_its_senders_whatever_proxies_it_comes_through() {
    let mut shard = shard(false, ForwardedBy::XForwardedFor);
    let mut knock = |index: u32, client: &str| {
        let head = format!(
            "GET /ws/{index} HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
             X-Forwarded-For: {client}\r\nSec-WebSocket-Version: 13\r\n\
             Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
        );
        from(&mut shard, index, &format!("10.0.0.{}:1", index % 9), &head)
    };
    for index in 0..200 {
        assert_eq!(knock(index, "198.51.100.7"), "HTTP/1.1 101 Switching Protocols", "{index}");
    }
    assert_eq!(knock(200, "198.51.100.7"), "HTTP/1.1 429 Too Many Requests");
    assert_eq!(knock(201, "198.51.100.8"), "HTTP/1.1 101 Switching Protocols");
}

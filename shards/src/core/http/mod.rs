//! As much of HTTP/1.1 as a shard needs (RFC 9112): to read a request head, to say who serves it, to open a
//! WebSocket (RFC 6455 section 4.2), to refuse, and to ask a server for a WebSocket (section 4.1).
//!
//! Pure functions over the bytes of one head, called on the shard's thread; what they return borrows from it. A
//! shard answers one request per connection, refusals with `Connection: close`, so that nothing can be smuggled
//! behind it. Bounded by `limits.head_bytes_max` and [`HEADERS_MAX`].

pub mod answer;
mod client;
mod extensions;
#[cfg(test)]
mod extensions_tests;
mod handshake;
mod head;
mod proxy;
mod query;
mod request_route;

pub use client::{Answered, Asked, ask};
pub use extensions::DeflateOffer;
pub use handshake::{Handshake, HandshakeError, SUBPROTOCOLS_MAX, UpgradeKind};
pub use head::{HEADERS_MAX, HeadError, Parsed, Request, parse};
pub use proxy::{BadProxyHeader, ForwardedBy, ProxyHeader, proxy_header};
pub use query::QueryPairs;
pub use request_route::{Route, classify};

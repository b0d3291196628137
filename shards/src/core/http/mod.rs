//! As much of HTTP/1.1 as a shard needs (RFC 9112): to read a request head and a short body, to say who serves it, to open a
//! WebSocket (RFC 6455 section 4.2) or a stream of events, to refuse, and to ask a server for a WebSocket (section 4.1).
//!
//! Pure functions over the bytes of one head, called on the shard's thread; what they return borrows from it. Refusals
//! end their connection, so that nothing can be smuggled behind them; only what was answered well may be followed by
//! another request. Bounded by `limits.head_bytes_max` and [`HEADERS_MAX`].

pub mod answer;
mod body;
mod client;
mod extensions;
#[cfg(test)]
mod extensions_tests;
mod handshake;
mod head;
mod proxy;
mod query;
mod request_route;
pub mod stream;

pub use body::{Body, BodyError};
pub use client::{Answered, Asked, ask};
pub use extensions::DeflateOffer;
pub use handshake::{Handshake, HandshakeError, SUBPROTOCOLS_MAX, UpgradeKind};
pub use head::{HEADERS_MAX, HeadError, Parsed, Request, parse};
pub use proxy::{BadProxyHeader, ForwardedBy, ProxyHeader, proxy_header};
pub use query::QueryPairs;
pub use request_route::{Route, classify};

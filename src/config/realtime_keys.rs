//! The rows of the table for `realtime.*`, as far as connections to the model server go.

use super::keys::{Default, Key, Kind};
use super::rows::{choice, file, number, text};

/// As generally available, and as it was before.
const DIALECTS: &[&str] = &["ga", "beta"];

const fn secret(name: &'static str, reason: &'static str) -> Key {
    Key { name, kind: Kind::Secret, default: Default::NoSecret, reason }
}

/// In the order in which they are shown.
pub(super) const KEYS: &[Key] = &[
    text(
        "realtime.url",
        "Where the model server is, such as wss://api.openai.com/v1/realtime. The engine realtime needs it.",
    ),
    secret(
        "realtime.api_key",
        "The key that the model server asks for. Keep it in a file or the environment: flags can be read by everybody on the host.",
    ),
    text(
        "realtime.organization",
        "The organisation that the model server is to charge; none: the key's own.",
    ),
    text("realtime.project", "The project that the model server is to charge; none: the key's own."),
    secret(
        "realtime.headers",
        "Further header lines of each request to the model server, as name: value, one a line. They may hold keys, and are not shown.",
    ),
    choice("realtime.dialect", DIALECTS, "ga", "How the model server spells the protocol."),
    file(
        "realtime.ca_file",
        "Certificates of authorities (PEM) that may vouch for the model server, besides those of the host.",
    ),
    number(
        "realtime.connect_ms",
        "milliseconds",
        5_000,
        (10, 60_000),
        "How long connecting, TLS and the handshake may take together.",
    ),
    number(
        "realtime.message_bytes_max",
        "bytes",
        16_777_216,
        (65_536, 1 << 28),
        "Longest message of the model server, over all its fragments. Vendors send seconds of audio at once.",
    ),
    number(
        "realtime.sessions_max",
        "sessions",
        10_000,
        (0, 1 << 24),
        "Model sessions of the node, those that are being opened included; 0 is no limit. Each is a descriptor.",
    ),
    number(
        "realtime.connects_per_s",
        "sessions a second",
        100,
        (0, 1_000_000),
        "Model sessions that the node begins to open in a second, and at once; 0 is no limit.",
    ),
    number(
        "realtime.breaker_failures",
        "failures",
        10,
        (0, 1_000_000),
        "After so many failures in a row to open a session the node stops trying; 0: never.",
    ),
    number(
        "realtime.breaker_s",
        "seconds",
        10,
        (1, 3_600),
        "For how long it does not try then. After that one room may, and the others wait for what becomes of it.",
    ),
    number(
        "realtime.dns_refresh_s",
        "seconds",
        60,
        (1, 86_400),
        "How often the model server's name is looked up. After a failure it is looked up sooner.",
    ),
];

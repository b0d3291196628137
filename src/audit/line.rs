//! A record as a line.
//!
//! What a client or operator wrote is bounded in length and escaped as JSON has it, so that no text can look like
//! another line or field.

use std::net::SocketAddr;
use std::time::SystemTime;

use humantime::{Rfc3339Timestamp, format_rfc3339_millis};
use serde::Serialize;
use shards::core::audit::{Asked, AuditRecord, Closed, Managed, Opened, Refused};
use shards::core::{ConnectionId, ShardId};
use shards::rt::Stamped;

/// Longest text of a client or operator in a line; users' names are no longer anyway.
const TEXT_BYTES_MAX: usize = 256;

/// What the writer knows of all records of a queue.
#[derive(Clone, Copy, Debug)]
pub(super) struct Origin {
    /// Nothing for the control plane.
    pub(super) shard: Option<ShardId>,
    /// Whether the public address speaks TLS.
    pub(super) tls: bool,
}

/// A line's fields, in their order.
#[derive(Serialize)]
struct Line<'a, F> {
    time: Text<Rfc3339Timestamp>,
    event: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    shard: Option<ShardId>,
    #[serde(flatten)]
    fields: F,
    #[serde(skip_serializing_if = "Option::is_none")]
    user: Option<Option<&'a str>>,
}

#[derive(Serialize)]
struct OpenedFields<'a> {
    connection: ConnectionId,
    #[serde(flatten)]
    address: Address,
    proxy: Option<String>,
    #[serde(flatten)]
    place: Place<'a>,
    subprotocol: Option<&'static str>,
    engine: Option<&'static str>,
    tls: bool,
}

#[derive(Serialize)]
struct RefusedFields<'a> {
    status: Option<u16>,
    reason: &'static str,
    #[serde(flatten)]
    address: Address,
    proxy: Option<String>,
    #[serde(flatten)]
    place: Place<'a>,
    tls: bool,
}

#[derive(Serialize)]
struct ClosedFields<'a> {
    connection: ConnectionId,
    code: u16,
    reason: &'a str,
    by: &'static str,
    duration_ms: u64,
    dropped: u64,
    #[serde(flatten)]
    address: Address,
    #[serde(flatten)]
    place: Place<'a>,
}

#[derive(Serialize)]
struct ManagedFields<'a> {
    action: &'static str,
    target: Option<&'a str>,
    status: Option<u16>,
}

#[derive(Serialize)]
struct MissingFields {
    records: u64,
}

/// Where somebody comes from. What a header line names has no port.
#[derive(Serialize)]
struct Address {
    address: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    port: Option<u16>,
}

impl From<SocketAddr> for Address {
    fn from(address: SocketAddr) -> Self {
        let port = Some(address.port()).filter(|&port| port != 0);
        Self { address: address.ip().to_canonical().to_string(), port }
    }
}

/// What a connection is for.
#[derive(Serialize)]
struct Place<'a> {
    path: Option<&'static str>,
    room: Option<&'a str>,
}

impl<'a> From<&'a Asked> for Place<'a> {
    fn from(asked: &'a Asked) -> Self {
        match asked {
            Asked::Unknown => Self { path: None, room: None },
            Asked::Echo => Self { path: Some("echo"), room: None },
            Asked::Feed => Self { path: Some("events"), room: None },
            Asked::Room(session) => {
                Self { path: Some("room"), room: session.as_ref().map(|session| session.as_str()) }
            }
        }
    }
}

/// Something that is written as its text.
struct Text<T>(T);

impl<T: std::fmt::Display> Serialize for Text<T> {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(&self.0)
    }
}

/// Writes a record behind what `out` holds.
pub(super) fn write(stamped: &Stamped, origin: Origin, out: &mut Vec<u8>) {
    let time = || moment(stamped.at);
    let Origin { shard, tls } = origin;
    match &*stamped.record {
        AuditRecord::Opened(Opened { connection, source, asked, user, subprotocol, engine }) => {
            let fields = OpenedFields {
                connection: *connection,
                address: source.client.into(),
                proxy: source.via.map(|via| via.to_canonical().to_string()),
                place: asked.into(),
                subprotocol: *subprotocol,
                engine: *engine,
                tls,
            };
            put(&Line { time: time(), event: "opened", shard, fields, user: Some(bounded(user)) }, out);
        }
        AuditRecord::Refused(Refused { source, status, reason, asked, user }) => {
            let fields = RefusedFields {
                status: *status,
                reason,
                address: source.client.into(),
                proxy: source.via.map(|via| via.to_canonical().to_string()),
                place: asked.into(),
                tls,
            };
            put(&Line { time: time(), event: "refused", shard, fields, user: Some(bounded(user)) }, out);
        }
        AuditRecord::Closed(closed) => {
            let Closed { connection, client, asked, user, code, reason, by, lasted, dropped } = closed;
            let fields = ClosedFields {
                connection: *connection,
                code: *code,
                reason: cut(reason),
                by: by.name(),
                duration_ms: lasted.as_ms(),
                dropped: *dropped,
                address: (*client).into(),
                place: asked.into(),
            };
            put(&Line { time: time(), event: "closed", shard, fields, user: Some(bounded(user)) }, out);
        }
        AuditRecord::Managed(Managed { action, target, user, status }) => {
            let fields = ManagedFields { action, target: bounded(target), status: *status };
            put(&Line { time: time(), event: "managed", shard, fields, user: Some(bounded(user)) }, out);
        }
    }
}

/// Writes that so many records of a queue are missing before this line.
pub(super) fn write_missing(at: SystemTime, records: u64, shard: Option<ShardId>, out: &mut Vec<u8>) {
    let fields = MissingFields { records };
    put(&Line { time: moment(at), event: "missing", shard, fields, user: None }, out);
}

fn put(line: &impl Serialize, out: &mut Vec<u8>) {
    serde_json::to_writer(&mut *out, line).expect("texts and numbers make JSON, and a vector takes them");
    out.push(b'\n');
}

fn bounded(text: &Option<Box<str>>) -> Option<&str> {
    text.as_deref().map(cut)
}

fn cut(text: &str) -> &str {
    &text[..text.floor_char_boundary(TEXT_BYTES_MAX)]
}

/// To the millisecond, as RFC 3339 has it. A clock before 1970 is not set at all.
fn moment(at: SystemTime) -> Text<Rfc3339Timestamp> {
    Text(format_rfc3339_millis(at.max(SystemTime::UNIX_EPOCH)))
}

#[cfg(test)]
mod tests {

    use serde_json::Value;
    use shards::core::audit::{By, Source};
    use shards::core::{ConnKey, Micros, SessionId};

    use super::*;

    const ORIGIN: Origin = Origin { shard: Some(ShardId(3)), tls: true };

    fn line(record: AuditRecord) -> String {
        let mut out = b"before\n".to_vec();
        let stamped = Stamped { at: SystemTime::UNIX_EPOCH, record: Box::new(record) };
        write(&stamped, ORIGIN, &mut out);
        String::from_utf8(out).expect("JSON is text").split_off("before\n".len())
    }

    fn closed(reason: &str, user: &str) -> AuditRecord {
        let connection = ConnectionId { shard: ShardId(3), key: ConnKey { index: 1, generation: 2 } };
        AuditRecord::Closed(Closed {
            connection,
            client: "[::ffff:192.0.2.7]:80".parse().expect("an address"),
            asked: Asked::Room(SessionId::parse("r").ok()),
            user: Some(user.into()),
            code: 1008,
            reason: reason.into(),
            by: By::Server,
            lasted: Micros::from_ms(1_500),
            dropped: 4,
        })
    }

    #[test]
    fn a_record_is_one_line_with_its_fields_in_order() {
        let expected = "{\"time\":\"1970-01-01T00:00:00.000Z\",\"event\":\"closed\",\"shard\":3,\
            \"connection\":\"sess_000300000100000002\",\"code\":1008,\"reason\":\"why\",\"by\":\"server\",\
            \"duration_ms\":1500,\"dropped\":4,\"address\":\"192.0.2.7\",\"port\":80,\"path\":\"room\",\"room\":\"r\",\
            \"user\":\"ann\"}\n";
        assert_eq!(line(closed("why", "ann")), expected);
        let refused = line(AuditRecord::Refused(Refused {
            source: Source {
                client: "192.0.2.7:0".parse().expect("an address"),
                via: "10.0.0.1".parse().ok(),
            },
            status: None,
            reason: "tls_handshake",
            asked: Asked::Unknown,
            user: None,
        }));
        let refused: Value = serde_json::from_str(&refused).expect("JSON");
        assert_eq!((&refused["port"], &refused["proxy"]), (&Value::Null, &Value::from("10.0.0.1")));
        assert!(refused["user"].is_null() && refused["tls"] == true && refused.get("port").is_none());
    }

    #[test]
    fn no_text_can_look_like_another_line_or_outgrow_it() {
        let forged = "x\"}\n{\"event\":\"opened\"}\u{0}\u{1b}[31m\r";
        let text = line(closed(forged, forged));
        assert_eq!(text.matches('\n').count(), 1, "{text}");
        assert!(!text.contains(|letter: char| letter.is_control() && letter != '\n'), "{text}");
        let fields: Value = serde_json::from_str(&text).expect("JSON");
        assert_eq!((&fields["reason"], &fields["user"]), (&forged.into(), &forged.into()));
        let long = line(closed(&"\u{1}é".repeat(9_000), &"\"".repeat(9_000)));
        assert!(long.len() < 4_096, "{}", long.len());
    }
}

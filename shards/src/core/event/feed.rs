//! Application events as the feed shows them: flat objects, `{"event": type, …fields}` (PROTOCOL 7).

use std::fmt::Write as _;

use super::dialect::Dialect;
use super::json::Json;
use crate::core::channel::Position;

/// The namespace of application events.
pub const FEED_NAMESPACE: &str = "events";

/// The type of the events on a channel; nothing where it is no channel of theirs.
#[must_use]
pub fn feed_type(channel: &str) -> Option<&str> {
    channel.strip_prefix(FEED_NAMESPACE)?.strip_prefix(':')
}

/// Appends an event: its type in front of the fields of its data, and where it stands behind them, if that is wanted. Data
/// that is no object, or has an `event` of its own, becomes the field `data`. A client's data is as it wrote it: ends of
/// lines, which would end a message where these are lines, are left out.
pub fn write_feed(kind: &str, data: &str, at: Option<Position>, out: &mut Vec<u8>) {
    let begin = out.len();
    Json::write(out, Dialect::Native, |json| json.text("event", kind));
    out.pop(); // The brace that ends it.
    let head = out.len();
    let data = data.trim();
    let fields = data.strip_prefix('{').and_then(|rest| rest.strip_suffix('}'));
    // As the server and the management API make them: with the type in front.
    let behind = data.as_bytes().strip_prefix(&out[begin..head]);
    let behind = behind.filter(|rest| matches!(rest.first(), Some(b',' | b'}')));
    let behind = behind.and_then(|rest| data.get(data.len() - rest.len()..data.len() - 1));
    match (behind, fields.map(str::trim)) {
        (Some(fields), _) if !names_event(fields) => append(fields, out),
        (_, Some("")) => {}
        (_, Some(fields)) if !names_event(fields) => {
            out.push(b',');
            append(fields, out);
        }
        _ => {
            out.extend_from_slice(b",\"data\":");
            append(data, out);
        }
    }
    if let Some(at) = at {
        let mut text = String::new();
        let _ = write!(text, ",\"position\":\"{at}\"");
        out.extend_from_slice(text.as_bytes());
    }
    out.push(b'}');
}

/// Appends JSON on one line: in it, ends of lines are mere space.
fn append(json: &str, out: &mut Vec<u8>) {
    json.split(['\n', '\r']).for_each(|line| out.extend_from_slice(line.as_bytes()));
}

/// Whether one of an object's members may have the name `event`.
fn names_event(members: &str) -> bool {
    let bytes = members.as_bytes();
    let (mut depth, mut at, mut is_name) = (0_usize, 0, true);
    while at < bytes.len() {
        match bytes[at] {
            b'"' => {
                let end = text_end(bytes, at + 1);
                let name = members.get(at..=end).filter(|_| is_name && depth == 0);
                if name.is_some_and(is_event) {
                    return true;
                }
                is_name = false;
                at = end;
            }
            b'{' | b'[' => {
                depth += 1;
                is_name = false;
            }
            b'}' | b']' => depth = depth.saturating_sub(1),
            b',' => is_name = depth == 0,
            _ => {}
        }
        at += 1;
    }
    false
}

/// Whether a member's name, as it is written, says `event`.
fn is_event(name: &str) -> bool {
    let read = || serde_json::from_str::<String>(name);
    name == r#""event""# || name.contains('\\') && read().is_ok_and(|name| name == "event")
}

/// Where the text that begins here ends: at its quote.
fn text_end(bytes: &[u8], mut at: usize) -> usize {
    while at < bytes.len() && bytes[at] != b'"' {
        at += if bytes[at] == b'\\' { 2 } else { 1 };
    }
    at.min(bytes.len())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn flat(kind: &str, data: &str, at: Option<Position>) -> String {
        let mut out = b"before ".to_vec();
        write_feed(kind, data, at, &mut out);
        String::from_utf8(out).expect("text").split_off(7)
    }

    #[test]
    fn an_event_is_its_type_and_its_fields() {
        for (data, expected) in [
            (r#"{"pages":12}"#, r#"{"event":"job.done","pages":12}"#),
            ("{}", r#"{"event":"job.done"}"#),
            (r#"{"event":"job.done","a":1}"#, r#"{"event":"job.done","a":1}"#),
            (r#"{"event":"job.done"}"#, r#"{"event":"job.done"}"#),
            ("[1,2]", r#"{"event":"job.done","data":[1,2]}"#),
            (r#""{\"event\":1}""#, r#"{"event":"job.done","data":"{\"event\":1}"}"#),
            (r#"{"event":"other"}"#, r#"{"event":"job.done","data":{"event":"other"}}"#),
            (r#"{"event":"job.doner"}"#, r#"{"event":"job.done","data":{"event":"job.doner"}}"#),
            (r#"{"a":1,"event":2}"#, r#"{"event":"job.done","data":{"a":1,"event":2}}"#),
            (r#"{"a":["event"],"b":{"event":1}}"#, r#"{"event":"job.done","a":["event"],"b":{"event":1}}"#),
            (r#"{"a":"event","b":"\","}"#, r#"{"event":"job.done","a":"event","b":"\","}"#),
            ("{ }", r#"{"event":"job.done"}"#),
            ("{\r\n \"a\" : 1,\n\"b\":\"\\n\" }\n", "{\"event\":\"job.done\",\"a\" : 1,\"b\":\"\\n\"}"),
            ("[1,\n2]", r#"{"event":"job.done","data":[1,2]}"#),
            ("{\"event\":\"job.done\",\n\"a\":1}", r#"{"event":"job.done","a":1}"#),
            (
                r#"{"event":"job.done","event":"other"}"#,
                r#"{"event":"job.done","data":{"event":"job.done","event":"other"}}"#,
            ),
            (r#"{ "event" : "other" }"#, r#"{"event":"job.done","data":{ "event" : "other" }}"#),
            (r#"{"event":"job.done","\"":1}"#, r#"{"event":"job.done","\"":1}"#),
            (r#"{"\u0065vent":1}"#, r#"{"event":"job.done","data":{"\u0065vent":1}}"#),
        ] {
            assert_eq!(flat("job.done", data, None), expected, "{data}");
        }
        let at = Position { epoch: 10, seq: 3 };
        assert_eq!(flat("a\"b", "{}", Some(at)), r#"{"event":"a\"b","position":"a-3"}"#);
    }

    #[test]
    fn a_channel_of_events_names_their_type() {
        assert_eq!(feed_type("events:room.opened"), Some("room.opened"));
        assert_eq!(feed_type("events:a:b"), Some("a:b"));
        assert_eq!((feed_type("events"), feed_type("eventsx:a"), feed_type("user:1")), (None, None, None));
    }
}

//! Client events, and what is written of them, beside serde_json.

use std::fmt;

use serde::de::{Deserialize, Deserializer, MapAccess, Visitor};
use serde_json::Value;
use serde_json::value::RawValue;
use shards::core::MemberNumber;
use shards::core::event::{
    ChannelWish, ClientCommand, ClientError, ClientEvent, Content, Dialect, EventId, Item, ItemId,
    ItemStatus, MsgpackBounds, NewContent, NewItem, Scratch, ServerEvent, json_of, msgpack_of, parse,
};

const DEPTH_MAX: usize = 8;

/// Longest name that a client may bring.
const NAME_BYTES_MAX: usize = 512;

const CODES: [&str; 6] = [
    "invalid_json",
    "invalid_type",
    "invalid_value",
    "missing_required_parameter",
    "nested_too_deeply",
    "unknown_event",
];

/// Whatever is read as MessagePack is JSON within its bounds, and whatever is no JSON becomes little more than it was.
fn messagepack(mut bytes: &[u8]) {
    let mut packed = Vec::new();
    msgpack_of(bytes, &mut packed);
    assert!(packed.len() <= 9 * bytes.len(), "{} bytes became {}", bytes.len(), packed.len());
    let bounds = MsgpackBounds { depth_max: DEPTH_MAX, json_bytes_max: 1 << 16 };
    let mut json = Vec::new();
    if json_of(&mut bytes, bounds, &mut json).is_ok() {
        assert!(serde_json::from_slice::<Value>(&json).is_ok(), "{}", json.escape_ascii());
    }
}

/// The bytes are the event.
pub(crate) fn run(bytes: &[u8]) {
    let mut scratch = Scratch::default();
    messagepack(bytes);
    let outcome = parse(&mut bytes.to_vec(), DEPTH_MAX, &mut scratch);
    let audio = std::mem::take(&mut scratch.audio);
    let again = parse(&mut bytes.to_vec(), DEPTH_MAX, &mut scratch);
    assert_eq!((&again, &scratch.audio), (&outcome, &audio), "the parser's buffers remember nothing");
    let Ok(text) = std::str::from_utf8(bytes) else {
        assert!(outcome.is_err(), "an event is UTF-8");
        return;
    };
    if has_surrogate(text) {
        // RFC 8259 section 8.2: half of a pair is JSON, and what readers make of it differs. It may do no harm here.
        if let Err(error) = outcome {
            let mut line = Vec::new();
            ServerEvent::from(error).write(EventId(1), None, Dialect::Beta, &mut line);
            assert!(std::str::from_utf8(&line).is_ok(), "an event is text");
        }
        return;
    }
    let pairs = serde_json::from_str::<Pairs>(text).ok();
    match outcome {
        Ok(event) => {
            let pairs = pairs.unwrap_or_else(|| panic!("{event:?} is no JSON object"));
            assert!(depth(text) <= DEPTH_MAX, "{event:?} is too deep");
            check_event(event, &pairs);
        }
        Err(error) => {
            match error.code {
                "nested_too_deeply" => assert!(depth(text) > DEPTH_MAX, "it is not too deep"),
                // Whose exponents are beyond all bounds is refused though JSON allows it.
                "invalid_json" if !error.message.contains("InvalidNumber") => {
                    assert!(serde_json::from_str::<Value>(text).is_err(), "it is JSON: {error:?}");
                }
                _ => {}
            }
            check_error(error, pairs.as_ref());
        }
    }
}

/// A JSON object as it came: its keys in order, repeated ones too, and the text of each value.
struct Pairs(Vec<(String, Box<RawValue>)>);

impl Pairs {
    /// Of a repeated key the first counts.
    fn first(&self, name: &str) -> Option<&str> {
        self.0.iter().find(|(key, _)| key == name).map(|(_, value)| value.get())
    }
}

impl<'de> Deserialize<'de> for Pairs {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Reader;
        impl<'de> Visitor<'de> for Reader {
            type Value = Pairs;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<M: MapAccess<'de>>(self, mut map: M) -> Result<Pairs, M::Error> {
                let mut pairs = Vec::new();
                while let Some(pair) = map.next_entry()? {
                    pairs.push(pair);
                }
                Ok(Pairs(pairs))
            }
        }
        deserializer.deserialize_map(Reader)
    }
}

/// Whether there is an escape of a half of a surrogate pair, with its other half or without.
fn has_surrogate(text: &str) -> bool {
    let half =
        |four: &[u8]| matches!(four, [b'\\', b'u', b'd' | b'D', b'8' | b'9' | b'a'..=b'f' | b'A'..=b'F']);
    text.as_bytes().windows(4).any(half)
}

/// How deep brackets nest outside of strings.
fn depth(text: &str) -> usize {
    let (mut depth, mut deepest, mut in_string, mut escaped) = (0_usize, 0, false, false);
    for byte in text.bytes() {
        match byte {
            _ if escaped => escaped = false,
            b'\\' if in_string => escaped = true,
            b'"' => in_string = !in_string,
            b'{' | b'[' if !in_string => depth += 1,
            b'}' | b']' if !in_string => depth = depth.saturating_sub(1),
            _ => {}
        }
        deepest = deepest.max(depth);
    }
    deepest
}

fn value(text: &str) -> Value {
    serde_json::from_str(text).unwrap_or_else(|error| panic!("{text:?} is no JSON: {error}"))
}

/// The event as a client reads it.
fn written(event: &ServerEvent) -> Value {
    let mut line = Vec::new();
    event.write(EventId(1), Some(2), Dialect::Ga, &mut line);
    assert!(!line.contains(&b'\n'), "an event is one line");
    value(std::str::from_utf8(&line).expect("an event is text"))
}

fn check_event(event: ClientEvent, pairs: &Pairs) {
    let kind = pairs.first("type").map(value);
    let kind = kind.as_ref().and_then(Value::as_str).expect("what is taken has a type");
    assert!(event.event_id.as_ref().is_none_or(|id| id.len() <= NAME_BYTES_MAX));
    let expected = match event.command {
        ClientCommand::Append => "input_audio_buffer.append",
        ClientCommand::Channel(wish) => match *wish {
            ChannelWish::Subscribe { .. } => "channel.subscribe",
            ChannelWish::Unsubscribe { .. } => "channel.unsubscribe",
            ChannelWish::Publish { data, .. } => {
                assert_same(&data, pairs.first("data"));
                "channel.publish"
            }
        },
        ClientCommand::Commit => "input_audio_buffer.commit",
        ClientCommand::Clear => "input_audio_buffer.clear",
        ClientCommand::ItemCreate(item) => {
            check_item(*item);
            "conversation.item.create"
        }
        ClientCommand::ResponseCreate(request) => {
            assert!(request.metadata.is_none_or(|metadata| value(&metadata).is_object()));
            "response.create"
        }
        ClientCommand::ItemDelete { .. } => "conversation.item.delete",
        ClientCommand::ItemRetrieve { .. } => "conversation.item.retrieve",
        ClientCommand::ItemTruncate { .. } => "conversation.item.truncate",
        ClientCommand::OutputClear => "output_audio_buffer.clear",
        ClientCommand::ResponseCancel { .. } => "response.cancel",
        ClientCommand::SessionUpdate(update) => {
            if let Some(state) = &update.state {
                assert!(value(state).is_object(), "a state is an object: {state}");
                assert_same(state, pairs.first("state"));
            }
            if let Some(extras) = &update.extras {
                assert!(value(extras).is_object(), "what a session says besides is an object: {extras}");
            }
            "session.update"
        }
        ClientCommand::RoomSend { data, .. } => {
            assert_same(&data, pairs.first("data"));
            let told = written(&ServerEvent::RoomMessage { from: MemberNumber(3), data: data.clone() });
            assert_eq!(told["data"], value(&data));
            "room.send"
        }
        ClientCommand::Ping { t } => {
            if let Some(t) = &t {
                let echoed = value(t);
                assert!(!echoed.is_object() && !echoed.is_array(), "no scalar: {t}");
                assert_same(t, pairs.first("t"));
                assert_eq!(written(&ServerEvent::Pong { t: Some(t.clone()) })["t"], echoed);
            }
            "ping"
        }
    };
    assert_eq!(kind, expected);
}

/// What is kept raw is what the client wrote, or the same written anew.
fn assert_same(kept: &str, came: Option<&str>) {
    let came = came.expect("what is kept came");
    assert!(kept == came || value(kept) == value(came), "{came} became {kept}");
}

fn check_item(item: NewItem) {
    let content = item.content.iter().map(|part| match part {
        NewContent::Text(text) => Content::InputText(text.clone()),
        NewContent::Audio { transcript, .. } => Content::InputAudio(transcript.clone()),
        NewContent::Image => Content::InputImage,
    });
    assert!(value(&item.raw).is_object(), "an item is an object: {}", item.raw);
    let told = Item {
        id: ItemId(1).into(),
        role: item.role,
        status: ItemStatus::Completed,
        content: content.collect(),
    };
    let told = written(&ServerEvent::ItemAdded { item: Box::new(told), previous: None });
    for (part, told) in item.content.iter().zip(told["item"]["content"].as_array().expect("parts")) {
        match part {
            NewContent::Text(text) => assert_eq!(told["text"], **text),
            NewContent::Audio { transcript, .. } => {
                assert_eq!(told["transcript"].as_str(), transcript.as_deref())
            }
            NewContent::Image => assert_eq!(told["type"], "input_image"),
        }
    }
}

fn check_error(error: ClientError, pairs: Option<&Pairs>) {
    assert!(CODES.contains(&error.code), "{error:?}");
    assert!(error.message.len() <= 512, "{error:?}");
    let whole_event = matches!(error.code, "invalid_json" | "nested_too_deeply")
        || (error.code == "invalid_type" && pairs.is_none());
    assert_eq!(error.param.is_none(), whole_event, "an error names its field: {error:?}");
    if let Some(param) = &error.param {
        assert!(param.len() <= 100, "{error:?}");
        assert!(error.code == "unknown_event" || error.message.contains(&**param), "{error:?}");
    }
    if let (Some(named), Some(pairs)) = (&error.event_id, pairs) {
        assert!(named.len() <= NAME_BYTES_MAX, "{error:?}");
        assert_eq!(pairs.first("event_id").map(value), Some(Value::from(&**named)), "{error:?}");
    }
    let told = written(&error.clone().into());
    let told = &told["error"];
    assert_eq!((&told["code"], &told["message"]), (&error.code.into(), &Value::from(&*error.message)));
    assert_eq!(told["param"].as_str(), error.param.as_deref());
    assert_eq!(told["event_id"].as_str(), error.event_id.as_deref());
}

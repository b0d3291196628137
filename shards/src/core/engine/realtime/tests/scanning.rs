//! The quick look at an event, against a parser.

use proptest::prelude::*;
use serde_json::{Map, Value};

use crate::core::engine::realtime::scan::{Outline, Unusual, each_member, number, plain};

fn any_value() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        ".*".prop_map(Value::from),
        "[a-z\"\\\\{}\\[\\],: ]{0,20}".prop_map(Value::from),
    ];
    leaf.prop_recursive(4, 32, 6, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..6).prop_map(Value::from),
            prop::collection::btree_map(".{0,8}", inner, 0..6).prop_map(|map| map.into_iter().collect()),
        ]
    })
}

fn any_event() -> impl Strategy<Value = Map<String, Value>> {
    let key = prop_oneof![
        Just("type".to_owned()),
        Just("delta".to_owned()),
        Just("response_id".to_owned()),
        Just("output_index".to_owned()),
        "[a-z_]{1,12}",
    ];
    prop::collection::btree_map(key, any_value(), 0..8).prop_map(|map| map.into_iter().collect())
}

proptest! {
    #[test]
    fn members_are_what_a_parser_finds(event in any_event(), pretty: bool) {
        let text = if pretty { serde_json::to_string_pretty(&event) } else { serde_json::to_string(&event) };
        let text = text.expect("JSON");
        let mut found = Map::new();
        let read = each_member(text.as_bytes(), |key, value| {
            found.insert(text[key].to_owned(), serde_json::from_str(&text[value]).expect("a value"));
        });
        prop_assert_eq!(read, Ok(()));
        prop_assert_eq!(&found, &event);
        let outline = Outline::read(text.as_bytes()).expect("an object");
        if let Some(name) = plain(text.as_bytes(), outline.name.as_ref()) {
            prop_assert_eq!(event["type"].as_str(), Some(name));
        }
        if let Some(index) = number(text.as_bytes(), outline.output_index.as_ref()) {
            prop_assert_eq!(event["output_index"].as_u64(), Some(index.into()));
        }
    }

    #[test]
    fn any_bytes_are_read_or_refused(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        let _ = Outline::read(&bytes);
    }

    #[test]
    fn broken_events_are_read_or_refused(event in any_event(), cut in any::<prop::sample::Index>(), byte: u8) {
        let mut text = serde_json::to_vec(&event).expect("JSON");
        let at = cut.index(text.len());
        text[at] = byte;
        let _ = Outline::read(&text);
        text.truncate(at);
        prop_assert_eq!(Outline::read(&text), Err(Unusual));
    }
}

//! Both directions beside serde_json, and bytes that mean harm.

use proptest::prelude::*;
use serde_json::{Value, json};

use super::{MsgpackBounds, Scratch, json_of, msgpack_of, parse};

const BOUNDS: MsgpackBounds = MsgpackBounds { depth_max: 16, json_bytes_max: 1 << 16 };

fn packed(json: &str) -> Vec<u8> {
    let mut out = Vec::new();
    msgpack_of(json.as_bytes(), &mut out);
    out
}

fn unpacked(mut bytes: &[u8]) -> Result<(Value, usize), &'static str> {
    let mut out = b"before".to_vec();
    json_of(&mut bytes, BOUNDS, &mut out).map_err(|error| error.code)?;
    let json = out.strip_prefix(b"before").expect("it is appended");
    Ok((serde_json::from_slice(json).unwrap_or_else(|e| panic!("{e}: {}", json.escape_ascii())), bytes.len()))
}

#[test]
fn json_becomes_the_shortest_messagepack() {
    for (json, expected) in [
        ("{}", &b"\x80"[..]),
        (" { } ", b"\x80"),
        ("[]", b"\x90"),
        (r#"{"a":[1,-1,[],{}],"b":null}"#, b"\x82\xa1a\x94\x01\xff\x90\x80\xa1b\xc0"),
        ("[127,128,255,256,65535,65536]", b"\x96\x7f\xcc\x80\xcc\xff\xcd\x01\0\xcd\xff\xff\xce\0\x01\0\0"),
        ("[-32,-33,-128,-129]", b"\x94\xe0\xd0\xdf\xd0\x80\xd1\xff\x7f"),
        ("18446744073709551615", b"\xcf\xff\xff\xff\xff\xff\xff\xff\xff"),
        ("18446744073709551616", b"\xcb\x43\xf0\0\0\0\0\0\0"),
        ("[true,false,0.5,1e2]", b"\x94\xc3\xc2\xcb\x3f\xe0\0\0\0\0\0\0\xcb\x40\x59\0\0\0\0\0\0"),
        (r#""a\"\\\/\b\n\u00e9\ud83c\udfa7b""#, b"\xada\"\\/\x08\n\xc3\xa9\xf0\x9f\x8e\xa7b"),
        (r#"["\ud83c","\ud83c\u0041","\\"]"#, b"\x93\xa3\xef\xbf\xbd\xa4\xef\xbf\xbdA\xa1\\"),
    ] {
        assert_eq!(packed(json).escape_ascii().to_string(), expected.escape_ascii().to_string(), "{json}");
    }
    assert_eq!(packed(&format!("\"{}\"", "x".repeat(40)))[..2], [0xd9, 40]);
}

#[test]
fn binary_becomes_base64_and_every_width_is_read() {
    let event = b"\x82\xa4type\xb9input_audio_buffer.append\xa5audio\xc4\x03\x01\x02\xff";
    let mut json = Vec::new();
    json_of(&mut &event[..], BOUNDS, &mut json).expect("an event");
    let mut scratch = Scratch::default();
    parse(&mut json, 16, &mut scratch).expect("an event");
    assert_eq!(scratch.audio, [1, 2, 255]);
    let wide = b"\xdf\0\0\0\x03\xd9\x01a\xdd\0\0\0\x03\xd0\xff\xd1\xff\x00\xd2\x80\0\0\0\xda\0\x01b\xd3\xff\xff\xff\xff\
        \xff\xff\xff\xff\xdb\0\0\0\x01c\xca\x3f\0\0\0rest";
    let (value, rest) = unpacked(wide).expect("an event");
    assert_eq!(value, json!({"a": [-1, -256, -2_147_483_648_i64], "b": -1, "c": 0.5}));
    assert_eq!(rest, 4, "what follows is left");
}

#[test]
fn an_event_of_nothing_but_brackets_is_bounded_as_well() {
    let bounds = MsgpackBounds { json_bytes_max: 100, ..BOUNDS };
    let empty = [&b"\x81\xa1a\xdc\x03\xe8"[..], &[0x90; 1_000]].concat();
    let mut out = Vec::new();
    let error = json_of(&mut &empty[..], bounds, &mut out).expect_err("it is too long");
    assert!(error.code == "invalid_msgpack" && out.len() < 110, "{} bytes", out.len());
}

#[test]
fn what_is_no_event_is_an_error_and_costs_little() {
    let deep = [&b"\x81\xa1a".repeat(17)[..], b"\x80"].concat();
    for (bytes, code) in [
        (&b""[..], "invalid_msgpack"),
        (b"\x01", "invalid_msgpack"),
        (b"\xa1a", "invalid_msgpack"),
        (b"\x90", "invalid_msgpack"),
        (b"\x81", "invalid_msgpack"),
        (b"\x81\x01\x01", "invalid_msgpack"),
        (b"\x81\xa1a", "invalid_msgpack"),
        (b"\x81\xa1\xff\x01", "invalid_msgpack"),
        (b"\x81\xa1a\xc1", "invalid_msgpack"),
        (b"\x81\xa1a\xc7\x01\x01\x01", "invalid_msgpack"),
        (b"\x81\xa1a\xcb\x7f\xf0\0\0\0\0\0\0", "invalid_msgpack"),
        (b"\x81\xa1a\xdd\xff\xff\xff\xff", "invalid_msgpack"),
        (b"\x81\xa1a\xdb\xff\xff\xff\xff", "invalid_msgpack"),
        (b"\xdf\xff\xff\xff\xff\xa1a\x01", "invalid_msgpack"),
        (&deep, "nested_too_deeply"),
        (&[&b"\x81\xa1a\xdd\0\x01\0\0"[..], &[0xc0; 1 << 16]].concat(), "invalid_msgpack"),
    ] {
        assert_eq!(unpacked(bytes).map(|_| ()), Err(code), "{:.40}", bytes.escape_ascii());
    }
    let deepest = [&b"\x81\xa1a".repeat(15)[..], b"\x80"].concat();
    assert!(unpacked(&deepest).is_ok());
}

fn value() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<u64>().prop_map(Value::from),
        any::<i8>().prop_map(Value::from),
        any::<i32>().prop_map(|eighths| Value::from(f64::from(eighths) / 8.0)),
        "\\PC*".prop_map(Value::from),
        "[\\x00-\\x1f\"\\\\/é🎧]{0,40}".prop_map(Value::from),
    ];
    leaf.prop_recursive(6, 200, 20, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..20).prop_map(Value::from),
            prop::collection::btree_map(".{0,9}", inner, 0..20)
                .prop_map(|map| Value::Object(map.into_iter().collect())),
        ]
    })
}

proptest! {
    #[test]
    fn an_event_survives_both_ways(value in value(), pretty: bool) {
        let event = json!({ "type": "x", "data": value });
        let json = if pretty { serde_json::to_string_pretty(&event) } else { serde_json::to_string(&event) };
        let packed = packed(&json.expect("JSON"));
        let (back, rest) = unpacked(&packed).expect("an event");
        prop_assert_eq!(rest, 0);
        prop_assert_eq!(back, event);
        for cut in 0..packed.len() {
            prop_assert!(unpacked(&packed[..cut]).is_err(), "cut at {}", cut);
        }
    }

    #[test]
    fn no_bytes_make_it_panic_or_grow_without_bound(
        mut bytes in prop::collection::vec(any::<u8>(), 0..400),
        map in 0x80u8..0x90,
    ) {
        let _ = unpacked(&bytes);
        bytes.insert(0, map);
        let _ = unpacked(&bytes);
        let mut out = Vec::new();
        msgpack_of(&bytes, &mut out);
        prop_assert!(out.len() <= 9 * bytes.len(), "{} of {}", out.len(), bytes.len());
    }

    #[test]
    fn whatever_is_read_is_json(bytes in prop::collection::vec(prop_oneof![
        Just(0x81u8), Just(0x92), Just(0xa1), Just(b'a'), Just(0xc4), Just(1), Just(0xc0), Just(0xcb), any::<u8>(),
    ], 0..60)) {
        let _ = unpacked(&bytes); // It panics when it is none.
    }
}

//! The conversation's items, and responses apart from it.

use serde_json::{Value, json};

use super::room::{Room, voice};
use crate::core::event::ClientCommand;

fn create(room: &mut Room, item: Value, previous: Option<&str>) {
    room.say(&json!({"type": "conversation.item.create", "item": item, "previous_item_id": previous}));
}

fn text(id: &str, text: &str) -> Value {
    let content = [json!({"type": "input_text", "text": text})];
    json!({"id": id, "type": "message", "role": "user", "content": content})
}

#[test]
fn items_of_every_kind_are_taken_and_told_back() {
    let mut room = Room::manual();
    let audio = base64_simd::STANDARD.encode_to_string(voice(40));
    let items = [
        text("a", "hello"),
        json!({"id": "b", "type": "message", "role": "user", "content": [
            {"type": "input_audio", "audio": audio, "transcript": "hm"},
            {"type": "input_image", "image_url": "data:image/png;base64,AAAA"},
        ]}),
        json!({"id": "c", "type": "message", "role": "assistant",
            "content": [{"type": "output_text", "text": "so"}]}),
        json!({"id": "d", "type": "message", "role": "system",
            "content": [{"type": "input_text", "text": "be kind"}]}),
        json!({"id": "e", "type": "function_call", "call_id": "x", "name": "f", "arguments": "{\"n\":1}"}),
        json!({"id": "g", "type": "function_call_output", "call_id": "x", "output": "it rains"}),
    ];
    let mut previous = Value::Null;
    for item in items {
        room.forget();
        create(&mut room, item.clone(), None);
        for name in ["conversation.item.added", "conversation.item.done"] {
            let told = room.event(name);
            assert_eq!((&told["item"]["id"], &told["item"]["type"]), (&item["id"], &item["type"]));
            assert_eq!(told["item"]["object"], "realtime.item");
            assert_eq!(
                (&told["item"]["status"], &told["previous_item_id"]),
                (&"completed".into(), &previous)
            );
        }
        previous = item["id"].clone();
        room.forget();
        room.say(&json!({"type": "conversation.item.retrieve", "item_id": item["id"]}));
        let told = room.event("conversation.item.retrieved")["item"].clone();
        for member in ["id", "type", "role", "call_id", "name", "arguments", "output"] {
            assert_eq!(told.get(member), item.get(member), "{member} of {told}");
        }
    }
    // What came of a function is there to be answered.
    room.create();
    room.wait(2_000);
    assert_eq!(room.transcript(), "it rains");
}

#[test]
fn an_item_goes_where_it_is_put_and_away_when_it_is_deleted() {
    let mut room = Room::manual();
    create(&mut room, text("a", "one"), None);
    create(&mut room, text("b", "two"), Some("root"));
    assert_eq!(room.event("conversation.item.added")["previous_item_id"], Value::Null);
    create(&mut room, text("c", "three"), Some("b"));
    assert_eq!(room.event("conversation.item.added")["previous_item_id"], "b");
    create(&mut room, text("d", "four"), Some("nobody"));
    let error = &room.event("error")["error"];
    assert_eq!(
        (&error["code"], &error["param"]),
        (&"item_create_invalid_previous_item_id".into(), &"previous_item_id".into())
    );
    create(&mut room, text("a", "again"), None);
    assert_eq!(room.event("error")["error"]["code"], "item_create_duplicate_item_id");
    room.say(&json!({"type": "conversation.item.delete", "item_id": "a"}));
    assert_eq!(room.event("conversation.item.deleted")["item_id"], "a");
    for (kind, code) in [
        ("conversation.item.delete", "item_delete_invalid_item_id"),
        ("conversation.item.retrieve", "item_retrieve_invalid_item_id"),
        ("conversation.item.truncate", "item_truncate_invalid_item_id"),
    ] {
        let event =
            json!({"type": kind, "event_id": "mine", "item_id": "a", "content_index": 0, "audio_end_ms": 0});
        room.say(&event);
        let error = &room.event("error")["error"];
        assert_eq!((&error["type"], &error["code"]), (&"invalid_request_error".into(), &code.into()));
        assert_eq!((&error["param"], &error["event_id"]), (&"item_id".into(), &"mine".into()));
        assert_eq!(error["message"], "Item with item_id not found: a");
    }
}

#[test]
fn what_was_not_heard_of_an_answer_is_cut_off() {
    let mut room = Room::manual();
    room.hear(&voice(1_000));
    room.command(ClientCommand::Commit);
    room.create();
    room.wait(400);
    room.say(&json!({"type": "response.cancel"}));
    let id = room.event("response.done")["response"]["output"][0]["id"].clone();
    let truncate = |ms: u64| json!({"type": "conversation.item.truncate", "item_id": id, "content_index": 0, "audio_end_ms": ms});
    room.say(&truncate(600));
    let message = "Audio content of 420ms is already shorter than 600ms";
    assert_eq!(room.event("error")["error"]["message"], message);
    room.say(&truncate(300));
    let told = room.event("conversation.item.truncated");
    assert_eq!(
        (&told["item_id"], &told["audio_end_ms"], &told["content_index"]),
        (&id, &300.into(), &0.into())
    );
    room.say(&json!({"type": "conversation.item.retrieve", "item_id": id}));
    let item = &room.event("conversation.item.retrieved")["item"];
    assert_eq!((&item["status"], &item["content"][0]["transcript"]), (&"incomplete".into(), &"".into()));
    create(&mut room, text("a", "mine"), None);
    room.say(&json!({"type": "conversation.item.truncate", "item_id": "a", "audio_end_ms": 0}));
    assert_eq!(room.event("error")["error"]["code"], "invalid_value");
}

#[test]
fn an_answer_may_stay_out_of_the_conversation() {
    let mut room = Room::manual();
    create(&mut room, text("a", "keep this"), None);
    room.forget();
    let input = [
        json!({"type": "item_reference", "id": "a"}),
        json!({"type": "message", "role": "user", "content": [{"type": "input_text", "text": "aside"}]}),
    ];
    let response = json!({
        "conversation": "none", "input": input, "metadata": {"topic": "x"}, "output_modalities": ["text"],
        "instructions": "short",
    });
    room.say(&json!({"type": "response.create", "response": response}));
    let done = &room.event("response.done")["response"];
    assert_eq!((&done["conversation_id"], &done["metadata"]["topic"]), (&Value::Null, &"x".into()));
    assert_eq!(done["output"][0]["content"][0]["text"], "keep this aside");
    assert_eq!(room.events("conversation.item.added").count(), 0);
    assert_eq!(room.events("conversation.item.done").count(), 0);
    // The conversation goes on where it was.
    room.create();
    room.wait(2_000);
    assert_eq!(room.transcript(), "keep this");
    assert_eq!(room.event("conversation.item.added")["previous_item_id"], "a");
    assert!(room.event("response.done")["response"]["conversation_id"].is_string());
}

#[test]
fn who_asks_for_a_transcription_gets_one() {
    let mut room = Room::manual();
    for (extras, count) in [(None, 0), (Some(r#"{"audio":{"input":{"transcription":{"model":"w"}}}}"#), 1)] {
        room.forget();
        room.extras = extras;
        room.hear(&voice(1_240));
        room.command(ClientCommand::Commit);
        assert_eq!(room.events("conversation.item.input_audio_transcription.completed").count(), count);
    }
    let told = room.event("conversation.item.input_audio_transcription.completed");
    assert_eq!(told["item_id"], room.event("input_audio_buffer.committed")["item_id"]);
    assert_eq!((&told["transcript"], &told["content_index"]), (&"heard 1.24 s".into(), &0.into()));
    assert_eq!(told["usage"], json!({"type": "duration", "seconds": 1.24}));
    let id = told["item_id"].clone();
    room.say(&json!({"type": "conversation.item.retrieve", "item_id": id}));
    let item = &room.event("conversation.item.retrieved")["item"];
    assert_eq!(item["content"][0]["transcript"], "heard 1.24 s");
}

#[test]
fn behind_an_answer_come_limits_and_queued_audio_can_be_cleared() {
    let mut room = Room::manual();
    room.create();
    room.wait(100);
    room.say(&json!({"type": "output_audio_buffer.clear"}));
    assert!(room.names().ends_with(&["flush", "output_audio_buffer.cleared"]));
    assert!(room.engine.busy(), "the response goes on");
    room.wait(2_000);
    assert_eq!(room.event("response.done")["response"]["status"], "completed");
    let names: Vec<&Value> = room.event("rate_limits.updated")["rate_limits"]
        .as_array()
        .expect("limits")
        .iter()
        .map(|limit| &limit["name"])
        .collect();
    assert_eq!(names, ["requests", "tokens"]);
}

#[test]
fn a_function_is_called_where_it_has_to_be_and_what_came_of_it_is_spoken() {
    let mut room = Room::manual();
    let required = ["place", "days", "unit", "rain"];
    let properties = json!({
        "place": {"type": "string"}, "days": {"type": "integer"}, "unit": {"type": "string", "enum": ["C", "F"]},
        "rain": {"type": "boolean"}, "more": {"type": "string"},
    });
    let parameters = json!({"type": "object", "properties": properties, "required": required});
    let tools = [
        json!({"type": "function", "name": "other"}),
        json!({"type": "function", "name": "weather", "parameters": parameters}),
    ];
    let response = json!({"tools": tools, "tool_choice": {"type": "function", "name": "weather"}});
    create(&mut room, text("a", "in Bergen"), None);
    room.forget();
    room.say(&json!({"type": "response.create", "response": response}));
    let names = [
        "response.created",
        "response.output_item.added",
        "conversation.item.added",
        "response.function_call_arguments.delta",
        "response.function_call_arguments.done",
        "response.output_item.done",
        "conversation.item.done",
        "response.done",
        "rate_limits.updated",
    ];
    assert_eq!(room.names(), names);
    let call = room.event("response.done")["response"]["output"][0].clone();
    assert_eq!((&call["type"], &call["name"]), (&"function_call".into(), &"weather".into()));
    let arguments: Value = serde_json::from_str(call["arguments"].as_str().expect("a text")).expect("JSON");
    assert_eq!(arguments, json!({"place": "in Bergen", "days": 0, "unit": "C", "rain": false}));
    let done = room.event("response.function_call_arguments.done");
    assert_eq!((&done["call_id"], &done["arguments"]), (&call["call_id"], &call["arguments"]));
    assert_eq!(room.event("conversation.item.added")["previous_item_id"], "a");
    // Although the session asks for calls: a client that brings what came of one wants to hear it.
    room.extras = Some(r#"{"tool_choice":"required","tools":[{"type":"function","name":"f"}]}"#);
    let output = json!({"type": "function_call_output", "call_id": call["call_id"], "output": "it rains"});
    create(&mut room, output, None);
    room.create();
    room.wait(2_000);
    assert_eq!(room.transcript(), "it rains");
    // The next input is a call again.
    room.forget();
    create(&mut room, text("b", r#"{"exact":1}"#), None);
    room.create();
    let call = &room.event("response.done")["response"]["output"][0];
    assert_eq!((&call["name"], &call["arguments"]), (&"f".into(), &r#"{"exact":1}"#.into()));
}

#[test]
fn only_the_newest_items_are_kept() {
    let mut room = Room::manual();
    for number in 0..200 {
        create(&mut room, text(&format!("i{number}"), "x"), None);
    }
    let knows = |room: &mut Room, name: &str| {
        room.forget();
        room.say(&json!({"type": "conversation.item.retrieve", "item_id": name}));
        room.events("conversation.item.retrieved").count() == 1
    };
    assert!(knows(&mut room, "i199") && knows(&mut room, "i72") && !knows(&mut room, "i71"));
    create(&mut room, text("long", &"x".repeat(262_000)), None);
    assert!(knows(&mut room, "long") && knows(&mut room, "i199") && knows(&mut room, "i73"));
    create(&mut room, text("longer", &"x".repeat(262_100)), None);
    assert!(knows(&mut room, "longer") && !knows(&mut room, "i199"));
}

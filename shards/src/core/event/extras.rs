//! What a client says of its session that no setting of ours holds: instructions, tools, a voice. It is checked as the vendor
//! would, kept in the vendor's shape of today, and told back; only a model server heeds it.

use serde_json::{Map, Value};

use super::client::ClientError;

/// Longest text of all that is kept of a room's session: instructions and tools are large.
const EXTRAS_BYTES_MAX: usize = 65_536;
/// Most tools.
const TOOLS_MAX: usize = 128;
/// Most tokens of an answer that can be asked for.
const OUTPUT_TOKENS_MAX: u64 = 4_096;

type Checked = Result<(), ClientError>;
type Check = fn(&Value, &str) -> Checked;

/// Where a client may say something, where it is kept, and what it has to be.
const PLACES: [(&[&str], &[&str], Check); 16] = [
    (&["instructions"], &["instructions"], text),
    (&["tools"], &["tools"], tools),
    (&["tool_choice"], &["tool_choice"], tool_choice),
    (&["max_output_tokens"], &["max_output_tokens"], tokens),
    (&["max_response_output_tokens"], &["max_output_tokens"], tokens),
    (&["tracing"], &["tracing"], tracing),
    (&["truncation"], &["truncation"], truncation),
    (&["prompt"], &["prompt"], prompt),
    (&["include"], &["include"], texts),
    (&["audio", "input", "noise_reduction"], &["audio", "input", "noise_reduction"], noise_reduction),
    (&["input_audio_noise_reduction"], &["audio", "input", "noise_reduction"], noise_reduction),
    (&["audio", "input", "transcription"], &["audio", "input", "transcription"], object),
    (&["input_audio_transcription"], &["audio", "input", "transcription"], object),
    (&["audio", "output", "voice"], &["audio", "output", "voice"], voice),
    (&["voice"], &["audio", "output", "voice"], voice),
    (&["audio", "output", "speed"], &["audio", "output", "speed"], speed),
];

/// Where turn detection stands, today and in the beta.
const TURN_DETECTION: [&[&str]; 2] = [&["audio", "input", "turn_detection"], &["turn_detection"]];

/// Reads a session object, whose settings are known to be good: what else it says, in the shape of today; nothing if it
/// says nothing else. A `null` in it takes back what was said before.
pub(super) fn patch(session: &str) -> Result<Option<Box<str>>, ClientError> {
    let session: Value = serde_json::from_str(session)
        .map_err(|_| ClientError::invalid_value("session", "The session is not JSON."))?;
    let mut patch = Map::new();
    for (said, kept, check) in PLACES {
        let Some(value) = at(&session, said) else { continue };
        if !value.is_null() {
            check(value, &format!("session.{}", said.join(".")))?;
        }
        put(&mut patch, kept, value.clone());
    }
    if let Some(temperature) = at(&session, &["temperature"]).filter(|value| !value.is_null()) {
        // It has no place in the shape of today.
        number(temperature, "session.temperature", 0.6, 1.2)?;
    }
    for said in TURN_DETECTION {
        if let Some(value) = at(&session, said) {
            put(&mut patch, TURN_DETECTION[0], detection(value, &format!("session.{}", said.join(".")))?);
        }
    }
    Ok((!patch.is_empty()).then(|| Value::Object(patch).to_string().into()))
}

/// Puts a patch over what was said before.
///
/// # Errors
/// When it would be more than is kept.
pub(in crate::core) fn merge(before: Option<&str>, patch: &str) -> Result<Option<Box<str>>, ClientError> {
    let read = |text| serde_json::from_str::<Map<String, Value>>(text).unwrap_or_default();
    let mut merged = before.map(read).unwrap_or_default();
    lay_over(&mut merged, read(patch), 0);
    if merged.is_empty() {
        return Ok(None);
    }
    let text = Value::Object(merged).to_string();
    if text.len() > EXTRAS_BYTES_MAX {
        let message = format!(
            "What is kept of the session would have {} bytes; at most {EXTRAS_BYTES_MAX} are kept.",
            text.len()
        );
        return Err(ClientError::invalid_value("session", message));
    }
    Ok(Some(text.into()))
}

/// The objects `audio`, `audio.input` and `audio.output` are merged; whatever else is one value takes the place of another.
fn lay_over(merged: &mut Map<String, Value>, patch: Map<String, Value>, depth: usize) {
    for (key, value) in patch {
        match value {
            Value::Null => {
                merged.remove(&key);
            }
            Value::Object(inner) if depth < 2 && (depth > 0 || key == "audio") => {
                let place = merged.entry(key).or_insert_with(|| Value::Object(Map::new()));
                if let Value::Object(place) = place {
                    // `audio.input.transcription` and its like stand below and are values.
                    lay_over(place, inner, depth + 1);
                }
            }
            value => {
                merged.insert(key, value);
            }
        }
    }
}

fn at<'v>(value: &'v Value, path: &[&str]) -> Option<&'v Value> {
    path.iter().try_fold(value, |value, key| value.get(key))
}

fn put(into: &mut Map<String, Value>, path: &[&str], value: Value) {
    match path {
        [] => {}
        [last] => {
            into.insert((*last).to_owned(), value);
        }
        [first, rest @ ..] => {
            let inner = into.entry(*first).or_insert_with(|| Value::Object(Map::new()));
            if let Value::Object(inner) = inner {
                put(inner, rest, value);
            }
        }
    }
}

/// What of turn detection is told back and does not change when a turn ends here.
fn detection(value: &Value, path: &str) -> Result<Value, ClientError> {
    let mut kept = Map::new();
    if value.get("type").is_some_and(|kind| kind == "semantic_vad") {
        let eagerness = value.get("eagerness").filter(|value| !value.is_null());
        if let Some(eagerness) = eagerness {
            one_of(eagerness, &format!("{path}.eagerness"), &["low", "medium", "high", "auto"])?;
        }
        kept.insert("type".into(), "semantic_vad".into());
        kept.insert("eagerness".into(), eagerness.cloned().unwrap_or_else(|| "auto".into()));
    } else if let Some(idle) = value.get("idle_timeout_ms").filter(|value| !value.is_null()) {
        let path = format!("{path}.idle_timeout_ms");
        let ms = idle.as_u64().ok_or_else(|| mistyped(&path, "an integer"))?;
        if !(5_000..=30_000).contains(&ms) {
            return Err(invalid(&path, "5000 to 30000"));
        }
        kept.insert("type".into(), "server_vad".into());
        kept.insert("idle_timeout_ms".into(), ms.into());
    }
    Ok(if kept.is_empty() { Value::Null } else { Value::Object(kept) })
}

fn mistyped(path: &str, expected: &str) -> ClientError {
    let message = format!("Invalid type for '{path}': expected {expected}.");
    ClientError { param: Some(path.into()), ..ClientError::new("invalid_type", message) }
}

fn invalid(path: &str, expected: &str) -> ClientError {
    ClientError::invalid_value(path, format!("Invalid value for '{path}': expected {expected}."))
}

fn missing(path: &str) -> ClientError {
    let message = format!("Missing required parameter: '{path}'.");
    ClientError { param: Some(path.into()), ..ClientError::new("missing_required_parameter", message) }
}

fn typed(good: bool, path: &str, expected: &str) -> Checked {
    if good { Ok(()) } else { Err(mistyped(path, expected)) }
}

fn text(value: &Value, path: &str) -> Checked {
    typed(value.is_string(), path, "a string")
}

fn object(value: &Value, path: &str) -> Checked {
    typed(value.is_object(), path, "an object")
}

fn texts(value: &Value, path: &str) -> Checked {
    let all = value.as_array().is_some_and(|all| all.iter().all(Value::is_string));
    typed(all, path, "an array of strings")
}

fn one_of(value: &Value, path: &str, words: &[&str]) -> Checked {
    text(value, path)?;
    if words.iter().any(|word| value == word) { Ok(()) } else { Err(invalid(path, &words.join(", "))) }
}

fn number(value: &Value, path: &str, min: f64, max: f64) -> Checked {
    let number = value.as_f64().ok_or_else(|| mistyped(path, "a number"))?;
    if (min..=max).contains(&number) { Ok(()) } else { Err(invalid(path, &format!("{min} to {max}"))) }
}

fn speed(value: &Value, path: &str) -> Checked {
    number(value, path, 0.25, 1.5)
}

fn tokens(value: &Value, path: &str) -> Checked {
    match value {
        Value::String(word) if word == "inf" => Ok(()),
        Value::Number(number) => match number.as_u64() {
            Some(1..=OUTPUT_TOKENS_MAX) => Ok(()),
            _ => Err(invalid(path, &format!("1 to {OUTPUT_TOKENS_MAX}, or \"inf\""))),
        },
        _ => Err(mistyped(path, "an integer or \"inf\"")),
    }
}

fn tools(value: &Value, path: &str) -> Checked {
    let tools = value.as_array().ok_or_else(|| mistyped(path, "an array"))?;
    if tools.len() > TOOLS_MAX {
        return Err(invalid(path, &format!("at most {TOOLS_MAX} tools")));
    }
    for (index, tool) in tools.iter().enumerate() {
        let path = format!("{path}[{index}]");
        object(tool, &path)?;
        let kind = tool.get("type").ok_or_else(|| missing(&format!("{path}.type")))?;
        one_of(kind, &format!("{path}.type"), &["function", "mcp"])?;
        let name = if kind == "function" { "name" } else { "server_label" };
        let path = format!("{path}.{name}");
        text(tool.get(name).ok_or_else(|| missing(&path))?, &path)?;
    }
    Ok(())
}

fn tool_choice(value: &Value, path: &str) -> Checked {
    match value {
        Value::Object(choice) => {
            let path = format!("{path}.type");
            one_of(choice.get("type").ok_or_else(|| missing(&path))?, &path, &["function", "mcp"])
        }
        Value::String(_) => one_of(value, path, &["none", "auto", "required"]),
        _ => Err(mistyped(path, "a string or an object")),
    }
}

fn tracing(value: &Value, path: &str) -> Checked {
    if value.is_object() { Ok(()) } else { one_of(value, path, &["auto"]) }
}

fn truncation(value: &Value, path: &str) -> Checked {
    match value {
        Value::Object(truncation) => {
            let path = format!("{path}.type");
            one_of(truncation.get("type").ok_or_else(|| missing(&path))?, &path, &["retention_ratio"])
        }
        value => one_of(value, path, &["auto", "disabled"]),
    }
}

fn prompt(value: &Value, path: &str) -> Checked {
    object(value, path)?;
    let path = format!("{path}.id");
    text(value.get("id").ok_or_else(|| missing(&path))?, &path)
}

fn noise_reduction(value: &Value, path: &str) -> Checked {
    object(value, path)?;
    match value.get("type") {
        Some(kind) => one_of(kind, &format!("{path}.type"), &["near_field", "far_field"]),
        None => Ok(()),
    }
}

fn voice(value: &Value, path: &str) -> Checked {
    match value.get("id") {
        Some(id) => text(id, &format!("{path}.id")),
        None => text(value, path),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn patched(session: &Value) -> Value {
        let patch = patch(&session.to_string()).expect("good").expect("something");
        serde_json::from_str(&patch).expect("JSON")
    }

    #[test]
    fn both_shapes_are_kept_in_that_of_today() {
        let ga = json!({
            "instructions": "be kind", "tools": [{"type": "function", "name": "f", "parameters": {}}],
            "tool_choice": {"type": "function", "name": "f"}, "max_output_tokens": 100, "tracing": "auto",
            "truncation": {"type": "retention_ratio", "retention_ratio": 0.5}, "prompt": {"id": "p"},
            "include": ["item.input_audio_transcription.logprobs"],
            "audio": {
                "input": {
                    "noise_reduction": {"type": "near_field"}, "transcription": {"model": "w", "language": "en"},
                    "turn_detection": {"type": "semantic_vad", "eagerness": "low"},
                },
                "output": {"voice": "verse", "speed": 1.5},
            },
        });
        assert_eq!(patched(&ga), ga);
        let beta = json!({
            "instructions": "x", "voice": "verse", "input_audio_transcription": {"model": "w"},
            "input_audio_noise_reduction": {"type": "far_field"}, "max_response_output_tokens": "inf",
            "temperature": 0.7, "turn_detection": {"type": "server_vad", "idle_timeout_ms": 5_000},
        });
        let kept = json!({
            "instructions": "x", "max_output_tokens": "inf",
            "audio": {
                "input": {
                    "noise_reduction": {"type": "far_field"}, "transcription": {"model": "w"},
                    "turn_detection": {"type": "server_vad", "idle_timeout_ms": 5_000},
                },
                "output": {"voice": "verse"},
            },
        });
        assert_eq!(patched(&beta), kept);
        assert_eq!(patch(r#"{"type":"realtime","engine":"echo","later":1}"#), Ok(None));
    }

    #[test]
    fn a_mistake_is_named_by_its_path() {
        for (session, code, param) in [
            (json!({"instructions": 1}), "invalid_type", "session.instructions"),
            (json!({"tools": {}}), "invalid_type", "session.tools"),
            (json!({"tools": [{"type": "function"}]}), "missing_required_parameter", "session.tools[0].name"),
            (json!({"tools": [{"type": "hammer"}]}), "invalid_value", "session.tools[0].type"),
            (json!({"tool_choice": "perhaps"}), "invalid_value", "session.tool_choice"),
            (json!({"max_output_tokens": 0}), "invalid_value", "session.max_output_tokens"),
            (
                json!({"max_response_output_tokens": "all"}),
                "invalid_type",
                "session.max_response_output_tokens",
            ),
            (json!({"temperature": 9}), "invalid_value", "session.temperature"),
            (json!({"truncation": "never"}), "invalid_value", "session.truncation"),
            (json!({"prompt": {}}), "missing_required_parameter", "session.prompt.id"),
            (json!({"voice": 7}), "invalid_type", "session.voice"),
            (json!({"audio": {"output": {"speed": 2}}}), "invalid_value", "session.audio.output.speed"),
            (
                json!({"audio": {"input": {"noise_reduction": {"type": "near"}}}}),
                "invalid_value",
                "session.audio.input.noise_reduction.type",
            ),
            (
                json!({"turn_detection": {"type": "semantic_vad", "eagerness": "very"}}),
                "invalid_value",
                "session.turn_detection.eagerness",
            ),
        ] {
            let error = patch(&session.to_string()).expect_err(param);
            assert_eq!((error.code, error.param.as_deref()), (code, Some(param)), "{session}");
        }
    }

    #[test]
    fn updates_are_laid_over_each_other() {
        let first = patched(&json!({
            "instructions": "a",
            "audio": {"input": {"transcription": {"model": "w", "language": "en"}}, "output": {"voice": "ash"}},
        }));
        let second = patched(&json!({
            "instructions": null, "audio": {"input": {"transcription": {"model": "v"}}}, "tools": [],
        }));
        let merged = merge(Some(&first.to_string()), &second.to_string()).expect("short").expect("something");
        let expected = json!({
            "audio": {"input": {"transcription": {"model": "v"}}, "output": {"voice": "ash"}}, "tools": [],
        });
        assert_eq!(serde_json::from_str::<Value>(&merged).expect("JSON"), expected);
        let long = json!({"instructions": "x".repeat(EXTRAS_BYTES_MAX)}).to_string();
        assert_eq!(merge(None, &long).expect_err("too long").param.as_deref(), Some("session"));
        assert_eq!(merge(Some(r#"{"tools":[]}"#), r#"{"tools":null}"#), Ok(None));
    }
}

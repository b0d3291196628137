//! What requests bring: JSON objects with known fields, and JSON that is passed on.

use std::collections::BTreeMap;

use axum::extract::rejection::BytesRejection;
use axum::http::StatusCode;
use bytes::Bytes;
use serde_json::value::RawValue;

use super::problem::Problem;

/// A request's body, or why it was not read.
pub(super) type Body = Result<Bytes, BytesRejection>;

/// Fields by name, none of them looked into.
pub(super) type Fields = BTreeMap<String, Box<RawValue>>;

/// The body's bytes.
///
/// # Errors
/// When it is too long, or did not arrive.
pub(super) fn bytes(body: Body) -> Result<Bytes, Problem> {
    body.map_err(|error| Problem::new(error.status(), error.body_text()))
}

/// The JSON as an object.
///
/// # Errors
/// When it is none.
pub(super) fn object(json: &[u8]) -> Result<Fields, Problem> {
    serde_json::from_slice(json).map_err(|error| {
        Problem::new(StatusCode::BAD_REQUEST, format!("the body is not a JSON object: {error}"))
    })
}

/// The JSON as an object of which every field is known.
///
/// # Errors
/// When it is none.
pub(super) fn fields(json: &[u8], known: &[&str]) -> Result<Fields, Problem> {
    let fields = object(json)?;
    match fields.keys().find(|field| !known.contains(&field.as_str())) {
        None => Ok(fields),
        Some(field) => {
            let known = known.join(", ");
            let detail = format!("there is no field {field:?}; there are {known}");
            Err(Problem::new(StatusCode::BAD_REQUEST, detail))
        }
    }
}

/// Takes a field that may be left out; one that is null counts as absent.
pub(super) fn given(fields: &mut Fields, field: &str) -> Option<Box<RawValue>> {
    fields.remove(field).filter(|json| json.get() != "null")
}

/// The field's JSON in the form in which it is passed on.
///
/// # Errors
/// When it is nested too deep.
pub(super) fn passed_on(field: &'static str, json: &str, depth_max: usize) -> Result<String, Problem> {
    let too_deep = || {
        let detail = format!("{field:?} is nested deeper than limits.json_depth_max = {depth_max}");
        Problem::field(field, detail)
    };
    compact(json, depth_max).ok_or_else(too_deep)
}

/// Valid JSON without the space between its tokens, since events are told apart by line ends; nothing when it is
/// nested too deep.
fn compact(json: &str, depth_max: usize) -> Option<String> {
    let mut out = String::with_capacity(json.len());
    let (mut depth, mut in_text, mut escaped) = (0, false, false);
    for letter in json.chars() {
        if in_text {
            in_text = escaped || letter != '"';
            escaped = !escaped && letter == '\\';
        } else {
            match letter {
                ' ' | '\t' | '\r' | '\n' => continue,
                '"' => in_text = true,
                '[' | '{' => depth += 1,
                ']' | '}' => depth -= 1,
                _ => {}
            }
            if depth > depth_max {
                return None;
            }
        }
        out.push(letter);
    }
    Some(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn compacting_keeps_texts_as_they_are() {
        for (json, compacted) in [
            ("[ 1 , 2 ]", "[1,2]"),
            ("\" \\\" { \"", "\" \\\" { \""),
            ("{ \"a\\\\\" : \" \" }", "{\"a\\\\\":\" \"}"),
            ("\"\u{1f99c} \u{2028}\"", "\"\u{1f99c} \u{2028}\""),
        ] {
            assert_eq!(compact(json, 8).as_deref(), Some(compacted));
        }
        assert_eq!(compact("[[[]]]", 2), None);
        assert_eq!(compact("[[],[],[]]", 2).as_deref(), Some("[[],[],[]]"));
    }
}

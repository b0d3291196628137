//! Several events in one text: a JSON array of them, or one behind the other, on lines of their own or not.

use std::ops::Range;

/// Where the events of a text are. What lies there is up to the parser.
///
/// # Errors
/// With a sentence, when there is none, when there is something between them, or when there are more than `most`.
pub fn split(text: &[u8], most: usize) -> Result<Vec<Range<usize>>, &'static str> {
    let end = text.trim_ascii_end().len();
    let start = end - text[..end].trim_ascii_start().len();
    match text[start..end].first() {
        None => Err("The body is empty: it should be an event, an array of events, or an event a line."),
        Some(b'[') if end - start > 1 && text[end - 1] == b']' => elements(text, start + 1..end - 1, most),
        Some(b'{') => documents(text, start..end, most),
        Some(_) => Err("The body is not JSON of an event, an array of events, or an event a line."),
    }
}

const TOO_MANY: &str = "The body has more events than are taken at once.";

/// The elements between the brackets of an array.
fn elements(text: &[u8], within: Range<usize>, most: usize) -> Result<Vec<Range<usize>>, &'static str> {
    let mut found = Vec::new();
    if text[within.clone()].trim_ascii().is_empty() {
        return Ok(found);
    }
    let mut start = within.start;
    let mut scan = Scan { at: within.start, end: within.end, depth: 0 };
    loop {
        let token = scan.next(text);
        let over = token.is_none();
        if over || (token == Some(b',') && scan.depth == 0) {
            let end = if over { within.end } else { scan.at - 1 };
            if found.len() == most {
                return Err(TOO_MANY);
            }
            found.push(start..end);
            start = scan.at;
        }
        if over {
            return Ok(found);
        }
        if scan.depth < 0 {
            return Err("The body is not JSON: its brackets do not match.");
        }
    }
}

/// Objects one behind the other.
fn documents(text: &[u8], within: Range<usize>, most: usize) -> Result<Vec<Range<usize>>, &'static str> {
    let mut found = Vec::new();
    let mut start = within.start;
    let mut scan = Scan { at: within.start, end: within.end, depth: 0 };
    while let Some(token) = scan.next(text) {
        if matches!(token, b'}' | b']') && scan.depth <= 0 {
            if found.len() == most {
                return Err(TOO_MANY);
            }
            found.push(start..scan.at);
            start = scan.at;
            scan.depth = 0;
        }
    }
    // What is left was begun and is not whole: the parser says so.
    if !text[start..within.end].trim_ascii().is_empty() {
        found.push(start..within.end);
    }
    Ok(found)
}

/// Goes from one structural character to the next, past strings.
struct Scan {
    at: usize,
    end: usize,
    depth: i32,
}

impl Scan {
    /// The next of them, with the depth behind it.
    fn next(&mut self, text: &[u8]) -> Option<u8> {
        let mut in_string = false;
        while self.at < self.end {
            let byte = text[self.at];
            self.at += 1;
            match byte {
                b'"' => in_string = !in_string,
                b'\\' if in_string => self.at += 1,
                _ if in_string => {}
                b'{' | b'[' => self.depth += 1,
                b'}' | b']' => {
                    self.depth -= 1;
                    return Some(byte);
                }
                b',' => return Some(byte),
                _ => {}
            }
        }
        self.at = self.end;
        None
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::Value;

    use super::*;

    fn pieces(text: &str) -> Result<Vec<&str>, &'static str> {
        split(text.as_bytes(), 4).map(|found| found.into_iter().map(|range| text[range].trim()).collect())
    }

    #[test]
    fn one_event_an_array_and_lines_are_told_apart() {
        for (text, expected) in [
            (" {\"a\":\n[1,2]} \n", vec!["{\"a\":\n[1,2]}"]),
            ("{}\n{}\r\n\n{}", vec!["{}", "{}", "{}"]),
            ("{\"a\":\"}\\\"{\"}{}", vec!["{\"a\":\"}\\\"{\"}", "{}"]),
            ("[{\"a\":[1,2]},{\"b\":\",]\"} , 3]", vec!["{\"a\":[1,2]}", "{\"b\":\",]\"}", "3"]),
            ("[]", vec![]),
            (" [ ] ", vec![]),
            ("[{},]", vec!["{}", ""]),
            ("{} x", vec!["{}", "x"]),
            ("{\"a\":1", vec!["{\"a\":1"]),
        ] {
            assert_eq!(pieces(text), Ok(expected), "{text}");
        }
        for text in ["", " \n", "1", "\"a\"", "[", "[{}", "[}]", "{}{}{}{}{}", "[1,2,3,4,5]"] {
            assert!(pieces(text).is_err(), "{text}");
        }
    }

    proptest! {
        #[test]
        fn events_are_found_again(values in prop::collection::vec("\\PC{0,9}", 1..4), pretty: bool) {
            let events: Vec<Value> = values.iter().map(|text| serde_json::json!({ "t": [text, {"k": text}] })).collect();
            let one = |event: &Value| if pretty { serde_json::to_string_pretty(event) } else { serde_json::to_string(event) };
            let lines: Vec<String> = events.iter().map(|event| one(event).expect("JSON")).collect();
            let array = one(&Value::from(events.clone())).expect("JSON");
            for text in [lines.join("\n"), array] {
                let found: Vec<Value> =
                    pieces(&text).expect("events").iter().map(|piece| serde_json::from_str(piece).expect("JSON")).collect();
                prop_assert_eq!(&found, &events);
            }
        }

        #[test]
        fn no_bytes_make_it_panic(text in "[\\[\\]{},\"\\\\a ]{0,40}") {
            if let Ok(found) = split(text.as_bytes(), 4) {
                prop_assert!(found.iter().all(|range| range.end <= text.len() && range.start <= range.end));
            }
        }
    }
}

//! Reads the `item` of `conversation.item.create`.

use simd_json::tape::Object;

use super::base64;
use super::client::ClientError;
use super::fields::Fields;
use super::ids::CLIENT_NAME_BYTES_MAX;
use super::item::{NewContent, NewItem, Role};

/// Most parts of one item.
const CONTENT_PARTS_MAX: usize = 64;

/// Reads an item.
pub(super) fn item(
    object: Object<'_, '_>,
    raw: Box<str>,
    previous: Option<&str>,
) -> Result<NewItem, ClientError> {
    let item = Fields::new(object, "item");
    match item.text("type")? {
        Some("message") => {}
        Some(_) => return Err(item.invalid("type", "message")),
        None => return Err(item.missing("type")),
    }
    let role = match item.text("role")? {
        Some("user") => Role::User,
        Some("assistant") => Role::Assistant,
        Some("system") => Role::System,
        Some(_) => return Err(item.invalid("role", "user, assistant or system")),
        None => return Err(item.missing("role")),
    };
    let id = item.text("id")?;
    if id.is_some_and(|id| id.is_empty() || id.len() > CLIENT_NAME_BYTES_MAX) {
        return Err(item.invalid("id", "1 to 512 bytes"));
    }
    let Some(parts) = item.array("content")? else {
        return Err(item.missing("content"));
    };
    if parts.is_empty() || parts.len() > CONTENT_PARTS_MAX {
        return Err(item.invalid("content", "1 to 64 parts"));
    }
    let mut content = Vec::with_capacity(parts.len());
    for (index, part) in parts.iter().enumerate() {
        let path = format!("item.content[{index}]");
        let Some(object) = part.as_object() else {
            return Err(item.mistyped(&format!("content[{index}]"), "an object"));
        };
        content.push(content_part(&Fields::new(object, &path))?);
    }
    Ok(NewItem { id: id.map(Into::into), role, content, previous: previous.map(Into::into), raw })
}

fn content_part(part: &Fields<'_, '_, '_>) -> Result<NewContent, ClientError> {
    let kind = part.text("type")?.ok_or_else(|| part.missing("type"))?;
    match kind {
        "input_text" | "text" | "output_text" => {
            let text = part.text("text")?.ok_or_else(|| part.missing("text"))?;
            Ok(NewContent::Text(text.into()))
        }
        "input_audio" => {
            let encoded = part.text("audio")?.ok_or_else(|| part.missing("audio"))?;
            let mut audio = Vec::new();
            base64::decode(encoded.as_bytes(), &mut audio)
                .map_err(|base64::BadBase64| part.invalid("audio", "base64"))?;
            let transcript = part.text("transcript")?.map(Into::into);
            Ok(NewContent::Audio { audio, transcript })
        }
        _ => Err(part.invalid("type", "input_text or input_audio")),
    }
}

//! Reads the `item` of `conversation.item.create`.

use simd_json::tape::Object;

use super::base64;
use super::client::ClientError;
use super::fields::Fields;
use super::ids::CLIENT_NAME_BYTES_MAX;
use super::item::{ItemKind, NewContent, NewItem, Role};

/// Most parts of one item.
const CONTENT_PARTS_MAX: usize = 64;

/// Reads an item.
pub(super) fn item(
    object: Object<'_, '_>,
    raw: Box<str>,
    previous: Option<&str>,
) -> Result<NewItem, ClientError> {
    let item = Fields::new(object, "item");
    let kind = item.text("type")?.ok_or_else(|| item.missing("type"))?;
    if kind != "message" {
        return other(&item, kind, raw, previous);
    }
    let role = match item.text("role")? {
        Some("user") => Role::User,
        Some("assistant") => Role::Assistant,
        Some("system") => Role::System,
        Some(_) => return Err(item.invalid("role", "user, assistant or system")),
        None => return Err(item.missing("role")),
    };
    let id = own_name(&item)?;
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
    Ok(NewItem { kind: ItemKind::Message, id, role, content, previous: previous.map(Into::into), raw })
}

/// Reads an item that is no message. What came of a function is there to be answered.
fn other(
    item: &Fields<'_, '_, '_>,
    kind: &str,
    raw: Box<str>,
    previous: Option<&str>,
) -> Result<NewItem, ClientError> {
    let required = |name: &str| item.text(name)?.ok_or_else(|| item.missing(name));
    let (role, content) = match kind {
        "function_call" => {
            required("name")?;
            required("arguments")?;
            (Role::Assistant, Vec::new())
        }
        "function_call_output" => {
            required("call_id")?;
            (Role::User, vec![NewContent::Text(required("output")?.into())])
        }
        "mcp_list_tools" | "mcp_call" | "mcp_approval_request" | "mcp_approval_response" => {
            (Role::Assistant, Vec::new())
        }
        _ => return Err(item.invalid("type", "message, function_call or function_call_output")),
    };
    let id = own_name(item)?;
    Ok(NewItem { kind: ItemKind::Other, id, role, content, previous: previous.map(Into::into), raw })
}

fn own_name(item: &Fields<'_, '_, '_>) -> Result<Option<Box<str>>, ClientError> {
    match item.text("id")? {
        Some(id) if id.is_empty() || id.len() > CLIENT_NAME_BYTES_MAX => {
            Err(item.invalid("id", "1 to 512 bytes"))
        }
        id => Ok(id.map(Into::into)),
    }
}

fn content_part(part: &Fields<'_, '_, '_>) -> Result<NewContent, ClientError> {
    let kind = part.text("type")?.ok_or_else(|| part.missing("type"))?;
    match kind {
        "input_text" | "text" | "output_text" => {
            let text = part.text("text")?.ok_or_else(|| part.missing("text"))?;
            Ok(NewContent::Text(text.into()))
        }
        "input_image" => {
            part.text("image_url")?.ok_or_else(|| part.missing("image_url"))?;
            Ok(NewContent::Image)
        }
        "input_audio" => {
            let encoded = part.text("audio")?.ok_or_else(|| part.missing("audio"))?;
            let mut audio = Vec::new();
            base64::decode(encoded.as_bytes(), &mut audio)
                .map_err(|base64::BadBase64| part.invalid("audio", "base64"))?;
            let transcript = part.text("transcript")?.map(Into::into);
            Ok(NewContent::Audio { audio, transcript })
        }
        _ => Err(part.invalid("type", "input_text, input_audio, input_image or output_text")),
    }
}

//! The events that the soak understands.

use std::borrow::Cow;

use serde::Deserialize;

/// A line of the server's.
#[derive(Deserialize)]
pub(super) struct Line<'a> {
    #[serde(borrow, rename = "type")]
    pub(super) kind: Cow<'a, str>,
    pub(super) seq: Option<u64>,
    /// The speaker's index in its room, and the number of its message.
    pub(super) data: Option<(u8, u32)>,
    pub(super) session: Option<Session>,
    pub(super) recovered: Option<bool>,
    pub(super) client_seq: Option<u64>,
    pub(super) class: Option<Cow<'a, str>>,
    pub(super) first_seq: Option<u64>,
    pub(super) last_seq: Option<u64>,
    pub(super) t: Option<u64>,
    pub(super) error: Option<Fault>,
}

#[derive(Deserialize)]
pub(super) struct Session {
    pub(super) resume: Option<Resume>,
}

/// What a member comes back with.
#[derive(Deserialize)]
pub(super) struct Resume {
    pub(super) token: String,
    pub(super) seq: u64,
}

#[derive(Deserialize)]
pub(super) struct Fault {
    pub(super) code: Option<String>,
}

/// A message to the other members.
pub(super) fn room_send(speaker: u8, number: u32, client_seq: u64) -> String {
    format!(r#"{{"type":"room.send","data":[{speaker},{number}],"client_seq":{client_seq}}}"#)
}

/// A question whose answer says that everything up to `client_seq` was taken.
pub(super) fn ping(client_seq: u64) -> String {
    format!(r#"{{"type":"ping","t":{client_seq}}}"#)
}

/// Asks for what was dropped.
pub(super) fn again_after(seq: u64) -> String {
    format!(r#"{{"type":"session.update","after":{seq}}}"#)
}

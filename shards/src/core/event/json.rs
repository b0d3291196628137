//! Writes JSON by hand, straight into the buffer that goes out: no tree, no allocation.

use std::fmt::{Display, Result, Write};

use super::dialect::Dialect;

/// Writes one value; knows whether a comma is due, and in whose words it is.
pub(super) struct Json<'o> {
    out: &'o mut Vec<u8>,
    comma: bool,
    dialect: Dialect,
}

impl<'o> Json<'o> {
    /// Writes one object.
    pub(super) fn write(out: &'o mut Vec<u8>, dialect: Dialect, fields: impl FnOnce(&mut Self)) {
        Json { out, comma: false, dialect }.braces(fields);
    }

    /// Whether it is in the words of the beta.
    pub(super) fn is_beta(&self) -> bool {
        self.dialect.is_beta()
    }

    /// Whether it is for a client of ours.
    pub(super) fn is_native(&self) -> bool {
        self.dialect == Dialect::Native
    }

    /// The one of two words that this dialect has.
    pub(super) fn word<'w>(&self, ga: &'w str, beta: &'w str) -> &'w str {
        if self.is_beta() { beta } else { ga }
    }

    pub(super) fn text(&mut self, key: &str, value: &str) {
        self.key(key);
        self.string(value);
    }

    pub(super) fn text_or_null(&mut self, key: &str, value: Option<&str>) {
        match value {
            Some(value) => self.text(key, value),
            None => self.null(key),
        }
    }

    /// A value whose text needs no escapes.
    pub(super) fn plain(&mut self, key: &str, value: impl Display) {
        self.key(key);
        self.quoted(value);
    }

    pub(super) fn number(&mut self, key: &str, value: u64) {
        self.key(key);
        self.display(value);
    }

    /// Thousandths as a decimal fraction.
    pub(super) fn permille(&mut self, key: &str, value: u64) {
        self.key(key);
        let (whole, fraction) = (value / 1_000, value % 1_000);
        let _ = match fraction {
            0 => write!(self, "{whole}"),
            tenths if tenths % 100 == 0 => write!(self, "{whole}.{}", tenths / 100),
            hundredths if hundredths % 10 == 0 => write!(self, "{whole}.{:02}", hundredths / 10),
            thousandths => write!(self, "{whole}.{thousandths:03}"),
        };
    }

    pub(super) fn flag(&mut self, key: &str, value: bool) {
        self.key(key);
        self.display(value);
    }

    pub(super) fn null(&mut self, key: &str) {
        self.key(key);
        self.out.extend_from_slice(b"null");
    }

    /// Valid JSON, put on one line: outside of strings a line's end is mere space.
    pub(super) fn raw(&mut self, key: &str, value: &str) {
        self.key(key);
        for line in value.split(['\n', '\r']) {
            self.out.extend_from_slice(line.as_bytes());
        }
    }

    /// Members as they are, without braces; perhaps none.
    pub(super) fn members(&mut self, members: &str) {
        if !members.is_empty() {
            self.separate();
            self.out.extend_from_slice(members.as_bytes());
        }
    }

    pub(super) fn object(&mut self, key: &str, fields: impl FnOnce(&mut Self)) {
        self.key(key);
        self.braces(fields);
    }

    pub(super) fn array(&mut self, key: &str, elements: impl FnOnce(&mut Self)) {
        self.key(key);
        self.out.push(b'[');
        self.comma = false;
        elements(self);
        self.out.push(b']');
        self.comma = true;
    }

    /// An element of an array.
    pub(super) fn element(&mut self, fields: impl FnOnce(&mut Self)) {
        self.separate();
        self.braces(fields);
    }

    /// A string as an element of an array; it needs no escapes.
    pub(super) fn plain_element(&mut self, value: impl Display) {
        self.separate();
        self.quoted(value);
    }

    fn braces(&mut self, fields: impl FnOnce(&mut Self)) {
        self.out.push(b'{');
        self.comma = false;
        fields(self);
        self.out.push(b'}');
        self.comma = true;
    }

    fn separate(&mut self) {
        if self.comma {
            self.out.push(b',');
        }
        self.comma = true;
    }

    fn key(&mut self, key: &str) {
        self.separate();
        self.out.push(b'"');
        self.out.extend_from_slice(key.as_bytes());
        self.out.extend_from_slice(b"\":");
    }

    fn quoted(&mut self, value: impl Display) {
        self.out.push(b'"');
        self.display(value);
        self.out.push(b'"');
    }

    fn display(&mut self, value: impl Display) {
        // Writing to memory can't fail.
        let _ = write!(self, "{value}");
    }

    fn string(&mut self, value: &str) {
        self.out.push(b'"');
        let bytes = value.as_bytes();
        let mut from = 0;
        for (at, &byte) in bytes.iter().enumerate() {
            if byte >= b' ' && byte != b'"' && byte != b'\\' {
                continue;
            }
            self.out.extend_from_slice(&bytes[from..at]);
            from = at + 1;
            match byte {
                b'"' => self.out.extend_from_slice(b"\\\""),
                b'\\' => self.out.extend_from_slice(b"\\\\"),
                b'\n' => self.out.extend_from_slice(b"\\n"),
                b'\r' => self.out.extend_from_slice(b"\\r"),
                b'\t' => self.out.extend_from_slice(b"\\t"),
                control => {
                    let _ = write!(self, "\\u{control:04x}");
                }
            }
        }
        self.out.extend_from_slice(&bytes[from..]);
        self.out.push(b'"');
    }
}

impl Write for Json<'_> {
    fn write_str(&mut self, text: &str) -> Result {
        self.out.extend_from_slice(text.as_bytes());
        Ok(())
    }
}

//! Agreeing on permessage-deflate: what a client offers in `Sec-WebSocket-Extensions` (RFC 6455 section 9.1) and what
//! of it is accepted (RFC 7692 sections 5 and 7.1).

use super::super::deflate::WindowBits;
use super::handshake::{HandshakeError, is_token_byte};
use super::head::Request;

/// An offer of permessage-deflate that can be met.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DeflateOffer {
    /// The `server_max_window_bits` that the client asks for.
    asked: Option<WindowBits>,
}

impl DeflateOffer {
    /// The largest window that messages to this client may need.
    #[must_use]
    pub fn window(self) -> WindowBits {
        self.asked.unwrap_or(WindowBits::MAX)
    }

    /// Writes the extension as it is agreed on. `client_max_window_bits` is not answered, whatever was offered: absent,
    /// it allows the client any window (section 7.1.2.2), and ours to inflate is the largest.
    pub(super) fn write(self, out: &mut Vec<u8>) {
        out.extend_from_slice(b"permessage-deflate; server_no_context_takeover; client_no_context_takeover");
        if let Some(bits) = self.asked {
            out.extend_from_slice(b"; server_max_window_bits=");
            out.extend_from_slice(bits.get().to_string().as_bytes());
        }
    }
}

impl Request<'_> {
    /// The first offer of permessage-deflate that can be met, in the client's order of preference.
    ///
    /// # Errors
    /// When the header is not what RFC 6455 section 9.1 allows: the connection must be failed. An extension that is
    /// not known, or offered in a way that can't be met, is only not used.
    pub(super) fn deflate_offer(&self) -> Result<Option<DeflateOffer>, HandshakeError> {
        let mut accepted = None;
        for extension in self.header_list("sec-websocket-extensions") {
            let offer = read_extension(extension)?;
            accepted = accepted.or(offer);
        }
        Ok(accepted)
    }
}

/// Reads one extension: nothing when it is not an offer that can be met.
fn read_extension(extension: &[u8]) -> Result<Option<DeflateOffer>, HandshakeError> {
    let mut parts = extension.split(|&byte| byte == b';').map(<[u8]>::trim_ascii);
    let name = parts.next().filter(|name| is_token(name)).ok_or(HandshakeError::Extensions)?;
    let mut offer = (name == b"permessage-deflate").then(Parameters::default);
    for part in parts {
        let mut halves = part.splitn(2, |&byte| byte == b'=').map(<[u8]>::trim_ascii);
        let name = halves.next().filter(|name| is_token(name)).ok_or(HandshakeError::Extensions)?;
        let value =
            halves.next().map(|value| unquoted(value).ok_or(HandshakeError::Extensions)).transpose()?;
        offer = offer.and_then(|offer| offer.with(name, value));
    }
    Ok(offer.map(|offer| DeflateOffer { asked: offer.server_max_window_bits }))
}

/// The parameters of an offer so far (section 7.1).
#[derive(Clone, Copy, Default)]
struct Parameters {
    server_no_context_takeover: bool,
    client_no_context_takeover: bool,
    client_max_window_bits: bool,
    server_max_window_bits: Option<WindowBits>,
}

impl Parameters {
    /// With one parameter more; nothing when section 7.1 wants the offer declined: a parameter that it does not
    /// define, has no such value, or stands there twice, or a window that the server does not have.
    fn with(mut self, name: &[u8], value: Option<&[u8]>) -> Option<Self> {
        let twice = match (name, value) {
            (b"server_no_context_takeover", None) => {
                std::mem::replace(&mut self.server_no_context_takeover, true)
            }
            (b"client_no_context_takeover", None) => {
                std::mem::replace(&mut self.client_no_context_takeover, true)
            }
            (b"client_max_window_bits", value) => {
                if let Some(value) = value {
                    window_bits(value)?;
                }
                std::mem::replace(&mut self.client_max_window_bits, true)
            }
            (b"server_max_window_bits", Some(value)) => {
                let bits = WindowBits::new(window_bits(value)?)?;
                self.server_max_window_bits.replace(bits).is_some()
            }
            _ => return None,
        };
        (!twice).then_some(self)
    }
}

/// Section 7.1.2: a decimal number without leading zeroes from 8 to 15.
fn window_bits(value: &[u8]) -> Option<u8> {
    match value {
        [digit @ b'8'..=b'9'] => Some(digit - b'0'),
        [b'1', digit @ b'0'..=b'5'] => Some(10 + digit - b'0'),
        _ => None,
    }
}

/// A parameter's value: a token, or one in quotes (RFC 6455 section 9.1: after unquoting it "MUST conform to the 'token'
/// ABNF", in which there is nothing to escape).
fn unquoted(value: &[u8]) -> Option<&[u8]> {
    let inner = match value {
        [b'"', inner @ .., b'"'] => inner,
        bare => bare,
    };
    is_token(inner).then_some(inner)
}

fn is_token(name: &[u8]) -> bool {
    !name.is_empty() && name.iter().all(|&byte| is_token_byte(byte))
}

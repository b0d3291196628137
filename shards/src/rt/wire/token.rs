//! What an operation carries so that its completion can be told apart: 8 bits of kind, 24 of index, 32 of
//! generation, so that a late completion can't touch a slot's next tenant.

use crate::core::ConnKey;

/// Slots have 24 bits.
pub(super) const INDEX_MAX: u32 = (1 << 24) - 1;

/// What was asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(super) enum Kind {
    /// A receive, single or standing, on a connection.
    Receive = 1,
    /// The send of a send slot.
    Send = 2,
    /// A wait for a connection to take bytes.
    Writable = 3,
    /// A cancellation: its own outcome does not matter.
    Cancel = 4,
    /// An accept of an accept slot.
    Accept = 5,
    /// The doorbell.
    Doorbell = 6,
    /// A wait for a socket of ours to be connected.
    Connect = 7,
}

/// Names an operation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Token {
    pub(super) kind: Kind,
    pub(super) index: u32,
    pub(super) generation: u32,
}

impl Token {
    /// Of every cancellation.
    pub(super) const CANCEL: Self = Self { kind: Kind::Cancel, index: 0, generation: 0 };
    /// Of the doorbell.
    pub(super) const DOORBELL: Self = Self { kind: Kind::Doorbell, index: 0, generation: 0 };

    /// An operation on a connection.
    pub(super) fn of(kind: Kind, conn: ConnKey) -> Self {
        Self { kind, index: conn.index, generation: conn.generation }
    }

    /// An operation on another kind of slot.
    pub(super) fn at(kind: Kind, index: u32) -> Self {
        Self { kind, index, generation: 0 }
    }

    /// The connection, where it is one's.
    pub(super) fn conn(self) -> ConnKey {
        ConnKey { index: self.index, generation: self.generation }
    }

    pub(super) fn to_bits(self) -> u64 {
        (self.kind as u64) << 56 | u64::from(self.index & INDEX_MAX) << 32 | u64::from(self.generation)
    }

    pub(super) fn from_bits(bits: u64) -> Self {
        let kind = match bits >> 56 {
            1 => Kind::Receive,
            2 => Kind::Send,
            3 => Kind::Writable,
            5 => Kind::Accept,
            6 => Kind::Doorbell,
            7 => Kind::Connect,
            _ => Kind::Cancel,
        };
        Self { kind, index: (bits >> 32) as u32 & INDEX_MAX, generation: bits as u32 }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_survives_the_kernel() {
        let conn = ConnKey { index: INDEX_MAX, generation: u32::MAX };
        for kind in [
            Kind::Receive,
            Kind::Send,
            Kind::Writable,
            Kind::Cancel,
            Kind::Accept,
            Kind::Doorbell,
            Kind::Connect,
        ] {
            let token = Token::of(kind, conn);
            assert_eq!(Token::from_bits(token.to_bits()), token);
            assert_eq!(token.conn(), conn);
        }
    }
}

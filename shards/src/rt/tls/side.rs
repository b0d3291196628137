//! The library's two kinds of connection, ours to a server and a client's to us, under one face.

use rustls::client::{ClientConnectionData, UnbufferedClientConnection};
use rustls::server::{ServerConnectionData, UnbufferedServerConnection};
use rustls::unbuffered::UnbufferedStatus;
use rustls::{HandshakeKind, ProtocolVersion};

/// Which end of the session we are.
pub(super) enum End {
    /// A client has connected.
    Server(UnbufferedServerConnection),
    /// We have.
    Client(UnbufferedClientConnection),
}

impl End {
    pub(super) fn is_handshaking(&self) -> bool {
        match self {
            Self::Server(tls) => tls.is_handshaking(),
            Self::Client(tls) => tls.is_handshaking(),
        }
    }

    pub(super) fn handshake_kind(&self) -> Option<HandshakeKind> {
        match self {
            Self::Server(tls) => tls.handshake_kind(),
            Self::Client(tls) => tls.handshake_kind(),
        }
    }

    pub(super) fn protocol_version(&self) -> Option<ProtocolVersion> {
        match self {
            Self::Server(tls) => tls.protocol_version(),
            Self::Client(tls) => tls.protocol_version(),
        }
    }
}

/// What both kinds can do.
pub(super) trait Side {
    /// What the library tells them apart by.
    type Data;

    /// Goes on with what was received.
    fn process<'c, 'i>(&'c mut self, bytes: &'i mut [u8]) -> UnbufferedStatus<'c, 'i, Self::Data>;

    /// Whether there is something to be said.
    fn wants_write(&self) -> bool;
}

impl Side for UnbufferedServerConnection {
    type Data = ServerConnectionData;

    fn process<'c, 'i>(&'c mut self, bytes: &'i mut [u8]) -> UnbufferedStatus<'c, 'i, ServerConnectionData> {
        self.process_tls_records(bytes)
    }

    fn wants_write(&self) -> bool {
        (**self).wants_write()
    }
}

impl Side for UnbufferedClientConnection {
    type Data = ClientConnectionData;

    fn process<'c, 'i>(&'c mut self, bytes: &'i mut [u8]) -> UnbufferedStatus<'c, 'i, ClientConnectionData> {
        self.process_tls_records(bytes)
    }

    fn wants_write(&self) -> bool {
        (**self).wants_write()
    }
}

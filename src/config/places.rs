//! Where the server listens: `server.listen`, `server.admin`, and who may open their files where they are Unix-domain
//! sockets (`server.unix_mode`).

use shards::rt::{Listen, UNIX_PREFIX};

use super::keys::{Default, Key, Kind};
use super::resolve::Resolver;

pub(super) const UNIX_MODE: Key = Key {
    name: "server.unix_mode",
    kind: Kind::Text,
    default: Default::Text("0660"),
    reason: "Who may connect to a Unix-domain socket: the octal permissions of its file.",
};

/// What the permissions of a file are written with, at most.
const MODE_MAX: u32 = 0o777;

impl Resolver<'_> {
    /// Nothing but this machine may reach a server that asks nobody for a name.
    pub(super) fn check_addresses(&mut self) {
        if self.unix_mode().is_none() {
            self.blame(
                "server.unix_mode",
                "is not the permissions of a file".to_owned(),
                "write them as octal digits in quotes, such as \"0660\"".to_owned(),
            );
            return;
        }
        let open = self.switch("server.insecure") || self.text("auth.mode") == "jwt";
        for name in ["server.listen", "server.admin"] {
            if !open && !self.address(name).is_local() {
                self.blame(
                    name,
                    "can be reached from other machines, and auth.mode = \"none\" lets everybody in".to_owned(),
                    "set auth.mode = \"jwt\" and a key for it, listen on 127.0.0.1 behind a proxy that authenticates, \
                     or give --insecure if that is what you mean"
                        .to_owned(),
                );
            }
        }
        let (listen, admin) = (self.address("server.listen"), self.address("server.admin"));
        if listen == admin && listen.tcp().is_none_or(|address| address.port() != 0) {
            let remedy =
                if listen.tcp().is_some() { "give each its own port" } else { "give each its own path" };
            self.blame("server.admin", "is the same address as server.listen".to_owned(), remedy.to_owned());
        }
    }

    /// The place that a key names.
    pub(super) fn address(&self, name: &str) -> Listen {
        let text = self.text(name);
        match text.strip_prefix(UNIX_PREFIX) {
            Some(path) => {
                let mode = self.unix_mode().expect("checked before addresses are asked for");
                Listen::Unix { path: path.into(), mode }
            }
            None => Listen::Tcp(text.parse().expect("checked when it was read")),
        }
    }

    /// Whether clients come over a Unix-domain socket: through a process of this host, never by themselves.
    pub(super) fn listens_on_a_socket_file(&self) -> bool {
        self.text("server.listen").starts_with(UNIX_PREFIX)
    }

    fn unix_mode(&self) -> Option<u32> {
        let text = self.text("server.unix_mode");
        let digits = (3..=4).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_digit());
        u32::from_str_radix(text, 8).ok().filter(|&mode| digits && mode <= MODE_MAX)
    }
}

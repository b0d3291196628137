//! Proxies in front: a socket file for those on the same host, a PROXY header before TLS, and HAProxy and nginx with the
//! configurations of docs/operations.md, for WebSockets and for streams of events.

#[path = "../support/mod.rs"]
mod support;

#[path = "../sse/listener.rs"]
mod listener;
mod programs;
mod sealed;
mod socket_file;
mod streams;

use std::fs;
use std::path::{Path, PathBuf};

use serde_json::Value;

/// A folder that goes with its test.
struct Folder(PathBuf);

impl Folder {
    fn new(name: &str) -> Self {
        let folder = std::env::temp_dir().join(format!("voxhall-proxies-{}-{name}", std::process::id()));
        fs::create_dir_all(&folder).expect("a temporary folder");
        Self(folder)
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// A socket file as `--listen` takes it.
fn unix(path: &Path) -> String {
    format!("unix:{}", path.display())
}

/// Where the only member of a room comes from, as the server understands it.
fn member_of(server: &support::Server, session: &str) -> String {
    let room: Value =
        serde_json::from_str(&server.admin_get(&format!("/api/v1/rooms/{session}"))).expect("a room");
    room["connections"][0]["peer"].as_str().expect("an address").to_owned()
}

/// Binary header of version 2 for a client at 198.51.100.7, port 5000.
fn version_2() -> Vec<u8> {
    let addresses = [198, 51, 100, 7, 192, 0, 2, 9, 0x13, 0x88, 0, 80];
    [&b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x0c"[..], &addresses].concat()
}

const VERSION_1: &[u8] = b"PROXY TCP4 198.51.100.7 192.0.2.9 5000 80\r\n";

//! A Redis of a test's own.

#![expect(clippy::disallowed_methods, reason = "a test that waits has a clock")]

use std::net::TcpListener;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use super::redis::RedisStore;
use crate::config::Secret;

/// Far longer than anything here takes.
const PATIENCE: Duration = Duration::from_secs(30);

/// See the module; killed with the test.
pub(super) struct Redis {
    port: u16,
    folder: PathBuf,
    child: Child,
}

impl Redis {
    pub(super) fn start(name: &str) -> Self {
        let port = TcpListener::bind("127.0.0.1:0").and_then(|listener| listener.local_addr());
        let port = port.expect("a port").port();
        let folder = std::env::temp_dir().join(format!("voxhall-store-redis-{}-{name}", std::process::id()));
        std::fs::create_dir_all(&folder).expect("a folder");
        let child = Command::new("redis-server")
            .args(["--port", &port.to_string(), "--bind", "127.0.0.1", "--save", "", "--dir"])
            .arg(&folder)
            .stdout(Stdio::null())
            .spawn()
            .expect("redis-server is installed: tests/packages does it");
        let redis = Self { port, folder, child };
        let begun = Instant::now();
        while redis.ask(&["PING"]) != "PONG" {
            assert!(begun.elapsed() < PATIENCE, "Redis never answers");
            std::thread::yield_now();
        }
        redis
    }

    /// A command's answer as `redis-cli` prints it.
    pub(super) fn ask(&self, command: &[&str]) -> String {
        let output = Command::new("redis-cli")
            .args(["-p", &self.port.to_string()])
            .args(command)
            .stderr(Stdio::null())
            .output()
            .expect("redis-cli comes with it");
        String::from_utf8_lossy(&output.stdout).trim_end().to_owned()
    }

    /// A store in it, not connected yet.
    pub(super) fn store(&self) -> RedisStore {
        let url = Secret::from(format!("redis://127.0.0.1:{}/0", self.port));
        RedisStore::new(&url, "t", Duration::from_secs(60)).expect("a good address")
    }
}

impl Drop for Redis {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        let _ = std::fs::remove_dir_all(&self.folder);
    }
}

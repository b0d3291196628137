//! A running server for whole-program tests.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};

/// A server of its own on free ports; killed with the test if it has not ended by itself.
pub(crate) struct Server {
    child: Child,
    /// The public address.
    pub(crate) public: SocketAddr,
    /// The admin address.
    pub(crate) admin: SocketAddr,
}

impl Server {
    /// Starts `voxhall serve` with these arguments besides, and waits for its ready line.
    pub(crate) fn start(arguments: &[&str]) -> Self {
        let mut child = Command::new(env!("CARGO_BIN_EXE_voxhall"))
            .args(["serve", "--listen", "127.0.0.1:0", "--admin", "127.0.0.1:0"])
            .args(arguments)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()
            .expect("the server starts");
        let mut ready = String::new();
        BufReader::new(child.stdout.as_mut().expect("piped")).read_line(&mut ready).expect("a ready line");
        let address = |part: usize| {
            let found = ready.split("http://").nth(part).and_then(|rest| rest.split([' ', ')']).next());
            found.and_then(|text| text.parse().ok()).unwrap_or_else(|| panic!("no address in {ready:?}"))
        };
        let (public, admin) = (address(1), address(2));
        Self { child, public, admin }
    }

    /// The process.
    #[allow(dead_code, reason = "not every test file asks")]
    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// The body of an admin page.
    #[allow(dead_code, reason = "not every test file asks")]
    pub(crate) fn admin_get(&self, path: &str) -> String {
        let mut stream = TcpStream::connect(self.admin).expect("the admin address answers");
        write!(stream, "GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").expect("a request");
        let mut answer = String::new();
        stream.read_to_string(&mut answer).expect("an answer");
        answer.split_once("\r\n\r\n").map_or(String::new(), |(_, body)| body.to_owned())
    }

    /// The sum of a metric over its labels.
    #[allow(dead_code, reason = "not every test file asks")]
    pub(crate) fn metric(&self, name: &str) -> f64 {
        let page = self.admin_get("/metrics");
        let rows = page.lines().filter(|line| {
            line.strip_prefix(name).is_some_and(|rest| rest.starts_with('{') || rest.starts_with(' '))
        });
        rows.filter_map(|row| row.rsplit(' ').next()?.parse::<f64>().ok()).sum()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A file of the repository.
#[allow(dead_code, reason = "not every test file asks")]
pub(crate) fn repository(path: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join(path)
}

/// A program of the workspace, built beside the server.
#[allow(dead_code, reason = "not every test file asks")]
pub(crate) fn program(name: &str) -> Command {
    let path = PathBuf::from(env!("CARGO_BIN_EXE_voxhall")).with_file_name(name);
    assert!(path.exists(), "{} is missing: build the workspace first (`make test` does)", path.display());
    Command::new(path)
}

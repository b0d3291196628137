//! A disk without room: talk and audio go on, and it is written to again when it has some.

use std::cell::Cell;
use std::io::{BufRead as _, BufReader};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use serde_json::json;

use crate::rig::{Client, Folder, until};
use crate::support::{Member, Server};
use crate::window::Word;

const SETTINGS: [&str; 2] = ["room.history_bytes_max=4194304", "limits.bytes_per_s=0"];

/// Where the store's file lies, with a few mebibytes for it at first.
trait Disk {
    fn serve(&self) -> Server;
    fn has_room(&self, server: &Server);
}

/// A server by a command that ends up as this program.
fn serve_by(mut command: Command, folder: &Folder) -> Server {
    command.args(["serve", "--engine", "relay", "--listen", "127.0.0.1:0", "--admin", "127.0.0.1:0"]);
    command.args(folder.settings(&SETTINGS).iter().flat_map(|setting| ["--set", setting]));
    Server::start_by(command)
}

/// A limit of how long a file may be: whoever writes more gets an error, as on a disk that is full.
struct Limit {
    folder: Folder,
    limited: Cell<bool>,
}

impl Disk for Limit {
    fn serve(&self) -> Server {
        let limit = if self.limited.get() { "ulimit -S -f 4096" } else { ":" };
        let line = format!("trap '' XFSZ; {limit}; exec {} \"$@\"", env!("CARGO_BIN_EXE_voxhall"));
        let mut command = Command::new("bash");
        command.args(["-c", &line, "voxhall"]);
        serve_by(command, &self.folder)
    }

    fn has_room(&self, server: &Server) {
        let relieved =
            Command::new("prlimit").args(["--pid", &server.pid().to_string(), "--fsize=unlimited"]).status();
        assert!(relieved.expect("prlimit runs").success());
        self.limited.set(false);
    }
}

/// A file system of its own, nearly full, in a name space of its own.
struct Small {
    folder: Folder,
    /// Holds the name space.
    holder: Child,
}

impl Small {
    /// Nothing where nobody may mount.
    fn mount(folder: Folder) -> Option<Self> {
        let place = folder.file().parent().expect("a folder").display().to_string();
        let script = format!(
            "mount -t tmpfs -o size=64m none {place} && head -c 60m /dev/zero >{place}/ballast && echo there && exec cat"
        );
        let mut holder = Command::new("unshare")
            .args(["--mount", "sh", "-c", &script])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .ok()?;
        let mut line = String::new();
        let read = BufReader::new(holder.stdout.as_mut().expect("piped")).read_line(&mut line);
        if read.is_ok() && line == "there\n" {
            return Some(Self { folder, holder });
        }
        let _ = holder.wait();
        None
    }
}

impl Drop for Small {
    fn drop(&mut self) {
        let _ = self.holder.kill();
        let _ = self.holder.wait();
    }
}

impl Disk for Small {
    fn serve(&self) -> Server {
        let mut command = Command::new("nsenter");
        command.args(["--mount", "--target", &self.holder.id().to_string(), env!("CARGO_BIN_EXE_voxhall")]);
        serve_by(command, &self.folder)
    }

    fn has_room(&self, _server: &Server) {
        let ballast = self.folder.file().with_file_name("ballast");
        let root = PathBuf::from(format!("/proc/{}/root", self.holder.id()));
        let inside = root.join(ballast.strip_prefix("/").expect("a whole path"));
        std::fs::remove_file(inside).expect("it is removed");
    }
}

/// Somebody whose every frame has to come back.
struct Audio {
    member: Member,
    frames: u8,
}

impl Audio {
    fn join(server: &Server) -> Self {
        let stream = crate::support::connect(server.public);
        let mut member = server.join_over(stream, "/ws/audio?engine=echo", None).expect("a room");
        member.event("session.created");
        Self { member, frames: 0 }
    }

    fn comes_back(&mut self) {
        self.frames = self.frames.wrapping_add(1);
        self.member.send(vec![self.frames; 640]);
        assert_eq!(self.member.read().into_data(), vec![self.frames; 640]);
    }
}

#[test]
fn a_file_that_may_not_grow_stops_nobody_and_is_written_to_when_it_may() {
    nobody_is_stopped(&Limit { folder: Folder::new("limit"), limited: Cell::new(true) });
}

#[test]
#[expect(clippy::print_stderr, reason = "a test that was not run says so")]
fn a_disk_that_is_full_stops_nobody_and_is_written_to_when_it_has_room() {
    match Small::mount(Folder::new("full")) {
        Some(disk) => nobody_is_stopped(&disk),
        None => eprintln!("nobody may mount here: only the limit of a file's length was tried"),
    }
}

/// Talk and audio go on while the disk is full, and afterwards everything is written.
fn nobody_is_stopped(disk: &impl Disk) {
    let mut server = disk.serve();
    let (mut writer, mut reader) = (Client::join(&server, "a"), Client::join(&server, "a"));
    let long = "x".repeat(60_000);
    let mut talk = |number: u32| {
        let data = json!([number, long]);
        writer.tell(&data);
        reader.hear(&data);
        reader.seq
    };
    let mut audio = Audio::join(&server);
    let mut number = 0;
    until("the disk is full", || {
        number += 1;
        talk(number);
        audio.comes_back();
        server.metric("voxhall_store_degraded") == 1.0
    });
    for more in 0..20 {
        talk(number + 1 + more);
        audio.comes_back();
    }
    let word = Word::of(&server);
    until("the oldest that is not saved grows older", || {
        Word::of(&server).unsaved > word.unsaved + word.window
    });
    // Somebody new is not kept waiting for it.
    let _new = Client::join(&server, "new");
    assert!(server.metric("voxhall_store_failures_total") >= 1.0);
    disk.has_room(&server);
    until("it works again", || server.metric("voxhall_store_degraded") == 0.0);
    let last = talk(number + 100);
    let everything = |server: &Server| Word::of(server).unsaved == Duration::ZERO;
    until("everything is written", || everything(&server));
    assert!(server.metric("voxhall_store_asked_again_total") >= 1.0);
    // And what was told of after that.
    let last = last.max(talk(number + 101));
    until("the last is written", || everything(&server));
    audio.comes_back();
    server.kill();
    let (_, log) = server.wait();
    assert!(log.contains("the store is broken") && log.contains("the store works again"), "{log}");
    let server = disk.serve();
    let (restored, mut back) = Client::come_back_after(&server, &reader, last - 30);
    assert_eq!(restored["recovered"], true, "{restored}");
    back.hear_all(30);
    assert_eq!(back.seq, last, "rooms were written whole");
}

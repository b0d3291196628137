//! Unix-domain sockets and their files: one that a dead server has left is replaced, one that is in use is not, and what
//! is no socket is never touched.

use std::fs::{self, Metadata};
use std::io;
use std::mem::MaybeUninit;
use std::os::fd::OwnedFd;
use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::time::Duration;

use socket2::{Domain, SockAddr, Socket, Type};

use super::error::StartError;

/// Longest path, in bytes: what the kernel's address holds, less the zero behind it.
pub const SOCKET_PATH_BYTES_MAX: usize = 107;
/// How long a blocking accept waits: no longer than the kernel's clock can tell. The socket can't be made non-blocking
/// to empty its queue, because all shards share it, and the accepts of the others would fail instead of waiting. Those
/// are of io_uring, which has no use for this.
const PATIENCE: Duration = Duration::from_micros(1);
/// How long a server that was killed may still seem to listen: less than a live one waits for a request head.
const DYING_MAX: Duration = Duration::from_millis(900);
/// How often it is looked whether somebody listens, while each time somebody hangs up.
const TRIES_MAX: usize = 3;

/// The file of a socket that is listened on; removed when this is dropped, if it is still the same. That has to happen
/// before the socket closes: until then nobody replaces the file, and its number is not given to another.
#[derive(Debug)]
pub struct SocketFile {
    path: PathBuf,
    identity: (u64, u64),
}

impl Drop for SocketFile {
    fn drop(&mut self) {
        if fs::symlink_metadata(&self.path).is_ok_and(|found| identity(&found) == self.identity) {
            // Nobody is left to be told; the next start replaces it.
            let _ = fs::remove_file(&self.path);
        }
    }
}

fn identity(file: &Metadata) -> (u64, u64) {
    (file.dev(), file.ino())
}

/// Listens on a Unix-domain socket, blocking, for somebody who is not a shard.
///
/// # Errors
/// As at the start of a node: when somebody listens there, or it can't be made.
pub fn listen_unix(path: &Path, mode: u32, backlog: i32) -> Result<(OwnedFd, SocketFile), StartError> {
    bind_unix(path, mode, backlog).map(|(socket, file)| (socket.into(), file))
}

/// Makes a socket that listens at this path and may be connected to by those whom `mode` allows.
pub(super) fn bind_unix(path: &Path, mode: u32, backlog: i32) -> Result<(Socket, SocketFile), StartError> {
    let failed = |cause| StartError::Socket { path: path.to_owned(), cause };
    let address = SockAddr::unix(path).map_err(failed)?;
    make_way(path, &address)?;
    let socket = Socket::new(Domain::UNIX, Type::STREAM, None).map_err(failed)?;
    socket.bind(&address).map_err(|cause| match cause.kind() {
        // Somebody was faster than we.
        io::ErrorKind::AddrInUse => StartError::SocketInUse(path.to_owned()),
        _ => failed(cause),
    })?;
    let identity = fs::symlink_metadata(path).map(|found| identity(&found)).map_err(failed)?;
    let file = SocketFile { path: path.to_owned(), identity };
    // Before it listens: until then nobody can connect, whatever the mode it was made with.
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).map_err(failed)?;
    socket.set_read_timeout(Some(PATIENCE)).map_err(failed)?;
    socket.listen(backlog).map_err(failed)?;
    Ok((socket, file))
}

/// Removes the socket of a dead server.
fn make_way(path: &Path, address: &SockAddr) -> Result<(), StartError> {
    let failed = |cause| StartError::Socket { path: path.to_owned(), cause };
    match fs::symlink_metadata(path) {
        Err(cause) if cause.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(cause) => return Err(failed(cause)),
        Ok(found) if !found.file_type().is_socket() => {
            return Err(StartError::NotASocket(path.to_owned()));
        }
        Ok(_) => {}
    }
    for _ in 0..TRIES_MAX {
        let probe = Socket::new(Domain::UNIX, Type::STREAM, None).map_err(failed)?;
        // A queue that is full must not hold us up: somebody is there.
        probe.set_nonblocking(true).map_err(failed)?;
        match probe.connect(address).map_err(|cause| cause.raw_os_error()) {
            Ok(()) if is_dropped(&probe).map_err(failed)? => {}
            Err(Some(libc::ECONNREFUSED)) => return fs::remove_file(path).map_err(failed),
            Err(Some(libc::ENOENT)) => return Ok(()),
            Err(Some(errno @ (libc::EACCES | libc::EPERM))) => {
                return Err(failed(io::Error::from_raw_os_error(errno)));
            }
            // Taken, or with a full queue, or of another type: each has somebody at the other end.
            _ => break,
        }
    }
    Err(StartError::SocketInUse(path.to_owned()))
}

/// Whether a connection that was let in ends at once. The sockets of a process that was killed live on for a moment, until
/// the kernel has taken its rings apart.
fn is_dropped(probe: &Socket) -> io::Result<bool> {
    probe.set_nonblocking(false)?;
    probe.set_read_timeout(Some(DYING_MAX))?;
    let mut byte = [MaybeUninit::uninit()];
    Ok(!probe.recv(&mut byte).is_err_and(|cause| cause.kind() == io::ErrorKind::WouldBlock))
}

#[cfg(test)]
mod tests {
    use std::os::unix::net::{UnixDatagram, UnixListener, UnixStream};
    use std::{process, thread};

    use super::*;

    struct Folder(PathBuf);

    impl Folder {
        fn new(name: &str) -> Self {
            let folder = std::env::temp_dir().join(format!("voxhall-unix-{}-{name}", process::id()));
            fs::create_dir_all(&folder).expect("a temporary folder");
            Self(folder)
        }

        fn path(&self) -> PathBuf {
            self.0.join("public.sock")
        }
    }

    impl Drop for Folder {
        fn drop(&mut self) {
            let _ = fs::remove_dir_all(&self.0);
        }
    }

    #[test]
    fn a_socket_is_made_with_its_mode_and_removed_at_the_end() {
        let folder = Folder::new("made");
        let path = folder.path();
        for mode in [0o660, 0o600, 0o666] {
            let (socket, file) = bind_unix(&path, mode, 8).expect("a socket");
            let found = fs::symlink_metadata(&path).expect("its file");
            assert_eq!(found.permissions().mode() & 0o777, mode);
            UnixStream::connect(&path).expect("it listens");
            drop((file, socket));
            assert!(!path.exists());
        }
    }

    #[test]
    fn a_dead_servers_socket_is_replaced_and_a_live_ones_is_not() {
        let folder = Folder::new("stale");
        let path = folder.path();
        drop(UnixListener::bind(&path).expect("a socket"));
        assert!(path.exists(), "dropping a listener leaves its file");
        let (socket, file) = bind_unix(&path, 0o660, 1).expect("the dead one is replaced");
        let refused = bind_unix(&path, 0o660, 1).expect_err("somebody listens");
        assert!(matches!(&refused, StartError::SocketInUse(taken) if *taken == path), "{refused}");
        // A backlog of one holds two, and whoever looked whether somebody listens is one of them.
        let waiting = UnixStream::connect(&path).expect("it listens");
        let refused = bind_unix(&path, 0o660, 1).expect_err("its queue is full, so somebody is there");
        assert!(matches!(refused, StartError::SocketInUse(_)), "{refused}");
        drop((file, socket, waiting));
        let _datagrams = UnixDatagram::bind(&path).expect("a socket of another type");
        assert!(matches!(bind_unix(&path, 0o660, 1), Err(StartError::SocketInUse(_))));
    }

    #[test]
    fn a_server_that_is_just_dying_is_waited_for() {
        let folder = Folder::new("dying");
        let path = folder.path();
        let dying = UnixListener::bind(&path).expect("a socket");
        // Lets somebody in, and is gone.
        let end = thread::spawn(move || drop(dying.accept().expect("somebody knocks")));
        bind_unix(&path, 0o660, 1).expect("it is replaced when it is gone");
        end.join().expect("no panic");
    }

    #[test]
    fn what_is_no_socket_is_left_alone() {
        let folder = Folder::new("other");
        let path = folder.path();
        fs::write(&path, "precious").expect("a file");
        let refused = bind_unix(&path, 0o660, 1).expect_err("a file is in the way");
        assert!(matches!(refused, StartError::NotASocket(_)), "{refused}");
        assert_eq!(fs::read_to_string(&path).expect("it is still there"), "precious");
        fs::remove_file(&path).expect("ours");
        std::os::unix::fs::symlink(folder.0.join("elsewhere"), &path).expect("a link");
        assert!(
            matches!(bind_unix(&path, 0o660, 1), Err(StartError::NotASocket(_))),
            "a link is none either"
        );
        fs::remove_file(&path).expect("ours");
        let nowhere = folder.0.join("missing/public.sock");
        assert!(matches!(bind_unix(&nowhere, 0o660, 1), Err(StartError::Socket { .. })));
    }

    #[test]
    fn what_an_operator_has_put_in_its_place_is_not_removed() {
        let folder = Folder::new("replaced");
        let path = folder.path();
        let (_socket, file) = bind_unix(&path, 0o660, 1).expect("a socket");
        fs::remove_file(&path).expect("anybody may who owns the folder");
        let _next = UnixListener::bind(&path).expect("a socket");
        drop(file);
        assert!(path.exists());
    }

    #[test]
    fn an_empty_queue_does_not_hold_up_a_blocking_accept() {
        let folder = Folder::new("patience");
        let (socket, _file) = bind_unix(&folder.path(), 0o660, 1).expect("a socket");
        let error = socket.try_clone().expect("a copy").accept().expect_err("nobody connects");
        assert_eq!(error.kind(), io::ErrorKind::WouldBlock);
    }
}

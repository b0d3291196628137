//! The file that lines are written to: in whole lines only, up to a length, then renamed.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read as _, Seek as _, SeekFrom, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use rustix::fs::OFlags;

use crate::config::AuditConfig;

/// Who connects from where is nobody's business but the operator's.
const MODE: u32 = 0o640;

/// See the module.
#[derive(Debug)]
pub(super) struct LogFile {
    path: PathBuf,
    file: File,
    rotate_bytes: u64,
    keep_files: u64,
    /// How long it is, as far as we have seen; nothing for a device or a pipe, which is never renamed.
    len: Option<u64>,
    /// Whether it may end within a line.
    torn: bool,
}

/// Writing went wrong.
#[derive(Debug)]
pub(super) struct Unwritten {
    /// Lines that are in the file all the same.
    pub(super) lines: usize,
    /// Why not the others.
    pub(super) error: io::Error,
}

impl LogFile {
    /// Opens the file behind what it holds, or makes it.
    pub(super) fn open(config: &AuditConfig) -> io::Result<Self> {
        let AuditConfig { path, rotate_bytes, keep_files, .. } = config;
        let (file, len) = open(path)?;
        let torn = len.is_some_and(|len| len > 0) && !ends_with_line(path)?;
        Ok(Self { path: path.clone(), file, rotate_bytes: *rotate_bytes, keep_files: *keep_files, len, torn })
    }

    /// Whether it may become so many bytes longer.
    pub(super) fn takes(&self, bytes: usize) -> bool {
        self.len.is_none_or(|len| len + bytes as u64 <= self.rotate_bytes)
    }

    /// Whether there is nothing in it that renaming it would keep.
    pub(super) fn is_empty(&self) -> bool {
        self.len == Some(0)
    }

    /// Writes lines, all of them or some whole ones.
    pub(super) fn write(&mut self, lines: &[u8]) -> Result<(), Unwritten> {
        if self.len.is_some() {
            return self.write_as_one(lines);
        }
        // What went into a pipe can't be taken back; a single line goes in whole or not at all.
        for (index, line) in lines.split_inclusive(|&byte| byte == b'\n').enumerate() {
            self.write_as_one(line).map_err(|unwritten| Unwritten { lines: index, ..unwritten })?;
        }
        Ok(())
    }

    fn write_as_one(&mut self, lines: &[u8]) -> Result<(), Unwritten> {
        if self.torn {
            self.file.write_all(b"\n").map_err(|error| Unwritten { lines: 0, error })?;
            self.torn = false;
            self.len = self.len.map(|len| len + 1);
        }
        let mut written = 0;
        let error = loop {
            match self.file.write(&lines[written..]) {
                Ok(0) => break io::ErrorKind::WriteZero.into(),
                Ok(more) => written += more,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => break error,
            }
            if written == lines.len() {
                self.len = self.len.map(|len| len + written as u64);
                return Ok(());
            }
        };
        let whole = lines[..written].iter().rposition(|&byte| byte == b'\n').map_or(0, |at| at + 1);
        if whole < written {
            self.torn = !self.take_back((written - whole) as u64);
        }
        self.len = self.len.map(|len| len + whole as u64);
        Err(Unwritten { lines: lines[..whole].iter().filter(|&&byte| byte == b'\n').count(), error })
    }

    /// Takes a part of a line away again; whether that could be done.
    fn take_back(&self, bytes: u64) -> bool {
        // What is there by now decides: somebody else may have cut it.
        let len = self.file.metadata().map_or(0, |metadata| metadata.len());
        len >= bytes && self.file.set_len(len - bytes).is_ok()
    }

    /// Renames the file and those before it, and begins a new one. Where that fails it goes on in the old one, and
    /// tries again after as many bytes.
    pub(super) fn rotate(&mut self) -> io::Result<()> {
        self.len = self.len.map(|_| 0);
        for old in (1..self.keep_files).rev() {
            match fs::rename(self.numbered(old), self.numbered(old + 1)) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
                _ => {}
            }
        }
        let first = self.numbered(1);
        fs::rename(&self.path, &first)?;
        match open(&self.path) {
            Ok((file, len)) => (self.file, self.len, self.torn) = (file, len, false),
            Err(error) => {
                // As if nothing had been tried. If even that fails it is written under its new name.
                let _ = fs::rename(&first, &self.path);
                return Err(error);
            }
        }
        Ok(())
    }

    /// Opens the file of that name, which may be another by now.
    pub(super) fn reopen(&mut self) -> io::Result<()> {
        let (file, len) = open(&self.path)?;
        (self.file, self.len, self.torn) = (file, len, false);
        Ok(())
    }

    fn numbered(&self, number: u64) -> PathBuf {
        let mut path = self.path.clone().into_os_string();
        path.push(format!(".{number}"));
        path.into()
    }
}

/// The file, and its length if it is one.
fn open(path: &Path) -> io::Result<(File, Option<u64>)> {
    // Without NONBLOCK the start would wait for somebody to read a pipe.
    let flags = OFlags::NONBLOCK.bits() as i32;
    let file = OpenOptions::new().append(true).create(true).mode(MODE).custom_flags(flags).open(path)?;
    let metadata = file.metadata()?;
    let len = metadata.is_file().then_some(metadata.len());
    Ok((file, len))
}

/// Whether its last line is whole. A host that lost power may have left a part of one.
fn ends_with_line(path: &Path) -> io::Result<bool> {
    let mut file = File::open(path)?;
    file.seek(SeekFrom::End(-1))?;
    let mut last = [0];
    file.read_exact(&mut last)?;
    Ok(last == *b"\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Folder(PathBuf);

    impl Folder {
        fn new(name: &str) -> Self {
            let path = std::env::temp_dir().join(format!("voxhall-audit-{}-{name}", std::process::id()));
            fs::create_dir_all(&path).expect("a folder");
            Self(path)
        }

        fn config(&self) -> AuditConfig {
            let path = self.0.join("log");
            AuditConfig { path, rotate_bytes: 100, keep_files: 2, queue_records_max: 1 }
        }

        fn read(&self, name: &str) -> Option<String> {
            fs::read_to_string(self.0.join(name)).ok()
        }
    }

    impl Drop for Folder {
        fn drop(&mut self) {
            let _ = fs::remove_dir_all(&self.0);
        }
    }

    #[test]
    fn files_are_renamed_in_order_and_the_oldest_goes() {
        let folder = Folder::new("rotate");
        let mut file = LogFile::open(&folder.config()).expect("writable");
        assert!(file.is_empty());
        for line in ["one\n", "two\n", "three\n", "four\n"] {
            file.write(line.as_bytes()).expect("room");
            file.rotate().expect("a folder of ours");
        }
        file.write(b"five\n").expect("room");
        assert!(!file.is_empty() && file.takes(95) && !file.takes(96));
        let read = |name| folder.read(name);
        assert_eq!(read("log").as_deref(), Some("five\n"));
        assert_eq!(read("log.1").as_deref(), Some("four\n"));
        assert_eq!(read("log.2").as_deref(), Some("three\n"));
        assert_eq!(read("log.3"), None);
    }

    #[test]
    fn a_torn_line_is_ended_before_the_next_one() {
        let folder = Folder::new("torn");
        fs::write(folder.0.join("log"), "whole\nto").expect("a file");
        let mut file = LogFile::open(&folder.config()).expect("writable");
        file.write(b"next\n").expect("room");
        assert_eq!(folder.read("log").as_deref(), Some("whole\nto\nnext\n"));
    }

    #[test]
    fn a_renamed_file_is_left_and_one_of_its_name_begun() {
        let folder = Folder::new("reopen");
        let mut file = LogFile::open(&folder.config()).expect("writable");
        file.write(b"one\n").expect("room");
        fs::rename(folder.0.join("log"), folder.0.join("away")).expect("a file");
        file.write(b"two\n").expect("room");
        file.reopen().expect("a folder of ours");
        file.write(b"three\n").expect("room");
        assert_eq!(folder.read("away").as_deref(), Some("one\ntwo\n"));
        assert_eq!(folder.read("log").as_deref(), Some("three\n"));
    }

    #[test]
    fn a_device_is_written_and_never_renamed() {
        let config =
            AuditConfig { path: "/dev/full".into(), rotate_bytes: 10, keep_files: 1, queue_records_max: 1 };
        let mut file = LogFile::open(&config).expect("it can be opened");
        let unwritten = file.write(b"one\ntwo\n").expect_err("it is full");
        assert_eq!((unwritten.lines, unwritten.error.kind()), (0, io::ErrorKind::StorageFull));
        assert!(file.takes(usize::MAX));
    }
}

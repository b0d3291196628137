//! The body of a request (RFC 9112 sections 6 and 7): of a length that was said, or in chunks.

use super::head::Request;

/// Longest line between chunks: a size in hexadecimal, with an extension that nobody here knows.
const LINE_BYTES_MAX: usize = 256;
/// Most bytes of the fields behind the last chunk.
const TRAILER_BYTES_MAX: usize = 1_024;

/// What is left of a body. It takes bytes as they come, and holds none.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Body {
    /// So many bytes are to come.
    Length(u64),
    /// Chunks are to come.
    Chunked(Chunk),
}

/// Where a body is within its chunks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Chunk {
    at: At,
    /// Bytes of the line, or of the trailer, so far.
    line: usize,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum At {
    /// In the size: so much so far, and whether it has a digit.
    Size { size: u64, digits: u8 },
    /// In what follows the size up to the end of its line.
    Extension { size: u64 },
    /// Behind the CR that ends the line of a size.
    SizeEnd { size: u64 },
    /// In the data: so many bytes are to come.
    Data { left: u64 },
    /// Behind the data.
    DataEnd { cr: bool },
    /// In the fields behind the last chunk: how much of the line so far, and whether a CR was the last.
    Trailer { len: usize, cr: bool },
    /// It is over.
    Over,
}

/// The body can't be taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BodyError {
    /// It is longer than the limit.
    #[error("the body is too long")]
    TooLong,
    /// It is not in chunks although it says so.
    #[error("the chunks of the body can't be read")]
    Malformed,
}

impl Body {
    /// The body that a head announces. [`super::parse`] has seen to it that there is one reading.
    #[must_use]
    pub fn of(request: &Request<'_>) -> Self {
        if request.header_values("transfer-encoding").next().is_some() {
            let at = At::Size { size: 0, digits: 0 };
            return Self::Chunked(Chunk { at, line: 0 });
        }
        let length = request.header("content-length").and_then(|length| length.parse().ok());
        Self::Length(length.unwrap_or(0))
    }

    /// Takes what belongs to the body off `bytes` and appends its payload to `into`, up to `bytes_max` there. Whether that was
    /// all of it; if not, all bytes were taken.
    ///
    /// # Errors
    /// When it is too long, as soon as that is known, or malformed.
    pub fn take(
        &mut self,
        bytes: &mut &mut [u8],
        into: &mut Vec<u8>,
        bytes_max: usize,
    ) -> Result<bool, BodyError> {
        let room = bytes_max.saturating_sub(into.len()) as u64;
        match self {
            Self::Length(left) if *left > room => Err(BodyError::TooLong),
            Self::Length(left) => {
                take_data(left, bytes, into);
                Ok(*left == 0)
            }
            Self::Chunked(chunk) => chunk.take(bytes, into, bytes_max),
        }
    }
}

/// Moves as much of the data as has come.
fn take_data(left: &mut u64, bytes: &mut &mut [u8], into: &mut Vec<u8>) {
    let come = (*left).min(bytes.len() as u64) as usize;
    let (data, rest) = std::mem::take(bytes).split_at_mut(come);
    into.extend_from_slice(data);
    *left -= come as u64;
    *bytes = rest;
}

impl Chunk {
    fn take(
        &mut self,
        bytes: &mut &mut [u8],
        into: &mut Vec<u8>,
        bytes_max: usize,
    ) -> Result<bool, BodyError> {
        while self.at != At::Over {
            if let At::Data { left } = &mut self.at {
                if *left > bytes_max.saturating_sub(into.len()) as u64 {
                    return Err(BodyError::TooLong);
                }
                take_data(left, bytes, into);
                if *left == 0 {
                    (self.at, self.line) = (At::DataEnd { cr: false }, 0);
                }
            }
            let Some((&mut byte, rest)) = std::mem::take(bytes).split_first_mut() else { return Ok(false) };
            *bytes = rest;
            self.step(byte)?;
        }
        Ok(true)
    }

    /// One byte outside of the data.
    fn step(&mut self, byte: u8) -> Result<(), BodyError> {
        self.line += 1;
        let in_trailer = matches!(self.at, At::Trailer { .. });
        if self.line > if in_trailer { TRAILER_BYTES_MAX } else { LINE_BYTES_MAX } {
            return Err(BodyError::Malformed);
        }
        self.at = match (self.at, byte) {
            (At::Size { size, digits: digits @ 0..16 }, digit) if digit.is_ascii_hexdigit() => {
                let digit = char::from(digit).to_digit(16).unwrap_or(0);
                At::Size { size: size << 4 | u64::from(digit), digits: digits + 1 }
            }
            (At::Size { size, digits: 1.. }, b'\r') | (At::Extension { size }, b'\r') => At::SizeEnd { size },
            (At::Size { size, digits: 1.. }, b';' | b' ' | b'\t') => At::Extension { size },
            (At::Extension { size }, byte) if byte != b'\n' => At::Extension { size },
            (At::SizeEnd { size }, b'\n') => {
                self.line = 0;
                if size == 0 { At::Trailer { len: 0, cr: false } } else { At::Data { left: size } }
            }
            (At::DataEnd { cr: false }, b'\r') => At::DataEnd { cr: true },
            (At::DataEnd { cr: true }, b'\n') => {
                self.line = 0;
                At::Size { size: 0, digits: 0 }
            }
            (At::Trailer { len, cr: false }, b'\r') => At::Trailer { len, cr: true },
            (At::Trailer { len: 0, cr: true }, b'\n') => At::Over,
            (At::Trailer { cr: true, .. }, b'\n') => At::Trailer { len: 0, cr: false },
            (At::Trailer { len, cr: false }, byte) if byte != b'\n' => {
                At::Trailer { len: len + 1, cr: false }
            }
            _ => return Err(BodyError::Malformed),
        };
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::{Parsed, parse};
    use super::*;

    fn body(lines: &str) -> Body {
        let head = format!("POST / HTTP/1.1\r\nHost: h\r\n{lines}\r\n");
        match parse(head.as_bytes(), 8_192) {
            Ok(Parsed::Complete(request)) => Body::of(&request),
            other => panic!("{other:?} for {head:?}"),
        }
    }

    const CHUNKED: &str = "Transfer-Encoding: chunked\r\n";

    /// What is taken of pieces that end at the cuts: the payload, and what follows the body.
    fn taken(
        mut body: Body,
        bytes: &[u8],
        cuts: &[usize],
        max: usize,
    ) -> Result<(Vec<u8>, Vec<u8>), BodyError> {
        let mut into = Vec::new();
        let mut from = 0;
        for &cut in cuts.iter().chain([&bytes.len()]) {
            let mut piece = bytes[from..cut].to_vec();
            let mut left = &mut piece[..];
            if body.take(&mut left, &mut into, max)? {
                let rest = [left, &bytes[cut..]].concat();
                return Ok((into, rest));
            }
            assert!(left.is_empty(), "all was taken");
            from = cut;
        }
        Ok((into, b"more is wanted".to_vec()))
    }

    #[test]
    fn a_length_is_kept_to() {
        let whole = |lines, bytes: &[u8]| taken(body(lines), bytes, &[], 10);
        assert_eq!(whole("", b"GET"), Ok((vec![], b"GET".to_vec())));
        assert_eq!(whole("Content-Length: 0\r\n", b"GET"), Ok((vec![], b"GET".to_vec())));
        assert_eq!(whole("Content-Length: 3\r\n", b"abcGET"), Ok((b"abc".to_vec(), b"GET".to_vec())));
        assert_eq!(whole("Content-Length: 11\r\n", b""), Err(BodyError::TooLong), "before a byte has come");
        assert_eq!(whole("Content-Length: 9999999999999999999\r\n", b""), Err(BodyError::TooLong));
    }

    #[test]
    fn chunks_are_put_together() {
        for (bytes, payload) in [
            (&b"0\r\n\r\nGET"[..], &b""[..]),
            (b"3\r\nabc\r\n0\r\n\r\nGET", b"abc"),
            (b"1;x=\"y\"\r\na\r\n002 \r\nbc\r\n00\r\nA: b\r\nC: d\r\n\r\nGET", b"abc"),
            (b"A\r\n0123456789\r\n0;\r\n\r\nGET", b"0123456789"),
        ] {
            for cut in 0..bytes.len() - 3 {
                let expected = Ok((payload.to_vec(), b"GET".to_vec()));
                assert_eq!(taken(body(CHUNKED), bytes, &[cut], 10), expected, "{}", bytes.escape_ascii());
            }
        }
    }

    #[test]
    fn what_two_servers_might_read_differently_is_refused() {
        for bytes in [
            &b"\r\n"[..],
            b"x\r\n",
            b"-1\r\n",
            b"0x1\r\n",
            b" 1\r\n",
            b"1\na",
            b"1;\na",
            b"1\r\ra",
            b"1\r\nab",
            b"1\r\na\n",
            b"1\r\na\r\r",
            b"0\r\n\n",
            b"0\r\nA: b\n",
            b"0\r\nA: b\r\r",
            b"00000000000000001\r\n",
            &[b"1;", &[b'x'; LINE_BYTES_MAX][..]].concat(),
            &[b"0\r\n", &[b'x'; TRAILER_BYTES_MAX + 1][..]].concat(),
            &[b"0\r\n", &b"x\r\n".repeat(TRAILER_BYTES_MAX)[..]].concat(),
        ] {
            assert_eq!(
                taken(body(CHUNKED), bytes, &[], 10),
                Err(BodyError::Malformed),
                "{}",
                bytes.escape_ascii()
            );
        }
        assert_eq!(taken(body(CHUNKED), b"A\r\n", &[], 10), Ok((vec![], b"more is wanted".to_vec())));
        for bytes in [&b"B\r\n"[..], b"A\r\n0123456789\r\n1\r\nx", b"ffffffffffffffff\r\nx"] {
            assert_eq!(taken(body(CHUNKED), bytes, &[], 10), Err(BodyError::TooLong));
        }
    }

    proptest! {
        #[test]
        fn cuts_make_no_difference(
            chunks in prop::collection::vec(prop::collection::vec(any::<u8>(), 1..40), 0..5),
            spoilt in prop::option::of((any::<prop::sample::Index>(), any::<u8>())),
            cuts in prop::collection::vec(any::<prop::sample::Index>(), 0..6),
        ) {
            let mut bytes = Vec::new();
            for chunk in &chunks {
                bytes.extend(format!("{:x}\r\n", chunk.len()).bytes());
                bytes.extend(chunk);
                bytes.extend(b"\r\n");
            }
            bytes.extend(b"0\r\n\r\nrest");
            if let Some((at, byte)) = &spoilt {
                let at = at.index(bytes.len());
                bytes[at] = *byte;
            }
            let whole = taken(body(CHUNKED), &bytes, &[], 100);
            if spoilt.is_none() {
                let payload = chunks.concat();
                let expected = if payload.len() > 100 { Err(BodyError::TooLong) } else { Ok((payload, b"rest".to_vec())) };
                prop_assert_eq!(&whole, &expected);
            }
            let mut cuts: Vec<usize> = cuts.iter().map(|cut| cut.index(bytes.len())).collect();
            cuts.sort_unstable();
            prop_assert_eq!(taken(body(CHUNKED), &bytes, &cuts, 100), whole);
        }
    }
}

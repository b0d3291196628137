//! A small mutator for the short run: seeded, without knowledge of what its mutations reach.
//!
//! What libFuzzer finds with coverage is in the corpus; near it lies what a change breaks first. General mutators of
//! values change an element at a time, where formats want tokens, lengths, and parts of other inputs.

/// What formats here are made of.
const TOKENS: &[&[u8]] = &[
    b"\r\n",
    b"\r\n\r\n",
    b"\n",
    b"\0",
    b"\xff\xff",
    b"\x00\x00\xff\xff",
    b"\x01\x00\x00\xff\xff",
    b"\x7f\xff\xff\xff\xff\xff\xff\xff",
    b"\x80\x80",
    b"\x81\xfe",
    b"\x88\x82",
    b"\x89\x80",
    b"\xc3\x28",
    b"\xf0\x9f\x98\x80",
    b"\"",
    b"\\",
    b"\\u0074",
    b"\\ud800",
    b"{",
    b"}",
    b"[[",
    b"null",
    b"-1",
    b"1e999",
    b",",
    b";",
    b":",
    b"=",
    b".",
    b"%",
    b" ",
    b"PROXY TCP4 ",
    b"Content-Length: 5\r\n",
    b"Transfer-Encoding: chunked\r\n",
    b"Upgrade: websocket\r\n",
    b"Host: h\r\n",
    b"for=",
    b"10.0.0.1",
    b"::1",
];

/// A stream of mutations that its seed determines.
#[derive(Clone, Debug)]
pub struct Mutator(u64);

impl Mutator {
    /// The stream of this seed.
    #[must_use]
    pub const fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// One of the corpus, changed in one to eight places.
    #[must_use]
    pub fn input(&mut self, corpus: &[Vec<u8>], bytes_max: usize) -> Vec<u8> {
        let mut bytes = corpus[self.below(corpus.len())].clone();
        for _ in 0..1 << self.below(4) {
            self.change(&mut bytes, corpus);
        }
        bytes.truncate(bytes_max);
        bytes
    }

    fn change(&mut self, bytes: &mut Vec<u8>, corpus: &[Vec<u8>]) {
        let at = self.below(bytes.len() + 1);
        let end = (at + 1 + self.below(16)).min(bytes.len());
        match self.below(9) {
            0 if at < bytes.len() => bytes[at] ^= 1 << self.below(8),
            1 if at < bytes.len() => bytes[at] = self.next() as u8,
            2 if at < bytes.len() => bytes[at] = bytes[at].wrapping_add([1, 255, 128][self.below(3)]),
            3 => drop(bytes.drain(at..end)),
            4 => bytes.truncate(at.max(1)),
            5 => {
                let part = bytes[at..end].to_vec();
                let to = self.below(bytes.len() + 1);
                bytes.splice(to..to, part);
            }
            6 => {
                // The start of one, the end of another.
                let other = &corpus[self.below(corpus.len())];
                bytes.truncate(at);
                bytes.extend_from_slice(&other[self.below(other.len() + 1)..]);
            }
            replace => {
                let token = TOKENS[self.below(TOKENS.len())];
                let end = if replace == 7 { (at + token.len()).min(bytes.len()) } else { at };
                bytes.splice(at..end, token.iter().copied());
            }
        }
    }

    fn below(&mut self, bound: usize) -> usize {
        (self.next() % bound as u64) as usize
    }

    /// SplitMix64.
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }
}

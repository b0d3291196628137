//! Query strings, as `URLSearchParams` reads them.

use std::borrow::Cow;

/// The names and values of a query, percent-decoded, `+` as a space. What is not encoded is not copied; what is not
/// valid UTF-8 once decoded becomes U+FFFD.
#[derive(Clone, Debug)]
pub struct QueryPairs<'a>(std::str::Split<'a, char>);

impl<'a> QueryPairs<'a> {
    pub(super) fn new(query: &'a str) -> Self {
        Self(query.split('&'))
    }
}

impl<'a> Iterator for QueryPairs<'a> {
    type Item = (Cow<'a, str>, Cow<'a, str>);

    fn next(&mut self) -> Option<Self::Item> {
        let pair = self.0.find(|pair| !pair.is_empty())?;
        let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
        Some((decode(name, true), decode(value, true)))
    }
}

/// Percent-decodes; in a query `+` is a space.
pub(super) fn decode(text: &str, in_query: bool) -> Cow<'_, str> {
    let encoded = text.contains('%') || in_query && text.contains('+');
    if !encoded {
        return Cow::Borrowed(text);
    }
    let mut decoded = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let [first, after @ ..] = rest {
        rest = after;
        match (first, after) {
            (b'+', _) if in_query => decoded.push(b' '),
            (b'%', [high, low, after @ ..]) if high.is_ascii_hexdigit() && low.is_ascii_hexdigit() => {
                decoded.push(hex(*high) << 4 | hex(*low));
                rest = after;
            }
            _ => decoded.push(*first),
        }
    }
    match String::from_utf8(decoded) {
        Ok(text) => Cow::Owned(text),
        Err(error) => Cow::Owned(String::from_utf8_lossy(error.as_bytes()).into_owned()),
    }
}

/// The value of a digit that is known to be one.
const fn hex(digit: u8) -> u8 {
    match digit {
        b'0'..=b'9' => digit - b'0',
        _ => (digit | 0x20) - b'a' + 10,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pairs_are_decoded_in_order() {
        let pairs: Vec<_> = QueryPairs::new("a=1&&b=%C3%a9+x%2By&c&=v&a=2%&d=%zz%4").collect();
        let expected = [("a", "1"), ("b", "é x+y"), ("c", ""), ("", "v"), ("a", "2%"), ("d", "%zz%4")];
        assert!(pairs.iter().map(|(name, value)| (&**name, &**value)).eq(expected), "{pairs:?}");
        assert_eq!(QueryPairs::new("").count(), 0);
    }

    #[test]
    fn what_is_not_utf8_is_replaced() {
        assert_eq!(decode("a%ffb", true), "a\u{fffd}b");
    }

    #[test]
    fn what_is_not_encoded_is_not_copied() {
        assert!(matches!(decode("bearer.abc-_.", true), Cow::Borrowed(_)));
    }
}

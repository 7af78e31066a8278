//! The few lines of DER (X.690 §10) that a certification request and a private key need. A request's
//! attributes are never parsed.

use zeroize::Zeroizing;

/// Tag of INTEGER.
pub(crate) const INTEGER: u8 = 0x02;
/// Tag of BIT STRING.
pub(crate) const BIT_STRING: u8 = 0x03;
/// Tag of SEQUENCE.
pub(crate) const SEQUENCE: u8 = 0x30;
/// Tag of OCTET STRING.
pub(crate) const OCTET_STRING: u8 = 0x04;
/// Tag of a constructed `[0]`.
pub(crate) const CONTEXT_0: u8 = 0xa0;

/// Not DER, or not the element that was expected.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Malformed;

/// One element: what is inside, and the whole with its header.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Element<'a> {
    pub(crate) content: &'a [u8],
    pub(crate) whole: &'a [u8],
}

/// Reads elements one after the other.
pub(crate) struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    pub(crate) fn new(bytes: &'a [u8]) -> Self {
        Self(bytes)
    }

    /// The next element, which must have this tag, a definite length in its shortest form and at most 64 KiB.
    pub(crate) fn next(&mut self, tag: u8) -> Result<Element<'a>, Malformed> {
        let (header, length) = match *self.0 {
            [t, length @ 0..=0x7f, ..] if t == tag => (2, usize::from(length)),
            [t, 0x81, length @ 0x80..=0xff, ..] if t == tag => (3, usize::from(length)),
            [t, 0x82, high @ 1..=0xff, low, ..] if t == tag => (4, usize::from(high) << 8 | usize::from(low)),
            _ => return Err(Malformed),
        };
        let (whole, rest) = self.0.split_at_checked(header + length).ok_or(Malformed)?;
        self.0 = rest;
        Ok(Element { content: &whole[header..], whole })
    }

    /// The next BIT STRING, of whole bytes.
    pub(crate) fn bits(&mut self) -> Result<&'a [u8], Malformed> {
        match self.next(BIT_STRING)?.content {
            [0, bytes @ ..] => Ok(bytes),
            _ => Err(Malformed),
        }
    }

    /// The next INTEGER, if positive and in its shortest form: its bytes without the sign byte.
    pub(crate) fn positive(&mut self) -> Result<&'a [u8], Malformed> {
        match self.next(INTEGER)?.content {
            [0, rest @ ..] if rest.first().is_some_and(|&first| first >= 0x80) => Ok(rest),
            all @ [0x01..=0x7f, ..] => Ok(all),
            _ => Err(Malformed),
        }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// What follows.
    pub(crate) fn rest(&self) -> &'a [u8] {
        self.0
    }

    /// That nothing follows.
    pub(crate) fn end(&self) -> Result<(), Malformed> {
        if self.is_empty() { Ok(()) } else { Err(Malformed) }
    }
}

/// One element made of `parts`, at most 64 KiB; wiped when dropped, since private keys pass through here.
pub(crate) fn element(tag: u8, parts: &[&[u8]]) -> Result<Zeroizing<Vec<u8>>, Malformed> {
    let length = u16::try_from(parts.iter().map(|part| part.len()).sum::<usize>()).map_err(|_| Malformed)?;
    let [high, low] = length.to_be_bytes();
    let mut bytes = Zeroizing::new(Vec::with_capacity(usize::from(length) + 4));
    match length {
        0..=0x7f => bytes.extend([tag, low]),
        0x80..=0xff => bytes.extend([tag, 0x81, low]),
        _ => bytes.extend([tag, 0x82, high, low]),
    }
    parts.iter().for_each(|part| bytes.extend_from_slice(part));
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lengths_are_definite_and_shortest() {
        for (bytes, good) in [
            (&b"\x30\x00"[..], true),
            (b"\x30\x01\xff", true),
            (b"\x30\x01", false),
            (b"\x30\x80\x00\x00", false),
            (b"\x30\x81\x01\xff", false),
            (b"\x30\x82\x00\x80", false),
            (b"\x30\x84\xff\xff\xff\xff", false),
            (b"\x31\x00", false),
            (b"\x30", false),
            (b"", false),
        ] {
            assert_eq!(Reader::new(bytes).next(SEQUENCE).is_ok(), good, "{bytes:02x?}");
        }
        let long = [&b"\x30\x81\x80"[..], &[7; 128]].concat();
        assert_eq!(Reader::new(&long).next(SEQUENCE).map(|e| e.content.len()), Ok(128));
    }

    #[test]
    fn integers_are_positive_and_shortest() {
        for (bytes, value) in [
            (&b"\x02\x01\x05"[..], Ok(&b"\x05"[..])),
            (b"\x02\x02\x00\x80", Ok(b"\x80")),
            (b"\x02\x02\x00\x7f", Err(Malformed)),
            (b"\x02\x01\x00", Err(Malformed)),
            (b"\x02\x01\x80", Err(Malformed)),
            (b"\x02\x00", Err(Malformed)),
        ] {
            assert_eq!(Reader::new(bytes).positive(), value, "{bytes:02x?}");
        }
    }
}

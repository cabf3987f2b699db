//! Headers as a proxy hands over a whole map of them in one crossing.
//!
//! The form is the ABI's: the number of headers, the sizes of each name and value, then the texts, each followed by a NUL;
//! numbers have 32 bits, the lowest first. A map that breaks off or contradicts itself ends where it does.

use std::borrow::Cow;

/// A map of headers, in the proxy's serialization.
#[derive(Clone, Copy, Debug, Default)]
pub struct Headers<'a>(&'a [u8]);

impl<'a> Headers<'a> {
    /// Reads a serialized map.
    #[must_use]
    pub fn new(bytes: &'a [u8]) -> Self {
        Self(bytes)
    }

    /// Returns names and values in their order.
    pub fn iter(self) -> impl Iterator<Item = (&'a [u8], &'a [u8])> {
        let (sizes, texts) = self.parts().unwrap_or_default();
        sizes.chunks_exact(8).scan(texts, |rest, sizes| {
            let (name, value) = sizes.split_at(4);
            let (name, after) = text(rest, number(name)?)?;
            let (value, after) = text(after, number(value)?)?;
            *rest = after;
            Some((name, value))
        })
    }

    /// Returns a header's value; several of one name are joined by commas, as the proxy joins them.
    #[must_use]
    pub fn get(self, name: &str) -> Option<Cow<'a, [u8]>> {
        let mut values = self.iter().filter(|(other, _)| *other == name.as_bytes()).map(|(_, value)| value);
        let first = Cow::Borrowed(values.next()?);
        Some(values.fold(first, |all, value| Cow::Owned([&*all, b",", value].concat())))
    }

    fn parts(self) -> Option<(&'a [u8], &'a [u8])> {
        let (count, rest) = self.0.split_at_checked(4)?;
        rest.split_at_checked(number(count)?.checked_mul(8)?)
    }
}

fn number(bytes: &[u8]) -> Option<usize> {
    usize::try_from(u32::from_le_bytes(bytes.try_into().ok()?)).ok()
}

/// Cuts a text and its NUL off.
fn text(bytes: &[u8], size: usize) -> Option<(&[u8], &[u8])> {
    let (text, after) = bytes.split_at_checked(size)?;
    Some((text, after.split_first()?.1))
}

/// Serializes headers as a proxy does.
#[must_use]
pub fn serialize<'a>(headers: impl Iterator<Item = (&'a str, &'a str)> + Clone) -> Vec<u8> {
    let size = |text: &str| (text.len() as u32).to_le_bytes();
    let mut bytes = (headers.clone().count() as u32).to_le_bytes().to_vec();
    headers.clone().for_each(|(name, value)| bytes.extend([size(name), size(value)].concat()));
    for text in headers.flat_map(|(name, value)| [name, value]) {
        bytes.extend_from_slice(text.as_bytes());
        bytes.push(0);
    }
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_map_reads_back_as_it_was_written() {
        let pairs = [(":status", "200"), ("x-a", "1"), ("x-empty", ""), ("x-a", "2")];
        let bytes = serialize(pairs.into_iter());
        let headers = Headers::new(&bytes);
        assert!(headers.iter().eq(pairs.iter().map(|(name, value)| (name.as_bytes(), value.as_bytes()))));
        let get = |name| headers.get(name).map(Cow::into_owned);
        assert_eq!(get(":status"), Some(b"200".to_vec()));
        assert_eq!(get("x-a"), Some(b"1,2".to_vec()));
        assert_eq!((get("x-empty"), get("x")), (Some(vec![]), None));
        assert_eq!(Headers::default().iter().count(), 0);
    }

    #[test]
    fn a_map_that_breaks_off_ends_there() {
        let bytes = serialize([("a", "b"), ("c", "d")].into_iter());
        for end in 0..bytes.len() {
            assert!(Headers::new(&bytes[..end]).iter().count() < 2);
        }
        let mut huge = bytes;
        huge[..4].copy_from_slice(&u32::MAX.to_le_bytes());
        assert_eq!(Headers::new(&huge).iter().count(), 0);
        huge[..4].copy_from_slice(&2_u32.to_le_bytes());
        huge[4..8].copy_from_slice(&u32::MAX.to_le_bytes());
        assert_eq!(Headers::new(&huge).iter().count(), 0);
    }
}

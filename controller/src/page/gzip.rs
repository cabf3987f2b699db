//! What is sent is packed for who can unpack it: a thousand Canaries are a tenth of their bytes.

use std::io::Write as _;

use axum::body::Bytes;
use axum::http::{HeaderMap, header};
use flate2::Compression;
use flate2::write::GzEncoder;

/// Says what was done to an answer, and that another asker's is another one.
pub(super) const PACKED: [(&str, &str); 2] = [("content-encoding", "gzip"), ("vary", "accept-encoding")];

/// Returns whether whoever asks can unpack.
pub(super) fn is_taken(headers: &HeaderMap) -> bool {
    let lists = headers.get_all(header::ACCEPT_ENCODING).into_iter().filter_map(|value| value.to_str().ok());
    lists.flat_map(|list| list.split(',')).any(|it| {
        let (name, quality) = it.split_once(';').unwrap_or((it, ""));
        let quality = quality.trim().strip_prefix("q=").map_or(Ok(1.0), str::parse::<f32>);
        name.trim().eq_ignore_ascii_case("gzip") && quality.is_ok_and(|quality| quality > 0.0)
    })
}

/// Returns a text packed as well as it can be.
pub(super) fn whole(text: &str) -> Bytes {
    let mut packer = Packer(Some(GzEncoder::new(Vec::new(), Compression::best())));
    let mut packed = packer.part(text.as_bytes().to_vec()).to_vec();
    packed.extend(packer.end());
    packed.into()
}

/// Packs an answer that goes on: each part can be unpacked as soon as it has come.
pub(super) struct Packer(Option<GzEncoder<Vec<u8>>>);

impl Packer {
    /// Returns one that leaves parts as they are, unless whoever asks can unpack.
    pub(super) fn of(is_taken: bool) -> Self {
        Self(is_taken.then(|| GzEncoder::new(Vec::new(), Compression::fast())))
    }

    /// Returns what is sent of a part.
    pub(super) fn part(&mut self, part: Vec<u8>) -> Bytes {
        let Some(packer) = &mut self.0 else { return part.into() };
        // Nothing can fail: it is written into memory.
        let _ = packer.write_all(&part).and_then(|()| packer.flush());
        std::mem::take(packer.get_mut()).into()
    }

    /// Returns what is sent at the end.
    pub(super) fn end(&mut self) -> Bytes {
        self.0.take().and_then(|packer| packer.finish().ok()).unwrap_or_default().into()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_says_that_he_can_unpack_is_sent_it_packed() {
        let taken = |value: &str| is_taken(&HeaderMap::from_iter([(header::ACCEPT_ENCODING, value.parse().unwrap())]));
        assert!(!is_taken(&HeaderMap::new()));
        for (value, expected) in [
            ("gzip", true),
            ("br, deflate;q=0.5, GZIP ; q=0.1", true),
            ("gzip;q=0", false),
            ("identity", false),
            ("gzipped", false),
            ("gzip;q=x", false),
        ] {
            assert_eq!(taken(value), expected, "{value}");
        }
    }
}

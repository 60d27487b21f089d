//! Headers of SPDY/3.1: names and values, compressed by zlib with the public dictionary, all of a connection as one text.

use std::collections::BTreeMap;

use bytes::Buf;
use flate2::{Compress, Compression, Decompress, FlushCompress, FlushDecompress};

use super::SpdyError;

const DICTIONARY: &[u8] = include_bytes!("dictionary.bin");
/// The most bytes of one set of headers, unpacked.
const MAX_BYTES: usize = 16 << 10;
const MAX_PAIRS: u32 = 64;

/// Reads the headers that come on a connection, in their order.
pub(super) struct Unpacker(Decompress);

impl Unpacker {
    pub(super) fn new() -> Self {
        Self(Decompress::new(true))
    }

    /// Names (in lower case) and values.
    pub(super) fn read(&mut self, packed: &[u8]) -> Result<BTreeMap<String, String>, SpdyError> {
        parse(&self.unpack(packed)?)
    }

    fn unpack(&mut self, mut packed: &[u8]) -> Result<Vec<u8>, SpdyError> {
        let mut text = Vec::with_capacity(MAX_BYTES);
        while !packed.is_empty() {
            let before = self.0.total_in();
            let outcome = self
                .0
                .decompress_vec(packed, &mut text, FlushDecompress::Sync);
            let used = usize::try_from(self.0.total_in() - before).unwrap_or(usize::MAX);
            packed = packed.get(used..).unwrap_or_default();
            match outcome {
                Err(error) if error.needs_dictionary().is_some() => {
                    let set = self.0.set_dictionary(DICTIONARY);
                    set.map_err(|_| SpdyError::Headers("they use another dictionary"))?;
                }
                Err(_) => return Err(SpdyError::Headers("they cannot be unpacked")),
                Ok(_) if text.len() == MAX_BYTES => {
                    return Err(SpdyError::Headers("they are too long"));
                }
                Ok(_) if used == 0 => return Err(SpdyError::Headers("they do not go on")),
                Ok(_) => {}
            }
        }
        Ok(text)
    }
}

fn parse(mut text: &[u8]) -> Result<BTreeMap<String, String>, SpdyError> {
    let cut = |_| SpdyError::Headers("they are cut off");
    let pairs = text.try_get_u32().map_err(cut)?;
    if pairs > MAX_PAIRS {
        return Err(SpdyError::Headers("there are too many"));
    }
    let mut part = || -> Result<String, SpdyError> {
        let length = usize::try_from(text.try_get_u32().map_err(cut)?).unwrap_or(usize::MAX);
        let (part, rest) = text
            .split_at_checked(length)
            .ok_or(SpdyError::Headers("they are cut off"))?;
        text = rest;
        String::from_utf8(part.to_vec()).map_err(|_| SpdyError::Headers("they are no text"))
    };
    (0..pairs)
        .map(|_| Ok((part()?.to_lowercase(), part()?)))
        .collect()
}

/// Writes the headers that go on a connection, in their order.
pub(super) struct Packer(Compress);

impl Packer {
    pub(super) fn new() -> Result<Self, SpdyError> {
        let mut compress = Compress::new(Compression::fast(), true);
        let set = compress.set_dictionary(DICTIONARY);
        set.map_err(|_| SpdyError::Headers("the dictionary is refused"))?;
        Ok(Self(compress))
    }

    /// Few and short headers, packed.
    pub(super) fn write(&mut self, headers: &[(&str, &str)]) -> Result<Vec<u8>, SpdyError> {
        let mut text = Vec::new();
        let number = |text: &mut Vec<u8>, n: usize| {
            text.extend(u32::try_from(n).unwrap_or(u32::MAX).to_be_bytes());
        };
        number(&mut text, headers.len());
        for part in headers.iter().flat_map(|(name, value)| [name, value]) {
            number(&mut text, part.len());
            text.extend_from_slice(part.as_bytes());
        }
        let mut packed = Vec::with_capacity(text.len() + 64);
        self.0
            .compress_vec(&text, &mut packed, FlushCompress::Sync)
            .map_err(|_| SpdyError::Headers("they cannot be packed"))?;
        Ok(packed)
    }
}

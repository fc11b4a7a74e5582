//! Compression of independent pieces: each piece becomes a gzip member (RFC 1952) or a zstd frame
//! (RFC 8878) of its own, so that stock tools read the whole as one stream and a reader of ours can
//! start at any piece.

use std::io::{BufRead, Read};

use crate::base::bounds::Limited;
use crate::base::error::{Error, Result};
use crate::config::format::Codec;

/// A compressor keeps at most so much room for the next piece.
const KEPT: usize = 4 << 20;

/// A compressor with its working memory, for one thread.
pub struct Encoder {
    inner: Inner,
}

enum Inner {
    /// With room for the worst case, which is not cleared for every piece.
    Gzip(Box<libdeflater::Compressor>, Vec<u8>),
    Zstd(Box<zstd::bulk::Compressor<'static>>),
}

impl Codec {
    /// A compressor of this codec.
    pub fn encoder(self) -> Result<Encoder> {
        let inner = match self {
            Codec::Gzip { level } => {
                let level = libdeflater::CompressionLvl::new(level).map_err(|_| {
                    Error::usage(format!("compression level {level} is not one of gzip's 1 to 12"))
                })?;
                Inner::Gzip(Box::new(libdeflater::Compressor::new(level)), Vec::new())
            }
            Codec::Zstd { level } => {
                let mut encoder = zstd::bulk::Compressor::new(level)
                    .map_err(|e| Error::failed("cannot set up the zstd compressor").caused_by(e))?;
                encoder
                    .include_checksum(true)
                    .map_err(|e| Error::failed("cannot switch on zstd's checksum").caused_by(e))?;
                Inner::Zstd(Box::new(encoder))
            }
        };
        Ok(Encoder { inner })
    }

    /// The raw bytes of pieces that stand one after the other, at most `most` bytes.
    pub fn decode(self, bytes: &[u8], most: u64) -> Result<Vec<u8>> {
        let mut out = Vec::new();
        Limited::new(self.reader(bytes), most, "what it expands to")
            .read_to_end(&mut out)
            .map_err(|e| Error::failed("a compressed piece cannot be decompressed").caused_by(e))?;
        Ok(out)
    }

    /// The same as a stream.
    pub fn reader<'a>(self, bytes: &'a [u8]) -> Box<dyn Read + 'a> {
        self.stream(bytes)
    }

    /// The raw bytes of pieces that are read one after the other.
    pub fn stream<'a>(self, pieces: impl BufRead + 'a) -> Box<dyn Read + 'a> {
        match self {
            Codec::Gzip { .. } => Box::new(flate2::bufread::MultiGzDecoder::new(pieces)),
            Codec::Zstd { .. } => match zstd::Decoder::with_buffer(pieces) {
                Ok(decoder) => Box::new(decoder),
                Err(e) => Box::new(Broken(Some(e))),
            },
        }
    }

    /// The length of [`stored`](Codec::stored) for `len` bytes: it depends on nothing else, so room
    /// can be kept for content that is not known yet.
    pub fn stored_len(self, len: usize) -> usize {
        match self {
            Codec::Gzip { .. } => 10 + 5 + len + 8,
            // Single segment with a two-byte content size, which covers 256 to 65,791 bytes.
            Codec::Zstd { .. } => 4 + 1 + 2 + 3 + len,
        }
    }

    /// `content` as a member or frame with an uncompressed body.
    ///
    /// # Panics
    /// If `content` is shorter than 256 or longer than 65,535 bytes, which the fixed framing cannot express.
    pub fn stored(self, content: &[u8]) -> Vec<u8> {
        assert!((256..=65_535).contains(&content.len()), "a stored piece has 256 to 65,535 bytes");
        let len = content.len() as u16;
        let mut out = Vec::with_capacity(self.stored_len(content.len()));
        match self {
            Codec::Gzip { .. } => {
                // RFC 1952 header: deflate, no flags, no time, no hint, system unknown.
                out.extend_from_slice(&[0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 0xff]);
                // RFC 1951, 3.2.4: one final stored block.
                out.push(1);
                out.extend_from_slice(&len.to_le_bytes());
                out.extend_from_slice(&(!len).to_le_bytes());
                out.extend_from_slice(content);
                out.extend_from_slice(&libdeflater::crc32(content).to_le_bytes());
                out.extend_from_slice(&u32::from(len).to_le_bytes());
            }
            Codec::Zstd { .. } => {
                // RFC 8878, 3.1.1: magic, single segment + two-byte size (which counts from 256).
                out.extend_from_slice(&0xfd2f_b528u32.to_le_bytes());
                out.push(0b0110_0000);
                out.extend_from_slice(&(len - 256).to_le_bytes());
                // One last raw block: size << 3 | raw << 1 | last.
                out.extend_from_slice(&((u32::from(len) << 3) | 1).to_le_bytes()[..3]);
                out.extend_from_slice(content);
            }
        }
        out
    }
}

/// A decoder that could not be made.
struct Broken(Option<std::io::Error>);

impl Read for Broken {
    fn read(&mut self, _: &mut [u8]) -> std::io::Result<usize> {
        Err(self.0.take().unwrap_or_else(|| std::io::Error::other("the decoder could not be made")))
    }
}

impl Encoder {
    /// Compresses one piece into `out`, which is cleared first.
    pub fn encode(&mut self, raw: &[u8], out: &mut Vec<u8>) -> Result<()> {
        out.clear();
        match &mut self.inner {
            Inner::Gzip(encoder, room) => {
                let bound = encoder.gzip_compress_bound(raw.len());
                if room.len() < bound {
                    room.resize(bound, 0);
                }
                let len = encoder
                    .gzip_compress(raw, room)
                    .map_err(|e| Error::failed("gzip compression failed").caused_by(e.to_string()))?;
                out.extend_from_slice(&room[..len]);
                // Rare huge documents must not stay in memory.
                if room.len() > KEPT {
                    *room = Vec::new();
                }
            }
            Inner::Zstd(encoder) => {
                out.reserve(zstd::zstd_safe::compress_bound(raw.len()));
                encoder
                    .compress_to_buffer(raw, out)
                    .map_err(|e| Error::failed("zstd compression failed").caused_by(e))?;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const CODECS: [Codec; 2] = [Codec::Gzip { level: 4 }, Codec::Zstd { level: 3 }];

    #[test]
    fn pieces_decode_as_one_stream() {
        for codec in CODECS {
            let mut encoder = codec.encoder().unwrap();
            let mut stream = Vec::new();
            let mut piece = Vec::new();
            let stored = codec.stored(&[7u8; 512]);
            assert_eq!(stored.len(), codec.stored_len(512));
            stream.extend_from_slice(&stored);
            encoder.encode(b"hello hello hello", &mut piece).unwrap();
            stream.extend_from_slice(&piece);
            encoder.encode(b"", &mut piece).unwrap();
            stream.extend_from_slice(&piece);
            stream.extend_from_slice(&codec.stored(&[9u8; 1536]));
            let raw = codec.decode(&stream, u64::MAX).unwrap();
            assert_eq!(raw, [&[7u8; 512][..], b"hello hello hello", &[9u8; 1536]].concat());
        }
    }

    #[test]
    fn a_tar_header_takes_535_bytes_as_gzip_and_522_as_zstd() {
        assert_eq!(CODECS.map(|c| c.stored_len(512)), [535, 522]);
        for len in [256, 512, 1024, 65_535] {
            for codec in CODECS {
                let content = vec![3u8; len];
                assert_eq!(codec.stored(&content).len(), codec.stored_len(len));
                assert_eq!(codec.decode(&codec.stored(&content), u64::MAX).unwrap(), content);
            }
        }
    }

    #[test]
    fn a_wrong_level_is_named() {
        let error = Codec::Gzip { level: 99 }.encoder().err().unwrap();
        assert!(error.to_string().contains("99"), "{error}");
    }
}

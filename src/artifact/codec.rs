//! Compression of independent pieces.
//!
//! Each piece becomes a gzip member (RFC 1952) or a zstd frame (RFC 8878) of its own. Stock tools read the
//! concatenation as one stream, and this program can start to read at any piece.

use std::io::{self, BufRead, Read};

use crate::base::bounds::Limited;
use crate::base::error::{Error, Result};
use crate::config::choices::Codec;

/// The most memory that a compressor keeps for the next piece, in bytes.
const KEPT: usize = 4 << 20;

/// The bytes of a piece that [`Codec::piece`] looks at.
const PIECE_START: usize = 5;

/// The working memory of a decompressor, for one piece after the other.
#[derive(Default)]
pub struct PieceMemory(zstd::zstd_safe::DCtx<'static>);

/// Returns true if these bytes begin a zstd frame whose content has a checksum (RFC 8878, 3.1.1.1.1.5).
fn is_checked_frame([a, b, c, d, descriptor]: [u8; PIECE_START]) -> bool {
    u32::from_le_bytes([a, b, c, d]) == zstd::zstd_safe::MAGICNUMBER && descriptor & 0b100 != 0
}

/// A compressor with its working memory.
pub enum Encoder {
    /// The output buffer is large enough for the worst case, and is not cleared for every piece.
    Gzip(Box<libdeflater::Compressor>, Vec<u8>),
    Zstd(Box<zstd::bulk::Compressor<'static>>),
}

impl Codec {
    /// Makes a compressor.
    pub fn encoder(self) -> Result<Encoder> {
        Ok(match self {
            Codec::Gzip { level } => Encoder::Gzip(Box::new(gzip(level)?), Vec::new()),
            Codec::Zstd { level } => {
                let mut encoder = zstd::bulk::Compressor::new(level)
                    .map_err(|e| Error::failed("cannot set up the zstd compressor").caused_by(e))?;
                encoder
                    .include_checksum(true)
                    .map_err(|e| Error::failed("cannot enable the checksum of zstd").caused_by(e))?;
                Encoder::Zstd(Box::new(encoder))
            }
        })
    }

    /// The highest level at which a compressor needs less than 6 MiB of memory for blocks of 1 MiB. (zstd needs 1.3 MiB at level 3,
    /// 5.5 at 8, 10.5 at 9, and 17.3 at 19.)
    pub(super) fn light(self) -> i32 {
        match self {
            Codec::Gzip { .. } => 9,
            Codec::Zstd { .. } => 8,
        }
    }

    /// Decompresses concatenated pieces.
    ///
    /// # Errors
    /// Returns an error if the bytes cannot be decompressed or expand to more than `most` bytes.
    pub fn decode(self, bytes: &[u8], most: u64) -> Result<Vec<u8>> {
        let mut out = Vec::new();
        Limited::new(self.stream(bytes), most, "the decompressed data")
            .read_to_end(&mut out)
            .map_err(|e| Error::failed("a compressed piece cannot be decompressed").caused_by(e))?;
        Ok(out)
    }

    /// Decompresses a stream of concatenated pieces.
    pub fn stream<'a>(self, pieces: impl BufRead + 'a) -> Box<dyn Read + 'a> {
        match self {
            Codec::Gzip { .. } => Box::new(flate2::bufread::MultiGzDecoder::new(pieces)),
            Codec::Zstd { .. } => match zstd::Decoder::with_buffer(pieces) {
                Ok(decoder) => Box::new(decoder),
                Err(e) => Box::new(FailedDecoder(Some(e))),
            },
        }
    }

    /// Begins to decompress the next of concatenated pieces; `None` at the end of them. The reader ends without an error only if the
    /// piece has its checksum. It must be read to its end.
    ///
    /// # Errors
    /// Returns an error if the bytes do not begin a piece with a checksum.
    pub fn piece<'a>(
        self,
        pieces: &'a mut dyn BufRead,
        memory: &'a mut PieceMemory,
    ) -> io::Result<Option<Box<dyn Read + 'a>>> {
        let (mut start, mut filled) = ([0; PIECE_START], 0);
        while filled < start.len() {
            match pieces.read(&mut start[filled..])? {
                0 if filled == 0 => return Ok(None),
                0 => return Err(io::ErrorKind::UnexpectedEof.into()),
                n => filled += n,
            }
        }
        let whole = io::Cursor::new(start).chain(pieces);
        Ok(Some(match self {
            // The trailer of every member has a CRC-32.
            Codec::Gzip { .. } => Box::new(flate2::bufread::GzDecoder::new(whole)),
            Codec::Zstd { .. } if !is_checked_frame(start) => {
                return Err(io::Error::other("it is not a zstd frame with a checksum"));
            }
            Codec::Zstd { .. } => Box::new(zstd::Decoder::with_context(whole, &mut memory.0).single_frame()),
        }))
    }

    /// The length of [`stored`](Codec::stored) for `len` bytes. It depends on nothing else, so that room can
    /// be reserved for content that is not known yet.
    pub(super) fn stored_len(self, len: usize) -> usize {
        match self {
            Codec::Gzip { .. } => 10 + 5 + len + 8,
            // Single segment with a two-byte content size, which covers 256 to 65,791 bytes.
            Codec::Zstd { .. } => 4 + 1 + 2 + 3 + len,
        }
    }

    /// Returns `content` as a member or frame with an uncompressed body.
    ///
    /// # Panics
    /// Panics if `content` is shorter than 256 or longer than 65,535 bytes. The fixed framing cannot express
    /// this.
    pub(super) fn stored(self, content: &[u8]) -> Vec<u8> {
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

/// A decoder that could not be set up; reading from it returns the error.
struct FailedDecoder(Option<std::io::Error>);

impl Read for FailedDecoder {
    fn read(&mut self, _: &mut [u8]) -> std::io::Result<usize> {
        Err(self.0.take().unwrap_or_else(|| std::io::Error::other("the decoder cannot be set up")))
    }
}

fn gzip(level: i32) -> Result<libdeflater::Compressor> {
    let level = libdeflater::CompressionLvl::new(level).map_err(|_| {
        Error::usage(format!("the compression level {level} is not between 1 and 12, the levels of gzip"))
    })?;
    Ok(libdeflater::Compressor::new(level))
}

impl Encoder {
    /// Changes the level for the next pieces.
    pub(super) fn set_level(&mut self, level: i32) -> Result<()> {
        match self {
            Encoder::Gzip(encoder, _) => **encoder = gzip(level)?,
            Encoder::Zstd(encoder) => encoder
                .set_compression_level(level)
                .map_err(|e| Error::failed(format!("cannot set the level {level} of zstd")).caused_by(e))?,
        }
        Ok(())
    }

    /// Compresses one piece into `out`, replacing its content.
    pub fn encode(&mut self, raw: &[u8], out: &mut Vec<u8>) -> Result<()> {
        out.clear();
        match self {
            Encoder::Gzip(encoder, room) => {
                let bound = encoder.gzip_compress_bound(raw.len());
                if room.len() < bound {
                    room.resize(bound, 0);
                }
                let len = encoder
                    .gzip_compress(raw, room)
                    .map_err(|e| Error::failed("gzip compression failed").caused_by(e.to_string()))?;
                out.extend_from_slice(&room[..len]);
                // The buffer of a rare huge document must not stay in memory.
                if room.len() > KEPT {
                    *room = Vec::new();
                }
            }
            Encoder::Zstd(encoder) => {
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
    fn a_piece_ends_without_an_error_only_if_it_has_its_checksum() {
        for codec in CODECS {
            let mut encoder = codec.encoder().unwrap();
            let (mut stream, mut piece) = (Vec::new(), Vec::new());
            for text in [&b"hello hello hello"[..], b"", b"and more"] {
                encoder.encode(text, &mut piece).unwrap();
                stream.extend_from_slice(&piece);
            }
            let read = |mut bytes: &[u8]| -> io::Result<Vec<Vec<u8>>> {
                let (mut memory, mut all) = (PieceMemory::default(), Vec::new());
                while let Some(mut piece) = codec.piece(&mut bytes, &mut memory)? {
                    let mut raw = Vec::new();
                    piece.read_to_end(&mut raw)?;
                    all.push(raw);
                }
                Ok(all)
            };
            let whole = read(&stream).unwrap();
            assert_eq!(whole, [&b"hello hello hello"[..], b"", b"and more"]);
            for at in 0..stream.len() {
                for bit in 0..8 {
                    let mut damaged = stream.clone();
                    damaged[at] ^= 1 << bit;
                    // The header of a gzip member has fields that do not matter, such as the time.
                    let found = read(&damaged).unwrap_or_default();
                    assert!(
                        found.iter().all(|piece| whole.contains(piece)),
                        "{codec:?} {at} {bit}: {found:?}"
                    );
                }
            }
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
    fn the_error_names_a_wrong_level() {
        let error = Codec::Gzip { level: 99 }.encoder().err().unwrap();
        assert!(error.to_string().contains("99"), "{error}");
    }
}

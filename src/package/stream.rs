//! Zstandard streams: bounded when reading, the same bytes for the same content when writing.

use std::io::{self, BufRead, Read, Write};

use zstd::stream::{read::Decoder, write::Encoder};

/// Between speed and size; 107 MB of programs became 37 MB in 0.6 s at level 3, 33 MB in 2 to 5 s at 9, 32 MB in 6 s at
/// 12, 28 MB in 41 to 59 s at 19. Part of what a package's bytes are: changing it, or zstd's version, changes them all
/// (but no content digest).
const LEVEL: i32 = 9;
/// The largest window, as a power of two, that reading may allocate: what `zstd` writes without `--long`.
const WINDOW: u32 = 27;
/// Content goes into the compressor in parts of this size, so that the result cannot depend on how it was read.
const CHUNK: usize = 1 << 17;

/// Decompresses exactly one frame, at most `limit` bytes of content, and refuses what follows the frame.
pub struct Decompressed<R: BufRead> {
    decoder: Decoder<'static, R>,
    left: u64,
}

impl<R: BufRead> std::fmt::Debug for Decompressed<R> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Decompressed").field("left", &self.left).finish_non_exhaustive()
    }
}

impl<R: BufRead> Decompressed<R> {
    /// Returns a reader of the content of `compressed`.
    pub fn new(compressed: R, limit: u64) -> io::Result<Self> {
        let mut decoder = Decoder::with_buffer(compressed)?.single_frame();
        decoder.window_log_max(WINDOW)?;
        Ok(Self { decoder, left: limit })
    }
}

impl<R: BufRead> Read for Decompressed<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.decoder.read(buffer)?;
        if read == 0 && !buffer.is_empty() && !self.decoder.get_mut().fill_buf()?.is_empty() {
            return Err(io::Error::new(io::ErrorKind::InvalidData, "something follows the compressed data"));
        }
        self.left = self
            .left
            .checked_sub(read as u64)
            .ok_or_else(|| io::Error::new(io::ErrorKind::InvalidData, "it unpacks to more than is allowed"))?;
        Ok(read)
    }
}

/// Compresses what is written to it.
pub struct Compressed<W: Write> {
    encoder: Encoder<'static, W>,
    chunk: Vec<u8>,
}

impl<W: Write> std::fmt::Debug for Compressed<W> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Compressed").finish_non_exhaustive()
    }
}

impl<W: Write> Compressed<W> {
    /// Returns a writer that takes exactly `length` bytes and writes one frame with a checksum.
    pub fn new(inner: W, length: u64) -> io::Result<Self> {
        let mut encoder = Encoder::new(inner, LEVEL)?;
        encoder.include_checksum(true)?;
        encoder.set_pledged_src_size(Some(length))?;
        Ok(Self { encoder, chunk: Vec::with_capacity(CHUNK) })
    }

    /// Ends the frame and returns what it was written to.
    pub fn finish(mut self) -> io::Result<W> {
        self.encoder.write_all(&self.chunk)?;
        self.encoder.finish()
    }
}

impl<W: Write> Write for Compressed<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let taken = bytes.len().min(CHUNK - self.chunk.len());
        self.chunk.extend_from_slice(&bytes[..taken]);
        if self.chunk.len() == CHUNK {
            self.encoder.write_all(&self.chunk)?;
            self.chunk.clear();
        }
        Ok(taken)
    }

    /// Does nothing: where the compressor is flushed shows in its output.
    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn compress(content: &[u8], step: usize) -> Vec<u8> {
        let mut writer = Compressed::new(Vec::new(), content.len() as u64).unwrap();
        for part in content.chunks(step.max(1)) {
            writer.write_all(part).unwrap();
        }
        writer.finish().unwrap()
    }

    fn decompress(bytes: &[u8], limit: u64) -> io::Result<Vec<u8>> {
        let mut content = Vec::new();
        Decompressed::new(bytes, limit)?.read_to_end(&mut content).map(|_| content)
    }

    fn noise(length: usize) -> Vec<u8> {
        let mut state = 1_u32;
        std::iter::repeat_with(|| {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            (state >> 24) as u8 & 0x3f
        })
        .take(length)
        .collect()
    }

    #[test]
    fn content_comes_back_and_its_parts_do_not_matter() {
        let content = noise(700_000);
        let bytes = compress(&content, content.len());
        assert_eq!(decompress(&bytes, 700_000).unwrap(), content);
        for step in [1000, 131_072, 131_073] {
            assert_eq!(compress(&content, step), bytes, "{step}");
        }
    }

    #[test]
    fn a_bomb_is_stopped_at_the_limit() {
        let bytes = compress(&vec![0; 10_000_000], 1 << 20);
        assert!(bytes.len() < 2000);
        assert_eq!(decompress(&bytes, 9_999_999).unwrap_err().to_string(), "it unpacks to more than is allowed");
    }

    #[test]
    fn a_frame_that_needs_a_huge_window_is_refused() {
        let mut encoder = Encoder::new(Vec::new(), 1).unwrap();
        encoder.window_log(28).unwrap();
        encoder.write_all(&noise(1000)).unwrap();
        assert!(decompress(&encoder.finish().unwrap(), 10_000).is_err());
    }

    #[test]
    fn nothing_may_follow_the_frame_and_nothing_may_miss() {
        let bytes = compress(&noise(1000), 1000);
        for more in [&b"x"[..], &bytes, &[0x50, 0x2a, 0x4d, 0x18, 0, 0, 0, 0]] {
            assert!(decompress(&[&bytes, more].concat(), 10_000).is_err());
        }
        assert!(decompress(&bytes[..bytes.len() - 1], 10_000).is_err());
        assert!(decompress(&[], 10_000).is_err());
    }
}

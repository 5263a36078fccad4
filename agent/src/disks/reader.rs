//! Reads the blocks of a disk past the page cache, where the file system allows it.
//!
//! With `O_DIRECT` a copy of a disk does not push the server's working set out of memory, and sees what
//! is on the disk. It wants aligned buffers, offsets and lengths; the last block of an image file may
//! end anywhere, so its length is rounded up and the read comes back short.

use std::{
    fs::{File, OpenOptions},
    io,
    ops::Range,
    os::unix::fs::{FileExt, OpenOptionsExt},
    path::{Path, PathBuf},
    sync::atomic::{AtomicBool, Ordering},
};

use domain::disk::BLOCK_LEN;

/// No disk has larger sectors than a page.
const ALIGNMENT: usize = 4096;

#[derive(Debug)]
pub struct DiskReader {
    path: PathBuf,
    bytes: u64,
    direct: Option<File>,
    buffered: File,
    direct_works: AtomicBool,
}

#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    #[error("cannot open {path}")]
    Open {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    #[error("cannot read {path} at byte {at}")]
    Read {
        path: PathBuf,
        at: u64,
        #[source]
        source: io::Error,
    },
    #[error("{path} ends at byte {end}; it had {expected} bytes")]
    Shrunk { path: PathBuf, end: u64, expected: u64 },
}

/// Room for one block, aligned as `O_DIRECT` wants it. Each reading thread has one.
pub struct BlockBuffer {
    bytes: Vec<u8>,
    start: usize,
}

impl BlockBuffer {
    pub fn new() -> Self {
        let bytes = vec![0; BLOCK_LEN + ALIGNMENT];
        let start = bytes.as_ptr().align_offset(ALIGNMENT);
        Self { bytes, start }
    }

    fn room(&mut self, len: usize) -> &mut [u8] {
        &mut self.bytes[self.start..self.start + len]
    }
}

impl Default for BlockBuffer {
    fn default() -> Self {
        Self::new()
    }
}

impl std::fmt::Debug for BlockBuffer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("BlockBuffer")
    }
}

impl DiskReader {
    /// Opens the first `bytes` bytes of `path`.
    pub fn open(path: &Path, bytes: u64) -> Result<Self, ReadError> {
        let buffered = File::open(path).map_err(|source| ReadError::Open {
            path: path.to_owned(),
            source,
        })?;
        let direct = OpenOptions::new()
            .read(true)
            .custom_flags(rustix::fs::OFlags::DIRECT.bits().cast_signed())
            .open(path)
            .ok();
        Ok(Self {
            path: path.to_owned(),
            bytes,
            direct_works: AtomicBool::new(direct.is_some()),
            direct,
            buffered,
        })
    }

    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Reads a piece of the disk, a block's length at most. It begins at a multiple of 4 KiB.
    pub fn read<'b>(&self, piece: Range<u64>, buffer: &'b mut BlockBuffer) -> Result<&'b [u8], ReadError> {
        let at = piece.start;
        let wanted = usize::try_from(piece.end - at)
            .unwrap_or(usize::MAX)
            .min(BLOCK_LEN);
        let got = self
            .read_at(buffer.room(wanted.next_multiple_of(ALIGNMENT)), at, wanted)
            .map_err(|source| ReadError::Read {
                path: self.path.clone(),
                at,
                source,
            })?;
        if got < wanted {
            return Err(ReadError::Shrunk {
                path: self.path.clone(),
                end: at + got as u64,
                expected: self.bytes,
            });
        }
        Ok(&buffer.room(wanted)[..])
    }

    /// Fills at least `wanted` bytes of `room`, unless the disk ends first.
    fn read_at(&self, room: &mut [u8], at: u64, wanted: usize) -> io::Result<usize> {
        if let Some(direct) = &self.direct
            && self.direct_works.load(Ordering::Relaxed)
        {
            match read_until(direct, room, at, wanted, ALIGNMENT) {
                // The file system took the flag and cannot do it: from now on without.
                Err(error) if error.raw_os_error() == Some(rustix::io::Errno::INVAL.raw_os_error()) => {
                    self.direct_works.store(false, Ordering::Relaxed);
                }
                outcome => return outcome,
            }
        }
        read_until(&self.buffered, &mut room[..wanted], at, wanted, 1)
    }
}

/// Reads until `wanted` bytes are there or the file ends. A read that comes back at an offset that is not
/// a multiple of `alignment` cannot be continued, and only happens at the end.
fn read_until(file: &File, room: &mut [u8], at: u64, wanted: usize, alignment: usize) -> io::Result<usize> {
    let mut got = 0;
    while got < wanted {
        match file.read_at(&mut room[got..], at + got as u64) {
            Ok(0) => break,
            Ok(n) => {
                got += n;
                if !got.is_multiple_of(alignment) {
                    break;
                }
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(got)
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    /// Reads the whole file block by block, from `folder`.
    fn reads_back(folder: &Path, len: usize) {
        let content: Vec<u8> = (0..len).map(|i| u8::try_from(i / 7 % 251).unwrap()).collect();
        let path = folder.join(format!("{len}.raw"));
        fs::write(&path, &content).unwrap();
        let reader = DiskReader::open(&path, len as u64).unwrap();
        let mut buffer = BlockBuffer::new();
        let mut read = Vec::new();
        while read.len() < len {
            let at = read.len() as u64;
            let piece = at..(len as u64).min(at + BLOCK_LEN as u64);
            read.extend_from_slice(reader.read(piece, &mut buffer).unwrap());
        }
        assert!(read == content, "{len} bytes in {}", folder.display());
        fs::remove_file(path).unwrap();
    }

    #[test]
    fn odd_sizes_read_back_with_and_without_direct_access() {
        let on_disk = tempfile::tempdir_in(env!("CARGO_MANIFEST_DIR")).unwrap();
        for len in [
            1,
            511,
            512,
            4095,
            4097,
            BLOCK_LEN - 1,
            BLOCK_LEN,
            BLOCK_LEN + 1,
            3 * BLOCK_LEN + 777,
        ] {
            reads_back(on_disk.path(), len);
            // In memory, where direct access is refused or pretended.
            if let Ok(in_memory) = tempfile::tempdir_in("/dev/shm") {
                reads_back(in_memory.path(), len);
            }
        }
    }

    const LEN: u64 = BLOCK_LEN as u64;

    #[test]
    fn a_file_that_became_shorter_is_noticed() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("disk.raw");
        fs::write(&path, vec![1; BLOCK_LEN]).unwrap();
        let reader = DiskReader::open(&path, 2 * BLOCK_LEN as u64).unwrap();
        let mut buffer = BlockBuffer::new();
        assert!(reader.read(0..LEN, &mut buffer).is_ok());
        let short = reader.read(LEN..2 * LEN, &mut buffer);
        assert!(matches!(short, Err(ReadError::Shrunk { .. })), "{short:?}");
        assert!(matches!(
            DiskReader::open(&folder.path().join("none"), 1),
            Err(ReadError::Open { .. })
        ));
    }
}

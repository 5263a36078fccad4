//! Where a volume is, for those who read what a layer has written there.

use std::{fs, io, os::unix::fs::FileExt};

/// A volume, by its place on a disk.
#[derive(Debug, Clone, Copy)]
pub struct Place<'a> {
    pub device_name: &'a str,
    /// Of the disk that it is on, and the place of that.
    pub file: &'a fs::File,
    pub disk: usize,
    /// In bytes, on the disk.
    pub start: u64,
    pub bytes: u64,
}

impl Place<'_> {
    /// `None`: where it ends before.
    pub fn read(&self, at: u64, len: u64) -> io::Result<Option<Vec<u8>>> {
        if at.checked_add(len).is_none_or(|end| end > self.bytes) {
            return Ok(None);
        }
        let Ok(len) = usize::try_from(len) else {
            return Ok(None);
        };
        let mut data = vec![0; len];
        self.file.read_exact_at(&mut data, self.start + at)?;
        Ok(Some(data))
    }
}

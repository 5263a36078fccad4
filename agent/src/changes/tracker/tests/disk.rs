//! A block device to write to: a loop device over a sparse file, or a disk that somebody gave.

use std::{
    fs::{File, OpenOptions},
    io,
    os::{
        fd::AsRawFd,
        unix::fs::{FileExt, OpenOptionsExt},
    },
    path::PathBuf,
};

use crate::disks::{LocalDisk, Roots, discover};

pub struct TestDisk {
    pub path: PathBuf,
    device: File,
    /// The file behind a loop device, and the folder that goes with it.
    backing: Option<(File, tempfile::TempDir)>,
}

const LOOP_CTL_GET_FREE: libc::c_ulong = 0x4c82;
const LOOP_SET_FD: libc::c_ulong = 0x4c00;
const LOOP_CLR_FD: libc::c_ulong = 0x4c01;
const LOOP_SET_CAPACITY: libc::c_ulong = 0x4c07;
const BLKDISCARD: libc::c_ulong = 0x1277;
const BLKZEROOUT: libc::c_ulong = 0x127f;

impl TestDisk {
    pub fn new(len: u64) -> io::Result<Self> {
        let folder = tempfile::tempdir()?;
        let backing = File::options()
            .read(true)
            .write(true)
            .create(true)
            .truncate(true)
            .open(folder.path().join("disk"))?;
        backing.set_len(len)?;
        let control = File::options().read(true).write(true).open("/dev/loop-control")?;
        loop {
            let number = ioctl(&control, LOOP_CTL_GET_FREE, 0)?;
            let path = PathBuf::from(format!("/dev/loop{number}"));
            let device = File::options().read(true).write(true).open(&path)?;
            match ioctl(&device, LOOP_SET_FD, backing.as_raw_fd()) {
                Ok(_) => {
                    return Ok(Self {
                        path,
                        device,
                        backing: Some((backing, folder)),
                    });
                }
                // Another test was quicker.
                Err(error) if error.raw_os_error() == Some(libc::EBUSY) => {}
                Err(error) => return Err(error),
            }
        }
    }

    /// A disk that a test may write to.
    pub fn at(path: PathBuf) -> io::Result<Self> {
        Ok(Self {
            device: File::options().read(true).write(true).open(&path)?,
            path,
            backing: None,
        })
    }

    pub fn local(&self) -> LocalDisk {
        let found = discover::named(&Roots::default(), std::slice::from_ref(&self.path));
        found.unwrap().remove(0)
    }

    /// Past the page cache: every write is one request, or several if it is long.
    pub fn direct(&self) -> File {
        self.open(libc::O_DIRECT)
    }

    pub fn open(&self, flags: i32) -> File {
        let mut options = OpenOptions::new();
        options.read(true).write(true).custom_flags(flags);
        options.open(&self.path).unwrap()
    }

    pub fn grow(&self, len: u64) {
        let (backing, _folder) = self.backing.as_ref().unwrap();
        backing.set_len(len).unwrap();
        ioctl(&self.device, LOOP_SET_CAPACITY, 0).unwrap();
    }

    pub fn discard(&self, at: u64, len: u64) {
        self.range_ioctl(BLKDISCARD, at, len);
    }

    pub fn zero_out(&self, at: u64, len: u64) {
        self.range_ioctl(BLKZEROOUT, at, len);
    }

    fn range_ioctl(&self, request: libc::c_ulong, at: u64, len: u64) {
        let range = [at, len];
        // SAFETY: both requests take two numbers of 64 bits.
        let outcome = unsafe { libc::ioctl(self.device.as_raw_fd(), request as _, range.as_ptr()) };
        assert_eq!(outcome, 0, "{}", io::Error::last_os_error());
    }
}

impl Drop for TestDisk {
    fn drop(&mut self) {
        if self.backing.is_none() {
            return;
        }
        let detached = ioctl(&self.device, LOOP_CLR_FD, 0);
        assert!(detached.is_ok(), "{} stays: {detached:?}", self.path.display());
    }
}

fn ioctl(file: &File, request: libc::c_ulong, argument: i32) -> io::Result<i32> {
    // SAFETY: the requests of loop devices above take a number.
    let outcome = unsafe { libc::ioctl(file.as_raw_fd(), request as _, argument) };
    if outcome < 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(outcome)
}

/// Data for reads and writes past the page cache, which wants it aligned.
#[repr(C, align(4096))]
#[derive(Clone)]
struct Page([u8; 4096]);

/// Writes a page that begins with `stamp`.
pub fn write_page(file: &File, at: u64, stamp: [u8; 8]) {
    let mut page = Page([0x5a; 4096]);
    page.0[..8].copy_from_slice(&stamp);
    file.write_all_at(&page.0, at).unwrap();
}

/// Reads the stamps of the pages in a range.
pub fn read_stamps(file: &File, range: std::ops::Range<u64>) -> Vec<(u64, [u8; 8])> {
    let mut buffer = vec![Page([0; 4096]); 32];
    let mut stamps = Vec::new();
    for at in range.clone().step_by(size_of_val(&*buffer)) {
        let pages = (range.end - at).div_ceil(4096).min(buffer.len() as u64);
        let pages = &mut buffer[..usize::try_from(pages).unwrap()];
        // SAFETY: pages are bytes and nothing else, one after the other.
        let bytes = unsafe { std::slice::from_raw_parts_mut(pages.as_mut_ptr().cast(), size_of_val(pages)) };
        file.read_exact_at(bytes, at).unwrap();
        let firsts = pages.iter().map(|page| *page.0.first_chunk().unwrap());
        stamps.extend((at..).step_by(4096).zip(firsts));
    }
    stamps
}

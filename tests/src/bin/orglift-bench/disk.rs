//! What is on the disks, and what is written to them.

use std::{
    fs::{File, OpenOptions},
    io,
    os::unix::fs::{FileExt, OpenOptionsExt},
    path::Path,
};

use anyhow::Context;
use rand::{Rng, RngExt, SeedableRng, rngs::SmallRng};
use rustix::fs::OFlags;

pub const BLOCK: usize = 512 << 10;
pub const PAGE: usize = 4 << 10;

/// Data lies in areas of this size, scattered over the disk.
const AREA: usize = 256 << 10;

/// An image of `bytes` of which `data_bytes` are data, half of them compressible; the rest are holes. All of it is in
/// the page cache in the end.
pub fn make_image(path: &Path, bytes: u64, data_bytes: u64) -> anyhow::Result<()> {
    let made = (|| {
        let image = File::create_new(path)?;
        image.set_len(bytes)?;
        let mut random = SmallRng::seed_from_u64(bytes ^ data_bytes);
        let mut area = vec![0; AREA];
        let (mut areas_left, mut data_left) = (bytes / AREA as u64, data_bytes / AREA as u64);
        while data_left > 0 {
            // As many as there should be, no matter how the dice fall.
            if random.random_range(0..areas_left) < data_left {
                if data_left.is_multiple_of(2) {
                    random.fill_bytes(&mut area);
                } else {
                    fill_with_words(&mut random, &mut area);
                }
                image.write_all_at(&area, bytes - areas_left * AREA as u64)?;
                data_left -= 1;
            }
            areas_left -= 1;
        }
        image.sync_all()?;
        io::copy(&mut File::open(path)?, &mut io::sink())
    })();
    made.with_context(|| format!("cannot make the image {}", path.display()))
        .map(drop)
}

/// What LZ4 shrinks to about a half, as it does text and tables.
fn fill_with_words(random: &mut SmallRng, area: &mut [u8]) {
    let mut words = [[0; 8]; 256];
    for word in &mut words {
        random.fill_bytes(word);
    }
    for piece in area.chunks_exact_mut(8) {
        piece.copy_from_slice(&words[usize::from(random.random::<u8>())]);
    }
}

/// Room that starts where direct reads and writes need it to.
pub struct Aligned {
    bytes: Vec<u8>,
    start: usize,
    len: usize,
}

impl Aligned {
    pub fn new(len: usize) -> Self {
        let bytes = vec![0; len + PAGE];
        let start = bytes.as_ptr().align_offset(PAGE);
        Self { bytes, start, len }
    }

    pub fn slice(&mut self) -> &mut [u8] {
        &mut self.bytes[self.start..self.start + self.len]
    }
}

pub fn open_direct(device: &Path) -> anyhow::Result<File> {
    let flags = i32::try_from(OFlags::DIRECT.bits())?;
    let opened = OpenOptions::new()
        .read(true)
        .write(true)
        .custom_flags(flags)
        .open(device);
    opened.with_context(|| format!("cannot open {}", device.display()))
}

/// Writes `pages` different pages of random bytes, past the page cache, anywhere on the disk.
pub fn write_random_pages(device: &Path, bytes: u64, pages: usize) -> anyhow::Result<()> {
    let file = open_direct(device)?;
    let mut random: SmallRng = rand::make_rng();
    let mut places = std::collections::BTreeSet::new();
    while places.len() < pages {
        places.insert(random.random_range(0..bytes / PAGE as u64));
    }
    let mut page = Aligned::new(PAGE);
    for place in places {
        random.fill_bytes(page.slice());
        file.write_all_at(page.slice(), place * PAGE as u64)
            .with_context(|| format!("cannot write to {}", device.display()))?;
    }
    file.sync_all().context("cannot flush the disk")
}

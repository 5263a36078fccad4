//! Disks as image files, the same for the same seed.
//!
//! ```text
//! 0        MBR with one Linux partition that fills the disk
//! 1 MiB    areas of 256 KiB, each of one kind: nothing, text, records, noise
//! ```
//!
//! Roughly what a server's disk holds: a good third was never written, much of the rest compresses well,
//! some not at all.

use std::{
    fs,
    os::unix::fs::FileExt,
    path::{Path, PathBuf},
};

use anyhow::Context;

const AREA: usize = 256 << 10;
const FIRST_AREA: u64 = 1 << 20;
const SECTOR: u64 = 512;

/// What a disk is made from.
#[derive(Debug, Clone)]
pub struct DiskPlan {
    pub path: PathBuf,
    pub bytes: u64,
    /// Differs between disks of one world.
    pub seed: u64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Content {
    Nothing,
    Text,
    Records,
    Noise,
}

/// A small, fast generator (splitmix64); the content needs variety, not secrecy.
#[derive(Debug, Clone)]
pub(super) struct Random(u64);

impl Random {
    pub(super) fn new(seed: u64) -> Self {
        Self(seed)
    }

    pub(super) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    pub(super) fn below(&mut self, bound: u64) -> u64 {
        self.next() % bound.max(1)
    }

    pub(super) fn fill(&mut self, buffer: &mut [u8]) {
        for piece in buffer.chunks_mut(8) {
            piece.copy_from_slice(&self.next().to_le_bytes()[..piece.len()]);
        }
    }
}

impl DiskPlan {
    /// Makes the image, unless it is there already. A crash leaves no half of one.
    pub fn make(&self) -> anyhow::Result<()> {
        if self.path.exists() {
            return Ok(());
        }
        let draft = self.path.with_extension("draft");
        self.write(&draft)
            .and_then(|()| fs::rename(&draft, &self.path))
            .with_context(|| format!("cannot make the disk {}", self.path.display()))
    }

    fn write(&self, draft: &Path) -> std::io::Result<()> {
        let file = fs::File::create(draft)?;
        file.set_len(self.bytes)?;
        file.write_all_at(&master_boot_record(self.bytes, self.seed), 0)?;
        let mut random = Random::new(self.seed);
        let mut area = vec![0; AREA];
        let mut at = FIRST_AREA;
        while at < self.bytes {
            let len = usize::try_from(self.bytes - at).map_or(AREA, |left| left.min(AREA));
            let area = &mut area[..len];
            match content(&mut random) {
                Content::Nothing => {}
                Content::Text => {
                    text(&mut random, area);
                    file.write_all_at(area, at)?;
                }
                Content::Records => {
                    records(&mut random, area);
                    file.write_all_at(area, at)?;
                }
                Content::Noise => {
                    random.fill(area);
                    file.write_all_at(area, at)?;
                }
            }
            at += len as u64;
        }
        Ok(())
    }
}

fn content(random: &mut Random) -> Content {
    match random.below(100) {
        0..38 => Content::Nothing,
        38..66 => Content::Text,
        66..85 => Content::Records,
        _ => Content::Noise,
    }
}

/// A classic partition table: one Linux partition from 1 MiB to the end, active.
pub(super) fn master_boot_record(bytes: u64, seed: u64) -> [u8; 512] {
    let mut sector = [0; 512];
    let (start, sectors) = (FIRST_AREA / SECTOR, bytes.saturating_sub(FIRST_AREA) / SECTOR);
    let field = |value: u64| u32::try_from(value).unwrap_or(u32::MAX).to_le_bytes();
    sector[440..444].copy_from_slice(&seed.to_le_bytes()[..4]);
    let entry = &mut sector[446..462];
    entry[0] = 0x80;
    entry[4] = 0x83;
    entry[8..12].copy_from_slice(&field(start));
    entry[12..16].copy_from_slice(&field(sectors));
    sector[510..].copy_from_slice(&[0x55, 0xaa]);
    sector
}

const WORDS: &[&str] = &[
    "accepted",
    "connection",
    "from",
    "10.0.3.17",
    "GET",
    "/orders",
    "200",
    "in",
    "ms",
    "user",
    "session",
    "opened",
    "for",
    "service",
    "started",
    "checkpoint",
    "complete",
    "wrote",
    "buffers",
    "INFO",
    "WARN",
    "retry",
    "queue",
    "length",
    "index",
    "rebuilt",
    "table",
    "customers",
    "row",
    "inserted",
    "cache",
    "miss",
];

/// Lines as a log has them.
fn text(random: &mut Random, area: &mut [u8]) {
    let mut at = 0;
    while at < area.len() {
        let draw = random.next();
        let word = WORDS[usize::try_from(draw % WORDS.len() as u64).unwrap_or(0)].as_bytes();
        let take = word.len().min(area.len() - at);
        area[at..at + take].copy_from_slice(&word[..take]);
        at += take;
        if at < area.len() {
            area[at] = if draw >> 60 == 0 { b'\n' } else { b' ' };
            at += 1;
        }
    }
}

/// Rows as a table's file has them: counters, a few random fields, padding.
fn records(random: &mut Random, area: &mut [u8]) {
    let first = random.next();
    for (row, record) in (0u64..).zip(area.chunks_mut(64)) {
        let mut fields = [0; 64];
        fields[..8].copy_from_slice(&first.wrapping_add(row).to_le_bytes());
        fields[8..16].copy_from_slice(&random.next().to_le_bytes());
        fields[16..20].copy_from_slice(b"row\0");
        fields[24..26].copy_from_slice(&random.next().to_le_bytes()[..2]);
        record.copy_from_slice(&fields[..record.len()]);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn made(seed: u64) -> Vec<u8> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("disk.raw");
        let plan = DiskPlan {
            path: path.clone(),
            bytes: 9 << 20,
            seed,
        };
        plan.make().unwrap();
        fs::read(path).unwrap()
    }

    #[test]
    fn one_seed_makes_one_disk_and_another_seed_another() {
        assert!(made(1) == made(1));
        assert!(made(1) != made(2));
    }

    #[test]
    fn a_disk_has_a_partition_and_both_empty_and_full_areas() {
        let disk = made(1);
        assert_eq!(disk.len(), 9 << 20);
        assert_eq!(disk[510..512], [0x55, 0xaa]);
        let areas = disk[1 << 20..].chunks(AREA);
        let empty = areas
            .clone()
            .filter(|area| area.iter().all(|byte| *byte == 0))
            .count();
        assert!(empty > 0 && empty < areas.len());
    }
}

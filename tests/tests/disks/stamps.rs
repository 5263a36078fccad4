//! A writer whose blocks prove that a checkpoint is one instant of all disks.
//!
//! Every 512-byte sector that it writes bears the number of the write, the place and a checksum; no two writes have
//! the same number. It keeps in memory when each write was issued and when it was completed. What an image holds is
//! then an instant if and only if there is a moment at which, everywhere,
//!
//! - the write that is found had been issued: nothing comes from later, and
//! - the next write to the same place had not been completed: nothing from before is missing.
//!
//! A write that was under way at that moment may be there or not, sector by sector.

use std::{
    fmt,
    fs::{File, OpenOptions},
    ops::RangeInclusive,
    os::unix::fs::{FileExt, OpenOptionsExt},
    path::{Path, PathBuf},
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicU64, Ordering::Relaxed},
        mpsc,
    },
    thread::JoinHandle,
    time::{Duration, Instant},
};

pub const BLOCK: usize = 4096;
const SECTOR: usize = 512;
const SECTORS: usize = BLOCK / SECTOR;
const MAGIC: u64 = 0x4f52_474c_4946_5431;

/// When something happened, in nanoseconds since the writer began.
type Moment = u64;
const NOT_YET: Moment = Moment::MAX;

/// Where a writer writes: a range of a disk, or a file whose blocks exist.
#[derive(Debug, Clone)]
pub struct Area {
    pub path: PathBuf,
    /// In bytes.
    pub offset: u64,
    pub blocks: u64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Rhythm {
    /// As the threads can, but no more than so many writes a second.
    Steady { per_second: u32 },
    /// For a time, and then nothing for a time.
    Bursts { busy: Duration, quiet: Duration },
}

#[derive(Debug, Clone, Copy)]
struct Write {
    number: u64,
    issued: Moment,
    completed: Moment,
}

/// What was written to each block of each area, oldest first.
type Log = Vec<Vec<Mutex<Vec<Write>>>>;

pub struct Stamper {
    areas: Vec<Area>,
    log: Arc<Log>,
    stop: Arc<AtomicBool>,
    threads: Vec<JoinHandle<()>>,
    began: Instant,
    began_at_ms: i64,
}

impl Stamper {
    /// Stamps every block of every area once, so that each can be told ever after. Nothing is written yet that may be
    /// lost.
    pub fn prepare(areas: Vec<Area>) -> Self {
        for (number, area) in areas.iter().enumerate() {
            let file = area.open();
            for block in 0..area.blocks {
                let stamp = Stamp {
                    number: 0,
                    area: number as u64,
                    block,
                };
                area.write(&file, stamp);
            }
            file.sync_all().unwrap();
        }
        let first = Write {
            number: 0,
            issued: 0,
            completed: 0,
        };
        let blocks = |area: &Area| (0..area.blocks).map(|_| Mutex::new(vec![first])).collect();
        Self {
            log: Arc::new(areas.iter().map(blocks).collect()),
            areas,
            stop: Arc::default(),
            threads: Vec::new(),
            began: Instant::now(),
            began_at_ms: chrono::Utc::now().timestamp_millis(),
        }
    }

    /// Each thread writes to all areas in turn, one write after the other: what it wrote to one disk is older than
    /// what it writes to the next.
    pub fn start(&mut self, threads: u32, rhythm: Rhythm) {
        let next = Arc::new(AtomicU64::new(1));
        let began = self.began;
        for thread in 0..threads {
            let (areas, log, stop, next) = (
                self.areas.clone(),
                self.log.clone(),
                self.stop.clone(),
                next.clone(),
            );
            self.threads.push(std::thread::spawn(move || {
                let files: Vec<_> = areas.iter().map(Area::open).collect();
                let mut rhythm = Pace {
                    rhythm,
                    threads,
                    began,
                    written: 0,
                };
                let shares = areas
                    .iter()
                    .map(|area| area.blocks / u64::from(threads))
                    .collect::<Vec<_>>();
                while !stop.load(Relaxed) {
                    for (index, area) in areas.iter().enumerate() {
                        rhythm.wait();
                        // Every thread has blocks of its own: writes to one place follow one another.
                        let block =
                            rand::random_range(0..shares[index]) * u64::from(threads) + u64::from(thread);
                        let number = next.fetch_add(1, Relaxed);
                        let place = &log[index][usize::try_from(block).unwrap()];
                        let issued = moment(began);
                        place.lock().unwrap().push(Write {
                            number,
                            issued,
                            completed: NOT_YET,
                        });
                        area.write(
                            &files[index],
                            Stamp {
                                number,
                                area: index as u64,
                                block,
                            },
                        );
                        place.lock().unwrap().last_mut().unwrap().completed = moment(began);
                    }
                }
            }));
        }
    }

    pub fn stop(&mut self) {
        self.stop.store(true, Relaxed);
        for thread in self.threads.drain(..) {
            thread.join().unwrap();
        }
    }

    pub fn written(&self) -> u64 {
        let per_area = |area: &Vec<Mutex<Vec<Write>>>| {
            area.iter()
                .map(|place| place.lock().unwrap().len() as u64 - 1)
                .sum::<u64>()
        };
        self.log.iter().map(per_area).sum()
    }

    /// By the clock on the wall, in milliseconds since 1970. What has no bound ends now.
    pub fn at_ms(&self, at: u64) -> i64 {
        self.began_at_ms + i64::try_from(at.min(moment(self.began)) / 1_000_000).unwrap()
    }

    /// The moments that the areas may show. `found` are the same areas, elsewhere.
    pub fn prove(&self, found: &[Area]) -> Result<RangeInclusive<u64>, NotOneInstant> {
        let mut proof = Proof::default();
        for (area, elsewhere) in found.iter().enumerate() {
            let file = File::open(&elsewhere.path).unwrap();
            let mut data = vec![0; BLOCK];
            for block in 0..elsewhere.blocks {
                file.read_exact_at(&mut data, elsewhere.offset + block * BLOCK as u64)
                    .unwrap();
                let writes = self.log[area][usize::try_from(block).unwrap()].lock().unwrap();
                for sector in 0..SECTORS {
                    let place = Spot { area, block, sector };
                    let stamp = Stamp {
                        number: 0,
                        area: area as u64,
                        block,
                    };
                    let number = stamp.read(sector, &data[sector * SECTOR..][..SECTOR]);
                    proof.take(place, number, &writes)?;
                }
            }
        }
        proof.moments()
    }
}

impl Drop for Stamper {
    fn drop(&mut self) {
        // One that waits for a frozen file system is not waited for.
        self.stop.store(true, Relaxed);
    }
}

fn moment(began: Instant) -> Moment {
    u64::try_from(began.elapsed().as_nanos()).unwrap()
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Spot {
    area: usize,
    block: u64,
    sector: usize,
}

#[derive(Debug, PartialEq, Eq)]
pub enum NotOneInstant {
    /// What is there was never written there.
    Damaged(Spot),
    /// `newer` was issued when what followed on `older` had been completed, so long ago.
    Torn {
        newer: Spot,
        older: Spot,
        apart: Duration,
    },
}

impl fmt::Display for NotOneInstant {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self:?}")
    }
}

/// The bounds of the moment that was found so far, and what set them.
#[derive(Debug, Default)]
struct Proof {
    earliest: Option<(Moment, Spot)>,
    latest: Option<(Moment, Spot)>,
}

impl Proof {
    fn take(&mut self, spot: Spot, number: Option<u64>, writes: &[Write]) -> Result<(), NotOneInstant> {
        let at = writes.iter().rposition(|write| Some(write.number) == number);
        let at = at.ok_or(NotOneInstant::Damaged(spot))?;
        let issued = writes[at].issued;
        if self.earliest.is_none_or(|(earliest, _)| issued > earliest) {
            self.earliest = Some((issued, spot));
        }
        let overwritten = writes.get(at + 1).map_or(NOT_YET, |next| next.completed);
        if self.latest.is_none_or(|(latest, _)| overwritten < latest) {
            self.latest = Some((overwritten, spot));
        }
        Ok(())
    }

    fn moments(self) -> Result<RangeInclusive<u64>, NotOneInstant> {
        let (Some((earliest, newer)), Some((latest, older))) = (self.earliest, self.latest) else {
            return Ok(0..=NOT_YET);
        };
        if earliest > latest {
            let apart = Duration::from_nanos(earliest - latest);
            return Err(NotOneInstant::Torn { newer, older, apart });
        }
        Ok(earliest..=latest)
    }
}

/// Holds a thread back to its part of the rhythm.
struct Pace {
    rhythm: Rhythm,
    threads: u32,
    began: Instant,
    written: u64,
}

impl Pace {
    fn wait(&mut self) {
        let elapsed = self.began.elapsed();
        let early = match self.rhythm {
            Rhythm::Steady { per_second } => {
                let due = self.written * u64::from(self.threads) * 1_000_000 / u64::from(per_second);
                Duration::from_micros(due).saturating_sub(elapsed)
            }
            Rhythm::Bursts { busy, quiet } => {
                let period = busy + quiet;
                let within =
                    Duration::from_nanos(u64::try_from(elapsed.as_nanos() % period.as_nanos()).unwrap());
                if within < busy {
                    Duration::ZERO
                } else {
                    period.saturating_sub(within)
                }
            }
        };
        self.written += 1;
        if early > Duration::from_millis(1) {
            // Nobody ever sends: this is a pause on a thread of its own.
            let (_sender, nothing) = mpsc::sync_channel::<()>(0);
            let _timed_out = nothing.recv_timeout(early);
        }
    }
}

#[derive(Debug, Clone, Copy)]
struct Stamp {
    number: u64,
    area: u64,
    block: u64,
}

impl Stamp {
    fn sector(self, sector: usize) -> [u8; SECTOR] {
        let mut bytes = [0; SECTOR];
        let words = [MAGIC, self.number, self.area, self.block, sector as u64];
        for (slot, word) in bytes.chunks_exact_mut(8).zip(words) {
            slot.copy_from_slice(&word.to_le_bytes());
        }
        let (content, checksum) = bytes.split_at_mut(SECTOR - 8);
        checksum.copy_from_slice(&fnv(content).to_le_bytes());
        bytes
    }

    /// The number in a sector of this place. `None` if it is not one that was written here.
    fn read(self, sector: usize, bytes: &[u8]) -> Option<u64> {
        let number = u64::from_le_bytes(bytes[8..16].try_into().ok()?);
        (bytes == Self { number, ..self }.sector(sector)).then_some(number)
    }
}

fn fnv(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
        (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3)
    })
}

/// Direct I/O wants its memory aligned.
#[repr(C, align(4096))]
struct Aligned([u8; BLOCK]);

impl Area {
    /// A file of nothing but stamped blocks.
    pub fn file(path: &Path, blocks: u64) -> Self {
        Self {
            path: path.to_owned(),
            offset: 0,
            blocks,
        }
    }

    fn open(&self) -> File {
        let mut options = OpenOptions::new();
        options
            .write(true)
            .custom_flags(i32::try_from(rustix::fs::OFlags::DIRECT.bits()).unwrap());
        // A file of a file system is made by the first who opens it.
        options.create(!self.path.starts_with("/dev")).truncate(false);
        options.open(&self.path).unwrap()
    }

    fn write(&self, file: &File, stamp: Stamp) {
        let mut data = Aligned([0; BLOCK]);
        for sector in 0..SECTORS {
            data.0[sector * SECTOR..][..SECTOR].copy_from_slice(&stamp.sector(sector));
        }
        file.write_all_at(&data.0, self.offset + stamp.block * BLOCK as u64)
            .unwrap();
    }
}

mod tests {
    use super::*;

    fn write(number: u64, issued: Moment, completed: Moment) -> Write {
        Write {
            number,
            issued,
            completed,
        }
    }

    fn proof(found: &[(u64, &[Write])]) -> Result<RangeInclusive<u64>, NotOneInstant> {
        let mut proof = Proof::default();
        for (block, (number, writes)) in (0..).zip(found) {
            proof.take(
                Spot {
                    area: 0,
                    block,
                    sector: 0,
                },
                Some(*number),
                writes,
            )?;
        }
        proof.moments()
    }

    #[test]
    fn a_proof_finds_what_is_newer_and_what_is_missing() {
        let (one, two) = (
            [write(0, 0, 0), write(1, 10, 20)],
            [write(0, 0, 0), write(2, 30, 40)],
        );
        assert_eq!(proof(&[(0, &one), (0, &two)]), Ok(0..=20));
        assert_eq!(proof(&[(1, &one), (0, &two)]), Ok(10..=40));
        assert_eq!(proof(&[(1, &one), (2, &two)]), Ok(30..=NOT_YET));
        // The second write is there, and the first, which was complete before it was issued, is not.
        assert!(matches!(
            proof(&[(0, &one), (2, &two)]),
            Err(NotOneInstant::Torn { .. })
        ));
        // Both were under way.
        let late = [write(0, 0, 0), write(2, 15, 40)];
        assert_eq!(proof(&[(0, &one), (2, &late)]), Ok(15..=20));
        assert!(matches!(proof(&[(7, &one)]), Err(NotOneInstant::Damaged(_))));
    }

    #[test]
    fn a_stamp_is_read_where_it_was_written_and_nowhere_else() {
        let stamp = Stamp {
            number: 9,
            area: 1,
            block: 77,
        };
        let bytes = stamp.sector(3);
        let elsewhere = Stamp { number: 0, ..stamp };
        assert_eq!(elsewhere.read(3, &bytes), Some(9));
        assert_eq!(elsewhere.read(4, &bytes), None);
        assert_eq!(
            Stamp {
                block: 78,
                ..elsewhere
            }
            .read(3, &bytes),
            None
        );
        let mut damaged = bytes;
        damaged[300] ^= 1;
        assert_eq!(elsewhere.read(3, &damaged), None);
    }
}

//! One watched disk: its marks, the requests in flight on it, and whether all that can be believed.

use std::{
    fs, io,
    ops::Range,
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::SeqCst},
    },
};

use super::{
    Doubt, Inner, Unavailable, boot_id,
    devices::Devices,
    kernel::{Map, Words},
    layout::{Geometry, SECTOR_LEN, state},
    ledger::{Balance, Ledger, Look},
    requests::{self, Generation, Request},
};
use crate::{changes::chunks::Chunks, disks::LocalDisk};

/// Changes of one disk are marked while this lives.
#[derive(Debug)]
pub struct Watch {
    tracker: Arc<Inner>,
    slot: u32,
    devices: Devices,
    /// What [`Devices::identity`] was when the marks began.
    identity: String,
    numbers: Vec<u32>,
    /// [`Inner::attached_times`] when the marks began.
    attached_times: Option<u64>,
    geometry: Geometry,
    maps: [MarkMap; 2],
    /// Which of the two the programs use.
    in_use: usize,
    /// What was in flight at the last take, and may have been written after it was read.
    carried: Vec<Range<u64>>,
    /// Sectors of stale entries that were taken off the request table.
    purged: AtomicU64,
    ledger: Ledger,
    doubt: Option<Doubt>,
}

/// A map of marks.
#[derive(Debug)]
struct MarkMap {
    map: Map,
    id: u32,
    words: Words,
}

/// What a take found.
#[derive(Debug)]
pub struct Taken {
    pub chunks: Chunks,
    /// Something may be missing in `chunks`, or in those of an earlier take.
    pub doubt: Option<Doubt>,
    /// It is certain that nothing is missing, up to this moment. Without a doubt and without this, it is as good
    /// as the number of sectors can tell while requests are in flight.
    pub proven: bool,
}

/// How busy a disk is, at one moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Activity {
    /// Requests that may change the disk, since the watch began.
    pub issued: u64,
    pub completed: u64,
    /// Issued and not known to be completed.
    pub in_flight: u64,
    /// Sectors by the kernel's own count, if it keeps one.
    pub sectors: Option<u64>,
}

impl Activity {
    /// Whether nothing was written between this look and a `later` one.
    pub fn proves_silence(&self, later: &Self) -> bool {
        self.sectors.is_some() && self.in_flight == 0 && self == later
    }
}

/// What became of a write that was made to be seen.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Canary {
    Seen,
    /// The kernel counted writes, and the tracker saw none. The disk is in doubt.
    Unseen,
    /// The folder is not on this disk, so that nothing is known.
    Elsewhere,
}

impl Watch {
    pub(super) fn begin(tracker: Arc<Inner>, disk: &LocalDisk) -> Result<Self, Unavailable> {
        let devices = Devices::of(&tracker.roots, disk)?;
        let failed = |what| {
            let name = devices.name();
            move |source| Unavailable::Device { what, name, source }
        };
        let misses = tracker.misses();
        if devices.sectors().is_none() && misses.is_none() {
            return Err(Unavailable::NoWitness { name: devices.name() });
        }
        let disk_len = devices.bytes().map_err(failed("read the size"))?;
        let numbers = devices.numbers().map_err(failed("read the number"))?;
        if (disk_len / SECTOR_LEN) >> requests::SECTOR_BITS != 0 {
            return Err(Unavailable::TooLarge);
        }
        let (slot, geometry) = tracker.reserve(disk_len)?;
        let maps = MarkMap::new(geometry).and_then(|one| Ok([one, MarkMap::new(geometry)?]));
        let maps = match maps {
            Ok(maps) => maps,
            Err(source) => {
                tracker.release(slot);
                return Err(failed("make the maps")(source));
            }
        };
        let name = devices.name();
        let mut watch = Self {
            identity: devices.identity(),
            attached_times: tracker.attached_times(),
            tracker,
            slot,
            devices,
            numbers,
            geometry,
            maps,
            in_use: 0,
            carried: Vec::new(),
            purged: AtomicU64::new(0),
            ledger: Ledger::default(),
            doubt: None,
        };
        watch.tell_programs().map_err(|source| Unavailable::Device {
            what: "enter the number",
            name,
            source,
        })?;
        watch.start_ledger();
        Ok(watch)
    }

    fn tell_programs(&self) -> io::Result<()> {
        let tracker = &self.tracker;
        let state = |offset| tracker.state(self.slot, offset);
        state(state::CHUNK_SHIFT).store(self.geometry.chunk_shift(), SeqCst);
        state(state::COARSE_BASE).store(self.geometry.coarse_base(), SeqCst);
        tracker
            .marks_in_use
            .set_inner(self.slot, &self.maps[self.in_use].map)?;
        for number in &self.numbers {
            tracker.disks.set(*number, self.slot)?;
        }
        Ok(())
    }

    pub fn chunk_len(&self) -> u64 {
        self.geometry.chunk_len
    }

    /// Everything that was written since the last take, or since [`Self::restart`], and what may still have been in
    /// flight at the last take. Afterwards no running program writes the map that was taken. Waits for the kernel,
    /// usually some 10 to 50 ms.
    pub fn take(&mut self) -> Taken {
        self.look_around();
        let generation = self.next_generation();
        let (taken, next) = (self.in_use, 1 - self.in_use);
        let swapped = self
            .tracker
            .marks_in_use
            .set_inner(self.slot, &self.maps[next].map);
        let mut chunks = match swapped {
            Ok(()) => {
                self.in_use = next;
                self.geometry.take(&self.maps[taken].words)
            }
            Err(error) => {
                self.doubt(Doubt::MapStuck {
                    reason: error.to_string(),
                });
                self.geometry.read(&self.maps[taken].words)
            }
        };
        self.carried.drain(..).for_each(|range| chunks.insert(range));
        if self.in_use == next && self.devices.in_flight() == Some(0) {
            self.purge(generation);
        }
        self.carried = self.requests().map(Request::bytes).collect();
        let proven = self.audit();
        Taken {
            chunks,
            doubt: self.doubt.clone(),
            proven,
        }
    }

    /// What is marked right now, without taking it.
    pub fn peek(&self) -> Chunks {
        let mut chunks = self.geometry.read(&self.maps[self.in_use].words);
        self.carried
            .iter()
            .cloned()
            .for_each(|range| chunks.insert(range));
        chunks
    }

    /// About how many bytes are marked right now.
    pub fn marked_bytes(&self) -> u64 {
        self.geometry.marked_bytes(&self.maps[self.in_use].words)
    }

    /// How busy the disk is. Two looks prove that nothing was written in between. Stale entries count as in flight;
    /// if there are some and the kernel has nothing in hand, this waits for it as `take` does and purges them.
    pub fn counters(&self) -> Activity {
        if self.requests().next().is_some() && self.devices.in_flight() == Some(0) {
            let generation = self.next_generation();
            let map = &self.maps[self.in_use].map;
            // The same map again: only to wait until all programs know the new generation.
            let waited = self.tracker.marks_in_use.set_inner(self.slot, map);
            if waited.is_ok() && self.devices.in_flight() == Some(0) {
                // What is purged was marked in the map in use, or is carried already.
                self.purge(generation);
            }
        }
        let count = |offset| self.tracker.state(self.slot, offset).load(SeqCst);
        let in_hand = self.devices.in_flight().unwrap_or(0);
        let sectors = self.devices.sectors();
        let completed = count(state::COMPLETED);
        Activity {
            issued: count(state::ISSUED),
            completed,
            in_flight: (self.requests().count() as u64).max(in_hand),
            sectors,
        }
    }

    /// Forgets doubts and starts anew from nothing: whoever calls this rescans the disk afterwards.
    pub fn restart(&mut self) {
        self.doubt = None;
        if self.tracker.attached_times().is_none()
            && let Err(error) = self.tracker.attach()
        {
            tracing::warn!(%error, "the tracker's programs cannot be attached again");
        }
        self.attached_times = self.tracker.attached_times();
        if let Err(error) = self.remeasure().and_then(|()| self.tell_programs()) {
            // The next take finds what is wrong.
            tracing::warn!(%error, "the tracker cannot be set up again");
        }
        self.take();
        // The rescan may read while these are written. Of those whose completion is missed, too, the ledger tells.
        self.carried = self.requests().map(Request::bytes).collect();
        requests::purge(&self.tracker.requests, self.slot, |_| true);
        self.doubt = None;
        self.start_ledger();
    }

    /// Makes new maps if the disk has another size now.
    fn remeasure(&mut self) -> io::Result<()> {
        self.identity = self.devices.identity();
        self.numbers = self.devices.numbers()?;
        let disk_len = self.devices.bytes()?;
        if disk_len != self.geometry.disk_len {
            self.geometry.disk_len = disk_len;
            self.tracker.enter_share(self.slot, self.geometry);
            self.maps = [MarkMap::new(self.geometry)?, MarkMap::new(self.geometry)?];
            self.carried.clear();
        }
        Ok(())
    }

    /// Writes to a small file in `folder` and looks whether the tracker notices.
    pub fn canary(&mut self, folder: &Path) -> io::Result<Canary> {
        let events = || {
            let count = |offset| self.tracker.state(self.slot, offset).load(SeqCst);
            count(state::ISSUED) + count(state::COMPLETED)
        };
        let (kernel, seen) = (self.devices.sectors(), events());
        let path = folder.join(".orglift-canary");
        let file = fs::File::create(&path)?;
        io::Write::write_all(&mut &file, &[0x6f; 4096])?;
        let synced = file.sync_all();
        fs::remove_file(&path)?;
        synced?;
        let kernel_moved = self.devices.sectors() > kernel;
        if events() > seen {
            return Ok(Canary::Seen);
        }
        if kernel_moved {
            self.audit();
            return Ok(Canary::Unseen);
        }
        Ok(Canary::Elsewhere)
    }

    fn look(&self) -> Look {
        // In this order: see `ledger`.
        let kernel = self.devices.sectors();
        let idle = self.devices.in_flight() == Some(0);
        let open = self.requests().map(Request::sectors).sum();
        let count = |offset| self.tracker.state(self.slot, offset).load(SeqCst);
        Look {
            kernel,
            idle,
            open,
            seen: count(state::SECTORS) + self.purged.load(SeqCst),
            misses: self.tracker.misses(),
            overflowed: count(state::OVERFLOWED),
            unknown: count(state::UNKNOWN),
            odd: count(state::ODD),
        }
    }

    fn start_ledger(&mut self) {
        self.ledger = Ledger::begin(|| self.look(), &self.devices);
    }

    /// Whether it is certain that nothing is missing.
    fn audit(&mut self) -> bool {
        let mut ledger = std::mem::take(&mut self.ledger);
        let balance = ledger.audit(|| self.look());
        self.ledger = ledger;
        if let Balance::Wrong(doubt) = balance {
            self.doubt(doubt);
            return false;
        }
        balance == Balance::Proven && self.doubt.is_none()
    }

    fn requests(&self) -> impl Iterator<Item = Request> {
        requests::of_slot(&self.tracker.requests, self.slot)
    }

    fn next_generation(&self) -> Generation {
        let place = self.tracker.state(self.slot, state::GENERATION);
        let next = Generation::of(place.load(SeqCst)).next();
        place.store(next.in_place(), SeqCst);
        next
    }

    /// Takes entries of older generations off the request table. All programs must know this one, and the kernel
    /// must have been seen with no write in hand since.
    fn purge(&self, generation: Generation) {
        let sectors = requests::purge(&self.tracker.requests, self.slot, |request| {
            request.generation() != generation
        });
        self.purged.fetch_add(sectors, SeqCst);
    }

    fn doubt(&mut self, doubt: Doubt) {
        // The first tells the most.
        if self.doubt.is_none() {
            tracing::warn!(disk = %self.devices.name(), %doubt, "changes of a disk cannot be trusted");
            self.doubt = Some(doubt);
        }
    }

    /// Whether all that we rely on is still there.
    fn look_around(&mut self) {
        let attached_times = self.tracker.attached_times();
        if attached_times.is_none() || attached_times != self.attached_times {
            self.doubt(Doubt::Detached);
        }
        let in_place = self.tracker.marks_in_use.get(self.slot).ok();
        let disks = &self.tracker.disks;
        let is_known = self
            .numbers
            .iter()
            .all(|number| disks.get(*number).ok() == Some(self.slot));
        if in_place != Some(self.maps[self.in_use].id) || !is_known {
            self.doubt(Doubt::MapReplaced);
        }
        if boot_id(&self.tracker.roots) != self.tracker.boot_id {
            self.doubt(Doubt::Rebooted);
        }
        let is = self.devices.identity();
        if is != self.identity {
            let was = self.identity.clone();
            self.doubt(Doubt::Replaced { was, is });
        }
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        // The one that waits for running programs comes last.
        let numbers = self
            .numbers
            .iter()
            .map(|number| self.tracker.disks.remove(*number));
        let removed = numbers.chain([self.tracker.marks_in_use.remove(self.slot)]);
        for error in removed.filter_map(Result::err) {
            tracing::warn!(disk = %self.devices.name(), %error, "a disk's watch leaves a trace in the kernel");
        }
        self.tracker.release(self.slot);
    }
}

impl MarkMap {
    fn new(geometry: Geometry) -> io::Result<Self> {
        let map = geometry.new_map()?;
        Ok(Self {
            id: map.id()?,
            words: map.words()?,
            map,
        })
    }
}

//! The change source that sees every write: programs in the kernel that mark chunks.
//!
//! [`Tracker::start`] loads three small programs with bpf(2), by a loader of its own that needs no compiler, headers
//! or BTF, and attaches them to tracepoints of the block layer. [`Tracker::watch`] has them mark the chunks of a disk,
//! and [`Watch::take`] hands over what was marked. Nothing is sent per request, so nothing can overflow.
//!
//! ```text
//!   block_rq_issue ──▶ enter into the request table ─┐           ┌── marks A ◀─┐ swapped by take(), which
//!   block_rq_complete ──▶ take off the table ────────┴─▶ mark in ┤             │ waits until no program
//!   block_rq_requeue ──▶ take off the table                      └── marks B ◀─┘ uses the one it reads
//! ```
//!
//! # Why nothing is lost
//!
//! A chunk is *taken* by a `take` that returns it; its reader reads it afterwards. To be shown: a write that reaches
//! the disk after that reading is in a later `take`.
//!
//! - Its completion is seen. That mark is made after the write reached the disk, so after the swap, and is in the
//!   next map.
//! - Its completion is not seen. The kernel leaves a program out, without a word, when it comes in an interrupt while
//!   another program runs on that processor (`bpf_prog_active`): on a busy server this happens all the time. Then the
//!   request was issued either after the swap, which marks the next map; or before it, and then its entry is still in
//!   the request table, since only its completion would have removed it. `take` looks at the table after the swap,
//!   and carries the range of every entry over into the next `take`, again and again while the entry stays.
//!
//! Entries whose completion was missed are *stale*, and cost re-reading. They are purged when it is proven that their
//! requests are done: `take` begins a new generation of entries, and waits, with the swap, for all programs that may
//! still know the old one and for the kernel to bring every request whose issue it has told of into the driver's
//! hands. If `/sys/block/X/inflight` shows no write after that, all requests of older generations have reached the
//! disk. (On a kernel that preempts itself a driver that may sleep could be suspended for that long between telling
//! and taking in hand. Its request would then be purged too early, which loses it only if its completion is missed,
//! too; its sectors are then counted twice and not found missing.)
//!
//! # When it cannot be known
//!
//! Only a write of which both events were missed is lost. `take` finds it by counting: sectors that completed, plus
//! stale entries, must not be fewer than the sectors that the kernel has accounted for in `/sys/block/X/stat`. Requests
//! in flight blur the sum; whenever nothing is in flight, as while file systems are frozen, it is exact
//! ([`Taken::proven`]). Where Linux counts left-out runs (6.7 and newer), none at the one tracepoint or none at the
//! other prove the same at any time. Whatever else shakes the ground, such as a map or a program that is no longer
//! ours, a disk of another size, or a command passed through to the device, is found by looking. All of it is a
//! [`Doubt`]; it lasts until [`Watch::restart`], whose caller rescans the disk.

use std::{
    fs,
    path::Path,
    sync::{Arc, Mutex, MutexGuard, PoisonError, atomic::Ordering::SeqCst},
};

pub use self::{
    doubt::{Doubt, Unavailable},
    watch::{Activity, Canary, Taken, Watch},
};
use self::{
    format::{Event, TraceFs},
    kernel::{Attachment, Map, Program, Words},
    layout::{MARKS_BUDGET, Marks, SLOTS},
    programs::{Lies, Maps},
};
use crate::disks::{LocalDisk, Roots, discover};

mod assembler;
mod devices;
mod doubt;
mod format;
mod kernel;
mod layout;
mod ledger;
mod programs;
mod requests;
#[cfg(test)]
mod tests;
mod watch;

/// Device numbers: several lead to one disk where it has several paths.
const DEVICES_MAX: u32 = 256;

/// The programs in the kernel, and the maps that they share with the agent. One for the whole agent.
#[derive(Debug, Clone)]
pub struct Tracker(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    roots: Roots,
    marks: Marks,
    disks: Map,
    marks_in_use: Map,
    states: Words,
    requests: Words,
    programs: [AtTracepoint; 3],
    attachments: Mutex<Attachments>,
    boot_id: String,
    shares: Mutex<Shares>,
}

/// A program and the number of its tracepoint.
#[derive(Debug)]
struct AtTracepoint {
    program: Program,
    event: u64,
}

#[derive(Debug, Default)]
struct Attachments {
    /// How often the programs were attached. Who watches since an earlier time has missed what was between.
    times: u64,
    list: Vec<Attachment>,
}

/// What the watched disks have of slots and memory. Index: slot.
#[derive(Debug)]
struct Shares([Option<Share>; SLOTS as usize]);

#[derive(Debug, Clone, Copy)]
struct Share {
    disk_len: u64,
    memory: u64,
}

impl Share {
    fn of(geometry: layout::Geometry) -> Self {
        Self {
            disk_len: geometry.disk_len,
            memory: geometry.memory(),
        }
    }
}

impl Tracker {
    pub fn start(roots: &Roots) -> Result<Self, Unavailable> {
        let bits = Self::start_with(roots, Marks::Bits, Lies::None);
        // Whether the kernel has atomic operations is only known by trying.
        match bits {
            Err(Unavailable::ProgramRefused(_)) => Self::start_with(roots, Marks::Bytes, Lies::None),
            other => other,
        }
    }

    fn start_with(roots: &Roots, marks: Marks, lies: Lies) -> Result<Self, Unavailable> {
        if is_locked_down(&roots.sys) {
            return Err(Unavailable::LockedDown);
        }
        let events = Events::find(roots)?;
        kernel::lift_memory_limit();
        let failed = |source| Unavailable::of("make a BPF map", source);
        let disks = Map::hash(DEVICES_MAX).map_err(failed)?;
        let states = Map::array(SLOTS, layout::state::WORDS).map_err(failed)?;
        let requests = Map::array(requests::BUCKETS, requests::WORDS_PER_BUCKET).map_err(failed)?;
        let like = Map::inner_array(1).map_err(failed)?;
        let marks_in_use = Map::array_of_maps(SLOTS, &like).map_err(failed)?;
        let maps = Maps {
            disks: disks.fd(),
            states: states.fd(),
            requests: requests.fd(),
            marks: marks_in_use.fd(),
        };
        let load = |code: Vec<u64>, event: &Event| {
            let program = Program::load(&code)?;
            Ok::<_, kernel::Refused>(AtTracepoint {
                program,
                event: event.id,
            })
        };
        let programs = [
            load(programs::issue(&events.issue, maps, marks, lies), &events.issue)?,
            load(
                programs::complete(&events.complete, maps, marks, lies),
                &events.complete,
            )?,
            load(
                programs::requeue(&events.requeue, maps, marks, lies),
                &events.requeue,
            )?,
        ];
        let inner = Inner {
            marks,
            states: states.words().map_err(failed)?,
            requests: requests.words().map_err(failed)?,
            disks,
            marks_in_use,
            programs,
            attachments: Mutex::default(),
            boot_id: boot_id(roots),
            shares: Mutex::new(Shares([None; SLOTS as usize])),
            roots: roots.clone(),
        };
        inner.attach()?;
        Ok(Self(Arc::new(inner)))
    }

    /// Marks what is written to `disk` from now on.
    pub fn watch(&self, disk: &LocalDisk) -> Result<Watch, Unavailable> {
        Watch::begin(self.0.clone(), disk)
    }
}

impl Inner {
    /// Attaches all programs anew.
    fn attach(&self) -> Result<(), Unavailable> {
        let online = fs::read_to_string(self.roots.sys.join("devices/system/cpu/online")).unwrap_or_default();
        let first = online.split(|c: char| !c.is_ascii_digit()).next().unwrap_or("0");
        let processor = first.parse().unwrap_or(0);
        let mut attachments = self.attachments();
        attachments.times += 1;
        // A program can be attached to a tracepoint once only.
        attachments.list.clear();
        for at in &self.programs {
            let attachment = at.program.attach(at.event, processor);
            let failed = |source| Unavailable::of("attach a program to a tracepoint", source);
            attachments.list.push(attachment.map_err(failed)?);
        }
        Ok(())
    }

    fn attachments(&self) -> MutexGuard<'_, Attachments> {
        self.attachments.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// How often the programs were attached; `None` if one is not attached now.
    fn attached_times(&self) -> Option<u64> {
        let attachments = self.attachments();
        let all =
            attachments.list.len() == self.programs.len() && attachments.list.iter().all(Attachment::holds);
        all.then_some(attachments.times)
    }

    /// Runs that the kernel left out, at issue and at completion.
    fn misses(&self) -> Option<[u64; 2]> {
        let [issue, complete, _requeue] = &self.programs;
        Some([issue.program.misses()?, complete.program.misses()?])
    }

    /// A number in the state of a slot, at one of the offsets of [`layout::state`].
    fn state(&self, slot: u32, offset: i16) -> &std::sync::atomic::AtomicU64 {
        let offset = usize::from(offset.unsigned_abs()) / 8;
        &self.states[slot as usize * layout::state::WORDS as usize + offset]
    }

    fn shares(&self) -> MutexGuard<'_, Shares> {
        self.shares.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A slot for a disk of this length, and how it is divided.
    fn reserve(&self, disk_len: u64) -> Result<(u32, layout::Geometry), Unavailable> {
        let on_machine: u64 =
            discover::physical(&self.roots).map_or(0, |disks| disks.iter().map(|disk| disk.disk.bytes).sum());
        let mut shares = self.shares();
        let taken = || shares.0.iter().flatten();
        let used = taken().map(|share| share.memory).sum();
        let watched: u64 = taken().map(|share| share.disk_len).sum();
        let all_disks = on_machine.max(watched + disk_len);
        let geometry = layout::Geometry::choose(self.marks, disk_len, all_disks, used)
            .or_else(|| layout::Geometry::choose(self.marks, disk_len, disk_len, used))
            .ok_or(Unavailable::NoMemory {
                mib: MARKS_BUDGET >> 20,
            })?;
        let free = shares.0.iter_mut().zip(0..).find(|(share, _)| share.is_none());
        let (share, slot) = free.ok_or(Unavailable::TooMany { most: SLOTS })?;
        *share = Some(Share::of(geometry));
        Ok((slot, geometry))
    }

    /// Notes what a disk that was resized uses now.
    fn enter_share(&self, slot: u32, geometry: layout::Geometry) {
        self.shares().0[slot as usize] = Some(Share::of(geometry));
    }

    /// Gives a slot back. No program may know it any longer.
    fn release(&self, slot: u32) {
        requests::purge(&self.requests, slot, |_| true);
        for offset in (0..).step_by(8).take(layout::state::WORDS as usize) {
            self.state(slot, offset).store(0, SeqCst);
        }
        self.shares().0[slot as usize] = None;
    }
}

/// The tracepoints that the programs hang on.
#[derive(Debug)]
struct Events {
    issue: Event,
    complete: Event,
    requeue: Event,
}

impl Events {
    fn find(roots: &Roots) -> Result<Self, Unavailable> {
        let no_trace_fs = |source: std::io::Error| match source.raw_os_error() {
            Some(libc::EPERM | libc::EACCES) => Unavailable::NotAllowed {
                what: "open tracefs",
                source,
            },
            _ => Unavailable::NoTraceFs { source },
        };
        let trace_fs = TraceFs::open(roots).map_err(no_trace_fs)?;
        let event = |name| {
            trace_fs
                .block_event(name)
                .map_err(no_trace_fs)?
                .ok_or(Unavailable::NoTracepoint { name })
        };
        Ok(Self {
            issue: event("block_rq_issue")?,
            complete: event("block_rq_complete")?,
            requeue: event("block_rq_requeue")?,
        })
    }
}

fn is_locked_down(sys: &Path) -> bool {
    // The mode in force is in brackets: `none integrity [confidentiality]`.
    fs::read_to_string(sys.join("kernel/security/lockdown"))
        .is_ok_and(|modes| modes.contains("[confidentiality]"))
}

fn boot_id(roots: &Roots) -> String {
    fs::read_to_string(roots.proc.join("sys/kernel/random/boot_id")).unwrap_or_default()
}

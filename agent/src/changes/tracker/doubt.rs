//! What keeps the tracker from being believed, in words for the console.

use std::io;

/// Why changes cannot be tracked: on this machine, or on one disk. One line.
#[derive(Debug, thiserror::Error)]
pub enum Unavailable {
    #[error("the kernel is locked down (confidentiality) and lets nobody look at its events")]
    LockedDown,
    #[error(
        "not allowed to {what}: the agent needs root, or CAP_BPF and CAP_PERFMON, and no filter of system calls"
    )]
    NotAllowed {
        what: &'static str,
        #[source]
        source: io::Error,
    },
    #[error("this kernel cannot {what}; it takes Linux 5.10 or newer with BPF and tracepoints: {source}")]
    TooOld {
        what: &'static str,
        #[source]
        source: io::Error,
    },
    #[error("tracefs can neither be found nor opened: {source}")]
    NoTraceFs {
        #[source]
        source: io::Error,
    },
    #[error("the kernel has no tracepoint block:{name} of a form that is known")]
    NoTracepoint { name: &'static str },
    #[error(transparent)]
    ProgramRefused(#[from] super::kernel::Refused),

    #[error("it is an image file, not a block device")]
    ImageFile,
    #[error("{name} has no request queue of its own (a bio-based device)")]
    BioBased { name: String },
    #[error("{name} is a zoned device")]
    Zoned { name: String },
    #[error("{name} keeps no statistics (queue/iostats is 0), and this kernel does not count missed events")]
    NoWitness { name: String },
    #[error("it is larger than 64 TiB")]
    TooLarge,
    #[error("{most} disks are tracked already")]
    TooMany { most: u32 },
    #[error("the {mib} MiB for marks are used up by other disks")]
    NoMemory { mib: u64 },
    #[error("cannot {what} of {name}: {source}")]
    Device {
        what: &'static str,
        name: String,
        #[source]
        source: io::Error,
    },
}

impl Unavailable {
    /// For what the kernel did not let us do on the way to the first program.
    pub(super) fn of(what: &'static str, source: io::Error) -> Self {
        match source.raw_os_error() {
            Some(libc::EPERM | libc::EACCES) => Self::NotAllowed { what, source },
            _ => Self::TooOld { what, source },
        }
    }
}

/// Why the marks of a disk may lack something. Only a rescan of the disk helps.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Doubt {
    #[error("{sectors} sectors were written that the tracker did not see")]
    Missed { sectors: u64 },
    #[error(
        "events were missed, and the disk keeps no statistics (queue/iostats is 0) to tell whether it matters"
    )]
    MissedUnchecked,
    #[error(
        "the disk has ceased to keep statistics (queue/iostats is 0), and this kernel counts no missed events"
    )]
    Unwitnessed,
    #[error(
        "{count} commands were passed through to the disk, as smartd and sg3-utils do, and nobody knows what they did"
    )]
    UnknownOperation { count: u64 },
    #[error("{count} requests were odd: beyond the end of the disk, or longer than can be")]
    Odd { count: u64 },
    #[error("the tracker's program was detached from its tracepoint")]
    Detached,
    #[error("the tracker's map of marks was replaced")]
    MapReplaced,
    #[error("the tracker's maps could not be changed: {reason}")]
    MapStuck { reason: String },
    #[error("the machine was started anew")]
    Rebooted,
    #[error("the disk was replaced or resized: it was {was}, and is {is}")]
    Replaced { was: String, is: String },
}

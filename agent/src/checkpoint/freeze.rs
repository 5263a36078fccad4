//! Freezes the file systems on the disks, so that what is read from them is whole without a journal's help.
//!
//! Whoever writes to a frozen file system waits, and cannot even be killed until it is thawed. So nothing is
//! frozen that a second process does not stand by to thaw ([`super::guard`]), for longer than a given time, or
//! while this process might write to it ([`crate::own_writes`]).
//!
//! The order is that of mounting, backwards: a file system in an image is frozen before the one that holds the
//! image, and thawed after it, since both calls write to what lies below.

use std::{
    fs, io,
    os::fd::{AsFd, AsRawFd, OwnedFd},
    path::PathBuf,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
        mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel},
    },
    thread::JoinHandle,
    time::{Duration, Instant},
};

use rustix::{
    fs::{Mode, OFlags},
    io::Errno,
};
use tracing::{debug, warn};

use super::{
    fsfreeze,
    guard::{Guard, GuardProgram},
    mark,
    mounts::{FileSystem, Place, Residents},
};
use crate::{layout::FileError, own_writes};

/// A line of the log or a status file takes milliseconds, unless nobody takes the log.
const OWN_WRITES_MAX: Duration = Duration::from_secs(2);
/// Before another guard is started for one that ended: long enough not to start thousands.
const GUARD_PAUSE: Duration = Duration::from_millis(200);

#[derive(Debug, thiserror::Error)]
pub enum FreezeError {
    #[error("cannot start the process that would thaw if this one could not")]
    NoGuard(#[source] io::Error),
    #[error("the process that would thaw if this one could not has ended; another is being started")]
    GuardEnded,
    #[error("the process that would thaw if this one could not does not answer")]
    Guard(#[source] io::Error),
    #[error("this agent has frozen its file systems already")]
    Already,
    #[error("{mark} says that file systems are frozen; if none should be, call `orglift-agent thaw`")]
    Marked { mark: PathBuf },
    #[error(transparent)]
    Mark(#[from] FileError),
    #[error("this program's log takes no lines; it must not be waiting while file systems are frozen")]
    OwnWrites,
    #[error("cannot open {mount_point} to freeze it")]
    Open {
        mount_point: PathBuf,
        #[source]
        source: io::Error,
    },
    #[error("cannot write out {mount_point}")]
    Sync {
        mount_point: PathBuf,
        #[source]
        source: io::Error,
    },
    #[error("{mount_point} is frozen already, by somebody else")]
    Busy { mount_point: PathBuf },
    #[error("cannot freeze {mount_point}")]
    Freeze {
        mount_point: PathBuf,
        #[source]
        source: io::Error,
    },
    #[error("freezing took longer than {} s", .0.as_secs_f32())]
    TooLong(Duration),
}

/// Freezes, and keeps a guard. One for each agent.
#[derive(Debug)]
pub struct Freezer {
    shared: Arc<Shared>,
    keeper: Option<(SyncSender<()>, JoinHandle<()>)>,
}

#[derive(Debug)]
struct Shared {
    program: GuardProgram,
    mark: PathBuf,
    guard: Mutex<Option<Arc<Guard>>>,
    closing: AtomicBool,
    /// Of the freeze under way.
    held: Mutex<Option<Arc<Held>>>,
}

/// What is frozen in this process, for the panic hook.
static ALL_HELD: Mutex<Vec<Arc<Held>>> = Mutex::new(Vec::new());

/// File systems that are frozen, or about to be, in the order of freezing.
#[derive(Debug, Default)]
struct Held {
    file_systems: Mutex<Vec<Arc<Target>>>,
    /// Somebody else thawed.
    broken: AtomicBool,
}

/// A file on a file system.
#[derive(Debug)]
struct Target {
    mount_point: PathBuf,
    kind: String,
    file: OwnedFd,
}

/// File systems are frozen. Dropping it thaws them.
#[derive(Debug)]
#[must_use = "dropping it thaws at once"]
pub struct Frozen {
    shared: Arc<Shared>,
    guard: Arc<Guard>,
    held: Arc<Held>,
    own_writes: Option<own_writes::Held>,
    written_out_only: Vec<String>,
    since: Instant,
    /// The mark is ours to remove.
    is_marked: bool,
    is_over: bool,
}

/// What became of a freeze.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Thawed {
    /// From the first freeze to the last thaw.
    pub held: Duration,
    /// Nobody thawed before we did. If not, what was read meanwhile is not of one instant.
    pub unbroken: bool,
}

impl Freezer {
    /// Starts the guard. `mark` is a file that tells the next agent what is frozen, should this one and its
    /// guard be killed.
    pub fn start(program: GuardProgram, mark: PathBuf) -> Result<Self, FreezeError> {
        let guard = Guard::start(&program).map_err(FreezeError::NoGuard)?;
        debug!("the guard is process {}", guard.pid);
        let shared = Arc::new(Shared {
            program,
            mark,
            guard: Mutex::new(Some(Arc::new(guard))),
            closing: AtomicBool::new(false),
            held: Mutex::new(None),
        });
        // Nothing is ever sent: its end is the message.
        let (close, closed) = sync_channel(0);
        let kept = shared.clone();
        let keeper = std::thread::spawn(move || kept.keep_guard(&closed));
        Ok(Self {
            shared,
            keeper: Some((close, keeper)),
        })
    }

    /// The guard's process, while there is one.
    pub fn guard_pid(&self) -> Option<u32> {
        lock(&self.shared.guard).as_ref().map(|guard| guard.pid)
    }

    /// Freezes every file system that can be written to, each for `longest` at most. One whose kind cannot be
    /// frozen is written out instead. If any other fails, all are thawed before this returns.
    ///
    /// Blocks for as long as it takes to write out what the server has in memory.
    pub fn freeze(&self, residents: &Residents, longest: Duration) -> Result<Frozen, FreezeError> {
        let guard = lock(&self.shared.guard).clone().ok_or(FreezeError::GuardEnded)?;
        let writable = residents.file_systems.iter().rev().filter(|fs| fs.writable);
        let targets = writable.map(open).collect::<Result<Vec<_>, _>>()?;
        // The first takes long, and much is written meanwhile. What is left after the second is written out while
        // everybody waits.
        for _ in 0..2 {
            targets.iter().try_for_each(|target| target.write_out())?;
        }
        let mut frozen = self.shared.begin(guard)?;
        let mount_points = targets.iter().rev().map(|target| target.mount_point.clone());
        frozen.mark(mount_points.collect())?;
        frozen.own_writes = Some(own_writes::hold(OWN_WRITES_MAX).ok_or(FreezeError::OwnWrites)?);
        let files: Vec<_> = targets.iter().map(|target| target.file.as_fd()).collect();
        frozen.told(frozen.guard.arm(&files, longest))?;
        frozen.since = Instant::now();
        for (index, target) in targets.iter().enumerate() {
            frozen.freeze_one(index, target)?;
            if frozen.since.elapsed() >= longest {
                return Err(FreezeError::TooLong(longest));
            }
        }
        Ok(frozen)
    }
}

impl Drop for Freezer {
    fn drop(&mut self) {
        self.shared.closing.store(true, Ordering::SeqCst);
        let Some((close, keeper)) = self.keeper.take() else {
            return;
        };
        drop(close);
        if let Some(guard) = lock(&self.shared.guard).clone() {
            guard.dismiss();
        }
        if keeper.join().is_err() {
            warn!("the thread that keeps the guard panicked");
        }
    }
}

impl Shared {
    fn begin(self: &Arc<Self>, guard: Arc<Guard>) -> Result<Frozen, FreezeError> {
        let mut slot = lock(&self.held);
        if slot.is_some() {
            return Err(FreezeError::Already);
        }
        let held = slot.insert(Arc::default()).clone();
        lock(&ALL_HELD).push(held.clone());
        Ok(Frozen {
            shared: self.clone(),
            guard,
            held,
            own_writes: None,
            written_out_only: Vec::new(),
            since: Instant::now(),
            is_marked: false,
            is_over: false,
        })
    }

    /// Thaws and starts another guard whenever one ends, until `closed`.
    fn keep_guard(&self, closed: &Receiver<()>) {
        loop {
            let guard = lock(&self.guard).clone();
            if let Some(guard) = guard {
                guard.wait_for_end();
                if self.closing.load(Ordering::SeqCst) {
                    return;
                }
                *lock(&self.guard) = None;
                if let Some(held) = &*lock(&self.held) {
                    held.break_off();
                }
                warn!("the guard, process {}, ended; starting another", guard.pid);
            }
            match Guard::start(&self.program) {
                Ok(guard) => *lock(&self.guard) = Some(Arc::new(guard)),
                Err(error) => warn!("{}", crate::cli::chain(&FreezeError::NoGuard(error))),
            }
            if closed.recv_timeout(GUARD_PAUSE) != Err(RecvTimeoutError::Timeout) {
                return;
            }
        }
    }
}

impl Held {
    /// Thaws the newest, `None` if there is none.
    fn thaw_next(&self) -> Option<(Arc<Target>, rustix::io::Result<bool>)> {
        let target = lock(&self.file_systems).pop()?;
        let outcome = fsfreeze::thaw(target.file.as_fd());
        Some((target, outcome))
    }

    /// Thaws everything, for somebody who does not read the disks.
    fn break_off(&self) {
        self.broken.store(true, Ordering::SeqCst);
        while self.thaw_next().is_some() {}
    }

    fn is_broken(&self) -> bool {
        self.broken.load(Ordering::SeqCst)
    }
}

impl Frozen {
    /// File systems that were written out only, since their kind cannot be frozen.
    pub fn not_frozen(&self) -> &[String] {
        &self.written_out_only
    }

    /// When the first was frozen.
    pub fn since(&self) -> Instant {
        self.since
    }

    /// Thaws, and says whether it was a freeze until now.
    pub fn thaw(mut self) -> Thawed {
        self.end()
    }

    /// Two agents must not take each other's mark away, nor one that of file systems that did not thaw.
    fn mark(&mut self, mount_points: Vec<PathBuf>) -> Result<(), FreezeError> {
        let mark = self.shared.mark.clone();
        if mark.exists() {
            return Err(FreezeError::Marked { mark });
        }
        self.is_marked = true;
        Ok(mark::write(&mark, mount_points)?)
    }

    fn freeze_one(&mut self, index: usize, target: &Arc<Target>) -> Result<(), FreezeError> {
        self.told(self.guard.freezing(index))?;
        lock(&self.held.file_systems).push(target.clone());
        let outcome = fsfreeze::freeze(target.file.as_fd());
        if self.held.is_broken() {
            // It may have been too early for the other's call.
            let _thawed = fsfreeze::thaw(target.file.as_fd());
            return Err(FreezeError::GuardEnded);
        }
        let Err(errno) = outcome else {
            return Ok(());
        };
        // Not ours to thaw.
        lock(&self.held.file_systems).pop();
        self.told(self.guard.not_frozen(index))?;
        let mount_point = target.mount_point.clone();
        match errno {
            Errno::OPNOTSUPP => {
                self.written_out_only
                    .push(format!("{} ({})", mount_point.display(), target.kind));
                target.write_out()
            }
            Errno::BUSY => Err(FreezeError::Busy { mount_point }),
            errno => Err(FreezeError::Freeze {
                mount_point,
                source: errno.into(),
            }),
        }
    }

    /// A guard that misses one message cannot be relied upon for the next.
    fn told<T>(&self, outcome: io::Result<T>) -> Result<T, FreezeError> {
        outcome.map_err(|error| {
            self.guard.kill();
            FreezeError::Guard(error)
        })
    }

    fn end(&mut self) -> Thawed {
        self.is_over = true;
        let mut troubles = Vec::new();
        let mut unbroken = true;
        while let Some((target, outcome)) = self.held.thaw_next() {
            match outcome {
                Ok(was_frozen) => unbroken &= was_frozen,
                Err(errno) => troubles.push((target, errno)),
            }
        }
        let held = self.since.elapsed();
        unbroken &= !self.held.is_broken();
        self.own_writes = None;
        for (target, errno) in &troubles {
            warn!(
                "cannot thaw {}: {errno}; call `orglift-agent thaw` when its disk works again",
                target.mount_point.display()
            );
        }
        if troubles.is_empty() {
            if self.is_marked {
                mark::remove(&self.shared.mark);
            }
            unbroken &= self.told(self.guard.disarm()).unwrap_or(false);
        } else {
            // Goes on trying for a while.
            self.guard.dismiss();
        }
        lock(&ALL_HELD).retain(|held| !Arc::ptr_eq(held, &self.held));
        *lock(&self.shared.held) = None;
        Thawed {
            held,
            unbroken: unbroken && troubles.is_empty(),
        }
    }
}

impl Drop for Frozen {
    fn drop(&mut self) {
        if !self.is_over {
            self.end();
        }
    }
}

impl Target {
    fn write_out(&self) -> Result<(), FreezeError> {
        rustix::fs::syncfs(&self.file).map_err(|errno| FreezeError::Sync {
            mount_point: self.mount_point.clone(),
            source: errno.into(),
        })
    }
}

/// Makes a panic thaw before it is reported: its message may go to a file on a file system that is frozen.
pub fn thaw_on_panic() {
    let before = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |info| {
        // Held for a few lines that do not panic.
        let all: Vec<_> = lock(&ALL_HELD).clone();
        for held in all {
            held.break_off();
        }
        before(info);
    }));
}

/// Opens a file on a file system, at the first place that leads to it.
fn open(file_system: &FileSystem) -> Result<Arc<Target>, FreezeError> {
    let mut outcome = Err(io::ErrorKind::NotFound.into());
    for place in &file_system.places {
        outcome = open_place(place);
        if outcome.is_ok() {
            break;
        }
    }
    let file = outcome.map_err(|source| FreezeError::Open {
        mount_point: file_system.mount_point.clone(),
        source,
    })?;
    Ok(Arc::new(Target {
        mount_point: file_system.mount_point.clone(),
        kind: file_system.kind.clone(),
        file,
    }))
}

fn open_place(place: &Place) -> io::Result<OwnedFd> {
    let metadata = fs::symlink_metadata(&place.path)?;
    // A mount may show a single file; to open a device or a pipe would do something.
    if !metadata.is_dir() && !metadata.is_file() {
        return Err(io::ErrorKind::InvalidInput.into());
    }
    let file = rustix::fs::open(&place.path, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty())?;
    let fdinfo = fs::read_to_string(format!("/proc/self/fdinfo/{}", file.as_raw_fd()))?;
    let mount_id = fdinfo.lines().find_map(|line| line.strip_prefix("mnt_id:"));
    if mount_id.and_then(|id| id.trim().parse().ok()) == Some(place.mount_id) {
        Ok(file)
    } else {
        Err(io::Error::other("another file system is mounted over it"))
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

//! The system calls of the tracker: bpf(2), `perf_event_open`(2) and a mapping. All its `unsafe` is here.
//!
//! The structures are those of `linux/bpf.h` and `linux/perf_event.h`, as far as they are filled. The kernel
//! takes a structure that is shorter than its own, or longer if the rest is zeros.

use std::{
    io,
    os::fd::{AsRawFd, FromRawFd, OwnedFd},
    sync::atomic::AtomicU64,
};

const MAP_CREATE: libc::c_long = 0;
const MAP_LOOKUP_ELEM: libc::c_long = 1;
const MAP_UPDATE_ELEM: libc::c_long = 2;
const MAP_DELETE_ELEM: libc::c_long = 3;
const PROG_LOAD: libc::c_long = 5;
const OBJ_GET_INFO_BY_FD: libc::c_long = 15;

const PROG_TYPE_TRACEPOINT: u32 = 5;
const MMAPABLE: u32 = 1 << 10;
/// Inner maps of one outer map may differ in their number of elements (Linux 5.10).
const INNER_MAP: u32 = 1 << 12;

/// Linux counts the runs of a tracepoint's program that it left out in its `bpf_prog_info` since 6.7.
const COUNTS_MISSES_SINCE: (u32, u32) = (6, 7);

fn bpf<T>(command: libc::c_long, attributes: &mut T) -> io::Result<i64> {
    // SAFETY: `attributes` is one of the structures below, of the size given, and the pointers in it are to memory
    // that its maker keeps alive over this call.
    let outcome = unsafe { libc::syscall(libc::SYS_bpf, command, attributes, size_of::<T>()) };
    if outcome < 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(outcome)
}

fn owned(fd: i64) -> OwnedFd {
    let fd = i32::try_from(fd).expect("the kernel gives a descriptor");
    // SAFETY: the kernel has just made this descriptor for us.
    unsafe { OwnedFd::from_raw_fd(fd) }
}

/// As it stands in the fields of a structure.
fn raw(fd: &impl AsRawFd) -> u32 {
    fd.as_raw_fd().cast_unsigned()
}

/// A BPF map.
#[derive(Debug)]
pub struct Map {
    fd: OwnedFd,
    len: usize,
}

#[repr(C)]
#[derive(Default)]
struct MapCreate {
    kind: u32,
    key_size: u32,
    value_size: u32,
    max_entries: u32,
    flags: u32,
    inner_map_fd: u32,
    numa_node: u32,
    name: [u8; 16],
}

#[repr(C)]
struct Element {
    map_fd: u32,
    _pad: u32,
    key: *const u32,
    value: *mut u32,
    flags: u64,
}

impl Map {
    /// `BPF_MAP_TYPE_HASH` from a number to a number.
    pub fn hash(entries: u32) -> io::Result<Self> {
        Self::create(&MapCreate {
            kind: 1,
            value_size: 4,
            max_entries: entries,
            ..MapCreate::default()
        })
    }

    /// `BPF_MAP_TYPE_ARRAY` of `entries` values of `words` 64-bit words each, which [`Map::words`] shows.
    pub fn array(entries: u32, words: u32) -> io::Result<Self> {
        Self::create(&MapCreate {
            kind: 2,
            value_size: words * 8,
            max_entries: entries,
            flags: MMAPABLE,
            ..MapCreate::default()
        })
    }

    /// An array of words that can be put into an [`Map::array_of_maps`].
    pub fn inner_array(words: u32) -> io::Result<Self> {
        Self::create(&MapCreate {
            kind: 2,
            value_size: 8,
            max_entries: words,
            flags: MMAPABLE | INNER_MAP,
            ..MapCreate::default()
        })
    }

    /// `BPF_MAP_TYPE_ARRAY_OF_MAPS`, of maps made by [`Map::inner_array`].
    pub fn array_of_maps(entries: u32, like: &Self) -> io::Result<Self> {
        Self::create(&MapCreate {
            kind: 12,
            value_size: 4,
            max_entries: entries,
            inner_map_fd: raw(&like.fd),
            ..MapCreate::default()
        })
    }

    fn create(attributes: &MapCreate) -> io::Result<Self> {
        let mut attributes = MapCreate {
            key_size: 4,
            name: *b"orglift\0\0\0\0\0\0\0\0\0",
            ..*attributes
        };
        let len = attributes.max_entries as usize * attributes.value_size as usize;
        Ok(Self {
            fd: owned(bpf(MAP_CREATE, &mut attributes)?),
            len,
        })
    }

    pub fn fd(&self) -> i32 {
        self.fd.as_raw_fd()
    }

    /// The kernel's own number of this map, which no other map has had since the start of the machine.
    pub fn id(&self) -> io::Result<u32> {
        Ok(object_info(&self.fd)?.id)
    }

    /// What the map holds for `key`: of an array of maps, the number of the inner map.
    pub fn get(&self, key: u32) -> io::Result<u32> {
        let mut value = 0;
        self.element(MAP_LOOKUP_ELEM, key, &raw mut value)?;
        Ok(value)
    }

    pub fn set(&self, key: u32, mut value: u32) -> io::Result<()> {
        self.element(MAP_UPDATE_ELEM, key, &raw mut value)
    }

    /// Puts an inner map into its place. On return no program still uses the one that was there: for maps of maps
    /// the kernel waits until every program has ended that was running, by `synchronize_rcu` in
    /// `maybe_wait_bpf_programs` (since Linux 4.20; read in 5.4, 6.1, 6.12 and in the list's patches of 2025).
    pub fn set_inner(&self, key: u32, inner: &Self) -> io::Result<()> {
        self.set(key, raw(&inner.fd))
    }

    pub fn remove(&self, key: u32) -> io::Result<()> {
        self.element(MAP_DELETE_ELEM, key, std::ptr::null_mut())
    }

    fn element(&self, command: libc::c_long, key: u32, value: *mut u32) -> io::Result<()> {
        let mut attributes = Element {
            map_fd: raw(&self.fd),
            _pad: 0,
            key: &raw const key,
            value,
            flags: 0,
        };
        bpf(command, &mut attributes).map(drop)
    }

    /// Shows an array as the programs see it.
    pub fn words(&self) -> io::Result<Words> {
        // SAFETY: a new mapping at a place that the kernel chooses; nothing of ours is replaced.
        let start = unsafe {
            libc::mmap(
                std::ptr::null_mut(),
                self.len,
                libc::PROT_READ | libc::PROT_WRITE,
                libc::MAP_SHARED,
                self.fd.as_raw_fd(),
                0,
            )
        };
        if start == libc::MAP_FAILED {
            return Err(io::Error::last_os_error());
        }
        Ok(Words {
            start: start.cast(),
            len: self.len / 8,
        })
    }
}

/// The elements of an array, shared with the programs in the kernel.
#[derive(Debug)]
pub struct Words {
    start: *const AtomicU64,
    len: usize,
}

// SAFETY: the memory belongs to no thread, and is only reached through atomic operations.
unsafe impl Send for Words {}
unsafe impl Sync for Words {}

impl std::ops::Deref for Words {
    type Target = [AtomicU64];

    fn deref(&self) -> &[AtomicU64] {
        // SAFETY: mapped in `Map::words` for as long as `self` lives, page aligned, of this length.
        unsafe { std::slice::from_raw_parts(self.start, self.len) }
    }
}

impl Drop for Words {
    fn drop(&mut self) {
        // SAFETY: the mapping is ours, and nobody can hold a reference into it any longer.
        unsafe { libc::munmap(self.start.cast_mut().cast(), self.len * 8) };
    }
}

#[repr(C)]
struct ProgLoad {
    kind: u32,
    instructions: u32,
    code: *const u64,
    licence: *const u8,
    log_level: u32,
    log_size: u32,
    log: *mut u8,
    kernel_version: u32,
    flags: u32,
    name: [u8; 16],
}

/// A loaded program.
#[derive(Debug)]
pub struct Program {
    fd: OwnedFd,
    id: u32,
}

/// Why the kernel did not take a program.
#[derive(Debug, thiserror::Error)]
#[error("the kernel refused a program: {source}{}", verdict(.log))]
pub struct Refused {
    #[source]
    pub source: io::Error,
    pub log: String,
}

/// The line of the verifier's log that says what was wrong.
fn verdict(log: &str) -> String {
    log.lines()
        .rfind(|line| !line.starts_with("processed "))
        .map_or_else(String::new, |line| format!(" ({})", line.trim()))
}

impl Program {
    /// Loads a program for tracepoints.
    pub fn load(code: &[u64]) -> Result<Self, Refused> {
        let load = |log: &mut [u8]| {
            let mut attributes = ProgLoad {
                kind: PROG_TYPE_TRACEPOINT,
                instructions: u32::try_from(code.len()).unwrap_or(u32::MAX),
                code: code.as_ptr(),
                // No helper that is called asks for the GPL.
                licence: c"Apache-2.0".as_ptr().cast(),
                log_level: u32::from(!log.is_empty()),
                log_size: u32::try_from(log.len()).unwrap_or(0),
                log: if log.is_empty() {
                    std::ptr::null_mut()
                } else {
                    log.as_mut_ptr()
                },
                kernel_version: 0,
                flags: 0,
                name: *b"orglift\0\0\0\0\0\0\0\0\0",
            };
            bpf(PROG_LOAD, &mut attributes).map(owned)
        };
        let refused = |source, log| Refused { source, log };
        let fd = load(&mut []).map_err(|source| {
            // Once more, to be told why. The log may be longer; its end is then lost, and so is the verdict.
            let mut log = vec![0; 1 << 20];
            let _again = load(&mut log);
            let end = log.iter().position(|byte| *byte == 0).unwrap_or(0);
            refused(source, String::from_utf8_lossy(&log[..end]).into_owned())
        })?;
        let info = object_info(&fd).map_err(|source| refused(source, String::new()))?;
        Ok(Self { fd, id: info.id })
    }

    /// How many times the kernel left the program out because another was running on the same processor. `None` on
    /// kernels that do not count it.
    pub fn misses(&self) -> Option<u64> {
        kernel_is_at_least(COUNTS_MISSES_SINCE).then(|| object_info(&self.fd).ok().map(|info| info.misses))?
    }

    /// Runs the program at every passing of the tracepoint `event`, on all processors, until the attachment is
    /// dropped.
    pub fn attach(&self, event: u64, processor: i32) -> io::Result<Attachment> {
        const TYPE_TRACEPOINT: u32 = 2;
        const CLOSE_ON_EXEC: libc::c_ulong = 8;
        let attributes = PerfEventAttr {
            kind: TYPE_TRACEPOINT,
            size: u32::try_from(size_of::<PerfEventAttr>()).unwrap_or(0),
            config: event,
            ..PerfEventAttr::default()
        };
        // SAFETY: the structure is of the size it says, and outlives the call.
        let fd = unsafe {
            libc::syscall(
                libc::SYS_perf_event_open,
                &raw const attributes,
                -1,
                processor,
                -1,
                CLOSE_ON_EXEC,
            )
        };
        if fd < 0 {
            return Err(io::Error::last_os_error());
        }
        let attachment = Attachment {
            event: owned(fd),
            program: self.id,
        };
        attachment.ioctl(SET_BPF, self.fd.as_raw_fd())?;
        attachment.ioctl(ENABLE, 0)?;
        Ok(attachment)
    }
}

pub(super) fn kernel_is_at_least(wanted: (u32, u32)) -> bool {
    let release = rustix::system::uname().release().to_string_lossy().into_owned();
    let mut numbers = release.split(|c: char| !c.is_ascii_digit()).map(str::parse);
    matches!((numbers.next(), numbers.next()), (Some(Ok(major)), Some(Ok(minor))) if (major, minor) >= wanted)
}

#[repr(C)]
#[derive(Default)]
struct PerfEventAttr {
    kind: u32,
    size: u32,
    config: u64,
    sample_period: u64,
    sample_type: u64,
    read_format: u64,
    flags: u64,
    wakeup_events: u32,
    breakpoint_type: u32,
    config1: u64,
}

const ENABLE: libc::c_ulong = 0x2400;
const SET_BPF: libc::c_ulong = 0x4004_2408;
const QUERY_BPF: libc::c_ulong = 0xc008_240a;

/// The tie between a program and a tracepoint; the kernel undoes it when this is dropped.
#[derive(Debug)]
pub struct Attachment {
    event: OwnedFd,
    program: u32,
}

impl Attachment {
    fn ioctl(&self, request: libc::c_ulong, argument: i32) -> io::Result<()> {
        // SAFETY: these requests take a number.
        if unsafe { libc::ioctl(self.event.as_raw_fd(), request as _, argument) } < 0 {
            return Err(io::Error::last_os_error());
        }
        Ok(())
    }

    /// Whether the program is still in the tracepoint's list.
    pub fn holds(&self) -> bool {
        /// The kernel lets no more programs into one list (`BPF_TRACE_MAX_PROGS`).
        const MOST: u32 = 64;
        #[repr(C)]
        struct Query {
            room: u32,
            count: u32,
            ids: [u32; MOST as usize],
        }
        let mut query = Query {
            room: MOST,
            count: 0,
            ids: [0; MOST as usize],
        };
        // SAFETY: the kernel writes at most `room` numbers behind the two of the head.
        let outcome = unsafe { libc::ioctl(self.event.as_raw_fd(), QUERY_BPF as _, &raw mut query) };
        let count = query.count.min(MOST) as usize;
        outcome == 0 && query.ids[..count].contains(&self.program)
    }

    #[cfg(test)]
    pub fn event(&self) -> i32 {
        self.event.as_raw_fd()
    }
}

/// The beginning of `bpf_map_info` and of `bpf_prog_info`.
#[repr(C)]
#[derive(Default)]
struct ObjectInfo {
    kind: u32,
    id: u32,
    _rest: [u64; 25],
    /// Of programs, since Linux 5.12: `recursion_misses`.
    misses: u64,
}

fn object_info(fd: &OwnedFd) -> io::Result<ObjectInfo> {
    #[repr(C)]
    struct Attributes {
        fd: u32,
        len: u32,
        info: *mut ObjectInfo,
    }
    let mut info = ObjectInfo::default();
    let mut attributes = Attributes {
        fd: raw(fd),
        len: u32::try_from(size_of::<ObjectInfo>()).unwrap_or(0),
        info: &raw mut info,
    };
    bpf(OBJ_GET_INFO_BY_FD, &mut attributes)?;
    Ok(info)
}

/// Lets maps be as large as they must be: before Linux 5.11 their memory counts as locked.
pub fn lift_memory_limit() {
    let unlimited = rustix::process::Rlimit {
        current: None,
        maximum: None,
    };
    // Where it is not allowed and matters, making a map fails, and that is told.
    let _lifted = rustix::process::setrlimit(rustix::process::Resource::Memlock, unlimited);
}

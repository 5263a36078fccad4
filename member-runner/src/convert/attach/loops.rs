//! Volumes as loop devices, by their place on the disk: a kernel may have been built without partition tables, or be
//! asked not to scan what is hostile.
//!
//! A device is told of its file, of the place and to detach itself in one call: there is no moment in which a kill
//! leaves it. It detaches when its last user is gone, be it unmounted, closed or killed.

use std::{
    fs, io,
    os::fd::AsRawFd,
    path::{Path, PathBuf},
};

use linux_raw_sys::loop_device::{
    LO_FLAGS_AUTOCLEAR, LO_FLAGS_DIRECT_IO, LOOP_CONFIGURE, LOOP_CTL_GET_FREE, loop_config,
};
use rustix::{
    io::Errno,
    ioctl::{Ioctl, IoctlOutput, Opcode, Setter, ioctl},
};

const CONTROL: &str = "/dev/loop-control";
/// Others may take the free device before us; so many in a row do not.
const ATTEMPTS: usize = 64;

/// Attached for as long as this exists, or something is mounted from it.
#[derive(Debug)]
pub struct LoopDevice {
    path: PathBuf,
    _open: fs::File,
}

#[derive(Debug, thiserror::Error)]
pub enum LoopError {
    #[error("cannot find a free loop device")]
    Free(#[source] io::Error),
    #[error("cannot open {path}")]
    Open {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    #[error("cannot attach {bytes} bytes of {file} from {start} on to {device}")]
    Attach {
        device: PathBuf,
        file: PathBuf,
        start: u64,
        bytes: u64,
        #[source]
        source: io::Error,
    },
}

impl LoopDevice {
    /// The `bytes` of `file` from `start` on.
    pub fn attach(file: &Path, start: u64, bytes: u64) -> Result<Self, LoopError> {
        let disk = open(file)?;
        let control = open(Path::new(CONTROL))?;
        for _ in 0..ATTEMPTS {
            // SAFETY: it takes no argument, and answers a number.
            let free = unsafe { ioctl(&control, GetFree) }.map_err(|error| LoopError::Free(error.into()))?;
            let path = PathBuf::from(format!("/dev/loop{free}"));
            let device = open(&path)?;
            match configure(&device, &disk, start, bytes) {
                Ok(()) => return Ok(Self { path, _open: device }),
                Err(Errno::BUSY) => {}
                Err(error) => {
                    return Err(LoopError::Attach {
                        device: path,
                        file: file.to_owned(),
                        start,
                        bytes,
                        source: error.into(),
                    });
                }
            }
        }
        Err(LoopError::Free(Errno::BUSY.into()))
    }

    pub fn path(&self) -> &Path {
        &self.path
    }
}

fn open(path: &Path) -> Result<fs::File, LoopError> {
    let opened = fs::File::options().read(true).write(true).open(path);
    opened.map_err(|source| LoopError::Open {
        path: path.to_owned(),
        source,
    })
}

fn configure(device: &fs::File, disk: &fs::File, start: u64, bytes: u64) -> rustix::io::Result<()> {
    // SAFETY: the structure is of integers only, and zeros are its defaults.
    let mut config: loop_config = unsafe { std::mem::zeroed() };
    config.fd = disk.as_raw_fd().cast_unsigned();
    config.info.lo_offset = start;
    config.info.lo_sizelimit = bytes;
    // The file is not cached either, and the loop device sends it several requests at once.
    config.info.lo_flags = LO_FLAGS_AUTOCLEAR as u32 | LO_FLAGS_DIRECT_IO as u32;
    // SAFETY: this is the structure that the call reads, since Linux 5.8.
    unsafe {
        ioctl(
            device,
            Setter::<{ LOOP_CONFIGURE as Opcode }, loop_config>::new(config),
        )
    }
}

/// Asks for the number of a device that nobody uses, which is made if there is none.
struct GetFree;

// SAFETY: the call takes nothing and gives its answer as its result.
unsafe impl Ioctl for GetFree {
    type Output = u32;
    const IS_MUTATING: bool = false;

    fn opcode(&self) -> Opcode {
        LOOP_CTL_GET_FREE as Opcode
    }

    fn as_ptr(&mut self) -> *mut std::ffi::c_void {
        std::ptr::null_mut()
    }

    unsafe fn output_from_ptr(answer: IoctlOutput, _: *mut std::ffi::c_void) -> rustix::io::Result<u32> {
        u32::try_from(answer).map_err(|_| Errno::INVAL)
    }
}

//! The files that QEMU is given, open.

use std::{
    fs::File,
    io::{self, Write},
    os::fd::{AsFd, AsRawFd, BorrowedFd, RawFd},
    path::{Path, PathBuf},
};

use rustix::fs::{MemfdFlags, memfd_create};

use super::{Firmware, MachineError, Plan, Writes};

/// In the order of preference: Debian has had the smaller one until 2024, Fedora names it otherwise.
const UEFI: [(&str, &str); 3] = [
    (
        "/usr/share/OVMF/OVMF_CODE_4M.fd",
        "/usr/share/OVMF/OVMF_VARS_4M.fd",
    ),
    ("/usr/share/OVMF/OVMF_CODE.fd", "/usr/share/OVMF/OVMF_VARS.fd"),
    (
        "/usr/share/edk2/ovmf/OVMF_CODE.fd",
        "/usr/share/edk2/ovmf/OVMF_VARS.fd",
    ),
];

#[derive(Debug)]
pub struct MachineFiles {
    pub disks: Vec<File>,
    pub uefi: Option<Uefi>,
    pub screen: Screen,
}

/// Code that everybody shares, and a copy of the variables.
#[derive(Debug)]
pub struct Uefi {
    pub code: File,
    pub variables: File,
}

/// Memory that QEMU draws a screenshot in, and we read.
#[derive(Debug)]
pub struct Screen {
    pub seen: File,
    /// QEMU takes a file for a screenshot only if it is open for writing and not for reading.
    pub drawn: File,
}

impl MachineFiles {
    pub fn open(plan: &Plan) -> Result<Self, MachineError> {
        let disks = plan.disks.iter().map(|disk| {
            File::options()
                .read(true)
                .write(disk.writes == Writes::Kept)
                .open(&disk.file)
                .map_err(fault("open", &disk.file))
        });
        let disks = disks.collect::<Result<_, _>>()?;
        let uefi = match plan.firmware {
            Firmware::Bios => None,
            Firmware::Uefi => Some(Uefi::find()?),
        };
        let screen = Screen::new().map_err(fault("make", Path::new("memory for a screenshot")))?;
        Ok(Self { disks, uefi, screen })
    }

    /// What QEMU goes on holding.
    pub fn inherited(&self, monitor: &impl AsRawFd) -> Vec<RawFd> {
        let uefi = self.uefi.iter().flat_map(|uefi| [&uefi.code, &uefi.variables]);
        let files = self.disks.iter().chain(uefi).chain([&self.screen.drawn]);
        files
            .map(AsRawFd::as_raw_fd)
            .chain([monitor.as_raw_fd()])
            .collect()
    }
}

impl Uefi {
    fn find() -> Result<Self, MachineError> {
        let found = UEFI
            .iter()
            .find(|(code, variables)| Path::new(code).exists() && Path::new(variables).exists());
        let (code, variables) = found.ok_or(MachineError::NoUefi)?;
        let factory = std::fs::read(variables).map_err(fault("read", Path::new(variables)))?;
        let own = memory_with(&factory).map_err(fault("copy", Path::new(variables)))?;
        Ok(Self {
            code: File::open(code).map_err(fault("open", Path::new(code)))?,
            variables: own,
        })
    }
}

impl Screen {
    fn new() -> io::Result<Self> {
        let seen = memory_with(&[])?;
        let drawn = File::options().write(true).open(path_of(seen.as_fd()))?;
        Ok(Self { seen, drawn })
    }
}

/// A file without a name, in memory.
pub fn memory_with(contents: &[u8]) -> io::Result<File> {
    let mut file = File::from(memfd_create("orglift-machine", MemfdFlags::CLOEXEC)?);
    file.write_all(contents)?;
    Ok(file)
}

/// A name by which this process, or one that inherits the file, opens it anew.
pub fn path_of(file: BorrowedFd<'_>) -> PathBuf {
    PathBuf::from(format!("/proc/self/fd/{}", file.as_raw_fd()))
}

fn fault(verb: &'static str, path: &Path) -> impl FnOnce(io::Error) -> MachineError {
    let path = path.to_owned();
    move |source| MachineError::File { verb, path, source }
}

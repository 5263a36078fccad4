//! The two calls that freeze and thaw a file system, `ioctl_fsfreeze(2)`, by any file on it.

use std::os::fd::BorrowedFd;

use rustix::{
    io::{Errno, Result},
    ioctl::{NoArg, Opcode, ioctl, opcode},
};

const FIFREEZE: Opcode = opcode::read_write::<libc::c_int>(b'X', 119);
const FITHAW: Opcode = opcode::read_write::<libc::c_int>(b'X', 120);

/// Waits for writes that are under way, writes everything out, and lets nobody write until it is thawed.
/// `OPNOTSUPP`: this kind of file system cannot do it. `BUSY`: somebody else has frozen it.
pub fn freeze(file: BorrowedFd<'_>) -> Result<()> {
    // SAFETY: the call takes no argument, whatever its number says.
    unsafe { ioctl(file, NoArg::<FIFREEZE>::new()) }
}

/// `Ok(false)`: it was not frozen.
pub fn thaw(file: BorrowedFd<'_>) -> Result<bool> {
    // SAFETY: the call takes no argument, whatever its number says.
    match unsafe { ioctl(file, NoArg::<FITHAW>::new()) } {
        Ok(()) => Ok(true),
        Err(Errno::INVAL) => Ok(false),
        Err(error) => Err(error),
    }
}

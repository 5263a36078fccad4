//! QEMU as a process: with less rights than we have, and never longer than we live.

use std::{
    io,
    os::{
        fd::{BorrowedFd, RawFd},
        unix::fs::MetadataExt,
    },
    process::Stdio,
};

use rustix::{
    io::{Errno, FdFlags},
    process::{Signal, geteuid, getppid, set_parent_process_death_signal},
    thread::set_no_new_privs,
};
use tokio::process::{Child, Command};

use super::MachineError;

pub const PROGRAM: &str = "qemu-system-x86_64";
/// `nobody`, the same on every Linux; the kernel itself gives this number to users that it cannot name.
const NOBODY: u32 = 65534;

/// Starts QEMU with `arguments`, the files `inherited`, and nothing of our environment.
pub fn spawn(arguments: &[String], inherited: &[RawFd]) -> Result<Child, MachineError> {
    let mut command = Command::new(PROGRAM);
    command
        .args(arguments)
        .env_clear()
        .env("PATH", std::env::var_os("PATH").unwrap_or_default())
        .current_dir("/")
        // Ctrl-C is for us, who then end the machine in order.
        .process_group(0)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true);
    if geteuid().is_root() {
        command.uid(NOBODY).gid(group());
    }
    let (own_id, inherited) = (std::process::id(), inherited.to_vec());
    // SAFETY: between fork and exec the closure makes system calls, and allocates nothing; the caller holds the files
    // open until the exec, for which `spawn` waits.
    unsafe {
        command.pre_exec(move || {
            set_no_new_privs(true)?;
            set_parent_process_death_signal(Some(Signal::KILL))?;
            // If we died before, no signal comes any more.
            let parent = getppid().map_or(0, |id| id.as_raw_nonzero().get());
            if u32::try_from(parent) != Ok(own_id) {
                return Err(Errno::SRCH.into());
            }
            for file in &inherited {
                rustix::io::fcntl_setfd(BorrowedFd::borrow_raw(*file), FdFlags::empty())?;
            }
            Ok(())
        });
    }
    command.spawn().map_err(|error| match error.kind() {
        io::ErrorKind::NotFound => MachineError::NoQemu,
        _ => MachineError::Process("start", error),
    })
}

/// The group whose members may use KVM, where there is one.
fn group() -> u32 {
    let kvm = std::fs::metadata("/dev/kvm").map_or(NOBODY, |device| device.gid());
    if kvm == 0 { NOBODY } else { kvm }
}

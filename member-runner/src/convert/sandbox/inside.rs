//! Process 1 of a sandbox: `orglift-runner in-sandbox`, which `unshare(1)` starts in new namespaces.
//!
//! It has every capability in a user namespace where nothing outside can be reached by them. It builds the file tree,
//! gives up what the program must not have, starts it, and ends with it. It changes nothing of the guest's.

mod files;

use std::{
    fs,
    io::{self, BufRead, Read, Write},
    os::{
        fd::{AsFd, FromRawFd, OwnedFd, RawFd},
        unix::process::ExitStatusExt,
    },
    process::{Command, ExitCode, ExitStatus, Stdio},
    thread,
};

use anyhow::Context;
use rustix::{
    fs::Mode,
    process::{Resource, Rlimit, getrlimit, setrlimit, umask},
    thread::{
        CapabilitySet, CapabilitySets, capabilities, capability_is_in_bounding_set,
        clear_ambient_capability_set, remove_capability_from_bounding_set, set_capabilities,
        set_no_new_privs, set_thread_groups,
    },
};

use super::Order;

/// The command of `orglift-runner` that is for [`super::Sandbox`] only.
pub const COMMAND: &str = "in-sandbox";
pub(super) const READY: &str = "ready";
pub(super) const STARTED: &str = "started";
/// A shell's word for a program that SIGKILL ended.
pub(super) const KILLED: i32 = 128 + 9;
/// A shell's word for a program that cannot be run.
const NOT_RUN: u8 = 127;

/// An order has a few hundred bytes, and for each device as many again.
const ORDER_MAX: u64 = 1 << 20;

/// All that update-initramfs, dracut and grub need of root: to read and to write whatever the guest has, to give
/// files their owners, and `ldconfig -r`, which changes its root. None counts outside the namespace.
const KEPT: CapabilitySet = CapabilitySet::CHOWN
    .union(CapabilitySet::DAC_OVERRIDE)
    .union(CapabilitySet::FOWNER)
    .union(CapabilitySet::FSETID)
    .union(CapabilitySet::SYS_CHROOT);

const ENVIRONMENT: [(&str, &str); 7] = [
    (
        "PATH",
        "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
    ),
    ("LC_ALL", "C"),
    ("HOME", "/root"),
    ("DEBIAN_FRONTEND", "noninteractive"),
    // Generators fill it with hundreds of MiB, which on the guest's disk would become blocks of its snapshot.
    ("TMPDIR", "/tmp"),
    // They leave times out of what they make, and the same files give the same initramfs. It is 2020-01-01.
    ("SOURCE_DATE_EPOCH", "1577836800"),
    // Without it, grub-mkconfig looks for systems on every disk that it sees.
    ("GRUB_DISABLE_OS_PROBER", "true"),
];

/// Runs to the end of the program, whose exit status is the answer.
pub fn main() -> ExitCode {
    match run() {
        Ok(status) => ExitCode::from(status),
        Err(error) => {
            // The sandbox takes it for its reason, if it is still there.
            drop(say(&format!("{error:#}")));
            ExitCode::FAILURE
        }
    }
}

fn run() -> anyhow::Result<u8> {
    say(READY)?;
    let order = read_order().context("cannot read the order")?;
    close_inherited_files().context("cannot close files of the runner")?;
    // A namespace inside this one would have every capability again, and more of the kernel to try them on.
    fs::write("/proc/sys/user/max_user_namespaces", "0").context("cannot forbid namespaces of users")?;
    files::enter(&order)?;
    rustix::system::sethostname(b"localhost").context("cannot set the name of the host")?;
    give_up_privileges().context("cannot give up privileges")?;
    limit_resources(&order).context("cannot limit resources")?;
    umask(Mode::WGRP | Mode::WOTH);
    // Whoever gave the order keeps its pipe open, and no one else has it: a conversion that dies ends the program.
    thread::spawn(|| {
        drop(io::copy(&mut io::stdin(), &mut io::sink()));
        std::process::exit(KILLED);
    });
    say(STARTED)?;
    Ok(run_program(&order).unwrap_or_else(|error| {
        drop(say(&format!("cannot run {}: {error}", order.program)));
        NOT_RUN
    }))
}

fn say(line: &str) -> io::Result<()> {
    let mut output = io::stdout().lock();
    writeln!(output, "{}", line.replace(char::is_control, " "))?;
    output.flush()
}

fn read_order() -> anyhow::Result<Order> {
    let mut line = String::new();
    io::stdin().lock().take(ORDER_MAX).read_line(&mut line)?;
    Ok(serde_json::from_str(&line)?)
}

/// Whatever started the runner may have left files open in it, which would be open in the guest's program as well.
/// Rust's own close when a program starts.
fn close_inherited_files() -> anyhow::Result<()> {
    const CLOSED_ON_EXEC: u32 = 0o2_000_000;
    let mut inherited = Vec::new();
    for entry in fs::read_dir("/proc/self/fdinfo")? {
        let entry = entry?;
        let number: RawFd = entry.file_name().to_string_lossy().parse()?;
        let info = fs::read_to_string(entry.path())?;
        let flags = info.lines().find_map(|line| line.strip_prefix("flags:"));
        let flags = u32::from_str_radix(flags.context("a file has no flags")?.trim(), 8)?;
        if number > 2 && flags & CLOSED_ON_EXEC == 0 {
            inherited.push(number);
        }
    }
    for number in inherited {
        // SAFETY: it is open, and nothing in this process knows of it: it was so at the start of its only thread.
        drop(unsafe { OwnedFd::from_raw_fd(number) });
    }
    Ok(())
}

/// For the program. This process keeps what it has itself, so that the program cannot trace it; it only waits.
fn give_up_privileges() -> rustix::io::Result<()> {
    set_thread_groups(&[])?;
    for number in 0..u64::BITS {
        let capability = CapabilitySet::from_bits_retain(1 << number);
        match capability_is_in_bounding_set(capability) {
            Ok(true) if !KEPT.contains(capability) => remove_capability_from_bounding_set(capability)?,
            Ok(_) => {}
            // The kernel knows no more of them.
            Err(_) => break,
        }
    }
    clear_ambient_capability_set()?;
    let own = capabilities(None)?;
    set_capabilities(
        None,
        CapabilitySets {
            inheritable: CapabilitySet::empty(),
            ..own
        },
    )?;
    set_no_new_privs(true)
}

fn limit_resources(order: &Order) -> rustix::io::Result<()> {
    for (resource, wanted) in [
        (Resource::As, order.memory_bytes),
        (Resource::Fsize, order.file_bytes),
        (Resource::Core, 0),
    ] {
        // None can be raised here.
        let most = getrlimit(resource)
            .maximum
            .map_or(wanted, |most| most.min(wanted));
        setrlimit(
            resource,
            Rlimit {
                current: Some(most),
                maximum: Some(most),
            },
        )?;
    }
    Ok(())
}

fn run_program(order: &Order) -> io::Result<u8> {
    let errors = io::stdout().as_fd().try_clone_to_owned()?;
    let status = Command::new(&order.program)
        .args(&order.args)
        .env_clear()
        .envs(ENVIRONMENT)
        .stdin(Stdio::null())
        .stderr(errors)
        .status()?;
    Ok(shell_status(status))
}

fn shell_status(status: ExitStatus) -> u8 {
    let status = status
        .code()
        .or_else(|| status.signal().map(|signal| 128 + signal))
        .unwrap_or(KILLED);
    // A status has eight bits, and signals go up to 64.
    u8::try_from(status).unwrap_or(u8::MAX)
}

//! What a connection tells of its path. All the doctor's `unsafe` is here.

use std::{io, mem::size_of, os::fd::AsRawFd};

use libc::c_int;

/// Bounds the segments of a connection that is not open yet, both those that it sends and those that it asks for.
pub fn set_segment(socket: &impl AsRawFd, bytes: u16) -> io::Result<()> {
    let value = c_int::from(bytes);
    // SAFETY: the kernel reads one integer, which lives as long as the call.
    let outcome = unsafe {
        libc::setsockopt(
            socket.as_raw_fd(),
            libc::IPPROTO_TCP,
            libc::TCP_MAXSEG,
            (&raw const value).cast(),
            INT_LEN,
        )
    };
    checked(outcome)
}

/// The longest packet that the kernel takes the path for, as far as it knows.
pub fn path_mtu(socket: &impl AsRawFd, is_ipv6: bool) -> io::Result<u32> {
    let (level, option) = if is_ipv6 {
        (libc::IPPROTO_IPV6, libc::IPV6_MTU)
    } else {
        (libc::IPPROTO_IP, libc::IP_MTU)
    };
    let (mut value, mut len) = (0, INT_LEN);
    // SAFETY: the kernel writes one integer at most, as `len` says.
    let outcome = unsafe {
        libc::getsockopt(
            socket.as_raw_fd(),
            level,
            option,
            (&raw mut value).cast(),
            &raw mut len,
        )
    };
    checked(outcome)?;
    let value: c_int = value;
    Ok(value.unsigned_abs())
}

/// Bytes that were written and that the other side's kernel has not acknowledged.
pub fn unacknowledged(socket: &impl AsRawFd) -> io::Result<u64> {
    let mut value: c_int = 0;
    // SAFETY: this request writes one integer.
    let outcome = unsafe { libc::ioctl(socket.as_raw_fd(), libc::TIOCOUTQ, &raw mut value) };
    checked(outcome)?;
    Ok(u64::from(value.unsigned_abs()))
}

#[allow(clippy::cast_possible_truncation, reason = "it is 4")]
const INT_LEN: libc::socklen_t = size_of::<c_int>() as libc::socklen_t;

fn checked(outcome: c_int) -> io::Result<()> {
    if outcome < 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(())
}

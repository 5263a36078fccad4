//! What is mounted in this namespace, as the kernel says.

use std::{
    ffi::OsString,
    fs, io,
    os::unix::ffi::OsStringExt,
    path::{Path, PathBuf},
};

use rustix::mount::{UnmountFlags, unmount};

/// Unmounts what is mounted at or below a folder, uppermost first.
pub fn unmount_below(dir: &Path, flags: UnmountFlags) -> io::Result<()> {
    for at in mount_points()?.iter().rev().filter(|at| at.starts_with(dir)) {
        unmount(at, flags | UnmountFlags::NOFOLLOW)?;
    }
    Ok(())
}

/// The mount points of the thread's namespace, in the order of mounting. Another thread may have another one.
fn mount_points() -> io::Result<Vec<PathBuf>> {
    let lines = fs::read("/proc/thread-self/mountinfo")?;
    Ok(lines.split(|byte| *byte == b'\n').filter_map(parse).collect())
}

/// The fifth field of a line, proc(5).
fn parse(line: &[u8]) -> Option<PathBuf> {
    let at = line.split(|byte| *byte == b' ').nth(4)?;
    Some(OsString::from_vec(unescaped(at)).into())
}

/// The kernel writes blanks, line ends and backslashes as three octal digits.
fn unescaped(field: &[u8]) -> Vec<u8> {
    let mut text = Vec::with_capacity(field.len());
    let mut rest = field;
    while let Some((first, after)) = rest.split_first() {
        let code = after.get(..3).and_then(|digits| std::str::from_utf8(digits).ok());
        match code.and_then(|digits| u8::from_str_radix(digits, 8).ok()) {
            Some(byte) if *first == b'\\' => {
                text.push(byte);
                rest = &after[3..];
            }
            _ => {
                text.push(*first);
                rest = after;
            }
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use std::os::unix::ffi::OsStrExt;

    use super::*;

    #[test]
    fn lines_of_mountinfo_are_read_with_their_escapes() {
        let line = br"36 35 0:42 / /mnt/a\040b\134c rw,nosuid shared:1 master:2 - fuse.orglift orglift rw";
        let found = parse(line).unwrap();
        assert_eq!(found.as_os_str().as_bytes(), br"/mnt/a b\c");
        assert_eq!(parse(b"36 35 0:42 /"), None);
        assert!(mount_points().unwrap().contains(&PathBuf::from("/")));
    }
}

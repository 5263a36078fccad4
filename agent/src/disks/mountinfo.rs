//! The table of mounts that the kernel shows to a process, `proc_pid_mountinfo(5)`.

use std::{ffi::OsString, os::unix::ffi::OsStringExt, path::PathBuf};

/// One line: a file system, or a part of one, at one place of the tree.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mount {
    /// Names this mount for as long as it is there.
    pub id: u64,
    /// The number of the block device below it, `254:1`, or `0:33` where the kernel made one up.
    pub number: String,
    pub point: PathBuf,
    /// `ext4`.
    pub kind: String,
    /// What was named to be mounted, `/dev/sda1`.
    pub source: String,
    /// Options of the file system itself, whichever those of this mount are.
    pub options: Vec<String>,
}

/// All mounts, in the order of the table: a later one covers an earlier one in the same place.
pub fn parse(table: &str) -> Vec<Mount> {
    table.lines().filter_map(Mount::parse).collect()
}

impl Mount {
    fn parse(line: &str) -> Option<Self> {
        let mut fields = line.split(' ');
        let id = fields.next()?.parse().ok()?;
        let number = fields.nth(1)?.to_owned();
        let point = unescape(fields.nth(1)?);
        // A few optional fields end with a dash.
        let mut fields = fields.skip_while(|field| *field != "-").skip(1);
        let kind = fields.next()?.to_owned();
        let source = unescape(fields.next()?).to_string_lossy().into_owned();
        let options = fields.next()?.split(',').map(str::to_owned).collect();
        Some(Self {
            id,
            number,
            point,
            kind,
            source,
            options,
        })
    }

    /// Whether the file system can be written to through any of its mounts.
    pub fn is_writable(&self) -> bool {
        self.options.iter().any(|option| option == "rw")
    }

    /// The value of `name=value` among the options.
    pub fn option(&self, name: &str) -> Option<&str> {
        self.options
            .iter()
            .find_map(|option| option.strip_prefix(name)?.strip_prefix('='))
    }
}

/// The kernel writes a blank, a tab, a line feed and a backslash as `\` and three octal digits.
pub fn unescape(field: &str) -> PathBuf {
    let bytes = field.as_bytes();
    let mut out = Vec::with_capacity(bytes.len());
    let mut at = 0;
    while at < bytes.len() {
        let escaped = (bytes[at] == b'\\')
            .then(|| field.get(at + 1..at + 4))
            .flatten()
            .and_then(|digits| u8::from_str_radix(digits, 8).ok());
        out.push(escaped.unwrap_or(bytes[at]));
        at += if escaped.is_some() { 4 } else { 1 };
    }
    OsString::from_vec(out).into()
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    #[test]
    fn a_line_is_read_with_and_without_optional_fields() {
        let table = "36 35 98:0 /mnt1 /a\\040b\\134c rw,noatime master:1 shared:7 - ext3 /dev/root ro,errors=continue\n\
                     37 35 0:33 /@ /home rw - btrfs /dev/sda2 rw,subvol=/@\n\
                     no mount at all\n";
        let mounts = parse(table);
        assert_eq!(mounts.len(), 2);
        assert_eq!((mounts[0].id, mounts[0].number.as_str()), (36, "98:0"));
        assert_eq!(mounts[0].point, Path::new("/a b\\c"));
        assert_eq!(
            (mounts[0].kind.as_str(), mounts[0].source.as_str()),
            ("ext3", "/dev/root")
        );
        assert!(!mounts[0].is_writable() && mounts[1].is_writable());
        assert_eq!(mounts[1].option("subvol"), Some("/@"));
        assert_eq!(mounts[1].option("sub"), None);
    }

    #[test]
    fn what_only_looks_escaped_stays() {
        for text in ["\\", "\\04", "\\0x0", "a\\999", "ü\\ü1"] {
            assert_eq!(unescape(text), Path::new(text));
        }
    }
}

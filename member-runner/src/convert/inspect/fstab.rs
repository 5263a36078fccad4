//! fstab(5): what a guest mounts when it starts.

use super::table::{BadLine, Field, entries};

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FstabEntry {
    /// Counted from 1.
    pub line: usize,
    /// As written, without escapes: `UUID=…`, `/dev/sda1`, `nas:/export`.
    pub spec: String,
    /// `/var`, `none` or `swap`.
    pub mount_point: String,
    pub fs_type: String,
    pub options: Vec<String>,
    pub dump: u32,
    pub pass: u32,
}

/// What an entry mounts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Spec<'a> {
    Uuid(&'a str),
    Label(&'a str),
    PartUuid(&'a str),
    PartLabel(&'a str),
    /// A name by where or what the hardware is, below `/dev/disk/by-path` or `/dev/disk/by-id`.
    Hardware(&'a str),
    /// What the kernel calls it today: `/dev/sda1`.
    Kernel(&'a str),
    /// A device-mapper name: `/dev/mapper/vg-root`, `/dev/vg/root`.
    Mapped(&'a str),
    Md(&'a str),
    Network(&'a str),
    /// No disk: tmpfs, a bind mount, a file, a CD drive.
    NoDisk,
}

const PSEUDO: [&str; 21] = [
    "proc",
    "sysfs",
    "tmpfs",
    "ramfs",
    "devpts",
    "devtmpfs",
    "cgroup",
    "cgroup2",
    "debugfs",
    "tracefs",
    "securityfs",
    "configfs",
    "fusectl",
    "mqueue",
    "hugetlbfs",
    "bpf",
    "efivarfs",
    "pstore",
    "binfmt_misc",
    "overlay",
    "none",
];
const NETWORK: [&str; 11] = [
    "nfs",
    "nfs4",
    "cifs",
    "smb3",
    "smbfs",
    "glusterfs",
    "ceph",
    "lustre",
    "afs",
    "fuse.sshfs",
    "9p",
];
const REMOVABLE: [&str; 5] = ["/dev/sr", "/dev/cdrom", "/dev/dvd", "/dev/fd", "/dev/floppy"];
const DISKS: [&str; 8] = [
    "/dev/sd",
    "/dev/hd",
    "/dev/vd",
    "/dev/xvd",
    "/dev/nvme",
    "/dev/mmcblk",
    "/dev/cciss/",
    "/dev/ida/",
];

impl FstabEntry {
    pub fn spec(&self) -> Spec<'_> {
        let spec = self.spec.as_str();
        if PSEUDO.contains(&self.fs_type.as_str()) || self.has("bind") || self.has("rbind") {
            return Spec::NoDisk;
        }
        if NETWORK.contains(&self.fs_type.as_str()) || spec.starts_with("//") || spec.contains(":/") {
            return Spec::Network(spec);
        }
        tagged(spec)
    }

    pub fn has(&self, option: &str) -> bool {
        self.options.iter().any(|found| found == option)
    }

    /// Whether a guest starts without it.
    pub fn is_optional(&self) -> bool {
        self.has("nofail") || self.has("noauto")
    }

    pub fn is_swap(&self) -> bool {
        self.fs_type == "swap"
    }
}

/// What a device is named by, in fstab, crypttab or on a kernel's command line.
pub fn tagged<'a>(spec: &'a str) -> Spec<'a> {
    type Made<'a> = fn(&'a str) -> Spec<'a>;
    let tags: [(&str, &str, Made<'a>); 4] = [
        ("UUID=", "/dev/disk/by-uuid/", Spec::Uuid),
        ("LABEL=", "/dev/disk/by-label/", Spec::Label),
        ("PARTUUID=", "/dev/disk/by-partuuid/", Spec::PartUuid),
        ("PARTLABEL=", "/dev/disk/by-partlabel/", Spec::PartLabel),
    ];
    for (tag, folder, made) in tags {
        if let Some(value) = spec.strip_prefix(tag) {
            return made(value.trim_matches('"'));
        }
        if let Some(value) = spec.strip_prefix(folder) {
            return made(value);
        }
    }
    let starts_with_any = |starts: &[&str]| starts.iter().any(|start| spec.starts_with(start));
    // These carry the UUIDs of LVM and md, which stay, as Ubuntu's installer writes them.
    if starts_with_any(&["/dev/disk/by-id/dm-", "/dev/disk/by-id/lvm-"]) {
        Spec::Mapped(spec)
    } else if starts_with_any(&["/dev/disk/by-id/md-"]) {
        Spec::Md(spec)
    } else if starts_with_any(&["ID=", "/dev/disk/"]) {
        Spec::Hardware(spec)
    } else if starts_with_any(&REMOVABLE) {
        Spec::NoDisk
    } else if spec.starts_with("/dev/md") {
        Spec::Md(spec)
    } else if starts_with_any(&DISKS) {
        Spec::Kernel(spec)
    } else if spec.starts_with("/dev/") {
        // `/dev/VG/LV`, `/dev/mapper/…`, `/dev/dm-0`.
        Spec::Mapped(spec)
    } else {
        Spec::NoDisk
    }
}

pub fn parse(text: &str) -> (Vec<FstabEntry>, Vec<BadLine>) {
    entries(text, entry)
}

fn entry(line: usize, fields: &[Field]) -> Result<FstabEntry, &'static str> {
    let [spec, mount_point, fs_type, rest @ ..] = fields else {
        return Err("it has fewer than three fields");
    };
    if rest.len() > 3 {
        return Err("it has more than six fields");
    }
    let number = |at: usize| match rest.get(at) {
        Some(field) => field.parse().map_err(|_| "its fifth or sixth field is no number"),
        None => Ok(0),
    };
    if !mount_point.starts_with('/') && mount_point != "none" && fs_type != "swap" {
        return Err("its mount point is no absolute path");
    }
    Ok(FstabEntry {
        line,
        spec: spec.clone(),
        mount_point: mount_point.clone(),
        fs_type: fs_type.clone(),
        options: rest
            .first()
            .map_or(Vec::new(), |all| all.split(',').map(str::to_owned).collect()),
        dump: number(1)?,
        pass: number(2)?,
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::{super::table::LINES_MAX, *};

    #[test]
    fn fields_are_separated_by_any_blanks_and_may_hide_some() {
        let text = "# /etc/fstab\n\n \tUUID=1-2\t/mnt/my\\040disk   ext4 defaults,noatime\t0 2\n\
                    tmpfs /tmp tmpfs\n";
        let (entries, bad) = parse(text);
        assert!(bad.is_empty());
        assert_eq!(entries[0].mount_point, "/mnt/my disk");
        assert_eq!(entries[0].options, ["defaults", "noatime"]);
        assert_eq!((entries[0].line, entries[0].dump, entries[0].pass), (3, 0, 2));
        assert_eq!(entries[1].options, Vec::<String>::new());
    }

    #[test]
    fn a_bad_line_does_not_hide_the_others() {
        let text = "/dev/sda1\n/dev/sda2 / ext4 defaults 0 one\n/dev/sdb1 data ext4 defaults 0 2\n\
                    a / b c 1 2 3\n/dev/sda3 /home ext4\n";
        let (entries, bad) = parse(text);
        assert_eq!(entries.len(), 1);
        assert_eq!(entries[0].mount_point, "/home");
        let lines: Vec<usize> = bad.iter().map(|bad| bad.line).collect();
        assert_eq!(lines, [1, 2, 3, 4]);
    }

    #[test]
    fn what_is_mounted_is_told_by_its_name_and_type() {
        let spec = |line: &str| format!("{:?}", parse(line).0[0].spec());
        for (line, expected) in [
            ("UUID=\"AB-1\" /boot/efi vfat", "Uuid(\"AB-1\")"),
            ("/dev/disk/by-uuid/ab / ext4", "Uuid(\"ab\")"),
            ("LABEL=root / ext4", "Label(\"root\")"),
            ("PARTUUID=1 / ext4", "PartUuid(\"1\")"),
            (
                "/dev/disk/by-path/pci-0:1 /d xfs",
                "Hardware(\"/dev/disk/by-path/pci-0:1\")",
            ),
            (
                "/dev/disk/by-id/dm-uuid-LVM-x / ext4",
                "Mapped(\"/dev/disk/by-id/dm-uuid-LVM-x\")",
            ),
            (
                "/dev/disk/by-id/md-uuid-x / ext4",
                "Md(\"/dev/disk/by-id/md-uuid-x\")",
            ),
            ("/dev/cciss/c0d0p1 / ext3", "Kernel(\"/dev/cciss/c0d0p1\")"),
            ("/dev/mapper/vg-root / xfs", "Mapped(\"/dev/mapper/vg-root\")"),
            ("/dev/vg0/root / xfs", "Mapped(\"/dev/vg0/root\")"),
            ("/dev/md0 / ext4", "Md(\"/dev/md0\")"),
            ("nas:/export /n nfs", "Network(\"nas:/export\")"),
            ("//nas/share /n cifs", "Network(\"//nas/share\")"),
            ("/dev/sr0 /media/cdrom0 udf,iso9660 user,noauto", "NoDisk"),
            ("/swapfile none swap sw", "NoDisk"),
            ("/srv /export none bind", "NoDisk"),
        ] {
            assert_eq!(spec(line), expected, "{line}");
        }
    }

    #[test]
    fn an_endless_file_is_read_up_to_a_limit() {
        let text = "/dev/sda1 / ext4\n".repeat(LINES_MAX + 10);
        let (entries, bad) = parse(&text);
        assert_eq!((entries.len(), bad.len()), (LINES_MAX, 1));
    }

    proptest! {
        #[test]
        fn any_text_is_survived(text in "(?s)[\\PC\\s\\\\0-7=/,]{0,300}") {
            let (entries, bad) = parse(&text);
            for entry in &entries {
                entry.spec();
            }
            prop_assert!(entries.len() + bad.len() <= text.lines().count());
        }
    }
}

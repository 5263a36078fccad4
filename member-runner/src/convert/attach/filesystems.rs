//! What is on a volume, by its superblock, as blkid(8) would say; and what it is mounted and checked with. Offsets and
//! magic numbers are those of the kernel's headers.

use std::{
    fmt, fs, io,
    os::unix::fs::FileExt,
    path::Path,
    process::{Command, Stdio},
};

use domain::digest::hex;

use crate::convert::{inspect::disks::Content, sandbox::read_output};

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Found {
    pub kind: Kind,
    /// As `/dev/disk/by-uuid` would name it.
    pub uuid: Option<String>,
    pub label: Option<String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    Ext2,
    Ext3,
    Ext4,
    Xfs,
    Btrfs,
    Vfat,
    Swap,
    Luks,
    /// A physical volume of LVM.
    Lvm,
    /// A member of an md array.
    Md,
}

/// What the kernel mounts a file system with, so that no more is written than conversion needs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Mounting {
    pub fs_type: &'static str,
    pub options: &'static str,
}

impl Kind {
    /// As blkid calls it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Ext2 => "ext2",
            Self::Ext3 => "ext3",
            Self::Ext4 => "ext4",
            Self::Xfs => "xfs",
            Self::Btrfs => "btrfs",
            Self::Vfat => "vfat",
            Self::Swap => "swap",
            Self::Luks => "crypto_LUKS",
            Self::Lvm => "LVM2_member",
            Self::Md => "linux_raid_member",
        }
    }

    pub fn content(self) -> Content {
        match self {
            Self::Swap => Content::Swap,
            Self::Luks => Content::Luks,
            Self::Lvm => Content::Lvm,
            Self::Md => Content::Md,
            Self::Ext2 | Self::Ext3 | Self::Ext4 | Self::Xfs | Self::Btrfs | Self::Vfat => {
                Content::FileSystem(self.name().to_owned())
            }
        }
    }

    /// `None`: it is nothing that a kernel mounts here. FAT is one of those: see [`super::esp`].
    pub fn mounting(self) -> Option<Mounting> {
        let (fs_type, options) = match self {
            // ext4's driver mounts all three. Without inode tables to initialise, a mounted file system rests.
            Self::Ext2 | Self::Ext3 | Self::Ext4 => ("ext4", "errors=remount-ro,noinit_itable"),
            // A clone has the identifier of what it was cloned from, which may be mounted, too.
            Self::Xfs => ("xfs", "nouuid"),
            Self::Btrfs => ("btrfs", ""),
            Self::Vfat | Self::Swap | Self::Luks | Self::Lvm | Self::Md => return None,
        };
        Some(Mounting { fs_type, options })
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// Looks at the `bytes` of `disk` from `start` on. `None`: nothing that is known.
pub fn probe(disk: &fs::File, start: u64, bytes: u64) -> io::Result<Option<Found>> {
    let volume = Volume { disk, start, bytes };
    // The superblock of md's older formats is at the end, and its members begin with what the array holds.
    for look in [md_at_end, luks, lvm, md, swap, btrfs, xfs, ext, vfat] {
        if let Some(content) = look(&volume)? {
            return Ok(Some(content));
        }
    }
    Ok(None)
}

struct Volume<'a> {
    disk: &'a fs::File,
    start: u64,
    bytes: u64,
}

impl Volume<'_> {
    /// Zeros where the volume ends before.
    fn read<const LEN: usize>(&self, at: u64) -> io::Result<[u8; LEN]> {
        let mut data = [0; LEN];
        if at.checked_add(LEN as u64).is_some_and(|end| end <= self.bytes) {
            self.disk.read_exact_at(&mut data, self.start + at)?;
        }
        Ok(data)
    }
}

type Looked = io::Result<Option<Found>>;

fn found(kind: Kind, uuid: Option<String>, label: &[u8]) -> Found {
    let label = label.split(|byte| *byte == 0).next().unwrap_or_default();
    let label = String::from_utf8_lossy(label).trim_end().to_owned();
    Found {
        kind,
        uuid,
        label: Some(label).filter(|label| !label.is_empty()),
    }
}

fn ext(volume: &Volume) -> Looked {
    const HAS_JOURNAL: u32 = 0x4;
    // Everything that ext3 knows of `s_feature_incompat` and `s_feature_ro_compat`.
    const EXT3_INCOMPAT: u32 = 0x2 | 0x4 | 0x10;
    const EXT3_RO_COMPAT: u32 = 0x1 | 0x2 | 0x4;
    let superblock: [u8; 1024] = volume.read(1024)?;
    if superblock[0x38..0x3a] != [0x53, 0xef] {
        return Ok(None);
    }
    let word = |at: usize| le32(&superblock[at..at + 4]);
    let (compat, incompat, ro_compat) = (word(0x5c), word(0x60), word(0x64));
    let kind = if incompat & !EXT3_INCOMPAT != 0 || ro_compat & !EXT3_RO_COMPAT != 0 {
        Kind::Ext4
    } else if compat & HAS_JOURNAL != 0 {
        Kind::Ext3
    } else {
        Kind::Ext2
    };
    Ok(Some(found(
        kind,
        uuid(&superblock[0x68..0x78]),
        &superblock[0x78..0x88],
    )))
}

fn xfs(volume: &Volume) -> Looked {
    let superblock: [u8; 512] = volume.read(0)?;
    if !superblock.starts_with(b"XFSB") {
        return Ok(None);
    }
    Ok(Some(found(
        Kind::Xfs,
        uuid(&superblock[32..48]),
        &superblock[108..120],
    )))
}

fn btrfs(volume: &Volume) -> Looked {
    let superblock: [u8; 4096] = volume.read(64 << 10)?;
    if &superblock[0x40..0x48] != b"_BHRfS_M" {
        return Ok(None);
    }
    Ok(Some(found(
        Kind::Btrfs,
        uuid(&superblock[0x20..0x30]),
        &superblock[0x12b..0x22b],
    )))
}

fn vfat(volume: &Volume) -> Looked {
    let sector: [u8; 512] = volume.read(0)?;
    let (serial, label) = if sector[82..90].starts_with(b"FAT32") {
        (67, 71)
    } else if sector[54..62].starts_with(b"FAT") {
        (39, 43)
    } else {
        return Ok(None);
    };
    if sector[510..] != [0x55, 0xaa] {
        return Ok(None);
    }
    let serial = le32(&sector[serial..serial + 4]);
    let uuid = format!("{:04X}-{:04X}", serial >> 16, serial & 0xffff);
    let label = &sector[label..label + 11];
    let label = if label == b"NO NAME    " { &[][..] } else { label };
    Ok(Some(found(Kind::Vfat, Some(uuid), label)))
}

fn swap(volume: &Volume) -> Looked {
    // The magic is at the end of a page, whose size is the machine's.
    for page in [4096, 16384, 65536] {
        let magic: [u8; 10] = volume.read(page - 10)?;
        if &magic == b"SWAPSPACE2" || &magic == b"SWAP-SPACE" {
            let header: [u8; 44] = volume.read(1024)?;
            return Ok(Some(found(Kind::Swap, uuid(&header[12..28]), &header[28..44])));
        }
    }
    Ok(None)
}

fn luks(volume: &Volume) -> Looked {
    let header: [u8; 256] = volume.read(0)?;
    if !header.starts_with(b"LUKS\xba\xbe") {
        return Ok(None);
    }
    let version = u16::from_be_bytes([header[6], header[7]]);
    let label = if version == 2 { &header[24..72] } else { &[][..] };
    let uuid = header[168..208].split(|byte| *byte == 0).next();
    let uuid = uuid.map(|uuid| String::from_utf8_lossy(uuid).into_owned());
    Ok(Some(found(Kind::Luks, uuid, label)))
}

fn lvm(volume: &Volume) -> Looked {
    // The label is in one of the first four sectors.
    for sector in 0..4 {
        let label: [u8; 64] = volume.read(sector * 512)?;
        if label.starts_with(b"LABELONE") && &label[24..32] == b"LVM2 001" {
            let id = String::from_utf8_lossy(&label[32..64]).into_owned();
            return Ok(Some(found(Kind::Lvm, Some(id), b"")));
        }
    }
    Ok(None)
}

fn md(volume: &Volume) -> Looked {
    for at in [0, 4096] {
        if let Some(found) = md_superblock(volume, at)? {
            return Ok(Some(found));
        }
    }
    Ok(None)
}

fn md_at_end(volume: &Volume) -> Looked {
    const RESERVED: u64 = 64 << 10;
    // Version 1.0: 8 KiB before the end; 0.90: in the last 64 KiB that are whole.
    let at_1_0 = (volume.bytes / 4096 * 4096).saturating_sub(8192);
    let at_0_90 = (volume.bytes / RESERVED * RESERVED).saturating_sub(RESERVED);
    if let Some(found) = md_superblock(volume, at_1_0)? {
        return Ok(Some(found));
    }
    let superblock: [u8; 8] = volume.read(at_0_90)?;
    let is_md = superblock[..4] == MD_MAGIC && le32(&superblock[4..8]) == 0;
    Ok(is_md.then(|| found(Kind::Md, None, b"")))
}

const MD_MAGIC: [u8; 4] = [0xfc, 0x4e, 0x2b, 0xa9];

fn md_superblock(volume: &Volume, at: u64) -> Looked {
    let superblock: [u8; 64] = volume.read(at)?;
    if superblock[..4] != MD_MAGIC || le32(&superblock[4..8]) != 1 {
        return Ok(None);
    }
    Ok(Some(found(
        Kind::Md,
        uuid(&superblock[16..32]),
        &superblock[32..64],
    )))
}

fn le32(bytes: &[u8]) -> u32 {
    u32::from_le_bytes([bytes[0], bytes[1], bytes[2], bytes[3]])
}

/// `None` for zeros, which are no identifier.
fn uuid(bytes: &[u8]) -> Option<String> {
    let bytes: &[u8; 16] = bytes.try_into().ok()?;
    (*bytes != [0; 16]).then(|| uuid_text(bytes))
}

pub(super) fn uuid_text(bytes: &[u8; 16]) -> String {
    let text = hex(bytes);
    let parts = [
        &text[..8],
        &text[8..12],
        &text[12..16],
        &text[16..20],
        &text[20..],
    ];
    parts.join("-")
}

#[derive(Debug, thiserror::Error)]
pub enum CheckError {
    #[error("cannot run {program}")]
    Run {
        program: &'static str,
        #[source]
        source: io::Error,
    },
    #[error("{program} finds the file system on {device_name} damaged: {said}")]
    Damaged {
        program: &'static str,
        device_name: String,
        said: String,
    },
}

/// Checks a file system of ext that is not mounted, and changes nothing: all of it if the kernel noted an error in it,
/// and else whether it was left in order. xfs and btrfs can only be read as a whole, which costs more than all the rest
/// of a conversion; their drivers shut them down at an error. `device_name` is what people call it.
pub fn check(kind: Kind, device: &Path, device_name: &str) -> Result<(), CheckError> {
    const SAID_CHARS: usize = 4096;
    let program = match kind {
        Kind::Ext2 | Kind::Ext3 | Kind::Ext4 => "e2fsck",
        Kind::Xfs | Kind::Btrfs | Kind::Vfat | Kind::Swap | Kind::Luks | Kind::Lvm | Kind::Md => {
            return Ok(());
        }
    };
    let run = || {
        let (said, output) = io::pipe()?;
        let mut command = Command::new(program);
        command
            .arg("-n")
            .arg(device)
            .env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin")
            .env("LC_ALL", "C")
            .stdin(Stdio::null())
            .stdout(output.try_clone()?)
            .stderr(output);
        let mut checking = command.spawn()?;
        // The ends of the pipe that it does not write to.
        drop(command);
        let said = read_output(said)?;
        Ok((checking.wait()?, said))
    };
    let (status, said) = run().map_err(|source| CheckError::Run { program, source })?;
    if status.success() {
        return Ok(());
    }
    Err(CheckError::Damaged {
        program,
        device_name: device_name.to_owned(),
        said: said.to_string().chars().take(SAID_CHARS).collect(),
    })
}

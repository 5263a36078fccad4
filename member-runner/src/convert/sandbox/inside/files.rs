//! The file tree of a sandbox.
//!
//! Everything that has to be found by a path of the guest is found after the guest's root has become the root of this
//! process: a symbolic link in it then leads to the guest's files, wherever it points.

use std::{
    ffi::CString,
    fs::{self, File},
    os::{fd::OwnedFd, unix::fs::symlink},
    path::{Path, PathBuf},
};

use anyhow::Context;
use rustix::{
    fs::CWD,
    mount::{
        MountFlags, MoveMountFlags, OpenTreeFlags, UnmountFlags, mount, mount_bind_recursive, mount_remount,
        move_mount, open_tree, unmount,
    },
    process::{chdir, pivot_root},
};

use crate::convert::sandbox::{Device, Order};

/// Folders of every guest's root, which get contents of our own.
const MOUNT_POINTS: [&str; 5] = ["/dev", "/proc", "/run", "/sys", "/tmp"];
const DEVICES: [&str; 6] = [
    "/dev/full",
    "/dev/null",
    "/dev/random",
    "/dev/tty",
    "/dev/urandom",
    "/dev/zero",
];
/// Bash needs the first for its `<(…)`.
const DEVICE_LINKS: [(&str, &str); 4] = [
    ("/proc/self/fd", "/dev/fd"),
    ("/proc/self/fd/0", "/dev/stdin"),
    ("/proc/self/fd/1", "/dev/stdout"),
    ("/proc/self/fd/2", "/dev/stderr"),
];
/// Room for the names of devices and links.
const DEV_BYTES: u64 = 64 << 10;

const HARMLESS: MountFlags = MountFlags::NOSUID.union(MountFlags::NODEV);

/// Makes the guest's files, and what programs expect beside them, the only ones there are.
pub fn enter(order: &Order) -> anyhow::Result<()> {
    let devices = devices(order)?;

    let root = &order.root;
    mount_bind_recursive(root, root).with_context(|| format!("cannot mount {}", root.display()))?;
    chdir(root).with_context(|| format!("cannot enter {}", root.display()))?;
    // pivot_root(2): the old root comes to lie on the new one, and "." is the way to take it away.
    pivot_root(".", ".").context("cannot change the root")?;
    require_folders()?;
    // While the old one is there, or the kernel refuses: this one could show what the old one hid.
    mount_at("proc", "/proc", MountFlags::NOEXEC, "")?;
    unmount(".", UnmountFlags::DETACH).context("cannot leave the old root")?;
    chdir("/").context("cannot enter the root")?;
    disarm_mounts()?;

    mount_at(
        "tmpfs",
        "/dev",
        MountFlags::NOEXEC,
        &format!("mode=755,size={DEV_BYTES}"),
    )?;
    for (path, device) in devices {
        make_parent(&path)?;
        File::create(&path).with_context(|| format!("cannot make {}", path.display()))?;
        move_mount(&device, "", CWD, &path, MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH)
            .with_context(|| format!("cannot mount {}", path.display()))?;
    }
    for (target, path) in DEVICE_LINKS {
        symlink(target, path).with_context(|| format!("cannot make {path}"))?;
    }
    name_disks(&order.devices)?;
    let bytes = order.tmp_bytes;
    mount_at(
        "tmpfs",
        "/tmp",
        MountFlags::empty(),
        &format!("mode=1777,size={bytes}"),
    )?;
    mount_at(
        "tmpfs",
        "/run",
        MountFlags::empty(),
        &format!("mode=755,size={bytes}"),
    )?;
    fs::create_dir("/run/lock").context("cannot make /run/lock")?;
    mount_at("tmpfs", "/sys", MountFlags::NOEXEC, "mode=755,size=4096")?;
    if order.efi {
        fs::create_dir_all("/sys/firmware/efi").context("cannot make /sys/firmware/efi")?;
    }
    remount("/sys", HARMLESS | MountFlags::NOEXEC | MountFlags::RDONLY)
}

/// Devices of the runner, cut out of its file tree before that is gone, and where they belong.
fn devices(order: &Order) -> anyhow::Result<Vec<(PathBuf, OwnedFd)>> {
    let plain = DEVICES.iter().map(|path| (PathBuf::from(path), Path::new(*path)));
    for name in order.devices.iter().flat_map(|disk| &disk.names) {
        anyhow::ensure!(is_device_name(name), "{name:?} is no name of a device");
    }
    let disks = order.devices.iter().enumerate();
    let disks = disks.map(|(number, disk)| (disk_path(number, disk), disk.path.as_path()));
    plain
        .chain(disks)
        .map(|(to, from)| {
            let flags = OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC;
            let device =
                open_tree(CWD, from, flags).with_context(|| format!("cannot take {}", from.display()))?;
            Ok((to, device))
        })
        .collect()
}

/// That of an array or a logical volume, which the guest's programs write into the boot loader's menu; or one that says
/// nothing: behind a `/dev/loop3`, GRUB would look for the file that is in it. Of a `/dev/md0` it would ask the kernel for
/// the members, and give up.
fn disk_path(number: usize, disk: &Device) -> PathBuf {
    let own = disk.names.iter().find(|name| !name.starts_with("/dev/md"));
    own.map_or_else(|| PathBuf::from(format!("/dev/guest{number}")), PathBuf::from)
}

/// It was read from the guest's disk, and becomes the name of a file.
fn is_device_name(name: &str) -> bool {
    let is_part = |byte: u8| byte.is_ascii_alphanumeric() || b"+_.:-".contains(&byte);
    name.strip_prefix("/dev/").is_some_and(|below| {
        let mut parts = below.split('/');
        parts.all(|part| !["", ".", ".."].contains(&part) && part.bytes().all(is_part))
    })
}

fn make_parent(path: &Path) -> anyhow::Result<()> {
    let parent = path.parent().context("a device is in a folder")?;
    fs::create_dir_all(parent).with_context(|| format!("cannot make {}", parent.display()))
}

/// By the names in the list of mounts, by their other names, and by UUID.
fn name_disks(disks: &[Device]) -> anyhow::Result<()> {
    let by_uuid = Path::new("/dev/disk/by-uuid");
    fs::create_dir_all(by_uuid).context("cannot make /dev/disk/by-uuid")?;
    for (number, disk) in disks.iter().enumerate() {
        let own = disk_path(number, disk);
        let name = |path: &Path| {
            make_parent(path)?;
            symlink(&own, path).with_context(|| format!("cannot make {}", path.display()))
        };
        name(&disk.path)?;
        let names = disk.names.iter().map(Path::new);
        for other in names.filter(|name| *name != own) {
            name(other)?;
        }
        if let Some(uuid) = &disk.uuid {
            // It becomes the name of a file, too.
            let is_uuid = uuid.bytes().all(|byte| byte.is_ascii_hexdigit() || byte == b'-');
            anyhow::ensure!(is_uuid && (1..=36).contains(&uuid.len()), "{uuid:?} is no UUID");
            name(&by_uuid.join(uuid))?;
        }
    }
    Ok(())
}

/// A link in place of a folder would have us mount over another one.
fn require_folders() -> anyhow::Result<()> {
    for path in MOUNT_POINTS {
        let found = fs::symlink_metadata(path).with_context(|| format!("the guest has no {path}"))?;
        anyhow::ensure!(found.is_dir(), "the guest's {path} is no folder");
    }
    Ok(())
}

/// Takes devices and set-user-ID off the guest's file systems, and writing off `/proc`. What was forbidden on a mount
/// stays so, as the kernel demands.
fn disarm_mounts() -> anyhow::Result<()> {
    let mounts = fs::read_to_string("/proc/self/mountinfo").context("cannot list mounts")?;
    for mount in mounts.lines() {
        let mut fields = mount.split(' ').skip(4);
        let (Some(path), Some(options)) = (fields.next(), fields.next()) else {
            anyhow::bail!("cannot understand the list of mounts");
        };
        let path = unescape(path);
        let has = |wanted| options.split(',').any(|option| option == wanted);
        let mut flags = HARMLESS;
        flags.set(MountFlags::RDONLY, has("ro") || path == "/proc");
        flags.set(MountFlags::NOEXEC, has("noexec"));
        remount(&path, flags)?;
    }
    Ok(())
}

/// The kernel writes space, tab, newline and backslash of a path as `\040` and so on.
fn unescape(path: &str) -> String {
    ["\\040", "\\011", "\\012", "\\134"]
        .iter()
        .zip([" ", "\t", "\n", "\\"])
        .fold(path.to_owned(), |path, (escape, character)| {
            path.replace(escape, character)
        })
}

fn mount_at(kind: &str, path: &str, flags: MountFlags, options: &str) -> anyhow::Result<()> {
    let options = CString::new(options)?;
    mount(kind, path, kind, HARMLESS | flags, options.as_c_str())
        .with_context(|| format!("cannot mount {path}"))
}

fn remount(path: &str, flags: MountFlags) -> anyhow::Result<()> {
    mount_remount(path, MountFlags::BIND | flags, "").with_context(|| format!("cannot restrict {path}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_devices_lead_nowhere_else() {
        for name in [
            "/dev/mapper/vg--0-root",
            "/dev/vg-0/root+1",
            "/dev/disk/by-id/md-name-db:0",
        ] {
            assert!(is_device_name(name), "{name}");
        }
        for name in [
            "/dev/",
            "/dev/../etc",
            "/dev/vg/",
            "/dev/vg/./x",
            "/etc/passwd",
            "/dev/a b",
            "dev/sda",
        ] {
            assert!(!is_device_name(name), "{name}");
        }
    }

    #[test]
    fn paths_of_mounts_are_read() {
        assert_eq!(unescape("/mnt/my\\040disk\\134040"), "/mnt/my disk\\040");
    }
}

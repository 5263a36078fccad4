//! A server so small that it is made in no time, and whole enough to be converted: an old Debian as far as one can tell
//! by its files, whose programs are scripts of busybox. It is not bootable.
//!
//! ```text
//! 0        MBR with one Linux partition that fills the disk
//! 1 MiB    ext4
//! ```

use std::{
    fs,
    io::{Seek, SeekFrom, copy},
    os::unix::fs::{PermissionsExt, symlink},
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context, bail};

use super::disk::master_boot_record;

/// Conversion wants 100 MiB of room.
pub const BYTES: u64 = 192 << 20;
const PARTITION_AT: u64 = 1 << 20;
const BUSYBOX: &str = "/bin/busybox";
pub const KERNELS: [&str; 2] = ["5.10.0-8-amd64", "5.10.0-28-amd64"];

/// Made by programs of the guest: what they print is what the initramfs holds.
const LIST_INITRAMFS: &str = "#!/bin/sh\ncat \"$1\"\n";
const UPDATE_INITRAMFS: &str = "#!/bin/sh
for module in $(cat /etc/initramfs-tools/modules); do
    echo usr/lib/modules/$3/kernel/$module.ko
done > /boot/initrd.img-$3
";
const MAKE_MENU: &str = "#!/bin/sh
. /etc/default/grub
for kernel in /boot/vmlinuz-*; do
    echo \"menuentry { linux $kernel root=UUID=x $GRUB_CMDLINE_LINUX }\"
done > \"$2\"
";

/// Whether one can be made here; if not, why.
pub fn can_make() -> Result<(), &'static str> {
    if !Path::new(BUSYBOX).exists() {
        return Err("the package busybox-static is missing");
    }
    if !Path::new("/sbin/mkfs.ext4").exists() {
        return Err("the package e2fsprogs is missing");
    }
    Ok(())
}

/// Makes the disk, unless it is there already.
pub fn make(path: &Path, hostname: &str) -> anyhow::Result<()> {
    if path.exists() {
        return Ok(());
    }
    let folder = path.with_extension("files");
    let partition = path.with_extension("ext4");
    write_files(&folder, hostname).with_context(|| format!("cannot write {}", folder.display()))?;
    fs::File::create(&partition)?.set_len(BYTES - PARTITION_AT)?;
    let made = Command::new("/sbin/mkfs.ext4")
        .args(["-q", "-L", "tiny", "-d"])
        .args([&folder, &partition])
        .output()
        .context("cannot run mkfs.ext4")?;
    if !made.status.success() {
        bail!("mkfs.ext4: {}", String::from_utf8_lossy(&made.stderr));
    }
    let draft = path.with_extension("draft");
    let mut disk = fs::File::create(&draft)?;
    disk.set_len(BYTES)?;
    std::io::Write::write_all(&mut disk, &master_boot_record(BYTES, 7))?;
    disk.seek(SeekFrom::Start(PARTITION_AT))?;
    copy(&mut fs::File::open(&partition)?, &mut disk)?;
    fs::remove_file(&partition)?;
    fs::remove_dir_all(&folder)?;
    fs::rename(&draft, path).with_context(|| format!("cannot make the disk {}", path.display()))
}

fn write_files(root: &Path, hostname: &str) -> anyhow::Result<()> {
    let write = |path: &str, text: &str| -> anyhow::Result<PathBuf> {
        let path = root.join(path);
        fs::create_dir_all(path.parent().context("a file is in a folder")?)?;
        fs::write(&path, text)?;
        Ok(path)
    };
    let program = |path: &str, text: &str| -> anyhow::Result<()> {
        fs::set_permissions(write(path, text)?, fs::Permissions::from_mode(0o755))?;
        Ok(())
    };
    for folder in [
        "usr/bin", "usr/sbin", "proc", "sys", "dev", "run", "tmp", "var/tmp",
    ] {
        fs::create_dir_all(root.join(folder))?;
    }
    for (link, target) in [("bin", "usr/bin"), ("sbin", "usr/sbin"), ("lib", "usr/lib")] {
        symlink(target, root.join(link))?;
    }
    fs::copy(BUSYBOX, root.join("usr/bin/busybox"))?;
    for applet in ["sh", "cat", "echo"] {
        symlink("busybox", root.join("usr/bin").join(applet))?;
    }
    write(
        "etc/os-release",
        "ID=debian\nVERSION_ID=\"11\"\nPRETTY_NAME=\"Debian GNU/Linux 11 (bullseye)\"\n",
    )?;
    write("etc/hostname", &format!("{hostname}\n"))?;
    write("etc/fstab", "/dev/sda1 / ext4 errors=remount-ro 0 1\n")?;
    write(
        "etc/network/interfaces",
        "auto lo\niface lo inet loopback\n\nallow-hotplug ens3\niface ens3 inet static\n    address 192.0.2.10/24\n",
    )?;
    write(
        "etc/default/grub",
        "GRUB_DEFAULT=0\nGRUB_CMDLINE_LINUX=\"root=/dev/sda1\"\n",
    )?;
    write("boot/grub/grub.cfg", "menuentry { }\n")?;
    write("boot/grub/i386-pc/core.img", "")?;
    write("etc/initramfs-tools/modules", "")?;
    write("etc/initramfs-tools/initramfs.conf", "MODULES=most\n")?;
    for kernel in KERNELS {
        let modules = format!("usr/lib/modules/{kernel}");
        write(&format!("boot/vmlinuz-{kernel}"), "")?;
        write(&format!("boot/initrd.img-{kernel}"), "")?;
        write(
            &format!("{modules}/modules.builtin"),
            "kernel/fs/ext4/ext4.ko\nkernel/drivers/virtio/virtio_pci.ko\n",
        )?;
        let modular = [
            "nvme",
            "ena",
            "virtio_blk",
            "virtio_scsi",
            "virtio_net",
            "xen-blkfront",
            "xen-netfront",
        ];
        let listed = modular.map(|name| format!("kernel/{name}.ko:\n")).concat();
        write(&format!("{modules}/modules.dep"), &listed)?;
    }
    program("usr/sbin/mkinitramfs", "#!/bin/sh\n")?;
    program("usr/sbin/update-initramfs", UPDATE_INITRAMFS)?;
    program("usr/bin/lsinitramfs", LIST_INITRAMFS)?;
    program("usr/sbin/grub-mkconfig", MAKE_MENU)?;
    program("usr/sbin/dhclient", "#!/bin/sh\n")
}

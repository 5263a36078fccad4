#!/usr/bin/env bash
# Makes the disk of an old Debian server: recipe.sh DISK SUITE [PACKAGE…]
#
# It boots by BIOS and GRUB from an IDE disk with a partition table of MBR. fstab and the kernel's command line name
# the disk /dev/sda, the address is static, and the initramfs holds the drivers of IDE and no others: on any other
# bus it starts and does not find its root, as servers do that were installed long ago.
#
# Nothing is mounted but in a namespace of its own, and nothing runs but below the shell that runs this: whoever
# kills it leaves a folder, and nothing else. Must be run as root.
set -euo pipefail
readonly disk=$1 suite=$2
shift 2
readonly packages=(linux-image-amd64 grub-pc ifupdown e2fsprogs iproute2 dbus openssh-server "$@")
readonly mib=$((1 << 20)) root_at=1 root_mib=3064 swap_mib=64

if [[ ! ${IN_NAMESPACE:-} ]]; then
    # If this shell is killed, so is everything below; with the last process the mounts are gone.
    IN_NAMESPACE=yes exec unshare --mount --pid --fork --kill-child --propagation private bash "$0" "$disk" "$suite" "$@"
fi
export DEBIAN_FRONTEND=noninteractive LC_ALL=C PATH=/usr/sbin:/usr/bin:/sbin:/bin

work=$(mktemp -d "$disk.tree.XXXXXX")
trap 'rm -rf --one-file-system "$work"' EXIT
readonly tree=$work/root
mkdir -m 755 "$tree"

debootstrap --variant=minbase --include=systemd-sysv,udev,initramfs-tools,ca-certificates "$suite" "$tree"

install -m 755 /dev/stdin "$tree/usr/sbin/policy-rc.d" <<<$'#!/bin/sh\nexit 101'
printf 'old-debian\n' >"$tree/etc/hostname"
printf '127.0.0.1 localhost\n127.0.1.1 old-debian\n' >"$tree/etc/hosts"
printf 'nameserver 10.0.2.2\n' >"$tree/etc/resolv.conf.target"
printf 'MODULES=list\n' >"$tree/etc/initramfs-tools/conf.d/old-hardware"
printf '%s\n' ata_piix sd_mod ext4 >>"$tree/etc/initramfs-tools/modules"
cat >"$tree/etc/fstab" <<'END'
/dev/sda1  /     ext4  errors=remount-ro  0  1
/dev/sda2  none  swap  sw                 0  0
END

mount -t proc proc "$tree/proc"
# The packages come from where debootstrap had its own, through the settings of this machine.
cp /etc/resolv.conf "$tree/etc/resolv.conf"
chroot "$tree" apt-get -qq update
chroot "$tree" apt-get -qq install -y --no-install-recommends "${packages[@]}"
chroot "$tree" apt-get clean
umount "$tree/proc"
rm "$tree/usr/sbin/policy-rc.d"
mv "$tree/etc/resolv.conf.target" "$tree/etc/resolv.conf"

cat >"$tree/etc/network/interfaces" <<'END'
auto lo eth0
iface lo inet loopback
iface eth0 inet static
    address 10.0.2.15/24
    gateway 10.0.2.1
END
cat >"$tree/etc/default/grub" <<'END'
GRUB_DEFAULT=0
GRUB_TIMEOUT=0
GRUB_DISTRIBUTOR=Debian
GRUB_CMDLINE_LINUX_DEFAULT=""
GRUB_CMDLINE_LINUX="net.ifnames=0 console=tty0 console=ttyS0,115200"
GRUB_DISABLE_LINUX_UUID=true
END
# Written by hand, since update-grub asks the kernel which disk it stands on, and here it stands on none.
mkdir -p "$tree/boot/grub/i386-pc"
cp "$tree"/usr/lib/grub/i386-pc/*.{mod,lst} "$tree/boot/grub/i386-pc/"
cat >"$tree/boot/grub/grub.cfg" <<'END'
set timeout=0
menuentry 'Debian GNU/Linux' {
    linux /vmlinuz root=/dev/sda1 ro net.ifnames=0 console=tty0 console=ttyS0,115200
    initrd /initrd.img
}
END

# MBR's gap of one MiB holds GRUB's core image, which reads everything else from the root file system. Sectors 1 and 2
# are where boot.img and the core image expect what follows them.
truncate -s $(((root_at + root_mib + swap_mib) * mib)) "$work/disk"
sfdisk --quiet "$work/disk" <<END
label: dos
label-id: 0x0b50d155
start=${root_at}MiB, size=${root_mib}MiB, type=83, bootable
size=${swap_mib}MiB, type=82
END
chroot "$tree" grub-mkimage -O i386-pc -p '(hd0,msdos1)/boot/grub' biosdisk part_msdos ext2 >"$work/core.img"
dd if="$tree/usr/lib/grub/i386-pc/boot.img" of="$work/disk" bs=440 count=1 conv=notrunc status=none
dd if="$work/core.img" of="$work/disk" bs=512 seek=1 conv=notrunc status=none
mke2fs -q -t ext4 -d "$tree" -E offset=$((root_at * mib)) "$work/disk" "${root_mib}M"
install -m 600 /dev/null "$work/swap"
truncate -s "${swap_mib}M" "$work/swap"
mkswap --quiet "$work/swap"
dd if="$work/swap" of="$work/disk" bs="$mib" seek=$((root_at + root_mib)) conv=notrunc,sparse status=none
mv "$work/disk" "$disk"

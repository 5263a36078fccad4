#!/usr/bin/env bash
# Makes the disk of an old Debian server, in a folder: recipe.sh FOLDER SUITE SETUP [PACKAGE…]
#
# It boots by BIOS and GRUB from an IDE disk with a partition table of MBR. fstab and the kernel's command line name
# the disk /dev/sda, the address is static, and the initramfs holds the drivers of IDE and no others: on any other
# bus it starts and does not find its root, as servers do that were installed long ago. SETUP is run in it in the end.
#
# FOLDER/disk.raw is the disk, and whoever has FOLDER/key may log in as root. Lines that begin with == say how far it is.
#
# Nothing is mounted but in a namespace of its own, and nothing runs but below the shell that runs this: whoever
# kills it leaves the folder, and nothing else; run again with the same folder, it goes on. Must be run as root.
set -euo pipefail
readonly folder=$1 suite=$2 setup=$3
shift 3
readonly packages=(linux-image-amd64 grub-pc ifupdown isc-dhcp-client e2fsprogs iproute2 dbus openssh-server "$@")
readonly mib=$((1 << 20)) root_at=1 root_mib=3064 swap_mib=64

if [[ ! ${IN_NAMESPACE:-} ]]; then
    # If this shell is killed, so is everything below; with the last process the mounts are gone.
    IN_NAMESPACE=yes exec unshare --mount --pid --fork --kill-child --propagation private bash "$0" "$folder" "$suite" "$setup" "$@"
fi
export DEBIAN_FRONTEND=noninteractive LC_ALL=C PATH=/usr/sbin:/usr/bin:/sbin:/bin

readonly tree=$folder/tree
if [[ ! -e $folder/has-base ]]; then
    echo "== Debian's base system, $suite"
    rm -rf --one-file-system "$tree"
    install -d -m 755 "$tree"
    debootstrap --variant=minbase --include=systemd-sysv,udev,initramfs-tools,ca-certificates "$suite" "$tree"
    touch "$folder/has-base"
fi

printf 'old-debian\n' >"$tree/etc/hostname"
printf '127.0.0.1 localhost\n127.0.1.1 old-debian\n' >"$tree/etc/hosts"
printf 'MODULES=list\n' >"$tree/etc/initramfs-tools/conf.d/old-hardware"
printf '%s\n' ata_piix sd_mod ext4 >"$tree/etc/initramfs-tools/modules"
cat >"$tree/etc/fstab" <<'END'
/dev/sda1  /     ext4  errors=remount-ro  0  1
/dev/sda2  none  swap  sw                 0  0
END

echo "== packages: ${packages[*]}"
# The packages come from where debootstrap had its own, through the settings of this machine.
cp /etc/resolv.conf "$tree/etc/resolv.conf"
install -m 755 /dev/stdin "$tree/usr/sbin/policy-rc.d" <<<$'#!/bin/sh\nexit 101'
mount -t proc proc "$tree/proc"
chroot "$tree" apt-get -qq update
# What a run that was killed left half done: dpkg finishes what it can, apt what lacks its dependencies.
chroot "$tree" dpkg --configure -a || chroot "$tree" apt-get -qq install -y --fix-broken
chroot "$tree" apt-get -qq install -y --no-install-recommends "${packages[@]}"
chroot "$tree" apt-get clean
umount "$tree/proc"
rm "$tree/usr/sbin/policy-rc.d"
printf 'nameserver 10.0.2.2\n' >"$tree/etc/resolv.conf"

echo '== settings'
chroot "$tree" sh -eu <"$setup"
rm -f "$folder/key" "$tree/key"{,.pub}
chroot "$tree" ssh-keygen -q -t ed25519 -N '' -C lab -f key
install -d -m 700 "$tree/root/.ssh"
install -m 600 "$tree/key.pub" "$tree/root/.ssh/authorized_keys"
mv "$tree/key" "$folder/key"
rm "$tree/key.pub"
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
echo '== the disk'
readonly draft=$folder/draft.raw swap=$folder/swap
rm -f "$draft" "$swap"
truncate -s $(((root_at + root_mib + swap_mib) * mib)) "$draft"
sfdisk --quiet "$draft" <<END
label: dos
label-id: 0x0b50d155
start=${root_at}MiB, size=${root_mib}MiB, type=83, bootable
size=${swap_mib}MiB, type=82
END
chroot "$tree" grub-mkimage -O i386-pc -p '(hd0,msdos1)/boot/grub' biosdisk part_msdos ext2 >"$folder/core.img"
dd if="$tree/usr/lib/grub/i386-pc/boot.img" of="$draft" bs=440 count=1 conv=notrunc status=none
dd if="$folder/core.img" of="$draft" bs=512 seek=1 conv=notrunc status=none
mke2fs -q -t ext4 -d "$tree" -E offset=$((root_at * mib)) "$draft" "${root_mib}M"
install -m 600 /dev/null "$swap"
truncate -s "${swap_mib}M" "$swap"
mkswap --quiet "$swap"
dd if="$swap" of="$draft" bs="$mib" seek=$((root_at + root_mib)) conv=notrunc,sparse status=none
mv "$draft" "$folder/disk.raw"
rm -rf --one-file-system "$tree" "$swap" "$folder/core.img" "$folder/has-base"

# The packages of an old server, and how a tree has them installed. Read by the programs beside it.

export DEBIAN_FRONTEND=noninteractive LC_ALL=C PATH=/usr/sbin:/usr/bin:/sbin:/bin

readonly old_drivers=(ata_piix ata_generic sd_mod e1000 ext4 xfs btrfs crc32c_generic crc32c_intel)

generator_packages() {
    case $1 in
        initramfs-tools) echo linux-image-amd64 zstd initramfs-tools ;;
        dracut) echo linux-image-amd64 zstd dracut ;;
    esac
}

boot_packages() {
    case $1 in
        *-bios) echo grub2-common grub-pc-bin ;;
        *-uefi) echo grub2-common grub-efi-amd64-bin grub-efi-amd64-signed shim-signed ;;
    esac
}

network_packages() {
    case $1 in
        ifupdown) echo ifupdown isc-dhcp-client ;;
        netplan) echo netplan.io ;;
        networkmanager) echo network-manager ;;
        networkd) ;; # It comes with systemd.
    esac
}

layout_packages() {
    case $1 in
        lvm) echo lvm2 ;;
        raid) echo mdadm lvm2 ;;
    esac
}

# for_old_machine TREE COMMAND…: the command makes an initramfs of the tree by initramfs-tools. That is set up to look at
# the machine that it runs on, as an installer does that is told to; here it is another machine, so it is told what to
# take.
for_old_machine() {
    local tree=$1 policy=$1/etc/initramfs-tools/conf.d/driver-policy list=$1/etc/initramfs-tools/modules
    shift
    cp "$list" "$list.new"
    printf '%s\n' "${old_drivers[@]}" >>"$list"
    echo MODULES=list >"$policy"
    "$@"
    echo MODULES=dep >"$policy"
    mv "$list.new" "$list"
}

# All mounts are made in a namespace that ends with the program, whoever ends it.
in_namespace() {
    [[ ${IN_NAMESPACE:-} != "$$" ]] || return 0
    # The first process of its own has the number 1.
    IN_NAMESPACE=1 exec unshare --mount --pid --fork --kill-child --mount-proc --propagation private bash "$0" "$@"
}

# there TREE PROGRAM…: runs a program of a tree.
there() {
    local tree=$1
    shift
    # No kernel makes an initramfs when it is installed: that would be for a machine of today.
    chroot "$tree" /usr/bin/env -i PATH="$PATH" LC_ALL=C DEBIAN_FRONTEND=noninteractive INITRD=No "$@"
}

# Lets packages be installed in a tree from the archive of a suite, a folder with cache/ and lists/.
open_tree() {
    local tree=$1 archive=$2
    mount -t proc proc "$tree/proc"
    mount --rbind /dev "$tree/dev"
    mkdir -p "$tree/var/cache/apt" "$tree/var/lib/apt/lists"
    mount --bind "$archive/cache" "$tree/var/cache/apt"
    mount --bind "$archive/lists" "$tree/var/lib/apt/lists"
}

close_tree() {
    umount "$1/var/lib/apt/lists" "$1/var/cache/apt" "$1/proc"
    umount --lazy "$1/dev"
}

install_packages() {
    local tree=$1
    shift
    # Several install from one archive at the same time, and none of them writes to it.
    there "$tree" apt-get -qq install -y --no-download --no-install-recommends -o Debug::NoLocking=1 "$@"
}

//! Servers of several shapes, attached, mounted, changed and checked.

use std::{collections::BTreeMap, fs, os::unix::fs::FileExt, path::Path, sync::Arc};

use cloud::control::Tags;
use domain::disk::BLOCK_LEN;

use super::{
    md::tests::superblock,
    mounts::{Guest, Programs},
    *,
};
use crate::convert::{
    inspect::disks::{Content, Role},
    scene::{Checkpoint, Scene, sh},
    worker::{WorkerError, inside::Inside},
};

/// What workers of tests do.
pub fn act(name: &str, inside: Inside) {
    match name {
        "change-logical" => work(inside, change_logical),
        "read-logical" => work(inside, read_logical),
        "change-subvolumes" => work(inside, change_subvolumes),
        "read-subvolumes" => work(inside, read_subvolumes),
        "change-volumes" => work(inside, change_volumes),
        "change-arrays" => work(inside, change_arrays),
        "mount" => work(inside, |_, _| ()),
        "refused" => refused(inside),
        "write-until-killed" => write_until_killed(&inside),
        other => panic!("nobody knows how to {other}"),
    }
}

fn attach(inside: &Inside) -> Attached {
    Attached::open(&inside.files(), &inside.disks).unwrap()
}

fn mount(attached: &mut Attached, inside: &Inside) -> Result<Guest, mounts::MountError> {
    Guest::mount(attached, &inside.work.join("root"), Programs::MayNotRun)
}

/// Mounts the guest, lets `change` change it, and reports what was to be seen.
fn work(inside: Inside, change: impl FnOnce(&Attached, &Guest)) {
    let mut attached = attach(&inside);
    let guest = mount(&mut attached, &inside).unwrap();
    change(&attached, &guest);
    let facts = attached.facts(Some(&guest), None);
    guest.unmount().unwrap();
    attached.check().unwrap();
    attached.close().unwrap();
    inside.report(&facts).unwrap();
}

/// A server with logical partitions: /boot, / on ext4, /var on xfs, all with logs that were not closed.
fn with_logical_partitions(scene: &Scene) -> Vec<Checkpoint> {
    vec![scene.disk(
        "/dev/sda",
        640,
        r"printf '%s\n' 'label: dos' 'label-id: 0x0badcafe' '1M,64M,L,*' '66M,,E' '68M,160M,L' '230M,400M,L' |
            sfdisk --quiet $disk
        boot=$(part 1 64) root=$(part 68 160) var=$(part 230 400)
        mkfs.ext3 -q -L boot $boot
        mkfs.ext4 -q -U 11111111-2222-3333-4444-555555555555 $root
        mkfs.xfs -q $var
        mount $root $at
        mkdir -p $at/etc $at/usr $at/boot $at/srv $at/elsewhere
        ln -s ../../../../elsewhere $at/var
        echo 'UUID=11111111-2222-3333-4444-555555555555 / ext4 errors=remount-ro 0 1
        LABEL=boot /boot ext3 defaults 0 2
        /dev/sda6 /var xfs defaults 0 2
        UUID=99999999-2222-3333-4444-555555555555 /srv ext4 defaults 0 2
        nas:/export /mnt nfs defaults 0 0' > $at/etc/fstab
        umount $at
        mount $boot $at && mkdir $at/grub && umount $at",
    )]
}

#[test]
fn a_server_with_logical_partitions_is_changed_in_a_child_snapshot() {
    let Some(scene) = Scene::new() else { return };
    let disks = with_logical_partitions(&scene);
    let (report, children) = scene.convert("change-logical", &disks);
    let facts: DiskFacts = serde_json::from_str(&report).unwrap();
    assert_eq!(facts.disks[0].table, Some(PartitionTable::Mbr));
    assert!(facts.disks[0].is_boot);
    let volumes: BTreeMap<_, _> = facts
        .volumes()
        .map(|volume| (volume.device_name.as_str(), volume))
        .collect();
    let mounted: Vec<_> = volumes
        .iter()
        .map(|(name, volume)| (*name, volume.mounted_at.as_deref(), &volume.content))
        .collect();
    let file_system = |name: &str| Content::FileSystem(name.to_owned());
    assert_eq!(
        mounted,
        [
            ("/dev/sda1", Some("/boot"), &file_system("ext3")),
            ("/dev/sda5", Some("/"), &file_system("ext4")),
            ("/dev/sda6", Some("/var"), &file_system("xfs")),
        ]
    );
    assert_eq!(volumes["/dev/sda5"].part_uuid.as_deref(), Some("0badcafe-05"));
    scene.convert("read-logical", &children);
}

fn not_mounted(guest: &Guest) -> Vec<&str> {
    let missing = guest.not_mounted.iter();
    missing.map(|missing| missing.path.as_str()).collect()
}

fn change_logical(attached: &Attached, guest: &Guest) {
    assert_eq!(not_mounted(guest), ["/srv"]);
    assert_eq!(attached.devices().len(), 3);
    fs::write(guest.root().join("etc/marker"), "changed").unwrap();
    fs::write(guest.root().join("boot/grub/grub.cfg"), "menu").unwrap();
    // /var is a link whose target, seen from the guest, is /elsewhere: that is where it is mounted.
    fs::write(guest.root().join("elsewhere/state"), "kept").unwrap();
    assert!(!Path::new("/elsewhere").exists());
}

fn read_logical(_: &Attached, guest: &Guest) {
    let read = |path| fs::read_to_string(guest.root().join(path)).unwrap();
    assert_eq!(read("etc/marker"), "changed");
    assert_eq!(read("boot/grub/grub.cfg"), "menu");
    assert_eq!(read("elsewhere/state"), "kept");
}

#[test]
fn a_server_with_subvolumes_and_a_second_disk_is_changed_in_child_snapshots() {
    let Some(scene) = Scene::new() else { return };
    let boot = scene.disk(
        "/dev/nvme0n1",
        400,
        r"printf '%s\n' 'label: gpt' '1M,2M,21686148-6449-6E6F-744E-656564454649' '4M,36M,U' \
            'start=40M, type=L, name=system' | sfdisk --quiet $disk
        esp=$(part 4 36) root=$(part 40 358)
        mkfs.vfat -F 32 -i 0BADCAFE -n EFI $esp >/dev/null
        mkfs.btrfs -q -L system $root
        mount $root $at
        btrfs -q subvolume create $at/@rootfs
        btrfs -q subvolume create $at/@home
        mkdir -p $at/@rootfs/etc $at/@rootfs/usr $at/@rootfs/home $at/@rootfs/boot/efi $at/@rootfs/srv
        echo ID=debian > $at/@rootfs/etc/os-release
        echo '/dev/disk/by-id/scsi-36 / btrfs defaults,subvol=@rootfs 0 0
        /dev/disk/by-id/scsi-36 /home btrfs defaults,subvol=@home 0 0
        UUID=0bad-cafe /boot/efi vfat umask=0077 0 1
        /dev/sda /srv ext4 defaults 0 2' > $at/@rootfs/etc/fstab
        umount $at
        # The first copy of the table is lost, and the one at the end is not.
        dd if=/dev/zero of=$disk bs=512 seek=1 count=1 conv=notrunc status=none",
    );
    let data = scene.disk("/dev/sda", 32, "mkfs.ext4 -q $disk");
    let (report, children) = scene.convert("change-subvolumes", &[boot, data]);
    let facts: DiskFacts = serde_json::from_str(&report).unwrap();
    assert_eq!(facts.disks[0].table, Some(PartitionTable::Gpt));
    assert_eq!(facts.disks[1].table, None);
    let volumes = &facts.disks[0].volumes;
    let roles: Vec<_> = volumes.iter().map(|volume| volume.role).collect();
    assert_eq!(roles, [Role::BiosBoot, Role::EfiSystem, Role::Data]);
    let efi = &volumes[1];
    assert_eq!(efi.content, Content::FileSystem("vfat".to_owned()));
    assert_eq!(
        (efi.uuid.as_deref(), efi.label.as_deref()),
        (Some("0BAD-CAFE"), Some("EFI"))
    );
    assert_eq!(efi.mounted_at.as_deref(), Some("/boot/efi"));
    assert_eq!(volumes[2].device_name, "/dev/nvme0n1p3");
    assert_eq!(volumes[2].part_label.as_deref(), Some("system"));
    scene.convert("read-subvolumes", &children);
}

const MARKERS: [&str; 4] = ["etc/marker", "home/marker", "srv/marker", "boot/efi/marker"];

fn change_subvolumes(_: &Attached, guest: &Guest) {
    let mounted: Vec<_> = guest
        .mounted
        .iter()
        .map(|mounted| mounted.path.as_str())
        .collect();
    assert_eq!(mounted, ["/", "/home", "/srv", "/boot/efi"]);
    for path in MARKERS {
        fs::write(guest.root().join(path), path).unwrap();
    }
    // What is free is given back: nothing of it is written to the child.
    let trimmed = std::process::Command::new("fstrim")
        .arg(guest.root())
        .status()
        .unwrap();
    assert!(trimmed.success());
}

fn read_subvolumes(_: &Attached, guest: &Guest) {
    for path in MARKERS {
        assert_eq!(fs::read_to_string(guest.root().join(path)).unwrap(), path);
    }
}

/// Programs of LVM that look at the devices `$first` and `$second` only, and `place VOLUME FILE` and `gather VOLUME
/// FILE`, which copy the contents of a logical volume by what LVM says of its extents.
const WITH_LVM: &str = r#"
    mkdir -p $at.lvm
    export LVM_SYSTEM_DIR=$at.lvm LVM_SUPPRESS_FD_WARNINGS=1
    cat > $at.lvm/lvm.conf <<END
    devices {
        dir = "/dev"
        scan = ["/dev"]
        filter = ["a|^$first$|", "a|^$second$|", "r|.*|"]
        use_devicesfile = 0
        hints = "none"
        external_device_info_source = "none"
        obtain_device_list_from_udev = 0
    }
    backup { backup = 0 archive = 0 }
    activation { udev_sync = 0 udev_rules = 0 monitoring = 0 }
    global { activation = 0 locking_dir = "$at.lvm" }
END
    begin() { # of an extent, in chunks of 64 KiB: /dev/loop0:5-9
        echo $(($(pvs --noheadings --units b --nosuffix -o pe_start ${1%:*}) / 65536 + $(echo ${1#*:} | cut -d- -f1) * 64))
    }
    copy() { # place|gather FILE CHUNK DEVICE CHUNK CHUNKS
        [ $1 = place ] && set $2 $3 $4 $5 $6 || set $4 $5 $2 $3 $6
        dd if=$1 skip=$2 of=$3 seek=$4 count=$5 bs=64k conv=notrunc status=none
    }
    extents() { # place|gather VOLUME FILE
        lvs --noheadings --segments -o seg_start_pe,seg_size_pe,seg_pe_ranges --units b --nosuffix vg-0/$2 > $at.segments
        while read start size one other; do
            from=$(begin $one)
            if [ -z "$other" ]; then
                copy $1 $3 $((start * 64)) ${one%:*} $from $((size * 64))
                continue
            fi
            also=$(begin $other)
            for row in $(seq 0 $((size * 32 - 1))); do
                copy $1 $3 $((start * 64 + row * 2)) ${one%:*} $((from + row)) 1
                copy $1 $3 $((start * 64 + row * 2 + 1)) ${other%:*} $((also + row)) 1
            done
        done < $at.segments
    }
    place() { extents place $1 $2; }
    gather() { extents gather $1 $2; }
"#;

const ON_TWO_DISKS: &str = "first=$(part 22 90) second=$(losetup --find --show $disk2)";

/// A server whose / is on both disks, /var on stripes of both, and /boot on no logical volume.
fn with_logical_volumes(scene: &Scene) -> Vec<Checkpoint> {
    let make = r"printf '%s\n' '1M,20M,L,*' '22M,90M,8e' | sfdisk --quiet --label dos $disk
        pvcreate -q --dataalignment 64k --metadatasize 60k $first $second
        vgcreate -q vg-0 $first $second
        lvcreate -q -an -Zn -Wn -n root -l 8 vg-0 $first
        lvcreate -q -an -Zn -Wn -n swap_1 -l 1 vg-0 $first
        lvextend -q -l +6 vg-0/root $second
        lvcreate -q -an -Zn -Wn -n var -i 2 -I 64k -l 6 vg-0
        lvcreate -q -an -Zn -Wn -n data -l 2 vg-0 $second
        # Until texts have gone round their area.
        for change in $(seq 30); do vgchange -q --addtag a$change vg-0; done
        boot=$(part 1 20)
        mkfs.ext4 -q -L boot $boot
        truncate -s 56M $at.root && mkfs.ext4 -q $at.root
        truncate -s 24M $at.var && mkfs.ext4 -q $at.var
        truncate -s 8M $at.data && mkfs.ext4 -q -U 11111111-2222-3333-4444-555555555555 $at.data
        truncate -s 4M $at.swap && mkswap -L sleep $at.swap
        mount -o loop $at.root $at
        mkdir -p $at/etc $at/usr $at/boot $at/var $at/srv $at/data
        head -c 40M /dev/urandom > $at/usr/program
        echo '/dev/mapper/vg--0-root / ext4 errors=remount-ro 0 1
        LABEL=boot /boot ext4 defaults 0 2
        /dev/vg-0/var /var ext4 defaults 0 2
        UUID=11111111-2222-3333-4444-555555555555 /data ext4 defaults 0 2
        /dev/disk/by-id/dm-name-vg--0-swap_1 none swap sw 0 0
        /dev/vg-0/srv /srv ext4 defaults 0 2' > $at/etc/fstab
        sha256sum < $at/usr/program > $at/etc/sum
        umount $at
        for volume in root var data; do place $volume $at.$volume; done
        place swap_1 $at.swap";
    scene.disks(
        &[("/dev/sda", 113), ("/dev/sdb", 56)],
        &format!("{ON_TWO_DISKS}{WITH_LVM}{make}"),
    )
}

#[test]
fn a_server_on_logical_volumes_is_changed_in_child_snapshots() {
    let Some(scene) = Scene::with(&["pvcreate"]) else {
        return;
    };
    let disks = with_logical_volumes(&scene);
    let (report, children) = scene.convert("change-volumes", &disks);
    let facts: DiskFacts = serde_json::from_str(&report).unwrap();
    assert_eq!(facts.closed, []);
    let mounted: BTreeMap<_, _> = facts
        .volumes()
        .map(|volume| (volume.device_name.as_str(), volume.mounted_at.as_deref()))
        .collect();
    assert_eq!(
        mounted.into_iter().collect::<Vec<_>>(),
        [
            ("/dev/mapper/vg--0-data", Some("/data")),
            ("/dev/mapper/vg--0-root", Some("/")),
            ("/dev/mapper/vg--0-swap_1", None),
            ("/dev/mapper/vg--0-var", Some("/var")),
            ("/dev/sda1", Some("/boot")),
            ("/dev/sda2", None),
            ("/dev/sdb", None),
        ]
    );
    let swap = facts.volumes().find(|volume| volume.content == Content::Swap);
    assert_eq!(swap.unwrap().label.as_deref(), Some("sleep"));
    let look = r"vgs -q vg-0 >/dev/null
        for volume in root var data; do
            truncate -s 0 $at.$volume
            gather $volume $at.$volume
            e2fsck -fn $at.$volume >/dev/null
            mount -o ro,loop $at.$volume $at
            (cd $at && sha256sum --check --quiet changed)
            umount $at
        done";
    scene.look(&children, &format!("{ON_TWO_DISKS}{WITH_LVM}{look}"));
}

fn change_volumes(attached: &Attached, guest: &Guest) {
    assert_eq!(not_mounted(guest), ["/srv"]);
    assert_eq!(attached.disks.len(), 6);
    let at = guest.root().display();
    // More than fits into the first segment is written, and some of what was there is discarded.
    sh(&format!(
        r"set -eu
        cd {at}
        sha256sum < usr/program | cmp - etc/sum
        rm usr/program
        fstrim .
        for one in . var data; do
            for number in 1 2 3; do
                [ $one = . ] && mib=12 || mib=1
                head -c ${{mib}}M /dev/urandom > $one/$number
            done
            sync -f $one
        done
        for one in . var data; do (cd $one && sha256sum 1 2 3 > changed); done",
    ));
}

/// What is in the second array, on the first disk.
const ON_ARRAY: &str = "first=$(part 62 49) second=$first";

/// A server whose / is on an array of both disks, and whose /var is on a logical volume of another array, of which the
/// second disk has lost track: it has something else there.
fn with_arrays(scene: &Scene) -> Vec<Checkpoint> {
    for (disk, lacks) in [0, 7].into_iter().enumerate() {
        let disk_number = u32::try_from(disk).unwrap();
        for (array, mib, lacks) in [(0, 59, 0), (1, 49, lacks)] {
            let superblock = superblock(array, disk_number, mib << 20, lacks);
            fs::write(scene.path().join(format!("making.{array}{disk}")), superblock).unwrap();
        }
    }
    let make = r"vgcreate -q vg-0 $first
        lvcreate -q -an -Zn -Wn -n var -l 10 vg-0
        truncate -s 40M $at.var && mkfs.ext4 -q $at.var
        place var $at.var
        root=$(part 2 59)
        mkfs.ext4 -q $root
        mount $root $at
        mkdir -p $at/etc $at/usr $at/var
        head -c 20M /dev/urandom > $at/usr/program
        echo '/dev/md0 / ext4 errors=remount-ro 0 1
        /dev/vg-0/var /var ext4 defaults 0 2' > $at/etc/fstab
        sha256sum < $at/usr/program > $at/etc/sum
        umount $at
        dd if=$disk of=$disk2 bs=1M count=61 conv=notrunc status=none
        dd if=/dev/urandom of=$disk2 bs=1M seek=62 count=49 conv=notrunc status=none
        for each in $disk $disk2; do
            printf '%s\n' '1M,60M,fd' '61M,50M,fd' | sfdisk --quiet --label dos $each
            [ $each = $disk ] && number=0 || number=1
            dd if=$at.0$number of=$each bs=4k seek=257 conv=notrunc status=none
            dd if=$at.1$number of=$each bs=4k seek=$((61 * 256 + 1)) conv=notrunc status=none
        done";
    scene.disks(
        &[("/dev/sda", 112), ("/dev/sdb", 112)],
        &format!("{ON_ARRAY}{WITH_LVM}{make}"),
    )
}

#[test]
fn a_server_on_arrays_is_changed_in_child_snapshots() {
    let Some(scene) = Scene::with(&["pvcreate"]) else {
        return;
    };
    let disks = with_arrays(&scene);
    let (report, children) = scene.convert("change-arrays", &disks);
    let facts: DiskFacts = serde_json::from_str(&report).unwrap();
    assert_eq!(facts.closed, []);
    let degraded: Vec<_> = facts.degraded.iter().map(ToString::to_string).collect();
    assert_eq!(degraded, ["/dev/md1: /dev/sdb2 is older than the others"]);
    let mounted: Vec<_> = facts
        .volumes()
        .map(|volume| (volume.device_name.as_str(), volume.mounted_at.as_deref()))
        .collect();
    assert_eq!(
        mounted,
        [
            ("/dev/sda1", None),
            ("/dev/sda2", None),
            ("/dev/sdb1", None),
            ("/dev/sdb2", None),
            ("/dev/md0", Some("/")),
            ("/dev/md1", None),
            ("/dev/mapper/vg--0-var", Some("/var")),
        ]
    );
    let look = r"vgs -q vg-0 >/dev/null
        truncate -s 0 $at.var
        gather var $at.var
        cmp --ignore-initial=2MiB --bytes=59MiB $disk $disk2
        for one in $(part 2 59) $at.var; do
            e2fsck -fn $one >/dev/null
            mount -o ro,loop $one $at
            (cd $at && sha256sum --check --quiet changed)
            umount $at
        done";
    scene.look(&children, &format!("{ON_ARRAY}{WITH_LVM}{look}"));
}

fn change_arrays(_: &Attached, guest: &Guest) {
    assert_eq!(not_mounted(guest), Vec::<&str>::new());
    let at = guest.root().display();
    sh(&format!(
        r"set -eu
        cd {at}
        sha256sum < usr/program | cmp - etc/sum
        rm usr/program
        fstrim .
        for one in . var; do
            head -c 8M /dev/urandom > $one/new
            (cd $one && sha256sum new > changed)
            sync -f $one
        done",
    ));
}

#[test]
fn what_cannot_be_opened_is_refused_in_one_sentence() {
    let Some(scene) = Scene::new() else { return };
    // What cryptsetup writes first.
    let disk = scene.disk(
        "/dev/vdb",
        32,
        r"printf 'LUKS\272\276\0\1' | dd of=$disk conv=notrunc status=none",
    );
    let (report, _) = scene.convert("refused", &[disk]);
    assert_eq!(
        report,
        r#""cannot convert: no root file system can be reached (/dev/vdb: it is encrypted with LUKS)""#
    );
}

fn refused(inside: Inside) {
    let mut attached = attach(&inside);
    let refused = mount(&mut attached, &inside).unwrap_err();
    attached.close().unwrap();
    inside.report(&refused.to_string()).unwrap();
}

#[test]
fn a_damaged_block_fails_the_conversion_and_says_which() {
    let Some(scene) = Scene::new() else { return };
    let disks = with_logical_partitions(&scene);
    // The first block of the root file system, behind its partition table.
    let block = 68 * 2;
    let mut files = fs::read_dir(scene.store.path()).unwrap();
    let data = files.find_map(|entry| {
        let path = entry.unwrap().path();
        (fs::metadata(&path).unwrap().len() > 200 << 20).then_some(path)
    });
    let data = fs::File::options().write(true).open(data.unwrap()).unwrap();
    data.write_all_at(b"x", block * BLOCK_LEN as u64 + 99).unwrap();
    let overlay = scene.overlay(&disks[0]);
    let mut worker = scene.worker("mount", &[(&disks[0], Arc::clone(&overlay))]);
    let ended = worker.next(Instant::now() + Duration::from_mins(1)).unwrap_err();
    assert!(matches!(ended, WorkerError::Ended { .. }), "{ended}");
    assert!(ended.to_string().contains("/dev/sda"), "{ended}");
    worker.end().unwrap();
    let failure = overlay.commit(Tags::new()).unwrap_err().to_string();
    let wanted = format!("block {block} of snapshot {} is damaged", disks[0].snapshot);
    assert!(failure.contains(&wanted), "{failure}");
}

/// Says its number as soon as everything is mounted.
fn write_until_killed(inside: &Inside) {
    let mut attached = attach(inside);
    let guest = mount(&mut attached, inside).unwrap();
    inside.step(&std::process::id().to_string()).unwrap();
    for name in 0_u32.. {
        let file = fs::File::create(guest.root().join(format!("etc/{}", name % 8))).unwrap();
        file.write_all_at(&vec![1; 1 << 20], 0).unwrap();
        file.sync_all().unwrap();
    }
}

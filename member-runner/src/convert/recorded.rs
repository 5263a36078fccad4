//! Guests that cannot be installed for every test: each a text of the few files that matter, unpacked on demand.
//!
//! ```text
//! == disk /dev/sda gpt boot
//! == volume /dev/sda1 esp vfat uuid=ABCD-1234 at=/boot/efi
//! == closed /dev/sda2 luks
//! == file /etc/fstab
//! UUID=ABCD-1234 /boot/efi vfat umask=0077 0 1
//! == link /bin usr/bin
//! == elf /usr/bin/dash 62
//! == folder /lib/modules/6.1.0-18-amd64
//! == fifo /etc/crypttab
//! == sparse /etc/lvm/lvm.conf 9000000
//! ```

use std::{
    fs,
    os::unix::fs::symlink,
    path::{Path, PathBuf},
};

use super::{
    inspect::{
        architecture::elf_header,
        disks::{AttachedDisk, Closed, Content, DiskFacts, PartitionTable, Role, Volume},
    },
    tree::Tree,
};

pub struct Recorded {
    folder: tempfile::TempDir,
    pub disks: DiskFacts,
}

impl Recorded {
    pub fn unpack(text: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let mut disks = DiskFacts::default();
        for entry in text.split("== ").skip(1) {
            let (head, body) = entry.split_once('\n').unwrap();
            let words: Vec<&str> = head.split(' ').collect();
            match words.as_slice() {
                ["disk", name, more @ ..] => disks.disks.push(disk(name, more)),
                ["volume", name, more @ ..] => {
                    let disk = disks.disks.last_mut().unwrap();
                    disk.volumes.push(volume(name, more));
                }
                ["closed", name, content] => disks.closed.push(Closed {
                    content: volume(name, &[content]).content,
                    names: vec![(*name).to_owned()],
                    why: "it is closed".to_owned(),
                }),
                [kind, path, more @ ..] => unpack(&place(folder.path(), path), kind, more, body),
                _ => panic!("{head:?} is no entry of a recorded tree"),
            }
        }
        Self { folder, disks }
    }

    pub fn tree(&self) -> Tree {
        Tree::open(self.folder.path()).unwrap()
    }
}

/// The folders above `path` are made; links among them are followed within the tree, as usr-merged systems need.
fn place(root: &Path, path: &str) -> PathBuf {
    let at = root.join(path.strip_prefix('/').unwrap());
    fs::create_dir_all(at.parent().unwrap()).unwrap();
    at
}

fn unpack(at: &Path, kind: &str, more: &[&str], body: &str) {
    match (kind, more) {
        ("file", []) => fs::write(at, body).unwrap(),
        ("link", [target]) => symlink(target, at).unwrap(),
        ("elf", [machine]) => fs::write(at, elf_header(machine.parse().unwrap())).unwrap(),
        ("folder", []) => fs::create_dir_all(at).unwrap(),
        ("fifo", []) => rustix::fs::mkfifoat(rustix::fs::CWD, at, 0o600.into()).unwrap(),
        ("sparse", [bytes]) => {
            let file = fs::File::create(at).unwrap();
            file.set_len(bytes.parse().unwrap()).unwrap();
        }
        _ => panic!("{kind} {more:?} is no entry of a recorded tree"),
    }
}

fn disk(name: &str, more: &[&str]) -> AttachedDisk {
    AttachedDisk {
        device_name: name.to_owned(),
        is_boot: more.contains(&"boot"),
        table: match more.first() {
            Some(&"gpt") => Some(PartitionTable::Gpt),
            Some(&"mbr") => Some(PartitionTable::Mbr),
            _ => None,
        },
        volumes: Vec::new(),
    }
}

fn volume(name: &str, more: &[&str]) -> Volume {
    let mut volume = Volume {
        device_name: name.to_owned(),
        ..Volume::default()
    };
    for word in more {
        match word.split_once('=') {
            Some(("uuid", value)) => volume.uuid = Some(value.to_owned()),
            Some(("label", value)) => volume.label = Some(value.to_owned()),
            Some(("partuuid", value)) => volume.part_uuid = Some(value.to_owned()),
            Some(("also", value)) => volume.other_names.push(value.to_owned()),
            Some(("at", value)) => volume.mounted_at = Some(value.to_owned()),
            Some(_) => panic!("{word} says nothing of a volume"),
            None => match *word {
                "esp" => volume.role = Role::EfiSystem,
                "bios" => volume.role = Role::BiosBoot,
                "swap" => volume.content = Content::Swap,
                "lvm" => volume.content = Content::Lvm,
                "md" => volume.content = Content::Md,
                "luks" => volume.content = Content::Luks,
                kind => volume.content = Content::FileSystem(kind.to_owned()),
            },
        }
    }
    volume
}

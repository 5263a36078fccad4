//! Recorded guests, as their distributions and installers leave them, and the exact list of what conversion
//! changes in each. A file of `trees/` has a guest's files: `=== path [mode]` and then its contents, or
//! `=> path target` for a symbolic link.

use std::{
    fs,
    os::unix::fs::{PermissionsExt, symlink},
    path::Path,
};

use domain::{
    changes::{State, What},
    checkpoint::CheckpointNumber,
    conversion::Network,
};
use rustix::fs::{CWD, FileType, mknodat};

use super::*;
use crate::convert::plan::Device;

const GUESTS: [(&str, &str); 7] = [
    ("debian-11", include_str!("trees/debian-11.txt")),
    ("debian-12", include_str!("trees/debian-12.txt")),
    ("ubuntu-22.04", include_str!("trees/ubuntu-22.04.txt")),
    ("centos-7", include_str!("trees/centos-7.txt")),
    ("rhel-8", include_str!("trees/rhel-8.txt")),
    ("rhel-9", include_str!("trees/rhel-9.txt")),
    ("suse-15", include_str!("trees/suse-15.txt")),
];

/// Disks that were replicated.
const DEVICES: [(&str, &str, &str); 14] = [
    ("debian-11", "/dev/sda1", "d1100000-0000-4000-8000-000000000001"),
    ("debian-11", "/dev/sda5", "d1100000-0000-4000-8000-000000000005"),
    ("debian-12", "/dev/sda1", "AAAA-0001"),
    ("debian-12", "/dev/sda2", "11111111-1111-1111-1111-111111111111"),
    ("debian-12", "/dev/sda3", "d1200000-0000-4000-8000-000000000003"),
    (
        "debian-12",
        "/dev/disk/by-id/ata-VBOX_HARDDISK_VB01-part4",
        "d1200000-0000-4000-8000-000000000004",
    ),
    ("centos-7", "/dev/sda1", "c7000000-0000-4000-8000-000000000001"),
    ("rhel-8", "/dev/sda1", "e8000000-0000-4000-8000-000000000001"),
    ("rhel-8", "/dev/sda2", "e8000000-0000-4000-8000-000000000002"),
    ("rhel-8", "/dev/sda3", "e8000000-0000-4000-8000-000000000003"),
    ("rhel-9", "/dev/sda1", "CCCC-0001"),
    ("rhel-9", "/dev/sda2", "33333333-3333-3333-3333-333333333333"),
    ("suse-15", "/dev/xvda1", "5e150000-0000-4000-8000-000000000001"),
    ("suse-15", "/dev/xvda2", "5e150000-0000-4000-8000-000000000002"),
];

struct Guest {
    root: tempfile::TempDir,
    tree: Tree,
    name: &'static str,
}

impl Guest {
    fn new(name: &'static str) -> Self {
        let root = tempfile::tempdir().unwrap();
        let (_, recorded) = GUESTS.iter().find(|(found, _)| *found == name).unwrap();
        for entry in recorded.split("\n=").skip(1) {
            let (heading, contents) = entry.split_once('\n').unwrap_or((entry, ""));
            let contents = contents.trim_end_matches('\n');
            match heading.split_whitespace().collect::<Vec<_>>()[..] {
                ["==", path, ref mode @ ..] => {
                    let path = place(root.path(), path);
                    // A block of grub's environment ends without a line's end.
                    let end = if contents.is_empty() || contents.ends_with('#') {
                        ""
                    } else {
                        "\n"
                    };
                    fs::write(&path, format!("{contents}{end}")).unwrap();
                    let mode = mode
                        .first()
                        .map_or(0o644, |mode| u32::from_str_radix(mode, 8).unwrap());
                    fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
                }
                [">", path, target] => symlink(target, place(root.path(), path)).unwrap(),
                _ => panic!("{name}: {heading}"),
            }
        }
        // What is masked leads to a device, here to something that would block for ever.
        let null = place(root.path(), "/dev/null");
        mknodat(CWD, &null, FileType::Fifo, 0o600.into(), 0).unwrap();
        for masked in [
            "/etc/udev/rules.d/80-net-setup-link.rules",
            "/etc/systemd/network/99-default.link",
        ] {
            symlink("/dev/null", place(root.path(), masked)).unwrap();
        }
        let tree = Tree::open(root.path()).unwrap();
        Self { root, tree, name }
    }

    fn plan(&self, network: Network) -> Plan {
        plan(self.name, network)
    }

    fn convert(&self, network: Network) -> ChangeList {
        let mut list = list();
        edit(&self.tree, &mut list, &self.plan(network)).unwrap();
        list
    }
}

fn plan(guest: &str, network: Network) -> Plan {
    let device = |uuid: &str| Device {
        uuid: Some(uuid.to_owned()),
        ..Device::default()
    };
    Plan {
        network,
        devices: DEVICES
            .iter()
            .filter(|(found, ..)| *found == guest)
            .map(|(_, name, uuid)| ((*name).to_owned(), device(uuid)))
            .collect(),
        // Debian 12 has an archive on a disk that was left out. The others have LVM, or names only.
        devices_are_all: guest == "debian-12",
    }
}

fn list() -> ChangeList {
    ChangeList::new("s-00000000000000001".parse().unwrap(), CheckpointNumber(7))
}

fn place(root: &Path, path: &str) -> std::path::PathBuf {
    let path = root.join(path.trim_start_matches('/'));
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    path
}

#[test]
fn every_guest_has_its_exact_list() {
    for (name, _) in GUESTS {
        let list = Guest::new(name).convert(Network::Dhcp);
        insta::assert_snapshot!(name, list.text());
    }
}

#[test]
fn an_address_that_is_kept_is_bound_to_the_first_interface() {
    for (name, _) in GUESTS {
        let mut list = Guest::new(name).convert(Network::Keep);
        list.changes.retain(|change| change.step == "network");
        insta::assert_snapshot!(format!("{name}-keep"), list.text());
    }
}

#[test]
fn a_second_conversion_changes_nothing() {
    for (name, _) in GUESTS {
        for network in [Network::Dhcp, Network::Keep] {
            let guest = Guest::new(name);
            guest.convert(network);
            assert_eq!(guest.convert(network), list(), "{name} {network:?}");
        }
    }
}

#[test]
fn a_step_that_runs_again_changes_nothing() {
    for (name, _) in GUESTS {
        let guest = Guest::new(name);
        for (step, edit) in STEPS {
            let plan = guest.plan(Network::Dhcp);
            edit(&mut Editor::new(&guest.tree, &mut list(), step), &plan).unwrap();
            let mut again = list();
            edit(&mut Editor::new(&guest.tree, &mut again, step), &plan).unwrap();
            assert_eq!(again, list(), "{name}: {step}");
        }
    }
}

#[test]
fn what_the_list_says_is_what_is_there() {
    for (name, _) in GUESTS {
        let guest = Guest::new(name);
        let list = guest.convert(Network::Dhcp);
        // The last word on each path.
        for (at, change) in list.changes.iter().enumerate() {
            if list.changes[at + 1..]
                .iter()
                .any(|later| later.path == change.path)
            {
                continue;
            }
            let found = guest.tree.read(&change.path);
            let after = match &change.what {
                What::Created { after } | What::Changed { after, .. } => Some(after),
                What::Removed { .. } => None,
            };
            match after {
                Some(State::File { .. }) => {
                    assert_eq!(
                        after,
                        found.unwrap().map(|found| State::of(&found)).as_ref(),
                        "{change:?}"
                    );
                }
                Some(_) => assert!(guest.tree.kind(&change.path).unwrap().is_some(), "{change:?}"),
                None => assert_eq!(guest.tree.kind(&change.path).unwrap(), None, "{change:?}"),
            }
        }
    }
}

#[test]
fn no_secret_enters_a_list() {
    for (name, _) in GUESTS {
        let json = serde_json::to_string(&Guest::new(name).convert(Network::Dhcp)).unwrap();
        assert!(
            !json.contains("nobody may see") && !json.contains("not for the change list"),
            "{name}"
        );
    }
}

#[test]
fn an_error_names_its_step_and_what_is_wrong() {
    let guest = Guest::new("debian-11");
    let fstab = place(guest.root.path(), "/etc/fstab");
    fs::remove_file(&fstab).unwrap();
    fs::create_dir(&fstab).unwrap();
    let error = edit(&guest.tree, &mut list(), &guest.plan(Network::Dhcp)).unwrap_err();
    assert_eq!(error.to_string(), "the step fstab failed");
    assert_eq!(
        error.source.to_string(),
        "/etc/fstab is a folder, and should be a file"
    );
}

/// Where strangers may have written anything.
const PATHS: [&str; 15] = [
    "/etc/mdadm/mdadm.conf",
    "/etc/fstab",
    "/etc/crypttab",
    "/etc/default/grub",
    "/etc/kernel/cmdline",
    "/boot/loader/entries/a.conf",
    "/boot/grub2/grubenv",
    "/etc/inittab",
    "/etc/network/interfaces",
    "/etc/netplan/a.yaml",
    "/etc/NetworkManager/system-connections/a",
    "/etc/systemd/network/a.network",
    "/etc/sysconfig/network-scripts/ifcfg-ens3",
    "/etc/udev/rules.d/a.rules",
    "/etc/systemd/system/orglift-agent.service",
];
const WORDS: [&str; 42] = [
    " ",
    "  ",
    "\n",
    "\n",
    "\n  ",
    "\n    ",
    "\t",
    "\r",
    "=",
    ":",
    ": ",
    ",",
    "\"",
    "'",
    "#",
    "- ",
    "{}",
    "é",
    "[Match]\n",
    "[ipv4]\n",
    "Name=",
    "/dev/sda1",
    "/dev/sdz9",
    "UUID=x",
    "none",
    "iface ",
    "auto ",
    "eth0",
    "ens3",
    " inet ",
    "static",
    "gateway 10.0.0.1",
    "network:\n",
    "ethernets:\n",
    "dhcp4: true\n",
    "GRUB_CMDLINE_LINUX=",
    "options ",
    "root=/dev/sda1",
    "kernelopts=",
    "console=hvc0",
    "DEVICE ",
    "ARRAY /dev/md0 devices=",
];

proptest::proptest! {
    // Each case writes a guest of twenty files, durably.
    #![proptest_config(proptest::test_runner::Config::with_cases(32))]

    /// Whatever a file holds, it is converted once, or refused.
    #[test]
    fn any_text_is_converted_once(
        texts in proptest::collection::vec((0..PATHS.len(), proptest::collection::vec(0..WORDS.len(), 0..40)), 1..4),
    ) {
        let guest = Guest::new("rhel-9");
        for (at, words) in texts {
            let text: String = words.into_iter().map(|word| WORDS[word]).collect();
            fs::write(place(guest.root.path(), PATHS[at]), text).unwrap();
        }
        for network in [Network::Dhcp, Network::Keep] {
            let plan = plan("debian-11", network);
            if edit(&guest.tree, &mut list(), &plan).is_ok() {
                let mut again = list();
                edit(&guest.tree, &mut again, &plan).unwrap();
                proptest::prop_assert_eq!(again, list());
            }
        }
    }
}

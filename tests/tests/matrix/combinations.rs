//! Which servers there are: what each is made of, and those that every run boots.

use std::fmt;

pub const SUITES: [&str; 3] = ["bullseye", "bookworm", "trixie"];
pub const FIRMWARES: [&str; 3] = ["mbr-bios", "gpt-bios", "gpt-uefi"];
pub const ROOTS: [&str; 3] = ["ext4", "xfs", "btrfs"];
pub const GENERATORS: [&str; 2] = ["initramfs-tools", "dracut"];
pub const NETWORKS: [&str; 4] = ["ifupdown", "netplan", "networkmanager", "networkd"];
/// What there is besides the root. It goes along with the others, and is not combined with all of them.
pub const LAYOUTS: [&str; 4] = ["swap", "boot", "var", "data"];

/// In the words of `tests/old-server/disks`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Combination {
    pub suite: &'static str,
    pub firmware: &'static str,
    pub root: &'static str,
    pub generator: &'static str,
    pub network: &'static str,
    pub layout: &'static str,
}

impl Combination {
    const fn of(words: [&'static str; 6]) -> Self {
        let [suite, firmware, root, generator, network, layout] = words;
        Self {
            suite,
            firmware,
            root,
            generator,
            network,
            layout,
        }
    }

    pub fn has_uefi(&self) -> bool {
        self.firmware == "gpt-uefi"
    }

    pub fn words(&self) -> [&'static str; 6] {
        [
            self.suite,
            self.firmware,
            self.root,
            self.generator,
            self.network,
            self.layout,
        ]
    }
}

impl fmt::Display for Combination {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.words().join(" "))
    }
}

/// Twelve are the fewest that have every firmware with every network. Any two things that a server can be made of are
/// together in one of these, but for network and layout.
pub const SELECTION: [Combination; 12] = [
    Combination::of([
        "bullseye",
        "mbr-bios",
        "xfs",
        "initramfs-tools",
        "ifupdown",
        "swap",
    ]),
    Combination::of([
        "bullseye",
        "gpt-bios",
        "btrfs",
        "initramfs-tools",
        "networkmanager",
        "boot",
    ]),
    Combination::of(["bullseye", "gpt-bios", "btrfs", "dracut", "networkd", "data"]),
    Combination::of([
        "bullseye",
        "gpt-uefi",
        "ext4",
        "initramfs-tools",
        "netplan",
        "var",
    ]),
    Combination::of(["bookworm", "mbr-bios", "ext4", "dracut", "networkmanager", "boot"]),
    Combination::of(["bookworm", "gpt-bios", "xfs", "initramfs-tools", "netplan", "var"]),
    Combination::of(["bookworm", "gpt-uefi", "ext4", "dracut", "networkd", "data"]),
    Combination::of(["bookworm", "gpt-uefi", "btrfs", "dracut", "ifupdown", "swap"]),
    Combination::of(["trixie", "mbr-bios", "xfs", "initramfs-tools", "networkd", "data"]),
    Combination::of(["trixie", "mbr-bios", "btrfs", "dracut", "netplan", "var"]),
    Combination::of([
        "trixie",
        "gpt-bios",
        "ext4",
        "initramfs-tools",
        "ifupdown",
        "swap",
    ]),
    Combination::of(["trixie", "gpt-uefi", "xfs", "dracut", "networkmanager", "boot"]),
];

/// A thirteenth, of which no combinations are made.
pub const ON_LVM: Combination = Combination::of([
    "bookworm",
    "mbr-bios",
    "ext4",
    "initramfs-tools",
    "ifupdown",
    "lvm",
]);

/// A fourteenth, whose logical volumes are on an array of two disks, and whose /boot is on another.
pub const ON_RAID: Combination = Combination::of([
    "bookworm",
    "mbr-bios",
    "ext4",
    "initramfs-tools",
    "ifupdown",
    "raid",
]);

/// All combinations but those of the selection, with one layout after the other.
pub fn the_rest() -> Vec<Combination> {
    let mut all = Vec::new();
    for suite in SUITES {
        for firmware in FIRMWARES {
            for root in ROOTS {
                for generator in GENERATORS {
                    for network in NETWORKS {
                        // The number of networks is that of layouts, and each is to meet the other.
                        let layout = LAYOUTS[(all.len() + all.len() / LAYOUTS.len()) % LAYOUTS.len()];
                        all.push(Combination::of([
                            suite, firmware, root, generator, network, layout,
                        ]));
                    }
                }
            }
        }
    }
    let is_selected = |one: &Combination| {
        SELECTION
            .iter()
            .any(|selected| selected.words()[..5] == one.words()[..5])
    };
    all.retain(|one| !is_selected(one));
    all
}

#[test]
fn any_two_things_are_together_in_one_of_the_selection() {
    let factors: [&[&str]; 6] = [&SUITES, &FIRMWARES, &ROOTS, &GENERATORS, &NETWORKS, &LAYOUTS];
    let (network, layout) = (4, 5);
    let mut missing = Vec::new();
    for (first, second) in (0..6).flat_map(|second| (0..second).map(move |first| (first, second))) {
        if (first, second) == (network, layout) {
            continue;
        }
        for one in factors[first] {
            for other in factors[second] {
                let has_both = |server: &Combination| {
                    let words = server.words();
                    words[first] == *one && words[second] == *other
                };
                if !SELECTION.iter().any(has_both) {
                    missing.push(format!("{one} with {other}"));
                }
            }
        }
    }
    assert_eq!(missing, Vec::<String>::new());
}

#[test]
fn the_rest_are_all_that_are_not_selected() {
    let rest = the_rest();
    assert_eq!(rest.len() + SELECTION.len(), 216);
    for network in NETWORKS {
        for layout in LAYOUTS {
            let together = |server: &Combination| server.network == network && server.layout == layout;
            assert!(rest.iter().any(together), "{network} with {layout}");
        }
    }
}

//! Recorded guests, with all that is found out about each.

use super::*;
use crate::convert::recorded::Recorded;

/// Facts and findings of a recorded guest. The room on the machine of the test says nothing of the guest's.
fn look(recorded: &Recorded, target: Hypervisor) -> (Facts, Vec<Finding>) {
    let mut facts = facts(&recorded.tree(), &recorded.disks);
    facts.free.clear();
    let findings = findings::findings(&facts, &recorded.disks, target);
    (facts, findings)
}

macro_rules! recorded {
    ($($test:ident: $file:literal,)*) => {$(
        #[test]
        fn $test() {
            let recorded = Recorded::unpack(include_str!(concat!("../recorded/", $file, ".txt")));
            let (facts, findings) = look(&recorded, Hypervisor::Nitro);
            insta::assert_debug_snapshot!(concat!($file, "-facts"), facts);
            insta::assert_json_snapshot!(concat!($file, "-findings"), findings);
        }
    )*};
}

recorded! {
    debian_11: "debian-11",
    debian_12: "debian-12",
    debian_13: "debian-13",
    ubuntu_22_04: "ubuntu-22.04",
    rhel_9: "rhel-9",
    sles_15: "sles-15",
    centos_6: "centos-6",
    hostile: "hostile",
}

#[test]
fn room_is_measured_where_something_is_mounted() {
    let recorded = Recorded::unpack(include_str!("../recorded/debian-11.txt"));
    let (facts, _) = inspect(&recorded.tree(), &recorded.disks, Hypervisor::Nitro);
    let [root] = facts.free.as_slice() else {
        panic!("one file system is mounted: {:?}", facts.free);
    };
    assert_eq!(root.mount_point, "/");
    assert!(root.bytes > 0);
}

#[test]
fn looking_changes_nothing_and_says_the_same_again() {
    let recorded = Recorded::unpack(include_str!("../recorded/rhel-9.txt"));
    assert_eq!(look(&recorded, Hypervisor::Xen), look(&recorded, Hypervisor::Xen));
}

//! Every finding, each from a guest that is ready but for one thing.

use std::{collections::BTreeMap, fmt::Write};

use domain::{launch::BootMode, readiness::Readiness};

use super::*;
use crate::convert::inspect::{
    architecture::Architecture,
    boot::{Boot, BootLoader, Efi},
    crypttab,
    disks::{AttachedDisk, Closed, Content, Degraded, PartitionTable, Role, Volume},
    distribution::{Distribution, Family},
    fstab,
    initramfs::InitramfsGenerator,
    kernels::{BuiltAs, Driver, Kernel},
    network::{Network, NetworkStack, StaticAddress},
    software::{CloudInit, HypervisorTools, Selinux},
    storage::{FreeSpace, Layer},
};

const MIB: u64 = 1 << 20;

/// A guest, its disks, and where it goes.
struct Case {
    facts: Facts,
    disks: DiskFacts,
    target: Hypervisor,
}

impl Case {
    /// A Debian that nothing is to be said of.
    fn ready() -> Self {
        let root = Volume {
            device_name: "/dev/sda1".into(),
            content: Content::FileSystem("ext4".into()),
            uuid: Some("aaaa".into()),
            mounted_at: Some("/".into()),
            ..Volume::default()
        };
        let mut case = Self {
            facts: Facts {
                architecture: Some(Architecture::X86_64),
                distribution: Some(Distribution {
                    id: "debian".into(),
                    id_like: Vec::new(),
                    version: "12".into(),
                    pretty_name: "Debian GNU/Linux 12 (bookworm)".into(),
                }),
                family: Family::Debian,
                boot: Boot {
                    mode: BootMode::LegacyBios,
                    loader: BootLoader::Grub2 {
                        name: "grub",
                        configuration: "/boot/grub/grub.cfg".into(),
                        bls: false,
                    },
                    bios_trace: Some("/boot/grub/i386-pc/core.img".into()),
                    efi: None,
                },
                kernels: vec![kernel("6.1.0-18-amd64"), kernel("6.1.0-17-amd64")],
                initramfs: Some(InitramfsGenerator::InitramfsTools),
                fstab: Vec::new(),
                fstab_bad_lines: Vec::new(),
                crypttab: Vec::new(),
                crypttab_bad_lines: Vec::new(),
                layers: Vec::new(),
                lvm_filter: None,
                lvm_devices_file: None,
                has_mdadm: true,
                dracut_parameters: Vec::new(),
                free: vec![free("/", 100 * MIB, Some(100)), free("/boot", 50 * MIB, None)],
                network: Network {
                    stacks: vec![NetworkStack::Ifupdown],
                    dhcp_client: Some("/sbin/dhclient".into()),
                    ..Network::default()
                },
                cloud_init: Some(CloudInit {
                    disabled_by: None,
                    data_sources_in: Vec::new(),
                    network_disabled_by: None,
                }),
                selinux: None,
                hypervisor_tools: Vec::new(),
                agent: Some("/etc/systemd/system/orglift-agent.service".into()),
                unreadable: Vec::new(),
            },
            disks: DiskFacts {
                disks: vec![AttachedDisk {
                    device_name: "/dev/sda".into(),
                    is_boot: true,
                    table: Some(PartitionTable::Mbr),
                    volumes: vec![root],
                }],
                ..DiskFacts::default()
            },
            target: Hypervisor::Nitro,
        };
        case.fstab("UUID=aaaa / ext4 defaults 0 1\n/swapfile none swap sw 0 0\ntmpfs /tmp tmpfs\n");
        case
    }

    fn findings(&self) -> Vec<Finding> {
        findings(&self.facts, &self.disks, self.target)
    }

    fn fstab(&mut self, text: &str) {
        (self.facts.fstab, self.facts.fstab_bad_lines) = fstab::parse(text);
    }

    fn crypttab(&mut self, text: &str) {
        (self.facts.crypttab, self.facts.crypttab_bad_lines) = crypttab::parse(text);
    }

    fn volume(&mut self, content: Content) -> &mut Volume {
        let volumes = &mut self.disks.disks[0].volumes;
        volumes.push(Volume {
            device_name: format!("/dev/sda{}", volumes.len() + 1),
            content,
            ..Volume::default()
        });
        volumes.last_mut().unwrap()
    }

    /// What is on the last volume, or is called like this, cannot be used.
    fn close(&mut self, content: Content, name: &str) {
        self.disks.closed.push(Closed {
            content,
            names: vec![name.into()],
            why: "it has a reason".into(),
        });
    }

    /// Nothing is mounted: the system is within something that is closed.
    fn closed_root(&mut self, content: Content, spec: &str) {
        self.disks.disks[0].volumes.clear();
        self.volume(content.clone());
        let name = if content == Content::Lvm {
            "/dev/mapper/vg-root"
        } else {
            "/dev/sda1"
        };
        if content != Content::Unknown {
            self.close(content, name);
        }
        self.fstab(&format!("{spec} / ext4 defaults 0 1\n"));
    }

    fn uefi(&mut self, programs: &[&str]) {
        self.facts.boot.mode = BootMode::Uefi;
        self.facts.boot.efi = Some(Efi {
            mounted_at: "/boot/efi",
            programs: programs.iter().map(|path| (*path).to_owned()).collect(),
        });
        self.volume(Content::FileSystem("vfat".into())).role = Role::EfiSystem;
    }

    fn lose(&mut self, driver: Driver, kernels: usize) {
        for kernel in self.facts.kernels.iter_mut().take(kernels) {
            kernel.drivers.insert(driver, BuiltAs::Absent);
        }
    }

    fn address(&mut self, address: &str) {
        self.facts.network.addresses.push(StaticAddress {
            interface: "eth0".into(),
            address: address.into(),
            file: "/etc/network/interfaces".into(),
        });
    }
}

fn kernel(version: &str) -> Kernel {
    Kernel {
        version: version.into(),
        image: format!("/boot/vmlinuz-{version}"),
        initrd: Some(format!("/boot/initrd.img-{version}")),
        has_modules: true,
        drivers: BTreeMap::from(Driver::ALL.map(|driver| (driver, BuiltAs::Module))),
    }
}

fn free(mount_point: &str, bytes: u64, inodes: Option<u64>) -> FreeSpace {
    FreeSpace {
        mount_point: mount_point.into(),
        bytes,
        inodes,
    }
}

type Change = fn(&mut Case);

/// What is wrong, and the class and code of the findings that it brings; all others stay away.
const CASES: &[(&str, &[&str], Change)] = &[
    (
        "a file that cannot be read",
        &["blocks unreadable-files"],
        |case| {
            let why = "/etc/crypttab is a FIFO, and should be a file".into();
            case.facts.unreadable.push(("/etc/crypttab".into(), why));
        },
    ),
    ("arm64", &["informs architecture-arm64"], |case| {
        case.facts.architecture = Some(Architecture::Aarch64);
    }),
    ("32 bits", &["blocks architecture-32-bit"], |case| {
        case.facts.architecture = Some(Architecture::X86);
    }),
    ("a mainframe", &["blocks architecture-unsupported"], |case| {
        case.facts.architecture = Some(Architecture::Other(22));
    }),
    ("no shell", &["warns architecture-unknown"], |case| {
        case.facts.architecture = None;
    }),
    ("no os-release", &["warns distribution-unknown"], |case| {
        case.facts.distribution = None;
    }),
    ("an unknown family", &["warns distribution-unknown"], |case| {
        case.facts.family = Family::Other;
    }),
    ("GRUB 0.97", &["blocks grub-legacy"], |case| {
        case.facts.boot.loader = BootLoader::GrubLegacy {
            configuration: "/boot/grub/menu.lst".into(),
        };
    }),
    ("systemd-boot", &["blocks boot-loader-unsupported"], |case| {
        case.facts.boot.loader = BootLoader::Other {
            name: "systemd-boot",
            trace: "/boot/efi/EFI/systemd/systemd-bootx64.efi".into(),
        };
    }),
    ("no boot loader", &["blocks boot-loader-missing"], |case| {
        case.facts.boot.loader = BootLoader::Missing;
    }),
    ("UEFI with all it needs", &[], |case| {
        case.uefi(&[
            "/boot/efi/EFI/BOOT/BOOTX64.EFI",
            "/boot/efi/EFI/debian/grubx64.efi",
        ]);
    }),
    ("UEFI on Xen", &["blocks uefi-on-xen"], |case| {
        case.uefi(&["/boot/efi/EFI/BOOT/BOOTX64.EFI"]);
        case.target = Hypervisor::Xen;
    }),
    (
        "UEFI without its partition",
        &["blocks efi-system-partition-missing"],
        |case| {
            case.facts.boot.mode = BootMode::Uefi;
        },
    ),
    (
        "an empty EFI partition",
        &["blocks efi-system-partition-missing"],
        |case| {
            case.uefi(&[]);
            case.facts.boot.efi = None;
        },
    ),
    ("no EFI fallback", &["informs efi-fallback-missing"], |case| {
        case.uefi(&["/boot/efi/EFI/debian/grubx64.efi"]);
    }),
    ("Secure Boot", &["informs secure-boot"], |case| {
        case.uefi(&[
            "/boot/efi/EFI/BOOT/BOOTX64.EFI",
            "/boot/efi/EFI/debian/shimx64.efi",
        ]);
    }),
    (
        "a BIOS with GRUB for UEFI",
        &["warns bios-boot-unproven"],
        |case| {
            case.uefi(&["/boot/efi/EFI/BOOT/BOOTX64.EFI"]);
            case.facts.boot.mode = BootMode::LegacyBios;
            case.facts.boot.bios_trace = None;
        },
    ),
    (
        "a BIOS and a GPT",
        &["warns bios-boot-partition-missing"],
        |case| {
            case.disks.disks[0].table = Some(PartitionTable::Gpt);
        },
    ),
    ("a BIOS and a GPT with room for GRUB", &[], |case| {
        case.disks.disks[0].table = Some(PartitionTable::Gpt);
        case.volume(Content::Unknown).role = Role::BiosBoot;
    }),
    ("no kernel", &["blocks kernel-missing"], |case| {
        case.facts.kernels.clear();
    }),
    ("kernels for Xen", &["blocks kernel-for-xen-only"], |case| {
        case.facts.kernels = vec![kernel("3.0.101-108-xen"), kernel("2.6.18-419.el5xen")];
    }),
    (
        "no kernel with nvme",
        &["blocks storage-driver-missing"],
        |case| case.lose(Driver::Nvme, 2),
    ),
    (
        "one kernel without nvme",
        &["warns storage-driver-missing"],
        |case| case.lose(Driver::Nvme, 1),
    ),
    ("no nvme, on Xen", &[], |case| {
        case.lose(Driver::Nvme, 2);
        case.target = Hypervisor::Xen;
    }),
    (
        "no kernel with xen-blkfront, on Xen",
        &["blocks storage-driver-missing"],
        |case| {
            case.lose(Driver::XenBlkfront, 2);
            case.target = Hypervisor::Xen;
        },
    ),
    ("no kernel with ena", &["blocks network-driver-missing"], |case| {
        case.lose(Driver::Ena, 2);
    }),
    (
        "one kernel without ena",
        &["warns network-driver-missing"],
        |case| case.lose(Driver::Ena, 1),
    ),
    ("no ena, on Xen", &[], |case| {
        case.lose(Driver::Ena, 2);
        case.target = Hypervisor::Xen;
    }),
    (
        "no kernel with xen-netfront, on Xen",
        &["blocks network-driver-missing"],
        |case| {
            case.lose(Driver::XenNetfront, 2);
            case.target = Hypervisor::Xen;
        },
    ),
    (
        "no kernel with ext4",
        &["blocks root-file-system-driver-missing"],
        |case| case.lose(Driver::Ext4, 2),
    ),
    (
        "a kernel that is left over",
        &["warns kernel-without-modules"],
        |case| {
            case.facts.kernels[1].has_modules = false;
            case.facts.kernels[1].drivers.clear();
        },
    ),
    (
        "no initramfs generator",
        &["blocks initramfs-generator-missing"],
        |case| {
            case.facts.initramfs = None;
        },
    ),
    (
        "mkinitcpio",
        &["blocks initramfs-generator-unsupported"],
        |case| {
            case.facts.initramfs = Some(InitramfsGenerator::Mkinitcpio);
        },
    ),
    ("no initramfs generator, and no need of one", &[], |case| {
        case.facts.initramfs = None;
        for kernel in &mut case.facts.kernels {
            kernel.drivers = BTreeMap::from(Driver::ALL.map(|driver| (driver, BuiltAs::In)));
        }
    }),
    (
        "a root on zfs",
        &["blocks root-file-system-unsupported"],
        |case| {
            case.disks.disks[0].volumes[0].content = Content::FileSystem("zfs".into());
        },
    ),
    ("bad lines in fstab", &["warns fstab-bad-lines"], |case| {
        case.fstab("UUID=aaaa / ext4\n/dev/sdb1\n/dev/sdc1 /c\n");
    }),
    ("bad lines in crypttab", &["warns crypttab-bad-lines"], |case| {
        case.crypttab("alone\n");
    }),
    ("/dev/sda1 in fstab", &["informs fstab-device-name"], |case| {
        case.fstab("/dev/sda1 / ext4\n");
    }),
    ("the root by path", &["informs fstab-device-name"], |case| {
        case.fstab("/dev/disk/by-path/pci-1-part1 / ext4\n/dev/disk/by-path/pci-1-part1 /srv ext4\n");
    }),
    ("data by path", &["blocks fstab-hardware-name"], |case| {
        case.fstab("UUID=AAAA / ext4\n/dev/disk/by-path/pci-2-part1 /data ext4\n");
    }),
    (
        "data by path that may be absent",
        &["warns fstab-hardware-name"],
        |case| {
            case.fstab("UUID=aaaa / ext4\n/dev/disk/by-id/ata-x-part1 /data ext4 nofail\n");
        },
    ),
    (
        "/var on a disk that is not replicated",
        &["blocks volume-absent"],
        |case| {
            case.fstab("UUID=aaaa / ext4\nUUID=bbbb /var ext4\n");
        },
    ),
    (
        "/var on such a disk, if it is there",
        &["warns volume-absent"],
        |case| {
            case.fstab("UUID=aaaa / ext4\nUUID=bbbb /var ext4 nofail\n");
        },
    ),
    (
        "data and swap on disks that are not replicated",
        &["warns volume-absent"],
        |case| {
            case.fstab("UUID=aaaa / ext4\nLABEL=data /data xfs\n/dev/sdq1 none swap\n/dev/vg/x /x ext4\n/dev/md0 /y ext4\n");
        },
    ),
    ("a disk that nobody mounts at start", &[], |case| {
        case.fstab("UUID=aaaa / ext4\n/dev/sdq1 /backup ext4 noauto\n/dev/sr0 /media udf\n");
    }),
    ("NFS", &["warns network-mount"], |case| {
        case.fstab("UUID=aaaa / ext4\nnas:/export /home nfs4\n");
    }),
    ("NFS that may be absent", &[], |case| {
        case.fstab("UUID=aaaa / ext4\nnas:/export /home nfs4 nofail\n");
    }),
    (
        "the system on LVM, which is closed",
        &["blocks lvm-closed"],
        |case| {
            case.closed_root(Content::Lvm, "/dev/mapper/vg-root");
        },
    ),
    ("the same by UUID", &["blocks lvm-closed"], |case| {
        case.closed_root(Content::Lvm, "UUID=cccc");
    }),
    (
        "the system on LVM whose metadata is damaged",
        &["blocks lvm-closed"],
        |case| {
            case.disks.disks[0].volumes.clear();
            case.close(Content::Lvm, "/dev/sda1");
            case.fstab("/dev/vg/root / ext4\n");
        },
    ),
    ("data on LVM, which is closed", &[], |case| {
        case.volume(Content::Lvm);
        case.close(Content::Lvm, "/dev/mapper/vg-data");
        case.fstab("UUID=aaaa / ext4\n/dev/vg/data /data ext4\n");
    }),
    ("data on LVM, which is open", &["warns volume-absent"], |case| {
        case.volume(Content::Lvm);
        case.volume(Content::FileSystem("xfs".into())).other_names = vec!["/dev/vg/data".into()];
        case.fstab("UUID=aaaa / ext4\n/dev/vg/data /data xfs\n/dev/vg/gone /gone xfs nofail\n");
    }),
    (
        "the system on md, which is closed",
        &["blocks md-closed"],
        |case| {
            case.closed_root(Content::Md, "/dev/md0");
        },
    ),
    (
        "the system on two disks that are alike",
        &["blocks volume-twice"],
        |case| {
            let mut copy = case.disks.disks[0].clone();
            copy.device_name = "/dev/sdb".into();
            copy.volumes[0].device_name = "/dev/sdb1".into();
            copy.volumes[0].mounted_at = None;
            case.disks.disks.push(copy);
        },
    ),
    (
        "the system on md without mdadm",
        &["blocks mdadm-missing"],
        |case| {
            case.facts.has_mdadm = false;
            case.disks.disks[0].volumes[0].device_name = "/dev/md0".into();
        },
    ),
    ("the same with LVM on md", &["blocks mdadm-missing"], |case| {
        case.facts.has_mdadm = false;
        case.disks.disks[0].volumes[0].device_name = "/dev/mapper/vg-root".into();
        case.volume(Content::Lvm).device_name = "/dev/md0".into();
    }),
    ("data on md without mdadm", &[], |case| {
        case.facts.has_mdadm = false;
        case.volume(Content::Lvm).device_name = "/dev/md0".into();
    }),
    (
        "an array without one of its members",
        &["warns md-degraded"],
        |case| {
            case.disks.degraded.push(Degraded {
                array: "/dev/md0".into(),
                lacks: vec!["/dev/sdb1 is older than the others".into()],
            });
        },
    ),
    ("an encrypted system", &["blocks system-encrypted"], |case| {
        case.closed_root(Content::Luks, "/dev/mapper/root");
    }),
    (
        "encrypted data with a passphrase",
        &["warns crypttab-passphrase"],
        |case| {
            case.volume(Content::Luks);
            case.crypttab("vault UUID=dddd none luks\nkeyed UUID=eeee /etc/key luks\n");
        },
    ),
    ("a filter of LVM", &["informs lvm-filter"], |case| {
        case.facts.layers.push(Layer::Lvm);
        case.facts.lvm_filter = Some("filter = [ \"a|/dev/sda|\" ]".into());
    }),
    ("a filter of LVM that is not used", &[], |case| {
        case.facts.lvm_filter = Some("filter = [ \"a|/dev/sda|\" ]".into());
    }),
    ("a list of LVM's disks", &["informs lvm-devices-file"], |case| {
        case.facts.lvm_devices_file = Some("/etc/lvm/devices/system.devices".into());
    }),
    ("multipath", &["warns multipath"], |case| {
        case.facts.layers.push(Layer::Multipath);
    }),
    ("a full root", &["blocks no-free-space"], |case| {
        case.facts.free = vec![free("/", 100 * MIB - 1, Some(100))];
    }),
    ("a full /boot", &["blocks no-free-space"], |case| {
        case.facts.free[1].bytes = 50 * MIB - 1;
    }),
    ("no inodes", &["blocks no-free-space"], |case| {
        case.facts.free[0].inodes = Some(99);
    }),
    ("full data", &["warns no-free-space"], |case| {
        case.facts.free.push(free("/data", 10 * MIB - 1, None));
    }),
    ("no network", &["warns network-unknown"], |case| {
        case.facts.network.stacks.clear();
    }),
    (
        "ifupdown without a DHCP client",
        &["warns dhcp-client-missing"],
        |case| {
            case.facts.network.dhcp_client = None;
        },
    ),
    (
        "network-scripts without a DHCP client",
        &["warns dhcp-client-missing"],
        |case| {
            case.facts.network.stacks = vec![NetworkStack::Ifcfg];
            case.facts.network.dhcp_client = None;
        },
    ),
    ("NetworkManager, which is its own DHCP client", &[], |case| {
        case.facts.network.stacks = vec![NetworkStack::Ifcfg, NetworkStack::NetworkManager];
        case.facts.network.dhcp_client = None;
    }),
    ("a fixed address", &["informs static-address"], |case| {
        case.address("10.0.0.5/24");
        case.address("10.0.0.5/24");
        case.address("2001:db8::5/64");
    }),
    ("two fixed addresses", &["warns static-addresses"], |case| {
        case.address("10.0.0.5/24");
        case.address("10.0.0.6/24");
    }),
    ("names by MAC", &["informs network-bound-to-hardware"], |case| {
        let rules = "/etc/udev/rules.d/70-persistent-net.rules";
        case.facts.network.bound_to_hardware.push(rules.into());
    }),
    ("hypervisor tools", &["informs hypervisor-tools"], |case| {
        case.facts.hypervisor_tools = vec![HypervisorTools::OpenVmTools, HypervisorTools::Qemu];
    }),
    ("SELinux", &["informs selinux-relabel"], |case| {
        case.facts.selinux = Some(Selinux::Permissive);
    }),
    ("SELinux switched off", &[], |case| {
        case.facts.selinux = Some(Selinux::Disabled);
    }),
    ("no cloud-init", &["informs cloud-init-missing"], |case| {
        case.facts.cloud_init = None;
    }),
    (
        "cloud-init switched off",
        &["informs cloud-init-disabled"],
        |case| {
            let disabled_by = Some("/etc/cloud/cloud-init.disabled".into());
            case.facts.cloud_init.as_mut().unwrap().disabled_by = disabled_by;
        },
    ),
];

fn labels(findings: &[Finding]) -> Vec<String> {
    findings
        .iter()
        .map(|finding| format!("{} {}", finding.class.name(), finding.code))
        .collect()
}

#[test]
fn nothing_is_said_of_a_guest_that_is_ready() {
    let found = Case::ready().findings();
    assert_eq!(labels(&found), Vec::<String>::new());
    assert_eq!(Readiness::of(Some(&found)), Readiness::Ready);
}

#[test]
fn each_trouble_brings_its_finding_and_no_other() {
    let mut words = String::new();
    for (trouble, expected, change) in CASES {
        let mut case = Case::ready();
        change(&mut case);
        let found = case.findings();
        assert_eq!(labels(&found), *expected, "{trouble}");
        writeln!(words, "{trouble}:").unwrap();
        for finding in &found {
            writeln!(
                words,
                "    {} {}\n        {}",
                finding.class.name(),
                finding.code,
                finding.text
            )
            .unwrap();
            if let Some(remedy) = &finding.remedy {
                writeln!(words, "        ▶ {remedy}").unwrap();
            }
        }
    }
    insta::assert_snapshot!(words);
}

#[test]
fn what_blocks_comes_first() {
    let mut case = Case::ready();
    case.facts.cloud_init = None;
    case.facts.layers.push(Layer::Multipath);
    case.lose(Driver::Nvme, 2);
    assert_eq!(
        labels(&case.findings()),
        [
            "blocks storage-driver-missing",
            "warns multipath",
            "informs cloud-init-missing"
        ]
    );
}

#[test]
fn without_a_root_the_disks_say_why() {
    let said = |content: Content| {
        let mut case = Case::ready();
        case.closed_root(content, "/dev/x");
        labels(&without_root(&case.disks))
    };
    assert_eq!(said(Content::Lvm), ["blocks lvm-closed"]);
    assert_eq!(said(Content::Md), ["blocks md-closed"]);
    assert_eq!(said(Content::Luks), ["blocks system-encrypted"]);
    assert_eq!(said(Content::Unknown), ["blocks root-missing"]);
}

#[test]
fn a_list_has_an_end() {
    assert_eq!(listed::<&str>(&[]), "");
    assert_eq!(listed(&["a", "b"]), "a, b");
    assert_eq!(listed(&["a", "b", "c", "d", "e", "f"]), "a, b, c, d and 2 more");
}

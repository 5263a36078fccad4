//! How a guest boots: the firmware's way, and the boot loader.

use domain::launch::BootMode;

use super::{architecture::Architecture, guest::Guest};

/// Folders of an EFI system partition that are looked into, and programs that are listed; a sane one has fewer than
/// ten of either.
const EFI_FOLDERS_MAX: usize = 64;
const EFI_PROGRAMS_MAX: usize = 64;

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Boot {
    /// `LegacyBios` or `Uefi`, never `UseSource`.
    pub mode: BootMode,
    pub loader: BootLoader,
    /// A file that a BIOS boot reads; `None` if there is no trace of one.
    pub bios_trace: Option<String>,
    pub efi: Option<Efi>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum BootLoader {
    Grub2 {
        /// What its programs are called, `grub` or `grub2`: `grub2-mkconfig`.
        name: &'static str,
        /// The configuration that it boots by. Beside it, the EFI system partition may have one that only leads here.
        configuration: String,
        /// Whether the menu comes from `/boot/loader/entries`.
        bls: bool,
    },
    /// GRUB 0.97.
    GrubLegacy {
        configuration: String,
    },
    /// Neither is converted: `systemd-boot`, `LILO`, `SYSLINUX`.
    Other {
        name: &'static str,
        trace: String,
    },
    Missing,
}

/// The EFI system partition, as it is mounted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Efi {
    /// Where it is mounted: `/boot/efi`.
    pub mounted_at: &'static str,
    /// Every `*.efi` in a folder of `EFI`.
    pub programs: Vec<String>,
}

impl Efi {
    /// What firmware starts that knows nothing of this guest: `EFI/BOOT/BOOTX64.EFI`.
    pub fn has_fallback(&self) -> bool {
        self.has("/boot/bootx64.efi") || self.has("/boot/bootaa64.efi")
    }

    /// Whether it was installed with Secure Boot in mind.
    pub fn has_shim(&self) -> bool {
        self.programs.iter().any(|path| {
            let lower = path.to_ascii_lowercase();
            lower
                .rsplit('/')
                .next()
                .is_some_and(|name| name.starts_with("shim"))
        })
    }

    fn has(&self, ending: &str) -> bool {
        let mut programs = self.programs.iter();
        programs.any(|path| path.to_ascii_lowercase().ends_with(ending))
    }
}

/// `reported` is what the agent saw of the firmware that the server was started by.
pub fn boot(guest: &Guest, reported: Option<BootMode>, architecture: Option<Architecture>) -> Boot {
    let bios_trace = guest.first_of(&[
        "/boot/grub/i386-pc/core.img",
        "/boot/grub2/i386-pc/core.img",
        "/boot/grub/i386-pc/normal.mod",
        "/boot/grub2/i386-pc/normal.mod",
        "/boot/grub/stage2",
    ]);
    let efi = efi(guest);
    let mode = match (reported, &bios_trace, &efi) {
        (Some(known @ (BootMode::LegacyBios | BootMode::Uefi)), ..) => known,
        // Every type of instance with x86 can do it, so that it wins where both would work.
        (_, Some(_), _) => BootMode::LegacyBios,
        (_, None, Some(_)) => BootMode::Uefi,
        // What EC2 assumes of an image that does not say.
        (_, None, None) if architecture == Some(Architecture::Aarch64) => BootMode::Uefi,
        _ => BootMode::LegacyBios,
    };
    Boot {
        mode,
        loader: loader(guest, efi.as_ref()),
        bios_trace,
        efi,
    }
}

fn efi(guest: &Guest) -> Option<Efi> {
    ["/boot/efi", "/efi", "/boot"].iter().find_map(|mounted_at| {
        // FAT does not know upper from lower case, so nobody writes it the same way.
        let named_efi = |name: &String| name.eq_ignore_ascii_case("EFI");
        let top = guest.names(mounted_at).into_iter().find(named_efi)?;
        if *mounted_at == "/boot" && top == "efi" {
            // The mount point of an EFI system partition that is not mounted.
            return None;
        }
        let top = format!("{mounted_at}/{top}");
        let mut programs = Vec::new();
        for vendor in guest.names(&top).into_iter().take(EFI_FOLDERS_MAX) {
            let folder = format!("{top}/{vendor}");
            if !guest.has_folder(&folder) {
                continue;
            }
            let is_program = |name: &String| name.to_ascii_lowercase().ends_with(".efi");
            let found = guest.names(&folder).into_iter().filter(is_program);
            programs.extend(found.map(|name| format!("{folder}/{name}")));
        }
        programs.truncate(EFI_PROGRAMS_MAX);
        (!programs.is_empty()).then_some(Efi { mounted_at, programs })
    })
}

fn loader(guest: &Guest, efi: Option<&Efi>) -> BootLoader {
    if let Some(grub) = grub2(guest, efi) {
        return grub;
    }
    if let Some(configuration) =
        guest.first_of(&["/boot/grub/menu.lst", "/boot/grub/grub.conf", "/etc/grub.conf"])
    {
        return BootLoader::GrubLegacy { configuration };
    }
    let is_systemd_boot = |path: &&String| path.to_ascii_lowercase().contains("/systemd-boot");
    let systemd_boot = efi.and_then(|efi| efi.programs.iter().find(is_systemd_boot).cloned());
    let others = [
        ("systemd-boot", systemd_boot),
        (
            "SYSLINUX",
            guest.first_of(&[
                "/boot/extlinux/extlinux.conf",
                "/boot/syslinux/syslinux.cfg",
                "/extlinux.conf",
            ]),
        ),
        ("LILO", guest.first_of(&["/etc/lilo.conf", "/etc/elilo.conf"])),
    ];
    others
        .into_iter()
        .find_map(|(name, trace)| Some(BootLoader::Other { name, trace: trace? }))
        .unwrap_or(BootLoader::Missing)
}

fn grub2(guest: &Guest, efi: Option<&Efi>) -> Option<BootLoader> {
    let bls = || {
        guest
            .text("/etc/default/grub")
            .is_some_and(|defaults| enables_bls(&defaults))
            && !guest.files("/boot/loader/entries", ".conf").is_empty()
    };
    for (name, configuration) in [("grub2", "/boot/grub2/grub.cfg"), ("grub", "/boot/grub/grub.cfg")] {
        if guest.has(configuration) {
            return Some(BootLoader::Grub2 {
                name,
                configuration: configuration.into(),
                bls: bls(),
            });
        }
    }
    // Red Hat before 9, started by UEFI: the whole configuration is on the EFI system partition.
    let mut folders = efi?
        .programs
        .iter()
        .filter_map(|path| Some(path.rsplit_once('/')?.0));
    let configuration = folders.find_map(|folder| guest.first_of(&[&format!("{folder}/grub.cfg")]))?;
    Some(BootLoader::Grub2 {
        name: if guest.has("/usr/sbin/grub2-mkconfig") {
            "grub2"
        } else {
            "grub"
        },
        configuration,
        bls: bls(),
    })
}

fn enables_bls(defaults: &str) -> bool {
    let mut values = defaults
        .lines()
        .filter_map(|line| line.trim().strip_prefix("GRUB_ENABLE_BLSCFG="));
    values
        .next_back()
        .is_some_and(|value| super::distribution::unquoted(value) == "true")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn efi_with(programs: &[&str]) -> Efi {
        Efi {
            mounted_at: "/boot/efi",
            programs: programs.iter().map(|path| (*path).to_owned()).collect(),
        }
    }

    #[test]
    fn the_last_word_on_boot_entries_counts() {
        assert!(enables_bls("GRUB_ENABLE_BLSCFG=true\n"));
        assert!(enables_bls(
            "GRUB_ENABLE_BLSCFG=\"false\"\nGRUB_ENABLE_BLSCFG=\"true\"\n"
        ));
        assert!(!enables_bls("#GRUB_ENABLE_BLSCFG=true\n"));
    }

    #[test]
    fn the_fallback_is_known_in_any_case() {
        assert!(efi_with(&["/boot/efi/EFI/Boot/bootx64.efi"]).has_fallback());
        assert!(efi_with(&["/boot/efi/EFI/BOOT/BOOTAA64.EFI"]).has_fallback());
        assert!(!efi_with(&["/boot/efi/EFI/debian/grubx64.efi"]).has_fallback());
        assert!(efi_with(&["/boot/efi/EFI/debian/SHIMX64.EFI"]).has_shim());
        assert!(!efi_with(&["/boot/efi/EFI/shimmer/grubx64.efi"]).has_shim());
    }
}

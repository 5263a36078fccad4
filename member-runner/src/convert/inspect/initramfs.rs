//! What makes a guest's initramfs.

use super::{distribution::Family, guest::Guest};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum InitramfsGenerator {
    InitramfsTools,
    Dracut,
    /// Of before dracut: SUSE up to 11, Red Hat up to 5.
    Mkinitrd,
    Mkinitcpio,
    MkosiInitrd,
    Booster,
}

impl InitramfsGenerator {
    pub fn name(self) -> &'static str {
        match self {
            Self::InitramfsTools => "initramfs-tools",
            Self::Dracut => "dracut",
            Self::Mkinitrd => "mkinitrd",
            Self::Mkinitcpio => "mkinitcpio",
            Self::MkosiInitrd => "mkosi-initrd",
            Self::Booster => "booster",
        }
    }
}

/// The one that is in charge. A `mkinitrd` beside dracut is a script that calls it.
pub fn generator(guest: &Guest, family: Family) -> Option<InitramfsGenerator> {
    use InitramfsGenerator as G;
    let any = |paths: &[&str]| guest.first_of(paths).is_some();
    let has_dracut = any(&["/usr/bin/dracut", "/usr/sbin/dracut", "/sbin/dracut"]);
    let has_tools = any(&["/usr/sbin/mkinitramfs"]);
    if has_tools && has_dracut {
        // Debian keeps parts of both; the package that is whole is the one that the kernels' hooks call.
        let is_dracut = family != Family::Debian || is_installed(guest, "dracut");
        return Some(if is_dracut { G::Dracut } else { G::InitramfsTools });
    }
    if has_tools {
        return Some(G::InitramfsTools);
    }
    if has_dracut {
        return Some(G::Dracut);
    }
    [
        (G::Mkinitrd, ["/sbin/mkinitrd", "/usr/sbin/mkinitrd"]),
        (G::Mkinitcpio, ["/usr/bin/mkinitcpio", "/usr/sbin/mkinitcpio"]),
        (
            G::MkosiInitrd,
            ["/usr/bin/mkosi-initrd", "/usr/sbin/mkosi-initrd"],
        ),
        (G::Booster, ["/usr/bin/booster", "/usr/sbin/booster"]),
    ]
    .iter()
    .find(|(_, paths)| any(paths))
    .map(|(generator, _)| *generator)
}

/// Whether dpkg has `package` installed, by its status(5) file.
fn is_installed(guest: &Guest, package: &str) -> bool {
    guest
        .text("/var/lib/dpkg/status")
        .is_some_and(|status| lists_as_installed(&status, package))
}

fn lists_as_installed(status: &str, package: &str) -> bool {
    let name = format!("Package: {package}");
    status.split("\n\n").any(|paragraph| {
        let mut lines = paragraph.lines();
        lines.any(|line| line == name)
            && paragraph
                .lines()
                .any(|line| line == "Status: install ok installed")
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_removed_package_is_not_installed() {
        let status = "Package: dracut\nStatus: deinstall ok config-files\n\n\
                      Package: dracut-core\nStatus: install ok installed\n";
        assert!(!lists_as_installed(status, "dracut"));
        assert!(lists_as_installed(status, "dracut-core"));
    }
}

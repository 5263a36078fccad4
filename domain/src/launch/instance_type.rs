//! Which instance type a source server is launched as, where its settings leave the choice to its size. MGN's
//! `targetInstanceTypeRightSizingMethod`, `BASIC`.

use std::fmt;

use serde::{Deserialize, Serialize};

use super::BootMode;

/// What a processor is, in EC2's words.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Architecture {
    /// Of agents that do not say, too: they ran on nothing else.
    #[default]
    #[serde(rename = "x86_64")]
    X86_64,
    Arm64,
}

impl Architecture {
    pub fn name(self) -> &'static str {
        match self {
            Self::X86_64 => "x86_64",
            Self::Arm64 => "arm64",
        }
    }

    /// What this program was compiled for.
    pub fn own() -> Self {
        if cfg!(target_arch = "aarch64") {
            Self::Arm64
        } else {
            Self::X86_64
        }
    }
}

/// What an account can launch.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct InstanceType {
    /// `m5.large`.
    pub name: String,
    pub vcpus: u32,
    pub memory_bytes: u64,
    pub architectures: Vec<Architecture>,
    pub boot_modes: Vec<BootMode>,
}

impl InstanceType {
    /// `m5` of `m5.large`.
    pub fn family(&self) -> &str {
        self.name
            .split_once('.')
            .map_or(self.name.as_str(), |(family, _)| family)
    }

    /// What of `needs` it cannot give, in words.
    pub fn lacks(&self, needs: &Needs) -> Option<String> {
        if !self.architectures.contains(&needs.architecture) {
            return Some(format!(
                "{} does not run {}",
                self.name,
                needs.architecture.name()
            ));
        }
        if !self.boot_modes.contains(&needs.boot_mode) {
            return Some(format!(
                "{} does not boot by {}",
                self.name,
                needs.boot_mode.name()
            ));
        }
        None
    }
}

/// What a source server is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Needs {
    pub cpus: u32,
    /// As its kernel counts, which is less than what is built in.
    pub memory_bytes: u64,
    pub architecture: Architecture,
    /// Not `UseSource`.
    pub boot_mode: BootMode,
}

impl fmt::Display for Needs {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let gib = self.memory_bytes.div_ceil(1 << 20);
        write!(
            f,
            "{} processors, {gib} MiB of memory, {}, {}",
            self.cpus,
            self.architecture.name(),
            self.boot_mode.name()
        )
    }
}

/// Chosen from where a server's settings name no families: of general use, none that saves up processor time,
/// and those first that every region has had for years.
const USUAL_FAMILIES: [&str; 9] = ["m5", "c5", "r5", "m6i", "c6i", "r6i", "m6g", "c6g", "r6g"];

/// Those that a size is chosen from.
pub fn allowed_families(settings: &[String]) -> Vec<String> {
    if settings.is_empty() {
        USUAL_FAMILIES.map(str::to_owned).into()
    } else {
        settings.to_vec()
    }
}

/// The smallest type of the allowed families that is not smaller than the source: by processors, then by memory,
/// then in the order of `families`.
pub fn right_sized<'a>(
    offered: &'a [InstanceType],
    needs: &Needs,
    families: &[String],
) -> Option<&'a InstanceType> {
    let rank = |one: &InstanceType| families.iter().position(|family| family == one.family());
    offered
        .iter()
        .filter(|one| !one.name.contains(".metal"))
        .filter(|one| one.vcpus >= needs.cpus && one.memory_bytes >= needs.memory_bytes)
        .filter(|one| one.lacks(needs).is_none())
        .filter_map(|one| Some((one, rank(one)?)))
        .min_by_key(|(one, rank)| (one.vcpus, one.memory_bytes, *rank))
        .map(|(one, _)| one)
}

#[cfg(test)]
mod tests {
    use super::*;

    const GIB: u64 = 1 << 30;

    fn offered() -> Vec<InstanceType> {
        let x86 = [BootMode::LegacyBios, BootMode::Uefi];
        let one = |name: &str, vcpus, gib: u64, architecture, boot_modes: &[BootMode]| InstanceType {
            name: name.into(),
            vcpus,
            memory_bytes: gib * GIB,
            architectures: vec![architecture],
            boot_modes: boot_modes.into(),
        };
        vec![
            one("t3.large", 2, 8, Architecture::X86_64, &x86),
            one("r5.xlarge", 4, 32, Architecture::X86_64, &x86),
            one("r5.large", 2, 16, Architecture::X86_64, &x86),
            one("m6i.large", 2, 8, Architecture::X86_64, &x86),
            one("m5.large", 2, 8, Architecture::X86_64, &x86),
            one("m5.2xlarge", 8, 32, Architecture::X86_64, &x86),
            one("m5.metal", 4, 20, Architecture::X86_64, &x86),
            one("c5.large", 2, 4, Architecture::X86_64, &x86),
            one("m4.large", 2, 8, Architecture::X86_64, &x86[..1]),
            one("m6g.large", 2, 8, Architecture::Arm64, &x86[1..]),
        ]
    }

    fn chosen(cpus: u32, memory_mib: u64, change: impl Fn(&mut Needs), families: &[&str]) -> Option<String> {
        let mut needs = Needs {
            cpus,
            memory_bytes: memory_mib << 20,
            architecture: Architecture::X86_64,
            boot_mode: BootMode::LegacyBios,
        };
        change(&mut needs);
        let families: Vec<_> = families.iter().map(|&family| family.to_owned()).collect();
        right_sized(&offered(), &needs, &allowed_families(&families)).map(|one| one.name.clone())
    }

    #[test]
    fn the_smallest_type_that_is_not_smaller_than_the_source_is_chosen() {
        let usual = |cpus, memory_mib| chosen(cpus, memory_mib, |_| {}, &[]);
        assert_eq!(usual(1, 900).as_deref(), Some("c5.large"));
        // Eight GiB are built in, and the kernel keeps some for itself.
        assert_eq!(usual(2, 7941).as_deref(), Some("m5.large"));
        assert_eq!(usual(2, 12_000).as_deref(), Some("r5.large"));
        assert_eq!(
            usual(2, 20_000).as_deref(),
            Some("r5.xlarge"),
            "fewer processors count first"
        );
        assert_eq!(usual(8, 1000).as_deref(), Some("m5.2xlarge"));
        assert_eq!(usual(9, 1000), None);
    }

    #[test]
    fn families_are_allowed_in_their_order() {
        let of = |families: &[&str]| chosen(2, 7000, |_| {}, families);
        assert_eq!(of(&["m6i", "m5"]).as_deref(), Some("m6i.large"));
        assert_eq!(of(&["t3"]).as_deref(), Some("t3.large"));
        assert_eq!(of(&["x9"]), None);
    }

    #[test]
    fn a_type_must_run_and_boot_the_source() {
        let arm = |needs: &mut Needs| {
            needs.architecture = Architecture::Arm64;
            needs.boot_mode = BootMode::Uefi;
        };
        assert_eq!(chosen(2, 7000, arm, &[]).as_deref(), Some("m6g.large"));
        let uefi = |needs: &mut Needs| needs.boot_mode = BootMode::Uefi;
        assert_eq!(chosen(2, 7000, uefi, &["m4"]), None);
        assert_eq!(chosen(2, 7000, |_| {}, &["m4"]).as_deref(), Some("m4.large"));
    }

    #[test]
    fn architectures_are_called_as_ec2_calls_them() {
        for one in [Architecture::X86_64, Architecture::Arm64] {
            let name = serde_json::to_value(one).unwrap();
            assert_eq!(name, one.name());
        }
    }
}

//! The instance types that are offered here: those of general use, as EC2 sizes them.
//!
//! <https://aws.amazon.com/ec2/instance-types/>: a family fixes the memory per processor, a size the processors.

use domain::launch::{
    BootMode,
    instance_type::{Architecture, InstanceType},
};

const MIB: u64 = 1 << 20;

const FAMILIES: [&str; 10] = ["t3", "m4", "m5", "c5", "r5", "m6i", "c6i", "r6i", "m7i", "r4"];
const SIZES: [&str; 12] = [
    "nano", "micro", "small", "medium", "large", "xlarge", "2xlarge", "4xlarge", "8xlarge", "12xlarge",
    "16xlarge", "24xlarge",
];

pub fn offered() -> Vec<InstanceType> {
    let names = FAMILIES
        .iter()
        .flat_map(|family| SIZES.iter().map(move |size| format!("{family}.{size}")));
    names.filter_map(|name| instance_type(&name)).collect()
}

/// `m5.large`; `None` if it is of no family of which this is known.
pub fn instance_type(name: &str) -> Option<InstanceType> {
    let (family, size) = name.split_once('.')?;
    let (vcpus, memory_mib) = match (family.chars().next()?, size) {
        ('t', "nano") => (2, 512),
        ('t', "micro") => (2, 1 << 10),
        ('t', "small") => (2, 2 << 10),
        ('t', "medium") => (2, 4 << 10),
        (letter, size) => {
            let mib_per_cpu = match letter {
                'c' => 2 << 10,
                'm' | 't' => 4 << 10,
                'r' => 8 << 10,
                _ => return None,
            };
            let vcpus = match size {
                "medium" => 1,
                "large" => 2,
                "xlarge" => 4,
                larger => larger
                    .strip_suffix("xlarge")?
                    .parse::<u32>()
                    .ok()?
                    .checked_mul(4)?,
            };
            (vcpus, u64::from(vcpus) * mib_per_cpu)
        }
    };
    (vcpus > 0).then(|| InstanceType {
        name: name.to_owned(),
        vcpus,
        memory_bytes: memory_mib * MIB,
        architectures: vec![Architecture::X86_64],
        boot_modes: vec![BootMode::LegacyBios, BootMode::Uefi],
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_type_has_the_processors_of_its_size_and_the_memory_of_its_family() {
        let size = |name: &str| instance_type(name).map(|one| (one.vcpus, one.memory_bytes / MIB));
        assert_eq!(size("m5.large"), Some((2, 8192)));
        assert_eq!(size("c7i.large"), Some((2, 4096)));
        assert_eq!(size("t3.micro"), Some((2, 1024)));
        assert_eq!(size("r6i.24xlarge"), Some((96, 786_432)));
        for unknown in [
            "",
            "m5",
            "m5.",
            "m5.xxlarge",
            "m5.0xlarge",
            "p4d.24xlarge",
            "m5.4294967295xlarge",
        ] {
            assert_eq!(size(unknown), None, "{unknown}");
        }
        assert!(offered().iter().any(|one| one.name == "m5.large"));
    }
}

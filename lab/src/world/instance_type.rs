//! What an instance type has, as far as the lab gives it.
//!
//! <https://aws.amazon.com/ec2/instance-types/>: a family fixes the memory per processor, a size the processors.

/// The lab's machines share one computer: the largest instance is this.
const CPUS_MAX: u32 = 4;
const MEMORY_MIB_MAX: u64 = 8 << 10;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Size {
    pub cpus: u32,
    pub memory_mib: u64,
}

impl Size {
    /// `m5.large`; `None` if it is of no family that the lab knows.
    pub fn of(instance_type: &str) -> Option<Self> {
        let (family, size) = instance_type.split_once('.')?;
        let (cpus, memory_mib) = match (family.chars().next()?, size) {
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
                let cpus = match size {
                    "medium" => 1,
                    "large" => 2,
                    "xlarge" => 4,
                    larger => larger
                        .strip_suffix("xlarge")?
                        .parse::<u32>()
                        .ok()?
                        .checked_mul(4)?,
                };
                (cpus, u64::from(cpus) * mib_per_cpu)
            }
        };
        (cpus > 0).then(|| Self {
            cpus: cpus.min(CPUS_MAX),
            memory_mib: memory_mib.min(MEMORY_MIB_MAX),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_type_has_the_processors_of_its_size_and_the_memory_of_its_family() {
        let size = |cpus, memory_mib| Some(Size { cpus, memory_mib });
        assert_eq!(Size::of("m5.large"), size(2, 8192));
        assert_eq!(Size::of("c7i.large"), size(2, 4096));
        assert_eq!(Size::of("t3.micro"), size(2, 1024));
        assert_eq!(Size::of("r6i.24xlarge"), size(CPUS_MAX, MEMORY_MIB_MAX));
        for unknown in [
            "",
            "m5",
            "m5.",
            "m5.xxlarge",
            "m5.0xlarge",
            "p4d.24xlarge",
            "m5.4294967295xlarge",
        ] {
            assert_eq!(Size::of(unknown), None, "{unknown}");
        }
    }
}

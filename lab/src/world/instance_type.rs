//! What an instance type has, as far as the lab gives it.

use cloud::folder::instance_types::instance_type;

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
    pub fn of(name: &str) -> Option<Self> {
        let whole = instance_type(name)?;
        Some(Self {
            cpus: whole.vcpus.min(CPUS_MAX),
            memory_mib: (whole.memory_bytes >> 20).min(MEMORY_MIB_MAX),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_instance_is_as_large_as_its_type_up_to_what_the_lab_has() {
        let size = |cpus, memory_mib| Some(Size { cpus, memory_mib });
        assert_eq!(Size::of("t3.micro"), size(2, 1024));
        assert_eq!(Size::of("r6i.24xlarge"), size(CPUS_MAX, MEMORY_MIB_MAX));
        assert_eq!(Size::of("p4d.24xlarge"), None);
    }
}

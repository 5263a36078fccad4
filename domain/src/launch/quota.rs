//! EC2's quotas of virtual processors: one for each class of instance families, of an account in a region.
//!
//! They count what runs on demand. Spot instances have quotas of their own, and dedicated hosts are counted as hosts.
//! <https://docs.aws.amazon.com/AWSEC2/latest/UserGuide/ec2-on-demand-instances.html#ec2-on-demand-instances-limits>

/// Families that share a quota.
#[derive(Debug, PartialEq, Eq)]
pub struct Class {
    /// As Service Quotas calls it.
    pub name: &'static str,
    /// By which Service Quotas knows it.
    pub code: &'static str,
    /// What the names of the families begin with, up to their first digit or dash.
    families: &'static [&'static str],
}

const fn class(code: &'static str, name: &'static str, families: &'static [&'static str]) -> Class {
    Class { name, code, families }
}

const CLASSES: [Class; 10] = [
    class(
        "L-1216C47A",
        "Running On-Demand Standard (A, C, D, H, I, M, R, T, Z) instances",
        &["a", "c", "d", "h", "i", "im", "is", "m", "r", "t", "z"],
    ),
    class("L-74FC7D96", "Running On-Demand F instances", &["f"]),
    class(
        "L-DB2E81BA",
        "Running On-Demand G and VT instances",
        &["g", "gr", "vt"],
    ),
    class("L-417A185B", "Running On-Demand P instances", &["p"]),
    class("L-7295265B", "Running On-Demand X instances", &["x"]),
    class("L-1945791B", "Running On-Demand Inf instances", &["inf"]),
    class("L-2C3B7624", "Running On-Demand Trn instances", &["trn"]),
    class("L-6E869C2A", "Running On-Demand DL instances", &["dl"]),
    class("L-43DA4232", "Running On-Demand High Memory instances", &["u"]),
    class("L-F7808C92", "Running On-Demand HPC instances", &["hpc"]),
];

impl Class {
    /// `None` for a type that no such quota counts, or that is newer than this program.
    pub fn of(instance_type: &str) -> Option<&'static Self> {
        let end = instance_type.find(|c: char| !c.is_ascii_lowercase());
        let letters = &instance_type[..end.unwrap_or(instance_type.len())];
        CLASSES.iter().find(|class| class.families.contains(&letters))
    }
}

/// What there is of a class, in virtual processors.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stock {
    pub quota: u32,
    pub used: u32,
}

impl Stock {
    /// The quota that would be needed for `wanted` more, if it is not there.
    pub fn short_for(self, wanted: u32) -> Option<u32> {
        let needed = self.used.saturating_add(wanted);
        (needed > self.quota).then_some(needed)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    #[test]
    fn families_are_told_by_their_letters() {
        let code = |name| Class::of(name).map(|class| class.code);
        for name in [
            "m5.large",
            "c7gd.xlarge",
            "t3.nano",
            "i4i.large",
            "is4gen.medium",
            "im4gn.large",
            "z1d.metal",
            "d3en.xlarge",
        ] {
            assert_eq!(code(name), Some("L-1216C47A"), "{name}");
        }
        assert_eq!(code("dl1.24xlarge"), Some("L-6E869C2A"));
        assert_eq!(code("hpc7g.4xlarge"), Some("L-F7808C92"));
        assert_eq!(code("inf2.xlarge"), Some("L-1945791B"));
        assert_eq!(code("trn1n.32xlarge"), Some("L-2C3B7624"));
        assert_eq!(code("gr6.4xlarge"), Some("L-DB2E81BA"));
        assert_eq!(code("vt1.3xlarge"), Some("L-DB2E81BA"));
        assert_eq!(code("u-6tb1.metal"), Some("L-43DA4232"));
        assert_eq!(code("u7i-12tb.224xlarge"), Some("L-43DA4232"));
        assert_eq!(code("x2iedn.xlarge"), Some("L-7295265B"));
        for name in ["mac1.metal", "q9.large", "", "5m.large", "M5.large"] {
            assert_eq!(code(name), None, "{name}");
        }
    }

    #[test]
    fn no_family_is_in_two_classes() {
        let mut seen = BTreeSet::new();
        let mut families = CLASSES.iter().flat_map(|class| class.families);
        assert!(families.all(|family| seen.insert(family)));
    }

    proptest! {
        #[test]
        fn what_is_needed_is_enough_and_no_less_is(quota: u32, used: u32, wanted: u32) {
            let short = |quota| Stock { quota, used }.short_for(wanted);
            match short(quota) {
                None => prop_assert!(u64::from(used) + u64::from(wanted) <= u64::from(quota)),
                Some(needed) => {
                    prop_assert!(needed > quota);
                    prop_assert_eq!(short(needed), None);
                    prop_assert_eq!(short(needed - 1), Some(needed));
                }
            }
        }

        #[test]
        fn any_name_has_a_class_or_none(name in "\\PC*") {
            let _ = Class::of(&name);
        }
    }
}

//! What the facts mean for a launch, and what an operator can do about it. Pure: it looks at nothing itself.
//!
//! A code is reported once, with everything it applies to, so that a guest cannot make a list of any length.

mod boot;
mod kernels;
mod network;
mod software;
mod storage;

use domain::{
    launch::Hypervisor,
    readiness::{Class, Finding},
};

use super::{Facts, disks::DiskFacts};
pub use storage::without_root;

/// The most names that a text lists.
const LISTED_MAX: usize = 4;

/// The gravest first.
pub fn findings(facts: &Facts, disks: &DiskFacts, target: Hypervisor) -> Vec<Finding> {
    let mut found = Vec::new();
    boot::look(facts, disks, target, &mut found);
    kernels::look(facts, disks, target, &mut found);
    storage::look(facts, disks, &mut found);
    network::look(facts, &mut found);
    software::look(facts, &mut found);
    found.sort_by_key(|finding| finding.class);
    found
}

/// `a, b and 3 more`.
fn listed<T: AsRef<str>>(names: &[T]) -> String {
    let shown: Vec<&str> = names.iter().take(LISTED_MAX).map(AsRef::as_ref).collect();
    match names.len().saturating_sub(LISTED_MAX) {
        0 => shown.join(", "),
        more => format!("{} and {more} more", shown.join(", ")),
    }
}

/// A finding that blocks or warns, by how bad the worst of its cases is.
fn of_class(class: Class, code: &str, text: impl AsRef<str>, remedy: impl AsRef<str>) -> Finding {
    Finding {
        class,
        ..Finding::warns(code, text, remedy)
    }
}

#[cfg(test)]
mod tests;

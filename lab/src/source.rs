//! The source servers' side: disks with content, what writes to them, and what was on them in the end.

pub mod compare;
pub mod disk;
pub mod freeze;
pub mod guest;
pub mod workload;

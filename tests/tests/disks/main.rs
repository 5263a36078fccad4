//! Replication of block devices, where it hurts: writers that never rest, wires that are cut, disks that fill up.
//!
//! - [`place`]: a corner of the machine that is gone when its test is: mounts, disks in memory, file systems.
//! - [`scene`]: hub, runner and agent as processes, and the checkpoints that come of them.
//! - [`stamps`]: a writer whose blocks prove that a checkpoint is one instant.

#![allow(clippy::unwrap_used, clippy::missing_panics_doc)]

mod instant;
mod place;
mod room;
mod scene;
mod stamps;
mod wire;

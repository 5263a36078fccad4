//! Replication of block devices, where it hurts: file systems and databases in use, writers that never rest, programs
//! that are killed or stand still, wires that are cut, disks that fill up, clocks that jump, trackers that are deceived.
//!
//! - [`place`]: a corner of the machine that is gone when its test is: mounts, disks in memory, file systems.
//! - [`scene`]: hub, runner and agent as processes, and the checkpoints that come of them.
//! - [`stamps`]: a writer whose blocks prove that a checkpoint is one instant.
//! - [`load`]: fio, SQLite and PostgreSQL at work.
//! - [`examine`]: an exported file system, and whether it is whole.

#![allow(clippy::unwrap_used, clippy::missing_panics_doc)]

mod clock;
mod databases;
mod examine;
mod file_systems;
mod instant;
mod kills;
mod lies;
mod load;
mod place;
mod room;
mod scene;
mod stamps;
mod stuck;
mod wire;

//! The whole product on one machine: for the first look at it, and as the ground of the scenario tests.
//!
//! - [`world`]: a hub, runners and agents as processes of their own, accounts as folders, and a network
//!   between them that can be cut.
//! - [`source`]: the source servers: disks with content, and a workload that keeps changing them.
//! - [`debian`]: the disk of a real server.
//! - [`demo`]: what `orglift-lab` does: migrates everything, compares byte by byte, and reports.
//! - [`aws`]: AWS-shaped endpoints on this machine, for tests of what talks to AWS.
//! - [`replicate`]: one server's replication without a hub, for measuring.

pub mod aws;
pub mod cli;
pub mod debian;
pub mod demo;
pub mod network;
pub mod process;
pub mod programs;
pub mod replicate;
pub mod source;
pub mod wait;
pub mod world;

//! The program in a member account. It receives what agents send, keeps it as checkpoints, and tells
//! the hub what is.
//!
//! ```text
//! agent ══ TCP 1500 ══▶ session ─▶ staging ─▶ SnapshotStore      one checkpoint: a snapshot per disk,
//!                          │          └─────▶ ledger             digests, and the manifest that names them
//!                          ▼
//!                       standing ─▶ Observed ─▶ hub link ══▶ hub ══▶ Desired
//! ```
//!
//! - [`runner`]: the core. It stands without a hub: `Desired` comes in, `Observed` goes out.
//! - [`session`]: one connection of an agent, from its TLS handshake to its end.
//! - [`staging`]: what agents send, on its way into the next checkpoint.
//! - [`journal`]: pieces of blocks that are to be merged once nobody waits for it.
//! - [`ledger`]: what is committed, on disk. A checkpoint exists from the rename of its manifest on.
//! - [`standing`]: the state of a server's replication.
//! - [`housekeeping`]: old checkpoints leave, and whatever no manifest names.
//! - [`index`]: what outlives the runner's machine, and how another one takes it up.
//! - [`hub`], [`enrolment`]: the link to the hub, and HTTPS for agents that enrol.
//! - [`convert`]: a clone of a checkpoint made fit to boot; [`conversions`]: those that jobs wait for.
//! - [`export`]: a disk of a checkpoint as a raw image.
//! - [`machine`]: a machine of QEMU; [`rehearse`]: whether a disk boots in one.

pub mod cli;
mod conversions;
pub mod convert;
mod damage;
mod digests;
mod enrolment;
pub mod export;
mod files;
mod housekeeping;
mod hub;
mod index;
mod join;
mod journal;
mod ledger;
pub mod machine;
mod quarantine;
pub mod rehearse;
mod rekey;
mod released;
mod run;
pub mod runner;
mod scrub;
mod server;
mod session;
mod staging;
mod standing;
mod store;

pub use runner::{Converting, Runner, RunnerConfig, RunnerError};

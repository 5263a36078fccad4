//! Checkpoints: when one is due, and how the server is brought to rest for its last pass. The rounds
//! themselves are in [`crate::session`].
//!
//! - [`hooks`]: programs of the owner that bring applications to rest.
//! - [`mounts`]: the file systems on the disks, by way of `stack`, and who else uses them, `users`.

pub mod hooks;
pub mod mounts;
pub mod schedule;
mod stack;
mod users;

//! Checkpoints: when one is due, and how the server is brought to rest for its last pass. The rounds
//! themselves are in [`crate::session`].
//!
//! - [`hooks`]: programs of the owner that bring applications to rest.
//! - [`mounts`]: the file systems on the disks, by way of `stack`, and who else uses them, `users`.
//! - [`freeze`]: freezes them, while a second process, the [`guard`], stands by to thaw: `watch` is its work, and
//!   [`mark`] is for the case that both are killed.
//! - [`trial`]: all of it once, for people.

pub mod freeze;
mod fsfreeze;
pub mod guard;
pub mod hooks;
pub mod mark;
pub mod mounts;
pub mod schedule;
mod stack;
pub mod trial;
mod users;
pub mod watch;

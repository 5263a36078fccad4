//! Checkpoints: when one is due, and the hooks around its last pass. The rounds themselves are in
//! [`crate::session`].

pub mod hooks;
pub mod schedule;

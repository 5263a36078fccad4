//! Making a clone of a source server fit to boot as an instance.
//!
//! - [`overlay`]: a clone of one disk of a checkpoint.
//! - [`worker`]: the process that works on clones, apart from the one that serves them; [`conversion`]: what it does.
//! - [`attach`]: the clones as mounted file systems.
//! - [`tree`]: the guest's files, and no others.
//! - [`inspect`]: what the guest is, and what would keep it from booting.
//! - [`editor`]: the only way to change files: each change is noted, with its [`diff`]. [`signed`]: the list of them.
//! - [`edit`]: the steps that edit files.
//! - [`programs`]: what the guest's own programs have to do, and [`sandbox`]: where they run.
//! - [`plan`]: what the launch wants of the guest.

pub mod attach;
pub mod clones;
pub mod command;
pub mod conversion;
pub mod diff;
pub mod edit;
pub mod editor;
pub mod inspect;
pub mod orders;
pub mod overlay;
pub mod plan;
pub mod programs;
#[cfg(test)]
mod recorded;
mod rehearsal;
pub mod sandbox;
#[cfg(test)]
mod scene;
pub mod signed;
mod threads;
pub mod tree;
pub mod worker;

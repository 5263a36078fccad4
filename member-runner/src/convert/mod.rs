//! Making a clone of a source server fit to boot as an instance.
//!
//! - [`tree`]: the guest's files, and no others.
//! - [`editor`]: the only way to change them, and [`changes`]: the list of what was changed, and why.
//! - [`sandbox`]: where the guest's own programs run.
//! - [`plan`]: what the launch wants of the guest.

pub mod changes;
pub mod editor;
pub mod plan;
pub mod sandbox;
pub mod tree;

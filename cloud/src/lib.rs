//! The one seam to a cloud, in our words.
//!
//! - [`Cloud`]: what the hub does in accounts: list them, reach them, launch instances there.
//! - [`SnapshotStore`]: what a runner does in its own account: keep the blocks of disks.
//! - [`caller`]: how a machine proves who it is to AWS.
//! - [`route`]: on which way accounts are reached.
//! - [`folder`]: a cloud made of folders, for the lab, for trying Orglift out, and for tests.
//! - [`layers`]: the snapshot store that belongs to it.
//! - [`objects`]: what must outlive the machine that writes it.
//! - `aws`: AWS, for programs that are built with it.
//!
//! Every call that makes something carries a [`ClientToken`]. Making it again with the same token
//! returns what the first call made, so that a caller that crashed may simply repeat itself.

#[cfg(feature = "aws")]
pub mod aws;
pub mod caller;
pub mod control;
mod files;
pub mod folder;
pub mod layers;
pub mod objects;
pub mod route;
pub mod snapshots;

pub use control::{Cloud, CloudError};
pub use objects::ObjectStore;
pub use snapshots::{SnapshotStore, StoreError};

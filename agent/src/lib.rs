//! The program on a source server.
//!
//! It finds the server's disks, sees what changed on them, and sends it to its runner, over one
//! connection that it opens itself: data, orders and status travel on TCP 1500, and TCP 443 is used once,
//! to enrol. It needs no kernel module, no name service, no proxy and no cloud credential.
//!
//! - [`disks`]: which disks there are, what names them for good, how they are read, and whether anybody
//!   wrote to them meanwhile.
//! - [`changes`]: which blocks a round has to look at, and the workers that look at them.
//! - [`checkpoint`]: when one is due, and how applications and file systems are brought to rest for it.
//! - [`session`]: one connection to the runner, from Hello to Goodbye.
//! - [`run`]: sessions one after the other, for ever.
//! - [`own_writes`]: the log and the status, which wait while file systems are frozen.
//! - [`doctor`]: whether the network lets this server replicate.
//! - [`install`], [`check`], [`status`], [`uninstall`]: what people call.
//! - [`layout`], [`config`], [`machine`]: the folder with the agent's state, and what it tells of the
//!   server.
//!
//! The agent never writes to a disk that it replicates.

pub mod changes;
pub mod check;
pub mod checkpoint;
pub mod cli;
pub mod config;
pub mod disks;
pub mod doctor;
pub mod install;
pub mod layout;
pub mod machine;
mod names;
pub mod own_writes;
pub mod run;
pub mod session;
pub mod status;
pub mod uninstall;
pub mod verify;

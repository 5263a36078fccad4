//! What two programs agree on.
//!
//! - [`frame`], [`session`], [`handshake`]: agent and runner on TCP 1500, in frames.
//! - [`enrol`]: how a machine gets its identity, over HTTPS, by a one-time token.
//! - [`measure`]: how fast the way to a runner is, before anybody is enrolled.
//! - [`exchange`]: runner and hub, level-triggered: what is, and what is wanted.
//! - [`artifacts`]: what a runner hands over besides.
//!
//! Everything here is data and pure functions: no socket, no file, no clock. A deployed peer can only
//! be broken by an edit in this crate, and the golden files beside the tests turn red when one does.

pub mod artifacts;
pub mod enrol;
pub mod exchange;
pub mod extent;
pub mod frame;
pub mod handshake;
pub mod measure;
pub mod session;

/// The versions of the session that this build speaks, lowest and highest.
pub const SESSION_VERSIONS: (u16, u16) = (2, 2);

/// TCP port of the data session, as in MGN.
pub const DATA_PORT: u16 = 1500;

/// TCP port of enrolment on a runner.
pub const ENROL_PORT: u16 = 443;

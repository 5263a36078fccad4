//! The agent as a whole: against a runner in memory, and as the program that people call.

#![allow(
    clippy::unwrap_used,
    reason = "a test may stop at the first surprise, in its helpers, too"
)]

mod install;
mod program;
mod sessions;
mod world;

//! What tests of several kinds need.

pub mod postgresql;
pub mod shell;

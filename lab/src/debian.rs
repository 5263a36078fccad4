//! A real Debian server on old hardware: its disk, the machine that runs it, and what an operator does in it.

pub mod disk;
pub mod source;
pub mod ssh;

//! What every cloud keeps to, whatever it is made of, and what is particular to AWS.

#![allow(clippy::unwrap_used)]

mod aws;
mod contract;
mod folder;

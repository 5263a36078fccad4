//! The hub: one console over many accounts.
//!
//! - [`store`]: everything that must not be forgotten; [`entities`] are its rows.
//! - [`web`]: the pages.
//!
//! The hub never carries disk data. It tells runners what it wants; they report what is.

pub mod changes;
pub mod clock;
pub mod entities;
#[cfg(test)]
mod fixtures;
pub mod hub;
pub mod pki;
pub mod store;
pub mod web;

pub use hub::{Hub, Settings};

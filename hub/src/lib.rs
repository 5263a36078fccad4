//! The hub: one console over many accounts.
//!
//! - [`store`]: everything that must not be forgotten; [`entities`] are its rows.
//! - [`machines`]: what runners ask and report. [`pki`] and [`tokens`] say who may.
//! - [`sagas`]: work of several steps that survives a crash at any of them.
//! - [`actions`]: what people order, for the pages and the [`api`] alike.
//! - [`fan_out`]: the same done in many accounts. [`readiness`]: whether their networks are ready.
//! - [`resources`]: what of ours accounts have, and what of it is needed.
//! - [`tasks`]: reconcilers, which keep true what must stay true.
//! - [`onboarding`]: what an account deploys before any server is moved into it.
//! - [`documents`], [`launched`]: files of conversions, and what launched instances show.
//! - [`web`]: the pages. [`auth`] says who looks.
//! - [`firewall_request`]: what network teams are asked to let through.
//! - [`serve`], [`cli`]: the program around them.
//!
//! The hub never carries disk data. It tells runners what it wants; they report what is.

pub mod actions;
pub mod api;
pub mod audit;
pub mod auth;
pub mod changes;
pub mod cli;
pub mod clock;
pub mod configuration;
pub mod documents;
pub mod entities;
pub mod fan_out;
pub mod firewall_request;
#[cfg(test)]
mod fixtures;
mod hub;
pub mod import;
pub mod language;
pub mod launched;
pub mod lead;
pub mod machines;
pub mod metrics;
pub mod notices;
pub mod onboarding;
pub mod overviews;
pub mod pki;
pub mod readiness;
pub mod resources;
pub mod sagas;
mod seal;
pub mod secrets;
pub mod serve;
mod spreadsheet;
pub mod store;
pub mod tasks;
pub mod tokens;
pub mod web;

pub use hub::{Hub, Settings};

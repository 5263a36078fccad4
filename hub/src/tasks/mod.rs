//! Reconcilers: what must stay true, made true again and again, with no input but the store.

pub mod accounts;
pub mod inventories;
pub mod notices;
pub mod readiness;
pub mod waves;

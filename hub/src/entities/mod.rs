//! The rows of the database, one table per file.

pub mod columns;

pub mod account;
pub mod api_key;
pub mod application;
pub mod artifact;
pub mod audit;
pub mod authority;
pub mod certificate;
pub mod checkpoint;
pub mod conversion;
pub mod grant;
pub mod import;
pub mod inventory;
pub mod job;
pub mod job_event;
pub mod job_server;
pub mod ledger;
pub mod notice;
pub mod notice_target;
pub mod oidc_visit;
pub mod organization;
pub mod readiness;
pub mod recovery_code;
pub mod runner;
pub mod saga;
pub mod session;
pub mod source_server;
pub mod template;
pub mod token;
pub mod trend;
pub mod turned_away;
pub mod user;
pub mod wave;

pub use columns::{Doc, Word};

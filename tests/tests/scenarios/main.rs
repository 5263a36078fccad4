//! Scenarios over the real programs, each in a world of its own.
//!
//! A scenario reads as the promise that it proves. Its far side is real: processes that are killed, a
//! wire that is cut, a cloud that forgets answers, disks that fill up.

#![allow(clippy::unwrap_used, clippy::missing_panics_doc)]

mod accounts;
mod administration;
mod agent;

mod convert;
mod damage;
mod disks;
mod doctor;
mod enrolment;
mod faults;
mod journey;
mod lab_program;
mod launch;
mod operations;
mod postgresql;
mod replica;
mod runner;
mod sagas;
mod scene;
mod strangers;

//! Every call that was made, in the order of their ends, for tests that count requests.

use std::{
    collections::VecDeque,
    sync::{Mutex, PoisonError},
    time::Instant,
};

use chrono::{DateTime, Utc};
use serde::Serialize;

/// The oldest are forgotten. A first copy of 32 GiB is 65,536 blocks.
const KEPT: usize = 100_000;

/// What is asked of whom; by these faults are told apart, too.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Call {
    pub account: String,
    pub region: String,
    pub service: String,
    pub action: String,
}

#[derive(Debug, Clone, Serialize)]
pub struct Finished {
    #[serde(flatten)]
    pub call: Call,
    /// Absent if no answer was sent: a fault kept it, or the client went away.
    pub status: Option<u16>,
    pub began: DateTime<Utc>,
    pub millis: u128,
}

#[derive(Debug, Default)]
pub struct Calls(Mutex<VecDeque<Finished>>);

impl Calls {
    pub fn list(&self) -> Vec<Finished> {
        self.lock().iter().cloned().collect()
    }

    /// How often `action` of `service` was called, by whomever and with whatever result.
    pub fn count(&self, service: &str, action: &str) -> usize {
        let is_it = |done: &&Finished| done.call.service == service && done.call.action == action;
        self.lock().iter().filter(is_it).count()
    }

    pub fn forget(&self) {
        self.lock().clear();
    }

    pub(super) fn begin(&self, call: Call) -> Underway<'_> {
        Underway {
            calls: self,
            call,
            status: None,
            began: Utc::now(),
            since: Instant::now(),
        }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, VecDeque<Finished>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A call that is logged however it ends: a client that goes away drops it.
#[derive(Debug)]
pub(super) struct Underway<'a> {
    calls: &'a Calls,
    call: Call,
    status: Option<u16>,
    began: DateTime<Utc>,
    since: Instant,
}

impl Underway<'_> {
    pub(super) fn answered(&mut self, status: u16) {
        self.status = Some(status);
    }
}

impl Drop for Underway<'_> {
    fn drop(&mut self) {
        let mut calls = self.calls.lock();
        if calls.len() == KEPT {
            calls.pop_front();
        }
        calls.push_back(Finished {
            call: self.call.clone(),
            status: self.status,
            began: self.began,
            millis: self.since.elapsed().as_millis(),
        });
    }
}

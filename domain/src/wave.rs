//! What moves together: applications and waves, how their servers stand, what was agreed on, and the
//! run that launches them batch by batch.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::{
    digest::Digest,
    ids::{AccountId, JobId, SourceServerId},
    launch::Purpose,
};

/// MGN's `ApplicationHealthStatus` and `WaveHealthStatus`. By which rule is not published; see [`Standing::health`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum Health {
    Healthy,
    Lagging,
    Error,
}

/// MGN's `ApplicationProgressStatus` and `WaveProgressStatus`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum Progress {
    NotStarted,
    InProgress,
    Completed,
}

/// How servers that belong together stand. Archived ones do not count.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Standing {
    /// By the name of their life cycle's state.
    pub servers: BTreeMap<String, u64>,
    pub stalled: u64,
    /// Their last checkpoint is older than it should be, or more is written than gets through.
    pub lagging: u64,
    /// Jobs work on them.
    pub in_jobs: u64,
    /// When the newest launchable checkpoint of the one that lags most was taken.
    pub oldest_lag_basis: Option<i64>,
    /// When the first of them began to replicate.
    pub first_byte_at: Option<i64>,
}

/// Nothing has been launched in these states.
const BEFORE: [&str; 5] = [
    "DISCOVERED",
    "PENDING_INSTALLATION",
    "STOPPED",
    "NOT_READY",
    "READY_FOR_TEST",
];
/// There is nothing left to do in these.
const AFTER: [&str; 2] = ["CUTOVER", "DISCONNECTED"];

impl Standing {
    pub fn add(&mut self, other: &Self) {
        for (state, servers) in &other.servers {
            *self.servers.entry(state.clone()).or_default() += servers;
        }
        self.stalled += other.stalled;
        self.lagging += other.lagging;
        self.in_jobs += other.in_jobs;
        let earlier = |a: Option<i64>, b: Option<i64>| a.into_iter().chain(b).min();
        self.oldest_lag_basis = earlier(self.oldest_lag_basis, other.oldest_lag_basis);
        self.first_byte_at = earlier(self.first_byte_at, other.first_byte_at);
    }

    pub fn total(&self) -> u64 {
        self.servers.values().sum()
    }

    fn in_states(&self, states: &[&str]) -> u64 {
        states.iter().filter_map(|state| self.servers.get(*state)).sum()
    }

    /// Servers whose migration is over.
    pub fn done(&self) -> u64 {
        self.in_states(&AFTER)
    }

    pub fn health(&self) -> Health {
        match (self.stalled, self.lagging) {
            (0, 0) => Health::Healthy,
            (0, _) => Health::Lagging,
            _ => Health::Error,
        }
    }

    pub fn progress(&self) -> Progress {
        let total = self.total();
        if self.in_states(&BEFORE) == total {
            Progress::NotStarted
        } else if self.done() == total {
            Progress::Completed
        } else {
            Progress::InProgress
        }
    }
}

/// When a wave's cutover may be started, in milliseconds since 1970.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Window {
    pub from: i64,
    pub to: i64,
}

impl Window {
    pub fn holds(&self, now: i64) -> bool {
        (self.from..self.to).contains(&now)
    }
}

/// What people agreed on for a wave: when, by which ticket, and who said so of exactly which servers.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Plan {
    pub window: Option<Window>,
    /// Of whatever system the organization tracks changes in.
    pub ticket: String,
    pub submitted: Option<Signature>,
    pub approved: Option<Signature>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Signature {
    pub by: String,
    pub at: i64,
    /// See [`Plan::content`].
    pub content: Digest,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stage {
    Draft,
    /// Somebody else has to agree.
    Submitted,
    Approved,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum NotAgreed {
    #[error("the plan has no change ticket: name the one that it is tracked by")]
    NoTicket,
    #[error("the plan has no cutover window: say when the cutover may begin")]
    NoWindow,
    #[error("the wave has no servers")]
    Empty,
    #[error("nobody has asked for approval of the plan as it is now")]
    NotSubmitted,
    #[error("who asks for approval cannot give it: a second person has to")]
    SamePerson,
}

impl Plan {
    /// What is signed. It changes with the window, the ticket and the servers.
    pub fn content<'a>(&self, servers: impl IntoIterator<Item = &'a SourceServerId>) -> Digest {
        let mut servers: Vec<_> = servers.into_iter().map(SourceServerId::as_str).collect();
        servers.sort_unstable();
        let window = self.window.map(|window| (window.from, window.to));
        Digest::of(format!("{window:?} {:?} {servers:?}", self.ticket).as_bytes())
    }

    pub fn stage(&self, content: &Digest) -> Stage {
        let signed = |signature: &Option<Signature>| {
            signature
                .as_ref()
                .is_some_and(|signature| signature.content == *content)
        };
        match (signed(&self.submitted), signed(&self.approved)) {
            (true, true) => Stage::Approved,
            (true, false) => Stage::Submitted,
            (false, _) => Stage::Draft,
        }
    }

    /// Asks for approval.
    pub fn submit(&mut self, signature: Signature, servers: usize) -> Result<(), NotAgreed> {
        if servers == 0 {
            return Err(NotAgreed::Empty);
        }
        if self.window.is_none() {
            return Err(NotAgreed::NoWindow);
        }
        if self.ticket.trim().is_empty() {
            return Err(NotAgreed::NoTicket);
        }
        self.submitted = Some(signature);
        self.approved = None;
        Ok(())
    }

    pub fn approve(&mut self, signature: Signature) -> Result<(), NotAgreed> {
        match &self.submitted {
            Some(submitted) if submitted.content == signature.content => {
                if submitted.by == signature.by {
                    return Err(NotAgreed::SamePerson);
                }
                self.approved = Some(signature);
                Ok(())
            }
            _ => Err(NotAgreed::NotSubmitted),
        }
    }

    /// Takes back what was asked for or agreed on.
    pub fn withdraw(&mut self) {
        self.submitted = None;
        self.approved = None;
    }
}

/// As many as MGN takes in one job, and has in all jobs of an account.
pub const IN_JOBS_MAX: usize = 200;

/// The launch of a whole wave, batch by batch.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Run {
    pub purpose: Purpose,
    /// Whose rights count when a batch is ordered.
    pub by: String,
    pub at: i64,
    /// Servers of an account that jobs may work on at once.
    pub at_once: u32,
    /// After more failures than these, nothing new is begun.
    pub failures_allowed: u32,
    /// Launches of this run that failed.
    pub failed: u64,
    /// Of those, as many as somebody knew of who let the run go on.
    pub failed_known: u64,
    /// In the order in which they are launched.
    pub waiting: Vec<(AccountId, SourceServerId)>,
    pub jobs: Vec<JobId>,
    /// Who could not take part, and why.
    pub refused: Vec<(SourceServerId, String)>,
    pub state: RunState,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "state", rename_all = "SCREAMING_SNAKE_CASE")]
pub enum RunState {
    Running,
    /// Nothing new is begun until somebody says so; what runs goes on.
    Held {
        why: String,
    },
    Ended {
        at: i64,
    },
}

impl RunState {
    pub fn name(&self) -> &'static str {
        match self {
            Self::Running => "RUNNING",
            Self::Held { .. } => "HELD",
            Self::Ended { .. } => "ENDED",
        }
    }
}

impl Run {
    /// Whether more failed than is put up with, since somebody last let it go on.
    pub fn fails_too_often(&self) -> bool {
        self.failed.saturating_sub(self.failed_known) > u64::from(self.failures_allowed)
    }

    /// Takes the next batch out of those that wait. `busy`: servers of each account that jobs work on now.
    pub fn next_batch(&mut self, busy: &BTreeMap<AccountId, u64>) -> Vec<SourceServerId> {
        let mut free: BTreeMap<AccountId, u64> = BTreeMap::new();
        let mut batch = Vec::new();
        self.waiting.retain(|(account, server)| {
            let free = free.entry(account.clone()).or_insert_with(|| {
                let busy = busy.get(account).copied().unwrap_or(0);
                u64::from(self.at_once).saturating_sub(busy)
            });
            if *free == 0 || batch.len() == IN_JOBS_MAX {
                return true;
            }
            *free -= 1;
            batch.push(server.clone());
            false
        });
        batch
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn standing(states: &[(&str, u64)]) -> Standing {
        Standing {
            servers: states
                .iter()
                .map(|(state, servers)| ((*state).to_owned(), *servers))
                .collect(),
            ..Standing::default()
        }
    }

    #[test]
    fn progress_is_that_of_all_servers() {
        assert_eq!(standing(&[]).progress(), Progress::NotStarted);
        assert_eq!(
            standing(&[("READY_FOR_TEST", 3)]).progress(),
            Progress::NotStarted
        );
        let mixed = standing(&[("NOT_READY", 1), ("CUTOVER", 2)]);
        assert_eq!(mixed.progress(), Progress::InProgress);
        let over = standing(&[("DISCONNECTED", 1), ("CUTOVER", 2)]);
        assert_eq!((over.progress(), over.done()), (Progress::Completed, 3));
    }

    #[test]
    fn the_worst_server_says_how_all_are() {
        let mut all = standing(&[("READY_FOR_TEST", 1)]);
        assert_eq!(all.health(), Health::Healthy);
        all.add(&Standing {
            lagging: 1,
            ..Standing::default()
        });
        assert_eq!(all.health(), Health::Lagging);
        all.add(&Standing {
            stalled: 1,
            first_byte_at: Some(5),
            ..Standing::default()
        });
        assert_eq!((all.health(), all.first_byte_at), (Health::Error, Some(5)));
    }

    fn server(number: u128) -> SourceServerId {
        SourceServerId::from_entropy(number)
    }

    #[test]
    fn a_second_person_agrees_to_exactly_what_was_asked() {
        let servers = [server(1), server(2)];
        let mut plan = Plan::default();
        let sign = |by: &str, content| Signature {
            by: by.into(),
            at: 7,
            content,
        };
        let content = plan.content(&servers);
        assert_eq!(plan.submit(sign("ada", content), 0), Err(NotAgreed::Empty));
        assert_eq!(plan.submit(sign("ada", content), 2), Err(NotAgreed::NoWindow));
        plan.window = Some(Window { from: 10, to: 20 });
        let content = plan.content(&servers);
        assert_eq!(plan.submit(sign("ada", content), 2), Err(NotAgreed::NoTicket));
        plan.ticket = "CHG-1".into();
        let content = plan.content(&servers);
        assert_eq!(plan.approve(sign("grace", content)), Err(NotAgreed::NotSubmitted));
        plan.submit(sign("ada", content), 2).unwrap();
        assert_eq!(plan.stage(&content), Stage::Submitted);
        assert_eq!(plan.approve(sign("ada", content)), Err(NotAgreed::SamePerson));
        plan.approve(sign("grace", content)).unwrap();
        assert_eq!(plan.stage(&content), Stage::Approved);
        // The order of servers says nothing; another server, window or ticket takes the approval away.
        assert_eq!(plan.content([&servers[1], &servers[0]]), content);
        let stage = |plan: &Plan, servers: &[SourceServerId]| plan.stage(&plan.content(servers));
        assert_eq!(stage(&plan, &servers[..1]), Stage::Draft);
        let mut other = plan.clone();
        other.window = Some(Window { from: 10, to: 21 });
        assert_eq!(stage(&other, &servers), Stage::Draft);
        let mut other = plan.clone();
        other.ticket.push('0');
        assert_eq!(stage(&other, &servers), Stage::Draft);
        plan.withdraw();
        assert_eq!(plan.stage(&content), Stage::Draft);
    }

    proptest! {
        #[test]
        fn batches_respect_each_account_and_lose_nobody(
            accounts in proptest::collection::vec(0..5_u64, 0..600),
            busy in proptest::collection::btree_map(0..5_u64, 0..30_u64, 0..5),
            at_once in 1..40_u32,
        ) {
            let account = |number: u64| format!("{number:012}").parse::<AccountId>().unwrap();
            let waiting: Vec<_> = accounts
                .iter()
                .enumerate()
                .map(|(index, number)| (account(*number), server(index as u128)))
                .collect();
            let mut run = Run {
                purpose: Purpose::Cutover,
                by: "ada".into(),
                at: 0,
                at_once,
                failures_allowed: 0,
                failed: 0,
                failed_known: 0,
                waiting: waiting.clone(),
                jobs: Vec::new(),
                refused: Vec::new(),
                state: RunState::Running,
            };
            let busy: BTreeMap<_, _> = busy.into_iter().map(|(number, busy)| (account(number), busy)).collect();
            let batch = run.next_batch(&busy);
            prop_assert!(batch.len() <= IN_JOBS_MAX);
            prop_assert_eq!(batch.len() + run.waiting.len(), waiting.len());
            for number in 0..5 {
                let account = account(number);
                let begun = waiting.iter().filter(|(of, server)| *of == account && batch.contains(server)).count() as u64;
                let busy = busy.get(&account).copied().unwrap_or(0);
                prop_assert!(begun == 0 || begun + busy <= u64::from(at_once));
                // Nobody waits while there is room.
                let waits = run.waiting.iter().any(|(of, _)| *of == account);
                prop_assert!(!waits || batch.len() == IN_JOBS_MAX || begun + busy >= u64::from(at_once));
            }
        }
    }
}

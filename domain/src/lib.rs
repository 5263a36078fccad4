//! What is true of a migration, whoever carries it out.
//!
//! Identifiers, the life cycle of a source server, the state of its replication, jobs and their
//! participants, checkpoints and how long they are kept. Nothing here does I/O, reads a clock or
//! knows a wire format; every state moves by one function, `on(event)`, and by nothing else.
//! Words and transitions are those of AWS Application Migration Service (MGN API 2020-02-26).

pub mod account;
pub mod bandwidth;
pub mod changes;
pub mod checkpoint;
pub mod conversion;
pub mod digest;
pub mod disk;
pub mod flow;
pub mod ids;
pub mod job;
pub mod launch;
pub mod lifecycle;
pub mod network;
pub mod readiness;
pub mod replication;
pub mod replication_configuration;
pub mod scope;
pub mod source_server;
pub mod trend;
pub mod wave;

/// An event that does not apply to the state it met. Nothing was changed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{event} is not possible for {subject} in state {state}")]
pub struct IllegalTransition {
    pub subject: &'static str,
    pub state: &'static str,
    pub event: &'static str,
}

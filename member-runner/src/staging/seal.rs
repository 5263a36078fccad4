//! Makes the checkpoint that a record promises: after the agent was told, or after a crash.
//!
//! ```text
//! promised ─▶ merge ─▶ snapshots committed ─▶ manifest ─▶ promise released ─▶ journal removed
//! ```
//!
//! Before the manifest all of it may be repeated, and begins anew; after it, only the tidying is left.

use std::sync::Arc;

use domain::checkpoint::CheckpointNumber;
use protocol::session::Fault;

use super::{Committed, chain, draft::Draft, store_fault};
use crate::{
    journal::{
        Journal, JournalError,
        record::{Kept, Record},
        write_fault,
    },
    server::{Server, blocking},
};

/// Merges the journal and commits. Whatever goes wrong, the promise stands, and [`finish`] tries again. Where
/// a block below is damaged, the checkpoint comes to exist all the same, is marked, and cannot be launched.
pub(super) async fn seal(server: Arc<Server>, record: Record, journal: Journal) -> Result<Committed, Fault> {
    let draft = Draft::open(&server, &record.disks).await;
    let mut draft = draft.map_err(|error| store_fault(&error))?;
    let committed = match draft.merge(journal).await {
        Ok(()) => draft.commit(&record.offer, record.received_bytes).await,
        Err(fault) => Err(fault),
    };
    let committed = match committed {
        Ok(committed) => committed,
        Err(fault) => {
            draft.abandon().await;
            return Err(fault);
        }
    };
    let path = server.journals.journal_of(&record);
    let tidied = blocking(move || {
        server.journals.release()?;
        crate::files::remove(&path)
    });
    tidied.await.map_err(|error| write_fault(&error))?;
    Ok(committed)
}

/// Makes the checkpoint that an earlier session promised, if there is one. Journals without a promise go. The
/// server's slot must be held.
pub(crate) async fn finish(server: &Arc<Server>) -> Result<(), Fault> {
    let reading = Arc::clone(server);
    match blocking(move || promised(&reading)).await? {
        Promised::Nothing => {}
        Promised::Checkpoint(record, journal) => {
            let number = record.number;
            tracing::info!(server.id = %server.id, %number, "finishing a checkpoint that was promised");
            seal(Arc::clone(server), *record, journal).await?;
            tracing::info!(server.id = %server.id, %number, "a checkpoint is committed");
        }
    }
    Ok(())
}

enum Promised {
    Nothing,
    Checkpoint(Box<Record>, Journal),
}

fn promised(server: &Server) -> Result<Promised, Fault> {
    let journals = &server.journals;
    let promised = journals.promised().map_err(|error| write_fault(&error))?;
    let lost = match promised {
        Kept::Record(record) if !server.ledger().is_used(record.number) => {
            match Journal::load(&journals.journal_of(&record), record.seal, &record.disks) {
                Ok(journal) => return Ok(Promised::Checkpoint(Box::new(record), journal)),
                Err(JournalError::Damaged(why)) => Some((record.number, why)),
                Err(JournalError::File(error)) => return Err(write_fault(&error)),
            }
        }
        // It is always the next checkpoint that is promised.
        Kept::Damaged => Some((server.ledger().next_number(), "its record is damaged")),
        Kept::Record(_) | Kept::Nothing => None,
    };
    match lost {
        Some((number, why)) => give_up(server, number, why)?,
        None => release(server)?,
    }
    Ok(Promised::Nothing)
}

fn give_up(server: &Server, number: CheckpointNumber, why: &str) -> Result<(), Fault> {
    tracing::error!(
        server.id = %server.id, %number, why,
        "a checkpoint that was promised is lost; its disks are compared anew"
    );
    // First of all: no agent may go on from a checkpoint that it was promised and that is not there.
    let given_up = server.ledger().give_up(number);
    given_up.map_err(|error| Fault::Store {
        detail: chain(&error),
    })?;
    release(server)
}

fn release(server: &Server) -> Result<(), Fault> {
    let released = server.journals.release();
    released
        .and_then(|()| server.journals.tidy())
        .map_err(|error| write_fault(&error))
}

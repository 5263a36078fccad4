//! A connection that asks for the digests of a committed checkpoint, beside any session.
//!
//! ```text
//! Inspect ─▶ whose is it? ─▶ the checkpoint is held ─▶ Inspected ─▶ DigestsWanted ─▶ Digests, …
//! ```
//!
//! It reads the ledger alone: neither the session nor the blocks know of it.

use std::{fs, sync::Arc};

use domain::{
    checkpoint::CheckpointNumber,
    disk::{Disk, block_count},
};
use protocol::{
    exchange::{ObservedCheckpoint, ObservedSnapshot},
    frame::{self, Frame},
    session::{AgentMessage, Fault, Inspected, Refusal, RunnerMessage, control, read_control},
};
use tokio::sync::OwnedSemaphorePermit;

use super::{
    Guest, Refused, certified, is_revoked,
    wire::{Budget, read_frame, write_frame},
};
use crate::{
    digests::DiskDigests,
    runner::core::Core,
    server::{Server, blocking},
    staging::chain,
};

/// A checkpoint that somebody inspects. While this exists, it stays.
#[derive(Debug)]
pub(super) struct Inspection {
    server: Arc<Server>,
    checkpoint: ObservedCheckpoint,
    _manifest: fs::File,
    _room: OwnedSemaphorePermit,
    /// The disk that was asked for last.
    shown: Option<(usize, Arc<DiskDigests>)>,
}

/// What the guest wants to inspect, if it may.
pub(super) async fn open(
    core: &Core,
    guest: &Guest,
    server: &domain::ids::SourceServerId,
    which: Option<CheckpointNumber>,
) -> Result<Inspection, Refused> {
    let known = certified(core, guest, server)?;
    let missing = |note| {
        let server = server.clone();
        (Refusal::NoCheckpoint { server }, note)
    };
    let room = Arc::clone(&core.inspections).try_acquire_owned();
    let room = room.map_err(|_| missing(Some("too many checkpoints are inspected already".into())))?;
    let held = blocking({
        let known = Arc::clone(&known);
        move || known.ledger().hold(which)
    });
    match held.await {
        Ok(Some((checkpoint, manifest))) => Ok(Inspection {
            server: known,
            checkpoint,
            _manifest: manifest,
            _room: room,
            shown: None,
        }),
        Ok(None) => Err(missing(None)),
        Err(error) => Err(missing(Some(chain(&error)))),
    }
}

/// Answers until the guest leaves. How it leaves is of no interest.
pub(super) async fn serve(core: &Core, mut guest: Guest, mut inspection: Inspection) {
    let answering = async {
        write_frame(&mut guest.stream, &control(&inspection.greeting())).await?;
        let budget = Budget::new();
        while let Ok(received) = read_frame(&mut guest.stream, &budget).await {
            if is_revoked(&core.desired.borrow(), &guest.peer) {
                break;
            }
            let wanted = match read_control(&received.frame) {
                Ok(AgentMessage::DigestsWanted {
                    disk,
                    first_block,
                    count,
                    after: _,
                }) => (disk, first_block, count),
                Ok(AgentMessage::KeepAlive) => continue,
                Ok(_) | Err(_) => break,
            };
            match inspection.digests(wanted).await {
                Ok(frame) => write_frame(&mut guest.stream, &frame).await?,
                Err(fault) => {
                    let fault = RunnerMessage::Fault { fault };
                    write_frame(&mut guest.stream, &control(&fault)).await?;
                    break;
                }
            }
        }
        tokio::io::AsyncWriteExt::shutdown(&mut guest.stream).await
    };
    if let Some(Err(error)) = core.stop.run_until_cancelled(answering).await {
        tracing::debug!(server.id = %inspection.server.id, %error, "an inspection was cut off");
    }
}

impl Inspection {
    fn greeting(&self) -> RunnerMessage {
        let disk = |snapshot: &ObservedSnapshot| Disk {
            id: snapshot.disk.clone(),
            device_name: snapshot.device_name.clone(),
            bytes: snapshot.bytes,
            is_boot: snapshot.is_boot,
        };
        RunnerMessage::Inspected(Inspected {
            number: self.checkpoint.number,
            consistency: self.checkpoint.consistency,
            taken_at_ms: self.checkpoint.taken_at_ms,
            disks: self.checkpoint.disks.iter().map(disk).collect(),
        })
    }

    /// The digests of up to a frame's worth of blocks.
    async fn digests(&mut self, (disk, first, count): (u16, u64, u64)) -> Result<Frame, Fault> {
        let index = usize::from(disk);
        let snapshot = self.checkpoint.disks.get(index);
        let snapshot = snapshot.cloned().ok_or_else(|| Fault::Protocol {
            detail: format!("the checkpoint has no disk {disk}"),
        })?;
        let digests = match &self.shown {
            Some((shown, digests)) if *shown == index => Arc::clone(digests),
            _ => {
                let (server, number) = (Arc::clone(&self.server), self.checkpoint.number);
                let read = blocking(move || server.ledger().digests_at(number, &snapshot)).await;
                let digests = read.map_err(|error| Fault::Store {
                    detail: chain(&error),
                })?;
                self.shown = Some((index, Arc::clone(&digests)));
                digests
            }
        };
        let end = first.saturating_add(count.min(frame::DIGESTS_PER_FRAME_MAX));
        let end = end.min(block_count(digests.bytes));
        let asked: Vec<_> = (first..end).filter_map(|block| digests.get(block)).collect();
        Ok(frame::digests(disk, first, &asked))
    }
}

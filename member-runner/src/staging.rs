//! What agents send, on its way into the next checkpoint.
//!
//! ```text
//! whole blocks of a first copy or a compare ──▶ put ────────────────────▶ open snapshots ─┐
//! everything else ───────────────────────────▶ append ─▶ journal ─ merge ────▲            ├─▶ checkpoint
//!                                                           └─ promised ─▶ sealed aside ──┘
//! ```
//!
//! A checkpoint whose changes are all in the journal is promised as soon as the journal is durable, and
//! merged while the next one comes in ([`seal`]). Any other is merged first. What was neither promised
//! nor committed ends with the session.

use std::{
    collections::{HashMap, HashSet, VecDeque},
    sync::Arc,
};

use cloud::snapshots::StoreError;
use domain::{
    checkpoint::{CheckpointKind, CheckpointNumber},
    digest::Digest,
    disk::{BLOCK_LEN, Disk, block_count, block_len},
};
use protocol::{
    extent,
    frame::{self, Frame},
    session::{CheckpointOffer, DiskPlan, DiskStart, Fault},
};
use tokio::{
    sync::OwnedSemaphorePermit,
    task::{JoinError, JoinSet},
};

use crate::{
    journal::{Journal, Key, Piece, record::Record, write_fault},
    server::{Server, blocking},
};

mod block;
mod draft;
pub(crate) mod seal;

use block::{Put, Whole, Written};
use draft::{Draft, PARALLEL_BLOCKS};

/// Blocks and pieces that may wait. Extents are bounded by their bytes long before; runs of zeros have none.
const WAITING_MAX: usize = 4096;

#[derive(Debug)]
pub(crate) struct Staging {
    server: Arc<Server>,
    disks: Vec<Disk>,
    /// The checkpoint that is being made, without what is in the journal. While one is sealed, it shows the one
    /// before that, and nothing is put into it.
    draft: Draft,
    /// Blocks of which there are pieces in the journal, or on the way into it.
    journaled: HashSet<Key>,
    /// Pieces that wait until the journal is at rest.
    pieces: Vec<(Key, Piece)>,
    /// `None` while pieces are being appended, and before the first.
    journal: Option<Journal>,
    is_appending: bool,
    /// Whole blocks go straight into their snapshots: so many come that to write them twice would cost
    /// more than an early answer is worth.
    is_bulk: bool,
    /// Whole blocks that wait; of one block, the last is all that counts.
    waiting: HashMap<Key, Whole>,
    /// Blocks of `waiting` that can be taken up, in the order in which they came.
    ready: VecDeque<Key>,
    running: HashSet<Key>,
    jobs: JoinSet<Result<Done, Fault>>,
    sealing: JoinSet<Result<(Committed, Draft), Fault>>,
    /// Blocks that the checkpoint changes that is being sealed.
    sealed: HashSet<Key>,
    committed: Option<Committed>,
    received_bytes: u64,
}

/// A checkpoint that exists.
#[derive(Debug)]
pub(crate) struct Committed {
    pub number: CheckpointNumber,
    pub roots: Vec<Digest>,
    pub kind: CheckpointKind,
}

/// What became of an offer.
#[derive(Debug)]
pub(crate) enum Offered {
    /// It will exist, whatever happens.
    Promised(CheckpointNumber),
    Committed(Committed),
}

#[derive(Debug)]
enum Done {
    Written(Written),
    Appended(Journal),
}

/// The end of some work.
#[derive(Debug)]
pub(crate) struct Finished(Ended);

#[derive(Debug)]
enum Ended {
    Job(Result<Result<Done, Fault>, JoinError>),
    Sealing(Result<Result<(Committed, Draft), Fault>, JoinError>),
}

pub(crate) fn store_fault(error: &StoreError) -> Fault {
    match error {
        StoreError::Full => Fault::StagingFull,
        other => Fault::Store { detail: chain(other) },
    }
}

/// An error with its causes, in one line.
pub(crate) fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text.push_str(": ");
        text.push_str(&cause.to_string());
        source = cause.source();
    }
    text
}

fn protocol_fault(detail: impl Into<String>) -> Fault {
    Fault::Protocol {
        detail: detail.into(),
    }
}

/// What a task came to; its panic is ours.
fn settled<T>(joined: Result<Result<T, Fault>, JoinError>) -> Result<T, Fault> {
    match joined {
        Ok(done) => done,
        Err(stopped) if stopped.is_panic() => std::panic::resume_unwind(stopped.into_panic()),
        Err(_) => Err(Fault::Stopping),
    }
}

impl Staging {
    /// Goes on from the newest checkpoint. What was promised before is to be finished first.
    pub async fn open(server: &Arc<Server>, disks: Vec<Disk>) -> Result<Self, StoreError> {
        let draft = Draft::open(server, &disks).await?;
        let is_bulk = draft.plan().iter().any(|disk| disk.start == DiskStart::Full);
        Ok(Self {
            server: Arc::clone(server),
            disks,
            draft,
            journaled: HashSet::new(),
            pieces: Vec::new(),
            journal: None,
            is_appending: false,
            is_bulk,
            waiting: HashMap::new(),
            ready: VecDeque::new(),
            running: HashSet::new(),
            jobs: JoinSet::new(),
            sealing: JoinSet::new(),
            sealed: HashSet::new(),
            committed: None,
            received_bytes: 0,
        })
    }

    pub fn plan(&self) -> Vec<DiskPlan> {
        self.draft.plan()
    }

    /// Takes up an extent; it is verified and written later.
    pub async fn extent(&mut self, frame: Frame, permit: OwnedSemaphorePermit) -> Result<(), Fault> {
        let disk = self.disk_index(frame.disk)?;
        let bytes = self.disks[disk].bytes;
        if frame.at >= bytes {
            return Err(protocol_fault(format!(
                "an extent at {} is beyond the end of {}",
                frame.at, self.disks[disk].device_name
            )));
        }
        self.received_bytes += frame.payload.len() as u64;
        let block = frame.at / BLOCK_LEN as u64;
        let key = Key { disk, block };
        let is_whole = extent::raw_len(&frame) == Some(block_len(block, bytes));
        if is_whole && self.goes_straight(&key) {
            self.enqueue(key, Whole::Extent(frame, permit));
        } else {
            self.note(key, Piece::Extent(frame, permit));
        }
        self.make_room().await
    }

    /// Takes up a run of zeros. Blocks that are zeros already cost nothing.
    pub async fn zeros(&mut self, disk: u16, at: u64, len: u64) -> Result<(), Fault> {
        let disk = self.disk_index(disk)?;
        let bytes = self.disks[disk].bytes;
        let Some(end) = at.checked_add(len).filter(|end| *end <= bytes && len > 0) else {
            return Err(protocol_fault(format!(
                "{len} zeros at {at} do not lie within the disk"
            )));
        };
        self.received_bytes += size_of_val(&len) as u64;
        for block in at / BLOCK_LEN as u64..end.div_ceil(BLOCK_LEN as u64) {
            let key = Key { disk, block };
            let whole = block_len(block, bytes);
            if self.shown(&key) == Some(Digest::of_zeros(whole)) {
                continue;
            }
            let start = block * BLOCK_LEN as u64;
            let within =
                |at: u64| usize::try_from(at.saturating_sub(start)).map_or(whole, |at| at.min(whole));
            let range = within(at)..within(end);
            if range == (0..whole) && self.goes_straight(&key) {
                self.enqueue(key, Whole::Zeros);
            } else {
                self.note(key, Piece::Zeros(range));
            }
            self.make_room().await?;
        }
        Ok(())
    }

    /// The digests of up to a frame's worth of blocks, with all that was sent before.
    pub async fn digests(&mut self, disk: u16, first: u64, count: u64) -> Result<Frame, Fault> {
        let index = self.disk_index(disk)?;
        let end = first.saturating_add(count.min(frame::DIGESTS_PER_FRAME_MAX));
        let end = end.min(block_count(self.disks[index].bytes));
        let asked = |key: &Key| key.disk == index && (first..end).contains(&key.block);
        self.until_sealed().await?;
        if self.journaled.iter().any(asked) {
            self.merge().await?;
        } else if self.running.iter().chain(self.waiting.keys()).any(asked) {
            self.drain().await?;
        }
        // A compare has begun.
        self.is_bulk = true;
        let key = |block| Key { disk: index, block };
        let digests: Vec<_> = (first..end)
            .filter_map(|block| self.draft.digest(key(block)))
            .collect();
        Ok(frame::digests(disk, first, &digests))
    }

    /// Makes a checkpoint of all that was sent.
    pub async fn offer(&mut self, offer: &CheckpointOffer) -> Result<Offered, Fault> {
        self.until_sealed().await?;
        self.drain().await?;
        let received_bytes = std::mem::take(&mut self.received_bytes);
        let journal = self.journal.take().filter(|journal| !journal.is_empty());
        if let Some(journal) = journal {
            if self.draft.is_unchanged() {
                return self.promise(offer, received_bytes, journal).await;
            }
            self.journal = Some(journal);
        }
        self.merge().await?;
        let committed = self.draft.commit(offer, received_bytes).await?;
        self.draft = self.next_draft().await?;
        self.is_bulk &= offer.kind == CheckpointKind::Partial;
        Ok(Offered::Committed(committed))
    }

    /// Has the journal durable, and seals it while other work goes on.
    async fn promise(
        &mut self,
        offer: &CheckpointOffer,
        received_bytes: u64,
        journal: Journal,
    ) -> Result<Offered, Fault> {
        let free = self.server.store.free_bytes().await;
        let free = free.map_err(|error| store_fault(&error))?;
        if free.is_some_and(|free| free < (journal.blocks() * BLOCK_LEN) as u64) {
            return Err(Fault::StagingFull);
        }
        let number = self.server.ledger().next_number();
        let record = Record::new(
            number,
            offer.clone(),
            received_bytes,
            self.disks.clone(),
            &journal,
        );
        let server = Arc::clone(&self.server);
        let promised = blocking(move || {
            journal.sync()?;
            server.journals.promise(&record)?;
            Ok((record, journal))
        });
        let (record, journal) = promised.await.map_err(|error| write_fault(&error))?;
        let (server, disks) = (Arc::clone(&self.server), self.disks.clone());
        self.sealing.spawn(async move {
            let committed = seal::seal(Arc::clone(&server), record, journal).await?;
            let next = Draft::open(&server, &disks).await;
            Ok((committed, next.map_err(|error| store_fault(&error))?))
        });
        self.sealed = std::mem::take(&mut self.journaled);
        self.is_bulk &= offer.kind == CheckpointKind::Partial;
        Ok(Offered::Promised(number))
    }

    /// A promised checkpoint that has come to exist since this was asked last.
    pub fn take_committed(&mut self) -> Option<Committed> {
        self.committed.take()
    }

    /// Waits until the checkpoint exists that was promised last.
    pub async fn until_sealed(&mut self) -> Result<(), Fault> {
        while let Some(sealed) = self.sealing.join_next().await {
            self.settle(Ended::Sealing(sealed))?;
        }
        Ok(())
    }

    /// Waits for some work to finish; for ever if none is under way. Nothing is lost when it is not
    /// waited for to the end: [`Staging::go_on`] must be told what it returned.
    pub async fn finished(&mut self) -> Finished {
        tokio::select! {
            Some(joined) = self.jobs.join_next() => Finished(Ended::Job(joined)),
            Some(joined) = self.sealing.join_next() => Finished(Ended::Sealing(joined)),
            else => std::future::pending().await,
        }
    }

    /// Takes up the next work in place of what is finished.
    pub async fn go_on(&mut self, Finished(ended): Finished) -> Result<(), Fault> {
        self.settle(ended)?;
        self.pump().await
    }

    /// Deletes what was neither promised nor committed.
    pub async fn abandon(mut self) {
        self.jobs.shutdown().await;
        self.draft.abandon().await;
        // Whoever comes next goes on from there.
        while let Some(sealed) = self.sealing.join_next().await {
            if let Err(fault) = settled(sealed) {
                tracing::error!(server.id = %self.server.id, %fault, "a checkpoint that was promised is to be finished yet");
            }
        }
        let server = Arc::clone(&self.server);
        let removed = blocking(move || server.journals.tidy()).await;
        if let Err(error) = removed {
            tracing::warn!(server.id = %self.server.id, error = %chain(&error), "an abandoned journal stays until the next session");
        }
    }

    fn disk_index(&self, disk: u16) -> Result<usize, Fault> {
        let index = usize::from(disk);
        if index < self.disks.len() {
            Ok(index)
        } else {
            Err(protocol_fault(format!("there is no disk {disk} in this session")))
        }
    }

    /// Whether a whole block may overtake the journal: there is nothing in it that the block would replace.
    fn goes_straight(&self, key: &Key) -> bool {
        self.is_bulk && self.sealing.is_empty() && !self.journaled.contains(key)
    }

    /// The digest of a block, where no work on it is under way.
    fn shown(&self, key: &Key) -> Option<Digest> {
        let is_moving = self.journaled.contains(key)
            || self.sealed.contains(key)
            || self.running.contains(key)
            || self.waiting.contains_key(key);
        if is_moving { None } else { self.draft.digest(*key) }
    }

    fn enqueue(&mut self, key: Key, whole: Whole) {
        let replaced = self.waiting.insert(key, whole);
        if replaced.is_none() && !self.running.contains(&key) {
            self.ready.push_back(key);
        }
    }

    fn note(&mut self, key: Key, piece: Piece) {
        self.journaled.insert(key);
        self.pieces.push((key, piece));
    }

    /// Starts what can be started, and waits while too much waits.
    async fn make_room(&mut self) -> Result<(), Fault> {
        self.pump().await?;
        while self.waiting.len() + self.pieces.len() > WAITING_MAX {
            self.finish_one().await?;
            self.pump().await?;
        }
        if self.journal.as_ref().is_some_and(Journal::is_full) {
            self.until_sealed().await?;
            self.merge().await?;
            self.is_bulk = true;
        }
        Ok(())
    }

    async fn pump(&mut self) -> Result<(), Fault> {
        if !self.pieces.is_empty() && !self.is_appending {
            let pieces = std::mem::take(&mut self.pieces);
            let (journal, disks) = (self.journal.take(), self.disks.clone());
            let server = Arc::clone(&self.server);
            self.is_appending = true;
            self.jobs.spawn(blocking(move || {
                let mut journal = match journal {
                    Some(journal) => journal,
                    None => {
                        Journal::create(server.journals.journal()).map_err(|error| write_fault(&error))?
                    }
                };
                journal.append(pieces, &disks)?;
                Ok(Done::Appended(journal))
            }));
        }
        while self.running.len() < PARALLEL_BLOCKS {
            let Some(key) = self.ready.pop_front() else { break };
            let Some(whole) = self.waiting.remove(&key) else {
                continue;
            };
            let put = Put {
                store: Arc::clone(&self.server.store),
                key,
                open: self.draft.snapshot(key.disk).await?,
                len: self.draft.block_len(key),
                shown: self.draft.digest(key),
                whole,
            };
            self.running.insert(key);
            self.jobs.spawn(async { put.run().await.map(Done::Written) });
        }
        Ok(())
    }

    async fn finish_one(&mut self) -> Result<(), Fault> {
        match self.jobs.join_next().await {
            Some(finished) => self.settle(Ended::Job(finished)),
            None => Ok(()),
        }
    }

    fn settle(&mut self, ended: Ended) -> Result<(), Fault> {
        match ended {
            Ended::Job(joined) => match settled(joined)? {
                Done::Written(Written { key, digest }) => {
                    self.running.remove(&key);
                    if self.waiting.contains_key(&key) {
                        self.ready.push_back(key);
                    }
                    if let Some(digest) = digest {
                        self.draft.put(key, digest);
                    }
                }
                Done::Appended(journal) => {
                    self.journal = Some(journal);
                    self.is_appending = false;
                }
            },
            Ended::Sealing(joined) => {
                let (committed, next) = settled(joined)?;
                self.draft = next;
                self.sealed.clear();
                self.committed = Some(committed);
            }
        }
        Ok(())
    }

    /// Waits until all that came is written.
    async fn drain(&mut self) -> Result<(), Fault> {
        loop {
            self.pump().await?;
            if self.jobs.is_empty() {
                return Ok(());
            }
            self.finish_one().await?;
        }
    }

    /// Puts what is in the journal into the draft. None may be being sealed.
    async fn merge(&mut self) -> Result<(), Fault> {
        self.drain().await?;
        self.journaled.clear();
        let Some(journal) = self.journal.take() else {
            return Ok(());
        };
        let path = journal.path().to_owned();
        self.draft.merge(journal).await?;
        let removed = blocking(move || crate::files::remove(&path)).await;
        removed.map_err(|error| write_fault(&error))
    }

    async fn next_draft(&self) -> Result<Draft, Fault> {
        let next = Draft::open(&self.server, &self.disks).await;
        next.map_err(|error| store_fault(&error))
    }
}

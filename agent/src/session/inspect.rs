//! A connection that only asks what the runner holds, beside the session or without one.

use std::{ops::Range, sync::Arc};

use domain::{
    checkpoint::CheckpointNumber,
    digest::Digest,
    disk::{BLOCK_LEN, block_count},
    ids::SourceServerId,
};
use identity::Credentials;
use protocol::{
    frame::DIGESTS_PER_FRAME_MAX,
    handshake::HandshakeError,
    session::{AgentMessage, Inspected, Refusal, RunnerMessage, SILENCE_MAX, SentBefore, control},
};
use tokio::{net::TcpStream, time::timeout};
use tokio_rustls::client::TlsStream;

use super::{
    SessionError,
    connect::{answer, dial},
    link,
};
use crate::{
    config::Config,
    disks::reader::{BlockBuffer, DiskReader, ReadError},
};

/// Blocks that are asked for at a time: of a disk that is read at 1 GB/s, those of half a second.
pub const BLOCKS_AT_A_TIME: u64 = 1024;
const _: () = assert!(BLOCKS_AT_A_TIME <= DIGESTS_PER_FRAME_MAX);

#[derive(Debug)]
pub struct Inspection {
    stream: TlsStream<TcpStream>,
    pub checkpoint: Inspected,
}

impl Inspection {
    /// Asks for a checkpoint, or the newest that can be launched. `None` if the runner has no such.
    pub async fn open(
        credentials: &Credentials,
        config: &Config,
        server: &SourceServerId,
        checkpoint: Option<CheckpointNumber>,
    ) -> Result<Option<Self>, SessionError> {
        let (mut stream, _) = dial(credentials, config).await?;
        let inspect = AgentMessage::Inspect {
            server: server.clone(),
            checkpoint,
        };
        link::send(&mut stream, &control(&inspect)).await?;
        match answer(&mut stream).await? {
            RunnerMessage::Inspected(checkpoint) => Ok(Some(Self { stream, checkpoint })),
            RunnerMessage::Refused(Refusal::NoCheckpoint { .. }) => Ok(None),
            RunnerMessage::Refused(refusal) => Err(HandshakeError::from(refusal).into()),
            _ => Err(SessionError::Protocol("it did not answer an inspection")),
        }
    }

    /// The digests of some blocks of a disk; [`BLOCKS_AT_A_TIME`] at most.
    pub async fn digests(&mut self, disk: u16, blocks: &Range<u64>) -> Result<Vec<Digest>, SessionError> {
        let wanted = AgentMessage::DigestsWanted {
            disk,
            first_block: blocks.start,
            count: blocks.end - blocks.start,
            after: SentBefore::default(),
        };
        link::send(&mut self.stream, &control(&wanted)).await?;
        let frame = timeout(SILENCE_MAX, link::receive(&mut self.stream))
            .await
            .map_err(|_| SessionError::Silent)??;
        link::digests_in(&frame, disk, blocks)
    }
}

/// The digests of blocks as they are on the disk now.
pub fn digests_of(reader: &DiskReader, blocks: Range<u64>) -> Result<Vec<Digest>, ReadError> {
    let mut buffer = BlockBuffer::new();
    blocks
        .map(|block| {
            let start = block * BLOCK_LEN as u64;
            let end = reader.bytes().min(start + BLOCK_LEN as u64);
            reader.read(start..end, &mut buffer).map(Digest::of)
        })
        .collect()
}

/// The same on threads of their own: two, so that one reads while the other computes.
pub async fn digests_now(reader: &Arc<DiskReader>, blocks: Range<u64>) -> Result<Vec<Digest>, anyhow::Error> {
    let middle = blocks.start + (blocks.end - blocks.start) / 2;
    let halves = [blocks.start..middle, middle..blocks.end].map(|half| {
        let reader = reader.clone();
        tokio::task::spawn_blocking(move || digests_of(&reader, half))
    });
    let mut digests = Vec::new();
    for half in halves {
        digests.extend(half.await??);
    }
    Ok(digests)
}

/// Cuts a disk into what is asked for at a time.
pub fn parts(bytes: u64) -> impl Iterator<Item = Range<u64>> {
    let end = block_count(bytes);
    (0..end.div_ceil(BLOCKS_AT_A_TIME))
        .map(move |part| part * BLOCKS_AT_A_TIME..end.min((part + 1) * BLOCKS_AT_A_TIME))
}

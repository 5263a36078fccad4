//! Further connections of a session that is open.
//!
//! A session opens a door before it says Welcome. Whoever shows the session's name and the certificate
//! that it began with comes in, once per lane; the session then owns the connection.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Mutex, MutexGuard},
};

use domain::ids::SourceServerId;
use protocol::session::{HEARTBEAT, Refusal, RunnerMessage, SessionId, control};
use tokio::{io::AsyncWrite, sync::mpsc};

use super::{Guest, Refused, Stream, certified, wire::write_frame};
use crate::runner::core::Core;

/// Connections of one session: with four, one that lost a packet holds up a quarter of the data.
pub const LANES: u16 = 4;

/// Characters of a session's name that are repeated to a stranger; our own have thirty-two.
const SESSION_SHOWN_MAX: usize = 64;

#[derive(Debug)]
pub struct NewLane {
    pub lane: u16,
    pub stream: Stream,
}

#[derive(Debug, Default)]
pub struct Doors(Mutex<BTreeMap<SourceServerId, Door>>);

#[derive(Debug)]
struct Door {
    session: SessionId,
    certificate: String,
    free: BTreeSet<u16>,
    inside: mpsc::Sender<NewLane>,
}

impl Doors {
    /// Lets lanes in for a session, until their receiver is dropped.
    pub fn open(
        &self,
        server: SourceServerId,
        session: SessionId,
        certificate: String,
    ) -> mpsc::Receiver<NewLane> {
        // Room for each lane once.
        let (inside, lanes) = mpsc::channel(usize::from(LANES));
        let door = Door {
            session,
            certificate,
            free: (1..LANES).collect(),
            inside,
        };
        let mut doors = self.doors();
        doors.retain(|_, door| !door.inside.is_closed());
        doors.insert(server, door);
        lanes
    }

    fn enter(
        &self,
        server: &SourceServerId,
        session: &SessionId,
        certificate: &str,
        lane: u16,
    ) -> Option<mpsc::OwnedPermit<NewLane>> {
        let mut doors = self.doors();
        let door = doors.get_mut(server)?;
        let is_it = door.session == *session && door.certificate == certificate;
        if !is_it || !door.free.remove(&lane) {
            return None;
        }
        door.inside.clone().try_reserve_owned().ok()
    }

    fn doors(&self) -> MutexGuard<'_, BTreeMap<SourceServerId, Door>> {
        self.0.lock().expect("no panic while it was held")
    }
}

/// The place of a further connection in the session that it names.
pub(super) fn place(
    core: &Core,
    guest: &Guest,
    server: &SourceServerId,
    session: &SessionId,
    lane: u16,
) -> Result<mpsc::OwnedPermit<NewLane>, Refused> {
    certified(core, guest, server)?;
    let place = core.doors.enter(server, session, &guest.peer.serial, lane);
    place.ok_or_else(|| {
        let session = session.0.chars().take(SESSION_SHOWN_MAX).collect();
        (Refusal::NoSession { session }, None)
    })
}

/// Says that the session has the lane, and from then on that it lives.
pub(super) async fn keep_alive(mut stream: impl AsyncWrite + Unpin) -> std::io::Result<()> {
    write_frame(&mut stream, &control(&RunnerMessage::Joined)).await?;
    loop {
        tokio::time::sleep(HEARTBEAT).await;
        write_frame(&mut stream, &control(&RunnerMessage::KeepAlive)).await?;
    }
}

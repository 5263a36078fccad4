//! The opening of a session, as a state machine on each side. No I/O: the caller moves the messages.
//!
//! ```text
//! agent:   HelloSent ── Welcome ──▶ keep the session on disk ── SessionKept ──▶ open
//!              └─────── Refused ──▶ over
//! runner:  Expecting ── Hello ────▶ admitted? ── Welcome ──▶ Welcomed ── SessionKept ──▶ open
//!                                       └─────── Refused ──▶ over
//! ```

use domain::ids::SourceServerId;

use crate::{
    SESSION_VERSIONS,
    session::{AgentMessage, Hello, Refusal, RunnerMessage, SessionId, Welcome},
};

#[derive(Debug, thiserror::Error)]
pub enum HandshakeError {
    #[error("the peer sent {got} where {wanted} was expected")]
    OutOfTurn { wanted: &'static str, got: &'static str },
    #[error("the runner planned {planned} disks; {offered} were offered")]
    PlanMismatch { planned: usize, offered: usize },
    #[error("the runner chose session version {0}, which was not offered")]
    VersionNotOffered(u16),
    #[error(transparent)]
    Refused(#[from] Refusal),
}

/// The agent's side, after its Hello.
#[derive(Debug)]
pub struct HelloSent {
    versions: (u16, u16),
    disks: usize,
}

impl HelloSent {
    pub fn new(hello: &Hello) -> Self {
        Self {
            versions: hello.versions,
            disks: hello.disks.len(),
        }
    }

    pub fn on(self, message: RunnerMessage) -> Result<Welcome, HandshakeError> {
        let welcome = match message {
            RunnerMessage::Welcome(welcome) => welcome,
            RunnerMessage::Refused(refusal) => return Err(refusal.into()),
            other => {
                return Err(HandshakeError::OutOfTurn {
                    wanted: "Welcome",
                    got: other.name(),
                });
            }
        };
        if !(self.versions.0..=self.versions.1).contains(&welcome.version) {
            return Err(HandshakeError::VersionNotOffered(welcome.version));
        }
        if welcome.disks.len() != self.disks {
            return Err(HandshakeError::PlanMismatch {
                planned: welcome.disks.len(),
                offered: self.disks,
            });
        }
        Ok(welcome)
    }
}

/// What the runner remembers of a server's sessions, and must write to disk whenever it changes.
///
/// `issued` was sent and not confirmed: the agent may or may not have kept it. `kept` was confirmed.
/// An agent that shows either is the one we know, or has the whole of its memory; any other is a clone.
#[derive(Debug, Clone, PartialEq, Eq, Default, serde::Serialize, serde::Deserialize)]
pub struct SessionMemory {
    pub issued: Option<SessionId>,
    pub kept: Option<SessionId>,
    /// Host name and address of the machine that was last let in, to name it to a clone.
    pub machine: Option<String>,
    /// The memory was lost with the runner's machine. Whoever comes first is believed once; its disks are compared.
    #[serde(default)]
    pub lost: bool,
}

impl SessionMemory {
    pub fn recognises(&self, shown: Option<&SessionId>) -> bool {
        if self.lost {
            return true;
        }
        match (shown, &self.kept) {
            // Never confirmed: a first agent, or one that died before it could keep the session.
            (None, None) => true,
            (None, Some(_)) => false,
            (Some(_), _) => shown == self.kept.as_ref() || shown == self.issued.as_ref(),
        }
    }

    /// A Welcome with `session` goes out to `machine`.
    pub fn issue(&mut self, shown: Option<&SessionId>, session: SessionId, machine: String) {
        // What the agent shows it has; it is the one to fall back to if it never sees the new one.
        if shown.is_some() {
            self.kept = shown.cloned();
        }
        self.lost = false;
        self.issued = Some(session);
        self.machine = Some(machine);
    }

    pub fn confirm(&mut self) {
        if let Some(issued) = self.issued.take() {
            self.kept = Some(issued);
        }
    }
}

/// Checks a Hello against the certificate it came with, and chooses the session's version.
pub fn admit(hello: &Hello, certified: &SourceServerId) -> Result<u16, Refusal> {
    if hello.server != *certified {
        return Err(Refusal::NotYourIdentity {
            server: hello.server.clone(),
        });
    }
    let (lowest, highest) = SESSION_VERSIONS;
    let version = hello.versions.1.min(highest);
    if version < hello.versions.0.max(lowest) {
        return Err(Refusal::Version { lowest, highest });
    }
    let disks = &hello.disks;
    let refuse = |reason: String| Err(Refusal::Disks { reason });
    if disks.is_empty() || disks.len() > domain::disk::DISKS_MAX {
        return refuse(format!(
            "{} disks; 1 to {} are possible",
            disks.len(),
            domain::disk::DISKS_MAX
        ));
    }
    for (index, disk) in disks.iter().enumerate() {
        if disk.bytes == 0 || disk.bytes > domain::disk::DISK_LEN_MAX {
            return refuse(format!("{} has {} bytes", disk.device_name, disk.bytes));
        }
        if disks[..index].iter().any(|earlier| earlier.id == disk.id) {
            return refuse(format!("two disks are both {}", disk.id));
        }
    }
    Ok(version)
}

/// The first message of a connection must be a Hello.
pub fn expect_hello(message: AgentMessage) -> Result<Hello, HandshakeError> {
    match message {
        AgentMessage::Hello(hello) => Ok(hello),
        other => Err(HandshakeError::OutOfTurn {
            wanted: "Hello",
            got: other.name(),
        }),
    }
}

/// The first message after a Welcome must confirm the session.
pub fn expect_session_kept(message: &AgentMessage) -> Result<(), HandshakeError> {
    match message {
        AgentMessage::SessionKept => Ok(()),
        other => Err(HandshakeError::OutOfTurn {
            wanted: "SessionKept",
            got: other.name(),
        }),
    }
}

impl AgentMessage {
    pub fn name(&self) -> &'static str {
        match self {
            Self::Hello(_) => "Hello",
            Self::SessionKept => "SessionKept",
            Self::DigestsWanted { .. } => "DigestsWanted",
            Self::Status(_) => "Status",
            Self::Checkpoint(_) => "Checkpoint",
            Self::Goodbye { .. } => "Goodbye",
            Self::Join { .. } => "Join",
            Self::Inspect { .. } => "Inspect",
            Self::KeepAlive => "KeepAlive",
        }
    }
}

impl RunnerMessage {
    pub fn name(&self) -> &'static str {
        match self {
            Self::Welcome(_) => "Welcome",
            Self::Refused(_) => "Refused",
            Self::Orders(_) => "Orders",
            Self::Durable { .. } => "Durable",
            Self::Committed { .. } => "Committed",
            Self::Joined => "Joined",
            Self::Inspected(_) => "Inspected",
            Self::KeepAlive => "KeepAlive",
            Self::Fault { .. } => "Fault",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn session(name: &str) -> SessionId {
        SessionId(name.into())
    }

    #[test]
    fn after_a_loss_the_first_one_is_believed_and_then_nobody_else() {
        let mut memory = SessionMemory {
            lost: true,
            ..SessionMemory::default()
        };
        let (old, new, other) = (session("old"), session("new"), session("other"));
        assert!(memory.recognises(Some(&old)) && memory.recognises(None));
        memory.issue(Some(&old), new.clone(), "web-1".into());
        assert!(memory.recognises(Some(&old)) && memory.recognises(Some(&new)));
        assert!(!memory.recognises(Some(&other)) && !memory.recognises(None));
    }

    #[test]
    fn an_agent_that_died_at_any_moment_is_recognised() {
        let mut memory = SessionMemory::default();
        assert!(memory.recognises(None), "a first agent");

        memory.issue(None, session("a"), "web-1".into());
        assert!(
            memory.recognises(None),
            "it died before the session was on its disk"
        );
        assert!(
            memory.recognises(Some(&session("a"))),
            "it died before it could confirm"
        );

        memory.confirm();
        assert!(memory.recognises(Some(&session("a"))));
        assert!(!memory.recognises(None), "it cannot have forgotten");

        memory.issue(Some(&session("a")), session("b"), "web-1".into());
        assert!(memory.recognises(Some(&session("a"))));
        assert!(memory.recognises(Some(&session("b"))));
    }

    #[test]
    fn a_clone_is_not_recognised_once_either_machine_went_on() {
        let mut memory = SessionMemory::default();
        memory.issue(None, session("a"), "web-1".into());
        memory.confirm();
        // Both machines hold "a" now; the first of them to come goes on.
        memory.issue(Some(&session("a")), session("b"), "web-1".into());
        memory.confirm();
        assert!(!memory.recognises(Some(&session("a"))));
        assert!(!memory.recognises(Some(&session("never issued"))));
    }

    #[test]
    fn a_welcome_is_expected_once_and_must_match() {
        let sent = || HelloSent {
            versions: (1, 1),
            disks: 0,
        };
        let orders = crate::session::Orders {
            replication: domain::source_server::ReplicationIntent::Run,
            checkpoint_request: 0,
            checkpoint_interval_s: 600,
            bandwidth: domain::bandwidth::Bandwidth::default(),
        };
        let welcome = |version| Welcome {
            version,
            session: session("a"),
            disks: vec![],
            orders: orders.clone(),
            lanes: 1,
        };
        assert!(sent().on(RunnerMessage::Welcome(welcome(1))).is_ok());
        assert!(matches!(
            sent().on(RunnerMessage::Welcome(welcome(2))),
            Err(HandshakeError::VersionNotOffered(2))
        ));
        assert!(matches!(
            sent().on(RunnerMessage::Orders(orders.clone())),
            Err(HandshakeError::OutOfTurn {
                wanted: "Welcome",
                got: "Orders"
            })
        ));
        assert!(matches!(
            sent().on(RunnerMessage::Refused(Refusal::NotWanted)),
            Err(HandshakeError::Refused(Refusal::NotWanted))
        ));
    }
}

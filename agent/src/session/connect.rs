//! Opens a session: TCP, TLS, Hello and Welcome, and the session kept on disk before it is confirmed.

use std::{fs, io, sync::Arc, time::Duration};

use identity::{Credentials, Role};
use protocol::{
    SESSION_VERSIONS,
    handshake::{HandshakeError, HelloSent},
    session::{AgentMessage, Hello, LANES_MAX, RunnerMessage, SILENCE_MAX, Welcome, control, read_control},
};
use tokio::{net::TcpStream, time::timeout};
use tokio_rustls::{TlsConnector, client::TlsStream};

use super::{Agent, SessionError, link, roster::Roster};
use crate::{
    config::{Config, load_session, save_session},
    machine, names,
};

const CONNECT_MAX: Duration = Duration::from_secs(10);

/// A session that both sides have agreed to.
#[derive(Debug)]
pub struct Opened {
    /// One per lane; the first said Hello.
    pub lanes: Vec<TlsStream<TcpStream>>,
    pub address: String,
    pub roster: Roster,
    pub welcome: Welcome,
}

pub async fn open(agent: &Arc<Agent>, config: &mut Config) -> Result<Opened, SessionError> {
    // Before the connection: the runner does not wait long for a Hello.
    let roster = Roster::examine(&agent.roots, config, &agent.layout)?;
    let hello = hello(agent, &roster)?;
    let (mut stream, address) = dial(&agent.credentials, config).await?;
    link::send(&mut stream, &control(&AgentMessage::Hello(hello.clone()))).await?;
    let welcome = HelloSent::new(&hello).on(answer(&mut stream).await?)?;
    if welcome
        .disks
        .iter()
        .map(|plan| &plan.id)
        .ne(hello.disks.iter().map(|disk| &disk.id))
    {
        return Err(SessionError::Protocol("its plan is for other disks"));
    }
    if !(1..=LANES_MAX).contains(&welcome.lanes) {
        return Err(SessionError::Protocol("it wants an odd number of connections"));
    }
    save_session(&agent.layout, &welcome.session)?;
    link::send(&mut stream, &control(&AgentMessage::SessionKept)).await?;
    let mut lanes = vec![stream];
    for lane in 1..welcome.lanes {
        lanes.push(join(agent, config, &welcome, lane).await?);
    }
    Ok(Opened {
        lanes,
        address,
        roster,
        welcome,
    })
}

/// Opens a further connection of the session.
async fn join(
    agent: &Agent,
    config: &Config,
    welcome: &Welcome,
    lane: u16,
) -> Result<TlsStream<TcpStream>, SessionError> {
    let (mut stream, _) = dial(&agent.credentials, config).await?;
    let join = AgentMessage::Join {
        server: agent.server.clone(),
        session: welcome.session.clone(),
        lane,
    };
    link::send(&mut stream, &control(&join)).await?;
    match answer(&mut stream).await? {
        RunnerMessage::Joined => Ok(stream),
        RunnerMessage::Refused(refusal) => Err(HandshakeError::from(refusal).into()),
        _ => Err(SessionError::Protocol("it did not answer a Join")),
    }
}

/// Connects to the runner and proves who we are; also gives the address that answered.
pub async fn dial(
    credentials: &Credentials,
    config: &Config,
) -> Result<(TlsStream<TcpStream>, String), SessionError> {
    let tcp = connect(&config.runner_host, config.data_port).await?;
    let address = tcp
        .peer_addr()
        .map_or_else(|_| config.runner_host.clone(), |address| address.to_string());
    let tls_failed = |source| SessionError::Tls {
        address: address.clone(),
        source,
    };
    let tls = TlsConnector::from(Arc::new(identity::tls::client(credentials)?));
    let name = Role::RUNNER_NAME
        .try_into()
        .expect("the runner's name is a DNS name");
    let stream = timeout(CONNECT_MAX, tls.connect(name, tcp))
        .await
        .map_err(|_| tls_failed(io::ErrorKind::TimedOut.into()))?
        .map_err(tls_failed)?;
    Ok((stream, address))
}

/// The runner's answer to the first message of a connection.
pub async fn answer(stream: &mut TlsStream<TcpStream>) -> Result<RunnerMessage, SessionError> {
    let frame = timeout(SILENCE_MAX, link::receive(stream))
        .await
        .map_err(|_| SessionError::Silent)??;
    Ok(read_control(&frame)?)
}

/// Connects to the first address of `host` that answers.
pub async fn connect(host: &str, port: u16) -> Result<TcpStream, SessionError> {
    let mut last = io::Error::from(io::ErrorKind::NotFound);
    for address in names::addresses(host, port).await? {
        match timeout(CONNECT_MAX, TcpStream::connect(address)).await {
            Ok(Ok(stream)) => {
                // Requests for digests are small and somebody waits for the answer.
                if let Err(error) = stream.set_nodelay(true) {
                    tracing::debug!("cannot switch off Nagle's algorithm: {error}");
                }
                return Ok(stream);
            }
            Ok(Err(error)) => last = error,
            Err(_) => last = io::Error::new(io::ErrorKind::TimedOut, "no answer within 10 s"),
        }
    }
    Err(SessionError::Connect {
        address: host.to_owned(),
        port,
        source: last,
    })
}

fn hello(agent: &Agent, roster: &Roster) -> Result<Hello, SessionError> {
    let boot_id = fs::read_to_string(agent.roots.proc.join("sys/kernel/random/boot_id")).unwrap_or_default();
    Ok(Hello {
        versions: SESSION_VERSIONS,
        agent_version: env!("CARGO_PKG_VERSION").into(),
        server: agent.server.clone(),
        boot_id: boot_id.trim().to_owned(),
        kept_session: load_session(&agent.layout)?,
        properties: machine::properties(&agent.roots, roster.all_disks()),
        disks: roster.disks(),
    })
}

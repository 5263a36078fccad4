//! Opens a session: TCP, TLS, Hello and Welcome, and the session kept on disk before it is confirmed.

use std::{fs, io, sync::Arc, time::Duration};

use identity::Role;
use protocol::{
    SESSION_VERSIONS,
    handshake::HelloSent,
    session::{AgentMessage, Hello, RunnerMessage, SILENCE_MAX, Welcome, control, read_control},
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
    pub stream: TlsStream<TcpStream>,
    pub address: String,
    pub roster: Roster,
    pub welcome: Welcome,
}

pub async fn open(agent: &Arc<Agent>, config: &mut Config) -> Result<Opened, SessionError> {
    // Before the connection: the runner does not wait long for a Hello.
    let roster = Roster::examine(&agent.roots, config, &agent.layout)?;
    let hello = hello(agent, &roster)?;
    let tcp = connect(&config.runner_host, config.data_port).await?;
    let address = tcp
        .peer_addr()
        .map_or_else(|_| config.runner_host.clone(), |address| address.to_string());
    let tls_failed = |source| SessionError::Tls {
        address: address.clone(),
        source,
    };
    let tls = TlsConnector::from(Arc::new(identity::tls::client(&agent.credentials)?));
    let name = Role::RUNNER_NAME
        .try_into()
        .expect("the runner's name is a DNS name");
    let mut stream = timeout(CONNECT_MAX, tls.connect(name, tcp))
        .await
        .map_err(|_| tls_failed(io::ErrorKind::TimedOut.into()))?
        .map_err(tls_failed)?;
    link::send(&mut stream, &control(&AgentMessage::Hello(hello.clone()))).await?;
    let answer = timeout(SILENCE_MAX, link::receive(&mut stream))
        .await
        .map_err(|_| SessionError::Silent)??;
    let welcome = HelloSent::new(&hello).on(read_control::<RunnerMessage>(&answer)?)?;
    if welcome
        .disks
        .iter()
        .map(|plan| &plan.id)
        .ne(hello.disks.iter().map(|disk| &disk.id))
    {
        return Err(SessionError::Protocol("its plan is for other disks"));
    }
    save_session(&agent.layout, &welcome.session)?;
    link::send(&mut stream, &control(&AgentMessage::SessionKept)).await?;
    Ok(Opened {
        stream,
        address,
        roster,
        welcome,
    })
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

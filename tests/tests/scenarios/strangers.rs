//! Peers that are not who they say, or do not keep to the protocol: refused and named, and nobody else
//! notices.

use std::{fs, net::SocketAddr, path::Path, sync::Arc};

use domain::{
    disk::Disk,
    ids::SourceServerId,
    launch::{BootMode, instance_type::Architecture},
    source_server::SourceProperties,
};
use identity::{Credentials, Role};
use lab::{
    wait::{Look, eventually},
    world::{hub::HubSettings, server::Server},
};
use protocol::{
    SESSION_VERSIONS,
    frame::{Codec, Frame, HEADER_LEN, Header, Kind},
    session::{AgentMessage, Hello, Refusal, RunnerMessage, SessionId, control, read_control},
};
use reqwest::Method;
use serde_json::Value;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};
use tokio_rustls::{TlsConnector, client::TlsStream};

use crate::scene::{MIB, SOON, Scene, account};

/// A peer on the data port that says what it likes, with an agent's certificate.
struct Stranger(TlsStream<TcpStream>);

impl Stranger {
    async fn connect(runner: SocketAddr, agent: &Path) -> Self {
        identity::install_crypto_provider();
        let credentials = Credentials::load(&agent.join("credentials")).unwrap().unwrap();
        let tls = identity::tls::client(&credentials).unwrap();
        let stream = TcpStream::connect(runner).await.unwrap();
        let name = rustls_pki_types::ServerName::try_from(Role::RUNNER_NAME).unwrap();
        let connected = TlsConnector::from(Arc::new(tls)).connect(name, stream).await;
        Self(connected.unwrap())
    }

    async fn say(&mut self, message: &AgentMessage) {
        let Frame {
            kind,
            codec,
            disk,
            at,
            payload,
        } = control(message);
        let header = Header {
            kind,
            codec,
            disk,
            at,
            payload_len: payload.len(),
        };
        self.0.write_all(&header.encode()).await.unwrap();
        self.0.write_all(&payload).await.unwrap();
        self.0.flush().await.unwrap();
    }

    async fn hear(&mut self) -> RunnerMessage {
        let mut header = [0; HEADER_LEN];
        self.0.read_exact(&mut header).await.unwrap();
        let header = Header::decode(&header).unwrap();
        let mut payload = vec![0; header.payload_len];
        self.0.read_exact(&mut payload).await.unwrap();
        let frame = Frame {
            kind: header.kind,
            codec: header.codec,
            disk: header.disk,
            at: header.at,
            payload,
        };
        read_control(&frame).unwrap()
    }

    /// Waits until the runner hangs up. What it says until then does not matter.
    async fn is_hung_up_on(&mut self) {
        let mut heard = Vec::new();
        let end = tokio::time::timeout(SOON, self.0.read_to_end(&mut heard)).await;
        assert!(end.is_ok(), "the runner keeps the connection");
    }
}

fn hello(server: SourceServerId) -> AgentMessage {
    hello_of_session(server, None)
}

fn hello_of_session(server: SourceServerId, kept_session: Option<SessionId>) -> AgentMessage {
    let disk = Disk {
        id: "path-somewhere".parse().unwrap(),
        device_name: "/dev/sda".into(),
        bytes: 4 * MIB,
        is_boot: true,
    };
    AgentMessage::Hello(Hello {
        versions: SESSION_VERSIONS,
        agent_version: "0.1.0".into(),
        server,
        boot_id: "boot".into(),
        kept_session,
        properties: SourceProperties {
            hostname: "stranger".into(),
            fqdn: "stranger.example".into(),
            os: String::new(),
            kernel: String::new(),
            architecture: Architecture::X86_64,
            boot_mode: BootMode::LegacyBios,
            cpus: 1,
            ram_bytes: 1,
            network_interfaces: Vec::new(),
            disks: vec![disk.clone()],
        },
        disks: vec![disk],
    })
}

impl Scene {
    async fn stranger_as(&self, server: &Server) -> Stranger {
        Stranger::connect(self.runner().listening().data, &server.agent_dir()).await
    }

    /// Waits until the console names somebody who was turned away, with `word` in the reason.
    async fn turned_away(&self, word: &str) -> Value {
        let named = || async {
            let answer: Value = self
                .world
                .hub
                .api
                .call(Method::GET, "/api/v1/turned-away", None)
                .await?;
            let rows = answer["items"].as_array().cloned().unwrap_or_default();
            let found = rows
                .iter()
                .find(|row| row["reason"].as_str().is_some_and(|why| why.contains(word)));
            Ok(match found {
                Some(row) => Look::Seen(row.clone()),
                None => Look::NotYet(format!("{rows:?}")),
            })
        };
        eventually(&format!("somebody is turned away: {word}"), SOON, named)
            .await
            .unwrap()
    }
}

#[tokio::test]
async fn the_certificate_of_another_server_opens_nothing() {
    let scene = Scene::new().await;
    let mut server = scene.server("web-1", &[4 * MIB]).await;
    let other = scene.server("web-2", &[4 * MIB]).await;
    scene.until_state(&server, "READY_FOR_TEST").await;
    let mut stranger = scene.stranger_as(&other).await;
    stranger.say(&hello(server.id().unwrap())).await;
    let heard = stranger.hear().await;
    assert!(
        matches!(&heard, RunnerMessage::Refused(Refusal::NotYourIdentity { server: named }) if Some(named) == server.id().as_ref()),
        "{heard:?}"
    );
    scene.turned_away("another source server").await;
    scene.cuts_over_equal(&mut server).await;
}

#[tokio::test]
async fn a_frame_longer_than_allowed_ends_that_connection_and_no_other() {
    let scene = Scene::new().await;
    let mut server = scene.server("web-1", &[4 * MIB]).await;
    let mut other = scene.server("web-2", &[4 * MIB]).await;
    scene.until_state(&other, "READY_FOR_TEST").await;
    other.kill_agent().unwrap();
    let mut stranger = scene.stranger_as(&other).await;
    let mut header = header(Kind::Control);
    header[4..8].copy_from_slice(&u32::MAX.to_le_bytes());
    stranger.0.write_all(&header).await.unwrap();
    stranger.0.flush().await.unwrap();
    stranger.is_hung_up_on().await;
    scene.cuts_over_equal(&mut server).await;
}

#[tokio::test]
async fn a_revoked_certificate_is_refused_and_its_session_ends() {
    let scene = Scene::new().await;
    let server = scene.server("web-1", &[4 * MIB]).await;
    scene.until_state(&server, "READY_FOR_TEST").await;
    let revoke = format!("/api/v1/servers/{}/revoke", server.id().unwrap());
    scene
        .world
        .hub
        .api
        .call::<Value>(Method::POST, &revoke, None)
        .await
        .unwrap();
    scene.turned_away("revoked").await;
    scene.until_replication(&server, "STALLED").await;
}

#[tokio::test]
async fn of_two_agents_with_one_identity_the_clone_is_refused_and_named() {
    let scene = Scene::new().await;
    let mut server = scene.server("web-1", &[4 * MIB]).await;
    scene.until_state(&server, "READY_FOR_TEST").await;
    // The disk is cloned as it was before the agent's last session; then the original goes on.
    server.terminate_agent().await.unwrap();
    let mut clone = server.cloned("web-1-clone").unwrap();
    server.start_agent().unwrap();
    scene.until_replication(&server, "CONTINUOUS").await;
    clone.start_agent().unwrap();
    let row = scene.turned_away("clone").await;
    let reason = row["reason"].as_str().unwrap();
    assert!(
        reason.contains("(127.0.0.1)"),
        "the other machine is named: {reason}"
    );
    assert_eq!(row["server"].as_str(), Some(server.id().unwrap().as_str()));
    scene.cuts_over_equal(&mut server).await;
}

#[tokio::test]
async fn a_clone_that_comes_while_its_original_is_connected_does_not_take_its_place() {
    let scene = Scene::with_a_checkpoint_each_second().await;
    let server = scene.quiet_server("web-1", &[4 * MIB]).await;
    scene.next_checkpoint(&server).await;
    // Cloned as it runs: it holds the very session of its original, on a machine that booted by itself.
    let session = fs::read(server.agent_dir().join("session.json")).unwrap();
    let session = serde_json::from_slice(&session).unwrap();
    let mut clone = scene.stranger_as(&server).await;
    clone
        .say(&hello_of_session(server.id().unwrap(), Some(session)))
        .await;
    let heard = clone.hear().await;
    assert!(
        matches!(&heard, RunnerMessage::Refused(Refusal::ClonedIdentity { other, .. }) if other.contains("(127.0.0.1)")),
        "{heard:?}"
    );
    scene.turned_away("clone").await;
    scene.replica_equals_source(&server).await;
    let log = fs::read_to_string(server.dir().join("agent.log")).unwrap();
    assert_eq!(log.matches("connected to the runner at").count(), 1, "{log}");
}

#[tokio::test]
async fn an_agent_at_the_runner_of_another_account_is_refused_and_named() {
    let accounts = vec![
        account("210000000001", "production"),
        account("210000000002", "development"),
    ];
    let scene = Scene::with_accounts(HubSettings::default(), accounts.clone()).await;
    let mut server = scene.quiet_server("web-1", &[4 * MIB]).await;
    scene.until_state(&server, "READY_FOR_TEST").await;
    server.terminate_agent().await.unwrap();
    let file = server.agent_dir().join("agent.json");
    let right = fs::read_to_string(&file).unwrap();
    let mut config: Value = serde_json::from_str(&right).unwrap();
    let elsewhere = scene.world.runner(&accounts[1].id).unwrap();
    config["data_port"] = elsewhere.listening().data.port().into();
    fs::write(&file, config.to_string()).unwrap();
    server.start_agent().unwrap();
    let row = scene.turned_away("belongs to another account").await;
    assert_eq!(row["server"].as_str(), Some(server.id().unwrap().as_str()));

    server.terminate_agent().await.unwrap();
    fs::write(&file, right).unwrap();
    server.start_agent().unwrap();
    scene.cuts_over_equal(&mut server).await;
}

#[tokio::test]
async fn garbage_long_frames_and_silence_cost_the_runner_nothing_and_others_go_on() {
    let scene = Scene::with_a_checkpoint_each_second().await;
    let server = scene.quiet_server("web-1", &[4 * MIB]).await;
    let other = scene.installed_server("web-2", &[4 * MIB]).await;
    scene.next_checkpoint(&server).await;
    let runner = scene.runner().listening().data;
    let before = scene.runner_memory();

    let mut raw = Vec::new();
    for opening in [
        &b"GET / HTTP/1.1\r\nHost: runner\r\n\r\n"[..],
        // A TLS record that never ends.
        &[0x16, 0x03, 0x01, 0x40, 0x00, 0x01],
        &[],
        &[0xff; 4096],
    ] {
        for _ in 0..10 {
            let mut stream = TcpStream::connect(runner).await.unwrap();
            stream.write_all(opening).await.unwrap();
            raw.push(stream);
        }
    }
    let mut strangers = Vec::new();
    for at_most in [u32::MAX, 0x0010_0000, 0x0004_0000] {
        for kind in [Kind::Control, Kind::Extent, Kind::Zeros] {
            let mut stranger = scene.stranger_as(&other).await;
            let mut header = header(kind);
            header[4..8].copy_from_slice(&at_most.to_le_bytes());
            stranger.0.write_all(&header).await.unwrap();
            stranger.0.flush().await.unwrap();
            strangers.push(stranger);
        }
    }
    scene.next_checkpoint(&server).await;
    for stranger in &mut strangers {
        stranger.is_hung_up_on().await;
    }
    for stream in &mut raw {
        let mut heard = Vec::new();
        let end = tokio::time::timeout(SOON, stream.read_to_end(&mut heard)).await;
        assert!(end.is_ok(), "the runner keeps the connection");
    }
    let grown = scene.runner_memory().saturating_sub(before);
    assert!(grown < 24 * MIB, "the runner's memory grew by {grown} bytes");
    scene.replica_equals_source(&server).await;
}

impl Scene {
    /// Bytes of the runner's memory that are resident.
    fn runner_memory(&self) -> u64 {
        let id = self.runner().process().unwrap().id();
        let status = fs::read_to_string(format!("/proc/{id}/status")).unwrap();
        let line = status
            .lines()
            .find_map(|line| line.strip_prefix("VmRSS:"))
            .unwrap();
        let kib: u64 = line.trim().trim_end_matches(" kB").parse().unwrap();
        kib * 1024
    }
}

fn header(kind: Kind) -> [u8; HEADER_LEN] {
    Header {
        kind,
        codec: Codec::Raw,
        disk: 0,
        at: 0,
        payload_len: 0,
    }
    .encode()
}

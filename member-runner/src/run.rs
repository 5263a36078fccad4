//! `orglift-runner run`: the core, the link to the hub, and the listeners.

use std::{
    net::{SocketAddr, TcpListener, UdpSocket},
    num::NonZeroU64,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use anyhow::Context;
use identity::{Credentials, tls};
use protocol::exchange::Desired;
use serde::{Deserialize, Serialize};
use tokio::{
    signal::unix::{SignalKind, signal},
    sync::watch,
    task::JoinSet,
};

use crate::{
    Converting, Runner, RunnerConfig, enrolment, files,
    hub::{self, HubAddress, HubClient},
    index, join, rekey, released, store,
};

#[derive(Debug)]
pub(crate) struct Options {
    pub dir: PathBuf,
    pub hub: String,
    pub proof: Proof,
    pub store: String,
    pub index: Option<String>,
    pub data_listen: SocketAddr,
    pub enrol_listen: SocketAddr,
    pub address: Option<String>,
    /// `None`: off.
    pub scrub_bytes_per_second: Option<NonZeroU64>,
    /// `None`: nobody looks.
    pub inspect_every: Option<Duration>,
}

/// What the runner enrols by.
#[derive(Debug)]
pub(crate) enum Proof {
    Nothing,
    Token(String),
    /// The role that AWS gives this machine, in a region, to the hub with this fingerprint.
    Identity {
        region: String,
        ca_sha256: [u8; 32],
    },
}

/// Where this runner listens, for whoever started it with port 0.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Listening {
    pub data: SocketAddr,
    pub enrol: SocketAddr,
}

const LISTEN_FILE: &str = "listen.json";
const DESIRED_FILE: &str = "desired.json";
pub(crate) const STORE_FILE: &str = "store";
pub(crate) const OBSERVED_FILE: &str = "observed.json";

pub(crate) async fn run(options: Options) -> anyhow::Result<()> {
    let Options { dir, .. } = &options;
    std::fs::create_dir_all(dir).with_context(|| format!("cannot create {}", dir.display()))?;
    let hub: HubAddress = options.hub.parse()?;
    let store = store::open(&options.store, dir).await?;
    let index = match &options.index {
        Some(name) => Some(store::open_index(name).await?),
        None => None,
    };
    files::replace(&dir.join(STORE_FILE), options.store.as_bytes())?;
    // Bound before enrolment, which tells the hub the ports.
    let before = earlier_ports(dir);
    let data = listen(options.data_listen, before.as_ref().map(|ports| ports.data))?;
    let enrol = listen(options.enrol_listen, before.as_ref().map(|ports| ports.enrol))?;
    let listening = Listening {
        data: data.local_addr()?,
        enrol: enrol.local_addr()?,
    };
    let credentials = match Credentials::load(&dir.join("identity"))? {
        Some(credentials) => credentials,
        None => join::enrol(&options, &hub, &listening).await?,
    };
    let client = HubClient::new(hub, tls::client(&credentials)?)?;
    if let Some(index) = &index {
        index::restore::restore(dir, &client, &*store, &**index).await;
    }
    let (desired_out, desired) = watch::channel(kept_desired(&dir.join(DESIRED_FILE))?);
    let runner = Runner::start(RunnerConfig {
        dir: dir.clone(),
        credentials: credentials.clone(),
        store: Arc::clone(&store),
        index,
        data: tokio::net::TcpListener::from_std(data)?,
        desired,
        scrub_bytes_per_second: options.scrub_bytes_per_second,
        converting: Converting {
            program: std::env::current_exe().context("cannot find this program")?,
            inspect_every: options.inspect_every,
        },
    })
    .await?;
    let runner = Arc::new(runner);

    let (mut terminate, mut interrupt) = (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
    let handle = axum_server::Handle::new();
    let mut tasks = JoinSet::new();
    tasks.spawn(hub::report_for_ever(
        client.clone(),
        Arc::clone(&runner),
        dir.clone(),
    ));
    tasks.spawn(hub::follow_for_ever(
        client.clone(),
        dir.join(DESIRED_FILE),
        desired_out,
    ));
    tasks.spawn(rekey::copy_for_ever(
        client.clone(),
        Arc::clone(&runner),
        Arc::clone(&store),
    ));
    tasks.spawn(released::hand_over_for_ever(client.clone(), store));
    tasks.spawn(write_observed(Arc::clone(&runner), dir.join(OBSERVED_FILE)));
    let https = tls::server_for_enrolment(&credentials)?;
    let serving = enrolment::serve(enrol, https, client, handle.clone());
    tokio::pin!(serving);
    // Written last: whoever finds it can connect.
    files::replace(&dir.join(LISTEN_FILE), &serde_json::to_vec(&listening)?)?;
    tracing::info!(data = %listening.data, enrol = %listening.enrol, "the runner is ready");

    tokio::select! {
        served = &mut serving => served.context("cannot serve enrolment")?,
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
    }
    tracing::info!("the runner is stopping");
    handle.shutdown();
    tasks.shutdown().await;
    if let Some(runner) = Arc::into_inner(runner) {
        runner.stop().await;
    }
    Ok(())
}

fn listen(wanted: SocketAddr, before: Option<SocketAddr>) -> anyhow::Result<TcpListener> {
    let bind = |address| {
        let listener = TcpListener::bind(address)?;
        listener.set_nonblocking(true)?;
        Ok::<_, std::io::Error>(listener)
    };
    // Agents keep the port that they were told.
    if let Some(before) = before.filter(|before| wanted.port() == 0 && before.ip() == wanted.ip())
        && let Ok(listener) = bind(before)
    {
        return Ok(listener);
    }
    bind(wanted).with_context(|| format!("cannot listen on {wanted}"))
}

fn earlier_ports(dir: &Path) -> Option<Listening> {
    let text = files::read(&dir.join(LISTEN_FILE)).ok()??;
    serde_json::from_slice(&text).ok()
}

fn kept_desired(path: &Path) -> anyhow::Result<Desired> {
    match files::read(path)? {
        Some(text) => serde_json::from_slice(&text)
            .with_context(|| format!("{} is damaged; remove it to start without", path.display())),
        None => Ok(Desired::default()),
    }
}

/// The address by which this machine reaches the hub: the likeliest one for agents, too.
pub(crate) fn own_address(hub: &HubAddress, listening: &Listening) -> anyhow::Result<String> {
    let ip = listening.data.ip();
    if !ip.is_unspecified() {
        return Ok(ip.to_string());
    }
    let unknown = "cannot tell which address agents should use: give it by --address";
    let hub = hub.socket_address().context(unknown)?;
    // Nothing is sent: connecting chooses the route.
    let socket = UdpSocket::bind(SocketAddr::new(ip, 0)).context(unknown)?;
    socket.connect(hub).context(unknown)?;
    Ok(socket.local_addr().context(unknown)?.ip().to_string())
}

/// Keeps what is in a file, for `orglift-runner status`.
async fn write_observed(runner: Arc<Runner>, path: PathBuf) {
    const EVERY: Duration = Duration::from_secs(1);
    let mut observed = runner.observed();
    loop {
        let text = serde_json::to_vec_pretty(&*observed.borrow_and_update()).expect("its keys are text");
        let draft = path.with_extension("json.draft");
        // Not durable, unlike everything else: it is of no use after a crash.
        let written = std::fs::write(&draft, text).and_then(|()| std::fs::rename(&draft, &path));
        if let Err(error) = written {
            tracing::debug!(%error, "the status file was not written");
        }
        tokio::time::sleep(EVERY).await;
        if observed.changed().await.is_err() {
            return;
        }
    }
}

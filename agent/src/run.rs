//! `orglift-agent run`: sessions one after the other, until somebody says stop.

use std::{fmt::Write as _, sync::Arc};

use anyhow::Context;
use domain::ids::SourceServerId;
use identity::{Credentials, Role};
use tokio::{
    signal::unix::{SignalKind, signal},
    task::JoinSet,
};
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use crate::{
    changes::sources::Sources,
    checkpoint::{
        freeze::{self, Freezer},
        guard::GuardProgram,
        hooks::{self, Hooks},
        mark,
    },
    config::Config,
    disks::Roots,
    layout::Layout,
    session::{self, Agent, Pace, SessionEnd, retry::Backoff},
    status::Board,
};

/// Runs the agent that is installed in `layout` until a signal or its runner ends it.
pub async fn run(layout: Layout, pace: Pace) -> anyhow::Result<()> {
    // Before all else: the log may go to a file on what an earlier agent left frozen.
    mark::thaw_left_over(&layout.frozen_file_systems());
    hooks::thaw_on_panic();
    freeze::thaw_on_panic();
    let stop = CancellationToken::new();
    let mut tasks = JoinSet::new();
    tasks.spawn(stop_on_signal(stop.clone())?);
    let (agent, mut config) = load(layout, Roots::default(), pace, Some(GuardProgram::this()))?;
    let thawing = agent.hooks.clone();
    tokio::task::spawn_blocking(move || thawing.thaw_left_over()).await?;
    let outcome = replicate(&agent, &mut config, &stop).await;
    stop.cancel();
    while tasks.join_next().await.is_some() {}
    outcome
}

/// Thaws what an agent left frozen, and says what was.
pub fn thaw(layout: &Layout) -> anyhow::Result<String> {
    let mut said = String::new();
    for mount_point in mark::thaw_left_over(&layout.frozen_file_systems()) {
        writeln!(said, "Thawed {}.", mount_point.display())?;
    }
    if layout.frozen().exists() {
        hooks_of(layout, &own_id(layout)?.0).thaw_left_over();
        writeln!(
            said,
            "Thawed applications by the hooks in {}.",
            layout.hooks().display()
        )?;
    }
    if said.is_empty() {
        said.push_str("Nothing was left frozen.\n");
    }
    Ok(said)
}

/// Reads what `install` left in `layout`. With a guard, file systems are frozen for checkpoints.
pub fn load(
    layout: Layout,
    roots: Roots,
    pace: Pace,
    guard: Option<GuardProgram>,
) -> anyhow::Result<(Arc<Agent>, Config)> {
    let config = Config::load(&layout)?.with_context(|| not_installed(&layout))?;
    let (server, credentials) = own_id(&layout)?;
    let runner = format!("{}:{}", config.runner_host, config.data_port);
    let agent = Agent {
        hooks: hooks_of(&layout, &server),
        freezer: guard.and_then(|guard| freezer(guard, &layout)),
        board: Board::new(server.clone(), runner),
        layout,
        roots,
        credentials,
        server,
        pace,
    };
    Ok((Arc::new(agent), config))
}

fn freezer(guard: GuardProgram, layout: &Layout) -> Option<Arc<Freezer>> {
    if !rustix::process::geteuid().is_root() {
        return None;
    }
    let started = Freezer::start(guard, layout.frozen_file_systems());
    match started {
        Ok(freezer) => Some(Arc::new(freezer)),
        Err(error) => {
            warn!(
                "{}; checkpoints are taken without freezing",
                crate::cli::chain(&error)
            );
            None
        }
    }
}

fn own_id(layout: &Layout) -> anyhow::Result<(SourceServerId, Credentials)> {
    let credentials = Credentials::load(&layout.credentials())?.with_context(|| not_installed(layout))?;
    let Role::Agent(server) = credentials.own()?.role else {
        anyhow::bail!(
            "the certificate in {} is not that of an agent",
            layout.credentials().display()
        );
    };
    Ok((server, credentials))
}

fn not_installed(layout: &Layout) -> String {
    format!(
        "no agent is installed in {}; install one with `orglift-agent install`",
        layout.dir().display()
    )
}

fn hooks_of(layout: &Layout, server: &SourceServerId) -> Hooks {
    Hooks {
        folder: layout.hooks(),
        mark: layout.frozen(),
        server: server.clone(),
        time_limit: hooks::TIME_LIMIT,
    }
}

/// Runs sessions until `stop`, or until the server is disconnected. Never gives up otherwise.
pub async fn replicate(
    agent: &Arc<Agent>,
    config: &mut Config,
    stop: &CancellationToken,
) -> anyhow::Result<()> {
    let mut sources = Sources::new(agent.roots.clone());
    let mut tasks = JoinSet::new();
    let status_stop = CancellationToken::new();
    tasks.spawn(
        agent
            .board
            .clone()
            .keep_written(agent.layout.clone(), status_stop.clone()),
    );
    let end = sessions(agent, config, &mut sources, stop).await;
    agent.board.disconnected(None);
    status_stop.cancel();
    while tasks.join_next().await.is_some() {}
    info!(
        "{}",
        if end == SessionEnd::Disconnected {
            "this server was disconnected; the agent has removed itself"
        } else {
            "stopped"
        }
    );
    Ok(())
}

async fn sessions(
    agent: &Arc<Agent>,
    config: &mut Config,
    sources: &mut Sources,
    stop: &CancellationToken,
) -> SessionEnd {
    let mut backoff = Backoff::default();
    loop {
        let outcome = session::run(agent, config, sources, stop).await;
        if outcome.achieved {
            backoff.succeeded();
        }
        let error = match outcome.result {
            Ok(SessionEnd::DisksChanged) => {
                agent.board.disconnected(None);
                continue;
            }
            Ok(end) => return end,
            Err(error) => error,
        };
        let reason = crate::cli::chain(&error);
        let wait = backoff.failed(rand::random());
        if backoff.is_news(&reason) {
            warn!("{reason}; trying again until it works");
        }
        agent.board.disconnected(Some(reason));
        tokio::select! {
            () = tokio::time::sleep(wait) => {}
            () = stop.cancelled() => return SessionEnd::Stopped,
        }
    }
}

/// Cancels `stop` when systemd or a person wants the program to end.
fn stop_on_signal(stop: CancellationToken) -> anyhow::Result<impl Future<Output = ()>> {
    let mut terminate = signal(SignalKind::terminate()).context("cannot listen for SIGTERM")?;
    let mut interrupt = signal(SignalKind::interrupt()).context("cannot listen for SIGINT")?;
    Ok(async move {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
            () = stop.cancelled() => {}
        }
        stop.cancel();
    })
}

//! Machines that do not call: since when, and which line of the firewall request their calls need.

use domain::{
    network::cidr::Cidr,
    replication::{Replication, ReplicationError},
};

use super::{overview::is_silent, text};
use crate::{
    entities::{runner, source_server},
    firewall_request::{Line, Purpose},
    readiness::address,
};

/// Of more agents the same would be said.
const AGENTS_MAX: usize = 20;

/// Every machine of an account that was heard before, or enrolled, and is silent.
pub fn all(runners: &[runner::Model], servers: &[source_server::Model], now: i64) -> Vec<String> {
    let silent_runners = runners
        .iter()
        .filter(|runner| is_silent(runner, now))
        .map(of_runner);
    let silent_agents = servers.iter().filter_map(|server| {
        let runner = runners.iter().find(|runner| runner.id == server.runner)?;
        of_agent(server, runner)
    });
    silent_runners.chain(silent_agents.take(AGENTS_MAX)).collect()
}

pub fn of_runner(runner: &runner::Model) -> String {
    let since = match runner.last_seen {
        Some(seen) => format!("since {}", text::moment(seen).text),
        None => format!("since it enrolled, {}", text::moment(runner.created_at).text),
    };
    let hub = runner.hub_address.as_ref().and_then(|hub| hub.parse().ok());
    let line = hub.and_then(|hub: std::net::SocketAddr| {
        Some(Line {
            source: Cidr::of(address(&runner.address)?),
            destination: Cidr::of(hub.ip()),
            port: hub.port(),
            purpose: Purpose::Hub,
        })
    });
    let remedy = match line {
        Some(line) => format!("its firewalls must let through: {line}"),
        None => "look whether it reaches the hub on its machine port".into(),
    };
    format!(
        "The runner {} has not called {since}. If its instance runs, {remedy}.",
        runner.address
    )
}

/// An agent that its runner waits for.
fn of_agent(server: &source_server::Model, runner: &runner::Model) -> Option<String> {
    let Replication::Stalled(stall) = &server.replication.0 else {
        return None;
    };
    if stall.error != ReplicationError::AgentNotSeen {
        return None;
    }
    let line = Line {
        source: Cidr::of(address(server.agent_address.as_deref()?)?),
        destination: Cidr::of(address(&runner.address)?),
        port: u16::try_from(runner.data_port).ok()?,
        purpose: Purpose::Replication,
    };
    Some(format!(
        "The agent on {} does not reach the runner. If the server runs, firewalls must let through: {line}.",
        server.known_as()
    ))
}

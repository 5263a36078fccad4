//! Machines that do not call: since when, and which line of the firewall request their calls need.

use crate::t;
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
        let runner = runners
            .iter()
            .find(|runner| Some(&runner.id) == server.runner.as_ref())?;
        of_agent(server, runner)
    });
    silent_runners.chain(silent_agents.take(AGENTS_MAX)).collect()
}

pub fn of_runner(runner: &runner::Model) -> String {
    let since = match runner.last_seen {
        Some(seen) => t!("since {when}", when = text::moment(seen).text),
        None => t!(
            "since it enrolled, {when}",
            when = text::moment(runner.created_at).text
        ),
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
        Some(line) => t!("its firewalls must let through: {line}", line),
        None => t!("look whether it reaches the hub on its machine port").into(),
    };
    t!(
        "The runner {address} has not called {since}. If its instance runs, {remedy}.",
        address = runner.address,
        since,
        remedy
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
    Some(t!(
        "The agent on {server} does not reach the runner. If the server runs, firewalls must let through: {line}.",
        server = server.known_as(),
        line
    ))
}

#[cfg(test)]
mod tests {
    use domain::{
        ids::{RunnerId, SourceServerId},
        replication::Stall,
    };

    use super::*;
    use crate::fixtures::{self, MEMBER};

    fn stalled(entropy: u128, runner: &runner::Model, error: ReplicationError) -> source_server::Model {
        let mut server = fixtures::server(SourceServerId::from_entropy(entropy), runner);
        server.replication.0 = Replication::Stalled(Stall {
            error,
            detail: "it was last heard an hour ago".into(),
            step: None,
        });
        server.agent_address = Some("10.20.0.7:51234".into());
        server
    }

    #[test]
    fn a_silent_machine_is_named_with_the_line_that_it_needs() {
        let account = MEMBER.parse().unwrap();
        let mut runner = fixtures::runner(RunnerId::from_entropy(1), &account);
        let silent = stalled(1, &runner, ReplicationError::AgentNotSeen);
        let [of_runner, of_agent] = &all(std::slice::from_ref(&runner), std::slice::from_ref(&silent), 0)[..]
        else {
            panic!("both are silent");
        };
        assert!(
            of_runner.starts_with("The runner 192.0.2.1 has not called since it enrolled, "),
            "{of_runner}"
        );
        assert!(
            of_runner.contains("192.0.2.1/32") && of_runner.contains("198.51.100.4/32"),
            "{of_runner}"
        );
        assert!(of_runner.contains("8443"), "{of_runner}");
        assert!(
            of_agent.starts_with("The agent on web-1 does not reach the runner."),
            "{of_agent}"
        );
        assert!(
            of_agent.contains("10.20.0.7/32") && of_agent.contains("192.0.2.1/32"),
            "{of_agent}"
        );
        assert!(of_agent.contains("1500"), "{of_agent}");

        runner.hub_address = None;
        assert!(
            super::of_runner(&runner).contains("machine port"),
            "nobody knows where it called"
        );
        runner.last_seen = Some(0);
        assert!(super::of_runner(&runner).contains("not called since 1970-01-01"));
        assert_eq!(
            all(std::slice::from_ref(&runner), &[], 0),
            [""; 0],
            "it has just called"
        );
    }

    #[test]
    fn only_agents_that_are_waited_for_are_named_and_not_all_of_many() {
        let account = MEMBER.parse().unwrap();
        let mut runner = fixtures::runner(RunnerId::from_entropy(1), &account);
        runner.last_seen = Some(0);
        let runners = [runner.clone()];
        let other = stalled(1, &runner, ReplicationError::NotConverging);
        let mut nowhere = stalled(2, &runner, ReplicationError::AgentNotSeen);
        nowhere.agent_address = None;
        let running = fixtures::server(SourceServerId::from_entropy(3), &runner);
        assert_eq!(all(&runners, &[other, nowhere, running], 0), [""; 0]);
        let many: Vec<_> = (0..AGENTS_MAX as u128 + 5)
            .map(|entropy| stalled(entropy, &runner, ReplicationError::AgentNotSeen))
            .collect();
        assert_eq!(all(&runners, &many, 0).len(), AGENTS_MAX);
    }
}

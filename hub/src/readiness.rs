//! Whether the network of an account lets servers be replicated: what is asked of it, and what came of asking.
//!
//! The account describes its network, [`domain::network`] judges it. Where source servers are and where runners reach
//! the hub, people may name; what they did not name is taken from what the hub has seen. What is not known either is
//! not asked, and the report says so. Nothing here changes anything in an account.

pub mod drift;

use std::{
    collections::{BTreeMap, BTreeSet},
    net::{IpAddr, SocketAddr},
    sync::Arc,
};

use cloud::{
    Cloud, CloudError,
    control::{Place, Surroundings},
};
use domain::{
    account::Access,
    network::{self, Finding, Needs, cidr::Cidr},
};
use futures_util::{Stream, StreamExt};
use serde::{Deserialize, Serialize};

use self::drift::{Drift, Now, When};
use crate::{
    entities::{runner, source_server},
    fan_out::fan_out,
    onboarding::{TEMPLATE_VERSION, runner_role},
    store::{Store, StoreError, servers::ServerFilter},
};

/// Servers whose own addresses are asked for where no range that was named has them. More would say the same of each.
const SERVERS_MAX: usize = 20;

/// What people said of the networks around an account.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Named {
    pub sources: Vec<Cidr>,
    pub hub: Option<SocketAddr>,
}

/// What was asked of a network, and what came of it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Report {
    pub sources: Vec<Cidr>,
    pub hub: Option<SocketAddr>,
    pub outcome: Outcome,
    #[serde(default)]
    pub drift: Drift,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Outcome {
    /// With no finding but remarks, the network is ready.
    Checked {
        findings: Vec<Finding>,
    },
    /// The accounts of this cloud have no networks of their own.
    NothingToCheck,
    NotRead {
        access: Access,
    },
}

impl Report {
    /// Of the network, and of the stack that made the runner's part of it.
    pub fn findings(&self) -> Vec<Finding> {
        let of_network = self.of_network().iter().filter(|one| !one.is_remark());
        of_network.chain(self.drift.findings()).cloned().collect()
    }

    fn of_network(&self) -> &[Finding] {
        match &self.outcome {
            Outcome::Checked { findings } => findings,
            Outcome::NothingToCheck | Outcome::NotRead { .. } => &[],
        }
    }

    /// What nobody named and the hub has not seen either, and what it may not see, in words.
    pub fn not_asked(&self) -> Vec<String> {
        let sources = "Where source servers are is not known, so that their way to the runner was not looked at. Name \
                       their ranges with `orglift-hub readiness --source-range`.";
        let hub = "Where runners reach the hub is not known, so that their way to it was not looked at. Name it with \
                   `orglift-hub readiness --hub`, or wait until a runner has called.";
        let was_checked = matches!(self.outcome, Outcome::Checked { .. });
        let mut all: Vec<_> = [(self.sources.is_empty(), sources), (self.hub.is_none(), hub)]
            .into_iter()
            .filter(|(unknown, _)| was_checked && *unknown)
            .map(|(_, words)| words.to_owned())
            .collect();
        let remarks = self.of_network().iter().filter(|one| one.is_remark());
        all.extend(remarks.map(|one| format!("{}: {}. {}", one.resource, one.text, one.change)));
        if let Now::NotChecked { why } = &self.drift.now {
            all.push(why.clone());
        }
        all
    }
}

/// A place to check, and what to ask there.
#[derive(Debug)]
pub struct Check {
    pub place: Place,
    pub named: Named,
    needs: Needs,
    /// As it was known before.
    drift: Drift,
    compare: When,
}

/// Completes what was named for each place by what the hub knows. Without `named`, what was named before is asked.
/// Stacks are compared `when` it is said, and where somebody wants to know.
pub async fn prepare(
    store: &Store,
    places: Vec<Place>,
    named: Option<&Named>,
    when: When,
) -> Result<Vec<Check>, StoreError> {
    let before: BTreeMap<_, _> = store
        .readiness_list()
        .await?
        .into_iter()
        .map(|row| ((row.account.0.clone(), row.region.clone()), row))
        .collect();
    let runners = store.runner_list().await?;
    let mut checks = Vec::new();
    for place in places {
        let key = (place.account.clone(), place.region.clone());
        let before = before.get(&key);
        let named = named
            .or_else(|| before.map(|row| &row.named.0))
            .cloned()
            .unwrap_or_default();
        let drift = before.and_then(|row| Some(row.report.0.as_ref()?.drift.clone()));
        let is_wanted = before.is_some_and(|row| row.wanted);
        let own =
            |runner: &&runner::Model| runner.account.0 == place.account && runner.region == place.region;
        let of_place: Vec<_> = runners.iter().filter(own).collect();
        let servers = store
            .server_list(&ServerFilter {
                accounts: vec![place.account.clone()],
                archived: Some(false),
                ..ServerFilter::default()
            })
            .await?;
        let of_runners = |server: &&source_server::Model| {
            of_place
                .iter()
                .any(|runner| Some(&runner.id) == server.runner.as_ref())
        };
        let servers: Vec<_> = servers.iter().filter(of_runners).collect();
        let port =
            |port: Option<i32>, default| port.and_then(|port| u16::try_from(port).ok()).unwrap_or(default);
        let last = of_place.last();
        let (partition, role) = runner_role(&place.account, &place.region);
        checks.push(Check {
            needs: Needs {
                region: place.region.clone(),
                partition,
                account: place.account.to_string(),
                role,
                data_port: port(last.map(|runner| runner.data_port), protocol::DATA_PORT),
                enrol_port: port(last.map(|runner| runner.enrol_port), protocol::ENROL_PORT),
                sources: sources(&named, &servers),
                hub: named
                    .hub
                    .or_else(|| called(of_place.iter().copied()))
                    .or_else(|| called(&runners)),
                launch_subnets: launch_subnets(&servers),
                template: TEMPLATE_VERSION,
            },
            drift: drift.unwrap_or_default(),
            compare: if is_wanted { When::Now } else { when },
            named,
            place,
        });
    }
    Ok(checks)
}

/// Where the runner that was heard last reached the hub.
fn called<'a>(runners: impl IntoIterator<Item = &'a runner::Model>) -> Option<SocketAddr> {
    let known = runners.into_iter().filter(|runner| runner.hub_address.is_some());
    let last = known.max_by_key(|runner| runner.last_seen)?;
    last.hub_address.as_ref()?.parse().ok()
}

/// The ranges that were named, and the addresses of servers that are in none of them.
fn sources(named: &Named, servers: &[&source_server::Model]) -> Vec<Cidr> {
    let addresses = servers
        .iter()
        .filter_map(|server| address(server.agent_address.as_deref()?));
    let outside: BTreeSet<_> = addresses
        .map(Cidr::of)
        .filter(|address| !named.sources.iter().any(|range| range.contains(*address)))
        .collect();
    named
        .sources
        .iter()
        .copied()
        .chain(outside.into_iter().take(SERVERS_MAX))
        .collect()
}

/// Of an address with or without a port.
pub fn address(text: &str) -> Option<IpAddr> {
    let with_port = text.parse::<SocketAddr>().map(|address| address.ip());
    with_port.or_else(|_| text.parse()).ok()
}

/// Those that are named as EC2 names them.
fn launch_subnets(servers: &[&source_server::Model]) -> Vec<String> {
    let settings = servers.iter().map(|server| &server.launch_configuration.0);
    let subnets = settings.flat_map(|settings| [&settings.test_subnet, &settings.target_subnet]);
    let subnets: BTreeSet<_> = subnets
        .filter(|subnet| subnet.starts_with("subnet-"))
        .cloned()
        .collect();
    subnets.into_iter().collect()
}

/// Checks every place; the reports are kept, and come as they are known.
pub fn check_all<'a>(
    store: &'a Store,
    cloud: &'a dyn Cloud,
    checks: Vec<Check>,
) -> impl Stream<Item = Result<(Place, Report), StoreError>> + 'a {
    let places = checks.iter().map(|check| check.place.clone()).collect();
    let key = |place: &Place| (place.account.clone(), place.region.clone());
    let checks: Arc<BTreeMap<_, _>> = Arc::new(
        checks
            .into_iter()
            .map(|check| (key(&check.place), check))
            .collect(),
    );
    let asked = Arc::clone(&checks);
    let outcomes = fan_out(places, move |place| {
        let (checks, key) = (Arc::clone(&asked), key(&place));
        async move { check(cloud, &place, &checks[&key]).await }
    });
    outcomes.then(move |done| {
        let checks = Arc::clone(&checks);
        async move {
            let Check {
                named, needs, drift, ..
            } = &checks[&key(&done.place)];
            let (outcome, drift) = done
                .outcome
                .unwrap_or_else(|access| (Outcome::NotRead { access }, drift.clone()));
            let report = Report {
                sources: needs.sources.clone(),
                hub: needs.hub,
                outcome,
                drift,
            };
            let mut tx = store.begin().await?;
            tx.readiness_checked(&done.place, named.clone(), report.clone())
                .await?;
            tx.commit().await?;
            Ok((done.place, report))
        }
    })
}

async fn check(
    cloud: &dyn Cloud,
    place: &Place,
    Check {
        needs,
        drift,
        compare,
        ..
    }: &Check,
) -> Result<(Outcome, Drift), CloudError> {
    Ok(match cloud.surroundings(place, &needs.launch_subnets).await? {
        Surroundings::NoNetworks => (Outcome::NothingToCheck, Drift::default()),
        Surroundings::NotDeployed => {
            let findings = vec![network::not_deployed(&place.region)];
            (Outcome::Checked { findings }, Drift::default())
        }
        Surroundings::Network(found) => {
            let findings = network::findings(&found, needs);
            let stack = found.runner.stack.as_deref();
            let drift = drift::look(cloud, place, stack, drift, *compare).await;
            (Outcome::Checked { findings }, drift)
        }
    })
}

#[cfg(test)]
mod tests {
    use domain::network::Rule;

    use super::*;

    #[test]
    fn a_remark_is_told_and_does_not_keep_a_network_from_being_ready() {
        let found = |rule| Finding {
            rule,
            resource: "vpc-1".into(),
            text: "it is not shown".into(),
            change: "Ask for it.".into(),
        };
        let mut report = Report {
            sources: vec!["10.0.0.0/8".parse().unwrap()],
            hub: Some("10.9.0.4:8443".parse().unwrap()),
            outcome: Outcome::Checked {
                findings: vec![found(Rule::LookedAtByOwner)],
            },
            drift: Drift::default(),
        };
        assert_eq!(report.findings(), []);
        let told = "vpc-1: it is not shown. Ask for it.".to_owned();
        assert!(report.not_asked().contains(&told), "{:?}", report.not_asked());
        let fault = found(Rule::VpcResolvesNames);
        report.outcome = Outcome::Checked {
            findings: vec![fault.clone()],
        };
        assert_eq!(report.findings(), [fault]);
        assert!(!report.not_asked().contains(&told));
    }
}

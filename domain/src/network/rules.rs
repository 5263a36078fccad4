//! What [`super::Needs`] asks of a [`super::Network`], resource by resource.

use std::net::IpAddr;

use super::{
    AclEntry, Endpoint, EndpointKind, EndpointState, Finding, Needs, Network, NetworkAcl, Peer, Route,
    RouteTable, Rule, SecurityGroup, SecurityRule, Subnet,
    cidr::Cidr,
    permits::{ALL_PORTS, Entry, Ports, Stopped, Traffic, permits},
    services::{Service, called_by},
    sharing,
};

/// The runner's interface keeps its address, and an instance that takes its place needs one of its own while it
/// starts.
const FREE_ADDRESSES_MIN: u32 = 2;

/// Where answers to a connection go: what Linux, Windows and NAT gateways choose from.
const EPHEMERAL: Ports = 1024..=u16::MAX;

const HTTPS: u16 = 443;

/// All that has to be changed; none for a sound network. In the order in which one would look.
pub fn findings(network: &Network, needs: &Needs) -> Vec<Finding> {
    let Some(subnet) = network.subnet(&network.runner.subnet) else {
        return vec![finding(
            Rule::SubnetKnown,
            &network.runner.subnet,
            "the runner's subnet is not in this VPC".into(),
            format!("Choose a subnet of {} for the runner.", network.vpc),
        )];
    };
    let look = Look {
        network,
        needs,
        subnet,
    };
    let mut all = Vec::new();
    all.extend(look.template());
    all.extend(look.free_addresses());
    all.extend(look.names());
    all.extend(look.sources());
    all.extend(look.hub());
    for service in called_by(&network.runner) {
        all.extend(look.service(service));
    }
    all.extend(look.launch_subnets());
    all.extend(sharing::not_shown(network, needs, subnet));
    let mut told = Vec::new();
    for finding in all {
        let finding = sharing::by_its_owner(finding, network);
        // Several connections may fail for one reason.
        if !told.contains(&finding) {
            told.push(finding);
        }
    }
    told
}

/// Where nobody deployed a runner, there is no network to look at.
pub fn not_deployed(region: &str) -> Finding {
    finding(
        Rule::RunnerDeployed,
        region,
        "the runner's network interface is not there: no interface has the tag of the onboarding template"
            .into(),
        "Deploy what `orglift-hub onboarding` writes for the account, in this region.".into(),
    )
}

struct Look<'a> {
    network: &'a Network,
    needs: &'a Needs,
    /// The runner's.
    subnet: &'a Subnet,
}

/// One kind of connection, as the runner's side of it.
struct Connection<'a> {
    with: Cidr,
    /// The port that listens.
    port: u16,
    is_inward: bool,
    /// Its far side, in words.
    far: &'a str,
}

impl Look<'_> {
    fn template(&self) -> Option<Finding> {
        let (runner, wanted) = (&self.network.runner, self.needs.template);
        let deployed = match runner.template {
            0 => "no version that could be read".into(),
            version => format!("version {version}"),
        };
        let resource = runner.stack.as_deref().unwrap_or(&runner.subnet);
        (runner.template < wanted).then(|| {
            finding(
                Rule::TemplateIsCurrent,
                resource,
                format!(
                    "{deployed} of the onboarding template is deployed, and this hub needs version {wanted}"
                ),
                format!("Deploy version {wanted}: what `orglift-hub onboarding` writes for the account."),
            )
        })
    }

    fn free_addresses(&self) -> Option<Finding> {
        let free = self.subnet.free_addresses;
        (free < FREE_ADDRESSES_MIN).then(|| {
            finding(
                Rule::SubnetHasAddresses,
                &self.subnet.id,
                format!("the subnet has {free} free addresses, and a runner may need {FREE_ADDRESSES_MIN}"),
                match &self.network.shared_by {
                    None => "Free addresses in the subnet, or choose another one for the runner.".into(),
                    Some(owner) => format!(
                        "Free addresses in the subnet, or choose another one that account {owner} shares."
                    ),
                },
            )
        })
    }

    fn names(&self) -> Option<Finding> {
        let lacks = match (self.network.dns_support, self.network.dns_hostnames) {
            (true, true) => return None,
            (false, _) => "enableDnsSupport",
            (true, false) => "enableDnsHostnames",
        };
        Some(finding(
            Rule::VpcResolvesNames,
            &self.network.vpc,
            format!("{lacks} is off: the names of endpoints do not lead to them"),
            format!("Switch {lacks} on."),
        ))
    }

    fn sources(&self) -> Vec<Finding> {
        let mut found = Vec::new();
        for &with in &self.needs.sources {
            for port in [self.needs.data_port, self.needs.enrol_port] {
                let connection = Connection {
                    with,
                    port,
                    is_inward: true,
                    far: "source servers",
                };
                found.extend(self.runner_groups(&connection, &[]));
                found.extend(self.acl(self.subnet, &connection));
            }
            found.extend(self.route(Rule::RouteBack, with, "source servers"));
        }
        found
    }

    fn hub(&self) -> Vec<Finding> {
        let Some(hub) = self.needs.hub else {
            return Vec::new();
        };
        let with = Cidr::of(hub.ip());
        let connection = Connection {
            with,
            port: hub.port(),
            is_inward: false,
            far: "the hub",
        };
        let mut found = Vec::new();
        found.extend(self.runner_groups(&connection, &[]));
        found.extend(self.acl(self.subnet, &connection));
        found.extend(self.route(Rule::RouteToHub, with, "the hub"));
        found
    }

    fn launch_subnets(&self) -> Vec<Finding> {
        let look = |subnet: &String| {
            match self.network.launch_subnets.get(subnet) {
            None => Some(finding(
                Rule::SubnetKnown,
                subnet,
                format!("the subnet is not in {}, and servers are to be launched into it", self.needs.region),
                "Choose another subnet in the launch configurations that name it.".into(),
            )),
            Some(0) => Some(finding(
                Rule::SubnetHasAddresses,
                subnet,
                "the subnet has no free addresses, and servers are to be launched into it".into(),
                "Free addresses in the subnet, or choose another one in the launch configurations that name it."
                    .into(),
            )),
            Some(_) => None,
        }
        };
        self.needs.launch_subnets.iter().filter_map(look).collect()
    }

    fn service(&self, service: &Service) -> Vec<Finding> {
        let (name, kind) = (service.full_name(self.needs), service.kind());
        let candidates = service.endpoints(self.network, self.needs);
        // One that works is enough; of several that do not, the last is as good as any to speak of.
        if candidates.is_empty() && self.network.shared_by.is_some() {
            return Vec::new();
        }
        let mut found = vec![finding(
            Rule::EndpointExists,
            &self.network.vpc,
            format!("there is no endpoint {name} of type {kind}; {}", service.purpose),
            format!("Create the endpoint {name}, of type {kind}."),
        )];
        for endpoint in candidates {
            found = self.endpoint(endpoint, service);
            if found.is_empty() {
                break;
            }
        }
        found
    }

    fn endpoint(&self, endpoint: &Endpoint, service: &Service) -> Vec<Finding> {
        let Endpoint { id, .. } = endpoint;
        let mut found = Vec::new();
        if endpoint.state != EndpointState::Available {
            found.push(finding(
                Rule::EndpointIsAvailable,
                id,
                format!("the endpoint {} is not available", endpoint.service),
                "Accept the endpoint, or create it anew.".into(),
            ));
        }
        found.extend(service.policy_findings(endpoint, self.network, self.needs));
        match &endpoint.kind {
            EndpointKind::Interface {
                private_dns,
                security_groups,
                interfaces,
            } => {
                if !private_dns {
                    found.push(finding(
                        Rule::EndpointHasPrivateDns,
                        id,
                        "private DNS is off: the runner would look for the service on the internet".into(),
                        "Enable private DNS names for the endpoint.".into(),
                    ));
                }
                found.extend(self.admits_runner(endpoint, security_groups));
                for (subnet, address) in interfaces {
                    found.extend(self.to_interface(&endpoint.service, security_groups, subnet, *address));
                }
            }
            EndpointKind::Gateway {
                route_tables,
                prefix_list,
            } => {
                let table = self.subnet.route_table.as_ref();
                if let Some(table) = table.filter(|table| !route_tables.contains(table)) {
                    found.push(finding(
                        Rule::EndpointInRouteTable,
                        id,
                        format!(
                            "the endpoint is not in {table}, the route table of the runner's subnet {}",
                            self.subnet.id
                        ),
                        format!("Associate the endpoint with {table}."),
                    ));
                }
                let ranges = self.network.prefix_lists.get(prefix_list);
                let ranges = ranges.into_iter().flatten();
                let connections: Vec<_> = ranges.map(|&with| outward(with, &endpoint.service)).collect();
                // One rule of a security group lets all of the list through; a network ACL knows no lists.
                let stopped = connections.iter().find_map(|one| self.runner_groups(one, &[]));
                found.extend(stopped.map(|finding| Finding {
                    change: format!("Add an outbound rule: TCP {HTTPS} to the prefix list {prefix_list}."),
                    ..finding
                }));
                found.extend(connections.iter().filter_map(|one| self.acl(self.subnet, one)));
            }
        }
        found
    }

    /// The way from the runner to one network interface of an endpoint, and back.
    fn to_interface(&self, service: &str, groups: &[String], subnet: &str, address: IpAddr) -> Vec<Finding> {
        let there = outward(Cidr::of(address), service);
        let mut found = Vec::new();
        found.extend(self.runner_groups(&there, groups));
        // A network ACL sees what leaves or enters its subnet only.
        if subnet != self.subnet.id {
            found.extend(self.acl(self.subnet, &there));
            let back = Connection {
                with: Cidr::of(self.network.runner.address),
                port: HTTPS,
                is_inward: true,
                far: "the runner",
            };
            let theirs = self.network.subnet(subnet);
            found.extend(theirs.and_then(|theirs| self.acl(theirs, &back)));
        }
        found
    }

    fn admits_runner(&self, endpoint: &Endpoint, groups: &[String]) -> Option<Finding> {
        let runner = &self.network.runner;
        let traffic = Traffic {
            with: Cidr::of(runner.address),
            ports: HTTPS..=HTTPS,
        };
        let groups = self.network.groups(groups);
        let rules = groups.iter().flat_map(|group| &group.inbound);
        let entries = self.entries(rules, &runner.security_groups, traffic.with);
        if permits(&entries, &traffic).is_ok() {
            return None;
        }
        let resource = groups.first().map_or(&endpoint.id, |group| &group.id);
        Some(finding(
            Rule::EndpointAdmitsRunner,
            resource,
            format!(
                "the security group of the endpoint {} does not let the runner {} in",
                endpoint.service, runner.address
            ),
            format!("Add an inbound rule: TCP {HTTPS} from {}.", traffic.with),
        ))
    }

    /// `far_groups`: the security groups of the far side.
    fn runner_groups(&self, connection: &Connection<'_>, far_groups: &[String]) -> Option<Finding> {
        let groups = self.network.groups(&self.network.runner.security_groups);
        let (rule, direction) = if connection.is_inward {
            (Rule::RunnerAdmitsSources, "inbound")
        } else {
            (Rule::RunnerMaySend, "outbound")
        };
        let rules = groups.iter().flat_map(|group| {
            if connection.is_inward {
                &group.inbound
            } else {
                &group.outbound
            }
        });
        let traffic = connection.forth();
        let entries = self.entries(rules, far_groups, connection.with);
        let stopped = permits(&entries, &traffic).err()?;
        let resource = groups.first().map_or("(none)", |group| group.id.as_str());
        let way = if connection.is_inward { "from" } else { "to" };
        Some(finding(
            rule,
            resource,
            format!(
                "the runner's security group has no {direction} rule for TCP {} {way} {} ({})",
                connection.port, stopped.part.with, connection.far
            ),
            format!(
                "Add an {direction} rule: TCP {} {way} {}.",
                connection.port, connection.with
            ),
        ))
    }

    /// Rules of security groups as entries. Whoever has one of `members_groups` has the address `member`.
    fn entries<'a>(
        &self,
        rules: impl Iterator<Item = &'a SecurityRule>,
        members_groups: &[String],
        member: Cidr,
    ) -> Vec<Entry<()>> {
        let mut entries = Vec::new();
        for rule in rules {
            let ranges = match &rule.peer {
                Peer::Group(group) if members_groups.contains(group) => vec![member],
                Peer::Group(_) => Vec::new(),
                peer => self.network.ranges(peer),
            };
            entries.extend(ranges.into_iter().map(|with| Entry {
                name: (),
                permits: true,
                with,
                ports: rule.ports.clone(),
            }));
        }
        entries
    }

    /// The way there, and if that is free the way back, through the network ACL of one end's subnet.
    fn acl(&self, subnet: &Subnet, connection: &Connection<'_>) -> Option<Finding> {
        let acls = &self.network.network_acls;
        let acl = acls
            .iter()
            .find(|acl| Some(&acl.id) == subnet.network_acl.as_ref())?;
        let forth = connection.forth();
        let back = Traffic {
            with: connection.with,
            ports: EPHEMERAL,
        };
        let ways = if connection.is_inward {
            [(true, forth), (false, back)]
        } else {
            [(false, forth), (true, back)]
        };
        ways.into_iter()
            .find_map(|(is_inbound, traffic)| stopped_by(acl, is_inbound, &traffic, connection.far))
    }

    fn route(&self, rule: Rule, to: Cidr, far: &str) -> Option<Finding> {
        let table = self.network.route_table(self.subnet)?;
        let mut entries: Vec<_> = table
            .routes
            .iter()
            // The internet has no way to a private network.
            .filter(|route| !(to.is_private() && leads_to_internet(route)))
            .flat_map(|route| {
                let ranges = self.network.ranges(&route.to).into_iter();
                ranges.map(|with| Entry {
                    name: route.target.as_str(),
                    permits: route.active,
                    with,
                    ports: ALL_PORTS,
                })
            })
            .collect();
        entries.sort_by_key(|entry| std::cmp::Reverse(entry.with.prefix()));
        let traffic = Traffic {
            with: to,
            ports: ALL_PORTS,
        };
        let stopped = permits(&entries, &traffic).err()?;
        let (text, change) = match stopped.by {
            Some(target) => (
                format!("the route to {far} {to} leads to {target}, which is gone (blackhole)"),
                format!("Replace the route by one whose gateway leads to {to}."),
            ),
            // One of them may be it.
            None if !sharing::unknown_routes(self.network, table).is_empty() => return None,
            None => (
                format!("there is no route to {far} {}", stopped.part.with),
                format!(
                    "Add a route to {to} by the transit gateway, virtual private gateway or peering that leads there."
                ),
            ),
        };
        Some(finding(rule, &table.id, text, change))
    }
}

impl Connection<'_> {
    fn forth(&self) -> Traffic {
        Traffic {
            with: self.with,
            ports: self.port..=self.port,
        }
    }
}

impl Network {
    fn subnet(&self, id: &str) -> Option<&Subnet> {
        self.subnets.iter().find(|subnet| subnet.id == id)
    }

    pub(super) fn route_table(&self, subnet: &Subnet) -> Option<&RouteTable> {
        let mut tables = self.route_tables.iter();
        tables.find(|table| Some(&table.id) == subnet.route_table.as_ref())
    }

    fn groups(&self, ids: &[String]) -> Vec<&SecurityGroup> {
        let named = self
            .security_groups
            .iter()
            .filter(|group| ids.contains(&group.id));
        named.collect()
    }

    fn ranges(&self, peer: &Peer) -> Vec<Cidr> {
        match peer {
            Peer::Range(cidr) => vec![*cidr],
            Peer::PrefixList(id) => self.prefix_lists.get(id).cloned().unwrap_or_default(),
            Peer::Group(_) => Vec::new(),
        }
    }
}

fn outward(with: Cidr, far: &str) -> Connection<'_> {
    Connection {
        with,
        port: HTTPS,
        is_inward: false,
        far,
    }
}

fn stopped_by(acl: &NetworkAcl, is_inbound: bool, traffic: &Traffic, far: &str) -> Option<Finding> {
    let (rule, direction, way, entries) = if is_inbound {
        (Rule::AclLetsIn, "inbound", "from", &acl.inbound)
    } else {
        (Rule::AclLetsOut, "outbound", "to", &acl.outbound)
    };
    let mut ordered: Vec<&AclEntry> = entries.iter().collect();
    ordered.sort_by_key(|entry| entry.number);
    let entries: Vec<_> = ordered
        .into_iter()
        .map(|entry| Entry {
            name: entry.number,
            permits: entry.allows,
            with: entry.with,
            ports: entry.ports.clone(),
        })
        .collect();
    let Stopped { by, part } = permits(&entries, traffic).err()?;
    let wanted = format!("TCP {} {way} {}", shown(&traffic.ports), traffic.with);
    let (text, change) = match by {
        Some(number) => (
            format!(
                "{direction} rule {number} of the network ACL denies TCP {} {way} {} ({far})",
                shown(&part.ports),
                part.with
            ),
            format!("Allow {wanted} by an {direction} rule with a number below {number}."),
        ),
        None => (
            format!("no {direction} rule of the network ACL allows {wanted} ({far})"),
            format!("Add an {direction} rule to the network ACL: allow {wanted}."),
        ),
    };
    Some(finding(rule, &acl.id, text, change))
}

fn shown(ports: &Ports) -> String {
    if ports.start() == ports.end() {
        return ports.start().to_string();
    }
    format!("{}-{}", ports.start(), ports.end())
}

fn leads_to_internet(route: &Route) -> bool {
    let gateways = ["igw-", "nat-", "eigw-"];
    gateways.iter().any(|prefix| route.target.starts_with(prefix))
}

pub(super) fn finding(rule: Rule, resource: &str, text: String, change: String) -> Finding {
    Finding {
        rule,
        resource: resource.to_owned(),
        text,
        change,
    }
}

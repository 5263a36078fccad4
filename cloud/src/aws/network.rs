//! The network around the runner of an account, read for [`domain::network`].
//!
//! The runner's interface is the anchor: the onboarding template tags it, and it names VPC, subnet and security groups.
//! Everything else is asked for by the VPC. What an account says is kept only as far as a rule needs it, and no list is
//! taken that is longer than any account's quota.

mod policy;
#[cfg(test)]
mod tests;

use std::{
    collections::{BTreeMap, HashMap},
    net::IpAddr,
};

use aws_sdk_ec2::{
    Client,
    types::{self, State, VpcAttributeName, VpcEndpointType},
};
use domain::{
    ids::AccountId,
    network::{
        AclEntry, Endpoint, EndpointKind, EndpointState, Interface, Logs, Network, NetworkAcl, Peer, Route,
        RouteTable, SecurityGroup, SecurityRule, Subnet,
        cidr::Cidr,
        permits::{ALL_PORTS, Ports},
    },
};

use super::{
    calls::Asked,
    failure::Failure,
    tags::{self, filter, one_of},
};
use crate::control::{BUCKET_TAG, CloudError, LOGS_TAG, Place, Surroundings, TEMPLATE_TAG};

/// CloudFormation's own, with the ARN of the stack.
const STACK_TAG: &str = "aws:cloudformation:stack-id";
/// Quotas of a VPC are in the hundreds; those that can be raised go no further than this.
const LISTED_MAX: usize = 5_000;
/// EC2 takes no more values in one filter.
const FILTER_MAX: usize = 200;

/// An interface of an endpoint: its subnet and its address.
type EndpointInterface = (String, IpAddr);

pub(super) async fn read(
    place: &Place,
    ec2: &Client,
    launch_subnets: &[String],
) -> Result<Surroundings, CloudError> {
    let account = Account { place, ec2 };
    let Some((vpc, runner)) = account.runner().await? else {
        return Ok(Surroundings::NotDeployed);
    };
    let route_tables = account.route_tables(&vpc).await?;
    let network_acls = account.network_acls(&vpc).await?;
    let subnets = account.subnets("vpc-id", std::slice::from_ref(&vpc)).await?;
    let endpoints = account.endpoints(&vpc).await?;
    let interfaces = account.endpoint_interfaces(&endpoints).await?;
    let mut network = Network {
        shared_by: owner(place, &runner.subnet, &subnets),
        dns_support: account.is_on(&vpc, VpcAttributeName::EnableDnsSupport).await?,
        dns_hostnames: account.is_on(&vpc, VpcAttributeName::EnableDnsHostnames).await?,
        subnets: subnets
            .iter()
            .filter_map(|one| subnet(one, &route_tables, &network_acls))
            .collect(),
        route_tables: route_tables.iter().filter_map(route_table).collect(),
        security_groups: account
            .security_groups(&vpc)
            .await?
            .iter()
            .filter_map(security_group)
            .collect(),
        network_acls: network_acls.iter().filter_map(network_acl).collect(),
        endpoints: Vec::new(),
        prefix_lists: BTreeMap::new(),
        launch_subnets: account.room(launch_subnets).await?,
        vpc,
        runner,
    };
    let lists = account.prefix_lists(&endpoints).await?;
    network.endpoints = endpoints
        .iter()
        .filter_map(|one| endpoint(one, &interfaces, &lists))
        .collect();
    for list in named_lists(&network) {
        let ranges = account.ranges(&list).await?;
        network.prefix_lists.insert(list, ranges);
    }
    Ok(Surroundings::Network(Box::new(network)))
}

/// Where calls go.
struct Account<'a> {
    place: &'a Place,
    ec2: &'a Client,
}

impl Account<'_> {
    fn asked(&self, call: &'static str) -> Asked<'_> {
        Asked {
            call,
            place: self.place,
        }
    }

    /// The runner's interface, and its VPC. There is one stack in a region; of several, one that is in use.
    async fn runner(&self) -> Result<Option<(String, Interface)>, CloudError> {
        let found = self
            .ec2
            .describe_network_interfaces()
            .filters(filter("tag-key", TEMPLATE_TAG));
        let found = found.into_paginator().items().send();
        let mut found = self
            .asked("ec2:DescribeNetworkInterfaces")
            .listed(found, LISTED_MAX)
            .await?;
        found.sort_by_key(|one| (one.attachment.is_none(), one.network_interface_id.clone()));
        Ok(found.into_iter().find_map(runner))
    }

    async fn is_on(&self, vpc: &str, attribute: VpcAttributeName) -> Result<bool, CloudError> {
        let asked = self.asked("ec2:DescribeVpcAttribute");
        let answer = self
            .ec2
            .describe_vpc_attribute()
            .vpc_id(vpc)
            .attribute(attribute.clone())
            .send()
            .await;
        let answer = answer.map_err(|error| asked.refused(&Failure::of(&error)))?;
        let value = match attribute {
            VpcAttributeName::EnableDnsSupport => answer.enable_dns_support(),
            _ => answer.enable_dns_hostnames(),
        };
        Ok(value
            .and_then(types::AttributeBooleanValue::value)
            .unwrap_or_default())
    }

    async fn subnets(&self, name: &str, values: &[String]) -> Result<Vec<types::Subnet>, CloudError> {
        let mut all = Vec::new();
        for values in values.chunks(FILTER_MAX) {
            let found = self.ec2.describe_subnets().filters(one_of(name, values));
            all.extend(
                self.asked("ec2:DescribeSubnets")
                    .listed(found.into_paginator().items().send(), LISTED_MAX)
                    .await?,
            );
        }
        Ok(all)
    }

    /// Free addresses of those of the subnets that there are.
    async fn room(&self, subnets: &[String]) -> Result<BTreeMap<String, u32>, CloudError> {
        let found = self.subnets("subnet-id", subnets).await?;
        let room = found
            .into_iter()
            .filter_map(|one| Some((one.subnet_id.clone()?, free_addresses(&one))));
        Ok(room.collect())
    }

    async fn route_tables(&self, vpc: &str) -> Result<Vec<types::RouteTable>, CloudError> {
        let found = self.ec2.describe_route_tables().filters(filter("vpc-id", vpc));
        self.asked("ec2:DescribeRouteTables")
            .listed(found.into_paginator().items().send(), LISTED_MAX)
            .await
    }

    async fn security_groups(&self, vpc: &str) -> Result<Vec<types::SecurityGroup>, CloudError> {
        let found = self.ec2.describe_security_groups().filters(filter("vpc-id", vpc));
        self.asked("ec2:DescribeSecurityGroups")
            .listed(found.into_paginator().items().send(), LISTED_MAX)
            .await
    }

    async fn network_acls(&self, vpc: &str) -> Result<Vec<types::NetworkAcl>, CloudError> {
        let found = self.ec2.describe_network_acls().filters(filter("vpc-id", vpc));
        self.asked("ec2:DescribeNetworkAcls")
            .listed(found.into_paginator().items().send(), LISTED_MAX)
            .await
    }

    /// Without those that are gone, which EC2 shows for a while.
    async fn endpoints(&self, vpc: &str) -> Result<Vec<types::VpcEndpoint>, CloudError> {
        let found = self.ec2.describe_vpc_endpoints().filters(filter("vpc-id", vpc));
        let found = found.into_paginator().items().send();
        let mut all = self
            .asked("ec2:DescribeVpcEndpoints")
            .listed(found, LISTED_MAX)
            .await?;
        all.retain(|one| !is_in(one, &State::Deleted) && !is_in(one, &State::Deleting));
        Ok(all)
    }

    async fn endpoint_interfaces(
        &self,
        endpoints: &[types::VpcEndpoint],
    ) -> Result<HashMap<String, EndpointInterface>, CloudError> {
        let ids: Vec<_> = endpoints
            .iter()
            .flat_map(types::VpcEndpoint::network_interface_ids)
            .cloned()
            .collect();
        let mut all = HashMap::new();
        for ids in ids.chunks(FILTER_MAX) {
            let found = self
                .ec2
                .describe_network_interfaces()
                .filters(one_of("network-interface-id", ids));
            let found = found.into_paginator().items().send();
            let found = self
                .asked("ec2:DescribeNetworkInterfaces")
                .listed(found, LISTED_MAX)
                .await?;
            all.extend(found.into_iter().filter_map(|one| {
                let address = one.private_ip_address()?.parse().ok()?;
                Some((one.network_interface_id?, (one.subnet_id?, address)))
            }));
        }
        Ok(all)
    }

    /// The lists of services that have gateway endpoints, by the name of the service.
    async fn prefix_lists(
        &self,
        endpoints: &[types::VpcEndpoint],
    ) -> Result<HashMap<String, String>, CloudError> {
        let gateways = endpoints.iter().filter(|one| is_gateway(one));
        let services: Vec<_> = gateways.filter_map(|one| one.service_name.clone()).collect();
        let mut all = HashMap::new();
        for services in services.chunks(FILTER_MAX) {
            let found = self
                .ec2
                .describe_managed_prefix_lists()
                .filters(one_of("prefix-list-name", services));
            let found = found.into_paginator().items().send();
            let found = self
                .asked("ec2:DescribeManagedPrefixLists")
                .listed(found, LISTED_MAX)
                .await?;
            all.extend(
                found
                    .into_iter()
                    .filter_map(|one| Some((one.prefix_list_name?, one.prefix_list_id?))),
            );
        }
        Ok(all)
    }

    /// None, if the list is gone.
    async fn ranges(&self, list: &str) -> Result<Vec<Cidr>, CloudError> {
        let asked = self.asked("ec2:GetManagedPrefixListEntries");
        let found = self.ec2.get_managed_prefix_list_entries().prefix_list_id(list);
        match asked
            .listed(found.into_paginator().items().send(), LISTED_MAX)
            .await
        {
            Ok(entries) => Ok(entries.iter().filter_map(|entry| range(entry.cidr())).collect()),
            Err(CloudError::NotFound { .. }) => Ok(Vec::new()),
            Err(error) => Err(error),
        }
    }
}

fn runner(found: types::NetworkInterface) -> Option<(String, Interface)> {
    let tags = tags::read(found.tag_set());
    let named = |tag| tags.get(tag).filter(|name| is_plain(name)).cloned();
    let interface = Interface {
        address: found.private_ip_address()?.parse().ok()?,
        security_groups: found
            .groups()
            .iter()
            .filter_map(|group| group.group_id.clone())
            .collect(),
        bucket: named(BUCKET_TAG),
        logs: if tags.contains_key(LOGS_TAG) {
            Logs::On(named(LOGS_TAG))
        } else {
            Logs::Off
        },
        template: tags
            .get(TEMPLATE_TAG)
            .and_then(|version| version.parse().ok())
            .unwrap_or_default(),
        stack: tags.get(STACK_TAG).cloned(),
        subnet: found.subnet_id?,
    };
    Some((found.vpc_id?, interface))
}

/// As S3 and `CloudWatch` name things, so that a policy can be shown with it.
fn is_plain(name: &str) -> bool {
    let is_known = |byte: u8| byte.is_ascii_alphanumeric() || b"._/#-".contains(&byte);
    !name.is_empty() && name.bytes().all(is_known)
}

fn free_addresses(subnet: &types::Subnet) -> u32 {
    let free = subnet.available_ip_address_count().unwrap_or_default();
    u32::try_from(free).unwrap_or_default()
}

/// Of the subnet, where that is another account.
fn owner(place: &Place, id: &str, subnets: &[types::Subnet]) -> Option<String> {
    let subnet = subnets.iter().find(|one| one.subnet_id() == Some(id))?;
    let owner = subnet.owner_id()?.parse::<AccountId>().ok()?;
    (owner != place.account).then(|| owner.to_string())
}

/// With the table and the ACL that apply to it: a subnet that is associated with no table has the VPC's main one.
fn subnet(
    found: &types::Subnet,
    route_tables: &[types::RouteTable],
    network_acls: &[types::NetworkAcl],
) -> Option<Subnet> {
    let id = found.subnet_id()?;
    let own = |table: &&types::RouteTable| table.associations().iter().any(|one| one.subnet_id() == Some(id));
    let main = |table: &&types::RouteTable| table.associations().iter().any(|one| one.main() == Some(true));
    let table = route_tables
        .iter()
        .find(own)
        .or_else(|| route_tables.iter().find(main));
    let acl = network_acls
        .iter()
        .find(|acl| acl.associations().iter().any(|one| one.subnet_id() == Some(id)));
    Some(Subnet {
        id: id.to_owned(),
        free_addresses: free_addresses(found),
        route_table: table.and_then(|table| table.route_table_id.clone()),
        network_acl: acl.and_then(|acl| acl.network_acl_id.clone()),
    })
}

fn route_table(found: &types::RouteTable) -> Option<RouteTable> {
    Some(RouteTable {
        id: found.route_table_id.clone()?,
        routes: found.routes().iter().filter_map(route).collect(),
    })
}

fn route(found: &types::Route) -> Option<Route> {
    let ranges = found
        .destination_cidr_block()
        .or(found.destination_ipv6_cidr_block());
    let list = found.destination_prefix_list_id();
    let to = list.map(|list| Peer::PrefixList(list.to_owned()));
    let to = to.or_else(|| range(ranges).map(Peer::Range))?;
    let target = found
        .gateway_id()
        .or(found.transit_gateway_id())
        .or(found.vpc_peering_connection_id())
        .or(found.nat_gateway_id())
        .or(found.egress_only_internet_gateway_id())
        .or(found.core_network_arn())
        .or(found.local_gateway_id())
        .or(found.carrier_gateway_id())
        .or(found.network_interface_id())?;
    Some(Route {
        to,
        target: target.to_owned(),
        active: found.state() != Some(&types::RouteState::Blackhole),
    })
}

fn security_group(found: &types::SecurityGroup) -> Option<SecurityGroup> {
    Some(SecurityGroup {
        id: found.group_id.clone()?,
        inbound: found.ip_permissions().iter().flat_map(security_rules).collect(),
        outbound: found
            .ip_permissions_egress()
            .iter()
            .flat_map(security_rules)
            .collect(),
    })
}

/// One for each peer.
fn security_rules(found: &types::IpPermission) -> Vec<SecurityRule> {
    let Some(ports) = ports(found.ip_protocol(), found.from_port(), found.to_port()) else {
        return Vec::new();
    };
    let v4 = found.ip_ranges().iter().filter_map(|one| range(one.cidr_ip()));
    let v6 = found
        .ipv6_ranges()
        .iter()
        .filter_map(|one| range(one.cidr_ipv6()));
    let lists = found
        .prefix_list_ids()
        .iter()
        .filter_map(|one| one.prefix_list_id.clone());
    let groups = found
        .user_id_group_pairs()
        .iter()
        .filter_map(|one| one.group_id.clone());
    let peers = v4.chain(v6).map(Peer::Range);
    let peers = peers
        .chain(lists.map(Peer::PrefixList))
        .chain(groups.map(Peer::Group));
    peers
        .map(|peer| SecurityRule {
            ports: ports.clone(),
            peer,
        })
        .collect()
}

fn network_acl(found: &types::NetworkAcl) -> Option<NetworkAcl> {
    let entries = |egress| {
        let entries = found
            .entries()
            .iter()
            .filter(move |entry| entry.egress() == Some(egress));
        entries.filter_map(acl_entry).collect()
    };
    Some(NetworkAcl {
        id: found.network_acl_id.clone()?,
        inbound: entries(false),
        outbound: entries(true),
    })
}

fn acl_entry(found: &types::NetworkAclEntry) -> Option<AclEntry> {
    let given = found.port_range();
    let from = given.and_then(types::PortRange::from);
    let to = given.and_then(types::PortRange::to);
    Some(AclEntry {
        number: found.rule_number()?.try_into().ok()?,
        allows: found.rule_action() == Some(&types::RuleAction::Allow),
        ports: ports(found.protocol(), from, to)?,
        with: range(found.cidr_block().or(found.ipv6_cidr_block()))?,
    })
}

fn is_gateway(endpoint: &types::VpcEndpoint) -> bool {
    endpoint.vpc_endpoint_type() == Some(&VpcEndpointType::Gateway)
}

/// EC2 writes states as `available`, though its model has them as `Available`.
fn is_in(endpoint: &types::VpcEndpoint, state: &State) -> bool {
    let is_same = |given: &State| given.as_str().eq_ignore_ascii_case(state.as_str());
    endpoint.state().is_some_and(is_same)
}

/// Endpoints of other types are none of services that a runner calls.
fn endpoint(
    found: &types::VpcEndpoint,
    interfaces: &HashMap<String, EndpointInterface>,
    lists: &HashMap<String, String>,
) -> Option<Endpoint> {
    let service = found.service_name()?;
    let kind = match found.vpc_endpoint_type()? {
        VpcEndpointType::Gateway => EndpointKind::Gateway {
            route_tables: found.route_table_ids().to_vec(),
            prefix_list: lists.get(service).cloned().unwrap_or_default(),
        },
        VpcEndpointType::Interface => EndpointKind::Interface {
            private_dns: found.private_dns_enabled().unwrap_or_default(),
            security_groups: found
                .groups()
                .iter()
                .filter_map(|group| group.group_id.clone())
                .collect(),
            interfaces: found
                .network_interface_ids()
                .iter()
                .filter_map(|id| interfaces.get(id).cloned())
                .collect(),
        },
        _ => return None,
    };
    Some(Endpoint {
        id: found.vpc_endpoint_id.clone()?,
        service: service.to_owned(),
        state: if is_in(found, &State::Available) {
            EndpointState::Available
        } else {
            EndpointState::NotAvailable
        },
        kind,
        policy: policy::read(found.policy_document()),
    })
}

/// What rules, routes and endpoints name.
fn named_lists(network: &Network) -> Vec<String> {
    let of_runner = network
        .security_groups
        .iter()
        .filter(|group| network.runner.security_groups.contains(&group.id));
    let rules = of_runner
        .flat_map(|group| group.inbound.iter().chain(&group.outbound))
        .map(|rule| &rule.peer);
    let routes = network
        .route_tables
        .iter()
        .flat_map(|table| &table.routes)
        .map(|route| &route.to);
    let by_peers = rules.chain(routes).filter_map(|peer| match peer {
        Peer::PrefixList(list) => Some(list.clone()),
        _ => None,
    });
    let by_endpoints = network
        .endpoints
        .iter()
        .filter_map(|endpoint| match &endpoint.kind {
            EndpointKind::Gateway { prefix_list, .. } if !prefix_list.is_empty() => Some(prefix_list.clone()),
            _ => None,
        });
    let mut lists: Vec<_> = by_peers.chain(by_endpoints).collect();
    lists.sort();
    lists.dedup();
    lists
}

/// Those of TCP. `-1` is every protocol, and then there are no ports.
fn ports(protocol: Option<&str>, from: Option<i32>, to: Option<i32>) -> Option<Ports> {
    match protocol? {
        "-1" => Some(ALL_PORTS),
        "6" | "tcp" => Some(u16::try_from(from?).ok()?..=u16::try_from(to?).ok()?),
        _ => None,
    }
}

fn range(text: Option<&str>) -> Option<Cidr> {
    text?.parse().ok()
}

//! The network of a member account, as a hub reads it, and what of it keeps servers from being replicated.
//!
//! ```text
//! sources ──1500, 443──▶ runner ──443──▶ endpoints ebs, sts, s3 (gateway), logs
//!                           └──the hub's port──▶ hub
//! ```
//!
//! Nobody else connects to anybody: [`findings`] asks for this and nothing more, and for the way back of each, since a
//! network ACL and a route table know no connections. What is there beyond it is none of its business, but for free
//! addresses where instances are launched.

use std::{
    collections::BTreeMap,
    net::{IpAddr, SocketAddr},
};

use serde::{Deserialize, Serialize};

pub mod cidr;
pub mod drift;
pub mod permits;
pub mod policy;
mod rules;
mod services;
mod sharing;
#[cfg(test)]
mod tests;

use cidr::Cidr;
use permits::Ports;
use policy::Policy;
pub use rules::{findings, not_deployed};

/// What a runner needs of the network. Identifiers of resources are the cloud's own.
#[derive(Debug, Clone)]
pub struct Needs {
    pub region: String,
    /// Of the region: `aws`, `aws-cn`, `aws-us-gov`.
    pub partition: &'static str,
    pub account: String,
    /// The ARN of the role that the runner has.
    pub role: String,
    pub data_port: u16,
    pub enrol_port: u16,
    /// Where source servers are; where nobody said, nothing is asked for them.
    pub sources: Vec<Cidr>,
    /// Where runners reach the hub; if that is not known, nothing is asked for it.
    pub hub: Option<SocketAddr>,
    /// Where instances are launched, in this VPC or in another.
    pub launch_subnets: Vec<String>,
    /// The version of the onboarding template that is to be deployed.
    pub template: u32,
}

/// The runner's network interface, which outlives its instance.
#[derive(Debug, Clone)]
pub struct Interface {
    pub address: IpAddr,
    pub subnet: String,
    pub security_groups: Vec<String>,
    /// What the runner starts from, and keeps its index in; none if nothing says its name.
    pub bucket: Option<String>,
    pub logs: Logs,
    /// The version of the template that made it; 0 if it does not say.
    pub template: u32,
    /// The ARN of the stack that made it, if one did.
    pub stack: Option<String>,
}

/// Whether the runner's log goes to `CloudWatch`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Logs {
    Off,
    /// Into this group, if its name is known.
    On(Option<String>),
}

/// The runner's VPC, as its account describes it.
#[derive(Debug, Clone)]
pub struct Network {
    pub vpc: String,
    /// The account that shares the VPC with the runner's, by Resource Access Manager; none, if the VPC is its own.
    pub shared_by: Option<String>,
    pub runner: Interface,
    pub dns_support: bool,
    pub dns_hostnames: bool,
    pub subnets: Vec<Subnet>,
    pub route_tables: Vec<RouteTable>,
    pub security_groups: Vec<SecurityGroup>,
    pub network_acls: Vec<NetworkAcl>,
    pub endpoints: Vec<Endpoint>,
    /// The ranges of each prefix list that rules and routes name.
    pub prefix_lists: BTreeMap<String, Vec<Cidr>>,
    /// Free addresses of those subnets that instances are launched into and that there are.
    pub launch_subnets: BTreeMap<String, u32>,
}

#[derive(Debug, Clone)]
pub struct Subnet {
    pub id: String,
    pub free_addresses: u32,
    /// Its own, or the VPC's main one; none if that is not shown.
    pub route_table: Option<String>,
    pub network_acl: Option<String>,
}

#[derive(Debug, Clone)]
pub struct RouteTable {
    pub id: String,
    pub routes: Vec<Route>,
}

#[derive(Debug, Clone)]
pub struct Route {
    pub to: Peer,
    /// `local`, or the gateway's identifier: `tgw-`, `vgw-`, `pcx-`, `igw-`, `nat-`, `vpce-`.
    pub target: String,
    /// `false`: a blackhole, whose gateway is gone.
    pub active: bool,
}

/// The far side of a rule or a route.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Peer {
    Range(Cidr),
    PrefixList(String),
    /// Whoever has this security group.
    Group(String),
}

#[derive(Debug, Clone)]
pub struct SecurityGroup {
    pub id: String,
    pub inbound: Vec<SecurityRule>,
    pub outbound: Vec<SecurityRule>,
}

/// Of protocols, only TCP and "all" are kept: nothing else is needed.
#[derive(Debug, Clone)]
pub struct SecurityRule {
    pub ports: Ports,
    pub peer: Peer,
}

#[derive(Debug, Clone)]
pub struct NetworkAcl {
    pub id: String,
    /// In no order: their numbers are one.
    pub inbound: Vec<AclEntry>,
    pub outbound: Vec<AclEntry>,
}

/// Of protocols, only TCP and "all" are kept.
#[derive(Debug, Clone)]
pub struct AclEntry {
    pub number: u16,
    pub allows: bool,
    pub ports: Ports,
    pub with: Cidr,
}

#[derive(Debug, Clone)]
pub struct Endpoint {
    pub id: String,
    /// `com.amazonaws.eu-central-1.ebs`.
    pub service: String,
    pub state: EndpointState,
    pub kind: EndpointKind,
    pub policy: Policy,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum EndpointState {
    Available,
    /// Waits for its owner's word, is being made, was rejected or is going.
    NotAvailable,
}

#[derive(Debug, Clone)]
pub enum EndpointKind {
    Interface {
        private_dns: bool,
        security_groups: Vec<String>,
        /// Subnet and address of each network interface.
        interfaces: Vec<(String, IpAddr)>,
    },
    Gateway {
        route_tables: Vec<String>,
        prefix_list: String,
    },
}

/// What is asked of a network.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Rule {
    RunnerDeployed,
    TemplateIsCurrent,
    StackAsDeployed,
    SubnetKnown,
    SubnetHasAddresses,
    VpcResolvesNames,
    EndpointExists,
    EndpointIsAvailable,
    EndpointHasPrivateDns,
    EndpointAdmitsRunner,
    EndpointPolicyAllows,
    EndpointInRouteTable,
    RunnerAdmitsSources,
    RunnerMaySend,
    AclLetsIn,
    AclLetsOut,
    RouteBack,
    RouteToHub,
    /// Not a fault: what another account owns, and does not show.
    LookedAtByOwner,
}

/// One thing that keeps servers from being replicated.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Finding {
    pub rule: Rule,
    /// The identifier of what has to be changed.
    pub resource: String,
    /// What is the matter.
    pub text: String,
    /// What to change, in words.
    pub change: String,
}

impl Finding {
    /// Whether nothing is known to be wrong, and somebody else has to look.
    pub fn is_remark(&self) -> bool {
        self.rule == Rule::LookedAtByOwner
    }
}

//! A VPC that another account owns and shares by Resource Access Manager.
//!
//! The runner's account sees the subnets that are shared, the VPC with its attributes, route tables and network ACLs, and
//! changes none of them. Endpoints only the owner makes, and only the owner sees. Security groups and network interfaces
//! are the runner's account's own.
//! <https://docs.aws.amazon.com/vpc/latest/userguide/vpc-share-limitations.html>

use super::{Finding, Needs, Network, Peer, RouteTable, Rule, Subnet, rules::finding, services::called_by};

/// The change with whom to ask for it, where the resource is the owner's.
pub(super) fn by_its_owner(finding: Finding, network: &Network) -> Finding {
    let Some(owner) = network.shared_by.as_deref().filter(|_| is_owners(finding.rule)) else {
        return finding;
    };
    Finding {
        change: format!(
            "Ask account {owner}, which shares the VPC, to make this change: {}",
            finding.change
        ),
        ..finding
    }
}

fn is_owners(rule: Rule) -> bool {
    match rule {
        Rule::VpcResolvesNames
        | Rule::EndpointExists
        | Rule::EndpointIsAvailable
        | Rule::EndpointHasPrivateDns
        | Rule::EndpointPolicyAllows
        | Rule::EndpointInRouteTable
        | Rule::AclLetsIn
        | Rule::AclLetsOut
        | Rule::RouteBack
        | Rule::RouteToHub => true,
        // Its own stack and security groups; another subnet is for both to choose.
        Rule::RunnerDeployed
        | Rule::TemplateIsCurrent
        | Rule::StackAsDeployed
        | Rule::SubnetKnown
        | Rule::SubnetHasAddresses
        | Rule::EndpointAdmitsRunner
        | Rule::RunnerAdmitsSources
        | Rule::RunnerMaySend
        | Rule::LookedAtByOwner => false,
    }
}

/// What has to be there and only the owner sees; of a VPC that is not shared, nothing.
pub(super) fn not_shown(network: &Network, needs: &Needs, subnet: &Subnet) -> Option<Finding> {
    let owner = network.shared_by.as_deref()?;
    let address = network.runner.address;
    let (mut unseen, mut to_check) = (Vec::new(), Vec::new());
    for service in called_by(&network.runner) {
        if service.endpoints(network, needs).is_empty() {
            let name = service.full_name(needs);
            unseen.push(format!("the endpoint {name} of type {}", service.kind()));
        }
    }
    if !unseen.is_empty() {
        let table = subnet.route_table.as_deref();
        to_check.push(format!(
            "each endpoint is there and available, and its policy lets {} through; those of type Interface have private \
             DNS names, and security groups and network ACLs that let {address} in at TCP 443; that of type Gateway is in {}",
            needs.role,
            table.unwrap_or("the subnet's route table"),
        ));
    }
    let table = network.route_table(subnet);
    if table.is_none() {
        unseen.push(format!("the route table of {}", subnet.id));
        to_check.push("the subnet has routes to source servers and to the hub".into());
    }
    for list in table
        .map(|table| unknown_routes(network, table))
        .unwrap_or_default()
    {
        unseen.push(format!("the ranges of {list}, which a route is for"));
        to_check.push(format!(
            "source servers and the hub are in {list}, or have routes of their own"
        ));
    }
    if subnet.network_acl.is_none() {
        unseen.push(format!("the network ACL of {}", subnet.id));
        to_check.push("the network ACL lets through what the firewall request names".into());
    }
    (!unseen.is_empty()).then(|| {
        finding(
            Rule::LookedAtByOwner,
            &network.vpc,
            format!(
                "account {owner} shares this VPC and does not show {}, so that this was not looked at",
                unseen.join(", ")
            ),
            format!(
                "Ask account {owner}, which shares the VPC, to check that {}.",
                to_check.join("; that ")
            ),
        )
    })
}

/// The prefix lists that routes are for and whose ranges the owner does not share.
pub(super) fn unknown_routes<'a>(network: &Network, table: &'a RouteTable) -> Vec<&'a str> {
    if network.shared_by.is_none() {
        return Vec::new();
    }
    let is_known = |list: &str| {
        network
            .prefix_lists
            .get(list)
            .is_some_and(|ranges| !ranges.is_empty())
    };
    let lists = table.routes.iter().filter_map(|route| match &route.to {
        Peer::PrefixList(list) if !is_known(list) => Some(list.as_str()),
        _ => None,
    });
    lists.collect()
}

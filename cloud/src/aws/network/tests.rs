//! What EC2 says, in the words of the domain.

use aws_sdk_ec2::types::{
    GroupIdentifier, IpPermission, IpRange, Ipv6Range, NetworkAclAssociation, NetworkAclEntry, PortRange,
    PrefixListId, RouteState, RouteTableAssociation, RuleAction, SecurityGroupIdentifier, Tag,
    UserIdGroupPair,
};

use domain::network::policy::Policy;

use super::*;

fn cidr(text: &str) -> Cidr {
    text.parse().unwrap()
}

#[test]
fn the_runners_interface_says_where_it_is() {
    let tag = |key: &str| Tag::builder().key(key).value("1").build();
    let found = types::NetworkInterface::builder()
        .network_interface_id("eni-1")
        .vpc_id("vpc-1")
        .subnet_id("subnet-1")
        .private_ip_address("10.20.0.7")
        .groups(GroupIdentifier::builder().group_id("sg-1").build());
    let (vpc, interface) = runner(found.clone().tag_set(tag(TEMPLATE_TAG)).build()).unwrap();
    assert_eq!((vpc.as_str(), interface.subnet.as_str()), ("vpc-1", "subnet-1"));
    assert_eq!(interface.address, IpAddr::from([10, 20, 0, 7]));
    assert_eq!(interface.security_groups, ["sg-1"]);
    assert_eq!((interface.bucket, interface.logs), (None, Logs::Off));
    assert_eq!((interface.template, interface.stack), (1, None));
    let with_logs = found.clone().tag_set(tag(LOGS_TAG)).tag_set(tag(BUCKET_TAG));
    let (_, with_logs) = runner(with_logs.build()).unwrap();
    assert_eq!(with_logs.logs, Logs::On(Some("1".into())));
    assert_eq!(with_logs.bucket.as_deref(), Some("1"));
    let strange = Tag::builder().key(BUCKET_TAG).value("a\"b").build();
    let (_, strange) = runner(found.clone().tag_set(strange).build()).unwrap();
    assert_eq!(strange.bucket, None);
    assert_eq!(with_logs.template, 0, "it does not say");
    let (_, of_stack) = runner(found.clone().tag_set(tag(STACK_TAG)).build()).unwrap();
    assert_eq!(of_stack.stack.as_deref(), Some("1"));
    assert!(runner(found.private_ip_address("").build()).is_none());
}

#[test]
fn a_subnet_has_its_own_route_table_or_the_main_one() {
    let table = |id: &str, association: types::builders::RouteTableAssociationBuilder| {
        types::RouteTable::builder()
            .route_table_id(id)
            .associations(association.build())
            .build()
    };
    let tables = [
        table("rtb-main", RouteTableAssociation::builder().main(true)),
        table("rtb-own", RouteTableAssociation::builder().subnet_id("subnet-1")),
    ];
    let with = |subnet: &str| NetworkAclAssociation::builder().subnet_id(subnet).build();
    let acl = types::NetworkAcl::builder().network_acl_id("acl-1");
    let acls = [acl
        .associations(with("subnet-1"))
        .associations(with("subnet-2"))
        .build()];
    let of = |id: &str| {
        let found = types::Subnet::builder()
            .subnet_id(id)
            .available_ip_address_count(7)
            .build();
        subnet(&found, &tables, &acls)
    };
    assert_eq!(of("subnet-1").unwrap().route_table.as_deref(), Some("rtb-own"));
    let main = of("subnet-2").unwrap();
    assert_eq!(
        (main.route_table.as_deref(), main.network_acl.as_deref()),
        (Some("rtb-main"), Some("acl-1"))
    );
    assert_eq!(main.free_addresses, 7);
    assert_eq!(of("subnet-of-no-acl").unwrap().network_acl, None);
}

#[test]
fn a_subnet_of_another_account_is_shared() {
    let place = Place::direct("111122223333".parse().unwrap(), "eu-central-1");
    let of = |account: &str| {
        let subnet = types::Subnet::builder()
            .subnet_id("subnet-1")
            .owner_id(account)
            .build();
        owner(&place, "subnet-1", &[subnet])
    };
    assert_eq!(of("444455556666").as_deref(), Some("444455556666"));
    assert_eq!(of("111122223333"), None);
    assert_eq!(of("nobody"), None);
    assert_eq!(owner(&place, "subnet-1", &[]), None);
}

#[test]
fn routes_are_taken_with_whatever_they_lead_to() {
    let to = |range: &str| types::Route::builder().destination_cidr_block(range);
    let tgw = route(&to("192.168.0.0/16").transit_gateway_id("tgw-1").build()).unwrap();
    assert_eq!((tgw.target.as_str(), tgw.active), ("tgw-1", true));
    let gone = to("10.9.0.0/24")
        .vpc_peering_connection_id("pcx-1")
        .state(RouteState::Blackhole);
    assert!(!route(&gone.build()).unwrap().active);
    let by_list = types::Route::builder()
        .destination_prefix_list_id("pl-s3")
        .gateway_id("vpce-s3")
        .build();
    assert_eq!(route(&by_list).unwrap().to, Peer::PrefixList("pl-s3".into()));
    let v6 = types::Route::builder()
        .destination_ipv6_cidr_block("fd00::/8")
        .gateway_id("local")
        .build();
    assert_eq!(route(&v6).unwrap().to, Peer::Range(cidr("fd00::/8")));
    assert!(route(&to("not a range").gateway_id("local").build()).is_none());
    assert!(route(&to("10.0.0.0/8").build()).is_none(), "it leads nowhere");
}

#[test]
fn a_security_group_has_one_rule_for_each_peer_and_none_of_other_protocols() {
    let permission = IpPermission::builder()
        .ip_protocol("tcp")
        .from_port(443)
        .to_port(444)
        .ip_ranges(IpRange::builder().cidr_ip("10.0.0.0/8").build())
        .ipv6_ranges(Ipv6Range::builder().cidr_ipv6("fd00::/8").build())
        .prefix_list_ids(PrefixListId::builder().prefix_list_id("pl-1").build())
        .user_id_group_pairs(UserIdGroupPair::builder().group_id("sg-2").build());
    let others = ["udp", "icmp", "17", "58"].map(|protocol| permission.clone().ip_protocol(protocol).build());
    let all = IpPermission::builder()
        .ip_protocol("-1")
        .ip_ranges(IpRange::builder().cidr_ip("0.0.0.0/0").build())
        .build();
    let found = types::SecurityGroup::builder()
        .group_id("sg-1")
        .set_ip_permissions(Some([&[permission.build()], &others[..]].concat()))
        .ip_permissions_egress(all)
        .build();
    let group = security_group(&found).unwrap();
    let peers: Vec<_> = group.inbound.iter().map(|rule| rule.peer.clone()).collect();
    assert_eq!(
        peers,
        [
            Peer::Range(cidr("10.0.0.0/8")),
            Peer::Range(cidr("fd00::/8")),
            Peer::PrefixList("pl-1".into()),
            Peer::Group("sg-2".into()),
        ]
    );
    assert!(group.inbound.iter().all(|rule| rule.ports == (443..=444)));
    assert_eq!(group.outbound[0].ports, ALL_PORTS);
}

#[test]
fn an_acl_is_split_by_direction() {
    let entry = |number, egress, protocol: &str| {
        NetworkAclEntry::builder()
            .rule_number(number)
            .egress(egress)
            .protocol(protocol)
            .rule_action(if number == 32767 {
                RuleAction::Deny
            } else {
                RuleAction::Allow
            })
            .cidr_block("0.0.0.0/0")
            .port_range(PortRange::builder().from(1024).to(65535).build())
            .build()
    };
    let entries = [
        entry(100, false, "6"),
        entry(110, true, "6"),
        entry(120, true, "17"),
        entry(32767, true, "-1"),
    ];
    let found = types::NetworkAcl::builder()
        .network_acl_id("acl-1")
        .set_entries(Some(entries.to_vec()))
        .build();
    let acl = network_acl(&found).unwrap();
    let seen = |entries: &[AclEntry]| -> Vec<_> {
        entries
            .iter()
            .map(|one| (one.number, one.allows, one.ports.clone()))
            .collect()
    };
    assert_eq!(seen(&acl.inbound), [(100, true, 1024..=65535)]);
    assert_eq!(
        seen(&acl.outbound),
        [(110, true, 1024..=65535), (32767, false, ALL_PORTS)]
    );
}

#[test]
fn endpoints_are_taken_with_their_interfaces_or_their_lists() {
    let service = |name: &str| {
        types::VpcEndpoint::builder()
            .vpc_endpoint_id("vpce-1")
            .service_name(name)
    };
    let interfaces = HashMap::from([(
        "eni-1".to_owned(),
        ("subnet-1".to_owned(), IpAddr::from([10, 20, 0, 9])),
    )]);
    let lists = HashMap::from([("com.amazonaws.eu-central-1.s3".to_owned(), "pl-s3".to_owned())]);
    let ebs = service("com.amazonaws.eu-central-1.ebs")
        .vpc_endpoint_type(VpcEndpointType::Interface)
        .state(State::from("available"))
        .private_dns_enabled(true)
        .groups(SecurityGroupIdentifier::builder().group_id("sg-1").build())
        .network_interface_ids("eni-1")
        .network_interface_ids("eni-of-yesterday");
    let taken = endpoint(&ebs.clone().build(), &interfaces, &lists).unwrap();
    assert_eq!(
        (taken.state, &taken.policy),
        (EndpointState::Available, &Policy::everything())
    );
    let EndpointKind::Interface {
        private_dns,
        security_groups,
        interfaces: there,
    } = taken.kind
    else {
        panic!("{taken:?}");
    };
    assert!(private_dns);
    assert_eq!(security_groups, ["sg-1"]);
    assert_eq!(there, [("subnet-1".to_owned(), IpAddr::from([10, 20, 0, 9]))]);
    let waiting = endpoint(
        &ebs.clone().state(State::from("pendingAcceptance")).build(),
        &interfaces,
        &lists,
    );
    assert_eq!(waiting.unwrap().state, EndpointState::NotAvailable);
    let other = ebs
        .vpc_endpoint_type(VpcEndpointType::GatewayLoadBalancer)
        .build();
    assert!(endpoint(&other, &interfaces, &lists).is_none());
    let s3 = service("com.amazonaws.eu-central-1.s3")
        .vpc_endpoint_type(VpcEndpointType::Gateway)
        .route_table_ids("rtb-1")
        .build();
    let EndpointKind::Gateway {
        route_tables,
        prefix_list,
    } = endpoint(&s3, &interfaces, &lists).unwrap().kind
    else {
        panic!("a gateway");
    };
    assert_eq!(
        (route_tables, prefix_list.as_str()),
        (vec!["rtb-1".to_owned()], "pl-s3")
    );
}

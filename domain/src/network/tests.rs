//! A sound network, and every way to break one thing of it.

use std::fmt::Write as _;

use super::{
    permits::ALL_PORTS,
    policy::{Condition, Effect, Element, Statement},
    *,
};

const REGION: &str = "ap-northeast-1";
const ROLE: &str = "arn:aws:iam::111122223333:role/OrgliftRunner-ap-northeast-1";

fn cidr(text: &str) -> Cidr {
    text.parse().unwrap()
}

fn needs() -> Needs {
    Needs {
        region: REGION.into(),
        partition: "aws",
        account: "111122223333".into(),
        role: ROLE.into(),
        data_port: 1500,
        enrol_port: 443,
        sources: vec![cidr("192.168.0.0/16")],
        hub: Some("10.9.0.4:8443".parse().unwrap()),
        launch_subnets: vec!["subnet-test".into(), "subnet-target".into()],
        template: 3,
    }
}

fn rule(port: u16, peer: Peer) -> SecurityRule {
    SecurityRule {
        ports: port..=port,
        peer,
    }
}

fn range(port: u16, with: &str) -> SecurityRule {
    rule(port, Peer::Range(cidr(with)))
}

fn entry(number: u16, ports: Ports, with: &str) -> AclEntry {
    AclEntry {
        number,
        allows: true,
        ports,
        with: cidr(with),
    }
}

fn route(to: Peer, target: &str) -> Route {
    Route {
        to,
        target: target.into(),
        active: true,
    }
}

fn endpoint(service: &str, kind: EndpointKind) -> Endpoint {
    Endpoint {
        id: format!("vpce-{service}"),
        service: format!("com.amazonaws.{REGION}.{service}"),
        state: EndpointState::Available,
        kind,
        policy: Policy::everything(),
    }
}

fn interface(service: &str, group: &str, subnet: &str, address: &str) -> Endpoint {
    let kind = EndpointKind::Interface {
        private_dns: true,
        security_groups: vec![group.into()],
        interfaces: vec![(subnet.into(), address.parse().unwrap())],
    };
    endpoint(service, kind)
}

/// The tables of a private network, for what Orglift needs. Each rule lets through one thing, so that each can be
/// missed alone; one endpoint has a subnet of its own.
fn sound() -> Network {
    let s3 = || Peer::PrefixList("pl-s3".into());
    let ebs_group = || Peer::Group("sg-ebs".into());
    let staging = NetworkAcl {
        id: "acl-staging".into(),
        inbound: vec![
            entry(100, 1500..=1500, "192.168.0.0/16"),
            entry(110, 443..=443, "192.168.0.0/16"),
            entry(120, 1024..=65535, "10.9.0.4"),
            entry(130, 1024..=65535, "10.20.1.0/24"),
            entry(140, 1024..=65535, "52.219.0.0/16"),
        ],
        outbound: vec![
            entry(100, 1024..=65535, "192.168.0.0/16"),
            entry(110, 8443..=8443, "10.9.0.4"),
            entry(120, 443..=443, "10.20.1.0/24"),
            entry(130, 443..=443, "52.219.0.0/16"),
        ],
    };
    let endpoints = NetworkAcl {
        id: "acl-endpoints".into(),
        inbound: vec![entry(100, 443..=443, "10.20.0.0/24")],
        outbound: vec![entry(100, 1024..=65535, "10.20.0.0/24")],
    };
    let group = |id: &str, inbound, outbound| SecurityGroup {
        id: id.into(),
        inbound,
        outbound,
    };
    let subnet = |id: &str, network_acl: &str| Subnet {
        id: id.into(),
        free_addresses: 200,
        route_table: Some("rtb-staging".into()),
        network_acl: Some(network_acl.into()),
    };
    Network {
        vpc: "vpc-1".into(),
        shared_by: None,
        runner: Interface {
            address: "10.20.0.7".parse().unwrap(),
            subnet: "subnet-staging".into(),
            security_groups: vec!["sg-runner".into()],
            bucket: Some("member-bucket".into()),
            logs: Logs::On(Some("member-log".into())),
            template: 3,
            stack: Some("arn:aws:cloudformation:eu-central-1:111122223333:stack/orglift-member/1".into()),
        },
        dns_support: true,
        dns_hostnames: true,
        subnets: vec![
            subnet("subnet-staging", "acl-staging"),
            subnet("subnet-endpoints", "acl-endpoints"),
        ],
        route_tables: vec![RouteTable {
            id: "rtb-staging".into(),
            routes: vec![
                route(Peer::Range(cidr("10.20.0.0/16")), "local"),
                route(Peer::Range(cidr("192.168.0.0/16")), "tgw-1"),
                route(Peer::Range(cidr("10.9.0.0/24")), "pcx-1"),
                route(s3(), "vpce-s3"),
            ],
        }],
        security_groups: vec![
            group(
                "sg-runner",
                vec![range(1500, "192.168.0.0/16"), range(443, "192.168.0.0/16")],
                vec![
                    range(8443, "10.9.0.4"),
                    rule(443, ebs_group()),
                    range(443, "10.20.0.0/25"),
                    rule(443, s3()),
                ],
            ),
            group(
                "sg-ebs",
                vec![rule(443, Peer::Group("sg-runner".into()))],
                Vec::new(),
            ),
            group("sg-sts", vec![range(443, "10.20.0.0/24")], Vec::new()),
        ],
        network_acls: vec![staging, endpoints],
        endpoints: vec![
            interface("ebs", "sg-ebs", "subnet-endpoints", "10.20.1.9"),
            interface("sts", "sg-sts", "subnet-staging", "10.20.0.20"),
            interface("logs", "sg-sts", "subnet-staging", "10.20.0.21"),
            endpoint(
                "s3",
                EndpointKind::Gateway {
                    route_tables: vec!["rtb-staging".into()],
                    prefix_list: "pl-s3".into(),
                },
            ),
        ],
        prefix_lists: BTreeMap::from([("pl-s3".into(), vec![cidr("52.219.0.0/16")])]),
        launch_subnets: BTreeMap::from([("subnet-test".into(), 90), ("subnet-target".into(), 1)]),
    }
}

#[test]
fn a_sound_network_has_no_finding() {
    assert_eq!(findings(&sound(), &needs()), []);
    // Defaults of AWS: all ACLs and outbound rules open.
    let mut open = sound();
    for acl in &mut open.network_acls {
        acl.inbound = vec![entry(100, ALL_PORTS, "0.0.0.0/0")];
        acl.outbound = acl.inbound.clone();
    }
    open.security_groups[0].outbound = vec![SecurityRule {
        ports: ALL_PORTS,
        peer: Peer::Range(Cidr::ANY_V4),
    }];
    assert_eq!(findings(&open, &needs()), []);
}

fn without<T>(list: &mut Vec<T>, at: usize) {
    list.remove(at);
}

fn one_of(values: &[&str]) -> Element {
    Element::OneOf(values.iter().map(|&value| value.to_owned()).collect())
}

type Break = fn(&mut Network);

fn private_dns(network: &mut Network, on: bool) {
    let EndpointKind::Interface { private_dns, .. } = &mut network.endpoints[0].kind else {
        unreachable!("it is the endpoint ebs");
    };
    *private_dns = on;
}

fn deny(number: u16, ports: Ports, with: &str) -> AclEntry {
    AclEntry {
        allows: false,
        ..entry(number, ports, with)
    }
}

const BROKEN: [(&str, Break); 44] = [
    ("no subnet", |n| without(&mut n.subnets, 0)),
    ("a full subnet", |n| n.subnets[0].free_addresses = 1),
    ("no name service", |n| n.dns_support = false),
    ("no names of hosts", |n| n.dns_hostnames = false),
    ("no endpoint ebs", |n| without(&mut n.endpoints, 0)),
    ("no endpoint sts", |n| without(&mut n.endpoints, 1)),
    ("no endpoint logs", |n| without(&mut n.endpoints, 2)),
    ("no endpoint s3", |n| without(&mut n.endpoints, 3)),
    ("endpoint s3 of the other type", |n| {
        n.endpoints[3] = interface("s3", "sg-sts", "subnet-staging", "10.20.0.22");
    }),
    ("endpoint of another region", |n| {
        n.endpoints[0].service = "com.amazonaws.us-east-1.ebs".into();
    }),
    ("endpoint not accepted", |n| {
        n.endpoints[1].state = EndpointState::NotAvailable;
    }),
    ("private DNS off", |n| private_dns(n, false)),
    ("endpoint policy without a write", |n| {
        n.endpoints[0].policy.0[0].action = one_of(&["ebs:Get*", "ebs:List*", "ebs:St?rtSnapshot"]);
    }),
    ("endpoint policy that denies", |n| {
        let policy = &mut n.endpoints[0].policy.0;
        policy.push(Statement {
            effect: Effect::Deny,
            sid: Some("NoBlocks".into()),
            action: one_of(&["ebs:*SnapshotBlock"]),
            ..policy[0].clone()
        });
    }),
    ("endpoint policy for another bucket", |n| {
        n.endpoints[3].policy.0[0].resource = one_of(&["arn:aws:s3:::packages", "arn:aws:s3:::packages/*"]);
    }),
    ("endpoint policy for another principal", |n| {
        n.endpoints[1].policy.0[0].principal = one_of(&["arn:aws:iam::111122223333:role/Backup"]);
    }),
    ("endpoint policy for an organization", |n| {
        n.endpoints[2].policy.0[0].conditions = vec![Condition {
            operator: "StringEquals".into(),
            key: "aws:PrincipalOrgID".into(),
            values: vec!["o-1".into()],
        }];
    }),
    ("endpoint policy that cannot be read", |n| {
        n.endpoints[0].policy = Policy::unreadable();
    }),
    ("endpoint group for others", |n| {
        n.security_groups[1].inbound = vec![rule(443, Peer::Group("sg-other".into()))];
    }),
    ("endpoint group for another port", |n| {
        n.security_groups[1].inbound[0].ports = 80..=80;
    }),
    ("gateway in another route table", |n| {
        n.endpoints[3].kind = EndpointKind::Gateway {
            route_tables: vec!["rtb-other".into()],
            prefix_list: "pl-s3".into(),
        };
    }),
    ("runner group without 1500", |n| {
        without(&mut n.security_groups[0].inbound, 0);
    }),
    ("runner group without 443", |n| {
        without(&mut n.security_groups[0].inbound, 1);
    }),
    ("runner group for half of the sources", |n| {
        n.security_groups[0].inbound[0] = range(1500, "192.168.0.0/17");
    }),
    ("runner group without the hub", |n| {
        without(&mut n.security_groups[0].outbound, 0);
    }),
    ("runner group without ebs", |n| {
        without(&mut n.security_groups[0].outbound, 1);
    }),
    ("runner group without s3", |n| {
        without(&mut n.security_groups[0].outbound, 3);
    }),
    ("ACL without 1500", |n| without(&mut n.network_acls[0].inbound, 0)),
    ("ACL without 443", |n| without(&mut n.network_acls[0].inbound, 1)),
    ("ACL without answers of the hub", |n| {
        without(&mut n.network_acls[0].inbound, 2);
    }),
    ("ACL without answers of ebs", |n| {
        without(&mut n.network_acls[0].inbound, 3);
    }),
    ("ACL without answers of s3", |n| {
        without(&mut n.network_acls[0].inbound, 4);
    }),
    ("ACL without answers to sources", |n| {
        without(&mut n.network_acls[0].outbound, 0);
    }),
    ("ACL with answers to too few ports", |n| {
        n.network_acls[0].outbound[0].ports = 32768..=65535;
    }),
    ("ACL without the hub", |n| {
        without(&mut n.network_acls[0].outbound, 1);
    }),
    ("ACL that denies some sources first", |n| {
        n.network_acls[0]
            .inbound
            .push(deny(50, 1024..=2047, "192.168.7.0/24"));
    }),
    ("ACL of the endpoint without the runner", |n| {
        n.network_acls[1].inbound.clear();
    }),
    ("ACL of the endpoint without the way back", |n| {
        n.network_acls[1].outbound.clear();
    }),
    ("no route back", |n| without(&mut n.route_tables[0].routes, 1)),
    ("route back to the internet", |n| {
        n.route_tables[0].routes[1] = route(Peer::Range(Cidr::ANY_V4), "nat-1");
    }),
    ("route back into a blackhole", |n| {
        n.route_tables[0].routes[1].active = false;
    }),
    ("no route to the hub", |n| {
        without(&mut n.route_tables[0].routes, 2);
    }),
    ("no subnet for tests", |n| {
        n.launch_subnets.remove("subnet-test");
    }),
    ("a full subnet for cutovers", |n| {
        n.launch_subnets.insert("subnet-target".into(), 0);
    }),
];

#[test]
fn in_china_some_names_of_endpoints_begin_with_the_country() {
    let mut network = sound();
    for endpoint in network.endpoints.iter_mut().step_by(2) {
        endpoint.service.insert_str(0, "cn.");
    }
    assert_eq!(findings(&network, &needs()), []);
}

#[test]
fn each_break_has_one_finding_that_names_it() {
    let mut told = String::new();
    for (what, break_it) in BROKEN {
        let mut network = sound();
        break_it(&mut network);
        let found = findings(&network, &needs());
        let [finding] = &found[..] else {
            panic!("{what}: {found:#?}");
        };
        let Finding {
            rule,
            resource,
            text,
            change,
        } = finding;
        // Writing to a String cannot fail.
        let _ = writeln!(told, "{what}\n    {rule:?}: {resource}: {text}\n    {change}");
    }
    insta::assert_snapshot!(told);
}

/// As a participant sees it: with no endpoint, and no subnet but those that are shared.
fn shared() -> Network {
    let mut network = sound();
    network.shared_by = Some("444455556666".into());
    network.endpoints.clear();
    network.subnets.truncate(1);
    network
}

#[test]
fn what_another_account_owns_is_for_that_account_to_change() {
    let only = |break_it: Break| {
        let mut network = shared();
        break_it(&mut network);
        let mut found = findings(&network, &needs());
        found.retain(|one| !one.is_remark());
        assert_eq!(found.len(), 1, "{found:?}");
        found.remove(0).change
    };
    let owners: [Break; 6] = [
        |n| n.dns_support = false,
        |n| without(&mut n.route_tables[0].routes, 1),
        |n| without(&mut n.route_tables[0].routes, 2),
        |n| {
            n.network_acls[0]
                .inbound
                .push(deny(50, 1500..=1500, "192.168.7.0/24"));
        },
        |n| without(&mut n.network_acls[0].outbound, 0),
        |n| {
            n.endpoints = sound().endpoints;
            private_dns(n, false);
        },
    ];
    for break_it in owners {
        let change = only(break_it);
        assert!(
            change.starts_with("Ask account 444455556666, which shares the VPC, "),
            "{change}"
        );
    }
    let own: [Break; 3] = [
        |n| without(&mut n.security_groups[0].inbound, 0),
        |n| without(&mut n.security_groups[0].outbound, 0),
        |n| n.subnets[0].free_addresses = 0,
    ];
    for break_it in own {
        let change = only(break_it);
        assert!(!change.contains("Ask account"), "{change}");
    }
}

#[test]
fn what_the_owner_does_not_show_is_not_missing() {
    let remark = |network: &Network| {
        let found = findings(network, &needs());
        assert!(
            found.iter().all(Finding::is_remark) && found.len() == 1,
            "{found:?}"
        );
        let Finding {
            resource,
            text,
            change,
            ..
        } = &found[0];
        format!("{resource}: {text}\n    {change}\n")
    };
    let mut told = remark(&shared());
    let mut network = shared();
    network.subnets[0].route_table = None;
    network.subnets[0].network_acl = None;
    network.runner.logs = Logs::Off;
    told += &remark(&network);
    let mut network = shared();
    network.route_tables[0].routes[1].to = Peer::PrefixList("pl-of-the-owner".into());
    told += &remark(&network);
    insta::assert_snapshot!(told);
    // All that there is to see is in order.
    let mut network = sound();
    network.shared_by = Some("444455556666".into());
    assert_eq!(findings(&network, &needs()), []);
    // And where nobody else owns the VPC, what is not there is missing.
    let mut network = shared();
    network.shared_by = None;
    assert_eq!(findings(&network, &needs()).len(), 4);
}

#[test]
fn what_was_not_chosen_is_not_asked_for() {
    let mut network = sound();
    network.endpoints.remove(2);
    network.runner.logs = Logs::Off;
    assert_eq!(findings(&network, &needs()), []);
}

#[test]
fn what_nobody_knows_is_not_asked_for() {
    let mut network = sound();
    // No way in from sources, none out to the hub.
    network.security_groups[0].inbound.clear();
    network.security_groups[0].outbound.remove(0);
    network.route_tables[0].routes.truncate(1);
    let needs = Needs {
        sources: Vec::new(),
        hub: None,
        ..needs()
    };
    assert_eq!(findings(&network, &needs), []);
}

#[test]
fn a_bucket_whose_name_is_not_known_may_be_one_that_a_policy_names() {
    let mut network = sound();
    network.endpoints[3].policy.0[0].resource = one_of(&["arn:aws:s3:::member-bucket*"]);
    assert_eq!(findings(&network, &needs()), []);
    network.runner.bucket = None;
    let [told] = &findings(&network, &needs())[..] else {
        panic!("one reason");
    };
    assert!(
        told.text.starts_with("it is not known whether statement 1"),
        "{told:?}"
    );
    network.endpoints[3].policy.0[0].resource = one_of(&["arn:aws:s3:::*"]);
    assert_eq!(findings(&network, &needs()), []);
}

#[test]
fn a_second_endpoint_that_works_is_enough() {
    let mut network = sound();
    let mut idle = network.endpoints[0].clone();
    idle.id = "vpce-idle".into();
    idle.state = EndpointState::NotAvailable;
    network.endpoints.push(idle);
    assert_eq!(findings(&network, &needs()), []);
}

#[test]
fn an_older_template_is_to_be_deployed_anew() {
    let mut network = sound();
    network.runner.template = 2;
    let [told] = &findings(&network, &needs())[..] else {
        panic!("nothing else is the matter");
    };
    assert_eq!(told.rule, Rule::TemplateIsCurrent);
    assert!(told.resource.contains("stack/orglift-member"), "{told:?}");
    assert!(
        told.text.starts_with("version 2 of the onboarding template"),
        "{told:?}"
    );
    assert!(told.change.starts_with("Deploy version 3"), "{told:?}");
    network.runner.template = 4;
    assert_eq!(findings(&network, &needs()), [], "another hub may be newer");
}

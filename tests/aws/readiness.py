"""Networks around runners, made by the onboarding template, read by `orglift-hub readiness`, and broken thing by thing.

The rows are those of the tables for a private network: endpoints with their private names, security groups and
route tables; the runner's security group; the routes; and the network ACL. moto cannot show an endpoint that is not
available, a full subnet, a route into a blackhole, or an endpoint in a subnet with an ACL of its own: those rows are
in the tests of the rules themselves, `domain/src/network/tests.rs`.
"""

import json
import os
import subprocess
import unittest
from pathlib import Path

import onboarding
from clients import ENDPOINT, REGION, Case, client, control
from onboarding import EXTERNAL_ID, MEMBER, hub

SOURCES = ["10.20.0.0/16", "192.168.7.9/32"]
HUB_ADDRESS = "10.1.2.3"
ALLOW = {"Effect": "Allow", "Principal": "*", "Action": "*", "Resource": "*"}
DENY = {**ALLOW, "Effect": "Deny"}
EVERYTHING = json.dumps({"Statement": [ALLOW]})
READY, NOT_READY = 0, 5
NO_DRIFT = {"service": "cloudformation", "action": "DetectStackDrift", "effect": {"type": "deny"}}


def only_if(operator, key, value):
    return {"Condition": {operator: {key: value}}}


def tcp(port, **peer):
    return [{"IpProtocol": "tcp", "FromPort": port, "ToPort": port, **peer}]


def of_range(port, cidr):
    return tcp(port, IpRanges=[{"CidrIp": cidr}])


def of_group(port, group):
    return tcp(port, UserIdGroupPairs=[{"GroupId": group}])


class Readiness(Case):
    deploy = onboarding.Onboarding.deploy
    delete_stacks = onboarding.Onboarding.delete_stacks
    made = onboarding.Onboarding.made

    def setUp(self):
        onboarding.Onboarding.setUp(self)
        session = hub()
        self.environment = {
            "PATH": os.environ["PATH"],
            "AWS_ACCESS_KEY_ID": session["AccessKeyId"],
            "AWS_SECRET_ACCESS_KEY": session["SecretAccessKey"],
            "AWS_SESSION_TOKEN": session["SessionToken"],
            "AWS_EC2_METADATA_DISABLED": "true",
        }
        roster = ["--reach", "roster", "--region", REGION, "--account", f"{MEMBER}=tenant"]
        way = ["--external-id", EXTERNAL_ID, "--endpoint-url", ENDPOINT]
        done = self.program("organization", "add", "--name", "Tenant", *roster, *way)
        self.assertEqual(done.returncode, 0, done.stderr)

    def program(self, *args):
        command = [os.environ["ORGLIFT_HUB"], *args, "--dir", Path(self.folder) / "hub"]
        return subprocess.run(
            command, env=self.environment, capture_output=True, text=True, timeout=60, check=False
        )

    def readiness(self, *more):
        """Exit code, outcome, and what was printed."""
        report = Path(self.folder) / "report.json"
        done = self.program("readiness", "--cloud", "aws", "--account", MEMBER, "--json", report, *more)
        self.assertTrue(report.exists(), done.stderr)
        [row] = json.loads(report.read_text())
        self.assertEqual((row["account"], row["region"]), (MEMBER, REGION))
        return done.returncode, row["outcome"], done.stdout

    def drift(self):
        """What is not as it was deployed: names in the template, and the text."""
        report = Path(self.folder) / "report.json"
        done = self.program("readiness", "--cloud", "aws", "--account", MEMBER, "--json", report)
        [row] = json.loads(report.read_text())
        self.assertEqual(row["drift"]["now"], "idle", row["drift"])
        findings = row["drift"]["compared"]["findings"]
        for finding in findings:
            self.assertEqual(finding["rule"], "stack-as-deployed")
            self.assertIn(finding["text"], done.stdout)
        return {finding["text"].split(" ")[0]: finding for finding in findings}

    def found(self, *more):
        code, outcome, _ = self.readiness(*more)
        findings = outcome["checked"]["findings"]
        self.assertEqual(code, NOT_READY if findings else READY)
        return findings

    def sound(self):
        """What the template makes, in a network as an administrator prepares it."""
        ec2 = client("ec2", MEMBER)
        name = [{"Name": "prefix-list-name", "Values": [f"com.amazonaws.{REGION}.s3"]}]
        [s3] = ec2.describe_managed_prefix_lists(Filters=name)["PrefixLists"]
        self.prefix_list = s3["PrefixListId"]
        # moto gives endpoints addresses of the whole range.
        answers = {"EndpointRange": "10.0.0.0/8", "S3PrefixListId": self.prefix_list}
        self.deploy("--account", MEMBER, "--hub-range", f"{HUB_ADDRESS}/32", "--feature", "logs", **answers)
        self.runner_group = self.made("RunnerSecurityGroup")
        self.common_group = self.made("EndpointSecurityGroup")
        self.bucket, self.log_group = self.made("Bucket"), self.made("LogGroup")
        interface = self.made("RunnerInterface")
        # moto's templates leave out what a security group lets out, and groups and tags of an interface.
        everything = [{"IpProtocol": "-1", "IpRanges": [{"CidrIp": "0.0.0.0/0"}]}]
        ec2.revoke_security_group_egress(GroupId=self.runner_group, IpPermissions=everything)
        self.to_s3 = tcp(443, PrefixListIds=[{"PrefixListId": self.prefix_list}])
        for rule in [of_range(8443, f"{HUB_ADDRESS}/32"), of_range(443, "10.0.0.0/8"), self.to_s3]:
            ec2.authorize_security_group_egress(GroupId=self.runner_group, IpPermissions=rule)
        ec2.modify_network_interface_attribute(NetworkInterfaceId=interface, Groups=[self.runner_group])
        self.assertEqual(self.found()[0]["rule"], "runner-deployed")
        self.tagged()
        [shown] = ec2.describe_network_interfaces(NetworkInterfaceIds=[interface])["NetworkInterfaces"]
        self.address, self.subnet = shown["PrivateIpAddress"], shown["SubnetId"]
        ec2.modify_vpc_attribute(VpcId=self.vpc, EnableDnsHostnames={"Value": True})
        in_vpc = [{"Name": "vpc-id", "Values": [self.vpc]}]
        tables = ec2.describe_route_tables(Filters=in_vpc)["RouteTables"]
        [own] = [table for table in tables if not any(one["Main"] for one in table["Associations"])]
        self.table = own["RouteTableId"]
        ec2.associate_route_table(RouteTableId=self.table, SubnetId=self.subnet)
        self.gateway = ec2.create_transit_gateway()["TransitGateway"]["TransitGatewayId"]
        for cidr in [*SOURCES, f"{HUB_ADDRESS}/32"]:
            ec2.create_route(RouteTableId=self.table, DestinationCidrBlock=cidr, TransitGatewayId=self.gateway)
        [acl] = ec2.describe_network_acls(Filters=in_vpc)["NetworkAcls"]
        self.acl = acl["NetworkAclId"]
        self.endpoints = {}
        for point in ec2.describe_vpc_endpoints(Filters=in_vpc)["VpcEndpoints"]:
            # moto's templates keep a policy in a form that is not JSON.
            ec2.modify_vpc_endpoint(VpcEndpointId=point["VpcEndpointId"], PolicyDocument=EVERYTHING)
            self.endpoints[point["ServiceName"].split(".")[-1]] = point
        self.ec2 = ec2

    def delete_endpoint(self, service):
        endpoint = self.endpoints[service]
        if endpoint["VpcEndpointType"] == "Gateway":
            # moto would look for routes of the gateway that it does not find.
            change = {"VpcEndpointId": endpoint["VpcEndpointId"], "RemoveRouteTableIds": [self.table]}
            self.ec2.modify_vpc_endpoint(**change)
        self.ec2.delete_vpc_endpoints(VpcEndpointIds=[endpoint["VpcEndpointId"]])

    def make_endpoint(self, service, kind="Interface", dns=True):
        there = {"SubnetIds": [self.subnet], "SecurityGroupIds": [self.common_group], "PrivateDnsEnabled": dns}
        if kind == "Gateway":
            there = {"RouteTableIds": [self.table]}
        self.endpoints[service] = self.ec2.create_vpc_endpoint(
            VpcId=self.vpc,
            VpcEndpointType=kind,
            ServiceName=f"com.amazonaws.{REGION}.{service}",
            PolicyDocument=EVERYTHING,
            **there,
        )["VpcEndpoint"]

    def without_endpoint(self, service, kind):
        self.delete_endpoint(service)
        yield self.vpc, "endpoint-exists", f"Create the endpoint com.amazonaws.{REGION}.{service}, of type {kind}."
        self.make_endpoint(service, kind)

    def without_private_names(self, service):
        self.delete_endpoint(service)
        self.make_endpoint(service, dns=False)
        yield (
            self.endpoints[service]["VpcEndpointId"],
            "endpoint-has-private-dns",
            "Enable private DNS names for the endpoint.",
        )
        self.delete_endpoint(service)
        self.make_endpoint(service)

    def endpoint_of_the_other_type(self):
        self.delete_endpoint("s3")
        self.make_endpoint("s3", "Interface")
        yield self.vpc, "endpoint-exists", f"Create the endpoint com.amazonaws.{REGION}.s3, of type Gateway."
        self.delete_endpoint("s3")
        self.make_endpoint("s3", "Gateway")

    def endpoint_policy(self, service, change, *statements):
        """The policy is mended by what the finding says, word by word."""
        endpoint, statements = self.endpoints[service]["VpcEndpointId"], list(statements)
        self.set_policy(endpoint, statements)
        yield endpoint, "endpoint-policy-allows", change
        [finding] = self.found()
        words = finding["change"]
        added = json.loads(words[words.index("{") : words.rindex("}") + 1])
        if words.startswith("Add to"):
            statements.append(added)
        else:
            self.assertIn("statement 2", words)
            statements[1]["Condition"] = {**statements[1].get("Condition", {}), **added}
        self.set_policy(endpoint, statements)
        self.assertEqual(self.found(), [], statements)
        self.set_policy(endpoint, [ALLOW])

    def set_policy(self, endpoint, statements):
        self.ec2.modify_vpc_endpoint(
            VpcEndpointId=endpoint, PolicyDocument=json.dumps({"Statement": statements})
        )

    def policies(self):
        """Of endpoints, that do not let the runner do all it has to."""
        ours, account = f"arn:aws:s3:::{self.bucket}", "aws:PrincipalAccount"
        add = 'Add to the endpoint\'s policy: {"Effect": "Allow", "Principal": "*", "Action": '
        leave_out = "Leave the runner's role out of statement 2"
        writes = add + '["ebs:PutSnapshotBlock", "ebs:CompleteSnapshot"], '
        writes += f'"Resource": ["arn:aws:ec2:{REGION}::snapshot/*"]'
        reads = ["ebs:Get*", "ebs:List*", "ebs:StartSnapshot"]
        index = '["s3:GetObject", "s3:PutObject", "s3:DeleteObject", "s3:ListBucket"], "Resource": '
        index += f'["{ours}/runner/*", "{ours}/index/*", "{ours}"]'
        listing = f'["s3:ListBucket"], "Resource": ["{ours}"]'
        identity = '["sts:GetCallerIdentity"], "Resource": ["*"]'
        logs = f'["logs:CreateLogStream", "logs:PutLogEvents"], "Resource": ["arn:aws:logs:{REGION}:{MEMBER}:'
        logs += f"log-group:{self.log_group}:log-stream:*"
        other_bucket = {"Resource": ["arn:aws:s3:::packages", "arn:aws:s3:::packages/*"]}
        other_role = {"Principal": {"AWS": f"arn:aws:iam::{MEMBER}:role/Backup"}}
        root = {"Principal": {"AWS": MEMBER}}
        others = only_if("StringNotEquals", account, "999988887777")
        elsewhere = only_if("StringNotEquals", "aws:SourceVpce", "vpce-00000000000000001")
        organization = only_if("StringEquals", "aws:PrincipalOrgID", "o-abcdefghij")
        foreign = only_if("StringNotEqualsIfExists", "aws:PrincipalOrgID", "o-abcdefghij")
        all_but = {"NotAction": ["ebs:Put*", "ebs:CompleteSnapshot"]}
        not_ours = {"NotResource": [f"{ours}/*"]}
        without_action = {key: value for key, value in ALLOW.items() if key != "Action"}
        without_resource = {key: value for key, value in DENY.items() if key != "Resource"}
        yield "allows only to read", "ebs", writes, {**ALLOW, "Action": reads}
        yield "allows all but to write", "ebs", writes, {**without_action, **all_but}
        yield "names another bucket", "s3", add + index, {**ALLOW, **other_bucket}
        yield "names objects and no bucket", "s3", add + listing, {**ALLOW, "Resource": f"{ours}/*"}
        yield "names the account where only * is known", "s3", add + index, {**ALLOW, **root}
        yield "names another principal", "sts", add + identity, {**ALLOW, **other_role}
        yield "asks for another account", "logs", add + logs, {**ALLOW, **only_if("StringLike", account, "9*")}
        yield "asks for the organization", "logs", add + logs, {**ALLOW, **organization}
        yield "denies all but another account", "ebs", leave_out, ALLOW, {**DENY, **others}
        yield "denies all but another endpoint", "s3", leave_out, ALLOW, {**DENY, **elsewhere}
        yield "denies all but the organization", "sts", leave_out, ALLOW, {**DENY, **foreign}
        yield "denies the bucket itself", "s3", leave_out, ALLOW, {**without_resource, **not_ours}

    def narrowed(self):
        """As an administrator would write them who lets through what is needed, and no more."""
        ours, role = f"arn:aws:s3:::{self.bucket}", f"arn:aws:iam::{MEMBER}:role/OrgliftRunner-{REGION}"
        yield "s3", [
            {**ALLOW, "Resource": [ours, f"{ours}/*"], **only_if("ArnEquals", "aws:PrincipalArn", role)},
            {**DENY, **only_if("Bool", "aws:SecureTransport", "false")},
            {**DENY, **only_if("StringNotEquals", "aws:ResourceAccount", [MEMBER, "999988887777"])},
        ]
        yield "ebs", [{**ALLOW, "Principal": {"AWS": role}, "Action": "ebs:*"}]
        yield "sts", [{**ALLOW, **only_if("StringEquals", "aws:PrincipalAccount", MEMBER)}]
        yield "logs", [
            {**ALLOW, "Principal": {"AWS": f"arn:aws:iam::{MEMBER}:root"}},
            {**DENY, **only_if("StringNotEquals", "aws:SourceVpc", self.vpc)},
        ]

    def endpoint_in_another_route_table(self):
        endpoint = self.endpoints["s3"]["VpcEndpointId"]
        change = {"VpcEndpointId": endpoint}
        self.ec2.modify_vpc_endpoint(**change, RemoveRouteTableIds=[self.table])
        yield endpoint, "endpoint-in-route-table", f"Associate the endpoint with {self.table}."
        self.ec2.modify_vpc_endpoint(**change, AddRouteTableIds=[self.table])

    def endpoint_group(self, service, now):
        """The endpoint has a group of its own, with the rule `now`."""
        endpoint = self.endpoints[service]["VpcEndpointId"]
        made = self.ec2.create_security_group(GroupName=f"of {service}", Description="one", VpcId=self.vpc)
        group = made["GroupId"]
        self.ec2.authorize_security_group_ingress(GroupId=group, IpPermissions=now)
        change = {"VpcEndpointId": endpoint}
        own, common = [group], [self.common_group]
        self.ec2.modify_vpc_endpoint(**change, AddSecurityGroupIds=own, RemoveSecurityGroupIds=common)
        yield group, "endpoint-admits-runner", f"Add an inbound rule: TCP 443 from {self.address}/32."
        self.ec2.modify_vpc_endpoint(**change, AddSecurityGroupIds=common, RemoveSecurityGroupIds=own)
        self.ec2.delete_security_group(GroupId=group)

    def runner_group_inbound(self, port, cidr):
        change = {"GroupId": self.runner_group, "IpPermissions": of_range(port, cidr)}
        self.ec2.revoke_security_group_ingress(**change)
        yield self.runner_group, "runner-admits-sources", f"Add an inbound rule: TCP {port} from {cidr}."
        self.ec2.authorize_security_group_ingress(**change)

    def runner_group_outbound(self, rule, to, port=443, instead=()):
        change = {"GroupId": self.runner_group, "IpPermissions": rule}
        self.ec2.revoke_security_group_egress(**change)
        for other in instead:
            self.ec2.authorize_security_group_egress(GroupId=self.runner_group, IpPermissions=other)
        yield self.runner_group, "runner-may-send", f"Add an outbound rule: TCP {port} to {to}."
        for other in instead:
            self.ec2.revoke_security_group_egress(GroupId=self.runner_group, IpPermissions=other)
        self.ec2.authorize_security_group_egress(**change)

    def runner_group_without_endpoint(self, service):
        """Other endpoints are still let through, one by one."""
        addresses = {name: self.address_of(name) for name in ["ebs", "sts", "logs"]}
        missing = addresses.pop(service)
        instead = [of_range(443, f"{address}/32") for address in addresses.values()]
        yield from self.runner_group_outbound(of_range(443, "10.0.0.0/8"), f"{missing}/32", instead=instead)

    def address_of(self, service):
        ids = self.endpoints[service]["NetworkInterfaceIds"]
        [shown] = self.ec2.describe_network_interfaces(NetworkInterfaceIds=ids)["NetworkInterfaces"]
        return shown["PrivateIpAddress"]

    def without_route(self, cidr, rule):
        self.ec2.delete_route(RouteTableId=self.table, DestinationCidrBlock=cidr)
        yield self.table, rule, f"Add a route to {cidr} by"
        self.ec2.create_route(
            RouteTableId=self.table, DestinationCidrBlock=cidr, TransitGatewayId=self.gateway
        )

    def route_to_the_internet(self):
        where = {"RouteTableId": self.table, "DestinationCidrBlock": SOURCES[0]}
        gateway = self.ec2.create_internet_gateway()["InternetGateway"]["InternetGatewayId"]
        self.ec2.attach_internet_gateway(InternetGatewayId=gateway, VpcId=self.vpc)
        self.ec2.delete_route(**where)
        self.ec2.create_route(**where, GatewayId=gateway)
        yield self.table, "route-back", f"Add a route to {SOURCES[0]} by"
        self.ec2.delete_route(**where)
        self.ec2.create_route(**where, TransitGatewayId=self.gateway)

    def acl_denies(self, egress, first, last, cidr, wanted):
        rule = {"NetworkAclId": self.acl, "RuleNumber": 50, "Egress": egress}
        self.ec2.create_network_acl_entry(
            **rule, Protocol="6", RuleAction="deny", CidrBlock=cidr, PortRange={"From": first, "To": last}
        )
        name, direction = ("acl-lets-out", "outbound") if egress else ("acl-lets-in", "inbound")
        yield self.acl, name, f"Allow TCP {wanted} by an {direction} rule with a number below 50."
        self.ec2.delete_network_acl_entry(**rule)

    def vpc_attribute(self, name):
        attribute = name[0].upper() + name[1:]
        self.ec2.modify_vpc_attribute(VpcId=self.vpc, **{attribute: {"Value": False}})
        yield self.vpc, "vpc-resolves-names", f"Switch {name} on."
        self.ec2.modify_vpc_attribute(VpcId=self.vpc, **{attribute: {"Value": True}})

    def rows(self):
        """Each breaks one thing, says what should be found, and mends it."""
        hub_address = f"{HUB_ADDRESS}/32"
        yield "VPC without name service", self.vpc_attribute("enableDnsSupport")
        yield "VPC without names of hosts", self.vpc_attribute("enableDnsHostnames")
        for service in ["ebs", "sts", "logs"]:
            yield f"no endpoint {service}", self.without_endpoint(service, "Interface")
            yield f"endpoint {service} without private names", self.without_private_names(service)
            yield f"endpoint {service} for another port", self.endpoint_group(service, of_range(80, "10.0.0.0/8"))
            others = of_group(443, self.common_group)
            yield f"endpoint {service} for others", self.endpoint_group(service, others)
            yield f"runner's group without {service}", self.runner_group_without_endpoint(service)
        yield "no gateway endpoint", self.without_endpoint("s3", "Gateway")
        yield "an interface endpoint in its place", self.endpoint_of_the_other_type()
        yield "gateway endpoint in another route table", self.endpoint_in_another_route_table()
        for what, *policy in self.policies():
            yield f"endpoint policy that {what}", self.endpoint_policy(*policy)
        for cidr in SOURCES:
            for port in [1500, 443]:
                yield f"runner's group without {port} from {cidr}", self.runner_group_inbound(port, cidr)
            yield f"no route back to {cidr}", self.without_route(cidr, "route-back")
            for port in [1500, 443]:
                wanted = f"{port} from {cidr}"
                yield f"ACL denies {wanted}", self.acl_denies(False, port, port, cidr, wanted)
            wanted = f"1024-65535 to {cidr}"
            yield f"ACL denies {wanted}", self.acl_denies(True, 32768, 65535, cidr, wanted)
        yield "route back to the internet", self.route_to_the_internet()
        yield "no route to the hub", self.without_route(hub_address, "route-to-hub")
        to_hub = self.runner_group_outbound(of_range(8443, hub_address), hub_address, 8443)
        yield "runner's group without the hub", to_hub
        wanted = f"8443 to {hub_address}"
        yield "ACL denies the hub", self.acl_denies(True, 8443, 8443, hub_address, wanted)
        wanted = f"1024-65535 from {hub_address}"
        yield "ACL denies answers of the hub", self.acl_denies(False, 1024, 2047, hub_address, wanted)
        to_s3 = self.runner_group_outbound(self.to_s3, f"the prefix list {self.prefix_list}")
        yield "runner's group without S3", to_s3

    def tagged(self):
        """moto's templates leave out tags of an interface."""
        template = json.loads((Path(self.folder) / "onboarding.json").read_text())
        tags = template["Resources"]["RunnerInterface"]["Properties"]["Tags"]
        for tag in tags:
            if isinstance(tag["Value"], dict):
                tag["Value"] = self.made(tag["Value"]["Ref"])
        interface = {"Resources": [self.made("RunnerInterface")], "Tags": tags}
        client("ec2", MEMBER).create_tags(**interface)
        # moto leaves it there when the stack goes, and the next test has one of its own.
        self.addCleanup(client("ec2", MEMBER).delete_tags, **interface)

    def test_what_was_changed_by_hand_is_named(self):
        self.deploy("--account", MEMBER, "--feature", "drift")
        self.tagged()
        self.assertEqual(self.drift(), {})
        group = self.made("RunnerSecurityGroup")
        change = {"GroupId": group, "IpPermissions": of_range(1500, SOURCES[0])}
        self.ec2.revoke_security_group_ingress(**change)
        self.ec2.authorize_security_group_ingress(GroupId=group, IpPermissions=of_range(1500, "10.0.0.0/8"))
        self.ec2.delete_vpc_endpoints(VpcEndpointIds=[self.made("EbsEndpointResource")])
        everything = {"Statement": [{"Effect": "Allow", "Action": "*", "Resource": "*"}], "Version": "2012-10-17"}
        iam = client("iam", MEMBER)
        iam.put_role_policy(RoleName="OrgliftMember", PolicyName="More", PolicyDocument=json.dumps(everything))
        found = self.drift()
        self.assertEqual(set(found), {"RunnerSecurityGroup", "EbsEndpointResource", "MemberRole"})
        rules = found["RunnerSecurityGroup"]
        self.assertEqual(rules["resource"], group)
        self.assertIn("CidrIp is 10.0.0.0/8, and was to be 10.20.0.0/16", rules["text"])
        self.assertIn("was deleted", found["EbsEndpointResource"]["text"])
        self.assertIn("/Policies/1 was added", found["MemberRole"]["text"])
        iam.delete_role_policy(RoleName="OrgliftMember", PolicyName="More")
        self.assertEqual(set(self.drift()), {"RunnerSecurityGroup", "EbsEndpointResource"})

    def test_without_the_feature_it_is_said_that_nobody_looked(self):
        self.deploy("--account", MEMBER)
        self.tagged()
        control("PUT", "faults", [NO_DRIFT])
        _, _, said = self.readiness()
        self.assertIn("changed by hand is not checked", said)
        self.assertIn("--feature drift", said)

    def test_each_thing_that_is_broken_has_one_finding(self):
        self.sound()
        # The feature was not chosen; what is changed here would be told twice.
        control("PUT", "faults", [NO_DRIFT])
        named = [*(arg for cidr in SOURCES for arg in ("--source-range", cidr)), "--hub", f"{HUB_ADDRESS}:8443"]
        self.assertEqual(self.found(*named), [])
        for service, statements in self.narrowed():
            self.set_policy(self.endpoints[service]["VpcEndpointId"], statements)
        self.assertEqual(self.found(), [], "no more is let through than is needed")
        for endpoint in self.endpoints.values():
            self.set_policy(endpoint["VpcEndpointId"], [ALLOW])
        broken = 0
        for what, row in self.rows():
            with self.subTest(what):
                resource, rule, change = next(row)
                # What was named is asked again.
                findings = self.found()
                self.assertIsNone(next(row, None))
                told = [(one["resource"], one["rule"]) for one in findings]
                self.assertEqual(told, [(resource, rule)], findings)
                self.assertTrue(findings[0]["change"].startswith(change), findings)
                broken += 1
        self.assertEqual(broken, 50)
        self.assertEqual(self.found(), [], "everything is mended")


if __name__ == "__main__":
    unittest.main()

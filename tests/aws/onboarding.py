"""Templates of `orglift-hub onboarding`, deployed on moto's CloudFormation.

moto makes all resources of the template but bucket policies. It ignores the groups of a network interface, the public
access block, the encryption and the ownership of a bucket, and `Metadata`, `DeletionPolicy` and `UpdatePolicy`; values of parameters are
not compared with their types and patterns. It evaluates the trust policy, and no permissions. Linters read what it
ignores.
"""

import json
import os
import subprocess
import tempfile
import unittest
from pathlib import Path

from clients import REGION, Case, client

HUB = "444455556666"
MEMBER = "111122223333"
EXTERNAL_ID = "orglift-7f3c9a"
SESSION = {"RoleArn": f"arn:aws:iam::{MEMBER}:role/OrgliftMember", "RoleSessionName": "alice"}
EVERY_FEATURE = [
    *("--feature", "logs", "--feature", "quotas", "--feature", "drift", "--feature", "dry-run"),
    *("--kms-key", f"arn:aws:kms:{REGION}:{MEMBER}:key/0c1d2e3f-0000-4000-8000-000000000000"),
    *("--former-kms-key", f"arn:aws:kms:{REGION}:{MEMBER}:key/8e9f0a1b-0000-4000-8000-000000000000"),
    *("--instance-role", f"arn:aws:iam::{MEMBER}:role/Web"),
]


def onboarding(folder, *more):
    """The document that the hub writes, and the values of its parameters that it knows."""
    out = Path(folder) / "onboarding.json"
    command = [os.environ["ORGLIFT_HUB"], "onboarding", "--out", out]
    command += ["--hub-principal", f"arn:aws:iam::{HUB}:role/OrgliftHub", "--external-id", EXTERNAL_ID]
    command += ["--region", REGION, "--region", "eu-west-1", "--hub", "10.1.2.3:8443"]
    command += ["--source-range", "10.20.0.0/16", "--source-range", "192.168.7.9/32"]
    command += ["--runner-sha256", "0a" * 32, "--hub-ca", "0c" * 32, *more]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    values = out.with_name("onboarding.parameters.json")
    return out.read_text(), json.loads(values.read_text()) if values.exists() else []


def hub():
    """The hub's own role, as it comes."""
    iam = client("iam", HUB)
    trust = {"Statement": [{"Effect": "Allow", "Principal": {"AWS": HUB}, "Action": "sts:AssumeRole"}]}
    try:
        role = iam.create_role(RoleName="OrgliftHub", AssumeRolePolicyDocument=json.dumps(trust))["Role"]["Arn"]
    except iam.exceptions.EntityAlreadyExistsException:
        role = f"arn:aws:iam::{HUB}:role/OrgliftHub"
    return client("sts", HUB).assume_role(RoleArn=role, RoleSessionName="hub")["Credentials"]


class Onboarding(Case):
    def setUp(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.folder = folder.name
        self.stacks = []
        self.addCleanup(self.delete_stacks)

    def delete_stacks(self):
        for region in self.stacks:
            client("cloudformation", MEMBER, region).delete_stack(StackName="orglift-member")

    def deploy(self, *more, region=REGION, **answers):
        """Outputs of the stack; `answers` are for what only the account's administrator knows."""
        template, values = onboarding(self.folder, *more)
        ec2 = client("ec2", MEMBER, region)
        vpc = ec2.create_vpc(CidrBlock="10.7.0.0/16")["Vpc"]["VpcId"]
        zone = f"{region}a"
        subnet = ec2.create_subnet(VpcId=vpc, CidrBlock="10.7.1.0/24", AvailabilityZone=zone)["Subnet"]["SubnetId"]
        routes = ec2.create_route_table(VpcId=vpc)["RouteTable"]["RouteTableId"]
        volume = ec2.create_volume(Size=1, AvailabilityZone=zone)["VolumeId"]
        snapshot = ec2.create_snapshot(VolumeId=volume)["SnapshotId"]
        ec2.get_waiter("snapshot_completed").wait(SnapshotIds=[snapshot], WaiterConfig={"Delay": 1})
        image = ec2.register_image(
            Name=f"runner {subnet}",
            RootDeviceName="/dev/xvda",
            BlockDeviceMappings=[{"DeviceName": "/dev/xvda", "Ebs": {"SnapshotId": snapshot}}],
        )["ImageId"]
        answers = {
            "VpcId": vpc,
            "SubnetId": subnet,
            "AvailabilityZone": zone,
            "RouteTableIds": routes,
            "EndpointRange": "10.7.0.0/16",
            "S3PrefixListId": "pl-0123abcd",
            "RunnerImage": image,
            **answers,
        }
        known = {value["ParameterKey"]: value["ParameterValue"] for value in values}
        self.assertLessEqual({key for key, value in known.items() if not value}, set(answers))
        parameters = [
            {"ParameterKey": key, "ParameterValue": value} for key, value in {**known, **answers}.items()
        ]
        cloudformation = client("cloudformation", MEMBER, region)
        cloudformation.create_stack(
            StackName="orglift-member",
            TemplateBody=template,
            Parameters=parameters,
            Capabilities=["CAPABILITY_NAMED_IAM"],
        )
        self.stacks.append(region)
        [stack] = cloudformation.describe_stacks(StackName="orglift-member")["Stacks"]
        self.assertEqual(stack["StackStatus"], "CREATE_COMPLETE")
        self.ec2, self.vpc = ec2, vpc
        return {output["OutputKey"]: output["OutputValue"] for output in stack["Outputs"]}

    def test_the_hub_assumes_the_role_and_nobody_else_does(self):
        outputs = self.deploy("--account", MEMBER)
        self.assertEqual(outputs["MemberRoleArn"], SESSION["RoleArn"])
        sts = client("sts", hub())
        got = sts.assume_role(**SESSION, ExternalId=EXTERNAL_ID)["Credentials"]
        self.assertEqual(client("sts", got).get_caller_identity()["Account"], MEMBER)
        self.refused("AccessDenied", sts.assume_role, **SESSION)
        self.refused("AccessDenied", sts.assume_role, **SESSION, ExternalId="orglift-other")
        # Another role of the hub's account, and the account itself.
        stranger = client("sts", HUB)
        self.refused("AccessDenied", stranger.assume_role, **SESSION, ExternalId=EXTERNAL_ID)
        self.refused("ValidationError", sts.assume_role, **SESSION, ExternalId=EXTERNAL_ID, DurationSeconds=7200)

    def test_the_hub_tags_sessions_with_its_own_tags_only(self):
        self.deploy("--account", MEMBER)
        sts = client("sts", hub())
        own = [{"Key": "orglift:user", "Value": "alice"}, {"Key": "orglift:job", "Value": "mgnjob-1"}]
        sts.assume_role(**SESSION, ExternalId=EXTERNAL_ID, Tags=own)
        foreign = [{"Key": "department", "Value": "board"}]
        self.refused("AccessDenied", sts.assume_role, **SESSION, ExternalId=EXTERNAL_ID, Tags=own + foreign)

    def made(self, name):
        """What a resource of the last stack is called."""
        resources = client("cloudformation", MEMBER).list_stack_resources(StackName="orglift-member")
        [found] = [one for one in resources["StackResourceSummaries"] if one["LogicalResourceId"] == name]
        return found["PhysicalResourceId"]

    def test_the_runner_has_an_address_of_its_own(self):
        outputs = self.deploy("--account", MEMBER, RunnerAddress="10.7.1.44")
        self.assertEqual(outputs["RunnerAddress"], "10.7.1.44")
        interface = self.made("RunnerInterface")
        [shown] = self.ec2.describe_network_interfaces(NetworkInterfaceIds=[interface])["NetworkInterfaces"]
        self.assertEqual(shown["PrivateIpAddress"], "10.7.1.44")
        [group] = self.ec2.describe_security_groups(GroupIds=[self.made("RunnerSecurityGroup")])["SecurityGroups"]
        allowed = {
            (rule["FromPort"], address["CidrIp"]) for rule in group["IpPermissions"] for address in rule["IpRanges"]
        }
        ranges = ["10.20.0.0/16", "192.168.7.9/32"]
        self.assertEqual(allowed, {(port, address) for port in [443, 1500] for address in ranges})
        scaling = client("autoscaling", MEMBER)
        names = [self.made("RunnerGroup")]
        [group] = scaling.describe_auto_scaling_groups(AutoScalingGroupNames=names)["AutoScalingGroups"]
        [instance] = [one["InstanceId"] for one in group["Instances"]]
        [reservation] = self.ec2.describe_instances(InstanceIds=[instance])["Reservations"]
        [attached] = reservation["Instances"][0]["NetworkInterfaces"]
        self.assertEqual(attached["NetworkInterfaceId"], interface)
        self.assertEqual(reservation["Instances"][0]["MetadataOptions"]["HttpTokens"], "required")

    def test_a_stack_set_is_of_many_regions_and_has_one_role(self):
        home = self.deploy("--format", "stackset", *EVERY_FEATURE)
        other = self.deploy("--format", "stackset", *EVERY_FEATURE, region="eu-west-1")
        self.assertIn("MemberRoleArn", home)
        self.assertNotIn("MemberRoleArn", other)
        self.assertNotEqual(home["RunnerRoleArn"], other["RunnerRoleArn"])
        client("sts", hub()).assume_role(**SESSION, ExternalId=EXTERNAL_ID)

    def services(self):
        """Of endpoints in the VPC of the last stack."""
        filters = [{"Name": "vpc-id", "Values": [self.vpc]}]
        points = self.ec2.describe_vpc_endpoints(Filters=filters)["VpcEndpoints"]
        return sorted(point["ServiceName"].split(".")[-1] for point in points)

    def test_endpoints_that_exist_are_not_made_again(self):
        existing = {name: "existing" for name in ["EbsEndpoint", "S3Endpoint", "StsEndpoint", "LogsEndpoint"]}
        self.deploy("--account", MEMBER, *EVERY_FEATURE, **existing)
        self.assertEqual(self.services(), [])

    def test_endpoints_are_those_of_the_chosen_features(self):
        self.deploy("--account", MEMBER)
        self.assertEqual(self.services(), ["ebs", "s3", "sts"])
        self.delete_stacks()
        self.stacks = []
        self.deploy("--account", MEMBER, *EVERY_FEATURE)
        self.assertEqual(self.services(), ["ebs", "logs", "s3", "sts"])

    def test_policies_make_the_same_role_by_hand(self):
        document, _ = onboarding(self.folder, "--account", MEMBER, "--format", "policy", "--role-name", "ByHand")
        role = json.loads(document)
        iam = client("iam", MEMBER)
        arn = iam.create_role(
            RoleName=role["RoleName"], AssumeRolePolicyDocument=json.dumps(role["AssumeRolePolicyDocument"])
        )["Role"]["Arn"]
        iam.put_role_policy(
            RoleName="ByHand", PolicyName="Orglift", PolicyDocument=json.dumps(role["PolicyDocument"])
        )
        sts = client("sts", hub())
        sts.assume_role(RoleArn=arn, RoleSessionName="alice", ExternalId=EXTERNAL_ID)
        self.refused("AccessDenied", sts.assume_role, RoleArn=arn, RoleSessionName="alice")


if __name__ == "__main__":
    unittest.main()

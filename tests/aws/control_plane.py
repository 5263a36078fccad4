"""What moto does, corrected: images, instances, snapshots, roles and organizations."""

import itertools
import json
import unittest

from clients import Case, client, command_line

accounts = (str(number) for number in itertools.count(310000000001))


def empty_snapshot(account, gib):
    """A completed snapshot of a disk of zeros."""
    ec2 = client("ec2", account)
    volume = ec2.create_volume(Size=gib, AvailabilityZone="eu-central-1a")["VolumeId"]
    snapshot = ec2.create_snapshot(VolumeId=volume)["SnapshotId"]
    ec2.get_waiter("snapshot_completed").wait(SnapshotIds=[snapshot], WaiterConfig={"Delay": 1})
    return snapshot


def image_of(account, snapshots, **more):
    devices = ["/dev/sda1", "/dev/sdf", "/dev/sdg"]
    return client("ec2", account).register_image(
        Name=f"image of {snapshots[0]}",
        RootDeviceName="/dev/sda1",
        VirtualizationType="hvm",
        BlockDeviceMappings=[
            {"DeviceName": device, "Ebs": {"SnapshotId": snapshot}}
            for device, snapshot in zip(devices, snapshots)
        ],
        **more,
    )["ImageId"]


def subnet_of(ec2):
    vpc = ec2.create_vpc(CidrBlock="10.7.0.0/16")["Vpc"]["VpcId"]
    return ec2.create_subnet(VpcId=vpc, CidrBlock="10.7.1.0/28", AvailabilityZone="eu-central-1b")["Subnet"]["SubnetId"]


class Images(Case):
    def test_an_image_shows_what_it_was_registered_with(self):
        account = next(accounts)
        ec2 = client("ec2", account)
        snapshot = empty_snapshot(account, 3)
        ec2.register_image(
            Name="web-1",
            Description="of web-1",
            Architecture="arm64",
            RootDeviceName="/dev/sda1",
            BootMode="uefi",
            VirtualizationType="hvm",
            EnaSupport=True,
            ImdsSupport="v2.0",
            BlockDeviceMappings=[
                {"DeviceName": "/dev/sda1", "Ebs": {"SnapshotId": snapshot, "VolumeType": "gp3", "Iops": 4000}},
            ],
            TagSpecifications=[{"ResourceType": "image", "Tags": [{"Key": "job", "Value": "mgnjob-1"}]}],
        )
        [image] = ec2.describe_images(Owners=["self"])["Images"]
        shown = {
            name: image.get(name)
            for name in ["Name", "Description", "Architecture", "RootDeviceName", "BootMode", "VirtualizationType"]
        }
        self.assertEqual(
            shown,
            {
                "Name": "web-1",
                "Description": "of web-1",
                "Architecture": "arm64",
                "RootDeviceName": "/dev/sda1",
                "BootMode": "uefi",
                "VirtualizationType": "hvm",
            },
        )
        self.assertTrue(image["EnaSupport"])
        self.assertEqual(image["ImdsSupport"], "v2.0")
        self.assertEqual(image["OwnerId"], account)
        self.assertEqual(image["Tags"], [{"Key": "job", "Value": "mgnjob-1"}])
        [mapping] = image["BlockDeviceMappings"]
        self.assertEqual(mapping["DeviceName"], "/dev/sda1")
        self.assertEqual(
            mapping["Ebs"],
            {
                "SnapshotId": snapshot,
                "VolumeSize": 3,
                "VolumeType": "gp3",
                "Iops": 4000,
                "Encrypted": False,
                "DeleteOnTermination": True,
            },
        )

    def test_a_snapshot_cannot_go_before_its_image(self):
        account = next(accounts)
        ec2 = client("ec2", account)
        snapshot = empty_snapshot(account, 1)
        image = image_of(account, [snapshot])
        self.refused("InvalidSnapshot.InUse", ec2.delete_snapshot, SnapshotId=snapshot)
        ec2.deregister_image(ImageId=image)
        ec2.delete_snapshot(SnapshotId=snapshot)
        self.refused("InvalidSnapshot.NotFound", ec2.describe_snapshots, SnapshotIds=[snapshot])

    def test_an_image_of_nothing_or_with_a_name_that_is_taken_is_refused(self):
        account = next(accounts)
        snapshot = empty_snapshot(account, 1)
        self.refused("InvalidSnapshot.NotFound", image_of, account, ["snap-00000000000000000"])
        image_of(account, [snapshot])
        self.refused("InvalidAMIName.Duplicate", image_of, account, [snapshot])


class Instances(Case):
    def test_an_instance_has_the_volumes_of_its_image(self):
        account = next(accounts)
        ec2 = client("ec2", account)
        boot, data = empty_snapshot(account, 2), empty_snapshot(account, 5)
        image = image_of(account, [boot, data], Architecture="x86_64")
        subnet = subnet_of(ec2)
        free = ec2.describe_subnets(SubnetIds=[subnet])["Subnets"][0]["AvailableIpAddressCount"]
        ordered = {
            "ImageId": image,
            "InstanceType": "t3.large",
            "MinCount": 1,
            "MaxCount": 1,
            "ClientToken": "mgnjob-1/start",
            "SubnetId": subnet,
            "PrivateIpAddress": "10.7.1.9",
            "Placement": {"Tenancy": "dedicated"},
            "BlockDeviceMappings": [
                {
                    "DeviceName": "/dev/sdf",
                    "Ebs": {"VolumeType": "gp3", "Iops": 5000, "Throughput": 300, "DeleteOnTermination": False},
                },
            ],
            "TagSpecifications": [
                {"ResourceType": "volume", "Tags": [{"Key": "job", "Value": "mgnjob-1"}]},
                {"ResourceType": "instance", "Tags": [{"Key": "Name", "Value": "web-1"}]},
            ],
        }
        instance = ec2.run_instances(**ordered)["Instances"][0]["InstanceId"]
        [volume_of_boot, volume_of_data] = sorted(
            ec2.describe_volumes(Filters=[{"Name": "attachment.instance-id", "Values": [instance]}])["Volumes"],
            key=lambda volume: volume["Size"],
        )
        self.assertEqual((volume_of_boot["SnapshotId"], volume_of_boot["Size"]), (boot, 2))
        self.assertEqual(volume_of_boot["VolumeType"], "gp2")
        self.assertTrue(volume_of_boot["Attachments"][0]["DeleteOnTermination"])
        self.assertEqual((volume_of_data["SnapshotId"], volume_of_data["Size"]), (data, 5))
        self.assertEqual((volume_of_data["Iops"], volume_of_data["Throughput"]), (5000, 300))
        self.assertFalse(volume_of_data["Attachments"][0]["DeleteOnTermination"])
        self.assertEqual(volume_of_data["Tags"], [{"Key": "job", "Value": "mgnjob-1"}])
        [shown] = ec2.describe_instances(InstanceIds=[instance])["Reservations"][0]["Instances"]
        self.assertEqual(shown["PrivateIpAddress"], "10.7.1.9")
        self.assertEqual(shown["Architecture"], "x86_64")
        self.assertEqual(shown["Placement"]["Tenancy"], "dedicated")
        self.assertEqual({m["DeviceName"] for m in shown["BlockDeviceMappings"]}, {"/dev/sda1", "/dev/sdf"})

        # The same order again is the same instance; another with its token is refused.
        again = ec2.run_instances(**ordered)["Instances"][0]["InstanceId"]
        self.assertEqual(again, instance)
        self.refused("IdempotentParameterMismatch", ec2.run_instances, **ordered | {"InstanceType": "t3.small"})
        self.refused("InvalidIPAddress.InUse", ec2.run_instances, **ordered | {"ClientToken": "another"})

        taken = ec2.describe_subnets(SubnetIds=[subnet])["Subnets"][0]["AvailableIpAddressCount"]
        self.assertEqual(taken, free - 1)
        ec2.terminate_instances(InstanceIds=[instance])
        left = ec2.describe_subnets(SubnetIds=[subnet])["Subnets"][0]["AvailableIpAddressCount"]
        self.assertEqual(left, free)
        [kept] = ec2.describe_volumes()["Volumes"][-1:]
        self.assertEqual(kept["VolumeId"], volume_of_data["VolumeId"])
        ec2.run_instances(**ordered | {"ClientToken": "another"})

    def test_an_instance_of_a_launch_template(self):
        account = next(accounts)
        ec2 = client("ec2", account)
        snapshot = empty_snapshot(account, 2)
        subnet = subnet_of(ec2)
        ec2.create_launch_template(
            LaunchTemplateName="web-1",
            LaunchTemplateData={
                "ImageId": image_of(account, [snapshot]),
                "InstanceType": "c5.large",
                "Placement": {"Tenancy": "dedicated"},
                "NetworkInterfaces": [{"DeviceIndex": 0, "SubnetId": subnet, "PrivateIpAddress": "10.7.1.7"}],
                "BlockDeviceMappings": [
                    {"DeviceName": "/dev/sda1", "Ebs": {"VolumeSize": 4, "VolumeType": "io2", "Iops": 200}},
                ],
                "TagSpecifications": [{"ResourceType": "volume", "Tags": [{"Key": "job", "Value": "1"}]}],
            },
        )
        [instance] = ec2.run_instances(
            LaunchTemplate={"LaunchTemplateName": "web-1", "Version": "$Latest"}, MinCount=1, MaxCount=1
        )["Instances"]
        self.assertEqual(instance["InstanceType"], "c5.large")
        self.assertEqual(instance["PrivateIpAddress"], "10.7.1.7")
        self.assertEqual(instance["Placement"]["Tenancy"], "dedicated")
        [mapping] = ec2.describe_instances(InstanceIds=[instance["InstanceId"]])["Reservations"][0]["Instances"][0][
            "BlockDeviceMappings"
        ]
        [volume] = ec2.describe_volumes(VolumeIds=[mapping["Ebs"]["VolumeId"]])["Volumes"]
        self.assertEqual(
            (volume["SnapshotId"], volume["Size"], volume["VolumeType"], volume["Iops"]), (snapshot, 4, "io2", 200)
        )
        self.assertEqual(volume["Tags"], [{"Key": "job", "Value": "1"}])

    def test_a_subnet_without_free_addresses(self):
        account = next(accounts)
        ec2 = client("ec2", account)
        ordered = {"ImageId": image_of(account, [empty_snapshot(account, 1)]), "SubnetId": subnet_of(ec2)}
        # Of sixteen, five are Amazon's.
        ec2.run_instances(**ordered, MinCount=11, MaxCount=11)
        [subnet] = ec2.describe_subnets(SubnetIds=[ordered["SubnetId"]])["Subnets"]
        self.assertEqual(subnet["AvailableIpAddressCount"], 0)
        self.refused("InsufficientFreeAddressesInSubnet", ec2.run_instances, **ordered, MinCount=1, MaxCount=1)

    def test_a_volume_is_not_smaller_than_its_snapshot(self):
        account = next(accounts)
        ec2 = client("ec2", account)
        image = image_of(account, [empty_snapshot(account, 3)])
        mapping = {"DeviceName": "/dev/sda1", "Ebs": {"VolumeSize": 2}}
        self.refused(
            "InvalidBlockDeviceMapping",
            ec2.run_instances,
            ImageId=image,
            MinCount=1,
            MaxCount=1,
            BlockDeviceMappings=[mapping],
        )
        self.assertEqual(ec2.describe_instances()["Reservations"], [])

    def test_an_unknown_image_and_a_dry_run(self):
        account = next(accounts)
        ec2 = client("ec2", account)
        self.refused(
            "InvalidAMIID.NotFound", ec2.run_instances, ImageId="ami-12345678901234567", MinCount=1, MaxCount=1
        )
        for call, parameters in [
            (ec2.run_instances, {"ImageId": "ami-12345678901234567", "MinCount": 1, "MaxCount": 1}),
            (ec2.describe_snapshots, {}),
            (ec2.create_launch_template, {"LaunchTemplateName": "x", "LaunchTemplateData": {"InstanceType": "t3.micro"}}),
        ]:
            refusal = self.refused("DryRunOperation", call, DryRun=True, **parameters)
            self.assertEqual(refusal["ResponseMetadata"]["HTTPStatusCode"], 412)
        self.assertEqual(ec2.describe_launch_templates()["LaunchTemplates"], [])

    def test_a_screenshot(self):
        account = next(accounts)
        ec2 = client("ec2", account)
        image = image_of(account, [empty_snapshot(account, 1)])
        [instance] = ec2.run_instances(ImageId=image, MinCount=1, MaxCount=1)["Instances"]
        shot = command_line(account, "ec2", "get-console-screenshot", "--instance-id", instance["InstanceId"])
        self.assertTrue(shot["ImageData"].startswith("/9j/"))


class Encryption(Case):
    def test_a_copy_under_a_key(self):
        account = next(accounts)
        ec2 = client("ec2", account)
        key = client("kms", account).create_key()["KeyMetadata"]["Arn"]
        source = empty_snapshot(account, 1)
        copy = ec2.copy_snapshot(SourceRegion="eu-central-1", SourceSnapshotId=source, Encrypted=True, KmsKeyId=key)
        [shown] = ec2.describe_snapshots(SnapshotIds=[copy["SnapshotId"]])["Snapshots"]
        self.assertEqual((shown["Encrypted"], shown["KmsKeyId"], shown["VolumeSize"]), (True, key, 1))
        ec2.get_waiter("snapshot_completed").wait(SnapshotIds=[copy["SnapshotId"]], WaiterConfig={"Delay": 1})
        volume = ec2.create_volume(
            SnapshotId=copy["SnapshotId"], VolumeType="gp3", AvailabilityZone="eu-central-1a"
        )
        self.assertEqual((volume["Encrypted"], volume["KmsKeyId"], volume["Throughput"]), (True, key, 125))
        by_default = ec2.copy_snapshot(SourceRegion="eu-central-1", SourceSnapshotId=source, Encrypted=True)
        [shown] = ec2.describe_snapshots(SnapshotIds=[by_default["SnapshotId"]])["Snapshots"]
        self.assertEqual(shown["KmsKeyId"], ec2.get_ebs_default_kms_key_id()["KmsKeyId"])


def role_in(account, name, statement, **more):
    policy = {"Version": "2012-10-17", "Statement": [{"Effect": "Allow", **statement}]}
    role = client("iam", account).create_role(RoleName=name, AssumeRolePolicyDocument=json.dumps(policy), **more)
    return role["Role"]["Arn"]


def session(who, role, **more):
    return client("sts", who).assume_role(RoleArn=role, RoleSessionName="alice", **more)["Credentials"]


class Roles(Case):
    def test_the_account_of_a_key_is_in_the_key(self):
        account = next(accounts)
        identity = client("sts", account).get_caller_identity()
        self.assertEqual(identity["Account"], account)
        self.assertEqual(identity["Arn"], f"arn:aws:iam::{account}:root")
        self.assertEqual(command_line(account, "sts", "get-caller-identity")["Account"], account)
        temporary = client("sts", account).get_session_token()["Credentials"]
        self.assertEqual(client("sts", temporary).get_caller_identity()["Account"], account)
        client("iam", account).create_user(UserName="ann")
        of_ann = client("iam", account).create_access_key(UserName="ann")["AccessKey"]
        self.assertEqual(client("sts", of_ann).get_caller_identity()["Arn"], f"arn:aws:iam::{account}:user/ann")

    def test_a_role_is_assumed_with_its_external_id_only(self):
        hub, member = next(accounts), next(accounts)
        role = role_in(
            member,
            "OrgliftMember",
            {
                "Action": "sts:AssumeRole",
                "Principal": {"AWS": f"arn:aws:iam::{hub}:root"},
                "Condition": {"StringEquals": {"sts:ExternalId": "tenant-7"}},
            },
        )
        got = session(hub, role, ExternalId="tenant-7")
        self.assertEqual(
            client("sts", got).get_caller_identity()["Arn"],
            f"arn:aws:sts::{member}:assumed-role/OrgliftMember/alice",
        )
        snapshot = empty_snapshot(member, 1)
        found = client("ec2", got).describe_snapshots(OwnerIds=[member])["Snapshots"]
        self.assertEqual([s["SnapshotId"] for s in found], [snapshot])
        self.refused("AccessDenied", session, hub, role, ExternalId="tenant-8")
        self.refused("AccessDenied", session, hub, role)
        self.refused("AccessDenied", session, next(accounts), role, ExternalId="tenant-7")
        self.refused("AccessDenied", session, hub, f"arn:aws:iam::{member}:role/Absent", ExternalId="tenant-7")
        tags = [{"Key": "reason", "Value": "launch"}]
        refusal = self.refused("AccessDenied", session, hub, role, ExternalId="tenant-7", Tags=tags)
        self.assertIn("sts:TagSession", refusal["Error"]["Message"])

    def test_a_chained_session_ends_within_the_hour(self):
        hub, delegate, member = next(accounts), next(accounts), next(accounts)
        first = role_in(
            delegate,
            "Delegate",
            {"Action": ["sts:AssumeRole", "sts:TagSession"], "Principal": {"AWS": hub}},
            MaxSessionDuration=7200,
        )
        second = role_in(
            member, "Member", {"Action": "sts:*", "Principal": {"AWS": first}}, MaxSessionDuration=7200
        )
        self.refused("AccessDenied", session, hub, second)
        held = session(hub, first, DurationSeconds=7200, Tags=[{"Key": "who", "Value": "alice"}])
        self.refused("ValidationError", session, hub, first, DurationSeconds=7201)
        self.refused("ValidationError", session, held, second, DurationSeconds=3601)
        chained = session(held, second, DurationSeconds=3600)
        self.assertEqual(client("sts", chained).get_caller_identity()["Account"], member)

    def test_other_partitions(self):
        hub, member = next(accounts), next(accounts)
        policy = {"Action": "sts:AssumeRole", "Principal": {"AWS": f"arn:aws-us-gov:iam::{hub}:root"}}
        document = json.dumps({"Version": "2012-10-17", "Statement": [{"Effect": "Allow", **policy}]})
        iam = client("iam", member, "us-gov-west-1")
        role = iam.create_role(RoleName="Member", AssumeRolePolicyDocument=document)["Role"]["Arn"]
        self.assertEqual(role, f"arn:aws-us-gov:iam::{member}:role/Member")
        sts = client("sts", hub, "us-gov-west-1")
        got = sts.assume_role(RoleArn=role, RoleSessionName="alice")["Credentials"]
        identity = client("sts", got, "us-gov-west-1").get_caller_identity()
        self.assertEqual(identity["Arn"], f"arn:aws-us-gov:sts::{member}:assumed-role/Member/alice")
        self.refused("AccessDenied", session, hub, role)


    def test_policies_of_a_role_are_simulated(self):
        account = next(accounts)
        iam = client("iam", account)
        trust = {"Statement": [{"Effect": "Allow", "Principal": {"AWS": account}, "Action": "sts:AssumeRole"}]}
        role = iam.create_role(RoleName="Member", AssumeRolePolicyDocument=json.dumps(trust))["Role"]["Arn"]
        allow = {
            "Effect": "Allow",
            "Action": "ec2:*Image",
            "Resource": "arn:aws:ec2:*::image/*",
            "Condition": {"Null": {"aws:RequestTag/ours": "false"}, "StringEquals": {"aws:RequestedRegion": ["r-1"]}},
        }
        policy = {"Version": "2012-10-17", "Statement": [allow]}
        iam.put_role_policy(RoleName="Member", PolicyName="Own", PolicyDocument=json.dumps(policy))

        def simulate(resources=("arn:aws:ec2:r-1::image/ami-1",), action="ec2:RegisterImage", **context):
            context = {"aws:RequestTag/ours": "yes", "aws:RequestedRegion": "r-1", **context}
            entries = [
                {"ContextKeyName": key, "ContextKeyValues": [value], "ContextKeyType": "string"}
                for key, value in context.items()
                if value
            ]
            question = {"ActionNames": [action], "ResourceArns": list(resources), "ContextEntries": entries}
            [result] = iam.simulate_principal_policy(PolicySourceArn=role, **question)["EvaluationResults"]
            return result

        self.assertEqual(simulate()["EvalDecision"], "allowed")
        self.assertEqual(simulate(action="EC2:registerimage")["EvalDecision"], "allowed")
        self.assertEqual(simulate(action="ec2:RunInstances")["EvalDecision"], "implicitDeny")
        self.assertEqual(simulate(**{"aws:RequestTag/ours": None})["EvalDecision"], "implicitDeny")
        unknown = simulate(**{"aws:RequestedRegion": None})
        self.assertEqual(unknown["EvalDecision"], "implicitDeny")
        self.assertEqual(unknown["MissingContextValues"], ["aws:RequestedRegion"])
        both = simulate(["arn:aws:ec2:r-1::image/ami-1", "arn:aws:ec2:r-1:1:subnet/subnet-1"])
        self.assertEqual(both["EvalDecision"], "implicitDeny")
        decisions = [one["EvalResourceDecision"] for one in both["ResourceSpecificResults"]]
        self.assertEqual(decisions, ["allowed", "implicitDeny"])
        freeze = {"Statement": [{"Effect": "Deny", "NotAction": "ec2:Describe*", "Resource": "*"}]}
        freeze["Version"] = "2012-10-17"
        iam.put_role_policy(RoleName="Member", PolicyName="Freeze", PolicyDocument=json.dumps(freeze))
        denied = simulate()
        self.assertEqual(denied["EvalDecision"], "explicitDeny")
        self.assertEqual([one["SourcePolicyId"] for one in denied["MatchedStatements"]], ["Freeze"])
        self.refused("NoSuchEntity", iam.simulate_principal_policy, PolicySourceArn=role + "s", ActionNames=["a:b"])


class Quotas(Case):
    def test_quotas_of_processors_are_raised(self):
        account = next(accounts)
        quotas = client("service-quotas", account)
        standard = {"ServiceCode": "ec2", "QuotaCode": "L-1216C47A"}
        self.assertEqual(quotas.get_service_quota(**standard)["Quota"]["Value"], 32)
        quotas.request_service_quota_increase(**standard, DesiredValue=64)
        self.assertEqual(quotas.get_service_quota(**standard)["Quota"]["Value"], 64)
        self.refused("IllegalArgumentException", quotas.request_service_quota_increase, **standard, DesiredValue=5)
        elsewhere = client("service-quotas", account, "eu-west-1")
        self.assertEqual(elsewhere.get_service_quota(**standard)["Quota"]["Value"], 32)
        other = {"ServiceCode": "ec2", "QuotaCode": "L-00000000"}
        self.refused("NoSuchResourceException", quotas.get_service_quota, **other)


class Organizations(Case):
    def test_who_may_list_the_accounts(self):
        management = next(accounts)
        organizations = client("organizations", management, "us-east-1")
        organizations.create_organization(FeatureSet="ALL")
        members = [
            organizations.create_account(AccountName=name, Email=f"{name}@example.com")["CreateAccountStatus"][
                "AccountId"
            ]
            for name in ["prod", "dev"]
        ]
        everybody = {management, *members}

        def listed(account):
            pages = client("organizations", account, "us-east-1").get_paginator("list_accounts").paginate()
            return {found["Id"] for page in pages for found in page["Accounts"]}

        self.assertEqual(listed(management), everybody)
        self.refused("AccessDeniedException", listed, members[0])
        self.refused("AWSOrganizationsNotInUseException", listed, next(accounts))
        organizations.register_delegated_administrator(
            AccountId=members[0], ServicePrincipal="account.amazonaws.com"
        )
        self.assertEqual(listed(members[0]), everybody)
        self.refused("AccessDeniedException", listed, members[1])
        delegate = client("organizations", members[0], "us-east-1")
        self.assertEqual(len(delegate.list_roots()["Roots"]), 1)
        self.refused(
            "AccessDeniedException", delegate.create_account, AccountName="x", Email="x@example.com"
        )
        self.assertEqual(
            delegate.describe_organization()["Organization"]["MasterAccountId"], management
        )


if __name__ == "__main__":
    unittest.main()

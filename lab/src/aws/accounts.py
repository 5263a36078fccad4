"""Makes the accounts of a world: an organization with a delegated administrator, and a tenant in another partition.

The wish is read from standard input, and what there is then is written to standard output, both as JSON.
"""

import base64
import json
import sys

import boto3

wish = json.load(sys.stdin)


def key_of(account):
    """A key id of the account's own, which says its number as AWS's do."""
    half, odd = divmod(int(account), 2)
    number = base64.b32encode((half + (1 << 39)).to_bytes(5, "big")).decode()
    return f"AKIA{number}{'Q' if odd else 'A'}AAAAAAA"


def client(service, account, region):
    return boto3.client(
        service,
        endpoint_url=wish["endpoint"],
        region_name=region,
        aws_access_key_id=key_of(account),
        aws_secret_access_key="any",
    )


def make_role(iam, name, principal, external_id, policy=None):
    trust = {
        "Version": "2012-10-17",
        "Statement": [
            {
                "Effect": "Allow",
                "Principal": {"AWS": principal},
                "Action": ["sts:AssumeRole"],
                "Condition": {"StringEquals": {"sts:ExternalId": external_id}},
            },
            {"Effect": "Allow", "Principal": {"AWS": principal}, "Action": ["sts:TagSession"]},
        ],
    }
    arn = iam.create_role(RoleName=name, AssumeRolePolicyDocument=json.dumps(trust))["Role"]["Arn"]
    if policy:
        document = policy.replace("000000000000", arn.split(":")[4])
        iam.put_role_policy(RoleName=name, PolicyName="Orglift", PolicyDocument=document)
    return arn


def make_network(ec2, zone):
    vpc = ec2.create_vpc(CidrBlock="10.0.0.0/16")["Vpc"]["VpcId"]

    def subnet(block):
        return ec2.create_subnet(VpcId=vpc, CidrBlock=block, AvailabilityZone=zone)["Subnet"]["SubnetId"]

    group = ec2.create_security_group(GroupName="servers", Description="Servers", VpcId=vpc)
    return {
        "test_subnet": subnet("10.0.1.0/24"),
        "target_subnet": subnet("10.0.2.0/24"),
        "security_group": group["GroupId"],
    }


def session_of(account, region, name):
    """Credentials of a new role of the account, as an instance gets them."""
    trust = {
        "Version": "2012-10-17",
        "Statement": [{"Effect": "Allow", "Principal": {"AWS": account}, "Action": ["sts:AssumeRole"]}],
    }
    iam = client("iam", account, region)
    role = iam.create_role(RoleName=name, AssumeRolePolicyDocument=json.dumps(trust))["Role"]["Arn"]
    sts = client("sts", account, region)
    given = sts.assume_role(RoleArn=role, RoleSessionName="i-0123456789abcdef0")["Credentials"]
    return {"key": given["AccessKeyId"], "secret": given["SecretAccessKey"], "token": given["SessionToken"]}


def make_runner(account, region):
    """What the onboarding template makes for a runner, as far as it is used here."""
    bucket = f"orglift-{account}"
    client("s3", account, region).create_bucket(
        Bucket=bucket, CreateBucketConfiguration={"LocationConstraint": region}
    )
    return {
        "bucket": bucket,
        "runner": session_of(account, region, f"OrgliftRunner-{region}"),
        "other": session_of(account, region, "Somebody"),
    }


def organization():
    """The accounts of the organization; the hub sets out from one more, which administrates for it."""
    region = wish["region"]
    organizations = client("organizations", wish["management"], "us-east-1")
    organizations.create_organization(FeatureSet="ALL")
    [root] = organizations.list_roots()["Roots"]

    def account(name, unit):
        email = f"{name}@example.com"
        status = organizations.create_account(AccountName=name, Email=email)["CreateAccountStatus"]
        if unit:
            organizations.move_account(
                AccountId=status["AccountId"], SourceParentId=root["Id"], DestinationParentId=unit
            )
        return status["AccountId"]

    hub = account("migration", None)
    organizations.register_delegated_administrator(AccountId=hub, ServicePrincipal="mgn.amazonaws.com")
    members = []
    for name in wish["members"]:
        unit = organizations.create_organizational_unit(ParentId=root["Id"], Name=name.title())
        member = account(name, unit["OrganizationalUnit"]["Id"])
        iam = client("iam", member, region)
        make_role(iam, "OrgliftMember", f"arn:aws:iam::{hub}:root", wish["external_id"], wish["policy"])
        network = make_network(client("ec2", member, region), f"{region}a")
        runner = make_runner(member, region)
        members.append({"id": member, "name": name, **network, **runner})
    return hub, members


def tenant():
    """An account that no organization of ours has, behind a delegate's role."""
    region = wish["tenant"]["region"]
    hub, delegate, member = (wish["tenant"][who] for who in ["hub", "delegate", "member"])
    way = make_role(
        client("iam", delegate, region),
        "OrgliftDelegate",
        f"arn:aws-us-gov:iam::{hub}:root",
        wish["external_id"],
    )
    make_role(client("iam", member, region), "OrgliftMember", way, wish["external_id"], wish["tenant"]["policy"])
    network = make_network(client("ec2", member, region), f"{region}a")
    return way, {"id": member, "name": "tenant", **network, **make_runner(member, region)}


hub, members = organization()
way, member = tenant()
stranger = session_of(wish["tenant"]["delegate"], wish["region"], f"OrgliftRunner-{wish['region']}")
json.dump(
    {"hub": hub, "members": members, "way": way, "tenant": member, "stranger": stranger}, sys.stdout
)

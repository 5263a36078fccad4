"""Makes an organization of many accounts with a member role in each, for a benchmark.

    many_accounts.py COUNT EXTERNAL_ID    prints the account that the hub sets out from, its key, and the members' ids
"""

import json
import sys

from clients import client, key_of

count, external_id = int(sys.argv[1]), sys.argv[2]
UNITS = 10

organizations = client("organizations", "100000000001", "us-east-1")
organizations.create_organization(FeatureSet="ALL")
[root] = organizations.list_roots()["Roots"]


def account(name):
    made = organizations.create_account(AccountName=name, Email=f"{name}@example.com")
    return made["CreateAccountStatus"]["AccountId"]


hub = account("migration")
organizations.register_delegated_administrator(AccountId=hub, ServicePrincipal="mgn.amazonaws.com")
trust = json.dumps(
    {
        "Version": "2012-10-17",
        "Statement": [
            {
                "Effect": "Allow",
                "Principal": {"AWS": f"arn:aws:iam::{hub}:root"},
                "Action": ["sts:AssumeRole", "sts:TagSession"],
                "Condition": {"StringEquals": {"sts:ExternalId": external_id}},
            }
        ],
    }
)
units = [
    organizations.create_organizational_unit(ParentId=root["Id"], Name=f"Unit{number}")["OrganizationalUnit"]["Id"]
    for number in range(UNITS)
]
members = []
for number in range(count):
    member = account(f"member-{number}")
    organizations.move_account(
        AccountId=member, SourceParentId=root["Id"], DestinationParentId=units[number % UNITS]
    )
    client("iam", member).create_role(RoleName="OrgliftMember", AssumeRolePolicyDocument=trust)
    members.append(member)
json.dump({"hub": hub, "key": key_of(hub), "members": members}, sys.stdout)

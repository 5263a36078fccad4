"""Templates and policies of `orglift-hub onboarding`, read by cfn-lint and parliament. Nothing here is called.

cfn-lint knows the resource types of every region, and the actions of every service. parliament knows, besides, which
resources and conditions an action takes, as of its last release; of conditions on tags it has the facts and does not
use them, so we do.
"""

import fnmatch
import itertools
import json
import os
import re
import subprocess
import sys
import tempfile
import unittest
from pathlib import Path

from parliament import analyze_policy_string, iam_definition

MEMBER = "111122223333"
# One of each partition.
REGIONS = ["eu-central-1", "us-gov-west-1", "cn-north-1"]
KEY, FORMER_KEY = (
    f"arn:aws:kms:eu-central-1:{MEMBER}:key/{name}"
    for name in ["0c1d2e3f-0000-4000-8000-000000000000", "8e9f0a1b-0000-4000-8000-000000000000"]
)
FEATURES = {
    "logs": ["--feature", "logs"],
    "quotas": ["--feature", "quotas"],
    "drift": ["--feature", "drift"],
    "dry-run": ["--feature", "dry-run"],
    "kms": ["--kms-key", KEY],
    "another-kms": ["--kms-key", KEY, "--former-kms-key", FORMER_KEY],
    "instance-roles": ["--instance-role", f"arn:aws:iam::{MEMBER}:role/Web"],
}
# What references are resolved to, for parliament.
NAMES = {
    "AWS::Partition": "aws",
    "AWS::AccountId": MEMBER,
    "AWS::URLSuffix": "amazonaws.com",
    "AWS::StackName": "orglift-member",
    "AllowedRegions": ["eu-central-1"],
    "Bucket.Arn": "arn:aws:s3:::orglift",
    "InstanceRoleArns": [f"arn:aws:iam::{MEMBER}:role/Web"],
    "KmsKeyArn": KEY,
    "FormerKmsKeyArn": FORMER_KEY,
    "LogGroup.Arn": f"arn:aws:logs:eu-central-1:{MEMBER}:log-group:orglift:*",
    "MemberRoleName": "OrgliftMember",
}


def onboarding(folder, *more):
    out = Path(folder) / "onboarding.json"
    command = [os.environ["ORGLIFT_HUB"], "onboarding", "--out", out]
    command += ["--hub-principal", "arn:aws:iam::444455556666:role/OrgliftHub", "--external-id", "orglift-7f3c9a"]
    command += ["--region", "eu-central-1", "--hub", "10.1.2.3:8443", "--source-range", "10.20.0.0/16"]
    command += ["--runner-sha256", "0a" * 32, "--hub-ca", "0c" * 32, *more]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    return json.loads(out.read_text())


def variants():
    """All choices of features."""
    for count in range(len(FEATURES) + 1):
        for chosen in itertools.combinations(FEATURES, count):
            if "kms" in chosen and "another-kms" in chosen:
                continue
            yield [option for feature in chosen for option in FEATURES[feature]]


def resolved(value):
    if isinstance(value, list):
        return [resolved(one) for one in value]
    if not isinstance(value, dict):
        return value
    if "Ref" in value:
        return NAMES[value["Ref"]]
    if "Fn::Sub" in value:
        return re.sub(r"\$\{([^}]+)\}", lambda found: NAMES[found[1]], value["Fn::Sub"])
    return {key: resolved(one) for key, one in value.items()}


def findings(policy):
    """Those of parliament that are none of ours.

    It asks each statement for all resources that an action needs. EC2 needs several for some, which have conditions of
    their own and therefore, as in AWS's own examples, statements of their own.
    """
    statements = policy["Statement"]
    found = []
    for finding in analyze_policy_string(json.dumps(policy)).findings:
        if finding.issue != "RESOURCE_MISMATCH":
            found.append(f"{finding.issue} {finding.detail}")
            continue
        for missing in finding.detail:
            granted = [
                resource
                for statement in statements
                if missing["action"] in statement["Action"]
                for resource in statement["Resource"]
            ]
            # Both are patterns; ours has letters where AWS's has a star.
            if not any(fnmatch.fnmatchcase(resource, missing["required_format"]) for resource in granted):
                found.append(f"{finding.issue} {missing}")
    return found


def idle_tag_conditions(policy):
    """Conditions on tags that AWS would not evaluate: the action has no such key for the resource, so nobody passes."""
    facts = {
        f"{service['prefix']}:{privilege['privilege']}": privilege["resource_types"]
        for service in iam_definition
        for privilege in service["privileges"]
    }
    idle = []
    for statement in policy["Statement"]:
        for key in statement.get("Condition", {}).get("Null", {}):
            wanted = key.split("/")[0] + "/${TagKey}"
            for action, resource in itertools.product(statement["Action"], statement["Resource"]):
                kind = resource.split(":", 5)[5].split("/")[0]
                # A row without a name is of the action as a whole.
                rows = [row for row in facts[action] if row["resource_type"].rstrip("*") in (kind, "")]
                named = any(row["resource_type"] for row in rows)
                # One that the action does not know does not matter: some other action of the statement does.
                if named and not any(wanted in row["condition_keys"] for row in rows):
                    idle.append(f"{statement['Sid']}: {action} on {kind} has no {wanted}")
    return idle


def cfn_lint(*files):
    command = [Path(sys.executable).with_name("cfn-lint"), "--regions", *REGIONS, "--include-checks", "I"]
    done = subprocess.run([*command, "--", *files], capture_output=True, text=True, timeout=500, check=False)
    return done.returncode, done.stdout + done.stderr


class Lint(unittest.TestCase):
    def setUp(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.folder = Path(folder.name)

    def test_templates_of_all_variants(self):
        files = []
        for number, options in enumerate(variants()):
            for kind in [["--account", MEMBER], ["--format", "stackset"]]:
                # With and without values, a template differs in defaults only; not every pair needs to be read.
                if number % 8 and kind[0] == "--format":
                    continue
                files.append(self.folder / f"{number}-{kind[0].strip('-')}.json")
                files[-1].write_text(json.dumps(onboarding(self.folder, *kind, *options)))
        # With a key, with a former one besides, or without.
        self.assertGreaterEqual(len(files), 3 * 2 ** (len(FEATURES) - 2))
        self.assertEqual(cfn_lint(*files), (0, ""))

    def test_policies_of_all_variants(self):
        every = [option for feature, options in FEATURES.items() if feature != "kms" for option in options]
        for options in [[], every, *FEATURES.values()]:
            resources = onboarding(self.folder, "--account", MEMBER, *options)["Resources"]
            for role in ["MemberRole", "RunnerRole"]:
                [policy] = resources[role]["Properties"]["Policies"]
                plain = resolved(policy["PolicyDocument"])
                self.assertEqual(findings(plain), [], f"{role} {options}")
                self.assertEqual(idle_tag_conditions(plain), [])
            made = onboarding(self.folder, "--account", MEMBER, "--format", "policy", *options)
            [same] = resources["MemberRole"]["Properties"]["Policies"]
            self.assertEqual(made["PolicyDocument"], resolved(same["PolicyDocument"]))

    def test_mistakes_are_found(self):
        template = onboarding(self.folder, "--account", MEMBER)
        [policy] = template["Resources"]["MemberRole"]["Properties"]["Policies"]
        [look, *_] = policy["PolicyDocument"]["Statement"]

        look["Action"].append("ec2:DescribeNothing")
        broken = self.folder / "broken.json"
        broken.write_text(json.dumps(template))
        status, said = cfn_lint(broken)
        self.assertNotEqual(status, 0)
        self.assertIn("describenothing", said.lower())
        self.assertTrue(any("DescribeNothing" in found for found in findings(resolved(policy["PolicyDocument"]))))

        look["Action"].pop()
        look["Condition"]["StringEquals"]["ec2:CreateAction"] = "RunInstances"
        self.assertTrue(any("CONDITION" in found for found in findings(resolved(policy["PolicyDocument"]))))

        del look["Condition"]["StringEquals"]["ec2:CreateAction"]
        [terminate] = [s for s in policy["PolicyDocument"]["Statement"] if s["Sid"] == "EndOwnInstances"]
        terminate["Condition"]["Null"] = {"aws:RequestTag/orglift:source-server": "false"}
        idle = idle_tag_conditions(resolved(policy["PolicyDocument"]))
        self.assertEqual(len(idle), len(terminate["Action"]), idle)

        statements = [s for s in policy["PolicyDocument"]["Statement"] if s["Sid"] != "LaunchIntoNetwork"]
        policy["PolicyDocument"]["Statement"] = statements
        self.assertTrue(any("subnet" in found for found in findings(resolved(policy["PolicyDocument"]))))


if __name__ == "__main__":
    unittest.main()

"""Faults that tests set while clients run, and the log of calls."""

import concurrent.futures
import itertools
import time
import unittest

from botocore.exceptions import ClientError, ConnectionClosedError, HTTPClientError
from clients import BLOCK, Case, REGION, client, control, http, signed_as
from ebs_direct import Disk, block

accounts = (str(number) for number in itertools.count(330000000001))


def faults(*those):
    control("PUT", "faults", list(those))


def hits():
    return [fault["hits"] for fault in control("GET", "faults")]


class Faults(Case):
    def test_each_service_refuses_in_its_own_words(self):
        account = next(accounts)
        calls = {
            "ec2": client("ec2", account).describe_vpcs,
            "sts": client("sts", account).get_caller_identity,
            "iam": client("iam", account).list_roles,
            "organizations": client("organizations", account, "us-east-1").list_roots,
            "ssm": client("ssm", account).describe_parameters,
            "ebs": Disk(account).start,
            "s3": client("s3", account).list_buckets,
        }
        throttled = {
            "ec2": "RequestLimitExceeded",
            "sts": "Throttling",
            "iam": "Throttling",
            "organizations": "TooManyRequestsException",
            "ssm": "ThrottlingException",
            "ebs": "ThrottlingException",
            "s3": "SlowDown",
        }
        denied = {
            "ec2": "UnauthorizedOperation",
            "sts": "AccessDenied",
            "iam": "AccessDenied",
            "organizations": "AccessDeniedException",
            "ssm": "AccessDeniedException",
            "ebs": "AccessDeniedException",
            "s3": "AccessDenied",
        }
        for effect, words in [("throttle", throttled), ("deny", denied)]:
            faults({"effect": {"type": effect}})
            for service, call in calls.items():
                with self.subTest(service=service, effect=effect):
                    self.refused(words[service], call)
        faults({"effect": {"type": "reject", "code": "ExpiredToken", "message": "<expired> & gone"}})
        for service in ["ec2", "sts", "ssm"]:
            refusal = self.refused("ExpiredToken", calls[service])
            self.assertEqual(refusal["Error"]["Message"], "<expired> & gone")
        faults({"effect": {"type": "fail"}})
        for call in calls.values():
            with self.assertRaises(ClientError) as caught:
                call()
            self.assertEqual(caught.exception.response["ResponseMetadata"]["HTTPStatusCode"], 500)

    def test_a_fault_strikes_whom_it_names_and_as_often_as_it_says(self):
        account, other = next(accounts), next(accounts)
        faults(
            {
                "account": account,
                "region": REGION,
                "service": "ec2",
                "action": "DescribeVpcs",
                "effect": {"type": "throttle"},
                "count": 2,
            }
        )
        client("ec2", other).describe_vpcs()
        client("ec2", account, "eu-west-1").describe_vpcs()
        client("ec2", account).describe_subnets()
        ec2 = client("ec2", account)
        self.refused("RequestLimitExceeded", ec2.describe_vpcs)
        # A client that tries again gets through.
        client("ec2", account, attempts=3).describe_vpcs()
        self.assertEqual(hits(), [2])
        ec2.describe_vpcs()
        self.assertEqual(hits(), [2])

    def test_what_is_forgotten_was_done(self):
        account = next(accounts)
        ec2 = client("ec2", account)
        before = len(ec2.describe_vpcs()["Vpcs"])
        faults({"action": "CreateVpc", "effect": {"type": "forget"}})
        with self.assertRaises(ConnectionClosedError):
            ec2.create_vpc(CidrBlock="10.1.0.0/16")
        self.assertEqual(len(ec2.describe_vpcs()["Vpcs"]), before + 1)
        faults({"action": "CreateVpc", "effect": {"type": "reset"}})
        with self.assertRaises(ConnectionClosedError):
            ec2.create_vpc(CidrBlock="10.2.0.0/16")
        self.assertEqual(len(ec2.describe_vpcs()["Vpcs"]), before + 1)

    def test_calls_are_held(self):
        account = next(accounts)
        ec2 = client("ec2", account)
        count = lambda: len(ec2.describe_vpcs()["Vpcs"])
        before = count()
        with concurrent.futures.ThreadPoolExecutor() as pool:
            for number, (effect, meanwhile) in enumerate([("hold_before", 0), ("hold_after", 1)]):
                faults({"action": "CreateVpc", "effect": {"type": effect}})
                asked = pool.submit(client("ec2", account).create_vpc, CidrBlock=f"10.{number}.0.0/16")
                self.eventually(lambda: hits() == [1])
                self.eventually(lambda: count() == before + meanwhile)
                self.assertFalse(asked.done())
                faults()
                asked.result(timeout=10)
                before += 1
                self.assertEqual(count(), before)

    def test_slow_answers(self):
        faults({"service": "sts", "effect": {"type": "slow", "millis": 700}})
        began = time.monotonic()
        client("sts", next(accounts)).get_caller_identity()
        self.assertGreaterEqual(time.monotonic() - began, 0.7)

    def test_a_snapshot_that_is_not_yet_seen(self):
        disk = Disk(next(accounts))
        faults({"action": "StartSnapshot", "effect": {"type": "unseen", "millis": 5000}})
        snapshot = disk.start()
        self.assertEqual(disk.state(snapshot), "pending")
        refusal = self.refused("ResourceNotFoundException", disk.put, snapshot, 0, block("x"))
        self.assertIn("does not exist", refusal["Message"])

        def is_put():
            try:
                return disk.put(snapshot, 0, block("x"))
            except ClientError:
                return None

        self.eventually(is_put)
        faults({"action": "CompleteSnapshot", "effect": {"type": "unseen", "millis": 20000}})
        disk.complete(snapshot, {0: block("x")})
        disk.until(snapshot, "completed")
        self.refused("ResourceNotFoundException", disk.listed, snapshot)

    def test_a_fault_that_is_no_fault_is_not_taken(self):
        for wrong in [b"{", b'[{"effect": {"type": "explode"}}]', b'[{"effect": {"type": "fail"}, "acount": "1"}]']:
            status, _, _ = http("PUT", "/_lab/faults", {}, wrong)
            self.assertEqual(status, 400)


class Calls(Case):
    def test_each_call_is_logged_with_its_end(self):
        control("DELETE", "calls")
        account = next(accounts)
        client("sts", account).get_caller_identity()
        disk = Disk(account, "us-gov-west-1")
        snapshot = disk.start()
        for index in range(3):
            disk.put(snapshot, index, bytes(BLOCK))
        self.refused("ValidationException", disk.put, snapshot, 9999, bytes(BLOCK))
        faults({"action": "DescribeVpcs", "effect": {"type": "reset"}})
        with self.assertRaises(HTTPClientError):
            disk.ec2.describe_vpcs()
        faults()
        presigned = client("sts", account).generate_presigned_url("get_caller_identity")
        status, _, body = http("GET", presigned[presigned.index("/?") :])
        self.assertEqual(status, 200)
        self.assertIn(account.encode(), body)
        seen = [
            (call["service"], call["action"], call["region"], call["status"])
            for call in control("GET", "calls")
            if call["account"] == account
        ]
        self.assertEqual(
            seen,
            [
                ("sts", "GetCallerIdentity", REGION, 200),
                ("ebs", "StartSnapshot", "us-gov-west-1", 201),
                *[("ebs", "PutSnapshotBlock", "us-gov-west-1", 201)] * 3,
                ("ebs", "PutSnapshotBlock", "us-gov-west-1", 400),
                ("ec2", "DescribeVpcs", "us-gov-west-1", None),
                ("sts", "GetCallerIdentity", REGION, 200),
            ],
        )

    def test_what_is_not_signed_is_refused(self):
        account = next(accounts)
        form = {"Content-Type": "application/x-www-form-urlencoded"}
        asked = b"Action=GetCallerIdentity&Version=2011-06-15"
        status, _, body = http("POST", "/", form, asked)
        self.assertEqual(status, 403)
        self.assertIn(b"MissingAuthenticationToken", body)
        signed = signed_as(account, "sts")
        status, _, body = http("POST", "/", form | signed, asked)
        self.assertEqual(status, 200)
        signed["Authorization"] = signed["Authorization"].replace("Credential=AKIA", "Credential=ASIA")
        status, _, body = http("POST", "/", form | signed, asked)
        self.assertIn(b"InvalidClientTokenId", body)


if __name__ == "__main__":
    unittest.main()

"""EBS direct: what is put is read, through every line of parents, and what is wrong is refused as AWS refuses it."""

import base64
import hashlib
import itertools
import json
import time
import unittest

from clients import BLOCK, Case, REGION, client, command_line, control, http, signed_as

accounts = (str(number) for number in itertools.count(320000000001))


def digest(data):
    return hashlib.sha256(data).digest()


def text_of(data):
    return base64.b64encode(digest(data)).decode()


def block(seed):
    return hashlib.shake_128(str(seed).encode()).digest(BLOCK)


ZEROS = bytes(BLOCK)


class Disk:
    """Snapshots of one disk in an account."""

    def __init__(self, account=None, region=REGION):
        self.account = account or next(accounts)
        self.ebs = client("ebs", self.account, region)
        self.ec2 = client("ec2", self.account, region)

    def start(self, gib=1, parent=None, **more):
        if parent:
            more["ParentSnapshotId"] = parent
        return self.ebs.start_snapshot(VolumeSize=gib, **more)["SnapshotId"]

    def put(self, snapshot, index, data, **changed):
        parameters = {
            "SnapshotId": snapshot,
            "BlockIndex": index,
            "BlockData": data,
            "DataLength": len(data),
            "Checksum": text_of(data),
            "ChecksumAlgorithm": "SHA256",
        }
        return self.ebs.put_snapshot_block(**parameters | changed)

    def complete(self, snapshot, blocks):
        """With the checksum over all blocks, in the order of their indexes."""
        linear = b"".join(digest(blocks[index]) for index in sorted(blocks))
        return self.ebs.complete_snapshot(
            SnapshotId=snapshot,
            ChangedBlocksCount=len(blocks),
            Checksum=text_of(linear),
            ChecksumAlgorithm="SHA256",
            ChecksumAggregationMethod="LINEAR",
        )

    def snapshot(self, blocks, gib=1, parent=None, **more):
        """A completed one."""
        snapshot = self.start(gib, parent, **more)
        for index, data in blocks.items():
            self.put(snapshot, index, data)
        self.complete(snapshot, blocks)
        self.until(snapshot, "completed")
        return snapshot

    def state(self, snapshot):
        return self.ec2.describe_snapshots(SnapshotIds=[snapshot])["Snapshots"][0]["State"]

    def until(self, snapshot, state):
        deadline = time.monotonic() + 30
        while self.state(snapshot) != state:
            assert time.monotonic() < deadline, self.state(snapshot)
            time.sleep(0.05)

    def listed(self, snapshot):
        found, token = {}, {}
        while True:
            page = self.ebs.list_snapshot_blocks(SnapshotId=snapshot, **token)
            found |= {entry["BlockIndex"]: entry["BlockToken"] for entry in page["Blocks"]}
            if "NextToken" not in page:
                return found
            token = {"NextToken": page["NextToken"]}

    def content(self, snapshot):
        """Every block that is not zeros."""
        return {index: self.read(snapshot, index, token) for index, token in self.listed(snapshot).items()}

    def read(self, snapshot, index, token):
        got = self.ebs.get_snapshot_block(SnapshotId=snapshot, BlockIndex=index, BlockToken=token)
        data = got["BlockData"].read()
        assert (got["DataLength"], got["ChecksumAlgorithm"]) == (BLOCK, "SHA256")
        assert got["Checksum"] == text_of(data)
        return data

    def changed(self, first, second):
        answer = self.ebs.list_changed_blocks(FirstSnapshotId=first, SecondSnapshotId=second)
        return {
            entry["BlockIndex"]: ("FirstBlockToken" in entry, "SecondBlockToken" in entry)
            for entry in answer["ChangedBlocks"]
        }


class RoundTrips(Case):
    def test_a_line_of_snapshots(self):
        disk = Disk()
        first = disk.snapshot({0: block("a"), 1: block("b"), 2047: block("c")})
        second = disk.snapshot({1: block("d"), 2: block("e"), 2047: ZEROS}, parent=first)
        third = disk.snapshot({3000: block("f")}, gib=2, parent=second)
        self.assertEqual(disk.content(first), {0: block("a"), 1: block("b"), 2047: block("c")})
        of_second = {0: block("a"), 1: block("d"), 2: block("e")}
        self.assertEqual(disk.content(second), of_second)
        self.assertEqual(disk.content(third), of_second | {3000: block("f")})
        self.assertEqual(
            disk.changed(first, second), {1: (True, True), 2: (False, True), 2047: (True, False)}
        )
        self.assertEqual(disk.changed(second, third), {3000: (False, True)})
        self.assertEqual(disk.changed(first, first), {})

        # What is deleted lives on in its children, and nowhere else.
        disk.ec2.delete_snapshot(SnapshotId=first)
        self.refused("ResourceNotFoundException", disk.listed, first)
        self.refused("ResourceNotFoundException", disk.start, parent=first)
        self.assertEqual(disk.content(second), of_second)
        self.assertEqual(disk.content(third), of_second | {3000: block("f")})

    def test_what_ec2_knows_of_it(self):
        disk = Disk()
        tags = [{"Key": "server", "Value": "web-1"}]
        started = disk.ebs.start_snapshot(VolumeSize=3, Description="of web-1", Tags=tags)
        self.assertEqual(started["Status"], "pending")
        self.assertEqual((started["VolumeSize"], started["BlockSize"]), (3, BLOCK))
        self.assertEqual((started["OwnerId"], started["Tags"]), (disk.account, tags))
        snapshot = started["SnapshotId"]
        [shown] = disk.ec2.describe_snapshots(Filters=[{"Name": "tag:server", "Values": ["web-1"]}])["Snapshots"]
        self.assertEqual((shown["SnapshotId"], shown["State"], shown["VolumeSize"]), (snapshot, "pending", 3))
        self.assertEqual((shown["Description"], shown["OwnerId"]), ("of web-1", disk.account))
        self.assertEqual((shown["StartTime"] - started["StartTime"]).total_seconds() < 60, True)
        self.refused("IncorrectState", disk.ec2.create_volume, SnapshotId=snapshot, AvailabilityZone=f"{REGION}a")
        disk.ec2.create_tags(Resources=[snapshot], Tags=[{"Key": "checkpoint", "Value": "7"}])
        disk.complete(snapshot, {})
        disk.until(snapshot, "completed")
        by_command = command_line(disk.account, "ec2", "describe-snapshots", "--snapshot-ids", snapshot)
        self.assertEqual(len(by_command["Snapshots"][0]["Tags"]), 2)
        volume = disk.ec2.create_volume(SnapshotId=snapshot, AvailabilityZone=f"{REGION}a")
        self.assertEqual((volume["Size"], volume["SnapshotId"]), (3, snapshot))

    def test_image_instance_snapshot(self):
        disk = Disk()
        boot = disk.snapshot({0: block("mbr"), 100: block("kernel")})
        data = disk.snapshot({5: block("old")}, gib=2)
        data = disk.snapshot({6: block("new")}, gib=2, parent=data)
        image = disk.ec2.register_image(
            Name="web-1",
            RootDeviceName="/dev/sda1",
            VirtualizationType="hvm",
            BlockDeviceMappings=[
                {"DeviceName": "/dev/sda1", "Ebs": {"SnapshotId": boot}},
                {"DeviceName": "/dev/sdf", "Ebs": {"SnapshotId": data, "VolumeType": "gp3"}},
            ],
        )["ImageId"]
        disk.ec2.run_instances(ImageId=image, MinCount=1, MaxCount=1)
        read = {}
        for volume in disk.ec2.describe_volumes()["Volumes"]:
            again = disk.ec2.create_snapshot(VolumeId=volume["VolumeId"])["SnapshotId"]
            disk.until(again, "completed")
            read[volume["Attachments"][0]["Device"]] = disk.content(again)
            copy = disk.ec2.copy_snapshot(SourceRegion=REGION, SourceSnapshotId=again)["SnapshotId"]
            disk.until(copy, "completed")
            self.assertEqual(disk.content(copy), disk.content(again))
        self.assertEqual(
            read,
            {
                "/dev/sda1": {0: block("mbr"), 100: block("kernel")},
                "/dev/sdf": {5: block("old"), 6: block("new")},
            },
        )

    def test_pages(self):
        disk = Disk()
        control("PUT", "settings", {"put_per_snapshot": 10_000, "put": 10_000})
        blocks = {index * 3: ZEROS[:-1] + bytes([1 + index % 200]) for index in range(250)}
        snapshot = disk.snapshot(blocks)
        pages, token = [], {}
        while True:
            page = disk.ebs.list_snapshot_blocks(SnapshotId=snapshot, MaxResults=100, **token)
            pages.append([entry["BlockIndex"] for entry in page["Blocks"]])
            if "NextToken" not in page:
                break
            token = {"NextToken": page["NextToken"]}
        self.assertEqual([len(page) for page in pages], [100, 100, 50])
        self.assertEqual(sum(pages, []), sorted(blocks))
        some = disk.ebs.list_snapshot_blocks(SnapshotId=snapshot, StartingBlockIndex=700)["Blocks"]
        self.assertEqual([entry["BlockIndex"] for entry in some], [index for index in blocks if index >= 700])
        self.refused(
            "ValidationException", disk.ebs.list_snapshot_blocks, SnapshotId=snapshot, NextToken="AAAAAAAAAAAAAAAA"
        )

    def test_with_the_aws_cli(self):
        disk = Disk()
        snapshot = command_line(disk.account, "ebs", "start-snapshot", "--volume-size", "1")["SnapshotId"]
        disk.put(snapshot, 7, block("x"))
        command_line(
            disk.account, "ebs", "complete-snapshot", "--snapshot-id", snapshot, "--changed-blocks-count", "1"
        )
        disk.until(snapshot, "completed")
        [entry] = command_line(disk.account, "ebs", "list-snapshot-blocks", "--snapshot-id", snapshot)["Blocks"]
        self.assertEqual(entry["BlockIndex"], 7)


class Refusals(Case):
    def reason(self, code, reason, call, *args, **kwargs):
        response = self.refused(code, call, *args, **kwargs)
        self.assertEqual(response.get("Reason"), reason, response)

    def test_what_cannot_be_started(self):
        disk = Disk()
        pending, done = disk.start(), disk.snapshot({}, gib=2)
        key = client("kms", disk.account).create_key()["KeyMetadata"]["Arn"]
        for reason, asked in [
            ("INVALID_VOLUME_SIZE", {"gib": 65537}),
            ("INVALID_VOLUME_SIZE", {"gib": 1, "parent": done}),
            ("INVALID_SNAPSHOT_ID", {"parent": pending}),
            ("INVALID_PARAMETER_VALUE", {"gib": 2, "parent": done, "Encrypted": True}),
            ("INVALID_PARAMETER_VALUE", {"KmsKeyArn": key}),
            ("INVALID_PARAMETER_VALUE", {"Timeout": 4321}),
        ]:
            with self.subTest(asked):
                self.reason("ValidationException", reason, disk.start, **asked)
        self.reason("ResourceNotFoundException", "SNAPSHOT_NOT_FOUND", disk.start, parent="snap-0123456789abcdef0")
        elsewhere = Disk(disk.account, "eu-west-1")
        self.reason("ResourceNotFoundException", "SNAPSHOT_NOT_FOUND", elsewhere.start, gib=2, parent=done)
        somebody = Disk()
        self.reason("ResourceNotFoundException", "SNAPSHOT_NOT_FOUND", somebody.start, gib=2, parent=done)

    def test_blocks_that_are_not_taken(self):
        disk = Disk()
        snapshot = disk.start()
        for changed in [
            {"BlockIndex": 2048},
            {"BlockData": block("x")[1:], "DataLength": BLOCK - 1},
            {"DataLength": BLOCK - 1},
            {"Checksum": text_of(b"")},
        ]:
            with self.subTest(list(changed)):
                self.reason("ValidationException", "INVALID_BLOCK", disk.put, snapshot, 0, block("x"), **changed)
        self.refused("ResourceNotFoundException", disk.put, "snap-0123456789abcdef0", 0, block("x"))
        self.refused("ResourceNotFoundException", Disk().put, snapshot, 0, block("x"))
        disk.complete(snapshot, {})
        self.reason("ValidationException", "INVALID_SNAPSHOT_ID", disk.put, snapshot, 0, block("x"))
        disk.until(snapshot, "completed")
        self.assertEqual(disk.content(snapshot), {})

    def test_completions_that_do_not_fit(self):
        disk = Disk()
        snapshot = disk.start()
        disk.put(snapshot, 1, block("x"))
        # The last data of a block counts.
        disk.put(snapshot, 1, block("y"))
        self.refused("ValidationException", disk.complete, snapshot, {})
        self.refused("ValidationException", disk.complete, snapshot, {1: block("x")})
        self.reason("ValidationException", "INVALID_SNAPSHOT_ID", disk.listed, snapshot)
        disk.complete(snapshot, {1: block("y")})
        self.refused("ValidationException", disk.complete, snapshot, {1: block("y")})
        disk.until(snapshot, "completed")
        self.refused("ValidationException", disk.complete, snapshot, {1: block("y")})
        self.assertEqual(disk.content(snapshot), {1: block("y")})

    def test_reads_that_are_not_answered(self):
        disk = Disk()
        one, other = disk.snapshot({1: block("x")}), disk.snapshot({1: block("y")})
        token = disk.listed(one)[1]
        self.reason("ValidationException", "INVALID_BLOCK_TOKEN", disk.read, other, 1, token)
        self.reason("ValidationException", "INVALID_BLOCK_TOKEN", disk.read, one, 2, token)
        self.reason("ValidationException", "UNRELATED_SNAPSHOTS", disk.changed, one, other)
        self.reason("ValidationException", "INVALID_PARAMETER_VALUE", disk.ebs.list_snapshot_blocks, SnapshotId=one, MaxResults=10001)
        self.refused("ResourceNotFoundException", Disk().listed, one)

    def test_the_shape_of_an_error(self):
        account = next(accounts)
        status, headers, body = http("GET", "/snapshots/snap-0123456789abcdef0/blocks", signed_as(account, "ebs"))
        self.assertEqual((status, headers["x-amzn-ErrorType"]), (404, "ResourceNotFoundException"))
        self.assertEqual(json.loads(body)["Reason"], "SNAPSHOT_NOT_FOUND")
        status, _, _ = http("GET", "/snapshots/..%2f..%2fetc/blocks", signed_as(account, "ebs"))
        self.assertEqual(status, 404)
        status, _, body = http("GET", "/snapshots/snap-0123456789abcdef0/blocks")
        self.assertEqual(status, 403)
        self.assertIn(b"MissingAuthenticationToken", body)
        status, _, _ = http("DELETE", "/snapshots", signed_as(account, "ebs"))
        self.assertEqual(status, 404)


class Limits(Case):
    def test_a_client_token_starts_one_snapshot(self):
        disk = Disk()
        first = disk.start(ClientToken="mgnjob-1/snapshot")
        self.assertEqual(disk.start(ClientToken="mgnjob-1/snapshot"), first)
        conflict = self.refused("ConflictException", disk.start, gib=2, ClientToken="mgnjob-1/snapshot")
        self.assertEqual(conflict["ResponseMetadata"]["HTTPStatusCode"], 409)
        self.assertNotEqual(Disk().start(ClientToken="mgnjob-1/snapshot"), first)
        self.assertEqual(len(disk.ec2.describe_snapshots(OwnerIds=["self"])["Snapshots"]), 1)

    def test_a_snapshot_that_is_left_alone_becomes_an_error(self):
        control("PUT", "settings", {"minute_ms": 400})
        disk = Disk()
        snapshot = disk.start(Timeout=10)
        self.assertEqual(disk.state(snapshot), "pending")
        time.sleep(2.4)
        # Each block begins the time anew.
        disk.put(snapshot, 0, block("x"))
        time.sleep(2.4)
        self.assertEqual(disk.state(snapshot), "pending")
        disk.until(snapshot, "error")
        self.refused("ValidationException", disk.put, snapshot, 1, block("x"))
        self.refused("ValidationException", disk.complete, snapshot, {0: block("x")})

    def test_encryption(self):
        disk = Disk()
        key = client("kms", disk.account).create_key()["KeyMetadata"]["Arn"]
        named = disk.ebs.start_snapshot(VolumeSize=1, Encrypted=True, KmsKeyArn=key)
        self.assertEqual((named["KmsKeyArn"], named["SseType"]), (key, "sse-kms"))
        snapshot = disk.snapshot({0: block("x")}, Encrypted=True, KmsKeyArn=key)
        child = disk.ebs.start_snapshot(VolumeSize=1, ParentSnapshotId=snapshot)
        self.assertEqual(child["KmsKeyArn"], key)
        [shown] = disk.ec2.describe_snapshots(SnapshotIds=[child["SnapshotId"]])["Snapshots"]
        self.assertEqual((shown["Encrypted"], shown["KmsKeyId"]), (True, key))
        plain = disk.ebs.start_snapshot(VolumeSize=1)
        self.assertEqual((plain.get("KmsKeyArn"), plain["SseType"]), (None, "none"))
        disk.ec2.enable_ebs_encryption_by_default()
        by_default = disk.ebs.start_snapshot(VolumeSize=1)
        self.assertEqual(by_default["KmsKeyArn"], disk.ec2.get_ebs_default_kms_key_id()["KmsKeyId"])

    def test_pending_snapshots_are_limited(self):
        control("PUT", "settings", {"pending_snapshots": 2})
        disk = Disk()
        first, _ = disk.start(), disk.start()
        self.refused("ConcurrentLimitExceededException", disk.start)
        Disk().start()
        disk.complete(first, {})
        disk.until(first, "completed")
        disk.ec2.delete_snapshot(SnapshotId=disk.start())
        disk.start()

    def test_quotas_of_requests(self):
        disk = Disk()
        snapshot = disk.start()
        throttled = {
            "put_per_snapshot": ("RequestThrottledException", "RESOURCE_LEVEL_THROTTLE"),
            "put": ("ThrottlingException", None),
        }
        for quota, (code, reason) in throttled.items():
            # None at all: how many a second are let through does not hang on how fast this is.
            control("PUT", "settings", {quota: 0})
            refusal = self.refused(code, disk.put, snapshot, 0, block("x"))
            self.assertEqual(refusal.get("Reason"), reason)
        control("PUT", "settings", {"start": 0, "list": 0})
        disk.put(snapshot, 0, block("x"))
        disk.complete(snapshot, {0: block("x")})
        self.refused("ThrottlingException", disk.start)
        self.refused("ThrottlingException", disk.listed, snapshot)


if __name__ == "__main__":
    unittest.main()

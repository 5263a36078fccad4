"""Public clients of the endpoints that ORGLIFT_AWS names: boto3, the AWS CLI, and HTTP without either."""

import base64
import json
import os
import subprocess
import sys
import time
import unittest
import urllib.error
import urllib.request
from pathlib import Path

import boto3
from botocore.config import Config
from botocore.exceptions import ClientError

ENDPOINT = os.environ["ORGLIFT_AWS"]
REGION = "eu-central-1"
BLOCK = 512 * 1024
ALPHABET = "ABCDEFGHIJKLMNOPQRSTUVWXYZ234567"


def key_of(account):
    """An access key id of the account's own, which says its number as AWS's do."""
    half, odd = divmod(int(account), 2)
    number = base64.b32encode((half + (1 << 39)).to_bytes(5, "big")).decode()
    return f"AKIA{number}{'Q' if odd else 'A'}AAAAAAA"


def credentials(account):
    return {"AccessKeyId": key_of(account), "SecretAccessKey": "secret"}


def client(service, who, region=REGION, attempts=1):
    """For an account, by its number, or with the credentials that STS gave."""
    if isinstance(who, str):
        who = credentials(who)
    return boto3.client(
        service,
        endpoint_url=ENDPOINT,
        region_name=region,
        aws_access_key_id=who["AccessKeyId"],
        aws_secret_access_key=who["SecretAccessKey"],
        aws_session_token=who.get("SessionToken"),
        config=Config(retries={"total_max_attempts": attempts}, read_timeout=20, connect_timeout=5),
    )


def command_line(account, *args):
    """What the AWS CLI answers."""
    environment = {
        "PATH": os.environ["PATH"],
        "AWS_ACCESS_KEY_ID": key_of(account),
        "AWS_SECRET_ACCESS_KEY": "secret",
        "AWS_CONFIG_FILE": os.devnull,
        "AWS_SHARED_CREDENTIALS_FILE": os.devnull,
        "AWS_PAGER": "",
    }
    aws = Path(sys.executable).with_name("aws")
    command = [aws, "--endpoint-url", ENDPOINT, "--region", REGION, "--output", "json", *args]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60, check=False)
    if done.returncode:
        raise AssertionError(done.stderr)
    return json.loads(done.stdout) if done.stdout.strip() else None


def http(method, path, headers=(), body=None):
    """Status, headers and body of an answer; whatever they are."""
    request = urllib.request.Request(ENDPOINT + path, data=body, headers=dict(headers), method=method)
    try:
        with urllib.request.urlopen(request, timeout=20) as answer:
            return answer.status, answer.headers, answer.read()
    except urllib.error.HTTPError as refusal:
        with refusal:
            return refusal.code, refusal.headers, refusal.read()


def signed_as(account, service, region=REGION):
    """A header in the shape of a signature."""
    scope = f"{key_of(account)}/20260101/{region}/{service}/aws4_request"
    return {
        "Authorization": f"AWS4-HMAC-SHA256 Credential={scope}, SignedHeaders=host, Signature={'0' * 64}",
        "X-Amz-Date": "20260101T000000Z",
    }


def control(method, what, value=None):
    """The endpoints' own interface for tests."""
    body = None if value is None else json.dumps(value).encode()
    status, _, answer = http(method, f"/_lab/{what}", {"Content-Type": "application/json"}, body)
    assert status < 300, answer
    return json.loads(answer) if answer else None


class Case(unittest.TestCase):
    def tearDown(self):
        control("PUT", "faults", [])
        control("PUT", "settings", {})

    def refused(self, code, call, *args, **kwargs):
        """The error with which the call is refused, which must have this code."""
        with self.assertRaises(ClientError) as caught:
            call(*args, **kwargs)
        self.assertEqual(caught.exception.response["Error"]["Code"], code, caught.exception)
        return caught.exception.response

    def eventually(self, look, seconds=30):
        deadline = time.monotonic() + seconds
        while True:
            seen = look()
            if seen or time.monotonic() > deadline:
                self.assertTrue(seen)
                return seen
            time.sleep(0.05)

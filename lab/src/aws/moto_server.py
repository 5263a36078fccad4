"""moto's server, corrected where Orglift would notice the difference from AWS.

    moto_server.py FOLDER

It listens on a port of 127.0.0.1, which it writes to FOLDER/port. Snapshots are shared with the server of EBS direct
through FOLDER/snapshots: one folder for each, with its record.json, and an empty file "deleted" once it is that. What
has no record here, such as the snapshot that moto makes for an image of its own, has no blocks either.

It checks no signature and no policy but the trust policies of roles.
"""

import copy
import fnmatch
import functools
import ipaddress
import json
import os
import sys
import threading
import time
from pathlib import Path
from types import SimpleNamespace
from urllib.parse import unquote

from moto.core.responses import ActionResult
from moto.core.exceptions import ServiceException
from moto.ec2.exceptions import DryRunClientError, EC2ClientError
from moto.ec2.models import EC2Backend, ec2_backends
from moto.ec2.models.amis import Ami
from moto.ec2.models.elastic_block_store import EBSBackend, Snapshot
from moto.ec2.models.instances import InstanceBackend
from moto.ec2.models.subnets import Subnet
from moto.ec2.responses import EC2Response
from moto.ec2.utils import convert_tag_spec
from moto.iam.exceptions import NotFoundException
from moto.iam.models import iam_backends
from moto.iam.responses import IamResponse
from moto.organizations.models import FakeDelegatedAdministrator, organizations_backends
from moto.organizations.responses import OrganizationsResponse
from moto.servicequotas.exceptions import NoSuchResource
from moto.servicequotas.models import ServiceQuotasBackend
from moto.servicequotas.responses import ServiceQuotasResponse
from moto.sts.models import STSBackend
from moto.sts.responses import TokenResponse

import moto_drift  # noqa: F401

FOLDER = Path(sys.argv[1])

# A snapshot that EC2 makes is pending for so long.
COMPLETION_MS = 200

# EC2 shows it as the volume of a snapshot that was made by EBS direct.
NO_VOLUME = "vol-ffffffff"


def correct(owner):
    """Puts a function in the place of the method of its name, which becomes its first argument."""

    def put(function):
        original = getattr(owner, function.__name__, None)

        @functools.wraps(function)
        def method(self, *args, **kwargs):
            return function(original, self, *args, **kwargs)

        setattr(owner, function.__name__, method)
        return function

    return put


# --- Snapshots: moto has the resource, a folder has its state and its blocks.


def now_ms():
    return time.time_ns() // 1_000_000


def record_of(snapshot_id):
    try:
        return json.loads((FOLDER / "snapshots" / snapshot_id / "record.json").read_text())
    except FileNotFoundError:
        return None


def keep_record(snapshot, parent):
    """Makes the record of a snapshot that shows what `parent` does, or zeros."""
    folder = FOLDER / "snapshots" / snapshot.id
    folder.mkdir()
    record = {
        "id": snapshot.id,
        "account": snapshot.ec2_backend.account_id,
        "region": snapshot.ec2_backend.region_name,
        "volume_size": snapshot.volume_size,
        "parent": parent,
        "encrypted": bool(snapshot.encrypted),
        "kms_key_arn": snapshot.kms_key_id,
        "started_at_ms": now_ms(),
        "completes_at_ms": now_ms() + COMPLETION_MS,
    }
    draft = folder / "record.draft"
    draft.write_text(json.dumps(record))
    draft.rename(folder / "record.json")


taken_in = set()
taking_in = threading.Lock()


def take_in_snapshots():
    """Shows in EC2 what EBS direct has started meanwhile."""
    with taking_in:
        for name in {folder.name for folder in (FOLDER / "snapshots").iterdir()} - taken_in:
            if record := record_of(name):
                taken_in.add(name)
                take_in(record)


def take_in(record):
    backend = ec2_backends[record["account"]][record["region"]]
    if record["id"] in backend.snapshots:
        return
    snapshot = Snapshot(
        backend,
        record["id"],
        SimpleNamespace(id=NO_VOLUME, size=record["volume_size"]),
        record.get("description") or "",
        encrypted=record["encrypted"],
        kms_key_id=record["kms_key_arn"],
    )
    backend.snapshots[snapshot.id] = snapshot
    snapshot.add_tags(record.get("tags") or {})


def snapshot_status(snapshot):
    """By the record's times, as the server of EBS direct reads them."""
    record = record_of(snapshot.id)
    if record is None:
        return "completed"
    if completes_at := record["completes_at_ms"]:
        return "completed" if completes_at <= now_ms() else "pending"
    last_put = int((FOLDER / "snapshots" / snapshot.id / "blocks").stat().st_mtime * 1000)
    return "error" if max(last_put, record["started_at_ms"]) + record["timeout_ms"] <= now_ms() else "pending"


# moto sets "completed" when it makes one.
Snapshot.status = property(snapshot_status, lambda snapshot, status: None)
Snapshot.progress = property(lambda snapshot: "100%" if snapshot.status == "completed" else "0%")


@correct(EBSBackend)
def create_snapshot(original, self, volume_id, description, owner_id=None, from_ami=None):
    snapshot = original(self, volume_id, description, owner_id, from_ami)
    snapshot.kms_key_id = snapshot.volume.kms_key_id
    if not from_ami:
        keep_record(snapshot, snapshot.volume.snapshot_id)
    return snapshot


@correct(EBSBackend)
def copy_snapshot(original, self, source_snapshot_id, source_region, description, kms_key_id):
    ec2_backends[self.account_id][source_region].completed_snapshot(source_snapshot_id)
    snapshot = original(self, source_snapshot_id, source_region, description, kms_key_id)
    # The copy has no volume, and its size is its own: that of the source may be deleted.
    snapshot.volume = SimpleNamespace(id=NO_VOLUME, size=snapshot.volume.size)
    if snapshot.encrypted and not snapshot.kms_key_id:
        snapshot.kms_key_id = self.default_ebs_key()
    keep_record(snapshot, source_snapshot_id)
    return snapshot


@correct(EC2Response)
def copy_snapshot(original, self):
    # moto takes a key for the wish to encrypt.
    if self._get_bool_param("Encrypted", False) and not self._get_param("KmsKeyId"):
        self.params["KmsKeyId"] = self.ec2_backend.default_ebs_key()
    return original(self)


@correct(EBSBackend)
def delete_snapshot(original, self, snapshot_id):
    for image in self.amis.values():
        if any(m.get("Ebs", {}).get("SnapshotId") == snapshot_id for m in getattr(image, "mappings", [])):
            raise EC2ClientError(
                "InvalidSnapshot.InUse", f"The snapshot {snapshot_id} is currently in use by {image.id}"
            )
    snapshot = original(self, snapshot_id)
    if record_of(snapshot_id):
        (FOLDER / "snapshots" / snapshot_id / "deleted").touch()
    return snapshot


@correct(EBSBackend)
def completed_snapshot(_, self, snapshot_id):
    snapshot = self.snapshots.get(snapshot_id)
    if snapshot is None:
        raise EC2ClientError("InvalidSnapshot.NotFound", f"The snapshot '{snapshot_id}' does not exist.")
    if snapshot.status != "completed":
        raise EC2ClientError("IncorrectState", f"Snapshot is in invalid state - {snapshot.status}")
    return snapshot


@correct(EBSBackend)
def default_ebs_key(_, self):
    return self.default_kms_key_id or self._create_default_encryption_key()


@correct(EBSBackend)
def create_volume(original, self, size, zone_name, snapshot_id=None, **kwargs):
    if snapshot_id:
        snapshot = self.completed_snapshot(snapshot_id)
        size = size or snapshot.volume_size
        if snapshot.encrypted:
            kwargs["encrypted"] = True
            kwargs["kms_key_id"] = kwargs.get("kms_key_id") or snapshot.kms_key_id
    if kwargs.get("volume_type") == "gp3":
        kwargs["throughput"] = kwargs.get("throughput") or 125
    return original(self, size, zone_name, snapshot_id, **kwargs)


@correct(EBSBackend)
def attach_volume(original, self, volume_id, instance_id, device_path, delete_on_termination=False):
    attachment = original(self, volume_id, instance_id, device_path, delete_on_termination)
    attachment.delete_on_termination = delete_on_termination
    return attachment


# --- Images keep what they were registered with.


@correct(EC2Response)
def register_image(_, self):
    self.error_on_dryrun()
    backend = self.ec2_backend
    name = self._get_param("Name")
    for image in backend.amis.values():
        if image.name == name and image.owner_id == self.current_account:
            raise EC2ClientError(
                "InvalidAMIName.Duplicate", f"AMI name {name} is already in use by AMI {image.id}"
            )
    mappings = self._get_param("BlockDeviceMappings", [])
    root = self._get_param("RootDeviceName")
    if not any(m["DeviceName"] == root and "Ebs" in m for m in mappings):
        raise EC2ClientError("InvalidBlockDeviceMapping", f"The root device {root} is not in the mapping")
    for mapping in mappings:
        if ebs := mapping.get("Ebs"):
            complete_mapping(backend, ebs)
    image = backend.register_image(name, self._get_param("Description", ""))
    # moto has made one that stands for the content of the image.
    backend.snapshots.pop(image.ebs_snapshot.id)
    image.mappings = mappings
    image.root_device_name = root
    image.root_device_type = "ebs"
    image.architecture = self._get_param("Architecture", "i386")
    image.virtualization_type = self._get_param("VirtualizationType", "paravirtual")
    image.boot_mode = self._get_param("BootMode")
    image.ena_support = self._get_bool_param("EnaSupport", False)
    image.imds_support = self._get_param("ImdsSupport")
    image.tpm_support = self._get_param("TpmSupport")
    image.sriov_net_support = self._get_param("SriovNetSupport")
    image.image_location = f"{self.current_account}/{name}"
    image.add_tags(self._parse_tag_specification().get("image", {}))
    return ActionResult({"ImageId": image.id})


def complete_mapping(backend, ebs):
    """Fills in what EC2 decides where a mapping is silent."""
    if snapshot_id := ebs.get("SnapshotId"):
        snapshot = backend.completed_snapshot(snapshot_id)
        if ebs.setdefault("VolumeSize", snapshot.volume_size) < snapshot.volume_size:
            raise EC2ClientError(
                "InvalidBlockDeviceMapping",
                f"Volume of size {ebs['VolumeSize']}GB is smaller than snapshot '{snapshot_id}', "
                f"expect size >= {snapshot.volume_size}GB",
            )
        ebs.setdefault("Encrypted", bool(snapshot.encrypted))
    ebs.setdefault("VolumeType", "gp2")
    ebs.setdefault("DeleteOnTermination", True)


moto_mappings = Ami.block_device_mappings
Ami.block_device_mappings = property(
    lambda image: image.mappings if hasattr(image, "mappings") else moto_mappings.fget(image)
)


# --- Every region has instance types, and filters may end with a star.


@correct(EC2Backend)
def describe_instance_type_offerings(_, self, location_type=None, filters=None):
    zones = [zone.name for zone in self.describe_availability_zones()]
    wanted = (filters or {}).get("location", zones)
    return [
        {"InstanceType": known["InstanceType"], "LocationType": location_type, "Location": zone}
        for zone in zones
        if zone in wanted
        for known in self.instance_types
    ]


# --- Instances have the volumes of their image, and addresses that come back.


@correct(InstanceBackend)
def run_instances(original, self, image_id, count, user_data, security_group_names, **kwargs):
    template = {}
    if kwargs.get("launch_template"):
        template = self._get_template_from_args(kwargs["launch_template"]).data
    image_id = image_id or template.get("ImageId")
    if not image_id:
        raise EC2ClientError("MissingParameter", "The request must contain the parameter ImageId")
    image = self.describe_images(ami_ids=[image_id])[0]
    if not kwargs.get("nics") and not kwargs.get("subnet_id"):
        # moto notes in it which address it gives.
        kwargs["nics"] = copy.deepcopy(template.get("NetworkInterfaces", []))
    kwargs["metadata_options"] = template.get("MetadataOptions", {}) | (kwargs.get("metadata_options") or {})
    mappings = merged_mappings(
        image.block_device_mappings,
        template.get("BlockDeviceMappings", []),
        kwargs.get("block_device_mappings") or [],
    )
    for ebs in mappings.values():
        complete_mapping(self, ebs)
    tags = convert_tag_spec(template.get("TagSpecifications", [])).get("volume", {})
    tags |= kwargs.get("tags", {}).get("volume", {})
    # An empty list has moto make no volume.
    kwargs["block_device_mappings"] = []
    reservation = original(self, image_id, count, user_data, security_group_names, **kwargs)
    kept = {
        int(nic["DeviceIndex"])
        for nic in kwargs.get("nics") or []
        if "NetworkInterfaceId" in nic or nic.get("DeleteOnTermination") is False
    }
    for instance in reservation.instances:
        # Those of an interface that was there before are its own, and change with it.
        if not instance.security_groups and 0 not in kept:
            instance.security_groups = list(instance.nics[0]._group_set)
        for index, nic in instance.nics.items():
            nic.delete_on_termination = index not in kept
            nic.add_tags(kwargs.get("tags", {}).get("network-interface", {}))
        for device, ebs in mappings.items():
            volume = self.create_volume(
                ebs.get("VolumeSize"),
                instance.availability_zone,
                ebs.get("SnapshotId"),
                encrypted=bool(ebs.get("Encrypted")),
                kms_key_id=ebs.get("KmsKeyId"),
                volume_type=ebs["VolumeType"],
                iops=ebs.get("Iops"),
                throughput=ebs.get("Throughput"),
            )
            volume.add_tags(tags)
            self.attach_volume(volume.id, instance.id, device, bool(ebs["DeleteOnTermination"]))
        if profile := template.get("IamInstanceProfile"):
            if not kwargs.get("iam_instance_profile_name") and not kwargs.get("iam_instance_profile_arn"):
                self.associate_iam_instance_profile(instance.id, profile.get("Name"), profile.get("Arn"))
    return reservation


@correct(EC2Response)
def run_instances(original, self):
    answer = original(self)
    template = self._get_param("LaunchTemplate", {})
    placement = self.ec2_backend._get_template_from_args(template).data.get("Placement", {}) if template else {}
    tenancy = self._get_param("Placement.Tenancy") or placement.get("Tenancy")
    for instance in answer.result.instances:
        instance.placement.tenancy = tenancy or "default"
    return answer


def merged_mappings(*layers):
    """By device name; what a later layer says of a device counts, and what it does not say stays."""
    merged = {}
    for layer in layers:
        for mapping in layer:
            device = mapping["DeviceName"]
            if mapping.get("NoDevice") is not None:
                merged.pop(device, None)
            elif "Ebs" in mapping:
                said = {key: value for key, value in mapping["Ebs"].items() if value is not None}
                merged[device] = merged.get(device, {}) | said
    return merged


@correct(EC2Response)
def _parse_block_device_mapping(_, self):
    # moto's reader drops the throughput, and takes silence for a no. The mapping of the image may say the rest.
    return self._get_param("BlockDeviceMappings", [])


@correct(Subnet)
def request_ip(original, self, ip, instance):
    if ipaddress.ip_address(ip) not in self.cidr:
        raise EC2ClientError("InvalidParameterValue", f"Address {ip} does not fall within the subnet's address range")
    if ip in self._subnet_ips:
        raise EC2ClientError("InvalidIPAddress.InUse", f"Address {ip} is in use.")
    original(self, ip, instance)


@correct(Subnet)
def get_available_subnet_ip(original, self, instance):
    try:
        return original(self, instance)
    except (StopIteration, RuntimeError):
        raise EC2ClientError(
            "InsufficientFreeAddressesInSubnet",
            f"There are not enough free addresses in subnet '{self.id}' to satisfy the requested number of instances.",
        ) from None


# --- All of EC2: dry runs, client tokens, and calls that moto has not.

DryRunClientError.status_code = 412

tokens = {}
tokens_lock = threading.Lock()


@correct(EC2Response)
def call_action(original, self):
    take_in_snapshots()
    if self._get_param("DryRun", False):
        return refused(self, DryRunClientError())
    token = self._get_param("ClientToken")
    if not token:
        return original(self)
    key = (self.current_account, self.region, self._get_action(), token)
    asked = {name: value for name, value in self.querystring.items() if name != "ClientToken"}
    with tokens_lock:
        if key in tokens:
            before, answer = tokens[key]
            if asked == before:
                return answer
            return refused(
                self,
                EC2ClientError(
                    "IdempotentParameterMismatch",
                    f"The client token you have provided ({token}) is already in use with other parameters.",
                ),
            )
        status, headers, body = original(self)
        if status == 200:
            tokens[key] = asked, (status, dict(headers), body)
        return status, headers, body


def refused(response, error):
    status, headers, body = response.serialized(ActionResult(error))
    return status, headers, body


# One grey pixel, as a JPEG.
SCREENSHOT = (
    "/9j/4AAQSkZJRgABAQAAAQABAAD/2wBDAP//////////////////////////////////////////////////////////////////////////////"
    "////////wAALCAABAAEBAREA/8QAFAABAAAAAAAAAAAAAAAAAAAAAP/EABQQAQAAAAAAAAAAAAAAAAAAAAD/2gAIAQEAAD8AP//Z"
)


@correct(EC2Response)
def get_console_screenshot(_, self):
    instance = self.ec2_backend.get_instance(self._get_param("InstanceId"))
    return ActionResult({"InstanceId": instance.id, "ImageData": SCREENSHOT})


@correct(EC2Response)
def get_ebs_default_kms_key_id(_, self):
    return ActionResult({"KmsKeyId": self.ec2_backend.default_ebs_key()})


# --- Service Quotas: those of virtual processors are as in an account that has been in use. More is granted at once.

STANDARD, VCPUS = "L-1216C47A", 32.0
OTHERS = ["L-74FC7D96", "L-DB2E81BA", "L-417A185B", "L-7295265B", "L-1945791B", "L-2C3B7624", "L-6E869C2A"]
OTHERS += ["L-43DA4232", "L-F7808C92"]


def vcpu_quotas(backend):
    if not hasattr(backend, "vcpus"):
        backend.vcpus = {STANDARD: VCPUS} | dict.fromkeys(OTHERS, 0.0)
    return backend.vcpus


@correct(ServiceQuotasBackend)
def get_service_quota(original, self, service_code, quota_code):
    if service_code != "ec2":
        return original(self, service_code, quota_code)
    if quota_code not in vcpu_quotas(self):
        raise NoSuchResource
    return {
        "ServiceCode": service_code,
        "QuotaCode": quota_code,
        "Value": vcpu_quotas(self)[quota_code],
        "Unit": "None",
        "Adjustable": True,
        "GlobalQuota": False,
    }


@correct(ServiceQuotasResponse)
def request_service_quota_increase(_, self):
    wish = json.loads(self.body)
    service, code, value = wish["ServiceCode"], wish["QuotaCode"], wish["DesiredValue"]
    known = self.backend.get_service_quota(service, code)
    if value <= known["Value"]:
        raise StsError("IllegalArgumentException", "You must provide a quota value greater than the current one.")
    vcpu_quotas(self.backend)[code] = value
    return json.dumps({"RequestedQuota": {"QuotaCode": code, "DesiredValue": value, "Status": "APPROVED"}})


# --- STS: roles exist and their trust policies count. What the caller's own policies say does not.


class StsError(ServiceException):
    pass


class Denied(StsError):
    status_code = 403


@correct(STSBackend)
def get_caller_identity(original, self, access_key_id, region):
    user_id, arn, account = original(self, access_key_id, region)
    if arn.endswith(":user/moto"):
        # A key that nobody has made is the account's own.
        return account, f"arn:{self.partition}:iam::{account}:root", account
    return user_id, arn, account


@correct(TokenResponse)
def assume_role(original, self):
    role_arn = self._get_param("RoleArn")
    duration = self._get_int_param("DurationSeconds", 3600)
    _, caller, _ = self.backend.get_caller_identity(self.get_access_key(), self.region)
    actions = {"sts:AssumeRole"}
    if self._get_param("Tags"):
        actions.add("sts:TagSession")
    if self._get_param("SourceIdentity"):
        actions.add("sts:SetSourceIdentity")
    context = {
        "sts:ExternalId": self._get_param("ExternalId"),
        "sts:RoleSessionName": self._get_param("RoleSessionName"),
        "aws:PrincipalArn": role_behind(caller),
        "aws:TagKeys": [tag["Key"] for tag in self._get_param("Tags") or []],
    }
    role = role_by_arn(role_arn, self.partition)
    for action in sorted(actions):
        if role is None or not trusts(role, action, caller, context):
            raise Denied(
                "AccessDenied",
                f"User: {caller} is not authorized to perform: {action} on resource: {role_arn}",
            )
    if duration > role.max_session_duration:
        raise StsError(
            "ValidationError", "The requested DurationSeconds exceeds the MaxSessionDuration set for this role."
        )
    if duration > 3600 and ":assumed-role/" in caller:
        raise StsError(
            "ValidationError",
            "The requested DurationSeconds exceeds the 1 hour session limit for roles assumed by role chaining.",
        )
    return original(self)


def role_by_arn(arn, partition):
    parts = arn.split(":")
    if len(parts) != 6 or parts[1] != partition or parts[4] not in iam_backends:
        return None
    roles = iam_backends[parts[4]][partition].roles.values()
    return next((role for role in roles if role.arn == arn), None)


def role_behind(caller):
    """The principal whose session a caller may be. Its path is not in the session's name, and is looked up."""
    if ":assumed-role/" not in caller:
        return caller
    _, partition, _, _, account, resource = caller.split(":", 5)
    name = resource.split("/")[1]
    roles = iam_backends[account][partition].roles.values()
    return next((role.arn for role in roles if role.name == name), caller)


def trusts(role, action, caller, context):
    """Whether a statement allows it and none denies it. A condition that is not known here never holds."""
    policy = json.loads(unquote(role.assume_role_policy_document))
    effects = {
        statement["Effect"]
        for statement in listed(policy["Statement"])
        if any(fnmatch.fnmatchcase(action, pattern) for pattern in listed(statement["Action"]))
        and any(is_principal(p, caller) for p in listed(principals(statement)))
        and holds(statement.get("Condition", {}), context)
    }
    return effects == {"Allow"}


def listed(value):
    return value if isinstance(value, list) else [value]


def principals(statement):
    principal = statement.get("Principal", {})
    return principal if principal == "*" else principal.get("AWS", [])


def is_principal(principal, caller):
    account = caller.split(":")[4]
    whole_account = [account, f"{':'.join(caller.split(':')[:2])}:iam::{account}:root"]
    return principal in ["*", caller, role_behind(caller), *whole_account]


def holds(condition, context):
    return all(
        meets(operator, context.get(key), [text(pattern) for pattern in listed(patterns)])
        for operator, wanted in condition.items()
        for key, patterns in wanted.items()
    )


def text(value):
    return str(value).lower() if isinstance(value, bool) else str(value)


def meets(operator, value, patterns):
    like = {"StringEquals": False, "Bool": False, "StringLike": True, "ArnEquals": True, "ArnLike": True}
    if operator == "Null":
        return patterns == ["true" if value is None else "false"]
    quantifier, _, name = operator.rpartition(":")
    if name.endswith("IfExists") and value is None:
        return True
    name = name.removesuffix("IfExists")
    is_negated = "Not" in name
    name = name.replace("Not", "")
    # AWS, too, does not compare a list with an operator for one value.
    if name not in like or value is not None and bool(quantifier) != isinstance(value, list):
        return False
    if value is None:
        return is_negated

    def fits(one):
        return any(fits_pattern(one, p) if like[name] else one == p for p in patterns) != is_negated

    return (any if quantifier == "ForAnyValue" else all)(fits(one) for one in listed(value))


def fits_pattern(value, pattern):
    """A policy's patterns have stars and question marks, and no brackets."""
    return fnmatch.fnmatchcase(value, pattern.replace("[", "[[]"))


# --- IAM: policies of a role are simulated. They are not asked when anything is called.


@correct(IamResponse)
def simulate_principal_policy(_, self):
    role = role_by_arn(self._get_param("PolicySourceArn"), self.partition)
    if role is None or role.account_id != self.current_account:
        raise NotFoundException(f"The role {self._get_param('PolicySourceArn')} cannot be found.")
    documents = dict(role.policies)
    documents |= {policy.name: managed_document(policy) for policy in role.managed_policies.values()}
    boundary = None
    if role.permissions_boundary_arn:
        boundary = {"boundary": managed_document(self.backend.get_policy(role.permissions_boundary_arn))}
    context = {}
    for entry in self._get_param("ContextEntries") or []:
        values = entry["ContextKeyValues"]
        context[entry["ContextKeyName"]] = values if entry["ContextKeyType"].endswith("List") else values[0]
    resources = self._get_param("ResourceArns") or ["*"]
    results = [simulated(action, resources, documents, boundary, context) for action in self._get_param("ActionNames")]
    return ActionResult({"EvaluationResults": results, "IsTruncated": False})


def managed_document(policy):
    return next(version.document for version in policy.versions if version.version_id == policy.default_version_id)


def simulated(action, resources, documents, boundary, context):
    """One result for each action, with what is decided of each resource below it."""
    specific = []
    for resource in resources:
        decision, matched, missing = decided(action, resource, documents, context)
        one = {
            "EvalResourceName": resource,
            "EvalResourceDecision": decision,
            "MatchedStatements": [{"SourcePolicyId": name, "SourcePolicyType": "role"} for name in matched],
            "MissingContextValues": sorted(missing),
        }
        if boundary:
            within, _, _ = decided(action, resource, boundary, context)
            one["PermissionsBoundaryDecisionDetail"] = {"AllowedByPermissionsBoundary": within == "allowed"}
            if within != "allowed" and decision == "allowed":
                one["EvalResourceDecision"] = within
        specific.append(one)
    worst = max(specific, key=lambda one: ["allowed", "implicitDeny", "explicitDeny"].index(one["EvalResourceDecision"]))
    result = {
        "EvalActionName": action,
        "EvalResourceName": resources[0] if len(resources) == 1 else "*",
        "EvalDecision": worst["EvalResourceDecision"],
        "MatchedStatements": worst["MatchedStatements"],
        "MissingContextValues": worst["MissingContextValues"],
    }
    if resources != ["*"]:
        result["ResourceSpecificResults"] = specific
    return result


def decided(action, resource, documents, context):
    """The decision, the policies that made it, and the keys that conditions look for and were not given."""
    effects, missing = {}, set()
    for name, document in documents.items():
        document = document if isinstance(document, dict) else json.loads(document)
        for statement in listed(document["Statement"]):
            if not (is_named(statement, "Action", action) and is_named(statement, "Resource", resource)):
                continue
            condition = statement.get("Condition", {})
            asked = {key for operator, wanted in condition.items() if operator != "Null" for key in wanted}
            missing |= asked - set(context)
            if holds(condition, context):
                effects.setdefault(statement["Effect"], []).append(name)
    if "Deny" in effects:
        return "explicitDeny", effects["Deny"], missing
    return ("allowed", effects["Allow"], missing) if "Allow" in effects else ("implicitDeny", [], missing)


def is_named(statement, what, value):
    """Actions know no case."""

    def is_among(patterns):
        if what == "Action":
            return any(fits_pattern(value.lower(), pattern.lower()) for pattern in listed(patterns))
        return any(fits_pattern(value, pattern) for pattern in listed(patterns))

    return is_among(statement[what]) if what in statement else not is_among(statement[f"Not{what}"])


@correct(TokenResponse)
def get_session_token(original, self):
    answer = original(self)
    key = iam_backends[self.current_account][self.partition].create_temp_access_key()
    credentials = answer.result["Credentials"]
    credentials |= {"AccessKeyId": key.access_key_id, "SecretAccessKey": key.secret_access_key}
    return answer


# --- Organizations: who may ask, and gets what.


class OrganizationsError(ServiceException):
    pass


FakeDelegatedAdministrator.SUPPORTED_SERVICES += [
    "account.amazonaws.com",
    "mgn.amazonaws.com",
    "member.org.stacksets.cloudformation.amazonaws.com",
]


def asked_organization(response):
    """The management account's, for itself, and for reading also for its delegated administrators."""
    account, action = response.current_account, response._get_action()
    own = organizations_backends[account][response.partition]
    if own.org or action in ["CreateOrganization", "DescribeOrganization"]:
        return own
    for backends in list(organizations_backends.values()):
        other = backends[response.partition]
        if not any(member.id == account for member in other.accounts):
            continue
        if action.startswith(("List", "Describe")) and any(a.account.id == account for a in other.admins):
            return other
        raise OrganizationsError("AccessDeniedException", "You don't have permissions to access this resource.")
    raise OrganizationsError(
        "AWSOrganizationsNotInUseException", "Your account is not a member of an organization."
    )


OrganizationsResponse.organizations_backend = property(asked_organization)


def main():
    from moto.moto_server.werkzeug_app import (
        DomainDispatcherApplication,
        MotoRequestHandler,
        create_backend_app,
    )
    from werkzeug.serving import make_server

    application = DomainDispatcherApplication(create_backend_app)
    server = make_server("127.0.0.1", 0, application, threaded=True, request_handler=MotoRequestHandler)
    draft = FOLDER / "port.draft"
    draft.write_text(str(server.server_address[1]))
    draft.rename(FOLDER / "port")
    server.serve_forever()


if __name__ == "__main__":
    main()

"""Drift of stacks, which moto does not detect.

A resource is compared with its properties in the template by what moto keeps of it: rules of security groups, groups and
names of endpoints, policies of roles. Resources of other kinds are not checked, as some are not at AWS.
"""

import json
import time
import uuid

from moto.cloudformation.exceptions import ValidationError
from moto.cloudformation.parsing import clean_json
from moto.cloudformation.responses import CloudFormationResponse
from moto.core.responses import ActionResult
from moto.ec2.models import ec2_backends
from moto.iam.models import iam_backends
from moto.utilities.utils import get_partition

# At AWS it takes a minute or two.
DETECTION_S = 0.5

detections = {}


def detect_stack_drift(self):
    name = self._get_param("StackName")
    stack = self.cloudformation_backend.get_stack(name)
    if stack.status == "DELETE_COMPLETE":
        raise ValidationError(name)
    detection = str(uuid.uuid4())
    detections[detection] = (stack, time.monotonic() + DETECTION_S)
    stack.drifts = [drift_of(stack, name) for name in stack.resource_map.resources]
    return ActionResult({"StackDriftDetectionId": detection})


def describe_stack_drift_detection_status(self):
    detection = self._get_param("StackDriftDetectionId")
    stack, ready_at = detections[detection]
    answer = {"StackId": stack.stack_id, "StackDriftDetectionId": detection, "Timestamp": "2026-01-01T00:00:00Z"}
    if time.monotonic() < ready_at:
        return ActionResult(answer | {"DetectionStatus": "DETECTION_IN_PROGRESS"})
    drifted = [one for one in stack.drifts if one["StackResourceDriftStatus"] in ["MODIFIED", "DELETED"]]
    answer |= {"DetectionStatus": "DETECTION_COMPLETE", "DriftedStackResourceCount": len(drifted)}
    return ActionResult(answer | {"StackDriftStatus": "DRIFTED" if drifted else "IN_SYNC"})


def describe_stack_resource_drifts(self):
    stack = self.cloudformation_backend.get_stack(self._get_param("StackName"))
    wanted = self._get_param("StackResourceDriftStatusFilters")
    drifts = [one for one in getattr(stack, "drifts", []) if one["StackResourceDriftStatus"] in wanted]
    return ActionResult({"StackResourceDrifts": drifts})


for action in [detect_stack_drift, describe_stack_drift_detection_status, describe_stack_resource_drifts]:
    setattr(CloudFormationResponse, action.__name__, action)


def drift_of(stack, name):
    # Asked by its name, the map would make what is not there.
    resource = stack.resource_map._parsed_resources.get(name)
    template = stack.template_dict["Resources"][name]
    drift = {
        "StackId": stack.stack_id,
        "LogicalResourceId": name,
        "PhysicalResourceId": resource.physical_resource_id if resource else "",
        "ResourceType": template["Type"],
        "Timestamp": "2026-01-01T00:00:00Z",
        "PropertyDifferences": [],
    }
    look = KINDS.get(template["Type"])
    if look is None or resource is None:
        return drift | {"StackResourceDriftStatus": "NOT_CHECKED"}
    actual = look(resource, stack.account_id, stack.region_name)
    if actual is None:
        return drift | {"StackResourceDriftStatus": "DELETED"}
    expected = clean_json(template["Properties"], stack.resource_map)
    # What the template does not say is anybody's.
    expected = plain({key: expected[key] for key in actual if key in expected})
    actual = plain({key: actual[key] for key in expected})
    found = list(differences(expected, actual, ""))
    return drift | {
        "ExpectedProperties": json.dumps(expected),
        "ActualProperties": json.dumps(actual),
        "PropertyDifferences": found,
        "StackResourceDriftStatus": "MODIFIED" if found else "IN_SYNC",
    }


def plain(value):
    """In one form, whoever wrote it; descriptions of rules do not count."""
    if isinstance(value, dict):
        return {key: plain(one) for key, one in value.items() if key != "Description" and one is not None}
    if isinstance(value, list):
        return [plain(one) for one in value]
    return value if isinstance(value, bool) else str(value)


def differences(expected, actual, path):
    if isinstance(expected, dict) and isinstance(actual, dict):
        for key in sorted(expected.keys() | actual.keys()):
            yield from differences(expected.get(key), actual.get(key), f"{path}/{key}")
    elif isinstance(expected, list) and isinstance(actual, list):
        # In no order.
        lacking = [(at, one) for at, one in enumerate(expected) if one not in actual]
        added = [(at, one) for at, one in enumerate(actual) if one not in expected]
        while lacking and added:
            (at, wanted), (_, there) = lacking.pop(0), added.pop(0)
            yield from differences(wanted, there, f"{path}/{at}")
        for at, one in lacking:
            yield difference("REMOVE", f"{path}/{at}", one, None)
        for at, one in added:
            yield difference("ADD", f"{path}/{at}", None, one)
    elif expected is None and actual is not None:
        yield difference("ADD", path, expected, actual)
    elif actual is None and expected is not None:
        yield difference("REMOVE", path, expected, actual)
    elif expected != actual:
        yield difference("NOT_EQUAL", path, expected, actual)


def difference(kind, path, expected, actual):
    def text(value):
        return value if isinstance(value, str) else json.dumps(value)

    values = {"ExpectedValue": text(expected), "ActualValue": text(actual)}
    return {"PropertyPath": path, "DifferenceType": kind, **values}


def security_group(resource, account, region):
    group = ec2_backends[account][region].get_security_group_from_id(resource.id)
    if group is None:
        return None
    rules = []
    for rule in group.ingress_rules:
        shown = {"IpProtocol": rule.ip_protocol, "FromPort": rule.from_port, "ToPort": rule.to_port}
        shown |= {"CidrIp": rule.ip_range.get("CidrIp"), "SourceSecurityGroupId": rule.source_group.get("GroupId")}
        rules.append(shown)
    return {"SecurityGroupIngress": rules}


def endpoint(resource, account, region):
    found = ec2_backends[account][region].vpc_end_points.get(resource.id)
    if found is None or found.state != "available":
        return None
    properties = {"VpcEndpointType": found.vpc_endpoint_type, "RouteTableIds": found.route_table_ids}
    if found.vpc_endpoint_type == "Interface":
        properties |= {"PrivateDnsEnabled": found.private_dns_enabled}
        properties |= {"SecurityGroupIds": found.security_group_ids}
    return properties


def role(resource, account, region):
    roles = iam_backends[account][get_partition(region)].roles.values()
    found = next((one for one in roles if one.name == resource.name), None)
    if found is None:
        return None
    policies = []
    for name, document in found.policies.items():
        document = document if isinstance(document, dict) else json.loads(document)
        policies.append({"PolicyName": name, "PolicyDocument": document})
    return {"Policies": policies}


KINDS = {
    "AWS::EC2::SecurityGroup": security_group,
    "AWS::EC2::VPCEndpoint": endpoint,
    "AWS::IAM::Role": role,
}

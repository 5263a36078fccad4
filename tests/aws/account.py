"""What there is in an account: one JSON object for the account and region that are named.

    account.py ACCOUNT REGION            instances, images, launch templates, volumes and snapshots
    account.py ACCOUNT REGION INSTANCE FOLDER   an instance, and what its volumes show, each as a file in FOLDER
    account.py ACCOUNT REGION strangers  makes a snapshot that has a tag of ours, and an instance that has none
"""

import json
import sys
from pathlib import Path

from clients import BLOCK, client

account, region = sys.argv[1:3]
ec2, ebs = client("ec2", account, region), client("ebs", account, region)
GIB = 1 << 30


def tags(resource):
    return {tag["Key"]: tag["Value"] for tag in resource.get("Tags", [])}


def instances(**which):
    found = ec2.describe_instances(**which)["Reservations"]
    return [instance for reservation in found for instance in reservation["Instances"]]


def everything():
    return {
        "instances": {i["InstanceId"]: i["State"]["Name"] for i in instances()},
        "images": [image["ImageId"] for image in ec2.describe_images(Owners=["self"])["Images"]],
        "templates": [t["LaunchTemplateName"] for t in ec2.describe_launch_templates()["LaunchTemplates"]],
        "volumes": [volume["VolumeId"] for volume in ec2.describe_volumes()["Volumes"]],
        "snapshots": [s["SnapshotId"] for s in ec2.describe_snapshots(OwnerIds=["self"])["Snapshots"]],
    }


def read(snapshot, file, size):
    """Writes what the snapshot shows, as large as the volume that is made of it."""
    with open(file, "wb") as out:
        out.truncate(size)
        more = {}
        while True:
            page = ebs.list_snapshot_blocks(SnapshotId=snapshot, **more)
            for block in page["Blocks"]:
                index, token = block["BlockIndex"], block["BlockToken"]
                data = ebs.get_snapshot_block(SnapshotId=snapshot, BlockIndex=index, BlockToken=token)
                out.seek(index * BLOCK)
                out.write(data["BlockData"].read())
            if "NextToken" not in page:
                return
            more = {"NextToken": page["NextToken"]}


def launched(instance, folder):
    [instance] = instances(InstanceIds=[instance])
    volumes = []
    for mapping in instance["BlockDeviceMappings"]:
        [volume] = ec2.describe_volumes(VolumeIds=[mapping["Ebs"]["VolumeId"]])["Volumes"]
        file = Path(folder) / volume["VolumeId"]
        read(volume["SnapshotId"], file, volume["Size"] * GIB)
        settings = [volume["VolumeType"], volume.get("Iops"), volume.get("Throughput"), volume["Encrypted"]]
        volumes.append({"device": mapping["DeviceName"], "settings": settings, "file": str(file)})
    return {
        "state": instance["State"]["Name"],
        "type": instance["InstanceType"],
        "subnet": instance["SubnetId"],
        "security_groups": [group["GroupId"] for group in instance["SecurityGroups"]],
        "tenancy": instance["Placement"]["Tenancy"],
        "tags": tags(instance),
        "volumes": volumes,
    }


def strangers():
    volume = ec2.create_volume(AvailabilityZone=region + "a", Size=1)["VolumeId"]
    tag = {"Key": "orglift:source-server", "Value": "s-9999999999999999a"}
    snapshot = ec2.create_snapshot(
        VolumeId=volume, TagSpecifications=[{"ResourceType": "snapshot", "Tags": [tag]}]
    )["SnapshotId"]
    ec2.get_waiter("snapshot_completed").wait(SnapshotIds=[snapshot], WaiterConfig={"Delay": 1})
    disk = {"DeviceName": "/dev/sda1", "Ebs": {"SnapshotId": snapshot}}
    image = ec2.register_image(Name="of a stranger", RootDeviceName="/dev/sda1", BlockDeviceMappings=[disk])["ImageId"]
    instance = ec2.run_instances(ImageId=image, MinCount=1, MaxCount=1)["Instances"][0]["InstanceId"]
    ec2.deregister_image(ImageId=image)
    return {"snapshot": snapshot, "instance": instance}


match sys.argv[3:]:
    case []:
        answer = everything()
    case ["strangers"]:
        answer = strangers()
    case [instance, folder]:
        answer = launched(instance, folder)
json.dump(answer, sys.stdout)

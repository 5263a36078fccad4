//! The runner: an instance that comes again by itself, with the role it has and the bucket it starts from.

use serde_json::{Value, json};

use super::{
    Feature, Onboarding, RUNNER_ROLE, attribute,
    permissions::Holder,
    policy::{document, granted, instance_trust},
    reference, sub, tags,
};

const FIRST_BOOT: &str = include_str!("runner.sh");
const FIRST_BOOT_LOGS: &str = include_str!("runner-logs.sh");
const LOGS_KEPT_DAYS: u32 = 365;
/// What the runner keeps in the bucket. It writes some of it anew with every checkpoint.
const INDEX: &str = "index/";
const INDEX_KEPT_DAYS: u32 = 7;

pub fn resources(of: &Onboarding) -> Vec<(&'static str, Value)> {
    let mut resources = vec![
        ("Bucket", bucket()),
        ("BucketPolicy", bucket_policy()),
        ("RunnerRole", role(&of.features)),
        ("RunnerProfile", profile()),
        ("RunnerTemplate", launch_template(of)),
        ("RunnerGroup", group()),
    ];
    if of.has(Feature::Logs) {
        resources.push(("LogGroup", log_group()));
    }
    resources
}

fn bucket() -> Value {
    json!({
        "Type": "AWS::S3::Bucket",
        "DeletionPolicy": "Retain",
        "UpdateReplacePolicy": "Retain",
        "Properties": {
            "BucketEncryption": {
                "ServerSideEncryptionConfiguration": [
                    {"ServerSideEncryptionByDefault": {"SSEAlgorithm": "AES256"}},
                ],
            },
            "OwnershipControls": {"Rules": [{"ObjectOwnership": "BucketOwnerEnforced"}]},
            "PublicAccessBlockConfiguration": {
                "BlockPublicAcls": true,
                "BlockPublicPolicy": true,
                "IgnorePublicAcls": true,
                "RestrictPublicBuckets": true,
            },
            "VersioningConfiguration": {"Status": "Enabled"},
            "LifecycleConfiguration": {"Rules": [{
                "Id": "FormerIndex",
                "Prefix": INDEX,
                "Status": "Enabled",
                "NoncurrentVersionExpiration": {"NoncurrentDays": INDEX_KEPT_DAYS},
            }]},
            "Tags": tags("Orglift"),
        },
    })
}

fn bucket_policy() -> Value {
    json!({
        "Type": "AWS::S3::BucketPolicy",
        "Properties": {
            "Bucket": reference("Bucket"),
            "PolicyDocument": document(&[json!({
                "Sid": "OnlyTls",
                "Effect": "Deny",
                "Principal": "*",
                "Action": "s3:*",
                "Resource": [attribute("Bucket", "Arn"), sub("${Bucket.Arn}/*")],
                "Condition": {"Bool": {"aws:SecureTransport": "false"}},
            })]),
        },
    })
}

fn role(features: &[Feature]) -> Value {
    json!({
        "Type": "AWS::IAM::Role",
        "Properties": {
            "RoleName": sub(&format!("{RUNNER_ROLE}${{AWS::Region}}")),
            "Description": "The Orglift runner of this region",
            "AssumeRolePolicyDocument": instance_trust(),
            "Policies": [{"PolicyName": "Orglift", "PolicyDocument": granted(Holder::Runner, features)}],
            "Tags": tags("Orglift runner"),
        },
    })
}

fn profile() -> Value {
    json!({
        "Type": "AWS::IAM::InstanceProfile",
        "Properties": {"Roles": [reference("RunnerRole")]},
    })
}

fn launch_template(of: &Onboarding) -> Value {
    let mut first_boot = FIRST_BOOT.to_owned();
    if of.has(Feature::Logs) {
        first_boot.push_str(FIRST_BOOT_LOGS);
    }
    let store = if of.has(Feature::Kms) {
        "ebs:${AWS::Region}:${KmsKeyArn}"
    } else {
        "ebs:${AWS::Region}"
    };
    let first_boot = first_boot.replace("${Store}", store);
    json!({
        "Type": "AWS::EC2::LaunchTemplate",
        "Properties": {
            "LaunchTemplateData": {
                "ImageId": reference("RunnerImage"),
                "InstanceType": reference("RunnerInstanceType"),
                "IamInstanceProfile": {"Arn": attribute("RunnerProfile", "Arn")},
                // One that exists is not deleted with its instance.
                "NetworkInterfaces": [{"DeviceIndex": 0, "NetworkInterfaceId": reference("RunnerInterface")}],
                "MetadataOptions": {"HttpEndpoint": "enabled", "HttpTokens": "required", "HttpPutResponseHopLimit": 1},
                "BlockDeviceMappings": [{
                    "DeviceName": reference("RunnerRootDevice"),
                    "Ebs": {
                        "Encrypted": true,
                        "VolumeType": "gp3",
                        "VolumeSize": reference("RunnerVolumeGiB"),
                        "DeleteOnTermination": true,
                    },
                }],
                "UserData": {"Fn::Base64": sub(&first_boot)},
                "TagSpecifications": [
                    {"ResourceType": "instance", "Tags": tags("Orglift runner")},
                    {"ResourceType": "volume", "Tags": tags("Orglift runner")},
                ],
            },
        },
    })
}

/// One instance, in the zone of its interface. A new one can start only when the old one has let the interface go, so
/// the old one ends first, always.
fn group() -> Value {
    json!({
        "Type": "AWS::AutoScaling::AutoScalingGroup",
        "UpdatePolicy": {
            "AutoScalingRollingUpdate": {"MaxBatchSize": 1, "MinInstancesInService": 0},
        },
        "Properties": {
            "MinSize": "1",
            "MaxSize": "1",
            // Not subnets: the interface says which.
            "AvailabilityZones": [reference("AvailabilityZone")],
            "InstanceMaintenancePolicy": {"MinHealthyPercentage": 0, "MaxHealthyPercentage": 100},
            "LaunchTemplate": {
                "LaunchTemplateId": reference("RunnerTemplate"),
                "Version": attribute("RunnerTemplate", "LatestVersionNumber"),
            },
            "Tags": [
                {"Key": "Name", "Value": "Orglift runner", "PropagateAtLaunch": true},
            ],
        },
    })
}

fn log_group() -> Value {
    json!({
        "Type": "AWS::Logs::LogGroup",
        "DeletionPolicy": "Retain",
        "UpdateReplacePolicy": "Retain",
        "Properties": {"RetentionInDays": LOGS_KEPT_DAYS, "Tags": tags("Orglift runner")},
    })
}

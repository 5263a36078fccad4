//! The runner's address, who reaches it, and what it reaches.

use cloud::control::{BUCKET_TAG, LOGS_TAG};
use serde_json::{Value, json};

use super::{
    Feature, Onboarding, attribute, parameters::source_range, policy::document, reference, sub, tags,
};

/// Where agents enrol, and where they replicate to.
const AGENT_PORTS: [(u16, &str); 2] = [(443, "Agents enrol"), (1500, "Agents replicate")];

/// Interface endpoints: service, its resource, its condition.
const EBS: (&str, &str, &str) = ("ebs", "EbsEndpointResource", "CreateEbsEndpoint");
const STS: (&str, &str, &str) = ("sts", "StsEndpointResource", "CreateStsEndpoint");
const LOGS: (&str, &str, &str) = ("logs", "LogsEndpointResource", "CreateLogsEndpoint");

pub fn resources(of: &Onboarding) -> Vec<(&'static str, Value)> {
    let mut resources = vec![
        ("RunnerSecurityGroup", runner_security_group(of)),
        ("RunnerInterface", interface(of)),
        ("EndpointSecurityGroup", endpoint_security_group()),
        ("S3EndpointResource", gateway()),
    ];
    let mut services = vec![EBS, STS];
    services.extend(of.has(Feature::Logs).then_some(LOGS));
    for (service, name, condition) in services {
        resources.push((name, interface_endpoint(service, condition)));
    }
    resources
}

fn runner_security_group(of: &Onboarding) -> Value {
    let mut ingress = Vec::new();
    for number in 1..=of.source_ranges.len() {
        for (port, why) in AGENT_PORTS {
            ingress.push(json!({
                "IpProtocol": "tcp",
                "FromPort": port,
                "ToPort": port,
                "CidrIp": reference(&source_range(number)),
                "Description": format!("{why}, range {number}"),
            }));
        }
    }
    json!({
        "Type": "AWS::EC2::SecurityGroup",
        "Properties": {
            "GroupDescription": "Orglift runner: agents come in, the hub and endpoints are reached",
            "VpcId": reference("VpcId"),
            "SecurityGroupIngress": ingress,
            "SecurityGroupEgress": [
                {
                    "IpProtocol": "tcp",
                    "FromPort": reference("HubPort"),
                    "ToPort": reference("HubPort"),
                    "CidrIp": reference("HubRange"),
                    "Description": "The hub",
                },
                {
                    "IpProtocol": "tcp",
                    "FromPort": 443,
                    "ToPort": 443,
                    "CidrIp": reference("EndpointRange"),
                    "Description": "Endpoints of the VPC",
                },
                {
                    "IpProtocol": "tcp",
                    "FromPort": 443,
                    "ToPort": 443,
                    "DestinationPrefixListId": reference("S3PrefixListId"),
                    "Description": "S3, by its gateway endpoint",
                },
            ],
            "Tags": tags("Orglift runner"),
        },
    })
}

/// It is not the instance's, and stays when that is replaced: firewalls know its address. By its tags the hub
/// finds it, and knows what policies of endpoints have to let the runner reach.
fn interface(of: &Onboarding) -> Value {
    let mut tags = tags("Orglift runner");
    if let Some(list) = tags.as_array_mut() {
        list.push(json!({"Key": BUCKET_TAG, "Value": reference("Bucket")}));
        if of.has(Feature::Logs) {
            list.push(json!({"Key": LOGS_TAG, "Value": reference("LogGroup")}));
        }
    }
    json!({
        "Type": "AWS::EC2::NetworkInterface",
        "Properties": {
            "Description": "Orglift runner: the address that firewalls know",
            "SubnetId": reference("SubnetId"),
            "GroupSet": [reference("RunnerSecurityGroup")],
            "PrivateIpAddress": {
                "Fn::If": ["ChooseAddress", reference("RunnerAddress"), reference("AWS::NoValue")],
            },
            "Tags": tags,
        },
    })
}

fn endpoint_security_group() -> Value {
    json!({
        "Type": "AWS::EC2::SecurityGroup",
        "Properties": {
            "GroupDescription": "Endpoints for the Orglift runner",
            "VpcId": reference("VpcId"),
            "SecurityGroupIngress": [{
                "IpProtocol": "tcp",
                "FromPort": 443,
                "ToPort": 443,
                "SourceSecurityGroupId": attribute("RunnerSecurityGroup", "GroupId"),
                "Description": "The runner",
            }],
            // Where nothing is said, everything is allowed; this is nowhere.
            "SecurityGroupEgress": [{
                "IpProtocol": "-1",
                "CidrIp": "127.0.0.1/32",
                "Description": "Endpoints open no connections",
            }],
            "Tags": tags("Orglift endpoints"),
        },
    })
}

fn interface_endpoint(service: &str, condition: &str) -> Value {
    json!({
        "Type": "AWS::EC2::VPCEndpoint",
        "Condition": condition,
        "Properties": {
            "VpcEndpointType": "Interface",
            "ServiceName": {"Fn::Join": [".", [
                {"Fn::FindInMap": ["EndpointPrefix", reference("AWS::Partition"), service]},
                reference("AWS::Region"),
                service,
            ]]},
            "VpcId": reference("VpcId"),
            "SubnetIds": [reference("SubnetId")],
            "SecurityGroupIds": [attribute("EndpointSecurityGroup", "GroupId")],
            "PrivateDnsEnabled": true,
            // Nobody brings credentials of an account of their own.
            "PolicyDocument": document(&[json!({
                "Effect": "Allow",
                "Principal": "*",
                "Action": "*",
                "Resource": "*",
                "Condition": {"StringEquals": {"aws:PrincipalAccount": reference("AWS::AccountId")}},
            })]),
            "Tags": tags(&format!("Orglift {service}")),
        },
    })
}

/// It has no policy: whatever else uses the route tables goes through it, too.
fn gateway() -> Value {
    json!({
        "Type": "AWS::EC2::VPCEndpoint",
        "Condition": "CreateS3Endpoint",
        "Properties": {
            "VpcEndpointType": "Gateway",
            "ServiceName": sub("com.amazonaws.${AWS::Region}.s3"),
            "VpcId": reference("VpcId"),
            "RouteTableIds": reference("RouteTableIds"),
            "Tags": tags("Orglift s3"),
        },
    })
}

/// In China some services have names of their own; `aws ec2 describe-vpc-endpoint-services` lists them.
pub fn endpoint_prefixes() -> Value {
    let everywhere = json!({"ebs": "com.amazonaws", "sts": "com.amazonaws", "logs": "com.amazonaws"});
    json!({
        "aws": everywhere,
        "aws-us-gov": everywhere,
        "aws-cn": {"ebs": "cn.com.amazonaws", "sts": "cn.com.amazonaws", "logs": "com.amazonaws"},
    })
}

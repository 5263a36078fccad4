//! Which endpoints are called in the partitions of AWS. Nothing is sent.

use std::sync::{Arc, Mutex};

use aws_credential_types::Credentials;
use aws_sdk_sts::config::SharedCredentialsProvider;
use aws_smithy_runtime_api::client::{
    http::{HttpConnector, HttpConnectorFuture, SharedHttpClient, SharedHttpConnector, http_client_fn},
    orchestrator::HttpRequest,
    result::ConnectorError,
};

use super::Access;
use crate::route::Endpoints;

/// Notes the host of each request, and sends none.
#[derive(Debug, Clone, Default)]
struct Hosts(Arc<Mutex<Vec<String>>>);

impl HttpConnector for Hosts {
    fn call(&self, request: HttpRequest) -> HttpConnectorFuture {
        let (_, behind) = request.uri().split_once("://").unwrap();
        let host = behind.split('/').next().unwrap();
        self.0.lock().unwrap().push(host.to_owned());
        HttpConnectorFuture::ready(Err(ConnectorError::user("nothing is sent here".into())))
    }
}

impl Hosts {
    fn client(&self) -> SharedHttpClient {
        let hosts = self.clone();
        http_client_fn(move |_, _| SharedHttpConnector::new(hosts.clone()))
    }
}

/// Of EC2, EBS direct, STS and Organizations, in this order.
async fn hosts(region: &str, fips: bool, dual_stack: bool) -> Vec<String> {
    let access = Access {
        region: region.into(),
        profile: None,
        endpoints: Endpoints {
            url: None,
            fips,
            dual_stack,
        },
    };
    let hosts = Hosts::default();
    let credentials = Credentials::new("AKIA", "secret", None, None, "test");
    let config = access
        .loader()
        .http_client(hosts.client())
        .credentials_provider(SharedCredentialsProvider::new(credentials))
        .load()
        .await;
    let refused = [
        aws_sdk_ec2::Client::new(&config)
            .describe_volumes()
            .send()
            .await
            .is_err(),
        aws_sdk_ebs::Client::new(&config)
            .list_snapshot_blocks()
            .snapshot_id("snap-0")
            .send()
            .await
            .is_err(),
        aws_sdk_sts::Client::new(&config)
            .get_caller_identity()
            .send()
            .await
            .is_err(),
        aws_sdk_organizations::Client::new(&config)
            .list_roots()
            .send()
            .await
            .is_err(),
    ];
    assert_eq!(refused, [true; 4]);
    hosts.0.lock().unwrap().clone()
}

#[tokio::test]
async fn each_partition_has_endpoints_of_its_own() {
    assert_eq!(
        hosts("eu-central-1", false, false).await,
        [
            "ec2.eu-central-1.amazonaws.com",
            "ebs.eu-central-1.amazonaws.com",
            "sts.eu-central-1.amazonaws.com",
            "organizations.us-east-1.amazonaws.com",
        ]
    );
    assert_eq!(
        hosts("us-gov-west-1", false, false).await,
        [
            "ec2.us-gov-west-1.amazonaws.com",
            "ebs.us-gov-west-1.amazonaws.com",
            "sts.us-gov-west-1.amazonaws.com",
            "organizations.us-gov-west-1.amazonaws.com",
        ]
    );
    assert_eq!(
        hosts("cn-north-1", false, false).await,
        [
            "ec2.cn-north-1.amazonaws.com.cn",
            "ebs.cn-north-1.amazonaws.com.cn",
            "sts.cn-north-1.amazonaws.com.cn",
            "organizations.cn-northwest-1.amazonaws.com.cn",
        ]
    );
}

#[tokio::test]
async fn validated_cryptography_and_both_families_of_addresses_are_chosen_by_settings() {
    assert_eq!(
        hosts("us-east-1", true, false).await,
        [
            "ec2-fips.us-east-1.amazonaws.com",
            "ebs-fips.us-east-1.amazonaws.com",
            "sts-fips.us-east-1.amazonaws.com",
            "organizations-fips.us-east-1.amazonaws.com",
        ]
    );
    assert_eq!(
        hosts("us-gov-west-1", true, false).await,
        [
            "ec2.us-gov-west-1.amazonaws.com",
            "ebs-fips.us-gov-west-1.amazonaws.com",
            "sts.us-gov-west-1.amazonaws.com",
            "organizations.us-gov-west-1.amazonaws.com",
        ]
    );
    assert_eq!(
        hosts("eu-central-1", false, true).await,
        [
            "ec2.eu-central-1.api.aws",
            "ebs.eu-central-1.api.aws",
            "sts.eu-central-1.api.aws",
            "organizations.us-east-1.api.aws",
        ]
    );
}

//! AWS. No other code names a type of its SDK.
//!
//! - [`AwsCloud`]: the control plane, by roles in accounts ([`sessions`]).
//! - [`ebs`]: the snapshot store on EBS direct APIs.
//! - [`caller`]: who somebody is.
//! - [`s3`]: objects in a bucket.
//! - [`failure`]: what a caller can do about a call that failed.

pub mod caller;
mod calls;
mod copies;
mod drift;
pub mod ebs;
mod failure;
mod images;
mod instance_types;
mod instances;
mod inventory;
mod network;
mod obstacles;
mod organization;
mod pace;
mod paced;
mod quotas;
mod removal;
mod rights;
pub mod s3;
mod sessions;
mod signing;
mod tags;
mod templates;
#[cfg(test)]
mod tests;

use std::time::Duration;

use async_trait::async_trait;
use aws_config::{BehaviorVersion, ConfigLoader, Region, retry::RetryConfig, timeout::TimeoutConfig};
use aws_runtime::env_config::file::{EnvConfigFileKind, EnvConfigFiles};
use aws_sdk_ec2::Client;
use aws_smithy_types::timeout::TimeoutConfigBuilder;
use domain::{
    account::{ListedAccount, Reach},
    launch::instance_type::{InstanceType, Needs},
};

use self::{calls::Asked, failure::Failure, sessions::Sessions};
use crate::{
    caller::{Caller, SignedCall},
    control::{
        ClientToken, Cloud, CloudError, Comparison, CopySpec, ImageSpec, Instance, InstanceSpec, Outlook,
        Owned, Place, Resource, Screenshot, Surroundings, TemplateSpec, TemplateVersion, Use,
    },
    route::{Endpoints, Errand, Profile, Route},
};

/// Without limits of its own the SDK waits for ever for an answer on a connection that stands.
const CONNECT_WITHIN: Duration = Duration::from_secs(5);
const READ_WITHIN: Duration = Duration::from_secs(12);
const ATTEMPT_WITHIN: Duration = Duration::from_secs(20);

/// The control plane of AWS. Calls are made once: who asks decides whether to ask again.
#[derive(Debug, Default)]
pub struct AwsCloud {
    sessions: Sessions,
}

impl AwsCloud {
    async fn ec2(&self, place: &Place) -> Result<Client, CloudError> {
        Ok(Client::new(&self.sessions.enter(place).await?))
    }
}

#[async_trait]
impl Cloud for AwsCloud {
    async fn organization_accounts(
        &self,
        route: &Route,
        region: &str,
        reach: Reach,
    ) -> Result<Vec<ListedAccount>, CloudError> {
        if reach == Reach::Roster {
            return Err(CloudError::Rejected {
                call: "organizations:ListRoots",
                account: sessions::ORGANIZATION.into(),
                reason: "the accounts of a roster are listed by hand; there is nobody to ask".into(),
            });
        }
        let errand = Errand::own("list the accounts");
        organization::accounts(&self.sessions.set_out(route, region, &errand).await?).await
    }

    async fn check_access(&self, place: &Place) -> Result<(), CloudError> {
        let call = "sts:GetCallerIdentity";
        let sts = aws_sdk_sts::Client::new(&self.sessions.enter(place).await?);
        let answer = sts.get_caller_identity().send().await;
        answer
            .map(drop)
            .map_err(|error| Asked { call, place }.refused(&Failure::of(&error)))
    }

    async fn register_image(&self, place: &Place, spec: &ImageSpec) -> Result<String, CloudError> {
        let call = "ec2:RegisterImage";
        images::register(Asked { call, place }, &self.ec2(place).await?, spec).await
    }

    async fn deregister_image(&self, place: &Place, image: &Owned) -> Result<(), CloudError> {
        let call = "ec2:DeregisterImage";
        removal::deregister_image(Asked { call, place }, &self.ec2(place).await?, image).await
    }

    async fn instance_types(
        &self,
        place: &Place,
        subnet: &str,
        families: &[String],
    ) -> Result<Vec<InstanceType>, CloudError> {
        let call = "ec2:DescribeInstanceTypes";
        let (asked, ec2) = (Asked { call, place }, self.ec2(place).await?);
        let subnet = obstacles::subnet(asked.to("ec2:DescribeSubnets"), &ec2, subnet).await?;
        let zone = subnet.availability_zone().unwrap_or_default();
        let patterns: Vec<_> = families.iter().map(|family| format!("{family}.*")).collect();
        instance_types::offered(asked, &ec2, zone, &patterns).await
    }

    async fn launch_outlook(
        &self,
        place: &Place,
        spec: &TemplateSpec,
        needs: &Needs,
        uses: &[Use],
    ) -> Result<Outlook, CloudError> {
        let call = "ec2:RunInstances";
        let (asked, config) = (Asked { call, place }, self.sessions.enter(place).await?);
        let ec2 = Client::new(&config);
        let mut outlook = Outlook {
            obstacles: obstacles::find(asked, &ec2, spec, needs).await?,
            not_checked: Vec::new(),
        };
        let quotas = aws_sdk_servicequotas::Client::new(&config);
        quotas::look(asked, &ec2, &quotas, spec, &mut outlook).await?;
        let iam = aws_sdk_iam::Client::new(&config);
        rights::look(asked, &iam, uses, &mut outlook).await?;
        Ok(outlook)
    }

    async fn keep_template(&self, place: &Place, spec: &TemplateSpec) -> Result<TemplateVersion, CloudError> {
        let call = "ec2:CreateLaunchTemplate";
        templates::keep(Asked { call, place }, &self.ec2(place).await?, spec).await
    }

    async fn delete_template(&self, place: &Place, template: &Owned) -> Result<(), CloudError> {
        let call = "ec2:DeleteLaunchTemplate";
        removal::delete_template(Asked { call, place }, &self.ec2(place).await?, template).await
    }

    async fn console_text(&self, place: &Place, instance: &str) -> Result<String, CloudError> {
        let call = "ec2:GetConsoleOutput";
        instances::console_text(Asked { call, place }, &self.ec2(place).await?, instance).await
    }

    async fn screenshot(&self, place: &Place, instance: &str) -> Result<Option<Screenshot>, CloudError> {
        let call = "ec2:GetConsoleScreenshot";
        instances::screenshot(Asked { call, place }, &self.ec2(place).await?, instance).await
    }

    async fn launch_instance(&self, place: &Place, spec: &InstanceSpec) -> Result<String, CloudError> {
        let call = "ec2:RunInstances";
        instances::launch(Asked { call, place }, &self.ec2(place).await?, spec).await
    }

    async fn instance(&self, place: &Place, instance: &str) -> Result<Instance, CloudError> {
        let call = "ec2:DescribeInstances";
        instances::describe(Asked { call, place }, &self.ec2(place).await?, instance).await
    }

    async fn stop_instance(&self, place: &Place, instance: &Owned) -> Result<(), CloudError> {
        let call = "ec2:StopInstances";
        removal::stop_instance(Asked { call, place }, &self.ec2(place).await?, instance).await
    }

    async fn terminate_instance(&self, place: &Place, instance: &Owned) -> Result<(), CloudError> {
        let call = "ec2:TerminateInstances";
        removal::terminate_instance(Asked { call, place }, &self.ec2(place).await?, instance).await
    }

    async fn delete_snapshot(&self, place: &Place, snapshot: &str, server: &str) -> Result<(), CloudError> {
        let call = "ec2:DeleteSnapshot";
        inventory::delete_snapshot(Asked { call, place }, &self.ec2(place).await?, snapshot, server).await
    }

    async fn copy_snapshot(&self, place: &Place, spec: &CopySpec) -> Result<(String, bool), CloudError> {
        let call = "ec2:CopySnapshot";
        copies::follow(Asked { call, place }, &self.ec2(place).await?, spec).await
    }

    async fn find_by_token(
        &self,
        place: &Place,
        token: &ClientToken,
    ) -> Result<Option<Resource>, CloudError> {
        let call = "ec2:DescribeInstances";
        inventory::made_by(Asked { call, place }, &self.ec2(place).await?, &token.0).await
    }

    async fn surroundings(
        &self,
        place: &Place,
        launch_subnets: &[String],
    ) -> Result<Surroundings, CloudError> {
        network::read(place, &self.ec2(place).await?, launch_subnets).await
    }

    async fn detect_drift(&self, place: &Place, stack: &str) -> Result<String, CloudError> {
        let call = "cloudformation:DetectStackDrift";
        let stacks = aws_sdk_cloudformation::Client::new(&self.sessions.enter(place).await?);
        drift::detect(Asked { call, place }, &stacks, stack).await
    }

    async fn drift(&self, place: &Place, stack: &str, detection: &str) -> Result<Comparison, CloudError> {
        let call = "cloudformation:DescribeStackDriftDetectionStatus";
        let stacks = aws_sdk_cloudformation::Client::new(&self.sessions.enter(place).await?);
        drift::outcome(Asked { call, place }, &stacks, stack, detection).await
    }

    async fn caller(&self, url: &str, call: &SignedCall) -> Result<Caller, CloudError> {
        caller::ask(url, call).await
    }

    async fn inventory(&self, place: &Place) -> Result<Vec<Resource>, CloudError> {
        let call = "ec2:DescribeSnapshots";
        inventory::everything(Asked { call, place }, &self.ec2(place).await?).await
    }
}

/// Until an answer begins.
fn first_byte() -> TimeoutConfigBuilder {
    TimeoutConfig::builder()
        .connect_timeout(CONNECT_WITHIN)
        .read_timeout(READ_WITHIN)
}

/// With whose credentials a program calls, and where.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Access {
    pub region: String,
    /// `None` for what its environment or its instance gives it.
    pub profile: Option<Profile>,
    pub endpoints: Endpoints,
}

impl Access {
    /// One attempt per call and explicit time-outs: what is tried again, and when, is decided in one place.
    fn loader(&self) -> ConfigLoader {
        let time = first_byte()
            .operation_attempt_timeout(ATTEMPT_WITHIN)
            .operation_timeout(ATTEMPT_WITHIN)
            .build();
        let mut loader = aws_config::defaults(BehaviorVersion::latest())
            .region(Region::new(self.region.clone()))
            .retry_config(RetryConfig::disabled())
            .timeout_config(time)
            .use_fips(self.endpoints.fips)
            .use_dual_stack(self.endpoints.dual_stack);
        if let Some(url) = &self.endpoints.url {
            loader = loader.endpoint_url(url);
        }
        if let Some(Profile { name, file }) = &self.profile {
            loader = loader.profile_name(name);
            if let Some(file) = file {
                let files = EnvConfigFiles::builder().with_file(EnvConfigFileKind::Credentials, file);
                loader = loader.profile_files(files.build());
            }
        }
        loader
    }
}

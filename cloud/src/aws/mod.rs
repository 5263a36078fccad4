//! AWS. No other code names a type of its SDK.
//!
//! - [`ebs`]: the snapshot store on EBS direct APIs.
//! - [`failure`]: what a caller can do about a call that failed.

pub mod ebs;
mod failure;

use std::{path::PathBuf, time::Duration};

use aws_config::{BehaviorVersion, ConfigLoader, Region, retry::RetryConfig, timeout::TimeoutConfig};
use aws_runtime::env_config::file::{EnvConfigFileKind, EnvConfigFiles};

/// Without limits of its own the SDK waits for ever for an answer on a connection that stands.
const CONNECT_WITHIN: Duration = Duration::from_secs(5);
const READ_WITHIN: Duration = Duration::from_secs(12);
const ATTEMPT_WITHIN: Duration = Duration::from_secs(20);

/// With whose credentials a program calls, and where.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Access {
    pub region: String,
    /// `None` for what its environment or its instance gives it.
    pub profile: Option<Profile>,
    pub endpoints: Endpoints,
}

/// Of AWS's files of credentials.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Profile {
    pub name: String,
    /// `None` for those in the usual places.
    pub file: Option<PathBuf>,
}

/// What is called, if not the public endpoints of the region.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Endpoints {
    pub url: Option<String>,
    pub fips: bool,
    pub dual_stack: bool,
}

impl Access {
    /// One attempt per call and explicit time-outs: what is tried again, and when, is decided in one place.
    fn loader(&self) -> ConfigLoader {
        let time = TimeoutConfig::builder()
            .connect_timeout(CONNECT_WITHIN)
            .read_timeout(READ_WITHIN)
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

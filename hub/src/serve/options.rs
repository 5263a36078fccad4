//! What `orglift-hub serve` is told: on the command line, in the environment, or in `hub.toml`.

use std::{net::SocketAddr, path::PathBuf, time::Duration};

use anyhow::{Context, bail};
use clap::Args;
use serde::{Deserialize, Deserializer};

use super::{CloudChoice, Config};
use crate::{Settings, configuration::Configuration, store::Database};

/// Where runners reach the hub, unless it is told otherwise.
pub const MACHINES_PORT: u16 = 8443;

const SECONDS: std::ops::RangeInclusive<u32> = 1..=86_400;

/// Each may stand in `hub.toml` under `[serve]`, by the same name with underscores.
#[derive(Debug, Clone, Default, PartialEq, Eq, Args, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ServeOptions {
    /// Where the console and the API listen; 127.0.0.1:8080 if nothing is said.
    #[arg(long, env = "ORGLIFT_UI", value_name = "ADDRESS:PORT")]
    pub ui: Option<SocketAddr>,
    /// Where runners reach the hub; 0.0.0.0:8443 if nothing is said.
    #[arg(long, env = "ORGLIFT_MACHINES", value_name = "ADDRESS:PORT")]
    pub machines: Option<SocketAddr>,
    /// The cloud to act in: aws, or folder:PATH.
    #[arg(long, env = "ORGLIFT_CLOUD")]
    pub cloud: Option<CloudChoice>,
    /// The console's certificate chain, PEM.
    #[arg(long, env = "ORGLIFT_TLS_CERTIFICATE", value_name = "FILE")]
    pub tls_certificate: Option<PathBuf>,
    /// The key of the console's certificate, PEM.
    #[arg(long, env = "ORGLIFT_TLS_KEY", value_name = "FILE")]
    pub tls_key: Option<PathBuf>,
    /// Seconds between the scheduled checkpoints of servers that no template is for; 600 if nothing is said.
    #[arg(long, env = "ORGLIFT_CHECKPOINT_INTERVAL", value_name = "SECONDS", value_parser = parse_seconds)]
    #[serde(deserialize_with = "read_seconds")]
    pub checkpoint_interval: Option<u32>,
    /// Seconds that a launch waits for a fresh checkpoint before it refuses; 900 if nothing is said.
    #[arg(long, env = "ORGLIFT_CHECKPOINT_DEADLINE", value_name = "SECONDS", value_parser = parse_seconds)]
    #[serde(deserialize_with = "read_seconds")]
    pub checkpoint_deadline: Option<u32>,
    /// Seconds that a launch waits for its runner to convert the checkpoint, a rehearsal apart; 3600 if nothing is said.
    #[arg(long, env = "ORGLIFT_CONVERSION_DEADLINE", value_name = "SECONDS", value_parser = parse_seconds)]
    #[serde(deserialize_with = "read_seconds")]
    pub conversion_deadline: Option<u32>,
}

fn parse_seconds(text: &str) -> Result<u32, String> {
    let seconds = text.parse().ok().filter(|seconds| SECONDS.contains(seconds));
    seconds.ok_or_else(|| "give 1 to 86400 seconds".into())
}

fn read_seconds<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<u32>, D::Error> {
    let seconds = u32::deserialize(deserializer)?;
    if !SECONDS.contains(&seconds) {
        return Err(serde::de::Error::custom("give 1 to 86400 seconds"));
    }
    Ok(Some(seconds))
}

impl<'de> Deserialize<'de> for CloudChoice {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

impl ServeOptions {
    /// What these do not say, `others` do.
    #[must_use]
    pub fn or(self, others: Self) -> Self {
        Self {
            ui: self.ui.or(others.ui),
            machines: self.machines.or(others.machines),
            cloud: self.cloud.or(others.cloud),
            tls_certificate: self.tls_certificate.or(others.tls_certificate),
            tls_key: self.tls_key.or(others.tls_key),
            checkpoint_interval: self.checkpoint_interval.or(others.checkpoint_interval),
            checkpoint_deadline: self.checkpoint_deadline.or(others.checkpoint_deadline),
            conversion_deadline: self.conversion_deadline.or(others.conversion_deadline),
        }
    }

    /// With what the product has where nothing was said.
    pub fn config(
        self,
        dir: PathBuf,
        database: Database,
        configuration: Configuration,
    ) -> anyhow::Result<Config> {
        let tls = match (self.tls_certificate, self.tls_key) {
            (Some(certificate), Some(key)) => Some((certificate, key)),
            (None, None) => None,
            _ => bail!(
                "a certificate without its key proves nothing, nor does a key: give both, tls_certificate and tls_key"
            ),
        };
        let seconds = |given: Option<u32>, usual: u32| Duration::from_secs(u64::from(given.unwrap_or(usual)));
        Ok(Config {
            dir,
            database,
            ui: self.ui.unwrap_or(SocketAddr::from(([127, 0, 0, 1], 8080))),
            machines: self.machines.unwrap_or(SocketAddr::from(([0; 4], MACHINES_PORT))),
            cloud: self.cloud.context(
                "which cloud is it to act in? Give --cloud aws, or cloud = \"aws\" under [serve] in hub.toml",
            )?,
            tls,
            settings: Settings {
                checkpoint_interval: seconds(self.checkpoint_interval, 600),
                checkpoint_deadline: seconds(self.checkpoint_deadline, 900),
                conversion_deadline: seconds(self.conversion_deadline, 3600),
                sign_in: configuration.sign_in,
                oidc: configuration.oidc,
                smtp: configuration.smtp,
                ..Settings::default()
            },
        })
    }
}

//! Enrolment of this runner: it makes a key, and has it signed for a token or for the identity that AWS gives its machine.

use std::collections::BTreeMap;

use anyhow::{Context, bail};
use identity::{Credentials, NewKey, tls};
use protocol::enrol::{Applicant, EnrolledRunner, IdentityEnrolment, RunnerEnrolment, Token};

use crate::{
    hub::{Backoff, HubAddress, HubClient, HubError},
    run::{Listening, Options, Proof, own_address},
    staging::chain,
};

pub(crate) async fn enrol(
    options: &Options,
    hub: &HubAddress,
    listening: &Listening,
) -> anyhow::Result<Credentials> {
    let key = NewKey::generate()?;
    let applicant = Applicant {
        csr_pem: key.csr_pem()?,
        runner_version: env!("CARGO_PKG_VERSION").to_owned(),
        address: match &options.address {
            Some(address) => address.clone(),
            None => own_address(hub, listening)?,
        },
        data_port: listening.data.port(),
        enrol_port: listening.enrol.port(),
    };
    let enrolled = match &options.proof {
        Proof::Nothing => bail!(
            "this runner is not enrolled: give a token from the console by --token-file or ORGLIFT_TOKEN, or have it \
             prove its role by --aws-identity"
        ),
        Proof::Token(token) => by_token(hub, token, applicant).await?,
        Proof::Identity { region, ca_sha256 } => by_identity(hub, region, *ca_sha256, applicant).await?,
    };
    let credentials = key.certified(enrolled.certificate_pem, enrolled.ca_pem);
    credentials.save(&options.dir.join("identity"))?;
    tracing::info!(runner.id = %enrolled.runner, account = %enrolled.account, region = %enrolled.region, "enrolled");
    Ok(credentials)
}

/// The hub may be away, or its token wrong: only the first is worth waiting for.
async fn by_token(hub: &HubAddress, token: &str, applicant: Applicant) -> anyhow::Result<EnrolledRunner> {
    let token: Token = token.parse()?;
    let client = HubClient::new(hub.clone(), tls::enrolling_client(token.ca_sha256)?)?;
    let request = RunnerEnrolment {
        token_secret: token.secret,
        csr_pem: applicant.csr_pem,
        runner_version: applicant.runner_version,
        address: applicant.address,
        data_port: applicant.data_port,
        enrol_port: applicant.enrol_port,
    };
    let mut backoff = Backoff::default();
    loop {
        match client.enrol_runner(&request).await {
            Ok(enrolled) => return Ok(enrolled),
            Err(refused @ HubError::Refused { .. }) => return Err(refused.into()),
            Err(error) => {
                tracing::warn!(error = %chain(&error), "cannot enrol yet; trying again");
                tokio::time::sleep(backoff.next()).await;
            }
        }
    }
}

/// Whatever keeps it from enrolling, somebody may mend it elsewhere: the account may not be known yet.
async fn by_identity(
    hub: &HubAddress,
    region: &str,
    ca_sha256: [u8; 32],
    applicant: Applicant,
) -> anyhow::Result<EnrolledRunner> {
    let client = HubClient::new(hub.clone(), tls::enrolling_client(ca_sha256)?)?;
    let key =
        identity::authority::requested_key(&applicant.csr_pem).context("an own request cannot be read")?;
    let mut backoff = Backoff::default();
    loop {
        let attempt = async {
            let (host, headers) = prove(region, ca_sha256, key).await?;
            let request = IdentityEnrolment {
                host,
                headers,
                applicant: applicant.clone(),
            };
            anyhow::Ok(client.enrol_by_identity(&request).await?)
        };
        match attempt.await {
            Ok(enrolled) => return Ok(enrolled),
            Err(error) => {
                tracing::warn!(
                    error = format!("{error:#}"),
                    "cannot enrol by identity yet; trying again"
                );
                tokio::time::sleep(backoff.next()).await;
            }
        }
    }
}

/// Signed anew each time: a proof is good for some minutes, and is taken once.
#[cfg(feature = "aws")]
async fn prove(
    region: &str,
    ca_sha256: [u8; 32],
    key_sha256: [u8; 32],
) -> anyhow::Result<(String, BTreeMap<String, String>)> {
    use cloud::{aws::caller, caller::Bound};
    use domain::digest::Digest;
    let bound = Bound {
        hub: Digest(ca_sha256).to_string(),
        key: Digest(key_sha256).to_string(),
    };
    let call = caller::prove(&crate::store::in_region(region), &bound).await?;
    Ok((call.host, call.headers))
}

#[cfg(not(feature = "aws"))]
#[expect(clippy::unused_async, reason = "with AWS there is something to wait for")]
async fn prove(_: &str, _: [u8; 32], _: [u8; 32]) -> anyhow::Result<(String, BTreeMap<String, String>)> {
    bail!("this program was built without AWS: build it with the feature `aws`")
}

//! Sessions in accounts: one role after the other is assumed, and each session is kept until it is about to end.
//!
//! ```text
//! own credentials ─▶ role on the way ─▶ … ─▶ member role of an account
//! ```
//!
//! A session that was assumed from another ends after an hour at the latest, whatever its role allows.

use std::{
    collections::HashMap,
    future::Future,
    pin::Pin,
    sync::{Arc, Mutex},
    time::{Duration, SystemTime},
};

use aws_config::SdkConfig;
use aws_credential_types::Credentials;
use aws_sdk_sts::{Client, config::SharedCredentialsProvider, types::Tag};
use tokio::sync::OnceCell;

use super::{Access, failure::Failure, first_byte, paced::Turns};
use crate::{
    control::{CloudError, Place},
    route::{Errand, Hop, Route},
};

const LENGTH_S: i32 = 3600;
/// What is begun with a session should not outlive it.
const RENEW_BEFORE: Duration = Duration::from_mins(10);

const ASSUME_ROLE: &str = "sts:AssumeRole";
const WHO_AM_I: &str = "sts:GetCallerIdentity";

/// Stands where errors name an account, in calls that go to the organization as a whole.
pub(super) const ORGANIZATION: &str = "of the organization";

#[derive(Debug, Default)]
pub(super) struct Sessions {
    turns: Turns,
    known: Mutex<HashMap<Step, Arc<OnceCell<Session>>>>,
}

/// A session, by the way that leads to it.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct Step {
    route: Arc<Route>,
    region: String,
    errand: Errand,
    reached: Reached,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
enum Reached {
    Start,
    /// So many roles on the way.
    Through(usize),
    Account(String),
}

#[derive(Debug, Clone)]
struct Session {
    config: SdkConfig,
    /// `None` where credentials renew themselves.
    ends: Option<SystemTime>,
    /// Of the ARN by which AWS knows us: `aws`, `aws-us-gov`, `aws-cn`.
    partition: String,
    /// The account that the hub set out from.
    own_account: String,
}

impl Session {
    fn is_fresh(&self) -> bool {
        self.ends
            .is_none_or(|ends| SystemTime::now() + RENEW_BEFORE < ends)
    }
}

impl Sessions {
    /// What to call an account with. Nothing is called where the hub may not act.
    pub async fn enter(&self, place: &Place) -> Result<SdkConfig, CloudError> {
        let Place {
            account,
            region,
            route,
            errand,
        } = place;
        let left_alone = |why: String| CloudError::LeftAlone {
            account: account.to_string(),
            why,
        };
        if !route.regions.contains(region) {
            return Err(left_alone(format!(
                "region {region} is not among those that the hub may act in; allow it in the settings of its organization"
            )));
        }
        if route.denied.contains(account) {
            return Err(left_alone(
                "the hub was told never to enter it; take it off the deny-list of its organization".into(),
            ));
        }
        let step = Step {
            route: Arc::clone(route),
            region: region.clone(),
            errand: errand.clone(),
            reached: Reached::Start,
        };
        if !route.own_account {
            let start = self.session(step.clone(), account.as_str()).await?;
            if start.own_account == account.as_str() {
                return Err(left_alone(
                    "it is the hub's own account, which the hub leaves alone; allow it in the settings of its \
                     organization if servers are to be moved there"
                        .into(),
                ));
            }
        }
        let reached = Reached::Account(account.to_string());
        Ok(self
            .session(Step { reached, ..step }, account.as_str())
            .await?
            .config)
    }

    /// What to ask an organization with.
    pub async fn set_out(
        &self,
        route: &Route,
        region: &str,
        errand: &Errand,
    ) -> Result<SdkConfig, CloudError> {
        let reached = match route.through.len() {
            0 => Reached::Start,
            hops => Reached::Through(hops),
        };
        let step = Step {
            route: Arc::new(route.clone()),
            region: region.to_owned(),
            errand: errand.clone(),
            reached,
        };
        Ok(self.session(step, ORGANIZATION).await?.config)
    }

    /// Two who want the same session wait for one answer.
    fn session<'a>(
        &'a self,
        step: Step,
        account: &'a str,
    ) -> Pin<Box<dyn Future<Output = Result<Session, CloudError>> + Send + 'a>> {
        Box::pin(async move {
            let cell = {
                let mut known = self.known.lock().expect("no panic while it was held");
                known.retain(|_, cell| cell.get().is_none_or(Session::is_fresh));
                Arc::clone(known.entry(step.clone()).or_default())
            };
            let session = cell.get_or_try_init(|| self.begin(&step, account)).await?;
            Ok(session.clone())
        })
    }

    async fn begin(&self, step: &Step, account: &str) -> Result<Session, CloudError> {
        let route = &step.route;
        let previous = match &step.reached {
            Reached::Start => return self.start(step, account).await,
            Reached::Through(1) => Reached::Start,
            Reached::Through(hops) => Reached::Through(hops - 1),
            Reached::Account(_) if route.through.is_empty() => Reached::Start,
            Reached::Account(_) => Reached::Through(route.through.len()),
        };
        let previous = Step {
            reached: previous,
            ..step.clone()
        };
        let previous = self.session(previous, account).await?;
        let hop = match &step.reached {
            Reached::Through(hops) => route.through[hops - 1].clone(),
            _ => Hop {
                role_arn: format!(
                    "arn:{}:iam::{account}:role/{}",
                    previous.partition, route.member_role
                ),
                external_id: route.external_id.clone(),
            },
        };
        self.assume(&previous, &hop, step, account).await
    }

    async fn start(&self, step: &Step, account: &str) -> Result<Session, CloudError> {
        let access = Access {
            region: step.region.clone(),
            profile: step.route.profile.clone(),
            endpoints: step.route.endpoints.clone(),
        };
        // Whoever gives turns counts the time, too.
        let config = access.loader().timeout_config(first_byte().build()).load().await;
        // Of which account they are is not known yet.
        let config = config
            .into_builder()
            .http_client(self.turns.client_of(""))
            .build();
        let identity = Client::new(&config).get_caller_identity().send().await;
        let identity = identity.map_err(|error| {
            Failure::of(&error).at(WHO_AM_I, account, |why| {
                format!(
                    "the hub's own credentials are not accepted ({why}); give it a profile or an instance role that \
                     is valid"
                )
            })
        })?;
        let partition = identity.arn().and_then(|arn| arn.split(':').nth(1));
        let own_account = identity.account().unwrap_or_default().to_owned();
        let config = config
            .into_builder()
            .http_client(self.turns.client_of(&own_account));
        Ok(Session {
            config: config.build(),
            ends: None,
            partition: partition.unwrap_or("aws").to_owned(),
            own_account,
        })
    }

    async fn assume(
        &self,
        from: &Session,
        hop: &Hop,
        step: &Step,
        account: &str,
    ) -> Result<Session, CloudError> {
        let tag = |key: &str, value: &str| Tag::builder().key(key).value(value).build();
        let Errand { who, why } = &step.errand;
        let tags = [
            tag("orglift:who", &allowed(who, 256)),
            tag("orglift:why", &allowed(why, 256)),
        ];
        let assumed = Client::new(&from.config)
            .assume_role()
            .role_arn(&hop.role_arn)
            .set_external_id(hop.external_id.clone())
            .role_session_name(allowed(&format!("orglift-{who}"), 64))
            .set_tags(Some(tags.into_iter().filter_map(Result::ok).collect()))
            .duration_seconds(LENGTH_S)
            .send()
            .await;
        let assumed = assumed.map_err(|error| {
            Failure::of(&error).at(ASSUME_ROLE, account, |why| {
                format!(
                    "role {} refused ({why}): it is not there, does not trust the hub, or expects another \
                     ExternalId; deploy what `orglift-hub onboarding --account {account}` writes",
                    hop.role_arn
                )
            })
        })?;
        let given = assumed.credentials().ok_or_else(|| CloudError::Unknown {
            call: ASSUME_ROLE,
            account: account.to_owned(),
            detail: "the answer has no credentials".into(),
        })?;
        let ends = SystemTime::try_from(*given.expiration()).unwrap_or(SystemTime::now());
        let credentials = Credentials::new(
            given.access_key_id(),
            given.secret_access_key(),
            Some(given.session_token().to_owned()),
            Some(ends),
            "assumed role",
        );
        let role_account = hop.role_arn.split(':').nth(4).unwrap_or_default();
        let config = from.config.clone().into_builder();
        Ok(Session {
            config: config
                .http_client(self.turns.client_of(role_account))
                .credentials_provider(SharedCredentialsProvider::new(credentials))
                .build(),
            ends: Some(ends),
            ..from.clone()
        })
    }
}

/// What session names and tags may be made of. Others are replaced: the name of a person is no reason to fail.
fn allowed(text: &str, len: usize) -> String {
    let is_allowed = |c: char| c.is_ascii_alphanumeric() || "+=,.@-_".contains(c);
    let safe = text.chars().map(|c| if is_allowed(c) { c } else { '-' });
    safe.take(len).collect()
}

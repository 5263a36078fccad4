//! Whether the stack that an account was onboarded with is as it was deployed.
//!
//! CloudFormation compares it with its template, which takes a while: one look has it begin, that or a later one reads
//! what came of it. Once a day is enough, unless somebody wants to know now.

use std::time::Duration;

use cloud::{
    Cloud, CloudError,
    control::{Comparison, Place},
};
use domain::network::{Finding, drift::findings};
use serde::{Deserialize, Serialize};
use tokio::time::sleep;

use crate::clock::now_ms;

const EVERY_MS: i64 = 24 * 3_600_000;
/// After this a comparison is given up.
const LONGEST_MS: i64 = 3_600_000;
/// A stack as small as ours is often compared within some seconds.
const LOOKS: u32 = 4;
const PAUSE: Duration = Duration::from_secs(1);

#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Drift {
    /// The last comparison that came to an end.
    pub compared: Option<Compared>,
    pub now: Now,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Compared {
    pub stack: String,
    pub at: i64,
    pub findings: Vec<Finding>,
}

#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Now {
    #[default]
    Idle,
    UnderWay {
        detection: String,
        since: i64,
    },
    NotChecked {
        why: String,
    },
}

/// When a stack is compared.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum When {
    /// Somebody wants to know.
    Now,
    /// If the last comparison is old.
    InTime,
}

impl Drift {
    pub fn is_under_way(&self) -> bool {
        matches!(self.now, Now::UnderWay { .. })
    }

    pub fn findings(&self) -> &[Finding] {
        self.compared.as_ref().map_or(&[], |compared| &compared.findings)
    }
}

/// `stack` is the one that made the runner's interface.
pub async fn look(
    cloud: &dyn Cloud,
    place: &Place,
    stack: Option<&str>,
    before: &Drift,
    when: When,
) -> Drift {
    let Some(stack) = stack else {
        return not_checked(None, "no stack of CloudFormation made the runner's interface");
    };
    let compared = before.compared.clone().filter(|compared| compared.stack == stack);
    let is_old = compared
        .as_ref()
        .is_none_or(|compared| now_ms() - compared.at > EVERY_MS);
    let (detection, since) = match &before.now {
        Now::UnderWay { detection, since } if now_ms() - since < LONGEST_MS => (detection.clone(), *since),
        _ if is_old || when == When::Now => match cloud.detect_drift(place, stack).await {
            Ok(detection) => (detection, now_ms()),
            Err(error) => return not_checked(compared, &remedy(place, &error)),
        },
        _ => {
            return Drift {
                compared,
                now: Now::Idle,
            };
        }
    };
    let under_way = Drift {
        compared: compared.clone(),
        now: Now::UnderWay {
            detection: detection.clone(),
            since,
        },
    };
    for look in 0..LOOKS {
        if look > 0 {
            sleep(PAUSE).await;
        }
        match cloud.drift(place, stack, &detection).await {
            Ok(Comparison::UnderWay) => {}
            Ok(Comparison::Done(drifted)) => {
                let compared = Compared {
                    stack: stack.to_owned(),
                    at: now_ms(),
                    findings: findings(&drifted),
                };
                return Drift {
                    compared: Some(compared),
                    now: Now::Idle,
                };
            }
            Ok(Comparison::Failed(why)) => return not_checked(compared, &why),
            Err(error) if error.is_transient() => break,
            Err(error) => return not_checked(compared, &remedy(place, &error)),
        }
    }
    under_way
}

fn not_checked(compared: Option<Compared>, why: &str) -> Drift {
    let why = format!("Whether the onboarding stack was changed by hand is not checked: {why}.");
    Drift {
        compared,
        now: Now::NotChecked { why },
    }
}

fn remedy(place: &Place, error: &CloudError) -> String {
    match error {
        CloudError::Denied { call, .. } => format!(
            "role {} may not call {call}; choose the feature: deploy what `orglift-hub onboarding --account {} --feature \
             drift` writes",
            place.route.member_role, place.account
        ),
        other => other.to_string(),
    }
}

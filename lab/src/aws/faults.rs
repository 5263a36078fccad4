//! What tests make go wrong while clients run: a list of [`Fault`]s, in the words of `cloud::folder::faults`.
//!
//! The first fault that fits a call strikes: its `hits` grows, so that a test can wait until a call has met it, and
//! once `count` hits are used up it lets calls pass. Taking a fault out of the list releases the calls that it holds.

use serde::{Deserialize, Serialize};
use tokio::sync::watch;

use super::calls::Call;

/// Strikes every call without end, where it does not say which.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Fault {
    #[serde(default)]
    pub account: Option<String>,
    #[serde(default)]
    pub region: Option<String>,
    /// As in the scope of a signature: `ec2`, `ebs`, `sts`, `organizations`.
    #[serde(default)]
    pub service: Option<String>,
    #[serde(default)]
    pub action: Option<String>,
    pub effect: Effect,
    /// How many calls it strikes; all of them if absent.
    #[serde(default)]
    pub count: Option<u32>,
    /// How many calls it has struck.
    #[serde(default)]
    pub hits: u32,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case", deny_unknown_fields)]
pub enum Effect {
    /// Nothing is done until the fault is removed; then it is done.
    HoldBefore,
    /// It is done, and the answer stays away until the fault is removed.
    HoldAfter,
    /// It is done, and the connection ends without an answer.
    Forget,
    /// The connection ends, and nothing is done.
    Reset,
    /// It is done a while later.
    Slow { millis: u64 },
    /// The service says that the fault is its own: HTTP status 500.
    Fail,
    /// In the words of the service: `RequestLimitExceeded`, `ThrottlingException` …
    Throttle,
    /// In the words of the service: `UnauthorizedOperation`, `AccessDenied` …
    Deny,
    /// Any other error, such as `ExpiredToken`.
    Reject { code: String, message: String },
    /// The snapshot that it starts or completes does not exist for EBS direct for a while, as happens for up to two
    /// minutes at AWS.
    Unseen { millis: u64 },
}

impl Fault {
    pub fn new(effect: Effect) -> Self {
        Self {
            account: None,
            region: None,
            service: None,
            action: None,
            effect,
            count: None,
            hits: 0,
        }
    }

    #[must_use]
    pub fn on(mut self, service: &str, action: &str) -> Self {
        self.service = Some(service.to_owned());
        self.action = Some(action.to_owned());
        self
    }

    #[must_use]
    pub fn in_account(mut self, account: &str) -> Self {
        self.account = Some(account.to_owned());
        self
    }

    #[must_use]
    pub fn times(mut self, count: u32) -> Self {
        self.count = Some(count);
        self
    }

    fn fits(&self, call: &Call) -> bool {
        let fits = |wanted: &Option<String>, own: &str| wanted.as_deref().is_none_or(|wanted| wanted == own);
        fits(&self.account, &call.account)
            && fits(&self.region, &call.region)
            && fits(&self.service, &call.service)
            && fits(&self.action, &call.action)
            && self.count.is_none_or(|count| self.hits < count)
    }

    /// Whether both are one fault, of which one may have more hits.
    fn is_same(&self, other: &Self) -> bool {
        let hits = other.hits;
        Self { hits, ..self.clone() } == *other
    }
}

#[derive(Debug)]
pub struct Faults(watch::Sender<Vec<Fault>>);

impl Default for Faults {
    fn default() -> Self {
        Self(watch::Sender::new(Vec::new()))
    }
}

impl Faults {
    /// The faults as they stand, hits included.
    pub fn list(&self) -> Vec<Fault> {
        self.0.borrow().clone()
    }

    /// Replaces all faults. An empty list lifts everything.
    pub fn set(&self, faults: Vec<Fault>) {
        self.0.send_replace(faults);
    }

    /// The fault that strikes this call, which is counted.
    pub(super) fn strike(&self, call: &Call) -> Option<Fault> {
        let mut struck = None;
        self.0.send_if_modified(|faults| {
            if let Some(fault) = faults.iter_mut().find(|fault| fault.fits(call)) {
                fault.hits += 1;
                struck = Some(fault.clone());
            }
            struck.is_some()
        });
        struck
    }

    /// Waits until `fault` is no longer in the list.
    pub(super) async fn lifted(&self, fault: &Fault) {
        let mut faults = self.0.subscribe();
        let is_lifted = |faults: &Vec<Fault>| !faults.iter().any(|other| other.is_same(fault));
        // The sender lives as long as `self`.
        let _ = faults.wait_for(is_lifted).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn call(account: &str, action: &str) -> Call {
        Call {
            account: account.into(),
            region: "eu-central-1".into(),
            service: "ec2".into(),
            action: action.into(),
        }
    }

    #[test]
    fn the_first_fault_that_fits_strikes_as_often_as_it_may() {
        let faults = Faults::default();
        faults.set(vec![
            Fault::new(Effect::Throttle).on("ec2", "RunInstances").times(1),
            Fault::new(Effect::Deny).in_account("111111111111"),
        ]);
        let strike = |account, action| faults.strike(&call(account, action)).map(|fault| fault.effect);
        assert_eq!(strike("222222222222", "DescribeImages"), None);
        assert_eq!(strike("222222222222", "RunInstances"), Some(Effect::Throttle));
        assert_eq!(strike("222222222222", "RunInstances"), None);
        assert_eq!(strike("111111111111", "RunInstances"), Some(Effect::Deny));
        let hits: Vec<_> = faults.list().iter().map(|fault| fault.hits).collect();
        assert_eq!(hits, [1, 1]);
    }

    #[tokio::test]
    async fn a_fault_is_lifted_when_it_is_out_of_the_list_and_not_by_another_hit() {
        let faults = Faults::default();
        faults.set(vec![Fault::new(Effect::HoldBefore)]);
        let held = faults.strike(&call("111111111111", "RunInstances")).unwrap();
        let lifted = faults.lifted(&held);
        tokio::pin!(lifted);
        faults.strike(&call("111111111111", "RunInstances"));
        assert!(polled_once(&mut lifted).await.is_none());
        faults.set(Vec::new());
        lifted.await;
    }

    async fn polled_once<F: Future + Unpin>(future: &mut F) -> Option<F::Output> {
        tokio::select! {
            biased;
            output = future => Some(output),
            () = std::future::ready(()) => None,
        }
    }
}

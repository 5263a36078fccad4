//! The same done in many accounts, with one outcome for each account and region.
//!
//! The calls into one account come one after the other: an account that is throttled waits by itself, and holds up
//! nobody else. Assuming roles is throttled for all accounts together, since the hub's own account calls; then fewer
//! accounts are entered at once, and slowly more again.

use std::{
    sync::{Arc, Mutex},
    time::Duration,
};

use cloud::{CloudError, control::Place};
use domain::account::Access;
use futures_util::{Stream, StreamExt, stream};
use tokio::{
    sync::Semaphore,
    time::{error::Elapsed, sleep, timeout},
};

/// Accounts that are entered at once, if nothing is throttled.
const AT_ONCE: usize = 32;
/// After so many accounts without a refusal one more is entered at once.
const EACH_MORE_AFTER: usize = 8;
const ATTEMPTS: u32 = 5;
const FIRST_PAUSE: Duration = Duration::from_millis(200);
/// One account's time for one attempt; one that is silent must not hold up the others for long.
pub const CALL_TIME: Duration = Duration::from_secs(20);

const SHARED_CALL: &str = "sts:AssumeRole";

type Attempt<T> = Result<Result<T, CloudError>, Elapsed>;

/// What came of one account in one region.
#[derive(Debug)]
pub struct Done<T> {
    pub place: Place,
    pub outcome: Result<T, Access>,
}

/// Does `task` in each place; the outcomes come as they are known.
pub fn fan_out<T, F, R>(places: Vec<Place>, task: F) -> impl Stream<Item = Done<T>>
where
    F: Fn(Place) -> R,
    R: Future<Output = Result<T, CloudError>>,
{
    let gate = Arc::new(Gate::default());
    let task = Arc::new(task);
    stream::iter(places)
        .map(move |place| {
            let (gate, task) = (Arc::clone(&gate), Arc::clone(&task));
            async move {
                let outcome = attempts(&gate, &*task, &place).await;
                Done { place, outcome }
            }
        })
        .buffer_unordered(AT_ONCE)
}

async fn attempts<T, F, R>(gate: &Gate, task: &F, place: &Place) -> Result<T, Access>
where
    F: Fn(Place) -> R,
    R: Future<Output = Result<T, CloudError>>,
{
    let mut pause = FIRST_PAUSE;
    let mut attempt = 1;
    loop {
        let answer = gate.enter(timeout(CALL_TIME, task(place.clone()))).await;
        let error = match answer {
            Ok(Ok(done)) => return Ok(done),
            Ok(Err(error)) => error,
            Err(_) => {
                let detail = format!("no answer within {} s", CALL_TIME.as_secs());
                return Err(Access::Unknown { detail });
            }
        };
        if !error.is_transient() || attempt == ATTEMPTS {
            return Err(access(&error));
        }
        // Those who were refused together do not come back together.
        sleep(pause.mul_f64(rand::random_range(0.5..1.5))).await;
        pause *= 2;
        attempt += 1;
    }
}

/// What an error says of the way into an account.
pub fn access(error: &CloudError) -> Access {
    match error {
        CloudError::Denied { call, remedy, .. } => Access::Denied {
            call: (*call).to_owned(),
            remedy: remedy.clone(),
        },
        CloudError::Rejected { call, reason, .. } => Access::Denied {
            call: (*call).to_owned(),
            remedy: reason.clone(),
        },
        CloudError::LeftAlone { why, .. } => Access::LeftAlone { why: why.clone() },
        CloudError::Throttled { .. } => Access::Throttled,
        CloudError::NotFound { .. } | CloudError::Unknown { .. } => Access::Unknown {
            detail: error.to_string(),
        },
    }
}

/// How many accounts are entered at once: additive increase, multiplicative decrease.
#[derive(Debug)]
struct Gate {
    permits: Semaphore,
    width: Mutex<Width>,
}

#[derive(Debug)]
struct Width {
    now: usize,
    /// Permits that are in use cannot be taken back; they are as their holders leave.
    wanted: usize,
    /// Accounts since the last refusal.
    well: usize,
}

impl Default for Gate {
    fn default() -> Self {
        Self {
            permits: Semaphore::new(AT_ONCE),
            width: Mutex::new(Width {
                now: AT_ONCE,
                wanted: AT_ONCE,
                well: 0,
            }),
        }
    }
}

impl Gate {
    async fn enter<T>(&self, task: impl Future<Output = Attempt<T>>) -> Attempt<T> {
        let permit = self.permits.acquire().await.expect("the gate is never closed");
        let answer = task.await;
        let mut width = self.width.lock().expect("no panic while it was held");
        match &answer {
            Ok(Err(CloudError::Throttled { call, .. })) if *call == SHARED_CALL => width.refused(),
            Ok(Ok(_)) => width.went_well(),
            _ => {}
        }
        if width.now > width.wanted {
            permit.forget();
            width.now -= 1;
        } else if width.now < width.wanted {
            self.permits.add_permits(width.wanted - width.now);
            width.now = width.wanted;
        }
        answer
    }
}

impl Width {
    fn refused(&mut self) {
        // Refusals of what was under way together are one refusal.
        if self.now <= self.wanted {
            self.wanted = (self.wanted / 2).max(1);
        }
        self.well = 0;
    }

    fn went_well(&mut self) {
        self.well += 1;
        if self.well.is_multiple_of(EACH_MORE_AFTER) && self.wanted < AT_ONCE {
            self.wanted += 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::{
        collections::BTreeMap,
        sync::atomic::{AtomicUsize, Ordering::Relaxed},
    };

    use super::*;

    fn places(count: u64) -> Vec<Place> {
        let account = |at: u64| format!("{:012}", 100_000_000_000 + at).parse().unwrap();
        (0..count)
            .map(|at| Place::direct(account(at), "eu-central-1"))
            .collect()
    }

    fn throttled(call: &'static str, place: &Place) -> CloudError {
        CloudError::Throttled {
            call,
            account: place.account.to_string(),
        }
    }

    #[tokio::test(start_paused = true)]
    async fn each_account_has_its_own_outcome() {
        let tries: Mutex<BTreeMap<String, u32>> = Mutex::default();
        let done: Vec<_> = fan_out(places(200), |place| {
            let nth = {
                let mut tries = tries.lock().unwrap();
                let count = tries.entry(place.account.to_string()).or_default();
                *count += 1;
                *count
            };
            let account: u64 = place.account.as_str().parse().unwrap();
            async move {
                match account % 20 {
                    0 => Err(CloudError::Denied {
                        call: SHARED_CALL,
                        account: place.account.to_string(),
                        remedy: "deploy the template".into(),
                    }),
                    1 => Err(throttled("ec2:DescribeInstances", &place)),
                    2 if nth < 3 => Err(throttled("ec2:DescribeInstances", &place)),
                    3 => {
                        std::future::pending::<()>().await;
                        Ok(account)
                    }
                    _ => Ok(account),
                }
            }
        })
        .collect()
        .await;
        assert_eq!(done.len(), 200);
        let mut seen: BTreeMap<&str, u32> = BTreeMap::new();
        for done in &done {
            let account: u64 = done.place.account.as_str().parse().unwrap();
            let name = match &done.outcome {
                Ok(told) => {
                    assert_eq!(*told, account, "the answer of this account");
                    "OK"
                }
                Err(access) => access.name(),
            };
            *seen.entry(name).or_default() += 1;
        }
        let expected = [("DENIED", 10), ("OK", 170), ("THROTTLED", 10), ("UNKNOWN", 10)];
        assert_eq!(seen, BTreeMap::from(expected));
        let tries = tries.into_inner().unwrap();
        assert_eq!(tries["100000000000"], 1, "a refusal is not asked for twice");
        assert_eq!(tries["100000000001"], ATTEMPTS);
        assert_eq!(tries["100000000002"], 3);
    }

    #[tokio::test(start_paused = true)]
    async fn fewer_are_entered_at_once_while_roles_are_throttled() {
        let (inside, most, refused) = (AtomicUsize::new(0), AtomicUsize::new(0), AtomicUsize::new(0));
        // No more than four at once are borne.
        let borne = 4;
        let done: Vec<_> = fan_out(places(400), |place| {
            let (inside, most, refused) = (&inside, &most, &refused);
            async move {
                let now = inside.fetch_add(1, Relaxed) + 1;
                most.fetch_max(now, Relaxed);
                sleep(Duration::from_millis(10)).await;
                inside.fetch_sub(1, Relaxed);
                if now > borne {
                    refused.fetch_add(1, Relaxed);
                    return Err(throttled(SHARED_CALL, &place));
                }
                Ok(())
            }
        })
        .collect()
        .await;
        assert_eq!(most.load(Relaxed), AT_ONCE, "it begins with all");
        let reached = done.iter().filter(|done| done.outcome.is_ok()).count();
        assert!(reached > 390, "{reached} of 400 were reached in spite of it");
        let refused = refused.load(Relaxed);
        assert!(refused < 100, "{refused} were refused");
    }
}

//! What tests make go wrong, from another process and while the hub runs: `faults.json`.
//!
//! The file is a list of [`Fault`]s and is read at each call. The first fault that fits a call strikes:
//! its `hits` grows, so that a test can wait until a call has met it, and once `count` hits are used up
//! it lets calls pass. Taking a fault out of the list releases the calls that it holds.

use std::{
    fs,
    path::{Path, PathBuf},
    time::Duration,
};

use serde::{Deserialize, Serialize};

use crate::control::CloudError;

/// How often a held call looks whether it was released. Tests wait on it, people do not.
const HELD_POLL: Duration = Duration::from_millis(10);

/// The calls into an account, by the names of the AWS calls they stand for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Call {
    ListAccounts,
    GetCallerIdentity,
    RegisterImage,
    DeregisterImage,
    DescribeInstanceTypes,
    DescribeSubnets,
    CreateLaunchTemplate,
    DeleteLaunchTemplate,
    RunInstances,
    DescribeInstances,
    GetConsoleOutput,
    GetConsoleScreenshot,
    StopInstances,
    TerminateInstances,
    DescribeTags,
    GetResources,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Fault {
    /// The account that it strikes; every account if absent.
    #[serde(default)]
    pub account: Option<String>,
    /// The call that it strikes; every call if absent.
    #[serde(default)]
    pub call: Option<Call>,
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
    /// Nothing is done until the fault is removed.
    HoldBefore,
    /// It is done, and the answer stays away until the fault is removed.
    HoldAfter,
    /// It is done, and the answer is lost.
    Forget,
    Throttle,
    Deny {
        remedy: String,
    },
    Reject {
        reason: String,
    },
}

impl Fault {
    /// Strikes every call of every account, without end.
    pub fn new(effect: Effect) -> Self {
        Self {
            account: None,
            call: None,
            effect,
            count: None,
            hits: 0,
        }
    }

    #[must_use]
    pub fn on(mut self, call: Call) -> Self {
        self.call = Some(call);
        self
    }

    #[must_use]
    pub fn in_account(mut self, account: &str) -> Self {
        self.account = Some(account.to_string());
        self
    }

    #[must_use]
    pub fn times(mut self, count: u32) -> Self {
        self.count = Some(count);
        self
    }

    fn fits(&self, call: Call, account: &str) -> bool {
        self.call.is_none_or(|own| own == call)
            && self.account.as_deref().is_none_or(|own| own == account)
            && self.count.is_none_or(|count| self.hits < count)
    }

    fn is_same(&self, other: &Self) -> bool {
        (&self.account, self.call, &self.effect) == (&other.account, other.call, &other.effect)
    }
}

impl Effect {
    /// Whether it strikes once the call is done, rather than in its place.
    fn is_after(&self) -> bool {
        matches!(self, Self::HoldAfter | Self::Forget)
    }
}

impl Call {
    pub fn name(self) -> &'static str {
        match self {
            Self::ListAccounts => "ListAccounts",
            Self::GetCallerIdentity => "GetCallerIdentity",
            Self::RegisterImage => "RegisterImage",
            Self::DeregisterImage => "DeregisterImage",
            Self::DescribeInstanceTypes => "DescribeInstanceTypes",
            Self::DescribeSubnets => "DescribeSubnets",
            Self::CreateLaunchTemplate => "CreateLaunchTemplate",
            Self::DeleteLaunchTemplate => "DeleteLaunchTemplate",
            Self::RunInstances => "RunInstances",
            Self::DescribeInstances => "DescribeInstances",
            Self::GetConsoleOutput => "GetConsoleOutput",
            Self::GetConsoleScreenshot => "GetConsoleScreenshot",
            Self::StopInstances => "StopInstances",
            Self::TerminateInstances => "TerminateInstances",
            Self::DescribeTags => "DescribeTags",
            Self::GetResources => "GetResources",
        }
    }
}

/// The file, for those who set faults and for the cloud that suffers them.
#[derive(Debug, Clone)]
pub struct Faults {
    file: PathBuf,
}

impl Faults {
    pub fn at(root: &Path) -> Self {
        Self {
            file: root.join("faults.json"),
        }
    }

    /// The faults as they stand, hits included.
    pub fn list(&self) -> std::io::Result<Vec<Fault>> {
        match fs::read(&self.file) {
            Ok(text) => Ok(serde_json::from_slice(&text)?),
            Err(absent) if absent.kind() == std::io::ErrorKind::NotFound => Ok(Vec::new()),
            Err(other) => Err(other),
        }
    }

    /// Replaces all faults. An empty list lifts everything.
    pub fn set(&self, faults: &[Fault]) -> std::io::Result<()> {
        let _lock = self.lock()?;
        self.write(faults)
    }

    pub(super) async fn before(&self, call: Call, account: &str) -> Result<(), CloudError> {
        self.strike(call, account, false).await
    }

    pub(super) async fn after(&self, call: Call, account: &str) -> Result<(), CloudError> {
        self.strike(call, account, true).await
    }

    async fn strike(&self, call: Call, account: &str, after: bool) -> Result<(), CloudError> {
        let broken = |error: std::io::Error| CloudError::Rejected {
            call: call.name(),
            account: account.to_owned(),
            reason: format!("{}: {error}", self.file.display()),
        };
        let Some(fault) = self.hit(call, account, after).map_err(broken)? else {
            return Ok(());
        };
        let (call, account) = (call.name(), account.to_owned());
        match &fault.effect {
            Effect::HoldBefore | Effect::HoldAfter => {
                while self
                    .list()
                    .map_err(broken)?
                    .iter()
                    .any(|other| other.is_same(&fault))
                {
                    tokio::time::sleep(HELD_POLL).await;
                }
                Ok(())
            }
            Effect::Forget => Err(CloudError::Unknown {
                call,
                account,
                detail: "the connection was lost before the answer came".into(),
            }),
            Effect::Throttle => Err(CloudError::Throttled { call, account }),
            Effect::Deny { remedy } => Err(CloudError::Denied {
                call,
                account,
                remedy: remedy.clone(),
            }),
            Effect::Reject { reason } => Err(CloudError::Rejected {
                call,
                account,
                reason: reason.clone(),
            }),
        }
    }

    fn hit(&self, call: Call, account: &str, after: bool) -> std::io::Result<Option<Fault>> {
        if !self.file.exists() {
            return Ok(None);
        }
        let _lock = self.lock()?;
        let mut faults = self.list()?;
        let struck = faults
            .iter_mut()
            .find(|fault| fault.effect.is_after() == after && fault.fits(call, account));
        let Some(fault) = struck else { return Ok(None) };
        fault.hits += 1;
        let fault = fault.clone();
        self.write(&faults)?;
        Ok(Some(fault))
    }

    /// Held for the moment of a change only, between processes.
    fn lock(&self) -> std::io::Result<fs::File> {
        let lock = fs::File::create(self.file.with_extension("lock"))?;
        rustix::fs::flock(&lock, rustix::fs::FlockOperation::LockExclusive)?;
        Ok(lock)
    }

    fn write(&self, faults: &[Fault]) -> std::io::Result<()> {
        let draft = self.file.with_extension("draft");
        fs::write(&draft, serde_json::to_vec_pretty(faults)?)?;
        fs::rename(&draft, &self.file)
    }
}

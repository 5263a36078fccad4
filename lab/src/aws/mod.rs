//! AWS-shaped endpoints for tests, all on one address: as faithful as our use of AWS needs, and no more.
//!
//! ```text
//! AWS SDK, boto3, AWS CLI ──▶ front ── ebs ──────────────────▶ EBS direct: blocks in files   (`ebs`)
//!                              │ faults, a log of calls              │ DIR/snapshots
//!                              └──── everything else ──▶ moto, with our corrections           (`moto`)
//! ```
//!
//! A call belongs to the account that its access key names, as AWS's own keys do ([`caller`]), and to the region and
//! the service in the scope of its signature. That there is a signature is checked, and no more: moto has no secret
//! keys to check it with either. Policies are not evaluated, but for those that say who may assume a role.
//!
//! `/_lab/faults`, `/_lab/calls` and `/_lab/settings` are for tests: see [`control`]. Nothing outlives the process:
//! moto forgets, and so the folder is emptied at each start.

pub mod caller;
pub mod calls;
mod control;
pub mod ebs;
pub mod faults;
mod front;
pub mod moto;
mod refusal;

use std::{fs, net::SocketAddr, path::Path, sync::Arc};

use anyhow::Context;
use tokio::{net::TcpListener, task::JoinSet};

use self::{calls::Calls, ebs::Ebs, faults::Faults, front::Front, moto::Moto};

/// Endpoints that answer. They and moto end when this is dropped, and moto also when the process is killed.
#[derive(Debug)]
pub struct Aws {
    address: SocketAddr,
    front: Arc<Front>,
    _tasks: JoinSet<()>,
}

impl Aws {
    /// Answers on `port` of 127.0.0.1, any free one if that is 0, and keeps everything in the folder `dir`, whose
    /// content is replaced. Must be called on a thread that lives as long as the endpoints should.
    pub async fn start(dir: &Path, port: u16) -> anyhow::Result<Self> {
        let snapshots = dir.join("snapshots");
        if snapshots.exists() {
            fs::remove_dir_all(&snapshots)
                .with_context(|| format!("cannot empty {}", snapshots.display()))?;
        }
        fs::create_dir_all(&snapshots).with_context(|| format!("cannot make {}", snapshots.display()))?;
        let listener = TcpListener::bind(("127.0.0.1", port))
            .await
            .with_context(|| format!("cannot listen on port {port}"))?;
        let address = listener.local_addr().context("endpoints without an address")?;
        let moto = Moto::start(dir).await?;
        let front = Arc::new(Front {
            ebs: Ebs::in_folder(snapshots),
            moto,
            faults: Faults::default(),
            calls: Calls::default(),
        });
        let mut tasks = JoinSet::new();
        tasks.spawn(front::accept(listener, Arc::clone(&front)));
        Ok(Self {
            address,
            front,
            _tasks: tasks,
        })
    }

    /// What clients take for the URL of every service.
    pub fn endpoint(&self) -> String {
        format!("http://{}", self.address)
    }

    pub fn faults(&self) -> &Faults {
        &self.front.faults
    }

    pub fn calls(&self) -> &Calls {
        &self.front.calls
    }

    pub fn ebs(&self) -> &Ebs {
        &self.front.ebs
    }
}

/// `orglift-lab aws`: answers until Ctrl-C, and says to whom.
pub async fn serve(dir: &Path, port: u16) -> anyhow::Result<()> {
    let aws = Aws::start(dir, port).await?;
    let account = "111122223333";
    let key = caller::key_of(account).context("an account without a key")?;
    println!(
        "AWS-shaped endpoints on {0}. For account {account}, or any other by its own key:

  export AWS_ENDPOINT_URL={0} AWS_REGION=eu-central-1
  export AWS_ACCESS_KEY_ID={key} AWS_SECRET_ACCESS_KEY=any
  aws sts get-caller-identity",
        aws.endpoint()
    );
    tokio::signal::ctrl_c().await.context("cannot wait for Ctrl-C")
}

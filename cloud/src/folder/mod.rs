//! A cloud made of folders: for the lab, for trying Orglift out, and the far side in tests.
//!
//! ```text
//! ROOT/organization.json            the accounts that the management account sees
//!      trust.json                   accounts outside of it that trust us all the same: a roster tenant
//!      boots.json                   there while somebody boots instances (see `machines`)
//!      faults.json                  what tests make go wrong, read at each call (see `faults`)
//!      accounts/<account>/<region>/
//!          account.json             its subnets
//!          snapshots/               the runner's `LayerStore`
//!          images/ami-…/            image.json
//!          templates/lt-…/          template.json
//!          instances/i-…/           instance.json, vol-…/disk.raw; machine.json, console.txt, … if it boots
//! ```
//!
//! It behaves like the real one where callers depend on it: requests with one client token make one
//! thing, also across processes and kills; instances are pending before they run; answers get lost.
//! What was being made when a process died is a draft that nobody sees.

pub mod faults;
pub mod instance_types;
pub mod machines;
pub mod organization;
pub mod place;
pub mod records;
mod settings;
#[cfg(test)]
mod tests;

use std::path::{Path, PathBuf};

use async_trait::async_trait;
use domain::{
    account::{ListedAccount, Reach},
    launch::instance_type::{InstanceType, Needs},
};

use self::{
    faults::{Call, Faults},
    place::PlaceFolder,
};
use crate::{
    control::{
        ClientToken, Cloud, CloudError, ImageSpec, Instance, InstanceSpec, Outlook, Owned, Place, Resource,
        Screenshot, Surroundings, TemplateSpec, TemplateVersion, Use,
    },
    route::Route,
};

/// Cheap to open: everything is in the folder, and several processes may use it at once.
#[derive(Debug, Clone)]
pub struct FolderCloud {
    root: PathBuf,
}

impl FolderCloud {
    pub fn open(root: impl Into<PathBuf>) -> Self {
        Self { root: root.into() }
    }

    pub fn root(&self) -> &Path {
        &self.root
    }

    pub fn faults(&self) -> Faults {
        Faults::at(&self.root)
    }

    /// The folder of an account in a region. No access is checked: this is how one looks in from outside.
    pub fn place(&self, place: &Place) -> PlaceFolder {
        PlaceFolder::new(&self.root, place)
    }

    /// One call into an account: access is checked, faults of the day happen, the work is done aside.
    async fn call<T, W>(&self, call: Call, place: &Place, work: W) -> Result<T, CloudError>
    where
        T: Send + 'static,
        W: FnOnce(&PlaceFolder) -> Result<T, CloudError> + Send + 'static,
    {
        let faults = self.faults();
        faults.before(call, place.account.as_str()).await?;
        let (root, folder) = (self.root.clone(), self.place(place));
        let account = place.account.clone();
        let answer = aside(call, place.account.as_str(), move || {
            organization::check_access(&root, call, &account)?;
            work(&folder)
        })
        .await?;
        faults.after(call, place.account.as_str()).await?;
        Ok(answer)
    }
}

/// File work does not belong on the threads that serve sockets.
async fn aside<T: Send + 'static>(
    call: Call,
    account: &str,
    work: impl FnOnce() -> Result<T, CloudError> + Send + 'static,
) -> Result<T, CloudError> {
    match tokio::task::spawn_blocking(work).await {
        Ok(answer) => answer,
        Err(fault) => Err(CloudError::Unknown {
            call: call.name(),
            account: account.to_owned(),
            detail: fault.to_string(),
        }),
    }
}

#[async_trait]
impl Cloud for FolderCloud {
    async fn organization_accounts(
        &self,
        _: &Route,
        _: &str,
        reach: Reach,
    ) -> Result<Vec<ListedAccount>, CloudError> {
        let (call, root) = (Call::ListAccounts, self.root.clone());
        let faults = self.faults();
        faults.before(call, organization::NAME).await?;
        let answer = aside(call, organization::NAME, move || organization::list(&root, reach)).await?;
        faults.after(call, organization::NAME).await?;
        Ok(answer)
    }

    async fn check_access(&self, place: &Place) -> Result<(), CloudError> {
        self.call(Call::GetCallerIdentity, place, |_| Ok(())).await
    }

    async fn register_image(&self, place: &Place, spec: &ImageSpec) -> Result<String, CloudError> {
        let spec = spec.clone();
        self.call(Call::RegisterImage, place, move |folder| {
            folder.register_image(spec)
        })
        .await
    }

    async fn deregister_image(&self, place: &Place, image: &Owned) -> Result<(), CloudError> {
        let image = image.clone();
        self.call(Call::DeregisterImage, place, move |folder| {
            folder.deregister_image(&image)
        })
        .await
    }

    async fn instance_types(
        &self,
        place: &Place,
        _: &str,
        families: &[String],
    ) -> Result<Vec<InstanceType>, CloudError> {
        let mut offered = instance_types::offered();
        offered.retain(|one| families.iter().any(|family| family == one.family()));
        self.call(Call::DescribeInstanceTypes, place, |_| Ok(offered))
            .await
    }

    /// A folder has no roles: whatever is asked is allowed.
    async fn launch_outlook(
        &self,
        place: &Place,
        spec: &TemplateSpec,
        needs: &Needs,
        _uses: &[Use],
    ) -> Result<Outlook, CloudError> {
        let (spec, needs) = (spec.clone(), *needs);
        let obstacles = self.call(Call::DescribeSubnets, place, move |folder| {
            folder.launch_obstacles(&spec, &needs)
        });
        Ok(Outlook {
            obstacles: obstacles.await?,
            ..Outlook::default()
        })
    }

    async fn keep_template(&self, place: &Place, spec: &TemplateSpec) -> Result<TemplateVersion, CloudError> {
        let spec = TemplateSpec {
            launch: spec.launch.lasting(),
            ..spec.clone()
        };
        self.call(Call::CreateLaunchTemplate, place, move |folder| {
            folder.keep_template(spec)
        })
        .await
    }

    async fn delete_template(&self, place: &Place, template: &Owned) -> Result<(), CloudError> {
        let template = template.clone();
        self.call(Call::DeleteLaunchTemplate, place, move |folder| {
            folder.delete_template(&template)
        })
        .await
    }

    async fn console_text(&self, place: &Place, instance: &str) -> Result<String, CloudError> {
        let instance = instance.to_owned();
        self.call(Call::GetConsoleOutput, place, move |folder| {
            folder.console_text(&instance)
        })
        .await
    }

    async fn screenshot(&self, place: &Place, instance: &str) -> Result<Option<Screenshot>, CloudError> {
        let instance = instance.to_owned();
        self.call(Call::GetConsoleScreenshot, place, move |folder| {
            folder.screenshot(&instance)
        })
        .await
    }

    async fn launch_instance(&self, place: &Place, spec: &InstanceSpec) -> Result<String, CloudError> {
        let spec = spec.clone();
        self.call(Call::RunInstances, place, move |folder| {
            folder.launch_instance(spec)
        })
        .await
    }

    async fn instance(&self, place: &Place, instance: &str) -> Result<Instance, CloudError> {
        let instance = instance.to_owned();
        self.call(Call::DescribeInstances, place, move |folder| {
            folder.instance(&instance)
        })
        .await
    }

    async fn stop_instance(&self, place: &Place, instance: &Owned) -> Result<(), CloudError> {
        let instance = instance.clone();
        self.call(Call::StopInstances, place, move |folder| {
            folder.stop_instance(&instance)
        })
        .await
    }

    async fn terminate_instance(&self, place: &Place, instance: &Owned) -> Result<(), CloudError> {
        let instance = instance.clone();
        self.call(Call::TerminateInstances, place, move |folder| {
            folder.terminate_instance(&instance)
        })
        .await
    }

    async fn delete_snapshot(&self, place: &Place, snapshot: &str, _: &str) -> Result<(), CloudError> {
        Err(CloudError::Rejected {
            call: "ec2:DeleteSnapshot",
            account: place.account.to_string(),
            reason: format!("{snapshot} is the runner's, which deletes it itself"),
        })
    }

    async fn find_by_token(
        &self,
        place: &Place,
        token: &ClientToken,
    ) -> Result<Option<Resource>, CloudError> {
        let token = token.clone();
        self.call(Call::DescribeTags, place, move |folder| {
            folder.find_by_token(&token)
        })
        .await
    }

    /// Its accounts are folders, which no network leads to.
    async fn surroundings(&self, _: &Place, _: &[String]) -> Result<Surroundings, CloudError> {
        Ok(Surroundings::NoNetworks)
    }

    async fn inventory(&self, place: &Place) -> Result<Vec<Resource>, CloudError> {
        self.call(Call::GetResources, place, PlaceFolder::inventory).await
    }
}

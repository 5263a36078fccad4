//! Which accounts and regions a command is for.

use std::{collections::BTreeMap, sync::Arc};

use clap::Args;
use cloud::{control::Place, route::Errand};
use domain::ids::AccountId;

use crate::{entities::account, store::Store};

#[derive(Debug, Args)]
pub(super) struct Selection {
    /// Only accounts of this organization or roster, by its name.
    #[arg(long)]
    organization: Option<String>,
    /// Only accounts in this unit and those below it, such as Root/Production.
    #[arg(long)]
    unit: Option<String>,
    /// Only this account; give it once for each.
    #[arg(long = "account", value_name = "ID")]
    accounts: Vec<AccountId>,
    /// Every region that the hub may act in, rather than the one that an account is worked in.
    #[arg(long)]
    all_regions: bool,
}

impl Selection {
    pub fn is_of(&self, organization: &str) -> bool {
        self.organization
            .as_deref()
            .is_none_or(|wanted| wanted == organization)
    }

    /// Where to go, and the accounts that nobody can enter.
    pub async fn places(
        &self,
        store: &Store,
        errand: &str,
        is_wanted: impl Fn(&account::Model) -> bool,
    ) -> anyhow::Result<(Vec<Place>, Vec<account::Model>)> {
        let mut organizations = store.organization_list().await?;
        organizations.retain(|organization| self.is_of(&organization.name));
        if organizations.is_empty() {
            anyhow::bail!("there is no such organization; `orglift-hub organization list` names all");
        }
        let routes: BTreeMap<_, _> = organizations
            .into_iter()
            .map(|organization| (organization.id.0.clone(), Arc::new(organization.route.0)))
            .collect();
        let known = store.account_list().await?;
        let unknown = |id: &&AccountId| !known.iter().any(|account| account.id.0 == **id);
        if let Some(id) = self.accounts.iter().find(unknown) {
            anyhow::bail!(
                "account {id} is not known; `orglift-hub accounts check` lists those of organizations anew"
            );
        }
        let (mut places, mut suspended) = (Vec::new(), Vec::new());
        for account in known {
            let Some(route) = routes.get(&account.organization.0) else {
                continue;
            };
            if !self.has(&account) || !is_wanted(&account) {
                continue;
            }
            if account.suspended {
                suspended.push(account);
                continue;
            }
            let place = account.place(Arc::clone(route), Errand::own(errand));
            if !self.all_regions {
                places.push(place);
                continue;
            }
            places.extend(route.regions.iter().map(|region| Place {
                region: region.clone(),
                ..place.clone()
            }));
        }
        Ok((places, suspended))
    }

    fn has(&self, account: &account::Model) -> bool {
        let is_below = |wanted: &str| {
            let rest = account.unit.strip_prefix(wanted);
            rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
        };
        self.unit.as_deref().is_none_or(is_below)
            && (self.accounts.is_empty() || self.accounts.contains(&account.id))
    }
}

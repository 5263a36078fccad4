//! Where something can hold, and what people call it.

use domain::scope::{Scope, UnitPath};

use crate::{
    store::{Seen, StoreError},
    t,
};

/// Every scope in sight, from wide to narrow, with its name.
pub async fn all(store: &Seen) -> Result<Vec<(Scope, String)>, StoreError> {
    let organizations = store.organization_list().await?;
    let accounts = store.account_list().await?;
    let mut scopes = vec![(Scope::Everything, t!("Everything").to_owned())];
    for organization in &organizations {
        let id = &organization.id.0;
        scopes.push((
            Scope::Organization(id.clone()),
            t!("Organization {name}", name = organization.name),
        ));
        let of = accounts.iter().filter(|account| account.organization.0 == *id);
        let mut units: Vec<_> = of.map(|account| account.unit.as_str()).collect();
        units.sort_unstable();
        units.dedup();
        for unit in units {
            if let Ok(path) = unit.parse::<UnitPath>() {
                let name = t!("Unit {unit} of {name}", unit, name = organization.name);
                scopes.push((Scope::Unit(id.clone(), path), name));
            }
        }
    }
    scopes.extend(accounts.iter().map(|account| {
        let name = t!("Account {id} {name}", id = account.id, name = account.name);
        (Scope::Account(account.id.0.clone()), name)
    }));
    Ok(scopes)
}

/// What sentences call a scope.
pub async fn place(store: &Seen, scope: &Scope) -> Result<String, StoreError> {
    Ok(match scope {
        Scope::Everything => t!("all accounts").into(),
        // A template may come from a wider scope than its reader sees.
        Scope::Organization(id) => match store.organization(id).await {
            Err(StoreError::NotFound { .. }) => t!("the organization").into(),
            found => found?.name,
        },
        Scope::Unit(_, path) => path.as_str().to_owned(),
        Scope::Account(id) => store.account(id).await?.name,
    })
}

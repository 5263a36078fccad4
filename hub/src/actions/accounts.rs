//! Organizations and rosters.

use cloud::route::Route;
use domain::{
    account::{Access, ListedAccount, Reach},
    ids::{AccountId, OrganizationId},
};
use serde::Deserialize;

use super::{ActionError, Order};
use crate::{
    Hub,
    auth::Actor,
    changes::Work,
    clock::now_ms,
    entities::{Doc, Word, organization, user::UserRole},
    store::Write,
};

/// An account of a roster.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RosterAccount {
    pub id: AccountId,
    pub name: String,
    /// Where it is worked in, if not in the organization's region.
    pub region: Option<String>,
}

#[derive(Debug, Clone)]
pub struct NewOrganization {
    pub name: String,
    pub reach: Reach,
    pub region: String,
    /// The accounts of a roster; of the other kinds the cloud tells.
    pub roster: Vec<RosterAccount>,
    /// Its regions are completed by those of the accounts, and an external id is made up where there is none.
    pub route: Route,
}

/// Adds an organization. Its accounts are listed, and tried, by the reconciler at once.
pub async fn add_organization(
    hub: &Hub,
    actor: &Actor,
    new: NewOrganization,
) -> Result<OrganizationId, ActionError> {
    let order = Order::new(actor, "add an organization", &new.name);
    let mut tx = order.begin_everywhere(hub, UserRole::Administrator).await?;
    let id = insert(&mut tx, new).await?;
    order.done(tx).await?;
    hub.want(Work::Accounts).await;
    Ok(id)
}

/// Writes an organization, and the accounts of a roster, into the store.
pub(crate) async fn insert(tx: &mut Write, new: NewOrganization) -> Result<OrganizationId, ActionError> {
    check(&new)?;
    let mut route = new.route;
    let of_accounts = new.roster.iter().filter_map(|account| account.region.clone());
    route.regions.extend(of_accounts.chain([new.region.clone()]));
    route
        .external_id
        .get_or_insert_with(|| format!("orglift-{:032x}", rand::random::<u128>()));
    let row = organization::Model {
        id: Word(OrganizationId::from_entropy(rand::random())),
        name: new.name,
        reach: Word(new.reach),
        region: new.region,
        route: Doc(route),
        listing: Doc(Access::NotAttempted),
        listed_at: None,
        created_at: now_ms(),
    };
    tx.organization_insert(row.clone()).await?;
    for account in new.roster {
        if tx.account(&account.id).await.is_ok() {
            let invalid = format!(
                "account {} belongs to another organization or roster already",
                account.id
            );
            return Err(ActionError::Invalid(invalid));
        }
        let region = account.region.unwrap_or_else(|| row.region.clone());
        let listed = ListedAccount {
            id: account.id,
            name: account.name,
            unit: String::new(),
            suspended: false,
        };
        tx.account_listed(&row, listed, &region).await?;
    }
    Ok(row.id.0)
}

/// Looks at once whether the accounts can be reached, rather than within the minute.
pub async fn refresh_accounts(hub: &Hub, actor: &Actor) -> Result<(), ActionError> {
    let order = Order::new(actor, "refresh the accounts", &"accounts");
    let tx = order.begin_somewhere(hub, UserRole::Operator).await?;
    order.done(tx).await?;
    hub.want(Work::Accounts).await;
    Ok(())
}

/// Looks at once whether the account's network is ready, rather than within the hour.
pub async fn check_network(hub: &Hub, actor: &Actor, id: &AccountId) -> Result<(), ActionError> {
    let order = Order::new(actor, "check the network of an account", id);
    let (mut tx, account) = order.begin_in(hub, id, UserRole::Operator).await?;
    tx.readiness_wanted(id, &account.region).await?;
    order.done(tx).await?;
    hub.want(Work::Readiness).await;
    Ok(())
}

/// Asks the account at once what it has of ours, rather than within the hour.
pub async fn check_resources(hub: &Hub, actor: &Actor, id: &AccountId) -> Result<(), ActionError> {
    let order = Order::new(actor, "ask an account for its resources", id);
    let (mut tx, account) = order.begin_in(hub, id, UserRole::Operator).await?;
    tx.inventory_wanted(id, &account.region).await?;
    order.done(tx).await?;
    hub.want(Work::Inventories).await;
    Ok(())
}

fn check(new: &NewOrganization) -> Result<(), ActionError> {
    let invalid = |why: &str| Err(ActionError::Invalid(why.to_owned()));
    if new.name.trim().is_empty() || new.name.len() > 128 {
        return invalid("an organization's name has 1 to 128 characters");
    }
    let allowed = |b: u8| b.is_ascii_alphanumeric() || b"_+=,.@:/-".contains(&b);
    let is_external_id = |id: &String| (2..=1224).contains(&id.len()) && id.bytes().all(allowed);
    let of_hops = new
        .route
        .through
        .iter()
        .filter_map(|hop| hop.external_id.as_ref());
    if !of_hops.chain(&new.route.external_id).all(is_external_id) {
        return invalid("an external id has 2 to 1224 letters, digits or characters of _+=,.@:/-");
    }
    let regions = new.roster.iter().filter_map(|account| account.region.as_ref());
    let is_region = |region: &String| {
        let allowed = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-';
        (1..=32).contains(&region.len()) && region.bytes().all(allowed)
    };
    let regions = regions.chain(&new.route.regions).chain([&new.region]);
    if !regions.into_iter().all(is_region) {
        return invalid("a region reads like eu-central-1");
    }
    match (new.reach, new.roster.is_empty()) {
        (Reach::Roster, true) => invalid("a roster needs at least one account"),
        (Reach::ManagementAccount | Reach::DelegatedAdministrator, false) => {
            invalid("only a roster lists its accounts by hand")
        }
        _ => Ok(()),
    }
}

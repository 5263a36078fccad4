//! Source servers: what they are, and orders to one of them.

use std::{collections::BTreeMap, sync::Arc};

use axum::{Json, extract::State};
use domain::{
    ids::{AccountId, ApplicationId, SourceServerId},
    lifecycle::Lifecycle,
};
use serde::Deserialize;
use serde_json::{Value, json};

use super::{Items, Paging, confined, shapes::SourceServer};
use crate::{
    Hub,
    actions::{jobs, lifecycle, replication},
    api::{ApiError, Ask, caller::Caller},
    auth::Actor,
    clock::now_ms,
    entities::source_server,
    store::servers::ServerFilter,
};

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Describe {
    filters: Filters,
    #[serde(flatten)]
    paging: Paging,
    #[serde(rename = "accountID")]
    account: Option<AccountId>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Filters {
    #[serde(rename = "sourceServerIDs")]
    ids: Vec<SourceServerId>,
    is_archived: Option<bool>,
    replication_types: Vec<String>,
    life_cycle_states: Vec<String>,
    #[serde(rename = "applicationIDs")]
    applications: Vec<ApplicationId>,
}

pub async fn describe(
    caller: Caller,
    Ask(request): Ask<Describe>,
) -> Result<Json<Items<SourceServer>>, ApiError> {
    let types = &request.filters.replication_types;
    if !types.is_empty() && !types.iter().any(|kind| kind == "AGENT_BASED") {
        return Ok(Json(request.paging.cut(Vec::new())?));
    }
    let filter = ServerFilter {
        ids: request.filters.ids,
        accounts: request.account.into_iter().collect(),
        applications: request.filters.applications,
        wave: None,
        lifecycles: request.filters.life_cycle_states,
        archived: request.filters.is_archived,
    };
    let servers = caller.store.server_list(&filter).await?;
    let accounts = caller.store.account_list().await?;
    let regions: BTreeMap<_, _> = accounts.into_iter().map(|row| (row.id.0, row.region)).collect();
    let page = request.paging.cut(servers)?;
    let now = now_ms();
    let items = page.items.into_iter().map(|server| {
        let region = regions.get(&server.account.0).map_or("", String::as_str);
        SourceServer::new(server, region, now)
    });
    Ok(Json(Items {
        items: items.collect(),
        next_token: page.next_token,
    }))
}

pub async fn list_managed_accounts(
    caller: Caller,
    Ask(paging): Ask<Paging>,
) -> Result<Json<Items<Value>>, ApiError> {
    let accounts = caller.store.account_list().await?;
    let items = accounts
        .into_iter()
        .map(|account| json!({ "accountId": account.id.0 }));
    Ok(Json(paging.cut(items.collect())?))
}

/// What every order to one server names.
#[derive(Debug, Deserialize)]
pub struct OneServer {
    #[serde(rename = "sourceServerID")]
    id: SourceServerId,
    #[serde(default, rename = "accountID")]
    account: Option<AccountId>,
}

impl OneServer {
    /// The server, unless it belongs to another account than the request names.
    pub async fn find(&self, caller: &Caller) -> Result<source_server::Model, ApiError> {
        find(caller, &self.id, self.account.as_ref()).await
    }
}

pub async fn find(
    caller: &Caller,
    id: &SourceServerId,
    account: Option<&AccountId>,
) -> Result<source_server::Model, ApiError> {
    let server = caller.store.server(id).await?;
    if confined(account, &server.account) {
        Ok(server)
    } else {
        Err(ApiError::not_found(format_args!(
            "source server {id} in this account"
        )))
    }
}

async fn answer(caller: &Caller, id: &SourceServerId) -> Result<Json<SourceServer>, ApiError> {
    let server = caller.store.server(id).await?;
    let region = caller.store.account(&server.account).await?.region;
    Ok(Json(SourceServer::new(server, &region, now_ms())))
}

macro_rules! orders {
    ($($(#[$doc:meta])* $name:ident => $action:path;)*) => {$(
        $(#[$doc])*
        pub async fn $name(
            caller: Caller,
            State(hub): State<Arc<Hub>>,
            Ask(request): Ask<OneServer>,
        ) -> Result<Json<SourceServer>, ApiError> {
            request.find(&caller).await?;
            $action(&hub, &caller.actor, &request.id).await?;
            answer(&caller, &request.id).await
        }
    )*};
}

orders! {
    mark_as_archived => lifecycle::archive;
    finalize_cutover => finalize;
    disconnect_from_service => disconnect;
    pause_replication => replication::pause_replication;
    resume_replication => replication::resume_replication;
    stop_replication => replication::stop_replication;
    start_replication => replication::start_replication;
    retry_data_replication => replication::retry_data_replication;
}

async fn finalize(hub: &Hub, actor: &Actor, id: &SourceServerId) -> Result<(), ApiError> {
    jobs::finalize(hub, actor, std::slice::from_ref(id)).await?;
    Ok(())
}

async fn disconnect(hub: &Hub, actor: &Actor, id: &SourceServerId) -> Result<(), ApiError> {
    jobs::disconnect(hub, actor, std::slice::from_ref(id)).await?;
    Ok(())
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ChangeState {
    #[serde(flatten)]
    server: OneServer,
    life_cycle: WantedState,
}

#[derive(Debug, Deserialize)]
struct WantedState {
    state: String,
}

/// MGN's words for four of our orders: what is meant follows from where the server stands.
pub async fn change_life_cycle_state(
    caller: Caller,
    State(hub): State<Arc<Hub>>,
    Ask(request): Ask<ChangeState>,
) -> Result<Json<SourceServer>, ApiError> {
    let server = request.server.find(&caller).await?;
    let id = &server.id.0;
    match (request.life_cycle.state.as_str(), &server.lifecycle.0) {
        ("READY_FOR_TEST", _) => lifecycle::revert_to_ready_for_test(&hub, &caller.actor, id).await?,
        ("READY_FOR_CUTOVER", Lifecycle::CuttingOver { .. }) => {
            lifecycle::revert_to_ready_for_cutover(&hub, &caller.actor, id).await?;
        }
        ("READY_FOR_CUTOVER", _) => lifecycle::mark_ready_for_cutover(&hub, &caller.actor, id).await?,
        ("CUTOVER", Lifecycle::Cutover { .. }) => {}
        ("CUTOVER", _) => finalize(&hub, &caller.actor, id).await?,
        (other, _) => {
            let message = format!("{other:?} is none of READY_FOR_TEST, READY_FOR_CUTOVER and CUTOVER");
            return Err(ApiError::validation(message));
        }
    }
    answer(&caller, id).await
}

//! Jobs: ordering them, and following them.

use std::{sync::Arc, time::Duration};

use axum::{Json, extract::State, http::StatusCode};
use chrono::DateTime;
use domain::{
    ids::{AccountId, JobId, SourceServerId},
    launch::Purpose,
};
use serde::Deserialize;
use serde_json::{Value, json};

use super::{Items, Paging, servers, shapes};
use crate::{
    Hub,
    actions::{
        Ordered,
        jobs::{self, Kind},
    },
    api::{ApiError, Ask, caller::Caller},
    store::jobs::JobFilter,
};

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ManyServers {
    #[serde(rename = "sourceServerIDs")]
    ids: Vec<SourceServerId>,
    #[serde(default, rename = "accountID")]
    account: Option<AccountId>,
    #[serde(default)]
    tags: std::collections::BTreeMap<String, String>,
    /// Ours, for a cutover: the age up to which an older checkpoint will do if no fresh one comes.
    #[serde(default)]
    accept_older_than_seconds: Option<u64>,
}

impl ManyServers {
    async fn check(&self, caller: &Caller) -> Result<(), ApiError> {
        for id in &self.ids {
            servers::find(caller, id, self.account.as_ref()).await?;
        }
        Ok(())
    }
}

pub async fn start_test(
    caller: Caller,
    State(hub): State<Arc<Hub>>,
    Ask(request): Ask<ManyServers>,
) -> Result<(StatusCode, Json<Value>), ApiError> {
    request.check(&caller).await?;
    let ordered = jobs::order(
        &hub,
        &caller.actor,
        &request.ids,
        Kind::Launch(Purpose::Test, None),
        request.tags,
    )
    .await?;
    accepted(&caller, &ordered, request.account.as_ref()).await
}

pub async fn start_cutover(
    caller: Caller,
    State(hub): State<Arc<Hub>>,
    Ask(request): Ask<ManyServers>,
) -> Result<(StatusCode, Json<Value>), ApiError> {
    request.check(&caller).await?;
    let accept_older_than = request.accept_older_than_seconds.map(Duration::from_secs);
    let kind = Kind::Launch(Purpose::Cutover, accept_older_than);
    let ordered = jobs::order(&hub, &caller.actor, &request.ids, kind, request.tags).await?;
    accepted(&caller, &ordered, request.account.as_ref()).await
}

pub async fn terminate_target_instances(
    caller: Caller,
    State(hub): State<Arc<Hub>>,
    Ask(request): Ask<ManyServers>,
) -> Result<(StatusCode, Json<Value>), ApiError> {
    request.check(&caller).await?;
    let ordered = jobs::order(&hub, &caller.actor, &request.ids, Kind::Terminate, request.tags).await?;
    accepted(&caller, &ordered, request.account.as_ref()).await
}

async fn accepted(
    caller: &Caller,
    ordered: &Ordered,
    account: Option<&AccountId>,
) -> Result<(StatusCode, Json<Value>), ApiError> {
    let job = caller.store.job(&ordered.job).await?;
    let parts = caller
        .store
        .job_servers(std::slice::from_ref(&ordered.job))
        .await?;
    let region = region(caller, account.or(parts.first().map(|part| &part.account.0))).await?;
    let shape = shapes::job(&job, &parts, &region, account);
    Ok((StatusCode::ACCEPTED, Json(json!({ "job": shape }))))
}

async fn region(caller: &Caller, account: Option<&AccountId>) -> Result<String, ApiError> {
    match account {
        Some(account) => Ok(caller.store.account(account).await?.region),
        None => Ok(String::new()),
    }
}

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
    #[serde(rename = "jobIDs")]
    ids: Vec<JobId>,
    from_date: Option<String>,
    to_date: Option<String>,
}

pub async fn describe(caller: Caller, Ask(request): Ask<Describe>) -> Result<Json<Items<Value>>, ApiError> {
    let account = request.account.as_ref();
    let filter = JobFilter {
        ids: request.filters.ids,
        from: request.filters.from_date.as_deref().map(instant).transpose()?,
        to: request.filters.to_date.as_deref().map(instant).transpose()?,
        ..JobFilter::default()
    };
    let mut jobs = caller.store.job_list(&filter).await?;
    let ids: Vec<JobId> = jobs.iter().map(|job| job.id.0.clone()).collect();
    let parts = caller.store.job_servers(&ids).await?;
    if let Some(account) = account {
        jobs.retain(|job| {
            parts
                .iter()
                .any(|part| part.job == job.id && part.account.0 == *account)
        });
    }
    let page = request.paging.cut(jobs)?;
    let mut items = Vec::new();
    for job in &page.items {
        let own = parts
            .iter()
            .find(|part| part.job == job.id)
            .map(|part| &part.account.0);
        let region = region(&caller, account.or(own)).await?;
        items.push(shapes::job(job, &parts, &region, account));
    }
    Ok(Json(Items {
        items,
        next_token: page.next_token,
    }))
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct DescribeLog {
    #[serde(rename = "jobID")]
    id: JobId,
    #[serde(flatten)]
    paging: Paging,
    #[serde(default, rename = "accountID")]
    account: Option<AccountId>,
}

pub async fn describe_log_items(
    caller: Caller,
    Ask(request): Ask<DescribeLog>,
) -> Result<Json<Items<Value>>, ApiError> {
    caller.store.job(&request.id).await?;
    let parts = caller
        .store
        .job_servers(std::slice::from_ref(&request.id))
        .await?;
    let shown: Vec<_> = parts
        .iter()
        .filter(|part| super::confined(request.account.as_ref(), &part.account))
        .map(|part| &part.server.0)
        .collect();
    if shown.is_empty() {
        return Err(ApiError::not_found(format_args!(
            "job {} in this account",
            request.id
        )));
    }
    let mut events = caller.store.job_events(&request.id, 0).await?;
    if request.account.is_some() {
        // Servers that were skipped are no participants; what concerns another account is not shown.
        events.retain(|event| {
            event
                .server
                .as_ref()
                .is_none_or(|server| shown.contains(&&server.0))
        });
    }
    let page = request.paging.cut(events)?;
    Ok(Json(Items {
        items: page.items.iter().map(shapes::job_log).collect(),
        next_token: page.next_token,
    }))
}

fn instant(text: &str) -> Result<i64, ApiError> {
    DateTime::parse_from_rfc3339(text)
        .map(|at| at.timestamp_millis())
        .map_err(|_| ApiError::validation(format!("{text:?} is not a time like 2026-01-31T12:00:00Z")))
}

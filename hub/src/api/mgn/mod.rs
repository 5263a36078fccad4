//! Operations in the shape of AWS MGN's API of 2020-02-26.
//!
//! `accountID` names the account, as with MGN's global view; without it, every account is meant. MGN's
//! operations on one server answer with the server; ours do so before the work is done where that takes a
//! job, and the server's state says how far it is.

use std::sync::Arc;

use axum::{Router, routing::post};
use domain::ids::AccountId;
use serde::{Deserialize, Serialize};

use super::ApiError;
use crate::Hub;

pub mod applications;
pub mod jobs;
pub mod launch_configuration;
pub mod replication_configuration;
pub mod servers;
pub mod shapes;

pub fn routes() -> Router<Arc<Hub>> {
    Router::new()
        .route("/DescribeSourceServers", post(servers::describe))
        .route(
            "/ChangeServerLifeCycleState",
            post(servers::change_life_cycle_state),
        )
        .route("/MarkAsArchived", post(servers::mark_as_archived))
        .route("/FinalizeCutover", post(servers::finalize_cutover))
        .route("/DisconnectFromService", post(servers::disconnect_from_service))
        .route("/PauseReplication", post(servers::pause_replication))
        .route("/ResumeReplication", post(servers::resume_replication))
        .route("/StopReplication", post(servers::stop_replication))
        .route("/StartReplication", post(servers::start_replication))
        .route("/RetryDataReplication", post(servers::retry_data_replication))
        .route("/GetLaunchConfiguration", post(launch_configuration::get))
        .route("/UpdateLaunchConfiguration", post(launch_configuration::update))
        .route(
            "/GetReplicationConfiguration",
            post(replication_configuration::get),
        )
        .route(
            "/UpdateReplicationConfiguration",
            post(replication_configuration::update),
        )
        .route("/StartTest", post(jobs::start_test))
        .route("/StartCutover", post(jobs::start_cutover))
        .route(
            "/TerminateTargetInstances",
            post(jobs::terminate_target_instances),
        )
        .route("/DescribeJobs", post(jobs::describe))
        .route("/DescribeJobLogItems", post(jobs::describe_log_items))
        .route("/CreateApplication", post(applications::create_application))
        .route("/ListApplications", post(applications::list_applications))
        .route("/UpdateApplication", post(applications::update_application))
        .route("/ArchiveApplication", post(applications::archive_application))
        .route("/UnarchiveApplication", post(applications::unarchive_application))
        .route("/DeleteApplication", post(applications::delete_application))
        .route(
            "/AssociateSourceServers",
            post(applications::associate_source_servers),
        )
        .route(
            "/DisassociateSourceServers",
            post(applications::disassociate_source_servers),
        )
        .route("/CreateWave", post(applications::create_wave))
        .route("/ListWaves", post(applications::list_waves))
        .route("/UpdateWave", post(applications::update_wave))
        .route("/ArchiveWave", post(applications::archive_wave))
        .route("/UnarchiveWave", post(applications::unarchive_wave))
        .route("/DeleteWave", post(applications::delete_wave))
        .route(
            "/AssociateApplications",
            post(applications::associate_applications),
        )
        .route(
            "/DisassociateApplications",
            post(applications::disassociate_applications),
        )
        .route("/ListManagedAccounts", post(servers::list_managed_accounts))
}

/// A page of a list, by MGN's rules.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Paging {
    max_results: Option<usize>,
    next_token: Option<String>,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Items<T> {
    pub items: Vec<T>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub next_token: Option<String>,
}

const PAGE_MAX: usize = 1000;

impl Paging {
    /// Cuts the page out of the whole list. The token is the number of items before the page.
    fn cut<T>(&self, items: Vec<T>) -> Result<Items<T>, ApiError> {
        let size = self.max_results.unwrap_or(PAGE_MAX);
        if !(1..=PAGE_MAX).contains(&size) {
            return Err(ApiError::validation(format!(
                "maxResults lies between 1 and {PAGE_MAX}"
            )));
        }
        let start = match self.next_token.as_deref() {
            None | Some("") => 0,
            Some(token) => token
                .parse::<usize>()
                .map_err(|_| ApiError::validation("nextToken was not given out by this hub"))?,
        };
        let end = start.saturating_add(size);
        let next_token = (end < items.len()).then(|| end.to_string());
        let items = items.into_iter().skip(start).take(size).collect();
        Ok(Items { items, next_token })
    }
}

/// The account that a request is confined to, if any.
fn confined(account: Option<&AccountId>, to: &AccountId) -> bool {
    account.is_none_or(|account| account == to)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pages_follow_one_another() {
        let page = |next_token: Option<String>| Paging {
            max_results: Some(2),
            next_token,
        };
        let first = page(None).cut(vec![1, 2, 3]).unwrap();
        assert_eq!(
            (first.items, first.next_token.clone()),
            (vec![1, 2], Some("2".to_owned()))
        );
        let last = page(first.next_token).cut(vec![1, 2, 3]).unwrap();
        assert_eq!((last.items, last.next_token), (vec![3], None));
        assert!(page(Some("x".into())).cut(vec![1]).is_err());
    }
}

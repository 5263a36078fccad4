//! Whether the network of an account is ready, on the account's page.

use crate::t;
use axum::{
    extract::{Path, State},
    response::Response,
};
use domain::{ids::AccountId, network::Finding};

use super::{
    Web,
    badge::{self, Badge},
    session::Session,
    text,
    visit::{Flash, PageError},
};
use crate::{
    actions::accounts,
    entities::{readiness, user::UserRole},
    readiness::Outcome,
};

/// The last report of one region.
#[derive(Debug)]
pub struct Network {
    pub region: String,
    pub badge: Badge,
    /// When it was looked at, and what for.
    pub looked: String,
    pub nothing: Option<&'static str>,
    pub problem: Option<String>,
    pub findings: Vec<Finding>,
    pub not_asked: Vec<String>,
}

pub fn network(row: readiness::Model, now: i64) -> Network {
    let mut looked = match row.checked_at {
        Some(at) => t!("looked at {ago}", ago = text::ago(at, now)),
        None => t!("not looked at yet").into(),
    };
    if row.wanted {
        looked.push_str(t!(", being looked at now"));
    }
    let report = row.report.0;
    if let Some(report) = &report
        && !report.sources.is_empty()
    {
        let sources: Vec<_> = report.sources.iter().map(ToString::to_string).collect();
        looked = t!(
            "{looked}, for source servers in {list}",
            looked,
            list = sources.join(", ")
        );
    }
    if let Some(compared) = report.as_ref().and_then(|report| report.drift.compared.as_ref()) {
        looked = t!(
            "{looked}, the onboarding stack {ago}",
            looked,
            ago = text::ago(compared.at, now)
        );
    }
    let outcome = report.as_ref().map(|report| &report.outcome);
    let findings = report
        .as_ref()
        .map(crate::readiness::Report::findings)
        .unwrap_or_default();
    Network {
        badge: badge::network(report.as_ref()),
        looked,
        nothing: match outcome {
            Some(Outcome::NothingToCheck) => Some(t!(
                "The accounts of this cloud have no networks of their own: there is nothing to check."
            )),
            Some(Outcome::Checked { .. }) if findings.is_empty() => Some(t!(
                "Nothing that was looked at keeps servers from being replicated."
            )),
            None => Some(t!("The hub has not read the network of this account yet.")),
            _ => None,
        },
        problem: match outcome {
            Some(Outcome::NotRead { access }) => {
                badge::access_problem(access).map(|(what, remedy)| format!("{what}: {remedy}"))
            }
            _ => None,
        },
        not_asked: report
            .as_ref()
            .map(crate::readiness::Report::not_asked)
            .unwrap_or_default(),
        findings,
        region: row.region,
    }
}

pub async fn check(
    State(web): State<Web>,
    session: Session,
    Path(id): Path<AccountId>,
) -> Result<Response, PageError> {
    session.rights_in(&id).await?.require(UserRole::Operator)?;
    let flash = match accounts::check_network(&web.hub, &session.actor, &id).await {
        Ok(()) => Flash::good(t!("The network is looked at now; what is found is shown here.")),
        Err(error) => Flash::bad(t!("The network is not looked at: {error}.", error)),
    };
    Ok(flash.show_at(&format!("/accounts/{id}")))
}

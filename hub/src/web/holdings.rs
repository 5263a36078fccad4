//! What an account has of ours by its own word, on its page and on those of its servers: that it is needed, or what is
//! not and what to do. Of a server that has ended it is the proof.

use crate::t;
use axum::{
    extract::{Path, State},
    response::Response,
};
use cloud::control::ResourceKind;
use domain::ids::{AccountId, SourceServerId};

use super::{
    Web,
    badge::{self, Badge},
    session::Session,
    text,
    visit::{Flash, PageError},
};
use crate::{
    actions::accounts,
    entities::{inventory, ledger, user::UserRole},
    resources::{
        self, Item, KINDS, MISSING, Standing,
        prices::{Prices, Total, money},
    },
    store::{Seen, StoreError},
};

/// The last answer of one region.
#[derive(Debug)]
pub struct Holding {
    pub region: String,
    pub badge: Badge,
    /// When it was asked.
    pub asked: String,
    /// All that carries our mark, in a sentence.
    pub there: Option<String>,
    /// What that costs in a month, and by which prices.
    pub cost: Option<String>,
    /// Of the same, by the wish that it came of.
    pub months: Vec<(String, f64)>,
    pub problem: Option<String>,
    /// What is not as it should be.
    pub wanting: Vec<Wanting>,
}

#[derive(Debug)]
pub struct Wanting {
    pub id: String,
    pub kind: &'static str,
    pub server: Option<String>,
    pub standing: Badge,
    pub remedy: &'static str,
}

/// Of all servers, or of one.
pub async fn of_account(
    prices: &Prices,
    store: &Seen,
    account: &AccountId,
    server: Option<&SourceServerId>,
    now: i64,
) -> Result<Vec<Holding>, StoreError> {
    let mut holdings = Vec::new();
    for row in store.inventory_of(account).await? {
        let asked_at = row.asked_at.unwrap_or_default();
        let mut found =
            resources::of_place(store, prices, account, &row.region, &row.resources, asked_at).await?;
        if let Some(server) = server {
            found.retain(server);
        }
        holdings.push(holding(row, &found, prices, now));
    }
    Ok(holdings)
}

fn holding(row: inventory::Model, found: &resources::Account, prices: &Prices, now: i64) -> Holding {
    let mut asked = match row.asked_at {
        Some(at) => t!("asked {ago}", ago = text::ago(at, now)),
        None => t!("not asked yet").into(),
    };
    if row.wanted {
        asked.push_str(t!(", being asked now"));
    }
    let off = found.items.iter().filter_map(|item| {
        Some(Wanting {
            id: item.id.clone(),
            kind: badge::resource(item.kind),
            server: item.server.as_ref().map(ToString::to_string),
            standing: badge::standing(item.standing),
            remedy: item.standing.remedy()?,
        })
    });
    let missing = found.missing.iter().map(|row| Wanting {
        id: row.resource.clone().unwrap_or_default(),
        kind: badge::resource(*row.kind),
        server: Some(row.server.to_string()),
        standing: badge::missing(),
        remedy: MISSING,
    });
    let wanting: Vec<_> = off.chain(missing).collect();
    Holding {
        badge: badge::inventory(row.is_known().then_some(wanting.len())),
        asked,
        there: row.asked_at.map(|_| there(&found.items)),
        cost: (!found.items.is_empty()).then(|| cost(&found.items, prices, &row.region)),
        months: found
            .items
            .iter()
            .filter_map(|item| Some((item.token.clone()?, item.month?)))
            .collect(),
        problem: badge::access_problem(&row.access).map(|(what, remedy)| format!("{what}: {remedy}")),
        wanting,
        region: row.region,
    }
}

fn cost(items: &[Item], prices: &Prices, region: &str) -> String {
    let taken = prices.region_for(region);
    let instead = if taken == region {
        ""
    } else {
        t!(", as the list has none of this region")
    };
    t!(
        "All of it costs {cost}, by the list of {taken} as of {as_of}{instead}. Discounts and taxes are not in it; of the snapshots of a disk the first is taken for as large as the disk, and the others for nothing.",
        cost = Total::of(items).in_words(prices),
        taken,
        as_of = prices.as_of,
        instead
    )
}

/// What the wish of a row of the ledger costs in a month, with the volumes of an instance.
pub fn month_of(row: &ledger::Model, holdings: &[Holding], prices: &Prices) -> Option<String> {
    let months = holdings.iter().flat_map(|holding| &holding.months);
    let mut of_it = months.filter(|(token, _)| *token == row.token.0.0).peekable();
    of_it.peek()?;
    Some(money(of_it.map(|(_, month)| month).sum(), prices))
}

fn there(items: &[Item]) -> String {
    let needed: Vec<_> = items
        .iter()
        .filter(|item| item.standing == Standing::Ours)
        .collect();
    let handed_over: Vec<_> = items
        .iter()
        .filter(|item| item.standing == Standing::HandedOver)
        .collect();
    let mut text = match counted(&needed) {
        None => t!("The account has nothing of it that is still needed").to_owned(),
        Some(needed) => t!("Needed: {needed}", needed),
    };
    if let Some(handed_over) = counted(&handed_over) {
        text = t!(
            "{text}. Handed over to production: {handed_over}",
            text,
            handed_over
        );
    }
    text.push('.');
    text
}

/// `2 images, 1 instance`.
fn counted(items: &[&Item]) -> Option<String> {
    let of_kind = |kind: ResourceKind| {
        let count = items.iter().filter(|item| item.kind == kind).count();
        (count > 0).then(|| badge::kinds(kind, count as u64))
    };
    let counts: Vec<_> = KINDS.into_iter().filter_map(of_kind).collect();
    (!counts.is_empty()).then(|| counts.join(", "))
}

pub async fn check(
    State(web): State<Web>,
    session: Session,
    Path(id): Path<AccountId>,
) -> Result<Response, PageError> {
    ask(&web, &session, &id, &format!("/accounts/{id}")).await
}

pub async fn check_for_server(
    State(web): State<Web>,
    session: Session,
    Path(id): Path<SourceServerId>,
) -> Result<Response, PageError> {
    let server = session.store.server(&id).await?;
    ask(&web, &session, &server.account, &format!("/servers/{id}")).await
}

async fn ask(web: &Web, session: &Session, account: &AccountId, back: &str) -> Result<Response, PageError> {
    session.rights_in(account).await?.require(UserRole::Operator)?;
    let flash = match accounts::check_resources(&web.hub, &session.actor, account).await {
        Ok(()) => Flash::good(t!("The account is asked now; its answer is shown here.")),
        Err(error) => Flash::bad(t!("The account is not asked: {error}.", error)),
    };
    Ok(flash.show_at(back))
}

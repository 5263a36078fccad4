//! What of ours is in an account, as its tags, the ledger and the hub's own records say.
//!
//! Three are asked, and only where all agree is a resource taken for ours. Whatever else carries our mark is shown with
//! what to do about it, and never removed by itself.

use std::collections::{BTreeMap, BTreeSet};

use cloud::{
    Cloud,
    control::{Measure, Place, Resource, ResourceKind, SERVER_TAG, TOKEN_TAG},
};
use domain::{
    account::Access,
    ids::{AccountId, SourceServerId},
};
use futures_util::{Stream, StreamExt};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use self::prices::{Prices, Total};
use crate::{
    clock::now_ms,
    entities::{
        ledger::{self, LedgerState},
        source_server,
    },
    fan_out::{Done, fan_out},
    store::{Seen, Store, StoreError, servers::ServerFilter},
};

pub mod prices;
pub mod removal;

/// Kinds in the order in which people look for them.
pub const KINDS: [ResourceKind; 5] = [
    ResourceKind::Snapshot,
    ResourceKind::Image,
    ResourceKind::Instance,
    ResourceKind::Volume,
    ResourceKind::LaunchTemplate,
];

/// What is to be thought of a resource.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Standing {
    /// Tags, ledger and records agree that it is needed.
    Ours,
    /// Production by now: it stays, and is not ours to remove.
    HandedOver,
    /// It carries our mark, but its server is not known to this hub.
    ServerUnknown,
    /// It is ours, and nothing needs it any more.
    NotNeeded,
    /// Its tags name a wish that the ledger does not know.
    NotInLedger,
    /// Its tags and the ledger say different things of it.
    TagsDiffer,
}

impl Standing {
    /// Whether it is where it belongs.
    pub fn is_right(self) -> bool {
        matches!(self, Self::Ours | Self::HandedOver)
    }

    pub fn remedy(self) -> Option<&'static str> {
        Some(match self {
            Self::Ours | Self::HandedOver => return None,
            Self::ServerUnknown => {
                "no source server of this hub has the id in its tags: it is another hub's, or was copied or tagged by \
                 somebody; delete it in the account if nobody knows it"
            }
            Self::NotNeeded => {
                "nothing needs it any more: clean up the source server, and if it remains, delete it in the account"
            }
            Self::NotInLedger => {
                "this hub has no record of having asked for it: look whose it is, and delete it in the account if \
                 nobody knows it"
            }
            Self::TagsDiffer => {
                "its tags are not those that it was made with, so that the hub leaves it alone: set them right, or \
                 delete it in the account"
            }
        })
    }
}

/// A resource that carries our mark.
#[derive(Debug, Clone, PartialEq)]
pub struct Item {
    pub kind: ResourceKind,
    pub id: String,
    /// By its tag, as long as that names one at all.
    pub server: Option<SourceServerId>,
    /// Of the wish that it came of, by its tag.
    pub token: Option<String>,
    pub standing: Standing,
    pub measure: Measure,
    /// What it costs, if it was priced.
    pub month: Option<f64>,
}

impl Item {
    pub fn json(&self) -> Value {
        json!({
            "kind": self.kind,
            "id": self.id,
            "server": self.server,
            "standing": self.standing,
            "remedy": self.standing.remedy(),
            "monthlyCost": self.month.map(rounded),
        })
    }
}

/// What carries the mark of this source server.
pub fn of_server(inventory: &[Resource], server: &SourceServerId) -> Vec<Resource> {
    let is_of = |one: &&Resource| one.tags.get(SERVER_TAG).map(String::as_str) == Some(server.as_str());
    inventory.iter().filter(is_of).cloned().collect()
}

/// The standing of everything that an account has with our mark. `servers` are all of the account, and `ledger` all of
/// its rows.
pub fn reconcile(
    inventory: &[Resource],
    ledger: &[ledger::Model],
    servers: &[source_server::Model],
) -> Vec<Item> {
    inventory
        .iter()
        .map(|resource| {
            let server = resource.tags.get(SERVER_TAG).and_then(|id| id.parse().ok());
            let known = servers.iter().find(|known| Some(&known.id.0) == server.as_ref());
            Item {
                kind: resource.kind,
                id: resource.id.clone(),
                standing: known.map_or(Standing::ServerUnknown, |known| standing(resource, ledger, known)),
                server,
                token: resource.tags.get(TOKEN_TAG).cloned(),
                measure: resource.measure.clone(),
                month: None,
            }
        })
        .collect()
}

fn standing(resource: &Resource, ledger: &[ledger::Model], server: &source_server::Model) -> Standing {
    // Runners make them; they are of use as long as the server may be launched.
    if resource.kind == ResourceKind::Snapshot {
        return if server.lifecycle.is_final() && server.forgotten {
            Standing::NotNeeded
        } else {
            Standing::Ours
        };
    }
    let token = resource.tags.get(TOKEN_TAG);
    let row = ledger.iter().find(|row| Some(&row.token.0.0) == token);
    let Some(row) = row else {
        let is_recorded = ledger
            .iter()
            .any(|row| row.resource.as_ref() == Some(&resource.id));
        return if is_recorded {
            Standing::TagsDiffer
        } else {
            Standing::NotInLedger
        };
    };
    // A volume has the tags of its instance, and stays and goes with it.
    let is_of_row = match resource.kind {
        ResourceKind::Volume => row.kind.0 == ResourceKind::Instance,
        kind => {
            row.kind.0 == kind
                && row
                    .resource
                    .as_ref()
                    .is_none_or(|recorded| *recorded == resource.id)
        }
    };
    if !is_of_row || row.server != server.id {
        return Standing::TagsDiffer;
    }
    match row.state.0 {
        LedgerState::Wanted | LedgerState::Present => Standing::Ours,
        LedgerState::HandedOver => Standing::HandedOver,
        LedgerState::Gone => Standing::NotNeeded,
    }
}

/// What an account answered, in one region.
#[derive(Debug)]
pub struct Answer {
    pub place: Place,
    pub outcome: Result<Vec<Resource>, Access>,
}

/// Asks every place for what carries our mark; the answers are kept, and come as they are known.
pub fn ask_all<'a>(
    store: &'a Store,
    cloud: &'a dyn Cloud,
    places: Vec<Place>,
) -> impl Stream<Item = Result<Answer, StoreError>> + 'a {
    let asked_at = now_ms();
    let outcomes = fan_out(places, move |place| async move { cloud.inventory(&place).await });
    outcomes.then(move |Done { place, outcome }| async move {
        let mut tx = store.begin().await?;
        tx.inventory_asked(&place, asked_at, outcome.clone()).await?;
        tx.commit().await?;
        Ok(Answer { place, outcome })
    })
}

/// What an account has of ours in one region, and what the ledger has there that the account did not list.
#[derive(Debug, Clone, PartialEq)]
pub struct Account {
    pub items: Vec<Item>,
    pub missing: Vec<ledger::Model>,
}

/// Looks at the last answer of a place with what the hub knows now.
pub async fn of_place(
    store: &Seen,
    prices: &Prices,
    account: &AccountId,
    region: &str,
    resources: &[Resource],
    asked_at: i64,
) -> Result<Account, StoreError> {
    let filter = ServerFilter {
        accounts: vec![account.clone()],
        ..ServerFilter::default()
    };
    let servers = store.server_list(&filter).await?;
    let ledger = store.ledger_of_account(account).await?;
    let mut missing = missing(resources, &ledger, asked_at);
    missing.retain(|row| row.region == region);
    let mut items = reconcile(resources, &ledger, &servers);
    let known: Vec<_> = servers.iter().map(|server| server.id.0.clone()).collect();
    let checkpoints = store.checkpoints_of(&known).await?;
    let disks = checkpoints.iter().flat_map(|row| &row.disks.0);
    let disk_of = disks
        .map(|one| (one.snapshot.clone(), one.disk.to_string()))
        .collect();
    prices.estimate(region, &mut items, &disk_of);
    Ok(Account { items, missing })
}

/// A new resource may not be listed for so long.
const SETTLE_MS: i64 = 300_000;

/// What the ledger takes to be there, and the account does not list: it was deleted by somebody, or its tags were. It
/// is told and nothing is done about it, since a list by tags does not tell which of the two.
fn missing(inventory: &[Resource], ledger: &[ledger::Model], asked_at: i64) -> Vec<ledger::Model> {
    let is_missing = |row: &&ledger::Model| {
        row.state.0 == LedgerState::Present
            && row.present_at.is_some_and(|at| at + SETTLE_MS < asked_at)
            && !inventory
                .iter()
                .any(|resource| Some(&resource.id) == row.resource.as_ref())
    };
    ledger.iter().filter(is_missing).cloned().collect()
}

impl Account {
    pub fn is_right(&self) -> bool {
        self.missing.is_empty() && self.items.iter().all(|item| item.standing.is_right())
    }

    /// Leaves what is of this source server.
    pub fn retain(&mut self, server: &SourceServerId) {
        self.items.retain(|item| item.server.as_ref() == Some(server));
        self.missing.retain(|row| row.server.0 == *server);
    }

    pub fn json(&self) -> Value {
        let items = self.items.iter().map(Item::json);
        let total = Total::of(&self.items);
        let missing = self.missing.iter().map(|row| {
            json!({ "kind": row.kind.0, "id": row.resource, "server": row.server.0, "job": row.job.0, "remedy": MISSING })
        });
        json!({
            "items": items.collect::<Vec<_>>(),
            "missing": missing.collect::<Vec<_>>(),
            "monthlyCost": rounded(total.month),
            "withoutPrice": total.unpriced,
        })
    }
}

/// To cents.
fn rounded(month: f64) -> f64 {
    (month * 100.0).round() / 100.0
}

/// What to do about what the ledger has, and the account does not list.
pub const MISSING: &str = "the account does not list it: somebody deleted it, or its tags; look for it by its id, and \
                           clean up its source server";

/// `0 snapshots, 2 images, …`, with the ids of what there is.
pub fn in_words<'a>(items: impl IntoIterator<Item = &'a Item>) -> String {
    let mut there = by_kind(items);
    KINDS
        .map(|kind| of_kind(kind, &there.remove(&kind).unwrap_or_default()))
        .join(", ")
}

/// The same of the kinds of which there are any, one by one.
pub fn lines<'a>(items: impl IntoIterator<Item = &'a Item>) -> Vec<String> {
    let mut there = by_kind(items);
    let lines = KINDS
        .into_iter()
        .filter_map(|kind| Some(of_kind(kind, &there.remove(&kind)?)));
    lines.collect()
}

fn by_kind<'a>(items: impl IntoIterator<Item = &'a Item>) -> BTreeMap<ResourceKind, BTreeSet<&'a str>> {
    let mut there: BTreeMap<_, BTreeSet<_>> = BTreeMap::new();
    for item in items {
        there.entry(item.kind).or_default().insert(item.id.as_str());
    }
    there
}

fn of_kind(kind: ResourceKind, ids: &BTreeSet<&str>) -> String {
    let name = kind.name();
    if ids.is_empty() {
        return format!("0 {name}s");
    }
    let many = if ids.len() == 1 { "" } else { "s" };
    let listed: Vec<_> = ids.iter().copied().collect();
    format!("{} {name}{many} ({})", ids.len(), listed.join(", "))
}

#[cfg(test)]
mod tests {
    use cloud::control::{ClientToken, Tags};
    use domain::{ids::JobId, lifecycle::Lifecycle};
    use proptest::{collection::vec, prelude::*, sample::select};

    use super::*;
    use crate::{
        entities::{Doc, Word},
        fixtures::{self, MEMBER},
    };

    const WORDS: [&str; 3] = ["a", "b", "c"];

    fn server(at: usize) -> SourceServerId {
        SourceServerId::from_entropy(at as u128 + 1)
    }

    /// The first goes on, the second has ended, and of the third this hub has not heard.
    fn servers() -> Vec<source_server::Model> {
        let runner = fixtures::runner(domain::ids::RunnerId::from_entropy(1), &MEMBER.parse().unwrap());
        let goes_on = fixtures::server(server(0), &runner);
        let mut ended = fixtures::server(server(1), &runner);
        ended.lifecycle = Doc(Lifecycle::Disconnected { archived: false });
        ended.forgotten = true;
        vec![goes_on, ended]
    }

    prop_compose! {
        fn resource()(
            kind in select(KINDS.to_vec()), id in select(WORDS.to_vec()), token in select(WORDS.to_vec()), of in 0..3usize,
        ) -> Resource {
            Resource {
                kind,
                id: id.into(),
                tags: Tags::from([
                    (SERVER_TAG.to_owned(), server(of).to_string()),
                    (TOKEN_TAG.to_owned(), token.to_owned()),
                ]),
                measure: Measure::default(),
            }
        }
    }

    prop_compose! {
        fn row(token: &'static str)(
            kind in select(KINDS.to_vec()),
            id in proptest::option::of(select(WORDS.to_vec())),
            of in 0..3usize,
            state in select(vec![
                LedgerState::Wanted, LedgerState::Present, LedgerState::Gone, LedgerState::HandedOver,
            ]),
        ) -> ledger::Model {
            ledger::Model {
                token: Word(ClientToken(token.into())),
                account: Word(MEMBER.parse().unwrap()),
                region: fixtures::REGION.into(),
                kind: Word(kind),
                resource: id.map(str::to_owned),
                state: Word(state),
                server: Word(server(of)),
                job: Word(JobId::from_entropy(1)),
                step: "RegisterImage".into(),
                wanted_at: 0,
                present_at: Some(0),
                ended_at: None,
            }
        }
    }

    proptest! {
        #[test]
        fn nothing_is_right_unless_tags_and_ledger_agree(
            inventory in vec(resource(), 0..6), mut ledger in (row("a"), row("b")).prop_map(|(a, b)| vec![a, b]),
            known in 0..3usize,
        ) {
            ledger.truncate(known);
            let items = reconcile(&inventory, &ledger, &servers());
            prop_assert_eq!(items.len(), inventory.len());
            for (resource, item) in inventory.iter().zip(&items) {
                prop_assert_eq!(&item.id, &resource.id);
                prop_assert_eq!(item.standing.is_right(), item.standing.remedy().is_none());
                let of = item.server.clone().unwrap();
                if of == server(2) {
                    prop_assert_eq!(item.standing, Standing::ServerUnknown);
                } else if resource.kind == ResourceKind::Snapshot {
                    prop_assert_eq!(item.standing.is_right(), of == server(0));
                } else if item.standing.is_right() {
                    let row = ledger.iter().find(|row| row.token.0.0 == resource.tags[TOKEN_TAG]).unwrap();
                    prop_assert_eq!(&row.server.0, &of);
                    prop_assert_ne!(row.state.0, LedgerState::Gone);
                    let is_volume = resource.kind == ResourceKind::Volume;
                    prop_assert!(is_volume || row.resource.iter().all(|id| *id == resource.id));
                }
            }
        }
    }

    #[test]
    fn what_there_is_is_counted_and_named() {
        assert_eq!(
            in_words(&[]),
            "0 snapshots, 0 images, 0 instances, 0 volumes, 0 launch templates"
        );
        let item = |kind, id: &str| Item {
            kind,
            id: id.into(),
            server: None,
            token: None,
            standing: Standing::Ours,
            measure: Measure::default(),
            month: None,
        };
        let items = [
            item(ResourceKind::Volume, "vol-2"),
            item(ResourceKind::Volume, "vol-1"),
            item(ResourceKind::Image, "ami-1"),
        ];
        assert_eq!(
            in_words(&items),
            "0 snapshots, 1 image (ami-1), 0 instances, 2 volumes (vol-1, vol-2), 0 launch templates"
        );
    }
}

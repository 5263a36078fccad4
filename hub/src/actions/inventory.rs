//! Importing the inventory: first a look at what a file would change, then changing it.

use domain::ids::{AccountId, ImportId};

use super::{ActionError, Order};
use crate::{
    Hub,
    auth::Actor,
    clock::now_ms,
    entities::{Doc, Word, import, user::UserRole},
    import::{
        apply::{self, Outcome},
        encoding, plan, sheet,
    },
};

/// Reads a file and says what it would change, or changes it.
pub async fn import(
    hub: &Hub,
    actor: &Actor,
    contents: &str,
    usual: Option<&AccountId>,
    dry_run: bool,
) -> Result<Outcome, ActionError> {
    require(hub, actor).await?;
    let plan = plan::plan(sheet::read(contents), usual);
    // It holds all that is read and all that is wanted.
    Box::pin(apply::apply(hub, actor, plan, dry_run)).await
}

/// Keeps a file, to be looked at before it is carried out.
pub async fn hand_in(
    hub: &Hub,
    actor: &Actor,
    name: &str,
    bytes: &[u8],
    account: Option<AccountId>,
) -> Result<ImportId, ActionError> {
    require(hub, actor).await?;
    let contents = encoding::decode(bytes).map_err(ActionError::Invalid)?;
    let id = ImportId::from_entropy(rand::random());
    let mut tx = hub.store.begin_as(actor).await?;
    tx.import_insert(import::Model {
        id: Word(id.clone()),
        by: actor.name.clone(),
        name: name.chars().filter(|c| !c.is_control()).take(200).collect(),
        at: now_ms(),
        account: account.map(Word),
        contents,
        outcome: Doc(None),
    })
    .await?;
    tx.commit().await?;
    Ok(id)
}

/// Carries out what was handed in. Once is enough.
pub async fn carry_out(hub: &Hub, actor: &Actor, id: &ImportId) -> Result<Outcome, ActionError> {
    let handed_in = hub.store.import(id, &actor.name).await?;
    if handed_in.outcome.is_some() {
        return Err(ActionError::Conflict("it was imported already".into()));
    }
    let usual = handed_in.account.as_ref().map(|account| &account.0);
    let outcome = import(hub, actor, &handed_in.contents, usual, false).await?;
    let mut tx = hub.store.begin_as(actor).await?;
    tx.import_done(id, outcome.clone()).await?;
    tx.commit().await?;
    Ok(outcome)
}

/// Somebody who may not change anything anywhere hands in nothing.
async fn require(hub: &Hub, actor: &Actor) -> Result<(), ActionError> {
    let order = Order::new(actor, "import", &"");
    order.begin_somewhere(hub, UserRole::Operator).await.map(drop)
}

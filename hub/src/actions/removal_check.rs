//! What an ending would remove from the account, asked without removing anything.

use cloud::route::Errand;

use super::ActionError;
use crate::{
    Hub,
    auth::Actor,
    entities::source_server,
    resources::removal::{Foreseen, Removal, foresee},
};

/// An error is the account's: it could not be asked.
pub async fn removal_check(
    hub: &Hub,
    actor: &Actor,
    server: &source_server::Model,
    removal: Removal,
) -> Result<Result<Foreseen, String>, ActionError> {
    let errand = Errand {
        who: actor.name.clone(),
        why: "check a removal".into(),
    };
    let place = hub.store.seen_by(actor).place(&server.account, errand).await?;
    let inventory = match hub.cloud.inventory(&place).await {
        Ok(inventory) => inventory,
        Err(error) => return Ok(Err(error.to_string())),
    };
    let ledger = hub.store.ledger_of_server(&server.id).await?;
    Ok(Ok(foresee(removal, &inventory, &ledger, server)))
}

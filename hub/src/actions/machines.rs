//! Who may enrol, and whose certificate stands no longer.

use std::time::Duration;

use domain::ids::{AccountId, RunnerId, SourceServerId};
use identity::Role;
use protocol::enrol::Token;

use super::{ActionError, Order};
use crate::{
    Hub,
    auth::Actor,
    entities::{token::TokenPurpose, user::UserRole},
    tokens,
};

/// Makes a one-time token. It is shown this once.
pub async fn create_token(
    hub: &Hub,
    actor: &Actor,
    account: &AccountId,
    purpose: TokenPurpose,
    ttl: Duration,
) -> Result<Token, ActionError> {
    let order = Order::new(actor, "create a token", account);
    let (mut tx, _) = order.begin_in(hub, account, UserRole::Administrator).await?;
    let token = tokens::create(&mut tx, &hub.pki, account, purpose, ttl, actor.into()).await?;
    tx.commit().await?;
    Ok(token)
}

/// Revokes the certificate of a source server: its agent is refused from now on.
pub async fn revoke_server(hub: &Hub, actor: &Actor, server: &SourceServerId) -> Result<(), ActionError> {
    let order = Order::new(actor, "revoke a certificate", server);
    let (mut tx, _) = order.begin_for(hub, server, UserRole::Administrator).await?;
    tx.certificates_revoke(&Role::Agent(server.clone()).uri(), &actor.name)
        .await?;
    order.done(tx).await
}

/// Revokes the certificate of a runner: the hub refuses it from now on.
pub async fn revoke_runner(hub: &Hub, actor: &Actor, runner: &RunnerId) -> Result<(), ActionError> {
    let order = Order::new(actor, "revoke a certificate", runner);
    let account = hub.store.seen_by(actor).runner(runner).await?.account.0;
    let (mut tx, _) = order.begin_in(hub, &account, UserRole::Administrator).await?;
    tx.certificates_revoke(&Role::Runner(runner.clone()).uri(), &actor.name)
        .await?;
    order.done(tx).await
}

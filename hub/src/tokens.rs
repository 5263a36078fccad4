//! Making one-time enrolment tokens.

use std::time::Duration;

use domain::ids::AccountId;
use identity::IdentityError;
use protocol::enrol::Token;

use crate::{
    audit::By,
    clock::now_ms,
    entities::{Word, token, token::TokenPurpose},
    pki::Pki,
    secrets::{new_secret, sha256_hex},
    store::{StoreError, Write},
};

/// A token that nobody used within this time was forgotten.
pub const TTL_MAX: Duration = Duration::from_hours(30 * 24);

#[derive(Debug, thiserror::Error)]
pub enum TokenError {
    #[error("a token is valid for one second to thirty days")]
    Ttl,
    #[error("cannot read the hub's own certificate")]
    Identity(#[from] IdentityError),
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// Enters a new token; its secret is in the return value and nowhere else.
pub async fn create(
    tx: &mut Write,
    pki: &Pki,
    account: &AccountId,
    purpose: TokenPurpose,
    ttl: Duration,
    by: By<'_>,
) -> Result<Token, TokenError> {
    if ttl.is_zero() || ttl > TTL_MAX {
        return Err(TokenError::Ttl);
    }
    let account = tx.account(account).await?;
    let token = Token {
        secret: new_secret(),
        ca_sha256: pki.ca_sha256()?,
    };
    let now = now_ms();
    let sha256 = sha256_hex(token.secret.as_bytes());
    tx.token_insert(token::Model {
        sha256: sha256.clone(),
        purpose: Word(purpose),
        account: account.id.clone(),
        created_by: by.name.to_owned(),
        created_at: now,
        expires_at: now + i64::try_from(ttl.as_millis()).unwrap_or(i64::MAX),
        used_at: None,
        used_by: None,
        used_key_sha256: None,
    })
    .await?;
    // Enough of the digest to tell tokens apart in the log.
    let detail = format!("for {}: {}", purpose.whom(), &sha256[..12]);
    tx.audit_done(by, "create a token", account.id.as_str(), &detail)
        .await?;
    Ok(token)
}

//! What everybody may do to oneself.

use super::ActionError;
use crate::{
    Hub,
    auth::{Actor, AuthError, keys, password, people, second_factor},
    entities::{
        session,
        user::{self, SavedFilter},
    },
    language::Language,
};

/// Another password, by who knows the one of now. All other sessions end.
pub async fn set_password(
    hub: &Hub,
    actor: &Actor,
    session: &session::Model,
    now: &str,
    new: &str,
) -> Result<(), AuthError> {
    let known = hub.store.user(&actor.name).await?.map(|user| user.password);
    if !password::verify(now.to_owned(), known).await {
        let mut tx = hub.store.begin().await?;
        let why = "the password of now is wrong";
        tx.audit_refused(actor, "set a password", &actor.name, why)
            .await?;
        tx.commit().await?;
        return Err(AuthError::Wrong);
    }
    if now == new {
        return Err(AuthError::SamePassword);
    }
    let hashed = password::hash(new.to_owned()).await?;
    let mut tx = hub.store.begin().await?;
    let mut user = people::existing(&tx, &actor.name).await?;
    let but = Some(session.sha256.as_str());
    people::set_password(&mut tx, actor.into(), &mut user, hashed, false, but).await?;
    Ok(tx.commit().await?)
}

/// Takes a second factor into use. Returns the recovery codes, which are shown this once.
pub async fn set_second_factor(
    hub: &Hub,
    actor: &Actor,
    secret: &str,
    code: &str,
) -> Result<Vec<String>, AuthError> {
    let mut tx = hub.store.begin().await?;
    let mut user = people::existing(&tx, &actor.name).await?;
    let codes = hub
        .second_factor_set(&mut tx, actor.into(), &mut user, secret, code)
        .await?;
    tx.commit().await?;
    Ok(codes)
}

/// Takes the second factor away, by who has it.
pub async fn remove_second_factor(hub: &Hub, actor: &Actor, code: &str) -> Result<(), AuthError> {
    let mut tx = hub.store.begin().await?;
    let mut user = people::existing(&tx, &actor.name).await?;
    if !hub.second_factor_is(&mut tx, &mut user, code).await? {
        drop(tx);
        return count_wrong_code(hub, actor).await;
    }
    second_factor::remove(&mut tx, actor.into(), &mut user).await?;
    Ok(tx.commit().await?)
}

/// New recovery codes in place of all old ones, by who has the second factor.
pub async fn renew_recovery_codes(hub: &Hub, actor: &Actor, code: &str) -> Result<Vec<String>, AuthError> {
    let mut tx = hub.store.begin().await?;
    let mut user = people::existing(&tx, &actor.name).await?;
    if !hub.second_factor_is(&mut tx, &mut user, code).await? {
        drop(tx);
        return count_wrong_code(hub, actor).await;
    }
    let codes = second_factor::renew_recovery_codes(&mut tx, actor.into(), &user).await?;
    tx.user_put(user).await?;
    tx.commit().await?;
    Ok(codes)
}

/// Somebody at an open browser must not guess codes either.
async fn count_wrong_code<T>(hub: &Hub, actor: &Actor) -> Result<T, AuthError> {
    hub.wrong_code(&actor.name, actor.address).await?;
    Err(AuthError::WrongCode)
}

/// `None` for what the browser asks for.
pub async fn set_language(hub: &Hub, actor: &Actor, language: Option<Language>) -> Result<(), ActionError> {
    change(hub, actor, |user| {
        language.map_or("", Language::tag).clone_into(&mut user.language);
    })
    .await
}

/// Whether single keys do something on the pages.
pub async fn set_keys(hub: &Hub, actor: &Actor, on: bool) -> Result<(), ActionError> {
    change(hub, actor, |user| user.preferences.0.no_keys = !on).await
}

/// The columns of the list of source servers; `None` for the usual ones.
pub async fn set_columns(hub: &Hub, actor: &Actor, columns: Option<Vec<String>>) -> Result<(), ActionError> {
    change(hub, actor, |user| user.preferences.0.columns = columns).await
}

const FILTERS_MAX: usize = 50;

/// Keeps a filter under a name; one that has the name already is replaced.
pub async fn save_filter(hub: &Hub, actor: &Actor, name: &str, query: &str) -> Result<(), ActionError> {
    let name = name.trim();
    if name.is_empty() || name.chars().count() > 64 || name.contains(char::is_control) {
        return Err(ActionError::Invalid(
            "a filter's name has 1 to 64 characters".into(),
        ));
    }
    if query.len() > 2000 || query.contains(|c: char| !c.is_ascii_graphic() || c == '#') {
        return Err(ActionError::Invalid("this is no filter of source servers".into()));
    }
    let mut kept = true;
    change(hub, actor, |user| {
        let filters = &mut user.preferences.0.filters;
        filters.retain(|filter| filter.name != name);
        kept = filters.len() < FILTERS_MAX;
        if kept {
            filters.push(SavedFilter {
                name: name.to_owned(),
                query: query.to_owned(),
            });
            filters.sort_by(|a, b| a.name.cmp(&b.name));
        }
    })
    .await?;
    if kept {
        return Ok(());
    }
    Err(ActionError::Invalid(format!(
        "there are {FILTERS_MAX} saved filters already; remove one"
    )))
}

pub async fn remove_filter(hub: &Hub, actor: &Actor, name: &str) -> Result<(), ActionError> {
    change(hub, actor, |user| {
        user.preferences.0.filters.retain(|filter| filter.name != name);
    })
    .await
}

async fn change(hub: &Hub, actor: &Actor, how: impl FnOnce(&mut user::Model)) -> Result<(), ActionError> {
    let mut tx = hub.store.begin().await?;
    let mut user = people::existing(&tx, &actor.name).await?;
    how(&mut user);
    tx.user_put(user).await?;
    Ok(tx.commit().await?)
}

pub async fn end_session(hub: &Hub, actor: &Actor, id: &str) -> Result<(), ActionError> {
    let sessions = hub.store.sessions_of(&actor.name).await?;
    let ended = sessions.iter().find(|row| session_id(row) == id);
    let Some(ended) = ended else {
        return Err(ActionError::NotFound {
            what: "this session".into(),
        });
    };
    let mut tx = hub.store.begin().await?;
    tx.session_delete(&ended.sha256).await?;
    let detail = format!("of {}", ended.address);
    tx.audit_done(actor, "end a session", &actor.name, &detail)
        .await?;
    Ok(tx.commit().await?)
}

/// Enough of its digest to tell it from others, and of no use to who finds it.
pub fn session_id(session: &session::Model) -> &str {
    &session.sha256[..12]
}

/// Makes a key, and returns it; it is shown this once.
pub async fn add_key(hub: &Hub, actor: &Actor, name: &str, days: Option<u32>) -> Result<String, ActionError> {
    let mut tx = hub.store.begin().await?;
    let secret = keys::add(&mut tx, actor.into(), &actor.name, name, days).await?;
    tx.commit().await?;
    Ok(secret)
}

pub async fn remove_key(hub: &Hub, actor: &Actor, key: &str) -> Result<(), ActionError> {
    let mut tx = hub.store.begin().await?;
    keys::remove(&mut tx, actor.into(), &actor.name, key).await?;
    Ok(tx.commit().await?)
}

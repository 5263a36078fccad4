//! Who is told of what happens: for administrators of everything.

use data_encoding::HEXLOWER;

use super::{ActionError, Order};
use crate::{
    Hub,
    auth::Actor,
    clock::now_ms,
    entities::{
        Doc, Word,
        notice::{self, NoticeKind},
        notice_target::{Model as Target, NoticeForm},
        user::UserRole,
    },
    notices::{Address, Untold, place},
};

const TARGETS_MAX: usize = 50;

/// A target that somebody wants to add.
#[derive(Debug)]
pub struct NewTarget {
    pub name: String,
    pub form: NoticeForm,
    pub address: String,
    pub kinds: Vec<NoticeKind>,
}

/// Adds a target, which hears of what happens from now on. Returns the key of its signatures; it is shown this once.
pub async fn add_target(hub: &Hub, actor: &Actor, new: NewTarget) -> Result<String, ActionError> {
    let order = Order::new(actor, "add a notification target", &new.name);
    let mut tx = order.begin_everywhere(hub, UserRole::Administrator).await?;
    let name = new.name.trim();
    if name.is_empty() || name.chars().count() > 64 || name.contains(char::is_control) {
        return Err(ActionError::Invalid(
            "a target's name has 1 to 64 characters".into(),
        ));
    }
    if new.kinds.is_empty() {
        return Err(ActionError::Invalid("choose what the target is told of".into()));
    }
    let address = Address::parse(new.form, &new.address).map_err(ActionError::Invalid)?;
    if new.form == NoticeForm::Mail && hub.settings.smtp.is_none() {
        return Err(ActionError::Invalid(Untold::NoRelay.to_string()));
    }
    let targets = tx.notice_targets().await?;
    if targets.iter().any(|target| target.name == name) {
        return Err(ActionError::Conflict(format!(
            "there is a target “{name}” already"
        )));
    }
    if targets.len() >= TARGETS_MAX {
        return Err(ActionError::Invalid(format!(
            "there are {TARGETS_MAX} targets already"
        )));
    }
    let id = HEXLOWER.encode(&rand::random::<[u8; 8]>());
    let secret = HEXLOWER.encode(&rand::random::<[u8; 32]>());
    let seal = |what: &str, text: &str| hub.pki.seal.seal(&place(&id, what), text.as_bytes());
    let row = Target {
        name: name.to_owned(),
        form: Word(new.form),
        host: address.shown,
        address: seal("address", &address.whole),
        secret: seal("secret", &secret),
        kinds: Doc(new.kinds),
        created_by: actor.name.clone(),
        created_at: now_ms(),
        told: tx.last_notice().await?,
        told_at: None,
        failures: 0,
        retry_at: 0,
        last_error: None,
        id,
    };
    let detail = format!("at {}", row.host);
    tx.notice_target_insert(row).await?;
    order.done_so(tx, &detail).await?;
    Ok(secret)
}

pub async fn remove_target(hub: &Hub, actor: &Actor, id: &str) -> Result<(), ActionError> {
    let order = Order::new(actor, "remove a notification target", &id);
    let mut tx = order.begin_everywhere(hub, UserRole::Administrator).await?;
    let target = tx.notice_target(id).await?;
    tx.notice_target_delete(id).await?;
    order.done_so(tx, &target.name).await
}

/// Sends a notice of nothing, and says why it did not arrive.
pub async fn try_target(hub: &Hub, actor: &Actor, id: &str) -> Result<(), ActionError> {
    let order = Order::new(actor, "try a notification target", &id);
    let tx = order.begin_everywhere(hub, UserRole::Administrator).await?;
    let target = tx.notice_target(id).await?;
    order.done_so(tx, &target.name).await?;
    let accounts = hub.store.account_list().await?;
    let account = accounts.first().ok_or_else(|| {
        ActionError::Invalid("there is no account yet that something could happen in".into())
    })?;
    let notice = notice::Model {
        sequence: 0,
        at: now_ms(),
        account: account.id.clone(),
        server: Word(domain::ids::SourceServerId::from_entropy(0)),
        kind: Word(NoticeKind::LifeCycle),
        state: "TRYING_OUT".into(),
        job: None,
    };
    let told = hub.tell(&target, &notice).await;
    told.map_err(|why| ActionError::Conflict(format!("“{}” was not reached: {why}", target.name)))
}

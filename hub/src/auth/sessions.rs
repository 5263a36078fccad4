//! Signing in, and the sessions that remember it.
//!
//! A session is an opaque cookie of 256 random bits; the store keeps its digest. It ends when it was idle for [`IDLE`],
//! or after [`ABSOLUTE`] in any case. Whoever needs more than a password gets a session of a few minutes that is good for
//! nothing but to give the rest, and then another one.

use std::{net::IpAddr, time::Duration};

use super::{Actor, AuthError, actor, password};
use crate::{
    Hub,
    audit::By,
    clock::now_ms,
    configuration::SecondFactor,
    entities::{
        Word,
        session::{self, Stage},
        user::{Model as User, UserRole},
    },
    secrets::{new_secret, sha256_hex},
    store::{StoreError, Write},
};

pub const IDLE: Duration = Duration::from_hours(8);
pub const ABSOLUTE: Duration = Duration::from_hours(24);
/// Of one who broke the glass.
pub const EMERGENCY: Duration = Duration::from_hours(1);
/// For the second factor.
const WAITING: Duration = Duration::from_mins(5);

/// A session's idle time is written back when this much of it has passed, not with every page.
const EXTEND_AFTER: Duration = Duration::from_mins(5);

/// Failures in a row after which a user is locked out, and for how long. Codes of six digits are guessed once in 300,000
/// tries: at this pace, in three years.
pub const FAILURES_MAX: i32 = 10;
pub const LOCKED: Duration = Duration::from_mins(15);

/// Shorter than any sentence that says why.
const REASON_MIN: usize = 10;

/// Where a sign-in comes from.
#[derive(Debug, Clone, Default)]
pub struct Browser {
    pub address: Option<IpAddr>,
    /// What it calls itself.
    pub name: String,
}

/// How far a sign-in came: the value of the cookie either way.
#[derive(Debug)]
pub enum SignIn {
    Open(String),
    /// Something else is needed.
    Waiting(String),
}

/// A browser that is signed in.
#[derive(Debug)]
pub struct Visitor {
    pub actor: Actor,
    pub user: User,
    pub session: session::Model,
}

/// What somebody has to do before anything else.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum First {
    /// The password was made by somebody else.
    NewPassword,
    SecondFactor,
}

impl Visitor {
    pub fn has_first(&self, needed: SecondFactor) -> Option<First> {
        if self.user.one_time {
            return Some(First::NewPassword);
        }
        // Who opens the envelope with the break-glass password has no app that goes with it.
        let by_password = self.user.subject.is_none() && !self.user.break_glass;
        let needs = match needed {
            SecondFactor::Optional => false,
            SecondFactor::Approvers => self.actor.role_somewhere() >= Some(UserRole::Approver),
            SecondFactor::Everybody => true,
        };
        (by_password && needs && self.user.totp.is_none()).then_some(First::SecondFactor)
    }
}

/// What is asked for after the password.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Needs {
    pub code: bool,
    pub reason: bool,
}

impl Needs {
    fn of(user: &User) -> Self {
        Self {
            code: user.totp.is_some(),
            reason: user.break_glass,
        }
    }

    fn any(self) -> bool {
        self.code || self.reason
    }
}

impl Hub {
    /// Checks a password. Whatever is wrong, the answer is the same, and takes the same time.
    pub async fn sign_in(&self, name: &str, password: &str, browser: &Browser) -> Result<SignIn, AuthError> {
        let known = self.store.user(name).await?;
        let hashed = known.as_ref().map(|user| user.password.clone());
        let matches = password::verify(password.to_owned(), hashed).await;
        let mut tx = self.store.begin().await?;
        // It may have changed meanwhile.
        let user = tx.user(name).await?.filter(|_| known.is_some());
        let refusal = match &user {
            None => Some("there is no such user"),
            Some(user) => obstacle(user, self.settings.sign_in.local)
                .or_else(|| (!matches).then_some("the password is wrong")),
        };
        if let Some(why) = refusal {
            refuse(tx, name, user, why, browser).await?;
            return Err(AuthError::Wrong);
        }
        let user = user.ok_or(AuthError::Wrong)?;
        if Needs::of(&user).any() {
            let secret = new_secret();
            let row = new_session(&secret, &user.name, Stage::Waiting, WAITING, browser);
            tx.session_insert(row).await?;
            tx.commit().await?;
            return Ok(SignIn::Waiting(secret));
        }
        self.open_session(tx, user, "", browser).await.map(SignIn::Open)
    }

    /// What a browser has to give that waits; `None` if it does not wait, or waited too long.
    pub async fn sign_in_needs(&self, cookie: &str) -> Result<Option<Needs>, StoreError> {
        let Some(session) = self.session(cookie, Stage::Waiting).await? else {
            return Ok(None);
        };
        Ok(self.store.user(&session.user).await?.as_ref().map(Needs::of))
    }

    /// Checks what the password was not enough for. Returns the value of another cookie.
    pub async fn sign_in_further(
        &self,
        cookie: &str,
        code: &str,
        reason: &str,
        browser: &Browser,
    ) -> Result<String, AuthError> {
        let waiting = self
            .session(cookie, Stage::Waiting)
            .await?
            .ok_or(AuthError::TooLate)?;
        let mut tx = self.store.begin().await?;
        let mut user = tx.user(&waiting.user).await?.ok_or(AuthError::TooLate)?;
        let needs = Needs::of(&user);
        let reason = reason.trim();
        if needs.reason && reason.chars().count() < REASON_MIN {
            return Err(AuthError::Reason);
        }
        if let Some(why) = obstacle(&user, self.settings.sign_in.local) {
            tx.session_delete(&waiting.sha256).await?;
            let name = user.name.clone();
            refuse(tx, &name, Some(user), why, browser).await?;
            return Err(AuthError::TooLate);
        }
        if needs.code && !self.second_factor_is(&mut tx, &mut user, code).await? {
            let name = user.name.clone();
            refuse(tx, &name, Some(user), "the code is wrong", browser).await?;
            return Err(AuthError::WrongCode);
        }
        tx.session_delete(&waiting.sha256).await?;
        let reason = if needs.reason { reason } else { "" };
        self.open_session(tx, user, reason, browser).await
    }

    /// Counts a wrong code that somebody gave who is signed in.
    pub async fn wrong_code(&self, name: &str, address: Option<IpAddr>) -> Result<(), StoreError> {
        let tx = self.store.begin().await?;
        let user = tx.user(name).await?;
        let is_locked = user
            .as_ref()
            .is_some_and(|user| user.failures + 1 >= FAILURES_MAX);
        let browser = Browser {
            address,
            name: String::new(),
        };
        refuse(tx, name, user, "the code is wrong", &browser).await?;
        if is_locked {
            let mut tx = self.store.begin().await?;
            tx.sessions_end(name, None).await?;
            tx.commit().await?;
        }
        Ok(())
    }

    /// Opens a session for somebody who proved who it is.
    pub(super) async fn open_session(
        &self,
        mut tx: Write,
        mut user: User,
        reason: &str,
        browser: &Browser,
    ) -> Result<String, AuthError> {
        let secret = new_secret();
        let lasts = if user.break_glass { EMERGENCY } else { ABSOLUTE };
        let mut row = new_session(&secret, &user.name, Stage::Open, lasts, browser);
        row.reason = reason.chars().take(500).collect();
        tx.session_insert(row).await?;
        user.failures = 0;
        user.locked_until = None;
        user.signed_in_at = Some(now_ms());
        let by = By {
            name: &user.name,
            address: browser.address,
        };
        let action = if user.break_glass {
            "sign in by the break-glass account"
        } else {
            "sign in"
        };
        tx.audit_done(by, action, &user.name, reason).await?;
        tx.user_put(user).await?;
        tx.commit().await?;
        Ok(secret)
    }

    pub async fn sign_out(&self, actor: &Actor, session: &session::Model) -> Result<(), StoreError> {
        let mut tx = self.store.begin().await?;
        tx.session_delete(&session.sha256).await?;
        tx.audit_done(actor, "sign out", &actor.name, "").await?;
        tx.commit().await
    }

    /// Whose session the cookie is, if it is one that has not ended.
    pub async fn session_seen(&self, cookie: &str) -> Result<Option<Visitor>, StoreError> {
        let Some(session) = self.session(cookie, Stage::Open).await? else {
            return Ok(None);
        };
        let Some(user) = self.store.user(&session.user).await? else {
            return Ok(None);
        };
        let actor = actor(&self.store, &user).await?;
        Ok(actor.map(|actor| Visitor { actor, user, session }))
    }

    /// The same of somebody who is there: the session is prolonged.
    pub async fn session_actor(&self, cookie: &str) -> Result<Option<Visitor>, StoreError> {
        let Some(visitor) = self.session_seen(cookie).await? else {
            return Ok(None);
        };
        let (session, now) = (&visitor.session, now_ms());
        if now + millis(IDLE) - session.idle_until > millis(EXTEND_AFTER) {
            let mut tx = self.store.begin().await?;
            tx.session_extend(&session.sha256, now + millis(IDLE)).await?;
            tx.commit().await?;
        }
        Ok(Some(visitor))
    }

    async fn session(&self, cookie: &str, stage: Stage) -> Result<Option<session::Model>, StoreError> {
        let now = now_ms();
        let found = self.store.session(&sha256_hex(cookie.as_bytes())).await?;
        Ok(found
            .filter(|session| *session.stage == stage && now < session.idle_until && now < session.ends_at))
    }
}

/// Why somebody with the right password may not come in all the same.
fn obstacle(user: &User, local: bool) -> Option<&'static str> {
    if user.disabled_at.is_some() {
        return Some("the user is disabled");
    }
    // Nobody else must be able to lock the last door.
    if user.break_glass {
        return None;
    }
    if !local {
        return Some("users sign in at the identity provider only");
    }
    let locked = user.locked_until.is_some_and(|until| now_ms() < until);
    locked.then_some("the user is locked out after too many failures")
}

/// Counts a failure, and writes it down.
async fn refuse(
    mut tx: Write,
    name: &str,
    user: Option<User>,
    why: &str,
    browser: &Browser,
) -> Result<(), StoreError> {
    let name: String = name.chars().take(200).collect();
    tracing::warn!(user = %name, address = ?browser.address, why, "a sign-in was refused");
    let by = By {
        name: &name,
        address: browser.address,
    };
    tx.audit_refused(by, "sign in", &name, why).await?;
    if let Some(mut user) = user {
        user.failures = user.failures.saturating_add(1);
        if user.failures >= FAILURES_MAX && !user.break_glass {
            user.failures = 0;
            user.locked_until = Some(now_ms() + millis(LOCKED));
            let detail = format!("for {} minutes", LOCKED.as_secs() / 60);
            tx.audit_done("the hub", "lock out", &name, &detail).await?;
        }
        tx.user_put(user).await?;
    }
    tx.commit().await
}

fn new_session(secret: &str, user: &str, stage: Stage, lasts: Duration, browser: &Browser) -> session::Model {
    let now = now_ms();
    session::Model {
        sha256: sha256_hex(secret.as_bytes()),
        user: user.to_owned(),
        created_at: now,
        idle_until: now + millis(IDLE.min(lasts)),
        ends_at: now + millis(lasts),
        stage: Word(stage),
        address: browser
            .address
            .map(|address| address.to_string())
            .unwrap_or_default(),
        browser: browser.name.chars().take(200).collect(),
        reason: String::new(),
    }
}

fn millis(duration: Duration) -> i64 {
    i64::try_from(duration.as_millis()).unwrap_or(i64::MAX)
}

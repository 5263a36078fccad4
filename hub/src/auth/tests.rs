//! Signing in, as browsers do.

use totp_rs::{Builder, Secret};

use super::{
    people::{self, NewUser},
    second_factor::new_totp_secret,
    sessions::{Browser, FAILURES_MAX, First, Needs, SignIn},
    *,
};
use crate::{
    actions::{people as orders, profile},
    audit::COMMAND_LINE,
    clock::now_ms,
    configuration::SecondFactor,
    entities::user::UserRole,
    fixtures::{TestHub, add_user, hub},
    secrets::sha256_hex,
};

const PASSWORD: &str = "correct horse";

fn here() -> Browser {
    Browser {
        address: Some([192, 0, 2, 7].into()),
        name: "a browser".into(),
    }
}

async fn open(hub: &TestHub, name: &str) -> String {
    match hub.sign_in(name, PASSWORD, &here()).await.unwrap() {
        SignIn::Open(cookie) => cookie,
        SignIn::Waiting(_) => panic!("more is needed of {name}"),
    }
}

async fn waiting(hub: &TestHub, name: &str) -> String {
    match hub.sign_in(name, PASSWORD, &here()).await.unwrap() {
        SignIn::Waiting(cookie) => cookie,
        SignIn::Open(_) => panic!("nothing more is needed of {name}"),
    }
}

/// What an app shows that has the secret.
fn code(secret: &str, periods: i64) -> String {
    let secret = Secret::try_from_base32(secret).unwrap();
    let totp = Builder::new()
        .with_secret(secret)
        .with_account_name("ann")
        .with_issuer(Some("Orglift"))
        .build()
        .unwrap();
    totp.generate((now_ms() / 1000 + 30 * periods).unsigned_abs())
        .to_string()
}

async fn with_second_factor(hub: &TestHub, name: &str) -> (String, Vec<String>) {
    let secret = new_totp_secret();
    let actor = Actor::new(name, []);
    let codes = profile::set_second_factor(hub, &actor, &secret, &code(&secret, -1))
        .await
        .unwrap();
    (secret, codes)
}

#[tokio::test]
async fn a_session_opens_with_the_right_password_and_ends_when_signed_out() {
    let hub = hub().await;
    add_user(&hub, "ada", UserRole::Operator, PASSWORD).await;
    for (name, password) in [("ada", "wrong horse!"), ("bob", PASSWORD), ("ada", "")] {
        let refused = hub.sign_in(name, password, &here()).await;
        assert!(matches!(refused, Err(AuthError::Wrong)), "{name}");
    }
    let cookie = open(&hub, "ada").await;
    let visitor = hub.session_actor(&cookie).await.unwrap().unwrap();
    assert_eq!(visitor.actor.role_everywhere(), Some(UserRole::Operator));
    assert_eq!(visitor.session.address, "192.0.2.7");
    hub.sign_out(&visitor.actor, &visitor.session).await.unwrap();
    assert!(hub.session_actor(&cookie).await.unwrap().is_none());

    let log = hub.store.audit_of("ada", 10).await.unwrap();
    let told: Vec<_> = log
        .iter()
        .rev()
        .map(|entry| format!("{} {} {}", entry.action, entry.outcome.name(), entry.address))
        .collect();
    assert_eq!(
        told,
        [
            "add user done ",
            "sign in refused 192.0.2.7",
            "sign in refused 192.0.2.7",
            "sign in done 192.0.2.7",
            "sign out done "
        ]
    );
}

#[tokio::test]
async fn a_session_ends_by_itself() {
    let hub = hub().await;
    add_user(&hub, "ada", UserRole::Viewer, PASSWORD).await;
    let cookie = open(&hub, "ada").await;
    let mut tx = hub.store.begin().await.unwrap();
    tx.session_extend(&sha256_hex(cookie.as_bytes()), now_ms() - 1)
        .await
        .unwrap();
    tx.commit().await.unwrap();
    assert!(hub.session_actor(&cookie).await.unwrap().is_none());
}

#[tokio::test]
async fn whoever_fails_too_often_is_locked_out_until_somebody_unlocks_the_user() {
    let hub = hub().await;
    add_user(&hub, "ada", UserRole::Viewer, PASSWORD).await;
    for _ in 0..FAILURES_MAX {
        assert!(hub.sign_in("ada", "wrong horse!", &here()).await.is_err());
    }
    assert!(
        hub.sign_in("ada", PASSWORD, &here()).await.is_err(),
        "even rightly"
    );
    let mut tx = hub.store.begin().await.unwrap();
    people::unlock(&mut tx, COMMAND_LINE, "ada").await.unwrap();
    tx.commit().await.unwrap();
    open(&hub, "ada").await;

    // Failures that were followed by a success count no more.
    for _ in 1..FAILURES_MAX {
        assert!(hub.sign_in("ada", "wrong horse!", &here()).await.is_err());
    }
    open(&hub, "ada").await;
    assert!(hub.sign_in("ada", "wrong horse!", &here()).await.is_err());
    open(&hub, "ada").await;
}

#[tokio::test]
async fn a_second_factor_is_needed_as_well_and_no_code_is_good_twice() {
    let hub = hub().await;
    add_user(&hub, "ann", UserRole::Approver, PASSWORD).await;
    let (secret, codes) = with_second_factor(&hub, "ann").await;
    let stored = hub.store.user("ann").await.unwrap().unwrap().totp.unwrap();
    assert!(!stored.contains(&secret), "it is sealed");

    let cookie = waiting(&hub, "ann").await;
    assert!(
        hub.session_actor(&cookie).await.unwrap().is_none(),
        "it is no session"
    );
    let needs = hub.sign_in_needs(&cookie).await.unwrap();
    assert_eq!(
        needs,
        Some(Needs {
            code: true,
            reason: false
        })
    );
    let further = |cookie: String, code: String| {
        let hub = &hub;
        async move { hub.sign_in_further(&cookie, &code, "", &here()).await }
    };
    let used = code(&secret, -1);
    assert!(matches!(
        further(cookie.clone(), used).await,
        Err(AuthError::WrongCode)
    ));
    let now = code(&secret, 0);
    let opened = further(cookie.clone(), format!("{} {}", &now[..3], &now[3..]))
        .await
        .unwrap();
    assert!(hub.session_actor(&opened).await.unwrap().is_some());
    assert!(matches!(further(cookie, now).await, Err(AuthError::TooLate)));

    let cookie = waiting(&hub, "ann").await;
    further(cookie, codes[3].to_uppercase()).await.unwrap();
    let cookie = waiting(&hub, "ann").await;
    assert!(matches!(
        further(cookie.clone(), codes[3].clone()).await,
        Err(AuthError::WrongCode)
    ));
    assert_eq!(hub.store.recovery_codes_left("ann").await.unwrap(), 9);

    // Codes cannot be guessed: wrong ones count like wrong passwords.
    for _ in 1..FAILURES_MAX {
        assert!(further(cookie.clone(), "000000".into()).await.is_err());
    }
    assert!(matches!(
        further(cookie, codes[4].clone()).await,
        Err(AuthError::TooLate)
    ));
}

#[tokio::test]
async fn the_break_glass_account_comes_in_where_nobody_else_does_and_says_why() {
    let mut hub = hub().await;
    let settings = |hub: &mut TestHub| {
        std::sync::Arc::get_mut(&mut hub.hub)
            .unwrap()
            .settings
            .sign_in
            .local = false;
    };
    add_user(&hub, "ada", UserRole::Administrator, PASSWORD).await;
    let new = NewUser {
        name: "glass".into(),
        grants: vec![Grant::everywhere(UserRole::Administrator)],
        password: PASSWORD.into(),
        one_time: false,
        break_glass: true,
    };
    let new = new.prepare().await.unwrap();
    let mut tx = hub.store.begin().await.unwrap();
    people::put(&mut tx, COMMAND_LINE, new).await.unwrap();
    tx.commit().await.unwrap();
    settings(&mut hub);

    assert!(hub.sign_in("ada", PASSWORD, &here()).await.is_err());
    for _ in 0..FAILURES_MAX + 2 {
        assert!(hub.sign_in("glass", "wrong horse!", &here()).await.is_err());
    }
    let cookie = waiting(&hub, "glass").await;
    let vague = hub.sign_in_further(&cookie, "", "because", &here()).await;
    assert!(matches!(vague, Err(AuthError::Reason)));
    let why = "the identity provider is down, and a cutover is on";
    let opened = hub.sign_in_further(&cookie, "", why, &here()).await.unwrap();
    let visitor = hub.session_actor(&opened).await.unwrap().unwrap();
    assert_eq!(visitor.session.reason, why);
    assert!(visitor.session.ends_at <= now_ms() + 3_600_000);
    let log = hub.store.audit_of("glass", 1).await.unwrap();
    assert_eq!(
        (log[0].action.as_str(), log[0].detail.as_str()),
        ("sign in by the break-glass account", why)
    );
}

#[tokio::test]
async fn a_one_time_password_and_a_missing_second_factor_come_first() {
    let hub = hub().await;
    let ada = add_user(&hub, "ada", UserRole::Administrator, PASSWORD).await;
    let secret = orders::add(&hub, &ada, "bob", vec![Grant::everywhere(UserRole::Viewer)])
        .await
        .unwrap();
    let SignIn::Open(cookie) = hub.sign_in("bob", &secret, &here()).await.unwrap() else {
        panic!("bob has no second factor");
    };
    let visitor = hub.session_actor(&cookie).await.unwrap().unwrap();
    assert_eq!(
        visitor.has_first(SecondFactor::Everybody),
        Some(First::NewPassword)
    );

    let another = hub.sign_in("bob", &secret, &here()).await.unwrap();
    let (actor, session) = (&visitor.actor, &visitor.session);
    let wrong = profile::set_password(&hub, actor, session, "not this one", PASSWORD).await;
    assert!(matches!(wrong, Err(AuthError::Wrong)));
    let same = profile::set_password(&hub, actor, session, &secret, &secret).await;
    assert!(matches!(same, Err(AuthError::SamePassword)));
    profile::set_password(&hub, actor, session, &secret, PASSWORD)
        .await
        .unwrap();
    let SignIn::Open(another) = another else {
        panic!("bob has no second factor");
    };
    assert!(
        hub.session_actor(&another).await.unwrap().is_none(),
        "other sessions end"
    );

    let visitor = hub.session_actor(&cookie).await.unwrap().unwrap();
    assert_eq!(visitor.has_first(SecondFactor::Approvers), None);
    assert_eq!(
        visitor.has_first(SecondFactor::Everybody),
        Some(First::SecondFactor)
    );
    with_second_factor(&hub, "bob").await;
    let visitor = hub.session_actor(&cookie).await.unwrap().unwrap();
    assert_eq!(visitor.has_first(SecondFactor::Everybody), None);
}

#[tokio::test]
async fn the_last_administrator_stays() {
    let hub = hub().await;
    let ada = add_user(&hub, "ada", UserRole::Administrator, PASSWORD).await;
    add_user(&hub, "ann", UserRole::Approver, PASSWORD).await;
    let everything = Scope::Everything;
    let viewer = Grant::everywhere(UserRole::Viewer);
    let refused = [
        orders::revoke(&hub, &ada, "ada", &everything).await,
        orders::grant(&hub, &ada, "ada", viewer.clone()).await,
        orders::carry_out(&hub, &ada, "ada", orders::Measure::Disable).await,
        orders::carry_out(&hub, &ada, "ada", orders::Measure::Remove).await,
    ];
    for refusal in refused {
        let why = refusal.unwrap_err().to_string();
        assert!(
            why.contains("ada is the last who may administer everything"),
            "{why}"
        );
    }
    let administrator = Grant::everywhere(UserRole::Administrator);
    orders::grant(&hub, &ada, "ann", administrator).await.unwrap();
    orders::grant(&hub, &ada, "ada", viewer).await.unwrap();
    let late = orders::carry_out(&hub, &ada, "ann", orders::Measure::Disable).await;
    assert!(late.is_err(), "ann is the last one now");
    let log = hub.store.audit_of("ada", 1).await.unwrap();
    assert_eq!(log[0].action, "grant");
}

#[tokio::test]
async fn whoever_is_disabled_is_out_at_once_and_keys_with_them() {
    let hub = hub().await;
    let ada = add_user(&hub, "ada", UserRole::Administrator, PASSWORD).await;
    let bob = add_user(&hub, "bob", UserRole::Viewer, PASSWORD).await;
    let cookie = open(&hub, "bob").await;
    let key = profile::add_key(&hub, &bob, "nightly report", Some(30))
        .await
        .unwrap();
    assert!(hub.key_actor(&key).await.unwrap().is_some());
    orders::carry_out(&hub, &ada, "bob", orders::Measure::Disable)
        .await
        .unwrap();
    assert!(hub.session_actor(&cookie).await.unwrap().is_none());
    assert!(hub.key_actor(&key).await.unwrap().is_none());
    assert!(hub.sign_in("bob", PASSWORD, &here()).await.is_err());
    orders::carry_out(&hub, &ada, "bob", orders::Measure::Enable)
        .await
        .unwrap();
    assert!(hub.key_actor(&key).await.unwrap().is_some());
    assert!(
        hub.session_actor(&cookie).await.unwrap().is_none(),
        "its session is over"
    );
}

#[tokio::test]
async fn a_key_is_its_users_and_ends() {
    let hub = hub().await;
    let ada = add_user(&hub, "ada", UserRole::Approver, PASSWORD).await;
    let key = profile::add_key(&hub, &ada, "night", Some(1)).await.unwrap();
    let actor = hub.key_actor(&key).await.unwrap().unwrap();
    assert_eq!(actor.role_everywhere(), Some(UserRole::Approver));
    assert!(hub.key_actor("olk1.nonsense").await.unwrap().is_none());
    let kept = hub.store.api_keys_of("ada").await.unwrap().remove(0);
    assert!(kept.used_at.is_some());
    for (name, days) in [("", None), ("a", Some(0)), ("a", Some(keys::DAYS_MAX + 1))] {
        assert!(
            profile::add_key(&hub, &ada, name, days).await.is_err(),
            "{name} {days:?}"
        );
    }
    profile::remove_key(&hub, &ada, keys::id(&kept)).await.unwrap();
    assert!(hub.key_actor(&key).await.unwrap().is_none());
}

//! Tells targets of what happened, each in order, and again until it has taken it.

use std::{sync::Arc, time::Duration};

use futures_util::future::join_all;

use crate::{Hub, clock::now_ms, entities::notice_target::Model as Target, store::StoreError};

/// A notice is told within this time.
const EVERY: Duration = Duration::from_secs(2);
const PRUNE_EVERY: u32 = 900;

/// So many at once of each target.
const BATCH: u64 = 100;

/// Between two attempts: doubles up to the last.
const BACKOFF_FIRST_MS: i64 = 2_000;
const BACKOFF_LAST_MS: i64 = 300_000;

/// Runs until the hub stops.
pub async fn run(hub: Arc<Hub>) {
    let mut rounds = 0_u32;
    loop {
        if let Err(error) = tell_all(&hub, rounds.is_multiple_of(PRUNE_EVERY)).await {
            tracing::warn!(
                error = &error as &dyn std::error::Error,
                "cannot tell of what happened"
            );
        }
        rounds = rounds.wrapping_add(1);
        tokio::select! {
            () = tokio::time::sleep(EVERY) => {}
            () = hub.stopping.cancelled() => return,
        }
    }
}

pub async fn tell_all(hub: &Hub, prunes: bool) -> Result<(), StoreError> {
    if prunes {
        let mut tx = hub.store.begin().await?;
        tx.notices_prune().await?;
        tx.commit().await?;
    }
    let last = hub.store.last_notice().await?;
    let now = now_ms();
    let targets = hub.store.notice_targets().await?;
    let due = targets
        .iter()
        .filter(|target| target.told < last && target.retry_at <= now);
    // One that is slow does not keep the others waiting.
    for told in join_all(due.map(|target| tell(hub, target))).await {
        told?;
    }
    Ok(())
}

async fn tell(hub: &Hub, target: &Target) -> Result<(), StoreError> {
    let mut told = target.told;
    let mut error = None;
    for notice in hub.store.notices_after(target.told, BATCH).await? {
        if target.kinds.contains(&notice.kind)
            && let Err(why) = hub.tell(target, &notice).await
        {
            let failures = if told > target.told { 0 } else { target.failures };
            let pause = BACKOFF_FIRST_MS << failures.clamp(0, 16);
            tracing::warn!(target.name, "a notification target is not reached: {why}");
            error = Some((why.to_string(), now_ms() + pause.min(BACKOFF_LAST_MS)));
            break;
        }
        told = notice.sequence;
    }
    let mut tx = hub.store.begin().await?;
    tx.notice_target_told(target, told, error).await?;
    tx.commit().await
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use aws_lc_rs::hmac;
    use axum::{
        Router,
        body::Bytes,
        http::{HeaderMap, StatusCode},
        routing::post,
    };
    use domain::{
        ids::SourceServerId,
        lifecycle::Event,
        replication::{Replication, ReplicationError, Stall},
    };
    use sea_orm::ActiveValue::Set;
    use serde_json::Value;

    use super::*;
    use crate::{
        actions::{
            ActionError,
            notices::{NewTarget, add_target, try_target},
        },
        auth::Actor,
        entities::{Doc, notice::NoticeKind, notice_target::NoticeForm, user::UserRole},
        fixtures::{self, MEMBER, REGION, TestHub},
    };

    /// Somebody who is told.
    #[derive(Default)]
    struct Heard {
        bodies: Vec<(Value, Option<String>, Bytes)>,
        refuses: bool,
    }

    async fn receiver() -> (String, Arc<Mutex<Heard>>) {
        let heard: Arc<Mutex<Heard>> = Arc::default();
        let kept = heard.clone();
        let take = async move |headers: HeaderMap, body: Bytes| {
            let mut heard = kept.lock().unwrap();
            if heard.refuses {
                return StatusCode::SERVICE_UNAVAILABLE;
            }
            let signed = headers
                .get("x-orglift-signature")
                .map(|value| value.to_str().unwrap().to_owned());
            heard
                .bodies
                .push((serde_json::from_slice(&body).unwrap(), signed, body));
            StatusCode::NO_CONTENT
        };
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let router = Router::new().route("/hook/{secret}", post(take));
        tokio::spawn(async move { axum::serve(listener, router).await });
        (format!("http://{address}/hook/rosebud"), heard)
    }

    struct Scene {
        hub: TestHub,
        ada: Actor,
        id: SourceServerId,
    }

    async fn scene() -> Scene {
        let hub = fixtures::hub().await;
        let runner = fixtures::with_runner(&hub).await;
        let ada = fixtures::add_user(&hub, "ada", UserRole::Administrator, "correct horse").await;
        let mut server = fixtures::server(SourceServerId::from_entropy(1), &runner);
        server.hostname = "web-1 <b>".into();
        let id = server.id.0.clone();
        let mut tx = hub.store.begin().await.unwrap();
        tx.server_insert(server).await.unwrap();
        tx.commit().await.unwrap();
        Scene { hub, ada, id }
    }

    impl Scene {
        async fn add(&self, name: &str, form: NoticeForm, address: &str, kinds: &[NoticeKind]) -> String {
            let new = NewTarget {
                name: name.into(),
                form,
                address: address.into(),
                kinds: kinds.to_vec(),
            };
            add_target(&self.hub, &self.ada, new).await.unwrap()
        }

        async fn replicates(&self, replication: Replication) {
            let mut tx = self.hub.store.begin().await.unwrap();
            let server = tx.server(&self.id).await.unwrap();
            tx.server_update(&server, |row| {
                row.replication_name = Set(replication.name().to_owned());
                row.replication = Set(Doc(replication));
            })
            .await
            .unwrap();
            tx.commit().await.unwrap();
        }

        async fn becomes_ready(&self) {
            let mut tx = self.hub.store.begin().await.unwrap();
            tx.server_on(&self.id, Event::FirstLaunchableCheckpoint)
                .await
                .unwrap();
            tx.commit().await.unwrap();
        }
    }

    fn stalled() -> Replication {
        Replication::Stalled(Stall {
            error: ReplicationError::AgentNotSeen,
            detail: String::new(),
            step: None,
        })
    }

    #[tokio::test]
    async fn events_arrive_signed_in_order_and_once() {
        let scene = scene().await;
        let (address, heard) = receiver().await;
        let secret = scene
            .add("events", NoticeForm::Event, &address, &NoticeKind::ALL)
            .await;
        scene.becomes_ready().await;
        scene.replicates(stalled()).await;
        scene.replicates(Replication::Continuous).await;
        // What goes on as before is no news.
        scene.replicates(Replication::Continuous).await;
        for _ in 0..2 {
            tell_all(&scene.hub, true).await.unwrap();
        }
        let heard = heard.lock().unwrap();
        let said: Vec<_> = heard
            .bodies
            .iter()
            .map(|(event, ..)| {
                (
                    event["detail-type"].as_str().unwrap(),
                    event["detail"]["state"].as_str().unwrap(),
                )
            })
            .collect();
        let stalls = "MGN Source Server Data Replication Stalled Change";
        assert_eq!(
            said,
            [
                ("MGN Source Server Lifecycle State Change", "READY_FOR_TEST"),
                (stalls, "STALLED"),
                (stalls, "NOT_STALLED"),
            ]
        );
        let (event, signed, body) = &heard.bodies[0];
        assert_eq!(
            (event["account"].as_str(), event["region"].as_str()),
            (Some(MEMBER), Some(REGION))
        );
        let arn = format!("arn:aws:mgn:{REGION}:{MEMBER}:source-server/{}", scene.id);
        assert_eq!(event["resources"][0].as_str(), Some(arn.as_str()));
        let key = hmac::Key::new(hmac::HMAC_SHA256, secret.as_bytes());
        let signature = signed.as_ref().unwrap().strip_prefix("sha256=").unwrap();
        let signature = data_encoding::HEXLOWER.decode(signature.as_bytes()).unwrap();
        hmac::verify(&key, body, &signature).unwrap();
    }

    #[tokio::test]
    async fn a_target_that_fails_is_told_later_and_keeps_nobody_waiting() {
        let scene = scene().await;
        let (address, heard) = receiver().await;
        let (other_address, other) = receiver().await;
        scene
            .add("chat", NoticeForm::Slack, &address, &[NoticeKind::LifeCycle])
            .await;
        scene
            .add("other", NoticeForm::Slack, &other_address, &NoticeKind::ALL)
            .await;
        heard.lock().unwrap().refuses = true;
        scene.becomes_ready().await;
        tell_all(&scene.hub, false).await.unwrap();
        assert_eq!(other.lock().unwrap().bodies.len(), 1);
        let targets = scene.hub.store.notice_targets().await.unwrap();
        let chat = targets.iter().find(|target| target.name == "chat").unwrap();
        assert_eq!((chat.failures, chat.told), (1, 0));
        let why = chat.last_error.as_deref().unwrap();
        assert!(why.contains("503") && !why.contains("rosebud"), "{why}");
        assert!(!format!("{chat:?}").contains("rosebud"), "the address is sealed");

        // Not before its time, and then what it has not heard.
        heard.lock().unwrap().refuses = false;
        tell_all(&scene.hub, false).await.unwrap();
        assert!(heard.lock().unwrap().bodies.is_empty());
        let mut tx = scene.hub.store.begin().await.unwrap();
        tx.notice_target_told(chat, 0, Some(("503".into(), 0)))
            .await
            .unwrap();
        tx.commit().await.unwrap();
        tell_all(&scene.hub, false).await.unwrap();
        let bodies = &heard.lock().unwrap().bodies;
        let text = format!("web-1 &lt;b&gt; in account {MEMBER}: is READY_FOR_TEST now");
        assert_eq!(bodies[0].0, serde_json::json!({ "text": text }));
        assert_eq!(bodies[0].1, None);
    }

    #[tokio::test]
    async fn a_target_is_tried_out_and_checked_before_it_is_added() {
        let scene = scene().await;
        let (address, heard) = receiver().await;
        scene
            .add("events", NoticeForm::Event, &address, &[NoticeKind::Stalled])
            .await;
        let id = scene.hub.store.notice_targets().await.unwrap()[0].id.clone();
        try_target(&scene.hub, &scene.ada, &id).await.unwrap();
        assert_eq!(heard.lock().unwrap().bodies.len(), 1);
        heard.lock().unwrap().refuses = true;
        let failed = try_target(&scene.hub, &scene.ada, &id).await.unwrap_err();
        assert!(failed.to_string().contains("answered 503"), "{failed}");
        for (name, address, kinds) in [
            ("events", "https://example.com", &NoticeKind::ALL[..]),
            ("", "https://example.com", &NoticeKind::ALL),
            ("a", "http://169.254.169.254/latest", &NoticeKind::ALL),
            ("a", "file:///etc/passwd", &NoticeKind::ALL),
            ("a", "https://example.com", &[]),
        ] {
            let new = NewTarget {
                name: name.into(),
                form: NoticeForm::Event,
                address: address.into(),
                kinds: kinds.to_vec(),
            };
            assert!(
                add_target(&scene.hub, &scene.ada, new).await.is_err(),
                "{name} {address}"
            );
        }
        let viewer = fixtures::add_user(&scene.hub, "viewer", UserRole::Viewer, "correct horse").await;
        let refused = try_target(&scene.hub, &viewer, &id).await;
        assert!(matches!(refused, Err(ActionError::Forbidden { .. })));
    }
}

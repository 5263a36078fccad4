//! How a server is launched and replicated, and whether that is as its templates say.

use domain::{
    launch::{Expects, LaunchConfiguration, Probe, RehearsalSettings},
    replication_configuration::ReplicationConfiguration,
};

use super::details::{Pair, pair};
use crate::{
    clock::now_ms,
    entities::{account, source_server::Model},
    n,
    store::{Seen, StoreError},
    t,
    web::{badge, launch_configuration, replication_configuration, scopes},
};

#[derive(Debug)]
pub struct Card {
    /// Of its title in the page.
    pub id: &'static str,
    pub title: &'static str,
    pub edit: Option<String>,
    pub pairs: Vec<Pair>,
}

pub async fn cards(
    store: &Seen,
    server: &Model,
    account: &account::Model,
    may_edit: bool,
) -> Result<[Card; 2], StoreError> {
    let templates = store.templates().await?.of(account);
    let mut launching = launch(&server.launch_configuration);
    if let Some((scope, template)) = &templates.launch {
        let differing = launch_configuration::differences(&server.launch_configuration, template);
        launching.push(template_pair(&scopes::place(store, scope).await?, &differing));
    }
    let kept = server.replication_configuration();
    let mut replicating = replication(&kept);
    if let Some((scope, template)) = &templates.replication {
        let differing = replication_configuration::differences(&kept, template);
        replicating.push(template_pair(&scopes::place(store, scope).await?, &differing));
    }
    let edit = |what: &str| may_edit.then(|| format!("/servers/{}/{what}", server.id));
    Ok([
        Card {
            id: "launch",
            title: t!("Launch configuration"),
            edit: edit("launch-configuration"),
            pairs: launching,
        },
        Card {
            id: "replication-settings",
            title: t!("Replication configuration"),
            edit: edit("replication-configuration"),
            pairs: replicating,
        },
    ])
}

/// `Example Corp: 2 settings differ`
fn template_pair(place: &str, differing: &[String]) -> Pair {
    let count = differing.len() as u64;
    let how = if count == 0 {
        t!("nothing differs").to_owned()
    } else {
        n!(count, "{n} setting differs", "{n} settings differ")
    };
    pair(t!("Template"), t!("{place}: {how}", place, how))
}

fn replication(kept: &ReplicationConfiguration) -> Vec<Pair> {
    let mut pairs = vec![pair(
        t!("Checkpoints"),
        t!(
            "every {seconds} s, {kept} kept",
            seconds = kept.checkpoint_interval_s,
            kept = kept.checkpoints_kept
        ),
    )];
    pairs.extend(replication_configuration::bandwidth_in_words(
        &kept.bandwidth,
        now_ms(),
    ));
    pairs
}

fn launch(launch: &LaunchConfiguration) -> Vec<Pair> {
    let yes = |is: bool| if is { t!("yes") } else { t!("no") };
    let tags = launch.tags.iter().map(|(key, value)| format!("{key}={value}"));
    vec![
        pair(t!("Instance type"), &launch.instance_type),
        pair(t!("Test subnet"), &launch.test_subnet),
        pair(t!("Target subnet"), &launch.target_subnet),
        pair(t!("After launch"), badge::disposition(launch.disposition).1),
        pair(t!("Boot mode"), badge::boot_mode(launch.boot_mode).1),
        pair(t!("Keep private IP"), yes(launch.copy_private_ip)),
        pair(t!("Copy tags"), yes(launch.copy_tags)),
        pair(t!("Convert"), yes(launch.convert)),
        pair(
            t!("Rehearse"),
            launch
                .rehearsal
                .as_ref()
                .map_or_else(|| t!("no").to_owned(), rehearsal),
        ),
        pair(
            t!("Tags"),
            if launch.tags.is_empty() {
                t!("none").to_owned()
            } else {
                tags.collect::<Vec<_>>().join(", ")
            },
        ),
    ]
}

fn rehearsal(settings: &RehearsalSettings) -> String {
    let limit = settings.time_limit_s;
    match &settings.probe {
        None => t!("for {limit} s at most", limit),
        Some(Probe {
            port,
            expects: Expects::Tcp,
        }) => t!("until port {port} accepts, for {limit} s at most", port, limit),
        Some(Probe {
            port,
            expects: Expects::Http { path, status },
        }) => t!(
            "until port {port} answers {path} with {status}, for {limit} s at most",
            port,
            path,
            status,
            limit
        ),
    }
}

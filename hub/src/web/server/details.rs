//! What is known of the source, and how it will be launched.

use crate::t;
use domain::{
    launch::{Expects, LaunchConfiguration, Probe, RehearsalSettings},
    source_server::SourceProperties,
};

use crate::{
    entities::source_server::Model,
    web::{badge, text},
};

#[derive(Debug)]
pub struct Pair {
    pub label: &'static str,
    pub value: String,
}

#[derive(Debug)]
pub struct Interface {
    pub label: String,
    pub value: String,
    pub mac: String,
}

fn pair(label: &'static str, value: impl Into<String>) -> Pair {
    Pair {
        label,
        value: value.into(),
    }
}

pub fn launch(launch: &LaunchConfiguration) -> Vec<Pair> {
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

pub fn properties(server: &Model, now: i64) -> Vec<Pair> {
    let source = &server.properties;
    let mut pairs = vec![
        pair(t!("Host name"), &source.hostname),
        pair("FQDN", &source.fqdn),
        pair(t!("System"), &source.os),
        pair(t!("Kernel"), &source.kernel),
        pair(t!("Boots by"), badge::boot_mode(source.boot_mode).1),
        pair("CPUs", source.cpus.to_string()),
        pair(t!("Memory"), text::bytes(source.ram_bytes)),
        pair(t!("Disks"), source.disks.len().to_string()),
        pair(
            t!("Agent"),
            server.agent_version.as_deref().unwrap_or(t!("not seen yet")),
        ),
        pair(
            t!("Agent address"),
            server.agent_address.as_deref().unwrap_or("–"),
        ),
        pair(
            t!("Last seen"),
            server
                .last_seen
                .map_or_else(|| "never".into(), |seen| text::ago(seen, now)),
        ),
        pair(t!("Added"), text::moment(server.created_at).text),
    ];
    for (key, value) in &server.tags.0 {
        pairs.push(Pair {
            label: t!("Tag"),
            value: format!("{key}={value}"),
        });
    }
    pairs
}

pub fn interfaces(source: &SourceProperties) -> Vec<Interface> {
    source
        .network_interfaces
        .iter()
        .map(|interface| Interface {
            label: if interface.is_primary {
                t!("{name} (primary)", name = interface.name)
            } else {
                interface.name.clone()
            },
            value: if interface.ips.is_empty() {
                t!("no address").into()
            } else {
                interface.ips.join(", ")
            },
            mac: interface.mac_address.clone(),
        })
        .collect()
}

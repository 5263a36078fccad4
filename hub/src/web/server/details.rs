//! What is known of the source.

use crate::t;
use domain::source_server::SourceProperties;

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

pub fn pair(label: &'static str, value: impl Into<String>) -> Pair {
    Pair {
        label,
        value: value.into(),
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

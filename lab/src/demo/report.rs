//! What came of it: a table for people, JSON for programs.

use std::{
    fmt, fs,
    path::{Path, PathBuf},
};

use anyhow::Context;
use cloud::{
    Cloud,
    control::{Resource, ResourceKind, SERVER_TAG},
};
use domain::ids::{AccountId, SourceServerId};
use serde::{Deserialize, Serialize};

use crate::world::{AccountPlan, World};

/// One source server.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Row {
    pub server: Option<SourceServerId>,
    pub name: String,
    pub account: AccountId,
    pub account_name: String,
    pub state: String,
    pub source_disks: Vec<PathBuf>,
    /// The volumes of the cutover instance, raw, in the order of the source's disks.
    pub target_disks: Vec<PathBuf>,
    pub bytes: u64,
    pub seconds: f64,
    /// How old the checkpoint was when the cutover instance was launched from it.
    pub checkpoint_age_s: Option<f64>,
    /// Byte by byte, against what the source held when its application had been stopped.
    pub target_equals_source: bool,
    pub difference: Option<String>,
    pub instance: Option<String>,
    pub resources_left: usize,
    pub trouble: Option<String>,
}

#[derive(Debug, Clone, Serialize)]
pub struct Report {
    pub servers: Vec<Row>,
    /// In all accounts, whomever they belong to.
    pub resources_left: usize,
    pub left: Vec<Left>,
}

/// Something that should be gone.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Left {
    pub account: AccountId,
    pub kind: ResourceKind,
    pub id: String,
    pub server: Option<String>,
}

impl Report {
    pub async fn of(world: &World, mut rows: Vec<Row>) -> anyhow::Result<Self> {
        let kept: Vec<_> = rows.iter().filter_map(|row| row.instance.clone()).collect();
        let left = left_anywhere(world, &kept).await?;
        for row in &mut rows {
            let id = row.server.as_ref().map(ToString::to_string);
            row.resources_left = left.iter().filter(|left| left.server == id).count();
        }
        Ok(Self {
            servers: rows,
            resources_left: left.len(),
            left,
        })
    }

    /// Every server arrived equal, and nothing is left behind.
    pub fn is_good(&self) -> bool {
        let arrived = |row: &Row| row.state == "CUTOVER" && row.target_equals_source && row.trouble.is_none();
        self.servers.iter().all(arrived) && self.left.is_empty()
    }

    pub fn save(&self, file: &Path) -> anyhow::Result<()> {
        let text = serde_json::to_string_pretty(self).context("cannot write the report")?;
        fs::write(file, text + "\n").with_context(|| format!("cannot write {}", file.display()))
    }
}

/// What is in any account beside the instances to keep and their volumes.
pub async fn left_anywhere(world: &World, kept: &[String]) -> anyhow::Result<Vec<Left>> {
    let mut left = Vec::new();
    for account in &world.plan.accounts {
        let inventory = world.cloud.inventory(&account.place()).await?;
        for resource in left_behind(world, account, inventory, kept)? {
            left.push(Left {
                account: account.id.clone(),
                kind: resource.kind,
                server: resource.tags.get(SERVER_TAG).cloned(),
                id: resource.id,
            });
        }
    }
    Ok(left)
}

/// What is in the account's inventory beside the instances to keep and their volumes.
pub fn left_behind(
    world: &World,
    account: &AccountPlan,
    inventory: Vec<Resource>,
    kept: &[String],
) -> anyhow::Result<Vec<Resource>> {
    let instances = world.cloud.place(&account.place()).instance_records()?;
    let volumes: Vec<_> = instances
        .iter()
        .filter(|instance| kept.contains(&instance.id))
        .flat_map(|instance| instance.volumes.iter().map(|volume| &volume.id))
        .collect();
    let stays = |resource: &Resource| match resource.kind {
        ResourceKind::Instance => kept.contains(&resource.id),
        ResourceKind::Volume => volumes.contains(&&resource.id),
        ResourceKind::Snapshot | ResourceKind::Image | ResourceKind::LaunchTemplate => false,
    };
    Ok(inventory
        .into_iter()
        .filter(|resource| !stays(resource))
        .collect())
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let head = [
            "server",
            "account",
            "MiB",
            "seconds",
            "checkpoint age",
            "target equals source",
            "left",
        ];
        let mut rows = vec![head.map(str::to_owned)];
        for row in &self.servers {
            rows.push([
                row.name.clone(),
                format!("{} {}", row.account, row.account_name),
                (row.bytes >> 20).to_string(),
                format!("{:.1}", row.seconds),
                row.checkpoint_age_s
                    .map_or("–".into(), |age| format!("{age:.1} s")),
                if row.target_equals_source { "yes" } else { "NO" }.into(),
                row.resources_left.to_string(),
            ]);
        }
        let width = |column: usize| {
            rows.iter()
                .map(|row| row[column].chars().count())
                .max()
                .unwrap_or(0)
        };
        let widths: Vec<_> = (0..head.len()).map(width).collect();
        for row in &rows {
            let cells = row.iter().zip(&widths);
            let line: Vec<_> = cells.map(|(cell, width)| format!("{cell:<width$}")).collect();
            writeln!(f, "{}", line.join("  ").trim_end())?;
        }
        for row in &self.servers {
            for problem in [&row.trouble, &row.difference].into_iter().flatten() {
                writeln!(f, "{}: {problem}", row.name)?;
            }
        }
        for left in &self.left {
            writeln!(f, "left in {}: {} {}", left.account, left.kind.name(), left.id)?;
        }
        Ok(())
    }
}

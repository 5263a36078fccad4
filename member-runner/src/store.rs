//! The snapshot store by the name that operators give it.
//!
//! | name | |
//! |---|---|
//! | `layers:PATH`, `layers:PATH?limit=BYTES` | files in a folder |
//! | `ebs:REGION`, `ebs:REGION:KEY` | EBS snapshots, encrypted with a KMS key, with the credentials of the environment or the instance |

use std::{path::Path, sync::Arc};

use cloud::{layers::LayerStore, snapshots::SnapshotStore};

/// Where in the runner's folder the records of EBS snapshots are.
#[cfg(feature = "aws")]
const EBS_FOLDER: &str = "ebs";

/// Opens a store. `dir` is the runner's folder.
pub(crate) async fn open(name: &str, dir: &Path) -> anyhow::Result<Arc<dyn SnapshotStore>> {
    #[cfg(feature = "aws")]
    if let Some(place) = name.strip_prefix("ebs:") {
        use cloud::aws::{Access, ebs::EbsStore};
        let (region, key) = match place.split_once(':') {
            Some((region, key)) => (region, Some(key.to_owned())),
            None => (place, None),
        };
        anyhow::ensure!(
            !region.is_empty() && key.as_deref() != Some(""),
            "{name} is not a store: give it as ebs:REGION or ebs:REGION:KEY"
        );
        let access = Access {
            region: region.to_owned(),
            ..Access::default()
        };
        return Ok(Arc::new(
            EbsStore::open(&dir.join(EBS_FOLDER), &access, key).await?,
        ));
    }
    let _ = dir;
    Ok(Arc::new(LayerStore::open_named(name)??))
}

/// Whether each read costs money.
pub(crate) fn is_paid_by_read(name: &str) -> bool {
    name.starts_with("ebs:")
}

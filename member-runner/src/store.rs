//! The snapshot store by the name that operators give it.
//!
//! | name | |
//! |---|---|
//! | `layers:PATH`, `layers:PATH?limit=BYTES` | files in a folder |
//! | `ebs:REGION`, `ebs:REGION:KEY` | EBS snapshots, encrypted with a KMS key, with the credentials of the environment or the instance |

use std::{path::Path, sync::Arc};

use cloud::{layers::LayerStore, snapshots::SnapshotStore};

const EBS: &str = "ebs:";

/// Opens a store. `dir` is the runner's folder.
pub(crate) async fn open(name: &str, dir: &Path) -> anyhow::Result<Arc<dyn SnapshotStore>> {
    match name.strip_prefix(EBS) {
        Some(place) => open_ebs(place, dir).await,
        None => Ok(Arc::new(LayerStore::open_named(name)??)),
    }
}

/// Whether each read costs money.
pub(crate) fn is_paid_by_read(name: &str) -> bool {
    name.starts_with(EBS)
}

#[cfg(feature = "aws")]
async fn open_ebs(place: &str, dir: &Path) -> anyhow::Result<Arc<dyn SnapshotStore>> {
    use cloud::aws::{Access, ebs::EbsStore};
    let (region, key) = match place.split_once(':') {
        Some((region, key)) => (region, Some(key.to_owned())),
        None => (place, None),
    };
    anyhow::ensure!(
        !region.is_empty() && key.as_deref() != Some(""),
        "{EBS}{place} is not a store: give it as ebs:REGION or ebs:REGION:KEY"
    );
    let access = Access {
        region: region.to_owned(),
        ..Access::default()
    };
    Ok(Arc::new(EbsStore::open(&dir.join("ebs"), &access, key).await?))
}

#[cfg(not(feature = "aws"))]
#[expect(clippy::unused_async, reason = "with AWS there is something to wait for")]
async fn open_ebs(_: &str, _: &Path) -> anyhow::Result<Arc<dyn SnapshotStore>> {
    anyhow::bail!("this program was built without AWS: build it with the feature `aws`")
}

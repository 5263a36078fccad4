//! The snapshot store and the index by the names that operators give them.
//!
//! | name | |
//! |---|---|
//! | `layers:PATH`, `layers:PATH?limit=BYTES` | files in a folder |
//! | `ebs:REGION`, `ebs:REGION:KEY` | EBS snapshots, encrypted with a KMS key, with the credentials of the environment or the instance |
//!
//! | index | |
//! |---|---|
//! | `s3:REGION:BUCKET`, `s3:REGION:BUCKET/PREFIX` | objects in a bucket, with the same credentials |
//! | `folder:PATH` | files in a folder |

use std::{path::Path, sync::Arc};

use cloud::{
    layers::LayerStore,
    objects::{FolderObjects, ObjectStore},
    snapshots::SnapshotStore,
};

const EBS: &str = "ebs:";
const S3: &str = "s3:";
const FOLDER: &str = "folder:";

/// Opens a store. `dir` is the runner's folder.
pub(crate) async fn open(name: &str, dir: &Path) -> anyhow::Result<Arc<dyn SnapshotStore>> {
    match name.strip_prefix(EBS) {
        Some(place) => open_ebs(place, dir).await,
        None => Ok(Arc::new(LayerStore::open_named(name)??)),
    }
}

pub(crate) async fn open_index(name: &str) -> anyhow::Result<Arc<dyn ObjectStore>> {
    if let Some(path) = name.strip_prefix(FOLDER) {
        return Ok(Arc::new(FolderObjects::new(path.into())));
    }
    let place = name.strip_prefix(S3).and_then(|place| place.split_once(':'));
    let Some((region, bucket)) = place.filter(|(region, _)| !region.is_empty()) else {
        anyhow::bail!("{name} is not an index: give it as s3:REGION:BUCKET/PREFIX or folder:PATH");
    };
    open_bucket(region, bucket).await
}

/// Whether each read costs money.
pub(crate) fn is_paid_by_read(name: &str) -> bool {
    name.starts_with(EBS)
}

#[cfg(feature = "aws")]
async fn open_ebs(place: &str, dir: &Path) -> anyhow::Result<Arc<dyn SnapshotStore>> {
    use cloud::aws::ebs::EbsStore;
    let (region, key) = match place.split_once(':') {
        Some((region, key)) => (region, Some(key.to_owned())),
        None => (place, None),
    };
    anyhow::ensure!(
        !region.is_empty() && key.as_deref() != Some(""),
        "{EBS}{place} is not a store: give it as ebs:REGION or ebs:REGION:KEY"
    );
    let access = in_region(region);
    Ok(Arc::new(EbsStore::open(&dir.join("ebs"), &access, key).await?))
}

#[cfg(feature = "aws")]
async fn open_bucket(region: &str, bucket: &str) -> anyhow::Result<Arc<dyn ObjectStore>> {
    use cloud::aws::s3::Bucket;
    Ok(Arc::new(Bucket::open(bucket, &in_region(region)).await?))
}

#[cfg(feature = "aws")]
pub(crate) fn in_region(region: &str) -> cloud::aws::Access {
    cloud::aws::Access {
        region: region.to_owned(),
        ..cloud::aws::Access::default()
    }
}

#[cfg(not(feature = "aws"))]
#[expect(clippy::unused_async, reason = "with AWS there is something to wait for")]
async fn open_bucket(_: &str, _: &str) -> anyhow::Result<Arc<dyn ObjectStore>> {
    anyhow::bail!("this program was built without AWS: build it with the feature `aws`")
}

#[cfg(not(feature = "aws"))]
#[expect(clippy::unused_async, reason = "with AWS there is something to wait for")]
async fn open_ebs(_: &str, _: &Path) -> anyhow::Result<Arc<dyn SnapshotStore>> {
    anyhow::bail!("this program was built without AWS: build it with the feature `aws`")
}

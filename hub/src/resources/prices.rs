//! What resources cost in a month, by a table of prices: an estimate from the list, before discounts and taxes.

use crate::t;
use std::{
    collections::{BTreeMap, BTreeSet},
    fs, io,
    path::Path,
};

use cloud::control::{Measure, ResourceKind};
use serde::Deserialize;

use super::Item;

/// Of the one that comes with the hub.
const BUILT_IN: &str = include_str!("prices.toml");
/// In the hub's folder.
const FILE: &str = "prices.toml";
/// An account's whole price list would be larger; this one has a line for each family.
const FILE_LEN_MAX: u64 = 1 << 20;
/// As AWS's own examples count.
const HOURS: f64 = 730.0;

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Prices {
    /// Where the prices are from.
    pub source: String,
    pub as_of: String,
    pub currency: String,
    /// The region whose prices stand for those of regions that are not in the table.
    instead: String,
    regions: BTreeMap<String, Region>,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct Region {
    /// A GiB for a month.
    snapshot: Option<f64>,
    volumes: BTreeMap<String, VolumePrice>,
    /// An hour, by type or family.
    instances: BTreeMap<String, f64>,
}

#[derive(Debug, Clone, Copy, Deserialize)]
#[serde(deny_unknown_fields)]
struct VolumePrice {
    gib: f64,
    #[serde(default)]
    iops: f64,
    #[serde(default)]
    free_iops: u32,
    #[serde(default)]
    throughput: f64,
    #[serde(default)]
    free_throughput: u32,
}

#[derive(Debug, thiserror::Error)]
pub enum PricesError {
    #[error("cannot read {0}")]
    Read(String, #[source] io::Error),
    #[error("{0} is longer than {FILE_LEN_MAX} bytes")]
    Long(String),
    #[error("{0} is not a table of prices")]
    Form(String, #[source] Box<toml::de::Error>),
}

impl Prices {
    /// Those of the hub's folder, or else the built-in ones.
    pub fn load(dir: &Path) -> Result<Self, PricesError> {
        let file = dir.join(FILE);
        let name = || file.display().to_string();
        let text = match fs::metadata(&file) {
            Ok(found) if found.len() > FILE_LEN_MAX => return Err(PricesError::Long(name())),
            Ok(_) => fs::read_to_string(&file).map_err(|error| PricesError::Read(name(), error))?,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Self::built_in()),
            Err(error) => return Err(PricesError::Read(name(), error)),
        };
        toml::from_str(&text).map_err(|error| PricesError::Form(name(), Box::new(error)))
    }

    /// A hub does not stay down for its price list: of one that it cannot read it tells, and takes its own.
    pub fn load_or_built_in(dir: &Path) -> Self {
        Self::load(dir).unwrap_or_else(|error| {
            tracing::error!(
                error = &error as &dyn std::error::Error,
                "prices are those that come with the hub"
            );
            Self::built_in()
        })
    }

    fn built_in() -> Self {
        toml::from_str(BUILT_IN).unwrap_or_else(|error| unreachable!("a test reads it: {error}"))
    }

    /// The region whose prices are taken for one.
    pub fn region_for<'a>(&'a self, region: &'a str) -> &'a str {
        if self.regions.contains_key(region) {
            region
        } else {
            &self.instead
        }
    }

    /// A month of one resource; `None` where the table has no price for it.
    ///
    /// A snapshot is taken for as large as its disk: EC2 does not say what it holds.
    pub fn month(&self, region: &str, kind: ResourceKind, measure: &Measure) -> Option<f64> {
        let prices = self.regions.get(self.region_for(region))?;
        let form = measure.form.as_deref().unwrap_or_default();
        match kind {
            // An image is no more than its snapshots.
            ResourceKind::Image | ResourceKind::LaunchTemplate => Some(0.0),
            ResourceKind::Snapshot => Some(prices.snapshot? * f64::from(measure.gib?)),
            ResourceKind::Volume => {
                let price = prices.volumes.get(form)?;
                let beyond =
                    |asked: Option<u32>, free: u32| f64::from(asked.unwrap_or_default().saturating_sub(free));
                Some(
                    price.gib * f64::from(measure.gib?)
                        + price.iops * beyond(measure.iops, price.free_iops)
                        + price.throughput * beyond(measure.throughput, price.free_throughput),
                )
            }
            ResourceKind::Instance if measure.stopped => Some(0.0),
            ResourceKind::Instance => {
                let hour = prices.instances.get(form).copied().or_else(|| {
                    let (family, size) = form.split_once('.')?;
                    Some(prices.instances.get(family)? * larges(size)?)
                });
                Some(hour? * HOURS)
            }
        }
    }

    /// Prices each, and the snapshots of one disk once: those after the first hold what changed, and no more.
    /// `disk_of` knows the disk of a snapshot.
    pub fn estimate(&self, region: &str, items: &mut [Item], disk_of: &BTreeMap<String, String>) {
        let mut seen = BTreeSet::new();
        for item in items {
            let again = item.kind == ResourceKind::Snapshot
                && disk_of
                    .get(&item.id)
                    .is_some_and(|disk| !seen.insert((item.server.clone(), disk.clone())));
            item.month = if again {
                Some(0.0)
            } else {
                self.month(region, item.kind, &item.measure)
            };
        }
    }
}

/// How many of its family's `large` a size is as much as: sizes of the same family are priced in proportion.
fn larges(size: &str) -> Option<f64> {
    let many = size.strip_suffix("xlarge");
    Some(match size {
        "nano" => 0.0625,
        "micro" => 0.125,
        "small" => 0.25,
        "medium" => 0.5,
        "large" => 1.0,
        "xlarge" => 2.0,
        _ => 2.0 * f64::from(many?.parse::<u8>().ok()?),
    })
}

/// What a month of several costs.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Total {
    pub month: f64,
    /// Those without a price.
    pub unpriced: usize,
}

impl Total {
    pub fn of<'a>(items: impl IntoIterator<Item = &'a Item>) -> Self {
        items.into_iter().fold(Self::default(), |sum, item| Self {
            month: sum.month + item.month.unwrap_or_default(),
            unpriced: sum.unpriced + usize::from(item.month.is_none()),
        })
    }

    /// `about 12.40 USD a month, and 1 without a price`.
    pub fn in_words(self, prices: &Prices) -> String {
        let cost = money(self.month, prices);
        match self.unpriced {
            0 => t!("about {cost} a month", cost),
            count => t!("about {cost} a month, and {count} without a price", cost, count),
        }
    }
}

impl std::ops::Add for Total {
    type Output = Self;

    fn add(self, other: Self) -> Self {
        Self {
            month: self.month + other.month,
            unpriced: self.unpriced + other.unpriced,
        }
    }
}

/// `12.40 USD`.
pub fn money(month: f64, prices: &Prices) -> String {
    format!("{month:.2} {}", prices.currency)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::resources::Standing;

    fn prices() -> Prices {
        Prices::built_in()
    }

    fn of(form: &str, gib: u32) -> Measure {
        Measure {
            form: Some(form.into()),
            gib: Some(gib),
            ..Measure::default()
        }
    }

    fn close(one: Option<f64>, other: f64) -> bool {
        one.is_some_and(|one| (one - other).abs() < 1e-6)
    }

    #[test]
    fn a_month_is_what_the_list_says() {
        let prices = prices();
        let month = |kind, measure: &Measure| prices.month("us-east-1", kind, measure);
        assert!(close(
            month(ResourceKind::Instance, &of("m5.large", 0)),
            0.096 * 730.0
        ));
        assert!(close(
            month(ResourceKind::Instance, &of("r5.24xlarge", 0)),
            6.048 * 730.0
        ));
        assert!(close(
            month(ResourceKind::Instance, &of("t3.micro", 0)),
            0.0104 * 730.0
        ));
        let stopped = Measure {
            stopped: true,
            ..of("m5.large", 0)
        };
        assert!(close(month(ResourceKind::Instance, &stopped), 0.0));
        assert!(close(month(ResourceKind::Volume, &of("gp3", 100)), 8.0));
        let fast = Measure {
            iops: Some(4000),
            throughput: Some(250),
            ..of("gp3", 100)
        };
        assert!(close(month(ResourceKind::Volume, &fast), 8.0 + 5.0 + 5.0));
        let io2 = Measure {
            iops: Some(500),
            ..of("io2", 8)
        };
        assert!(close(month(ResourceKind::Volume, &io2), 1.0 + 32.5));
        assert!(close(month(ResourceKind::Snapshot, &of("", 100)), 5.0));
        assert!(close(
            month(ResourceKind::LaunchTemplate, &Measure::default()),
            0.0
        ));
    }

    #[test]
    fn what_has_no_price_is_not_called_free() {
        let prices = prices();
        for (kind, measure) in [
            (ResourceKind::Instance, of("q9.large", 0)),
            (ResourceKind::Instance, of("m5.metal", 0)),
            (ResourceKind::Instance, of("m5.999xlarge", 0)),
            (ResourceKind::Instance, Measure::default()),
            (ResourceKind::Volume, of("gp9", 1)),
            (
                ResourceKind::Volume,
                Measure {
                    gib: None,
                    ..of("gp3", 0)
                },
            ),
            (ResourceKind::Snapshot, Measure::default()),
        ] {
            assert_eq!(
                prices.month("us-east-1", kind, &measure),
                None,
                "{kind:?} {measure:?}"
            );
        }
        assert_eq!(prices.region_for("eu-central-1"), "us-east-1");
    }

    #[test]
    fn snapshots_of_one_disk_are_priced_once() {
        let item = |id: &str| Item {
            kind: ResourceKind::Snapshot,
            id: id.into(),
            server: None,
            token: None,
            standing: Standing::Ours,
            measure: of("", 100),
            month: None,
        };
        let mut items = ["snap-1", "snap-2", "snap-3", "snap-4"].map(item);
        let disks = [("snap-1", "sda"), ("snap-2", "sda"), ("snap-3", "sdb")];
        let disks = disks.map(|(snapshot, disk)| (snapshot.to_owned(), disk.to_owned()));
        prices().estimate("us-east-1", &mut items, &disks.into());
        let total = Total::of(&items);
        assert_eq!(total.in_words(&prices()), "about 15.00 USD a month");
        items[0].month = None;
        assert_eq!(
            Total::of(&items).in_words(&prices()),
            "about 10.00 USD a month, and 1 without a price"
        );
    }

    #[test]
    fn a_file_in_the_hubs_folder_stands_in_for_the_table() {
        let folder = tempfile::tempdir().unwrap();
        assert_eq!(Prices::load(folder.path()).unwrap().as_of, "2025-01");
        let file = folder.path().join(FILE);
        let own = "source = \"ours\"\nas_of = \"2026-11\"\ncurrency = \"EUR\"\ninstead = \"a\"\n[regions.a]\nsnapshot = 0.07\n";
        fs::write(&file, own).unwrap();
        let prices = Prices::load(folder.path()).unwrap();
        assert_eq!((prices.source.as_str(), prices.region_for("b")), ("ours", "a"));
        assert!(close(prices.month("b", ResourceKind::Snapshot, &of("", 10)), 0.7));
        for wrong in ["regions = 3", "surce = 1"] {
            fs::write(&file, wrong).unwrap();
            let error = Prices::load(folder.path()).unwrap_err();
            assert!(error.to_string().contains(FILE), "{error}");
        }
    }
}

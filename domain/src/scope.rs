//! Where a person may act: everywhere, in an organization, in a part of one, or in one account.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::ids::{AccountId, OrganizationId};

/// Written as `everything`, `organization:ID`, `unit:ID:Root/Production` or `account:210000000001`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Scope {
    Everything,
    Organization(OrganizationId),
    /// The accounts of an organizational unit and of the units within it, whichever those are today.
    Unit(OrganizationId, UnitPath),
    Account(AccountId),
}

/// The names of the units from the organization's root down, such as `Root/Production`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct UnitPath(String);

/// Of AWS: a name has 128 characters, and units nest five deep under the root.
const PATH_MAX: usize = 6 * (4 * 128 + 1);

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "“{0}” is no scope: write everything, organization:ID, unit:ID:Root/Production or account:210000000001"
)]
pub struct NotAScope(String);

impl Scope {
    /// Whether the account lies in it.
    pub fn covers(&self, account: &AccountId, organization: &OrganizationId, unit: &str) -> bool {
        match self {
            Self::Everything => true,
            Self::Organization(own) => own == organization,
            Self::Unit(own, path) => own == organization && path.covers(unit),
            Self::Account(own) => own == account,
        }
    }

    /// Whether all of `other` lies in it. Where an account lies, only [`Self::covers`] can tell.
    pub fn contains(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Everything, _) => true,
            (Self::Organization(own), Self::Organization(id) | Self::Unit(id, _)) => own == id,
            (Self::Unit(own, path), Self::Unit(id, unit)) => own == id && path.covers(unit.as_str()),
            (Self::Account(own), Self::Account(id)) => own == id,
            _ => false,
        }
    }

    /// Of two that cover an account, the narrower is the greater.
    pub fn narrowness(&self) -> usize {
        match self {
            Self::Everything => 0,
            Self::Organization(_) => 1,
            Self::Unit(_, path) => 1 + path.0.split('/').count(),
            Self::Account(_) => usize::MAX,
        }
    }
}

impl UnitPath {
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// What the paths of the units within it begin with.
    pub fn within(&self) -> String {
        format!("{}/", self.0)
    }

    fn covers(&self, unit: &str) -> bool {
        unit == self.0 || unit.starts_with(&self.within())
    }
}

impl FromStr for UnitPath {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        let is_path = text.len() <= PATH_MAX && text.split('/').all(|name| !name.trim().is_empty());
        is_path.then(|| Self(text.to_owned())).ok_or(())
    }
}

impl fmt::Display for Scope {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Everything => f.write_str("everything"),
            Self::Organization(id) => write!(f, "organization:{id}"),
            Self::Unit(id, path) => write!(f, "unit:{id}:{}", path.0),
            Self::Account(id) => write!(f, "account:{id}"),
        }
    }
}

impl FromStr for Scope {
    type Err = NotAScope;

    fn from_str(text: &str) -> Result<Self, NotAScope> {
        let (kind, what) = text.split_once(':').unwrap_or((text, ""));
        let scope = match kind {
            "everything" if kind == text => Some(Self::Everything),
            "organization" => what.parse().ok().map(Self::Organization),
            "unit" => what.split_once(':').and_then(|(id, path)| {
                let (id, path) = (id.parse().ok()?, path.parse().ok()?);
                Some(Self::Unit(id, path))
            }),
            "account" => what.parse().ok().map(Self::Account),
            _ => None,
        };
        scope.ok_or_else(|| NotAScope(text.chars().take(200).collect()))
    }
}

impl Serialize for Scope {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Scope {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn organization(number: u128) -> OrganizationId {
        OrganizationId::from_entropy(number)
    }

    fn account(number: u64) -> AccountId {
        format!("{number:012}").parse().unwrap()
    }

    #[test]
    fn the_narrowest_scope_lies_in_all_the_wider_ones() {
        let unit = |path: &str| Scope::Unit(organization(1), path.parse().unwrap());
        let chain = [
            Scope::Everything,
            Scope::Organization(organization(1)),
            unit("Root"),
            unit("Root/Production"),
        ];
        for (wider, narrower) in (0..chain.len()).flat_map(|n| (0..=n).map(move |m| (m, n))) {
            assert!(chain[wider].contains(&chain[narrower]), "{wider} {narrower}");
            assert_eq!(chain[narrower].contains(&chain[wider]), wider == narrower);
            assert_eq!(
                chain[narrower].narrowness() > chain[wider].narrowness(),
                wider < narrower
            );
        }
        assert!(!unit("Root/Prod").contains(&chain[3]));
        let own = Scope::Account(account(1));
        assert!(own.narrowness() > chain[3].narrowness() && own.contains(&own));
        assert!(!own.contains(&Scope::Account(account(2))) && !chain[1].contains(&own));
    }

    #[test]
    fn a_unit_covers_what_is_within_it_and_no_neighbour() {
        let of = |path: &str| Scope::Unit(organization(1), path.parse().unwrap());
        let covers = |scope: &Scope, unit| scope.covers(&account(1), &organization(1), unit);
        let production = of("Root/Production");
        for unit in ["Root/Production", "Root/Production/Web"] {
            assert!(covers(&production, unit), "{unit}");
        }
        for unit in ["Root", "", "Root/Production2", "Root/production", "Production"] {
            assert!(!covers(&production, unit), "{unit}");
        }
        assert!(!production.covers(&account(1), &organization(2), "Root/Production"));
        assert!(covers(&of("Root"), "Root/Production"));
    }

    #[test]
    fn what_is_no_scope_is_refused() {
        for text in [
            "",
            "everything:",
            "everything:x",
            "all",
            "organization:",
            "organization:x",
            "unit:x:Root",
            "account:12",
            "account:2100000000011",
        ] {
            assert!(text.parse::<Scope>().is_err(), "{text}");
        }
        let id = organization(1);
        for path in ["", "/", "Root/", "/Root", "Root//Web", "Root/ "] {
            assert!(format!("unit:{id}:{path}").parse::<Scope>().is_err(), "{path}");
        }
    }

    fn scopes() -> impl Strategy<Value = Scope> {
        prop_oneof![
            Just(Scope::Everything),
            any::<u128>().prop_map(|number| Scope::Organization(organization(number))),
            (any::<u128>(), "[^/ ][^/]{0,20}(/[^/ ][^/]{0,20}){0,3}")
                .prop_map(|(number, path)| (number, path.parse::<UnitPath>()))
                .prop_filter_map("a name of blanks", |(number, path)| Some(Scope::Unit(
                    organization(number),
                    path.ok()?
                ))),
            (0..1_000_000_000_000_u64).prop_map(|number| Scope::Account(account(number))),
        ]
    }

    proptest! {
        #[test]
        fn a_scope_is_read_as_it_is_written(scope in scopes()) {
            prop_assert_eq!(scope.to_string().parse::<Scope>().unwrap(), scope);
        }
    }
}

//! What people give a name, a description and tags, by MGN's limits.

use std::collections::BTreeMap;

use super::ActionError;

const NAME_MAX: usize = 256;
const DESCRIPTION_MAX: usize = 600;
const TAGS_MAX: usize = 50;
const TAG_KEY_MAX: usize = 128;
const TAG_VALUE_MAX: usize = 256;

/// Of something new.
#[derive(Debug, Clone, Default)]
pub struct Naming {
    pub name: String,
    pub description: String,
    pub tags: BTreeMap<String, String>,
}

/// What changes; `None` stays.
#[derive(Debug, Clone, Default)]
pub struct Renaming {
    pub name: Option<String>,
    pub description: Option<String>,
}

impl Naming {
    pub fn check(&self) -> Result<(), ActionError> {
        check_name(&self.name)?;
        check_description(&self.description)?;
        check_tags(&self.tags)
    }
}

impl Renaming {
    pub fn check(&self) -> Result<(), ActionError> {
        self.name.as_deref().map_or(Ok(()), check_name)?;
        self.description.as_deref().map_or(Ok(()), check_description)
    }
}

fn check_name(name: &str) -> Result<(), ActionError> {
    let is_name = !name.trim().is_empty()
        && name.trim() == name
        && name.chars().count() <= NAME_MAX
        && !name.chars().any(char::is_control);
    if is_name {
        return Ok(());
    }
    Err(ActionError::Invalid(format!(
        "a name has 1 to {NAME_MAX} characters, and no blank at either end"
    )))
}

fn check_description(description: &str) -> Result<(), ActionError> {
    if description.chars().count() <= DESCRIPTION_MAX {
        return Ok(());
    }
    Err(ActionError::Invalid(format!(
        "a description has at most {DESCRIPTION_MAX} characters"
    )))
}

pub fn check_tags(tags: &BTreeMap<String, String>) -> Result<(), ActionError> {
    if tags.len() > TAGS_MAX {
        return Err(ActionError::Invalid(format!("there are at most {TAGS_MAX} tags")));
    }
    for (key, value) in tags {
        let length = key.chars().count();
        if !(1..=TAG_KEY_MAX).contains(&length) || value.chars().count() > TAG_VALUE_MAX {
            return Err(ActionError::Invalid(format!(
                "a tag's key has 1 to {TAG_KEY_MAX} characters, and its value at most {TAG_VALUE_MAX}"
            )));
        }
        if key.to_ascii_lowercase().starts_with("aws:") {
            return Err(ActionError::Invalid(format!(
                "tag {key}: keys that begin with aws: are kept by AWS for itself"
            )));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_mgn_would_not_take_is_refused() {
        let tags = |key: &str, value: &str| BTreeMap::from([(key.to_owned(), value.to_owned())]);
        for name in ["", " ", " a", "a\n", &"a".repeat(257)] {
            assert!(check_name(name).is_err(), "{name:?}");
        }
        assert!(check_name(&"é".repeat(256)).is_ok());
        assert!(check_description(&"é".repeat(601)).is_err());
        for (key, value) in [("", ""), ("AWS:x", ""), ("a", &"b".repeat(257))] {
            assert!(check_tags(&tags(key, value)).is_err(), "{key:?}");
        }
        assert!(check_tags(&tags("Owner", "")).is_ok());
    }
}

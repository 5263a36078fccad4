//! Tags, as EC2 has them and as we do.

use aws_sdk_ec2::types::{Filter, ResourceType, Tag, TagSpecification};

use crate::control::{SERVER_TAG, TOKEN_TAG, Tags};

pub(super) fn specification(kind: ResourceType, tags: &Tags) -> TagSpecification {
    let tags = tags
        .iter()
        .map(|(key, value)| Tag::builder().key(key).value(value).build());
    TagSpecification::builder()
        .resource_type(kind)
        .set_tags(Some(tags.collect()))
        .build()
}

pub(super) fn read(tags: &[Tag]) -> Tags {
    let pairs = tags.iter().filter_map(|tag| Some((tag.key()?, tag.value()?)));
    pairs
        .map(|(key, value)| (key.to_owned(), value.to_owned()))
        .collect()
}

pub(super) fn asked_by(token: &str) -> Filter {
    filter(&format!("tag:{TOKEN_TAG}"), token)
}

/// What carries our mark: everything of ours is made for some source server.
pub(super) fn ours() -> Filter {
    filter("tag-key", SERVER_TAG)
}

pub(super) fn filter(name: &str, value: &str) -> Filter {
    one_of(name, &[value.to_owned()])
}

pub(super) fn one_of(name: &str, values: &[String]) -> Filter {
    let values = Some(values.to_vec());
    Filter::builder().name(name).set_values(values).build()
}

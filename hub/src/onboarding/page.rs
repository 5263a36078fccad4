//! The table of permissions as a page for the people who are asked to grant them.

use std::{fs, path::Path};

use clap::ValueEnum as _;
use cloud::control::SERVER_TAG;

use super::{
    TEMPLATE_VERSION,
    permissions::{Condition, Holder, PERMISSIONS, Permission, Resources},
};

fn permissions_page() -> String {
    let mut page = format!(
        "# Permissions in a member account\n\n\
         What hub and runner may do in an account that is onboarded with version {TEMPLATE_VERSION} of the template, \
         and why.\n*Ours* is what carries the tag `{SERVER_TAG}`. A feature is chosen when the template is made.\n",
    );
    let holders = [
        (Holder::Hub, "The hub, by the member role"),
        (Holder::Runner, "The runner, by its instance's role"),
    ];
    for (holder, title) in holders {
        page.extend([
            "\n## ",
            title,
            "\n\n| actions | on | if | feature | why |\n|---|---|---|---|---|\n",
        ]);
        for permission in PERMISSIONS
            .iter()
            .filter(|permission| permission.holder == holder)
        {
            page.push_str(&row(permission));
        }
    }
    page
}

fn row(permission: &Permission) -> String {
    let code = |texts: &[&str]| {
        let texts: Vec<_> = texts.iter().map(|text| format!("`{text}`")).collect();
        texts.join(" ")
    };
    let resources = match permission.resources {
        Resources::All => "everything".to_owned(),
        Resources::These(arns) => code(&arns.iter().map(|arn| resource_of(arn)).collect::<Vec<_>>()),
        Resources::Listed(parameter) => code(&[parameter]),
    };
    let conditions: Vec<_> = permission
        .conditions
        .iter()
        .map(|condition| in_words(*condition))
        .collect();
    let feature = permission.feature.and_then(|feature| feature.to_possible_value());
    let feature = feature.map_or_else(String::new, |value| value.get_name().to_owned());
    format!(
        "| {} | {resources} | {} | {feature} | {} |\n",
        code(permission.actions),
        conditions.join(", "),
        permission.why,
    )
}

/// The last part of an ARN, which is the one with a slash.
fn resource_of(arn: &str) -> &str {
    let slash = arn.find('/').unwrap_or_default();
    let begin = arn[..slash].rfind(':').map_or(0, |colon| colon + 1);
    &arn[begin..]
}

fn in_words(condition: Condition) -> String {
    match condition {
        Condition::Tagged => "it is ours".into(),
        Condition::TaggedNow => "it becomes ours".into(),
        Condition::MadeBy(calls) => format!("while it is made by {}", calls.join(", ")),
        Condition::PassedToEc2 => "for instances".into(),
        Condition::ForAws => "for EBS".into(),
        Condition::Below(prefix) => format!("below `{prefix}`"),
        Condition::InRegions => "in the allowed regions".into(),
    }
}

#[test]
fn the_page_of_permissions_is_that_of_the_table() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/permissions.md");
    let page = permissions_page();
    if std::env::var("INSTA_UPDATE").as_deref() == Ok("always") {
        fs::write(&path, &page).unwrap();
    }
    let written = fs::read_to_string(&path).unwrap_or_default();
    assert!(
        written == page,
        "docs/permissions.md is not of this table: INSTA_UPDATE=always writes it"
    );
}

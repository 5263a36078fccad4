//! The launch configuration of a source server: seen, changed, and checked before it is kept.

use crate::{language::filters, t};
use std::collections::BTreeMap;

use askama::Template;
use axum::{
    Form,
    extract::{Path, State},
    http::StatusCode,
    response::{IntoResponse, Response},
};
use domain::{
    ids::SourceServerId,
    launch::{BootMode, LaunchConfiguration, LaunchDisposition},
};
use serde::Deserialize;

use super::{
    Web, badge,
    form::{self, Control, Subject, Value},
    orders, scopes,
    servers::Choice,
    visit::{Flash, PageError, Shell, Visit},
};
use crate::entities::{source_server::Model, user::UserRole};

mod instance;
mod rehearsal;

#[derive(Debug, Template)]
#[template(path = "launch_configuration/page.html")]
pub struct LaunchPage {
    shell: Shell,
    subject: Subject,
    title: &'static str,
    sentence: String,
    /// Where the template is from.
    place: String,
    has_errors: bool,
    controls: Vec<Control>,
}

/// What the form sends. A box that is not ticked is not sent.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct Given {
    instance_type: String,
    test_subnet: String,
    target_subnet: String,
    disposition: String,
    boot_mode: String,
    copy_private_ip: Option<String>,
    copy_tags: Option<String>,
    tags: String,
    convert: Option<String>,
    #[serde(flatten)]
    instance: instance::Given,
    #[serde(flatten)]
    rehearsal: rehearsal::Given,
}

/// What is wrong with a field, by its name.
pub type Errors = BTreeMap<&'static str, String>;

pub async fn page(visit: Visit, Path(id): Path<SourceServerId>) -> Result<Response, PageError> {
    let server = visit.session.server(&id, UserRole::Operator).await?;
    let given = Given::of(&server.launch_configuration);
    let page = of_server(&visit, &server, &given, &Errors::new()).await?;
    visit.answer(page.render())
}

pub async fn save(
    State(web): State<Web>,
    visit: Visit,
    Path(id): Path<SourceServerId>,
    Form(given): Form<Given>,
) -> Result<Response, PageError> {
    let server = visit.session.server(&id, UserRole::Operator).await?;
    match given.parse() {
        Ok(configuration) => {
            let saved = orders::configure_launch(&web, &visit.session, &server, configuration).await;
            let flash = match saved {
                Ok(()) => Flash::good(t!(
                    "The launch configuration of {server} is saved.",
                    server = server.known_as()
                )),
                Err(refusal) => Flash::bad(refusal),
            };
            Ok(flash.show_at(&format!("/servers/{id}")))
        }
        Err(errors) => {
            let page = of_server(&visit, &server, &given, &errors).await?;
            let page = visit.answer(page.render())?;
            Ok((StatusCode::UNPROCESSABLE_ENTITY, page).into_response())
        }
    }
}

async fn of_server(
    visit: &Visit,
    server: &Model,
    given: &Given,
    errors: &Errors,
) -> Result<LaunchPage, PageError> {
    let store = &visit.session.store;
    let template = store.inherited_by(&server.account).await?;
    let mut controls = controls(given, errors);
    let mut place = None;
    if let Some((scope, template)) = template.launch {
        form::compare(
            &mut controls,
            &self::controls(&Given::of(&template), &Errors::new()),
        );
        place = Some(scopes::place(store, &scope).await?);
    }
    let subject = Subject::server(server, "launch-configuration", place);
    Ok(LaunchPage::new(visit, subject, controls, !errors.is_empty()))
}

/// The form of a template.
pub fn of_template(visit: &Visit, subject: Subject, given: &Given, errors: &Errors) -> LaunchPage {
    LaunchPage::new(visit, subject, controls(given, errors), !errors.is_empty())
}

impl LaunchPage {
    fn new(visit: &Visit, subject: Subject, controls: Vec<Control>, has_errors: bool) -> Self {
        let (title, sentence) = if subject.is_template {
            let sentence = t!(
                "How servers of {name} become instances, if they are added from now on. Those that are there stay as they are until the template is applied to them.",
                name = subject.name
            );
            (t!("Launch template"), sentence)
        } else {
            let sentence = t!(
                "How {name} becomes an instance. A test and a cutover differ in the subnet and in nothing else, so that a test proves something.",
                name = subject.name
            );
            (t!("Launch configuration"), sentence)
        };
        Self {
            shell: subject.shell(visit, format!("{title}: {}", subject.name)),
            place: subject.template.clone().unwrap_or_default(),
            title,
            sentence,
            subject,
            has_errors,
            controls,
        }
    }
}

/// What would change if a server of `from` took over `to`.
pub fn differences(from: &LaunchConfiguration, to: &LaunchConfiguration) -> Vec<String> {
    let controls = |kept| controls(&Given::of(kept), &Errors::new());
    form::differences(&controls(from), &controls(to))
}

impl Given {
    pub fn of(kept: &LaunchConfiguration) -> Self {
        let ticked = |is: bool| is.then(|| "yes".to_owned());
        let tags = kept.tags.iter().map(|(key, value)| format!("{key}={value}"));
        Self {
            instance_type: kept.instance_type.clone(),
            test_subnet: kept.test_subnet.clone(),
            target_subnet: kept.target_subnet.clone(),
            disposition: badge::disposition(kept.disposition).0.into(),
            boot_mode: badge::boot_mode(kept.boot_mode).0.into(),
            copy_private_ip: ticked(kept.copy_private_ip),
            copy_tags: ticked(kept.copy_tags),
            tags: tags.collect::<Vec<_>>().join("\n"),
            convert: ticked(kept.convert),
            instance: instance::Given::of(kept),
            rehearsal: rehearsal::Given::of(kept.rehearsal.as_ref()),
        }
    }

    pub fn parse(&self) -> Result<LaunchConfiguration, Errors> {
        let mut errors = Errors::new();
        let word = |text: &str, more: &str| {
            let text = text.trim();
            let allowed = |c: char| c.is_ascii_alphanumeric() || c == '-' || more.contains(c);
            !text.is_empty() && text.len() <= 255 && text.chars().all(allowed)
        };
        if !word(&self.instance_type, ".") || !self.instance_type.contains('.') {
            errors.insert(
                "instance_type",
                t!("An instance type has a family and a size, like m5.large.").into(),
            );
        }
        for (name, subnet) in [
            ("test_subnet", &self.test_subnet),
            ("target_subnet", &self.target_subnet),
        ] {
            if !word(subnet, "_") {
                let error = t!("Give the subnet's id: letters, digits, hyphens and underscores.");
                errors.insert(name, error.into());
            }
        }
        let disposition = [LaunchDisposition::Started, LaunchDisposition::Stopped]
            .into_iter()
            .find(|one| badge::disposition(*one).0 == self.disposition);
        let boot_mode = BOOT_MODES
            .into_iter()
            .find(|one| badge::boot_mode(*one).0 == self.boot_mode);
        let tags = match parse_tags(&self.tags) {
            Ok(tags) => tags,
            Err(error) => {
                errors.insert("tags", error);
                BTreeMap::new()
            }
        };
        let rehearsal = match self.rehearsal.parse() {
            Ok(rehearsal) => rehearsal,
            Err((field, error)) => {
                errors.insert(field, error);
                None
            }
        };
        let mut configuration = LaunchConfiguration {
            instance_type: self.instance_type.trim().into(),
            test_subnet: self.test_subnet.trim().into(),
            target_subnet: self.target_subnet.trim().into(),
            disposition: disposition.unwrap_or(LaunchDisposition::Started),
            boot_mode: boot_mode.unwrap_or(BootMode::UseSource),
            copy_private_ip: self.copy_private_ip.is_some(),
            copy_tags: self.copy_tags.is_some(),
            tags,
            convert: self.convert.is_some(),
            rehearsal,
            ..LaunchConfiguration::default()
        };
        self.instance.apply(&mut configuration, &mut errors);
        if errors.is_empty() {
            Ok(configuration)
        } else {
            Err(errors)
        }
    }
}

const BOOT_MODES: [BootMode; 3] = [BootMode::UseSource, BootMode::LegacyBios, BootMode::Uefi];

/// Limits of EC2: fifty tags, keys of 128 characters, values of 256, and `aws:` is AWS's own.
fn parse_tags(text: &str) -> Result<BTreeMap<String, String>, String> {
    let mut tags = BTreeMap::new();
    for line in text.lines().map(str::trim).filter(|line| !line.is_empty()) {
        let Some((key, value)) = line.split_once('=') else {
            return Err(t!("“{line}” has no equals sign: write key=value.", line));
        };
        let (key, value) = (key.trim(), value.trim());
        if key.is_empty() || key.chars().count() > 128 || value.chars().count() > 256 {
            return Err(t!(
                "“{line}”: a key has 1 to 128 characters, a value at most 256.",
                line
            ));
        }
        if key.to_ascii_lowercase().starts_with("aws:") {
            return Err(t!("“{key}” begins with aws:, which AWS keeps for itself.", key));
        }
        if tags.insert(key.to_owned(), value.to_owned()).is_some() {
            return Err(t!("“{key}” is there twice.", key));
        }
    }
    if tags.len() > 50 {
        return Err(t!("At most fifty tags are allowed.").into());
    }
    Ok(tags)
}

fn controls(given: &Given, errors: &Errors) -> Vec<Control> {
    let required = |name, label, hint, value: &str| Control {
        required: true,
        ..Control::new(name, label, hint, Value::Text(value.into()))
    };
    let choice = |(value, label): (&str, &str), chosen: &str| Choice {
        value: value.into(),
        label: label.into(),
        selected: value == chosen,
    };
    let dispositions = [LaunchDisposition::Started, LaunchDisposition::Stopped]
        .map(|one| choice(badge::disposition(one), &given.disposition));
    let boot_modes = BOOT_MODES.map(|one| choice(badge::boot_mode(one), &given.boot_mode));
    let mut controls = vec![
        required(
            "instance_type",
            t!("Instance type"),
            t!("Family and size, like m5.large."),
            &given.instance_type,
        ),
        required(
            "test_subnet",
            t!("Test subnet"),
            t!("Where test instances start, apart from production."),
            &given.test_subnet,
        ),
        required(
            "target_subnet",
            t!("Target subnet"),
            t!("Where the cutover instance starts."),
            &given.target_subnet,
        ),
    ];
    controls.extend(given.instance.controls());
    controls.extend([
        Control::new(
            "disposition",
            t!("After launch"),
            t!("A stopped instance can be looked at before it first runs."),
            Value::Choice(dispositions.into()),
        ),
        Control::new(
            "boot_mode",
            t!("Boot mode"),
            t!("As the source, unless the instance type cannot."),
            Value::Choice(boot_modes.into()),
        ),
        Control::new(
            "copy_private_ip",
            t!("Keep the private IP address"),
            t!("The source's primary address; it must lie within the subnet."),
            Value::Check(given.copy_private_ip.is_some()),
        ),
        Control::new(
            "copy_tags",
            t!("Copy the source server's tags"),
            t!("In addition to the tags below."),
            Value::Check(given.copy_tags.is_some()),
        ),
        Control::new(
            "tags",
            t!("Tags"),
            t!("One per line, key=value."),
            Value::Lines(given.tags.clone()),
        ),
        Control::new(
            "convert",
            t!("Convert the disks to boot as an instance"),
            t!(
                "Drivers, boot loader, network and consoles; every change is listed. Switch it off for disks without an operating system."
            ),
            Value::Check(given.convert.is_some()),
        ),
    ]);
    controls.extend(given.rehearsal.controls());
    for control in &mut controls {
        control.error = errors.get(control.name).cloned();
    }
    controls
}

#[cfg(test)]
mod tests {
    use domain::launch::{Expects, Probe, RehearsalSettings};

    use super::*;

    #[test]
    fn what_is_shown_can_be_saved_unchanged() {
        let kept = LaunchConfiguration {
            tags: [("Name".to_owned(), "a=b".to_owned())].into(),
            copy_private_ip: true,
            convert: false,
            rehearsal: Some(RehearsalSettings {
                time_limit_s: 120,
                probe: Some(Probe {
                    port: 8080,
                    expects: Expects::Http {
                        path: "/health".into(),
                        status: 204,
                    },
                }),
            }),
            ..LaunchConfiguration::default()
        };
        assert_eq!(Given::of(&kept).parse(), Ok(kept));
        let usual = LaunchConfiguration::default();
        assert_eq!(Given::of(&usual).parse(), Ok(usual));
    }

    #[test]
    fn every_wrong_field_is_named() {
        let wrong = Given {
            instance_type: "large".into(),
            test_subnet: String::new(),
            target_subnet: "a b".into(),
            tags: "aws:x=1".into(),
            ..Given::default()
        };
        let errors = wrong.parse().unwrap_err();
        let named: Vec<_> = errors.keys().copied().collect();
        assert_eq!(named, ["instance_type", "tags", "target_subnet", "test_subnet"]);
        assert!(parse_tags("a").unwrap_err().contains("equals sign"));
        assert!(parse_tags("a=1\na=2").unwrap_err().contains("twice"));
    }
}

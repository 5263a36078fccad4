//! Controls of a form, and whose configuration it changes: a source server's, or a template.

use domain::scope::Scope;

use super::{
    servers::Choice,
    visit::{Section, Shell, Visit, encode},
};
use crate::{entities::source_server::Model, t};

#[derive(Debug)]
pub struct Control {
    pub name: &'static str,
    pub label: &'static str,
    pub hint: &'static str,
    pub value: Value,
    pub required: bool,
    pub error: Option<String>,
    /// What the template says, where that is something else.
    pub template: Option<String>,
}

#[derive(Debug)]
pub enum Value {
    Text(String),
    Lines(String),
    Choice(Vec<Choice>),
    Check(bool),
}

impl Control {
    pub fn new(name: &'static str, label: &'static str, hint: &'static str, value: Value) -> Self {
        Self {
            name,
            label,
            hint,
            value,
            required: false,
            error: None,
            template: None,
        }
    }

    /// As people read it.
    fn shown(&self) -> String {
        let chosen = match &self.value {
            Value::Text(text) | Value::Lines(text) => text.lines().collect::<Vec<_>>().join(", "),
            Value::Check(true) => t!("yes").into(),
            Value::Check(false) => t!("no").into(),
            Value::Choice(choices) => {
                let chosen = choices.iter().find(|choice| choice.selected);
                chosen.map_or_else(String::new, |choice| choice.label.clone())
            }
        };
        if chosen.is_empty() {
            t!("nothing").into()
        } else {
            chosen
        }
    }
}

/// Notes in `controls` where the same ones of a template say something else.
pub fn compare(controls: &mut [Control], template: &[Control]) {
    for (control, template) in controls.iter_mut().zip(template) {
        let says = template.shown();
        control.template = (control.shown() != says).then_some(says);
    }
}

/// `Instance type: m5.large → r5.large`, for each control that says something else in `to`.
pub fn differences(from: &[Control], to: &[Control]) -> Vec<String> {
    let pairs = from.iter().map(Control::shown).zip(to);
    let differing = pairs.filter(|(from, to)| *from != to.shown());
    differing
        .map(|(from, to)| format!("{}: {from} → {}", to.label, to.shown()))
        .collect()
}

/// Whose configuration a form changes.
#[derive(Debug)]
pub struct Subject {
    pub crumbs: Vec<(String, String)>,
    /// Of whom, in the sentence below the title.
    pub name: String,
    pub is_template: bool,
    /// Where the form is sent.
    pub save: String,
    pub back: String,
    /// Where the template of a server is from.
    pub template: Option<String>,
    section: Section,
    events: String,
}

impl Subject {
    pub fn server(server: &Model, what: &str, template: Option<String>) -> Self {
        let back = format!("/servers/{}", server.id);
        Self {
            crumbs: vec![
                (t!("Source servers").into(), "/servers".into()),
                (server.known_as().to_owned(), back.clone()),
            ],
            name: server.known_as().to_owned(),
            is_template: false,
            save: format!("{back}/{what}"),
            back,
            template,
            section: Section::Servers,
            events: format!("/events?server={}", server.id),
        }
    }

    pub fn template(scope: &Scope, place: String, what: &str) -> Self {
        Self {
            crumbs: vec![(t!("Settings").into(), "/settings".into())],
            name: place,
            is_template: true,
            save: format!("/settings/templates/{what}?scope={}", encode(&scope.to_string())),
            back: "/settings".into(),
            template: None,
            section: Section::Settings,
            events: "/events".into(),
        }
    }

    pub fn shell(&self, visit: &Visit, title: String) -> Shell {
        visit.shell(title, self.section, self.events.clone())
    }
}

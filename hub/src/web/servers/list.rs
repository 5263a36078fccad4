//! How somebody wants to see the list of source servers: its columns, and filters to come back to.

use axum::{Form, extract::State, response::Response};
use serde::Deserialize;

use super::{Choice, ListColumn};
use crate::{
    actions::profile,
    entities::user::Preferences,
    language::translated_static,
    mark, t,
    web::{
        Web,
        visit::{Flash, PageError, Visit},
    },
};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Column {
    pub name: &'static str,
    label: &'static str,
    class: &'static str,
    is_sorted: bool,
    is_usual: bool,
}

const fn column(name: &'static str, label: &'static str) -> Column {
    Column {
        name,
        label,
        class: "",
        is_sorted: false,
        is_usual: false,
    }
}

impl Column {
    const fn usual(self) -> Self {
        Self {
            is_usual: true,
            ..self
        }
    }

    const fn sorted(self) -> Self {
        Self {
            is_sorted: true,
            ..self
        }
    }

    const fn with(self, class: &'static str) -> Self {
        Self { class, ..self }
    }

    /// `order`: what the list is sorted by, and whether descending; `at`: the address of the list sorted otherwise.
    pub fn head(self, order: (&str, bool), at: impl Fn(&str) -> String) -> ListColumn {
        let (by, descending) = order;
        let current = self.is_sorted && self.name == by;
        let turned = if current && !descending {
            format!("-{}", self.name)
        } else {
            self.name.to_owned()
        };
        ListColumn {
            href: self.is_sorted.then(|| at(&turned)),
            current,
            direction: if descending { "descending" } else { "ascending" },
            arrow: match (current, descending) {
                (true, false) => " ↑",
                (true, true) => " ↓",
                (false, _) => "",
            },
            ..self.plain()
        }
    }

    /// Of a list that is not sorted.
    pub fn plain(self) -> ListColumn {
        ListColumn {
            name: self.name,
            label: translated_static(self.label),
            class: self.class,
            href: None,
            current: false,
            direction: "",
            arrow: "",
        }
    }
}

/// In the order in which they are shown. The first cannot be left out.
pub const COLUMNS: [Column; 13] = [
    column("name", mark!("Server")).sorted().usual(),
    column("account", mark!("Account")).with("wide").sorted().usual(),
    column("application", mark!("Application")),
    column("state", mark!("Life cycle")).sorted().usual(),
    column("replication", mark!("Data replication")).sorted().usual(),
    column("progress", mark!("Progress")).usual(),
    column("lag", mark!("Lag")).with("num").sorted().usual(),
    column("instance", mark!("Instance type")),
    column("machine", mark!("Processors and memory")),
    column("system", mark!("System")).with("wide").usual(),
    column("tags", mark!("Tags")),
    column("own", mark!("ID of your own")),
    column("seen", mark!("Last seen")),
];

pub fn chosen(preferences: &Preferences) -> impl Iterator<Item = Column> {
    COLUMNS.into_iter().filter(|column| match &preferences.columns {
        None => column.is_usual,
        Some(names) => column.name == "name" || names.iter().any(|name| name == column.name),
    })
}

pub fn column_choices(preferences: &Preferences) -> Vec<Choice> {
    let shown: Vec<_> = chosen(preferences).collect();
    let choosable = COLUMNS.iter().skip(1);
    choosable
        .map(|column| Choice {
            value: column.name.into(),
            label: translated_static(column.label).into(),
            selected: shown.contains(column),
        })
        .collect()
}

/// The list, filtered as before.
fn back_to(query: &str) -> String {
    if query.is_empty() {
        "/servers".into()
    } else {
        format!("/servers?{query}")
    }
}

pub async fn choose_columns(
    State(web): State<Web>,
    visit: Visit,
    Form(fields): Form<Vec<(String, String)>>,
) -> Result<Response, PageError> {
    let of = |name: &'static str| {
        let fields = fields.iter().filter(move |(field, _)| field == name);
        fields.map(|(_, value)| value.as_str())
    };
    let is_known = |name: &str| COLUMNS.iter().any(|column| column.name == name);
    if let Some(unknown) = of("column").find(|name| !is_known(name)) {
        return Err(PageError::Invalid(t!(
            "There is no column “{name}”.",
            name = unknown
        )));
    }
    let columns = (of("usual").next().is_none()).then(|| of("column").map(str::to_owned).collect());
    profile::set_columns(&web.hub, &visit.session.actor, columns).await?;
    Ok(Flash::good(t!("The columns are as you chose.")).show_at(&back_to(of("query").next().unwrap_or(""))))
}

#[derive(Debug, Deserialize)]
pub struct Filter {
    name: String,
    #[serde(default)]
    query: String,
}

pub async fn save_filter(
    State(web): State<Web>,
    visit: Visit,
    Form(filter): Form<Filter>,
) -> Result<Response, PageError> {
    profile::save_filter(&web.hub, &visit.session.actor, &filter.name, &filter.query).await?;
    let saved = t!(
        "“{name}” is saved; it is above the list, and Ctrl-K finds it.",
        name = filter.name.trim()
    );
    Ok(Flash::good(saved).show_at(&back_to(&filter.query)))
}

pub async fn remove_filter(
    State(web): State<Web>,
    visit: Visit,
    Form(filter): Form<Filter>,
) -> Result<Response, PageError> {
    profile::remove_filter(&web.hub, &visit.session.actor, &filter.name).await?;
    let removed = t!("“{name}” is removed.", name = filter.name);
    Ok(Flash::good(removed).show_at(&back_to(&filter.query)))
}

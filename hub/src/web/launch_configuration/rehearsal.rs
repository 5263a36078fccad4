//! The part of the form that says whether and how converted disks are rehearsed.

use crate::{language::translated_static, mark, t};
use domain::launch::{Expects, Probe, REHEARSAL_S, RehearsalSettings};
use serde::Deserialize;

use crate::web::{
    form::{Control, Value},
    servers::Choice,
};

/// What the form sends. What is not asked for is sent too, and ignored.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct Given {
    rehearse: Option<String>,
    rehearsal_time_limit: String,
    probe: String,
    probe_port: String,
    probe_path: String,
    probe_status: String,
}

/// Of a probe, as the form names them.
const PROBES: [(&str, &str); 3] = [
    ("none", mark!("Nothing: what the machine says of itself decides")),
    ("tcp", mark!("A TCP port that accepts a connection")),
    ("http", mark!("A request by HTTP that is answered")),
];

impl Given {
    pub fn of(kept: Option<&RehearsalSettings>) -> Self {
        let usual = RehearsalSettings::default();
        let settings = kept.unwrap_or(&usual);
        let (probe, port, path, status) = match &settings.probe {
            None => ("none", 80, "/", 200),
            Some(Probe {
                port,
                expects: Expects::Tcp,
            }) => ("tcp", *port, "/", 200),
            Some(Probe {
                port,
                expects: Expects::Http { path, status },
            }) => ("http", *port, path.as_str(), *status),
        };
        Self {
            rehearse: kept.map(|_| "yes".into()),
            rehearsal_time_limit: settings.time_limit_s.to_string(),
            probe: probe.into(),
            probe_port: port.to_string(),
            probe_path: path.into(),
            probe_status: status.to_string(),
        }
    }

    /// The settings, or what is wrong with which field.
    pub fn parse(&self) -> Result<Option<RehearsalSettings>, (&'static str, String)> {
        if self.rehearse.is_none() {
            return Ok(None);
        }
        let time_limit_s = self.rehearsal_time_limit.trim().parse();
        let time_limit_s = time_limit_s.ok().filter(|limit| REHEARSAL_S.contains(limit));
        let time_limit_s = time_limit_s.ok_or((
            "rehearsal_time_limit",
            t!("A rehearsal may take 30 to 3600 seconds.").to_owned(),
        ))?;
        let probe =
            match self.probe.as_str() {
                "tcp" => Some(self.probe_of(Expects::Tcp)?),
                "http" => {
                    let status = self.probe_status.trim().parse();
                    Some(self.probe_of(Expects::Http {
                        path: self.probe_path.trim().into(),
                        status:
                            status.map_err(|_| {
                                ("probe_status", t!("An HTTP status is 100 to 599.").to_owned())
                            })?,
                    })?)
                }
                _ => None,
            };
        let settings = RehearsalSettings { time_limit_s, probe };
        match settings.check() {
            Ok(()) => Ok(Some(settings)),
            Err(wrong) => Err(("probe_path", t!("It cannot be asked for: {wrong}.", wrong))),
        }
    }

    fn probe_of(&self, expects: Expects) -> Result<Probe, (&'static str, String)> {
        match self.probe_port.trim().parse() {
            Ok(port) if port > 0 => Ok(Probe { port, expects }),
            _ => Err(("probe_port", t!("A port is 1 to 65535.").to_owned())),
        }
    }

    pub fn controls(&self) -> Vec<Control> {
        let text =
            |name, label, hint, value: &str| Control::new(name, label, hint, Value::Text(value.into()));
        let probes = PROBES.map(|(value, label)| Choice {
            value: value.into(),
            label: translated_static(label).into(),
            selected: value == self.probe,
        });
        vec![
            Control::new(
                "rehearse",
                t!("Rehearse: boot the converted disks before anything is launched"),
                t!(
                    "On the runner, away from every network. If the machine does not come up, nothing is launched."
                ),
                Value::Check(self.rehearse.is_some()),
            ),
            Control::new(
                "probe",
                t!("What has to answer in a rehearsal"),
                t!("Asked through a port of its own; the machine reaches nothing."),
                Value::Choice(probes.into()),
            ),
            text(
                "probe_port",
                t!("Port"),
                t!("Where it listens inside the machine."),
                &self.probe_port,
            ),
            text(
                "probe_path",
                t!("Path"),
                t!("Of a request by HTTP."),
                &self.probe_path,
            ),
            text(
                "probe_status",
                t!("Status"),
                t!("With which a request by HTTP is to be answered."),
                &self.probe_status,
            ),
            text(
                "rehearsal_time_limit",
                t!("Time limit in seconds"),
                t!("30 to 3600. A machine that is translated instruction by instruction boots slowly."),
                &self.rehearsal_time_limit,
            ),
        ]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wrong_field_is_named_and_one_that_is_not_asked_for_is_ignored() {
        let good = Given {
            rehearse: Some("yes".into()),
            probe: "http".into(),
            ..Given::of(None)
        };
        assert!(good.parse().unwrap().is_some());
        for (wrong, field) in [
            (
                Given {
                    rehearsal_time_limit: "29".into(),
                    ..good.clone()
                },
                "rehearsal_time_limit",
            ),
            (
                Given {
                    probe_port: "0".into(),
                    ..good.clone()
                },
                "probe_port",
            ),
            (
                Given {
                    probe_path: "no slash".into(),
                    ..good.clone()
                },
                "probe_path",
            ),
            (
                Given {
                    probe_status: "ok".into(),
                    ..good.clone()
                },
                "probe_status",
            ),
        ] {
            assert_eq!(wrong.parse().unwrap_err().0, field);
            let not_rehearsed = Given {
                rehearse: None,
                ..wrong
            };
            assert_eq!(not_rehearsed.parse(), Ok(None));
        }
    }
}

//! How data flows, in words: what is measured, what the rest waits for, whether it will ever be done, and
//! how changes are found on each disk.

use crate::t;
use domain::{
    disk::Tracking,
    flow::{Flow, Forecast, Hop},
};

use crate::web::{
    overview::{Fact, fact},
    text,
};

/// What to expect. `class` is that of a notice; without one it is a quiet line.
#[derive(Debug, PartialEq, Eq)]
pub struct Outlook {
    pub class: &'static str,
    pub title: String,
    pub text: String,
}

/// How changes are found on a disk.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Found {
    pub label: String,
    pub class: &'static str,
    /// Why it is not tracked, and what to do about it.
    pub note: String,
}

pub fn facts(flow: &Flow) -> Vec<Fact> {
    let rate = |bytes_s| format!("{}/s", text::bytes(bytes_s));
    vec![
        fact(t!("Written"), rate(flow.written_bytes_s)),
        fact(t!("Sent"), rate(flow.copied_bytes_s)),
        fact(t!("On the wire"), text::mbit_s(flow.wire_bytes_s)),
        fact(
            t!("Limit"),
            flow.limit_mbit_s
                .map_or_else(|| t!("none").into(), |limit| format!("{limit} Mbit/s")),
        ),
    ]
}

/// `None` while there is nothing to wait for.
pub fn outlook(flow: &Flow) -> Option<Outlook> {
    let waits = flow.bottleneck.map(|hop| waits_for(hop, flow));
    let quiet = |title: String| Outlook {
        class: "",
        title,
        text: String::new(),
    };
    match (flow.forecast, waits) {
        (Some(Forecast::Diverges { needed_mbit_s }), waits) => Some(Outlook {
            class: "warn",
            title: t!("Will not converge below {needed_mbit_s} Mbit/s.", needed_mbit_s),
            text: match waits {
                Some(waits) => t!(
                    "More is written on the source than gets through: {waits}. {remedy}",
                    waits,
                    remedy = remedy(flow)
                ),
                None => t!("More is written on the source than gets through.").into(),
            },
        }),
        (Some(Forecast::Converges { seconds }), waits) => {
            let left = i64::try_from(seconds).unwrap_or(i64::MAX).saturating_mul(1000);
            let done = t!("Done in about {time}", time = text::about(left));
            Some(quiet(waits.map_or_else(
                || format!("{done}."),
                |waits| format!("{done}: {waits}."),
            )))
        }
        (None, Some(waits)) => Some(quiet(t!(
            "Replication {what}.",
            what = waits.trim_start_matches("it ")
        ))),
        (None, None) => None,
    }
}

fn waits_for(hop: Hop, flow: &Flow) -> &'static str {
    match hop {
        Hop::Disk => t!("it waits for the source's disks"),
        Hop::Cpu => t!("it waits for the source's processors"),
        Hop::Link if is_at_limit(flow) => t!("it waits for the bandwidth limit"),
        Hop::Link => t!("it waits for the network"),
        Hop::Runner => t!("it waits for the runner"),
    }
}

/// What a person could do so that it converges.
fn remedy(flow: &Flow) -> &'static str {
    match flow.bottleneck {
        Some(Hop::Disk) => {
            t!("Reading competes with what the source itself does; move other load away from its disks.")
        }
        Some(Hop::Cpu) => t!("Give the source more processor time, or move other load away from it."),
        Some(Hop::Link) if is_at_limit(flow) => t!("Raise the limit under Bandwidth."),
        Some(Hop::Link) => t!("Widen the network between the source and the runner, or let less be written."),
        Some(Hop::Runner) => {
            t!("Give the runner a larger instance, or move other servers to another runner.")
        }
        None => "",
    }
}

/// The limit is used up but for a tenth, which the shares of several connections may leave.
fn is_at_limit(flow: &Flow) -> bool {
    flow.limit_mbit_s
        .is_some_and(|limit| u128::from(flow.wire_bytes_s) * 8 * 10 >= u128::from(limit) * 1_000_000 * 9)
}

pub fn found(tracking: Option<&Tracking>) -> Found {
    match tracking {
        None => Found {
            label: "–".into(),
            ..Found::default()
        },
        Some(Tracking::Tracker { chunk_bytes }) => Found {
            label: t!(
                "Tracked in {size} chunks",
                size = text::bytes(*chunk_bytes).replace(".0 ", " ")
            ),
            ..Found::default()
        },
        Some(Tracking::Rescan { reason, remedy }) => Found {
            label: t!("Compared for each checkpoint").into(),
            class: if remedy.is_some() { "warn" } else { "" },
            note: match remedy {
                Some(remedy) => format!("{}. {}", sentence(reason), sentence(remedy)),
                None => sentence(reason),
            },
        },
        Some(Tracking::Suspect { doubt }) => Found {
            label: t!("Suspect: compared once").into(),
            class: "warn",
            note: sentence(doubt),
        },
    }
}

/// With a capital letter, and without the full stop that may be there or not.
fn sentence(text: &str) -> String {
    let mut letters = text.trim_end_matches('.').chars();
    match letters.next() {
        Some(first) => first.to_uppercase().chain(letters).collect(),
        None => String::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn flow(forecast: Option<Forecast>, bottleneck: Option<Hop>) -> Flow {
        Flow {
            wire_bytes_s: 4_000_000,
            forecast,
            bottleneck,
            ..Flow::default()
        }
    }

    #[test]
    fn an_end_in_sight_is_a_quiet_line() {
        let soon = Some(Forecast::Converges { seconds: 175 });
        let title = |flow: &Flow| outlook(flow).map(|outlook| (outlook.class, outlook.title));
        assert_eq!(
            title(&flow(soon, Some(Hop::Link))),
            Some(("", "Done in about 3 min: it waits for the network.".into()))
        );
        assert_eq!(
            title(&flow(soon, None)),
            Some(("", "Done in about 3 min.".into()))
        );
        assert_eq!(
            title(&flow(None, Some(Hop::Runner))),
            Some(("", "Replication waits for the runner.".into()))
        );
        assert_eq!(title(&flow(None, None)), None);
        let never = Some(Forecast::Converges { seconds: u64::MAX });
        assert!(title(&flow(never, None)).is_some());
    }

    #[test]
    fn what_never_ends_says_what_would_change_it() {
        let diverges = Some(Forecast::Diverges { needed_mbit_s: 34 });
        let link = outlook(&flow(diverges, Some(Hop::Link))).unwrap();
        assert_eq!(
            (link.class, link.title.as_str()),
            ("warn", "Will not converge below 34 Mbit/s.")
        );
        assert!(
            link.text.contains("the network") && link.text.contains("Widen"),
            "{}",
            link.text
        );
        // 32 Mbit/s are on the wire.
        let limited = |limit| Flow {
            limit_mbit_s: Some(limit),
            ..flow(diverges, Some(Hop::Link))
        };
        assert!(outlook(&limited(34)).unwrap().text.contains("Raise the limit"));
        assert!(outlook(&limited(100)).unwrap().text.contains("Widen"));
    }

    #[test]
    fn how_changes_are_found_is_said_with_its_reason() {
        let tracked = found(Some(&Tracking::Tracker { chunk_bytes: 4096 }));
        assert_eq!(tracked.label, "Tracked in 4 KiB chunks");
        let compared = |remedy: Option<&str>| {
            found(Some(&Tracking::Rescan {
                reason: "the kernel is locked down".into(),
                remedy: remedy.map(str::to_owned),
            }))
        };
        assert_eq!(
            (compared(None).class, compared(None).note.as_str()),
            ("", "The kernel is locked down")
        );
        let curable = compared(Some("boot without lockdown."));
        assert_eq!(
            (curable.class, curable.note.as_str()),
            ("warn", "The kernel is locked down. Boot without lockdown")
        );
        let doubt = "the program was detached".into();
        assert_eq!(
            found(Some(&Tracking::Suspect { doubt })).note,
            "The program was detached"
        );
    }
}

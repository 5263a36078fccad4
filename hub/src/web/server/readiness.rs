//! Boot readiness: what the last look at a checkpoint found out about booting elsewhere.

use crate::t;
use domain::{
    conversion::Inspection,
    readiness::{Class, Finding},
};

use crate::{
    entities::source_server::Model,
    web::{
        badge::{self, Badge},
        text::{self, Moment},
    },
};

#[derive(Debug)]
pub struct Card {
    pub badge: Badge,
    pub looked: Option<Looked>,
    pub findings: Vec<FindingRow>,
    pub empty_title: &'static str,
    pub empty_text: &'static str,
}

#[derive(Debug)]
pub struct Looked {
    pub checkpoint: String,
    pub at: Moment,
    pub ago: String,
}

#[derive(Debug)]
pub struct FindingRow {
    pub class: Badge,
    pub code: String,
    pub text: String,
    pub remedy: Option<String>,
}

/// `None` once it does not matter any more.
pub fn card(server: &Model, now: i64) -> Option<Card> {
    if server.lifecycle.is_final() {
        return None;
    }
    let (empty_title, empty_text) = match server.inspection.0 {
        None => (
            t!("Not looked at yet"),
            t!(
                "The runner looks at the first checkpoint that can be launched, and then says here what would keep it from booting as an instance, days before anybody cuts over."
            ),
        ),
        Some(_) => (
            t!("Nothing found"),
            t!("The last look at a checkpoint found nothing that conversion would have to take care of."),
        ),
    };
    Some(Card {
        badge: badge::readiness(server.readiness.0),
        looked: server.inspection.as_ref().map(|inspection| Looked {
            checkpoint: inspection.checkpoint.to_string(),
            at: text::moment(inspection.at_ms),
            ago: text::ago(inspection.at_ms, now),
        }),
        findings: server.inspection.as_ref().map(rows).unwrap_or_default(),
        empty_title,
        empty_text,
    })
}

fn rows(inspection: &Inspection) -> Vec<FindingRow> {
    let mut findings: Vec<&Finding> = inspection.findings.iter().collect();
    findings.sort_by_key(|finding| finding.class);
    let row = |finding: &Finding| FindingRow {
        class: badge::finding(finding.class),
        code: finding.code.clone(),
        text: finding.text.clone(),
        remedy: finding.remedy.clone(),
    };
    findings.into_iter().map(row).collect()
}

/// What would keep an instance from booting, as far as it is known, for those who are about to launch one.
pub fn blocking(server: &Model) -> Vec<String> {
    let findings = server.inspection.iter().flat_map(|seen| &seen.findings);
    findings
        .filter(|finding| finding.class == Class::Blocks)
        .map(|finding| match &finding.remedy {
            Some(remedy) => format!("{} {remedy}", finding.text),
            None => finding.text.clone(),
        })
        .collect()
}

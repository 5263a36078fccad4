//! The audit log as a file.

use chrono::{DateTime, SecondsFormat};
use serde::Deserialize;

use crate::{
    entities::audit::Model as Entry,
    spreadsheet::{self, BYTE_ORDER_MARK},
};

#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum Format {
    /// One JSON object for each entry, with its hash.
    Jsonl,
    /// For a spreadsheet.
    Csv,
}

impl Format {
    pub fn media_type(self) -> &'static str {
        match self {
            Self::Jsonl => "application/jsonl",
            Self::Csv => "text/csv; charset=utf-8",
        }
    }

    pub fn extension(self) -> &'static str {
        match self {
            Self::Jsonl => "jsonl",
            Self::Csv => "csv",
        }
    }

    /// What stands before the first entry.
    pub fn head(self) -> String {
        match self {
            Self::Jsonl => String::new(),
            Self::Csv => {
                let columns = [
                    "sequence", "at", "actor", "address", "action", "subject", "outcome", "detail", "hash",
                ];
                format!("{BYTE_ORDER_MARK}{}", spreadsheet::row(columns))
            }
        }
    }

    pub fn line(self, entry: &Entry) -> String {
        match self {
            Self::Jsonl => {
                let json = serde_json::to_string(entry).expect("an entry is numbers and texts");
                format!("{json}\n")
            }
            Self::Csv => {
                let at = DateTime::from_timestamp_millis(entry.at)
                    .unwrap_or_default()
                    .to_rfc3339_opts(SecondsFormat::Millis, true);
                spreadsheet::row([
                    &entry.sequence.to_string(),
                    &at,
                    &entry.actor,
                    &entry.address,
                    &entry.action,
                    &entry.subject,
                    entry.outcome.name(),
                    &entry.detail,
                    &entry.hash,
                ])
            }
        }
    }
}

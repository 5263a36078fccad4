//! The CSV by which MGN takes and gives its inventory: accounts, waves, applications, servers, launch settings.
//!
//! ```text
//! bytes ─▶ text ([encoding]) ─▶ cells, each checked by its column ([sheet], [column])
//!       ─▶ what is said of each wave, application and server ([plan]) ─▶ what changes ([apply])
//! ```
//!
//! Every fault is found before anything is written, and is said of the cell that it is in. Rows that speak of the same
//! application or server are one group, of which all is done or nothing.

pub mod apply;
mod change;
pub mod column;
pub mod encoding;
pub mod export;
pub mod plan;
pub mod sheet;
#[cfg(test)]
mod tests;

use serde::{Deserialize, Serialize};

/// What is wrong, and where a spreadsheet shows it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Fault {
    /// The header is row 1.
    pub row: usize,
    /// Empty where the whole row is at fault.
    pub column: String,
    pub value: String,
    pub message: String,
}

impl Fault {
    pub fn of_row(row: usize, message: impl Into<String>) -> Self {
        Self {
            row,
            column: String::new(),
            value: String::new(),
            message: message.into(),
        }
    }

    pub fn of_cell(row: usize, column: &column::Column, value: &str, message: impl Into<String>) -> Self {
        Self {
            row,
            column: column.to_string(),
            value: value.chars().take(100).collect(),
            message: message.into(),
        }
    }
}

//! The cells of a file: which columns there are, and what each row says in them.
//!
//! What begins like a formula is written with an apostrophe before it, so that no spreadsheet computes it, and is read
//! without: the pair loses nothing, see [`guarded`] and [`unguarded`].

use std::collections::{BTreeMap, BTreeSet};

use super::{Fault, column::Column};
use crate::spreadsheet::BYTE_ORDER_MARK;

const ROWS_MAX: usize = 50_000;
const COLUMNS_MAX: usize = 300;
/// Nobody reads more.
const FAULTS_MAX: usize = 1000;

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Cell {
    Set(String),
    Reset,
    DeleteTag,
}

pub const RESET: &str = "[RESET_VALUE]";
pub const DELETE_TAG: &str = "[DELETE_TAG]";

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Row {
    /// As a spreadsheet counts: the header is row 1.
    pub number: usize,
    /// What is empty is not there.
    pub cells: BTreeMap<Column, Cell>,
}

#[derive(Debug, Default, PartialEq, Eq)]
pub struct Sheet {
    pub rows: Vec<Row>,
    pub faults: Vec<Fault>,
}

pub fn read(text: &str) -> Sheet {
    let text = text.strip_prefix(BYTE_ORDER_MARK).unwrap_or(text);
    let mut reader = csv::ReaderBuilder::new()
        .has_headers(false)
        .flexible(true)
        .from_reader(text.as_bytes());
    let mut sheet = Sheet::default();
    let mut records = reader.records();
    let columns = match records.next() {
        Some(Ok(header)) => header_of(&header, &mut sheet.faults),
        Some(Err(error)) => {
            sheet.faults.push(Fault::of_row(1, error.to_string()));
            return sheet;
        }
        None => {
            sheet.faults.push(Fault::of_row(
                1,
                "the file is empty; its first line names the columns",
            ));
            return sheet;
        }
    };
    if !sheet.faults.is_empty() {
        return sheet;
    }
    for (number, record) in (2..).zip(records) {
        if number > ROWS_MAX + 1 {
            let why = format!("there are more than {ROWS_MAX} rows; split the file");
            sheet.faults.push(Fault::of_row(number, why));
            break;
        }
        if sheet.faults.len() >= FAULTS_MAX {
            sheet.faults.push(Fault::of_row(
                number,
                "there are more faults; correct these first",
            ));
            break;
        }
        match record {
            Ok(record) => row_of(number, &record, &columns, &mut sheet),
            Err(error) => sheet.faults.push(Fault::of_row(number, error.to_string())),
        }
    }
    sheet
}

fn header_of(header: &csv::StringRecord, faults: &mut Vec<Fault>) -> Vec<Option<Column>> {
    if header.len() > COLUMNS_MAX {
        faults.push(Fault::of_row(
            1,
            format!("there are more than {COLUMNS_MAX} columns"),
        ));
        return Vec::new();
    }
    let mut seen = BTreeSet::new();
    let mut columns = Vec::with_capacity(header.len());
    for name in header {
        let name = name.trim();
        // Spreadsheets add empty columns at the end.
        if name.is_empty() {
            columns.push(None);
            continue;
        }
        match name.parse::<Column>() {
            Ok(column) => {
                if !seen.insert(column.clone()) {
                    faults.push(Fault::of_row(1, format!("column {column} is there twice")));
                }
                columns.push(Some(column));
            }
            Err(why) => {
                faults.push(Fault::of_row(1, why));
                columns.push(None);
            }
        }
    }
    columns
}

fn row_of(number: usize, record: &csv::StringRecord, columns: &[Option<Column>], sheet: &mut Sheet) {
    if record.iter().all(str::is_empty) {
        return;
    }
    let mut cells = BTreeMap::new();
    for (at, value) in record.iter().enumerate() {
        if value.is_empty() {
            continue;
        }
        let Some(Some(column)) = columns.get(at) else {
            let why = format!(
                "there is a value without a column: “{}”",
                value.chars().take(100).collect::<String>()
            );
            sheet.faults.push(Fault::of_row(number, why));
            continue;
        };
        match cell_of(column, value) {
            Ok(cell) => {
                cells.insert(column.clone(), cell);
            }
            Err(why) => sheet.faults.push(Fault::of_cell(number, column, value, why)),
        }
    }
    sheet.rows.push(Row { number, cells });
}

fn cell_of(column: &Column, value: &str) -> Result<Cell, String> {
    match value {
        RESET if column.is_resettable() => Ok(Cell::Reset),
        RESET => Err(format!("{RESET} cannot stand in this column")),
        DELETE_TAG if column.is_tag() => Ok(Cell::DeleteTag),
        DELETE_TAG => Err(format!("{DELETE_TAG} stands in columns of tags only")),
        value => {
            let value = unguarded(value);
            column.check(value)?;
            Ok(Cell::Set(value.to_owned()))
        }
    }
}

fn looks_like_a_formula(text: &str) -> bool {
    text.trim_start_matches('\'')
        .starts_with(['=', '+', '-', '@', '\t', '\r'])
}

/// With an apostrophe before what a spreadsheet would compute, or would take for such an apostrophe.
pub fn guarded(text: &str) -> String {
    if looks_like_a_formula(text) {
        return format!("'{text}");
    }
    text.to_owned()
}

fn unguarded(text: &str) -> &str {
    match text.strip_prefix('\'') {
        Some(rest) if looks_like_a_formula(rest) => rest,
        _ => text,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn faults(text: &str) -> Vec<String> {
        read(text)
            .faults
            .into_iter()
            .map(|fault| format!("{} {} {}", fault.row, fault.column, fault.message))
            .collect()
    }

    #[test]
    fn each_fault_is_said_of_its_cell() {
        let text = "mgn:account-id,mgn:app:name,mgn:app:tag:Owner,mgn:server:user-provided-id\n\
            12,shop,[DELETE_TAG],a\n\
            111122223333,[RESET_VALUE],[RESET_VALUE],[DELETE_TAG]\n\
            ,,,\n\
            111122223333,shop,=1+1,b,,more\n";
        let said = faults(text);
        assert_eq!(said.len(), 4, "{said:#?}");
        assert!(said[0].starts_with("2 mgn:account-id"), "{said:#?}");
        assert!(
            said[1].starts_with("3 mgn:app:name [RESET_VALUE] cannot"),
            "{said:#?}"
        );
        assert!(
            said[2].starts_with("3 mgn:server:user-provided-id [DELETE_TAG]"),
            "{said:#?}"
        );
        assert!(said[3].contains("without a column: “more”"), "{said:#?}");
        assert_eq!(
            faults(""),
            ["1  the file is empty; its first line names the columns"]
        );
        assert_eq!(
            faults("mgn:app:name,mgn:app:name\n"),
            ["1  column mgn:app:name is there twice"]
        );
        assert!(faults("\u{feff}mgn:app:nam\n")[0].contains("is no column"));
    }

    #[test]
    fn rows_are_counted_as_a_spreadsheet_does() {
        let sheet = read("mgn:app:name,mgn:app:description\r\na,\"two\r\nlines\"\r\n\r\n\"\",\r\nb,\r\n");
        let numbers: Vec<_> = sheet.rows.iter().map(|row| row.number).collect();
        assert_eq!((numbers, sheet.faults), (vec![2, 4], vec![]));
    }

    proptest! {
        #[test]
        fn no_formula_is_written_and_nothing_is_lost(text in "'{0,3}[-=+@a\t]?.{0,5}") {
            let written = guarded(&text);
            prop_assert!(!written.starts_with(['=', '+', '-', '@', '\t', '\r']));
            prop_assert_eq!(unguarded(&written), text);
        }

        #[test]
        fn no_text_makes_it_panic(text in "(mgn:app:name|mgn:server:tag:a|[\",\n\r'a]){0,40}") {
            let _ = read(&text);
        }
    }
}

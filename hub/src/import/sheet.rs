//! The cells of a file: which columns there are, and what each row says in them.
//!
//! What begins like a formula is written with an apostrophe before it, so that no spreadsheet computes it, and is read
//! without: the pair loses nothing, see [`guarded`] and [`unguarded`].

mod records;

use std::collections::{BTreeMap, BTreeSet};

use self::records::Records;
use super::{Fault, column::Column};
use crate::spreadsheet::BYTE_ORDER_MARK;

const ROWS_MAX: usize = 50_000;
const COLUMNS_MAX: usize = 300;
/// Fifty thousand rows as full as MGN's template; each takes about 250 bytes until all is planned.
const CELLS_MAX: usize = 1_500_000;
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
    /// A fault is of the whole file: nothing of it may be carried out.
    pub is_broken: bool,
}

impl Sheet {
    fn break_at(&mut self, row: usize, why: impl Into<String>) {
        self.faults.push(Fault::of_row(row, why));
        self.is_broken = true;
    }
}

/// Reads on after a fault, so that all are told at once.
pub fn read(text: &str) -> Sheet {
    let text = text.strip_prefix(BYTE_ORDER_MARK).unwrap_or(text);
    let mut records = Records::of(text);
    let mut sheet = Sheet::default();
    let columns = match records.next_record() {
        Ok(Some(header)) => header_of(header, &mut sheet),
        Ok(None) => {
            sheet.break_at(1, "the file is empty; its first line names the columns");
            return sheet;
        }
        Err(why) => {
            sheet.break_at(1, why);
            return sheet;
        }
    };
    let (mut rows, mut cells) = (0, 0);
    loop {
        let record = match records.next_record() {
            Ok(Some(record)) => record.clone(),
            Ok(None) => return sheet,
            Err(why) => {
                sheet.break_at(records.number, why);
                return sheet;
            }
        };
        rows += 1;
        cells += record.iter().filter(|cell| !cell.is_empty()).count();
        if rows > ROWS_MAX || cells > CELLS_MAX {
            let why = format!("there are more than {ROWS_MAX} rows or {CELLS_MAX} cells; split the file");
            sheet.break_at(records.number, why);
            return sheet;
        }
        if sheet.faults.len() >= FAULTS_MAX {
            sheet.break_at(records.number, "there are more faults; correct these first");
            return sheet;
        }
        row_of(records.number, &record, &columns, &mut sheet);
    }
}

/// What stands in a column of the file.
enum Head {
    Known(Column),
    /// Its name is a fault of the header.
    Unknown,
    Nameless,
}

fn header_of(header: &csv::StringRecord, sheet: &mut Sheet) -> Vec<Head> {
    if header.len() > COLUMNS_MAX {
        sheet.break_at(1, format!("there are more than {COLUMNS_MAX} columns"));
    }
    let mut seen = BTreeSet::new();
    let mut heads = Vec::new();
    for name in header.iter().take(COLUMNS_MAX).map(str::trim) {
        // Spreadsheets add empty columns at the end.
        if name.is_empty() {
            heads.push(Head::Nameless);
            continue;
        }
        heads.push(match name.parse::<Column>() {
            Ok(column) if seen.insert(column.clone()) => Head::Known(column),
            Ok(column) => {
                sheet.break_at(1, format!("column {column} is there twice"));
                Head::Unknown
            }
            Err(why) => {
                sheet.break_at(1, why);
                Head::Unknown
            }
        });
    }
    heads
}

fn row_of(number: usize, record: &csv::StringRecord, heads: &[Head], sheet: &mut Sheet) {
    if record.iter().all(str::is_empty) {
        return;
    }
    let mut cells = BTreeMap::new();
    for (at, value) in record.iter().enumerate().filter(|(_, value)| !value.is_empty()) {
        let column = match heads.get(at) {
            Some(Head::Known(column)) => column,
            Some(Head::Unknown) => continue,
            Some(Head::Nameless) | None => {
                let shown: String = value.chars().take(100).collect();
                let why = format!("there is a value without a column: “{shown}”");
                sheet.faults.push(Fault::of_row(number, why));
                continue;
            }
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

/// What means something else than itself: formulas to a spreadsheet, the two marks to an import. Japanese spreadsheets
/// take the wide signs for the narrow ones.
/// <https://owasp.org/www-community/attacks/CSV_Injection>
fn wants_a_guard(text: &str) -> bool {
    let bare = text.trim_start_matches('\'');
    bare.starts_with(['=', '+', '-', '@', '\t', '\r', '\n', '＝', '＋', '－', '＠'])
        || bare == RESET
        || bare == DELETE_TAG
}

/// With an apostrophe before what wants one, or would be taken for such an apostrophe.
pub fn guarded(text: &str) -> String {
    if wants_a_guard(text) {
        return format!("'{text}");
    }
    text.to_owned()
}

fn unguarded(text: &str) -> &str {
    match text.strip_prefix('\'') {
        Some(rest) if wants_a_guard(rest) => rest,
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
        let columns = "mgn:app:name,mgn:app:description";
        for end in ["\n", "\r\n", "\r"] {
            let lines = [columns, "a,\"two\r\nlines\n\"", "", ",", "\"\",", "", "", "b,"];
            let sheet = read(&lines.join(end));
            let numbers: Vec<_> = sheet.rows.iter().map(|row| row.number).collect();
            assert_eq!((numbers, sheet.faults), (vec![2, 8], vec![]), "{end:?}");
        }
    }

    #[test]
    fn a_quotation_mark_that_is_not_closed_is_no_end() {
        for text in ["mgn:app:name\na\n\"b\nc\n", "mgn:app:name\na\n\"b\"\"\nc\n"] {
            let sheet = read(text);
            assert!(sheet.is_broken, "{text}");
            assert_eq!(sheet.faults[0].row, 3);
        }
        for text in [
            "mgn:app:name\n\"b\"\"\"",
            "mgn:app:name\nb\"",
            "mgn:app:name\n\"b\"\"c\"\r\n",
        ] {
            assert_eq!(faults(text), [""; 0], "{text}");
        }
    }

    #[test]
    fn a_wrong_header_hides_no_wrong_cell() {
        let sheet = read("mgn:app:nme,mgn:region,\"mgn:app:tag:a\nb\"\na,Frankfurt,c\n");
        let rows: Vec<_> = sheet.faults.iter().map(|fault| fault.row).collect();
        assert_eq!((rows, sheet.is_broken), (vec![1, 1, 2], true));
    }

    #[test]
    fn a_file_is_read_to_its_limits() {
        let long = format!("mgn:app:name\n{}", "a\n".repeat(ROWS_MAX));
        assert_eq!(read(&long).faults, []);
        assert!(faults(&format!("{long}a\n"))[0].starts_with("50002  there are more than 50000 rows"));
        let wide = vec!["x"; COLUMNS_MAX + 1].join(",");
        assert_eq!(faults(&wide)[0], "1  there are more than 300 columns");
    }

    #[test]
    fn marks_that_are_values_stay_values() {
        let tag: Column = "mgn:server:tag:a".parse().unwrap();
        for text in [RESET, DELETE_TAG, "'[DELETE_TAG]", "＝1"] {
            assert_eq!(cell_of(&tag, &guarded(text)), Ok(Cell::Set(text.to_owned())));
        }
    }

    proptest! {
        #[test]
        fn no_formula_is_written_and_nothing_is_lost(text in "'{0,3}[-=+@a\t＝]?.{0,5}") {
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

//! A file record by record, with the rows that a spreadsheet shows them in.

use csv::StringRecord;

/// The CSV reader passes over blank lines, which a spreadsheet counts, and takes the end of the file for the end of a
/// quoted cell.
pub struct Records<'a> {
    text: &'a str,
    reader: csv::Reader<&'a [u8]>,
    record: StringRecord,
    /// Of the record that was read last.
    pub number: usize,
}

impl<'a> Records<'a> {
    pub fn of(text: &'a str) -> Self {
        Self {
            text,
            reader: csv::ReaderBuilder::new()
                .has_headers(false)
                .flexible(true)
                .from_reader(text.as_bytes()),
            record: StringRecord::new(),
            number: 0,
        }
    }

    /// An error is of the whole file: which rows it swallowed is not known.
    pub fn next_record(&mut self) -> Result<Option<&StringRecord>, String> {
        let start = self.position();
        match self.reader.read_record(&mut self.record) {
            Ok(true) => {}
            Ok(false) => return Ok(None),
            Err(error) => {
                self.number += 1;
                return Err(error.to_string());
            }
        }
        self.number += 1 + blank_lines(self.text, start);
        if self.position() == self.text.len() && is_quote_open(&self.text[start..]) {
            return Err("a quotation mark at the start of one of its cells is not closed".into());
        }
        Ok(Some(&self.record))
    }

    fn position(&self) -> usize {
        usize::try_from(self.reader.position().byte())
            .unwrap_or(usize::MAX)
            .min(self.text.len())
    }
}

/// How many lines from `start` on have nothing in them.
fn blank_lines(text: &str, start: usize) -> usize {
    let is_within_line_end = text[..start].ends_with('\r') && text[start..].starts_with('\n');
    let mut rest = &text[start + usize::from(is_within_line_end)..];
    let mut lines = 0;
    while let Some(after) = ["\r\n", "\n", "\r"].iter().find_map(|end| rest.strip_prefix(end)) {
        rest = after;
        lines += 1;
    }
    lines
}

/// Whether a record ends within a quoted cell.
fn is_quote_open(record: &str) -> bool {
    #[derive(PartialEq)]
    enum In {
        Start,
        Bare,
        Quoted,
        /// After a quotation mark that ends the cell, or is the first of two.
        Quote,
    }
    let end = record.bytes().fold(In::Start, |at, byte| match (at, byte) {
        (In::Quoted, b'"') => In::Quote,
        (In::Quoted, _) | (In::Start | In::Quote, b'"') => In::Quoted,
        (_, b',') | (In::Start, b'\r' | b'\n') => In::Start,
        _ => In::Bare,
    });
    end == In::Quoted
}

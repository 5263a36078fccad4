//! A request as a file: CSV for a spreadsheet, Markdown for a document.

use std::fmt::Write as _;

use super::{Format, Language, Line, Request, RequestError, text};
use crate::spreadsheet::{self, BYTE_ORDER_MARK};

pub fn render(request: &Request, format: Format, language: Language) -> Result<String, RequestError> {
    let lines = request.lines()?;
    let columns = text::columns(language).map(str::to_owned);
    let rows = (1..)
        .zip(&lines)
        .map(|(number, line)| row(request, language, number, line));
    let mut file = String::new();
    match format {
        Format::Csv => {
            file.push(BYTE_ORDER_MARK);
            for row in std::iter::once(columns).chain(rows) {
                file.push_str(&spreadsheet::row(row));
            }
        }
        Format::Markdown => {
            let period = (request.from, request.until);
            file.push_str(&text::introduction(language, &hyphenated(request), period));
            file.push('\n');
            let rule = columns.each_ref().map(|_| "---".to_owned());
            for row in [columns, rule].into_iter().chain(rows) {
                // Writing to a String cannot fail.
                let _ = writeln!(
                    file,
                    "| {} |",
                    row.map(|field| field.replace('|', "\\|")).join(" | ")
                );
            }
            file.push('\n');
            file.push_str(text::remarks(language));
        }
    }
    Ok(file)
}

fn row(request: &Request, language: Language, number: usize, line: &Line) -> [String; 10] {
    let date = |date: Option<chrono::NaiveDate>| date.map(|date| date.to_string()).unwrap_or_default();
    [
        number.to_string(),
        hyphenated(request),
        text::direction(language, &line.purpose).to_owned(),
        line.source.to_string(),
        line.destination.to_string(),
        "TCP".to_owned(),
        line.port.to_string(),
        text::purpose(language, &line.purpose),
        date(request.from),
        date(request.until),
    ]
}

/// As the console of AWS shows it: twelve digits alone are a number to a spreadsheet, which rounds it.
fn hyphenated(request: &Request) -> String {
    let digits = request.account.as_str();
    [&digits[..4], &digits[4..8], &digits[8..]].join("-")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::firewall_request::tests::request;

    #[test]
    fn a_request_reads_as_it_is_handed_in() {
        for (name, format, language) in [
            ("csv-en", Format::Csv, Language::En),
            ("csv-ja", Format::Csv, Language::Ja),
            ("markdown-en", Format::Markdown, Language::En),
            ("markdown-ja", Format::Markdown, Language::Ja),
        ] {
            insta::assert_snapshot!(name, render(&request(), format, language).unwrap());
        }
    }

    #[test]
    fn no_field_is_a_formula() {
        // The name of a service is what somebody gave.
        let mut hostile = request();
        hostile.aws[0].service = "\"\r\n=cmd|' /C calc'!A0".into();
        let file = render(&hostile, Format::Csv, Language::En).unwrap();
        assert!(file.starts_with(BYTE_ORDER_MARK));
        assert_eq!(file.matches("\r\n=").count(), 1, "within a quoted field: {file}");
        assert!(
            file.contains(",\"Calls of the AWS service \"\"\r\n=cmd"),
            "{file}"
        );
    }
}

//! Files of lines with blanks between fields, as fstab(5) and crypttab(5).

/// The most lines with entries that are read of one file.
pub const LINES_MAX: usize = 4096;

/// A field without its escapes.
pub type Field = String;

/// A line that the guest itself cannot use.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BadLine {
    /// Counted from 1.
    pub line: usize,
    pub problem: &'static str,
}

impl BadLine {
    pub fn new(line: usize, problem: &'static str) -> Self {
        Self { line, problem }
    }
}

/// What `entry` makes of each line and its number, and the lines of which it makes nothing.
pub fn entries<T>(
    text: &str,
    entry: impl Fn(usize, &[Field]) -> Result<T, &'static str>,
) -> (Vec<T>, Vec<BadLine>) {
    let mut entries = Vec::new();
    let mut bad = Vec::new();
    for (line, found) in fields(text) {
        if entries.len() + bad.len() == LINES_MAX {
            bad.push(BadLine::new(line, "the file goes on, and is not read further"));
            break;
        }
        match entry(line, &found) {
            Ok(entry) => entries.push(entry),
            Err(problem) => bad.push(BadLine::new(line, problem)),
        }
    }
    (entries, bad)
}

/// Every line that is neither empty nor a comment, with its number.
fn fields(text: &str) -> impl Iterator<Item = (usize, Vec<Field>)> {
    (1..).zip(text.lines()).filter_map(|(number, line)| {
        let line = line.trim();
        if line.is_empty() || line.starts_with('#') {
            return None;
        }
        Some((number, line.split_ascii_whitespace().map(unescaped).collect()))
    })
}

/// Blanks, tabs and backslashes are written as a backslash and three octal digits: `\040`.
fn unescaped(field: &str) -> Field {
    let mut bytes = Vec::with_capacity(field.len());
    let mut rest = field.as_bytes();
    while let Some(&first) = rest.first() {
        let octal = match rest {
            [b'\\', a @ b'0'..=b'3', b @ b'0'..=b'7', c @ b'0'..=b'7', ..] => {
                Some((a - b'0') << 6 | (b - b'0') << 3 | (c - b'0'))
            }
            _ => None,
        };
        let (byte, len) = octal.map_or((first, 1), |byte| (byte, 4));
        bytes.push(byte);
        rest = &rest[len..];
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn octal_escapes_are_undone() {
        assert_eq!(unescaped("/a\\040b\\011c\\134d"), "/a b\tc\\d");
        assert_eq!(unescaped("/\\303\\244"), "/ä");
        assert_eq!(unescaped("\\04"), "\\04");
        assert_eq!(unescaped("\\400\\9"), "\\400\\9");
    }

    proptest! {
        #[test]
        fn any_field_is_survived(field in "[\\PC\\\\0-9]{0,80}") {
            unescaped(&field);
        }
    }
}

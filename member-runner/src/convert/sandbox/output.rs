//! What a program said, however much that is.

use std::{
    collections::VecDeque,
    fmt,
    io::{self, Read},
};

/// How much of an output is kept: its first half and its last.
pub const OUTPUT_MAX: usize = 1 << 20;
const HALF: usize = OUTPUT_MAX / 2;

#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Output {
    head: Vec<u8>,
    tail: VecDeque<u8>,
    /// Bytes between the two that were not kept.
    pub left_out: u64,
}

impl Output {
    fn push(&mut self, bytes: &[u8]) {
        let (head, rest) = bytes.split_at(bytes.len().min(HALF - self.head.len()));
        self.head.extend(head);
        self.tail.extend(rest);
        let excess = self.tail.len().saturating_sub(HALF);
        self.tail.drain(..excess);
        self.left_out += excess as u64;
    }

    /// All of it, or `None` where some was left out.
    pub fn whole(&self) -> Option<String> {
        (self.left_out == 0).then(|| self.to_string())
    }
}

/// As text that a terminal or a page can show: a guest's program does not get to move a cursor.
impl fmt::Display for Output {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut bytes = self.head.clone();
        if self.left_out > 0 {
            bytes.extend(format!("\n… {} bytes left out …\n", self.left_out).as_bytes());
        }
        bytes.extend(&self.tail);
        let text = String::from_utf8_lossy(&bytes);
        let printable = |c: char| !c.is_control() || c == '\n' || c == '\t';
        f.write_str(&text.replace(|c| !printable(c), "\u{fffd}"))
    }
}

/// Reads to the end, so that a program that says too much is not held up.
pub(in crate::convert) fn read(mut from: impl Read) -> io::Result<Output> {
    let mut output = Output::default();
    let mut piece = [0; 16 << 10];
    loop {
        match from.read(&mut piece) {
            Ok(0) => return Ok(output),
            Ok(len) => output.push(&piece[..len]),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_short_output_is_whole() {
        let output = read(&b"one\ntwo\x1b[2J\n"[..]).expect("bytes are read");
        assert_eq!(output.whole().as_deref(), Some("one\ntwo\u{fffd}[2J\n"));
    }

    #[test]
    fn of_a_long_output_the_beginning_and_the_end_are_kept() {
        let said = [&b"first"[..], &vec![b'.'; 3 * OUTPUT_MAX], &b"last"[..]].concat();
        let output = read(&said[..]).expect("bytes are read");
        assert_eq!(output.left_out, (said.len() - OUTPUT_MAX) as u64);
        assert_eq!(output.whole(), None);
        let text = output.to_string();
        assert!(text.starts_with("first..") && text.ends_with("..last"));
        assert!(text.contains("… 2097161 bytes left out …"));
    }
}

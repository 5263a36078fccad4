//! What a console says, as text that is safe to show and does not grow without bound.
//!
//! Sequences that move a terminal's cursor or colour its letters are left out; every other control character, and
//! those that turn the direction of writing, appear as escapes. The file keeps the beginning, memory the end.

use std::{
    collections::VecDeque,
    fs::File,
    io::Write,
    path::Path,
    sync::{Arc, Mutex, PoisonError},
};

use tokio::{
    io::{AsyncRead, AsyncReadExt},
    task::JoinHandle,
};

use super::MachineError;

/// A boot writes 50 KiB; a loop of reboots should be seen to be one.
const FILE_MAX: usize = 4 << 20;
/// Several screens more than anybody needs to see what went wrong.
const RECENT_MAX: usize = 256 << 10;
/// A sequence that is longer is none: what follows is text again.
const SEQUENCE_MAX: usize = 64;

#[derive(Debug, Clone)]
pub struct Recorder(Arc<Mutex<Console>>);

#[derive(Debug)]
struct Console {
    decoder: Decoder,
    recent: VecDeque<u8>,
    /// And how many bytes it still takes.
    file: Option<(File, usize)>,
}

impl Recorder {
    pub fn create(path: &Path) -> Result<Self, MachineError> {
        let file = File::create(path).map_err(|source| MachineError::File {
            verb: "write",
            path: path.to_owned(),
            source,
        })?;
        Ok(Self::with(Some((file, FILE_MAX))))
    }

    pub fn in_memory() -> Self {
        Self::with(None)
    }

    fn with(file: Option<(File, usize)>) -> Self {
        Self(Arc::new(Mutex::new(Console {
            decoder: Decoder::default(),
            recent: VecDeque::new(),
            file,
        })))
    }

    /// Reads to the end of `pipe`, however much comes: a machine whose console is not read stands still.
    pub fn record(&self, pipe: Option<impl AsyncRead + Unpin + Send + 'static>) -> JoinHandle<()> {
        let console = self.0.clone();
        tokio::spawn(async move {
            let Some(mut pipe) = pipe else { return };
            let mut bytes = [0; 4096];
            // A pipe that cannot be read any more is as good as its end.
            while let Ok(read @ 1..) = pipe.read(&mut bytes).await {
                let mut console = console.lock().unwrap_or_else(PoisonError::into_inner);
                console.take(&bytes[..read]);
            }
        })
    }

    pub fn recent(&self) -> String {
        let console = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let (first, second) = console.recent.as_slices();
        // A character that was cut in half where the text begins is replaced.
        String::from_utf8_lossy(&[first, second].concat()).into_owned()
    }
}

impl Console {
    fn take(&mut self, bytes: &[u8]) {
        let mut text = String::new();
        self.decoder.decode(bytes, &mut text);
        self.recent.extend(text.as_bytes());
        let surplus = self.recent.len().saturating_sub(RECENT_MAX);
        self.recent.drain(..surplus);
        let Some((file, room)) = &mut self.file else {
            return;
        };
        let (kept, end) = if text.len() < *room {
            (text.as_str(), "")
        } else {
            let whole = text.floor_char_boundary(*room);
            (&text[..whole], "\n… the rest is left out\n")
        };
        *room -= kept.len();
        let written = file.write_all(kept.as_bytes());
        if written.and_then(|()| file.write_all(end.as_bytes())).is_err() || !end.is_empty() {
            // Full, or the disk is: what is in memory still tells how it went.
            self.file = None;
        }
    }
}

/// Turns bytes into text, wherever the pieces are cut.
#[derive(Debug, Default)]
struct Decoder {
    state: State,
    /// The beginning of a character of UTF-8.
    partial: Vec<u8>,
}

/// Where we are in a control sequence, as ECMA-48 has them.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
enum State {
    #[default]
    Text,
    Escape,
    /// After `ESC [`: parameters, then one byte from `@` to `~`.
    Sequence(usize),
    /// After `ESC ]`, `ESC P` and others: anything up to BEL or `ESC \`.
    Command(usize),
    /// After `ESC (` and others: one byte.
    Designation,
}

impl Decoder {
    fn decode(&mut self, bytes: &[u8], text: &mut String) {
        for &byte in bytes {
            self.state = match self.state {
                State::Text => self.text(byte, text),
                State::Escape => match byte {
                    b'[' => State::Sequence(0),
                    b']' | b'P' | b'X' | b'^' | b'_' => State::Command(0),
                    b'(' | b')' | b'#' | b'%' => State::Designation,
                    _ => State::Text,
                },
                State::Sequence(SEQUENCE_MAX..) => self.text(byte, text),
                State::Sequence(_) if (b'@'..=b'~').contains(&byte) => State::Text,
                State::Sequence(read) => State::Sequence(read + 1),
                State::Command(_) if byte == 0x07 => State::Text,
                State::Command(_) if byte == 0x1b => State::Escape,
                State::Command(SEQUENCE_MAX..) => self.text(byte, text),
                State::Command(read) => State::Command(read + 1),
                State::Designation => State::Text,
            };
        }
    }

    fn text(&mut self, byte: u8, text: &mut String) -> State {
        if byte.is_ascii() {
            self.give_up_partial(text);
        }
        match byte {
            0x1b => return State::Escape,
            // Terminals start a line with it, and end one with both.
            b'\r' => {}
            b'\n' | b'\t' | b' '..=b'~' => text.push(char::from(byte)),
            0..=0x7f => text.extend(char::from(byte).escape_default()),
            _ => self.beyond_ascii(byte, text),
        }
        State::Text
    }

    fn beyond_ascii(&mut self, byte: u8, text: &mut String) {
        self.partial.push(byte);
        match str::from_utf8(&self.partial) {
            Ok(whole) => {
                for char in whole.chars() {
                    if char.is_control() || turns_writing(char) {
                        text.extend(char.escape_default());
                    } else {
                        text.push(char);
                    }
                }
                self.partial.clear();
            }
            Err(error) if error.error_len().is_some() => self.give_up_partial(text),
            // Bytes of it are still missing.
            Err(_) => {}
        }
    }

    fn give_up_partial(&mut self, text: &mut String) {
        if !self.partial.is_empty() {
            text.push(char::REPLACEMENT_CHARACTER);
            self.partial.clear();
        }
    }
}

/// Marks with which a text shows itself in another order than it is.
fn turns_writing(char: char) -> bool {
    matches!(char, '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn text(bytes: &[u8]) -> String {
        let mut text = String::new();
        Decoder::default().decode(bytes, &mut text);
        text
    }

    #[test]
    fn colours_and_cursor_movements_are_left_out() {
        let said = b"[\x1b[0;32m  OK  \x1b[0m] Reached target \x1b[0;1;39mmulti-user.target\x1b[0m.\r\n\x1b]0;title\x07\x1b(Bx";
        assert_eq!(text(said), "[  OK  ] Reached target multi-user.target.\nx");
    }

    #[test]
    fn what_would_act_on_a_terminal_is_shown_instead() {
        assert_eq!(
            text("\x07\x08\u{9b}\u{202e}grün".as_bytes()),
            "\\u{7}\\u{8}\\u{9b}\\u{202e}grün"
        );
        assert_eq!(text(b"a\xffb\xe2\x82"), "a\u{fffd}b");
    }

    #[test]
    fn a_sequence_without_end_swallows_no_text() {
        let mut said = b"\x1b]".to_vec();
        said.extend([b'x'; SEQUENCE_MAX]);
        said.extend(b"login: ");
        assert_eq!(text(&said), "login: ");
    }

    #[test]
    fn the_file_keeps_the_beginning_and_memory_the_end() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("console.txt");
        let recorder = Recorder::create(&path).unwrap();
        let line = "0123456789abcde\n".repeat(64);
        for _ in 0..=FILE_MAX / line.len() {
            recorder.0.lock().unwrap().take(line.as_bytes());
        }
        recorder.0.lock().unwrap().take(b"the end");
        let file = std::fs::read_to_string(&path).unwrap();
        assert!(file.ends_with("\n… the rest is left out\n"));
        assert!(file.len() < FILE_MAX + 64);
        assert!(recorder.recent().ends_with("the end"));
        assert_eq!(recorder.recent().len(), RECENT_MAX);
    }

    proptest! {
        #[test]
        fn no_bytes_reach_a_terminal_as_commands_however_they_are_cut(
            bytes in proptest::collection::vec(any::<u8>(), 0..200),
            cut in 0usize..200,
        ) {
            let whole = text(&bytes);
            prop_assert!(whole.chars().all(|c| c == '\n' || c == '\t' || !c.is_control()));
            let (first, second) = bytes.split_at(cut.min(bytes.len()));
            let mut pieces = String::new();
            let mut decoder = Decoder::default();
            decoder.decode(first, &mut pieces);
            decoder.decode(second, &mut pieces);
            prop_assert_eq!(whole, pieces);
        }
    }
}

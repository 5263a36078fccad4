//! QEMU's monitor: a command is a line of JSON, and so is its answer.
//!
//! <https://www.qemu.org/docs/master/interop/qmp-spec.html>. Lines that are events are passed over.

use std::{io, os::fd::OwnedFd, os::unix::net::UnixStream as StdUnixStream, time::Duration};

use serde::Deserialize;
use serde_json::{Value, json};
use tokio::{
    io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader},
    net::{
        UnixStream,
        unix::{OwnedReadHalf, OwnedWriteHalf},
    },
    time::timeout,
};

/// The longest answer that we ask for is a table of connections.
const LINE_MAX: u64 = 1 << 20;
/// A QEMU that translates instructions on a busy machine answers late.
const ANSWER_MAX: Duration = Duration::from_secs(30);

#[derive(Debug, thiserror::Error)]
pub enum QmpError {
    #[error("QEMU refused {command}: {reason}")]
    Refused { command: String, reason: String },
    #[error("QEMU did not answer {0} in time")]
    Late(String),
    #[error("QEMU has closed its monitor")]
    Closed,
    #[error("QEMU answered with a line that is too long or no JSON")]
    Garbled,
    #[error("cannot speak with QEMU's monitor")]
    Io(#[from] io::Error),
}

#[derive(Debug)]
pub struct Qmp {
    read: BufReader<OwnedReadHalf>,
    write: OwnedWriteHalf,
    asked: u64,
}

/// A line of QEMU's that answers; greeting and events have none of these.
#[derive(Deserialize)]
struct Answer {
    id: Option<u64>,
    #[serde(rename = "return")]
    value: Option<Value>,
    error: Option<Refusal>,
}

#[derive(Deserialize)]
struct Refusal {
    desc: String,
}

/// Our end of a monitor, and QEMU's.
pub fn pair() -> io::Result<(Qmp, OwnedFd)> {
    let (ours, theirs) = StdUnixStream::pair()?;
    ours.set_nonblocking(true)?;
    let (read, write) = UnixStream::from_std(ours)?.into_split();
    let read = BufReader::new(read);
    let qmp = Qmp {
        read,
        write,
        asked: 0,
    };
    Ok((qmp, theirs.into()))
}

impl Qmp {
    /// QEMU takes no other command before this one.
    pub async fn greet(&mut self) -> Result<(), QmpError> {
        self.execute("qmp_capabilities", json!({})).await.map(|_| ())
    }

    pub async fn execute(&mut self, command: &str, arguments: Value) -> Result<Value, QmpError> {
        let answered = timeout(ANSWER_MAX, self.ask(command, arguments)).await;
        answered.unwrap_or_else(|_| Err(QmpError::Late(command.to_owned())))
    }

    async fn ask(&mut self, command: &str, arguments: Value) -> Result<Value, QmpError> {
        self.asked += 1;
        let request = json!({"execute": command, "arguments": arguments, "id": self.asked});
        self.write.write_all(format!("{request}\n").as_bytes()).await?;
        loop {
            let answer = self.line().await?;
            // An answer that came too late for its own command is none to this one.
            if answer.id != Some(self.asked) {
                continue;
            }
            if let Some(refusal) = answer.error {
                return Err(QmpError::Refused {
                    command: command.to_owned(),
                    reason: refusal.desc,
                });
            }
            if let Some(value) = answer.value {
                return Ok(value);
            }
        }
    }

    async fn line(&mut self) -> Result<Answer, QmpError> {
        let mut line = Vec::new();
        (&mut self.read)
            .take(LINE_MAX)
            .read_until(b'\n', &mut line)
            .await?;
        if line.is_empty() {
            return Err(QmpError::Closed);
        }
        serde_json::from_slice(&line).map_err(|_| QmpError::Garbled)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A QEMU that answers with these bytes and goes.
    async fn answering(bytes: &[u8]) -> Result<Value, QmpError> {
        let (mut qmp, theirs) = pair().unwrap();
        std::io::Write::write_all(&mut StdUnixStream::from(theirs.try_clone().unwrap()), bytes).unwrap();
        let asked = qmp.execute("screendump", json!({})).await;
        drop(theirs);
        asked
    }

    #[tokio::test]
    async fn greeting_events_and_late_answers_are_passed_over() {
        let said =
            b"{\"QMP\": {\"version\": {}}}\r\n{\"event\": \"RESUME\"}\r\n{\"return\": {}, \"id\": 0}\r\n\
            {\"return\": {\"a\": 1}, \"id\": 1}\r\n";
        assert_eq!(answering(said).await.unwrap(), json!({"a": 1}));
    }

    #[tokio::test]
    async fn a_refusal_carries_its_reason() {
        let said =
            b"{\"error\": {\"class\": \"GenericError\", \"desc\": \"no such display\"}, \"id\": 1}\r\n";
        let refused = answering(said).await.unwrap_err().to_string();
        assert_eq!(refused, "QEMU refused screendump: no such display");
    }

    #[tokio::test]
    async fn what_is_no_json_is_an_error() {
        assert!(matches!(answering(b"hello\n").await, Err(QmpError::Garbled)));
    }
}

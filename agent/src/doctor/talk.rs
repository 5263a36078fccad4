//! A connection to a runner on which nothing is said that matters, and how fast it goes.

use std::{
    io,
    net::SocketAddr,
    sync::Arc,
    time::{Duration, Instant},
};

use chrono::{DateTime, Utc};
use identity::{IdentityError, Role, examine};
use protocol::measure;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    time::{sleep, timeout, timeout_at},
};
use tokio_rustls::{TlsConnector, client::TlsStream};

use super::{
    reach::{self, Unreached},
    socket,
};

/// Nothing moves for so long: nothing will.
const STALLED_AFTER: Duration = Duration::from_secs(5);
/// Several packets of any length that there is.
const PROBE_BYTES: u64 = 64 << 10;
/// What a measurement sends at most, and for how long.
const POUR_BYTES: u64 = 48 << 20;
const POUR_TIME: Duration = Duration::from_secs(5);
const _: () = assert!(POUR_BYTES < measure::BYTES_MAX);
const CHUNK: usize = 64 << 10;
/// The head of an answer is shorter.
const ANSWER_MAX: usize = 16 << 10;

#[derive(Debug, thiserror::Error)]
pub enum Broken {
    #[error(transparent)]
    Unreached(Unreached),
    #[error("the connection stands, and nothing comes through")]
    Stalled,
    /// What answered does not speak as a runner does.
    #[error("{0}")]
    Foreign(String),
    #[error(transparent)]
    Here(IdentityError),
}

impl From<io::Error> for Broken {
    fn from(error: io::Error) -> Self {
        // Errors of TLS come wrapped: whoever answered speaks something else.
        if error.get_ref().is_some() {
            return Self::Foreign(error.to_string());
        }
        match error.kind() {
            io::ErrorKind::UnexpectedEof => Self::Foreign("it closed the connection".into()),
            _ => Self::Unreached(error.into()),
        }
    }
}

#[derive(Debug)]
pub struct Talk {
    stream: TlsStream<TcpStream>,
    pub connected_in: Duration,
}

/// An answer, when it came, and what the runner's clock showed.
#[derive(Debug)]
pub struct Answer {
    pub status: u16,
    pub date: Option<DateTime<Utc>>,
    pub at: DateTime<Utc>,
}

impl Talk {
    /// Connects, in segments of so many bytes at most, and finishes a handshake with anybody.
    pub async fn open(to: SocketAddr, segment: Option<u16>) -> Result<Self, Broken> {
        let tls = TlsConnector::from(Arc::new(examine::client().map_err(Broken::Here)?));
        let name = Role::RUNNER_NAME
            .try_into()
            .expect("the runner's name is a DNS name");
        let (tcp, connected_in) = reach::connect(to, segment).await.map_err(Broken::Unreached)?;
        let stream = timeout(STALLED_AFTER, tls.connect(name, tcp))
            .await
            .map_err(|_| Broken::Stalled)??;
        Ok(Self { stream, connected_in })
    }

    /// Who the other side says it is, leaf first.
    pub fn chain(&self) -> &[rustls::pki_types::CertificateDer<'static>] {
        self.stream.get_ref().1.peer_certificates().unwrap_or_default()
    }

    pub fn tcp(&self) -> &TcpStream {
        self.stream.get_ref().0
    }

    /// Sends as much as takes several packets of full length, and waits for the answer.
    pub async fn probe(mut self) -> Result<(Self, Answer), Broken> {
        let exchange = async {
            let mut request = head(&format!("content-length: {PROBE_BYTES}")).into_bytes();
            request.resize(request.len() + usize::try_from(PROBE_BYTES).unwrap_or(CHUNK), 0);
            self.stream.write_all(&request).await?;
            self.stream.flush().await?;
            let mut heard = Vec::new();
            while !heard.windows(4).any(|end| end == b"\r\n\r\n") && heard.len() < ANSWER_MAX {
                if self.stream.read_buf(&mut heard).await? == 0 {
                    return Err(io::ErrorKind::UnexpectedEof.into());
                }
            }
            Ok::<_, io::Error>(heard)
        };
        let heard = timeout(STALLED_AFTER, exchange)
            .await
            .map_err(|_| Broken::Stalled)??;
        let answer = answer(&heard).ok_or_else(|| Broken::Foreign("it does not speak HTTP".into()))?;
        Ok((self, answer))
    }

    /// Sends for a while, and says how many bytes a second the other side acknowledged.
    pub async fn pour(mut self) -> Result<f64, Broken> {
        // What does not shrink, so that no device on the way makes less of it.
        let mut chunk = format!("{CHUNK:x}\r\n").into_bytes();
        let start = chunk.len();
        chunk.resize(start + CHUNK, 0);
        rand::fill(&mut chunk[start..]);
        chunk.extend(b"\r\n");
        let began = Instant::now();
        let deadline = tokio::time::Instant::now() + POUR_TIME;
        let mut written = 0;
        let writing = async {
            let head = head("transfer-encoding: chunked");
            self.stream.write_all(head.as_bytes()).await?;
            while written < POUR_BYTES {
                self.stream.write_all(&chunk).await?;
                written += CHUNK as u64;
            }
            self.stream.flush().await
        };
        if let Ok(written) = timeout_at(deadline, writing).await {
            written?;
        }
        let mut left = socket::unacknowledged(self.tcp())?;
        while left > 0 && began.elapsed() < POUR_TIME {
            sleep(Duration::from_millis(2)).await;
            left = socket::unacknowledged(self.tcp())?;
        }
        let through = u32::try_from(written.saturating_sub(left)).unwrap_or(u32::MAX);
        if through == 0 {
            return Err(Broken::Stalled);
        }
        // The connection is dropped: the runner has the rest of the body to wait for, and need not.
        Ok(f64::from(through) / began.elapsed().as_secs_f64())
    }
}

fn head(length: &str) -> String {
    format!(
        "POST {} HTTP/1.1\r\nhost: {}\r\n{length}\r\n\r\n",
        measure::PATH,
        Role::RUNNER_NAME
    )
}

fn answer(heard: &[u8]) -> Option<Answer> {
    let text = String::from_utf8_lossy(heard);
    let mut lines = text.split("\r\n");
    let status = lines
        .next()?
        .strip_prefix("HTTP/1.")?
        .split(' ')
        .nth(1)?
        .parse()
        .ok()?;
    let date = lines
        .take_while(|line| !line.is_empty())
        .filter_map(|line| line.split_once(':'))
        .find(|(name, _)| name.eq_ignore_ascii_case("date"))
        .and_then(|(_, value)| DateTime::parse_from_rfc2822(value.trim()).ok());
    Some(Answer {
        status,
        date: date.map(|date| date.to_utc()),
        at: Utc::now(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_has_a_status_and_may_have_a_date() {
        let heard = b"HTTP/1.1 204 No Content\r\nDate: Sun, 22 Nov 2026 15:48:17 GMT\r\n\r\n";
        let said = answer(heard).unwrap();
        assert_eq!(said.status, 204);
        assert_eq!(said.date.unwrap().to_rfc3339(), "2026-11-22T15:48:17+00:00");
        assert!(answer(b"HTTP/1.1 404 Not Found\r\n\r\n").unwrap().date.is_none());
        for foreign in [&b"SSH-2.0-OpenSSH"[..], b"HTTP/1.1", b"\xff\r\n\r\n", b""] {
            assert!(answer(foreign).is_none(), "{foreign:?}");
        }
    }
}

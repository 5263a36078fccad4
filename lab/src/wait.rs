//! Waiting for what must come true, with a deadline that tells what was seen last.

use std::time::Duration;

use anyhow::{Context, bail};

const EVERY: Duration = Duration::from_millis(40);

/// What one look found.
#[derive(Debug)]
pub enum Look<T> {
    Seen(T),
    /// And what is the case instead.
    NotYet(String),
}

impl Look<()> {
    pub fn when(seen: bool, otherwise: impl std::fmt::Debug) -> Self {
        if seen {
            Self::Seen(())
        } else {
            Self::NotYet(format!("{otherwise:?}"))
        }
    }
}

/// Looks again and again until `look` sees it. A look that fails counts as not yet: servers restart.
pub async fn eventually<T, F>(
    what: &str,
    deadline: Duration,
    mut look: impl FnMut() -> F,
) -> anyhow::Result<T>
where
    F: Future<Output = anyhow::Result<Look<T>>>,
{
    let end = tokio::time::Instant::now() + deadline;
    loop {
        let last = match look().await {
            Ok(Look::Seen(value)) => return Ok(value),
            Ok(Look::NotYet(state)) => Ok(state),
            Err(error) => Err(error),
        };
        if tokio::time::Instant::now() >= end {
            let waited = format!("{what}: not within {deadline:?}");
            match last {
                Ok(state) => bail!("{waited}; last seen: {state}"),
                Err(error) => return Err(error).context(waited),
            }
        }
        tokio::time::sleep(EVERY).await;
    }
}

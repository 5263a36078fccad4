//! The proof at the end of an ending: the account itself is asked what of a source server it still has.

use std::time::Duration;

use domain::job::JobLogEvent;

use super::{Context, Progress, StepError};
use crate::{
    clock::now_ms,
    resources::{self, Item},
    store::jobs::LogLine,
};

/// What was removed may be listed for so long. What is listed still is said to remain.
const WITHIN: Duration = Duration::from_mins(5);

/// Waits until the account has nothing of the server that nothing needs, and writes into the job's log what it has.
///
/// It never fails: all that could be removed was, and the server's own end is recorded. Failing would take back what
/// cannot be taken back, and hide what remains behind it.
pub async fn prove_nothing_left(cx: &Context) -> Result<Progress, StepError> {
    let place = cx.place().await?;
    let is_late = cx.waited >= WITHIN;
    let line = |event, detail: String| {
        LogLine::of_server(event, &cx.server)
            .with_detail(detail)
            .set_apart("proof")
    };
    let asked = format!(
        "account {} in {} was asked for what carries the tag of this source server",
        place.account, place.region
    );
    let asked_at = now_ms();
    let inventory = match cx.hub.cloud.inventory(&place).await {
        Ok(inventory) => inventory,
        Err(error) if error.is_transient() && !is_late => return Err(error.into()),
        Err(error) => {
            let detail = format!("{asked}, and did not answer, so that nothing is proved: {error}");
            cx.log(line(JobLogEvent::CleanupFail, detail)).await?;
            return Ok(Progress::Done);
        }
    };
    // For the pages: what they show is no older than the end.
    let mut tx = cx.hub.store.begin().await?;
    tx.inventory_asked(&place, asked_at, Ok(inventory.clone()))
        .await?;
    tx.commit().await?;
    let inventory = resources::of_server(&inventory, &cx.server);
    let ledger = cx.hub.store.ledger_of_server(&cx.server).await?;
    let items = resources::reconcile(&inventory, &ledger, &[cx.server().await?]);
    let (kept, left): (Vec<Item>, Vec<Item>) = items.into_iter().partition(|item| item.standing.is_right());
    let mut kept_words = String::new();
    if !kept.is_empty() {
        kept_words = format!("; kept, as it should be: {}", resources::in_words(&kept));
    }
    if left.is_empty() {
        let detail = format!(
            "{asked}: nothing is left, {}{kept_words}",
            resources::in_words(&left)
        );
        cx.log(line(JobLogEvent::CleanupEnd, detail)).await?;
        return Ok(Progress::Done);
    }
    if !is_late {
        return Ok(Progress::Wait(format!(
            "waiting until account {} lists no more of it: {}",
            place.account,
            resources::in_words(&left)
        )));
    }
    let mut detail = format!(
        "{asked}, and still has {}{kept_words}",
        resources::in_words(&left)
    );
    for item in &left {
        if let Some(remedy) = item.standing.remedy() {
            detail.push_str(". ");
            detail.push_str(item.kind.name());
            detail.push(' ');
            detail.push_str(&item.id);
            detail.push_str(": ");
            detail.push_str(remedy);
        }
    }
    cx.log(line(JobLogEvent::CleanupFail, detail)).await?;
    Ok(Progress::Done)
}

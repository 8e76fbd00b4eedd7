//! Makes the cursor durable and gives disk space back, now and then: what a crash would have delivered again is what was
//! settled since.

use std::time::Duration;

use tokio_util::sync::CancellationToken;

use super::Context;

/// Between two writes of the cursor, each of which is synced.
const INTERVAL: Duration = Duration::from_millis(500);

pub(super) async fn run(context: &Context, over: CancellationToken) {
    context.show();
    loop {
        let moved = async {
            context.backlog.ledger.moved.notified().await;
            tokio::time::sleep(INTERVAL).await;
        };
        let last = over.run_until_cancelled(moved).await.is_none();
        let (log, cursor) = (context.backlog.log.clone(), context.backlog.ledger.cursor());
        let trimmed = tokio::task::spawn_blocking(move || log.trim(cursor)).await;
        if let Ok(Err(error)) = trimmed
            && let Some(left_out) = context.limit.pass("trim")
        {
            let error = error.chain();
            let sink = &context.state.name;
            tracing::warn!(sink, error, left_out, "cannot note how far the backlog is delivered");
        }
        context.show();
        if last {
            return;
        }
    }
}

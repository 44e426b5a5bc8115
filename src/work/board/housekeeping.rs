//! What leaves by itself: outputs after `limits.output_ttl`, ended jobs after `limits.history`.

use super::Board;
use crate::base::error::Result;
use crate::store::claim::Gone;
use jiff::Timestamp;
use std::time::Duration;

/// Records that are read at once.
const AT_ONCE: usize = 100;

impl Board {
    /// Removes what is due. To be called every minute or so.
    ///
    /// # Errors
    /// Those of the journal. An output that cannot be removed is logged and tried again.
    pub async fn keep_house(&self) -> Result<()> {
        let now = Timestamp::now();
        let ttl = self.limits().output_ttl;
        if let Some(ttl) = ttl {
            self.remove_due(before(now, ttl)).await?;
        }
        self.tidy_up().await;
        // While outputs leave by themselves, the journal keeps the jobs whose outputs still have to.
        let forgotten = self.journal().forget(before(now, self.limits().history), ttl.is_some()).await?;
        if forgotten > 0 {
            tracing::info!("{forgotten} ended jobs have left the journal");
        }
        Ok(())
    }

    /// Removes the outputs of jobs that ended before.
    async fn remove_due(&self, before: Timestamp) -> Result<()> {
        let mut last: Option<String> = None;
        loop {
            let due = self.journal().outputs_ended_before(before, last.as_deref(), AT_ONCE).await?;
            let Some(newest) = due.last() else { return Ok(()) };
            last = Some(newest.id().to_owned());
            for mut job in due {
                let id = job.id().to_owned();
                match self.remove_published(job.clone()).await {
                    // Replaced: it is not there any more, and nothing is left to remove.
                    Ok(Gone::Another) => {
                        if let Err(e) = self.forget_output(&mut job).await {
                            tracing::debug!(job = id, "the output of job {id} stays in its record: {e}");
                        }
                    }
                    Ok(_) => {}
                    Err(e) => tracing::warn!(job = id, "the output of job {id} is due and stays: {e}"),
                }
            }
        }
    }
}

fn before(now: Timestamp, age: Duration) -> Timestamp {
    now.checked_sub(age).unwrap_or(Timestamp::MIN)
}

//! What leaves by itself: outputs after `limits.output_ttl`, ended jobs after `limits.history`.

use super::Board;
use crate::base::error::Result;
use jiff::Timestamp;
use std::time::Duration;

/// Outputs removed in one round: others come in the next.
const AT_ONCE: usize = 100;

impl Board {
    /// Removes what is due. To be called every minute or so.
    ///
    /// # Errors
    /// Those of the journal. An output that cannot be removed is logged and tried again.
    pub async fn keep_house(&self) -> Result<()> {
        let now = Timestamp::now();
        if let Some(ttl) = self.limits().output_ttl {
            for job in self.journal().outputs_ended_before(before(now, ttl), AT_ONCE).await? {
                let id = job.id().to_owned();
                if let Err(e) = self.remove_published(job).await {
                    tracing::warn!(job = id, "the output of job {id} is due and cannot be removed: {e}");
                }
            }
        }
        let forgotten = self.journal().forget(before(now, self.limits().history)).await?;
        if forgotten > 0 {
            tracing::info!("{forgotten} ended jobs have left the journal");
        }
        Ok(())
    }
}

fn before(now: Timestamp, age: Duration) -> Timestamp {
    now.checked_sub(age).unwrap_or(Timestamp::MIN)
}

//! The node's outward face: how it stands, what it measures, what it tells the orchestrator.
//!
//! What enters: facts from the scheduler, the journal's outbox, the machine's own figures. What
//! leaves: the node's state on a watch channel, and three kinds of message to the orchestrator
//! (contract, section 5): heartbeats, progress, events. Whatever the orchestrator or a disk does,
//! nothing here makes a job, a viewer or the control API wait. No HTTP that others call, no libav.
//!
//! | module | what |
//! | --- | --- |
//! | `state` | the node's one state, published when it moves |
//! | `telemetry` | processor, memory and threads, by a thread of its own |
//! | `disks` | file systems, each by a thread of its own, since any of them may hang |
//! | `orchestrator` | one POST to the orchestrator, and what its answer means |
//! | `link` | whether the orchestrator is there, and the counters for the metrics |
//! | `heartbeat`, `progress`, `outbox` | the three kinds of message |
//! | `ledger` | what these need of the journal |
//! | `backoff` | how long to wait before trying again |

pub mod backoff;
pub mod conditions;
pub mod desk;
pub mod disks;
pub mod heartbeat;
pub mod ledger;
pub mod link;
pub mod orchestrator;
pub mod outbox;
pub mod progress;
pub mod state;
pub mod telemetry;

#[cfg(test)]
mod fakes;

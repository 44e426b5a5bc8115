//! The work: what is taken, what waits, what runs, and what is written down about it.
//!
//! What enters: validated job documents, and facts about the node. What leaves: outputs in their
//! place, and jobs whose every step is in the journal. One transcode from source to published output
//! is [`transcode`], which the command line uses too. No HTTP and no libav here.

pub mod admission;
pub mod board;
mod cores;
pub mod deaths;
pub mod jit;
pub mod journal;
pub mod queue;
mod runner;
pub mod transcode;

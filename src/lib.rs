//! sprocket: a media transcoding node. Libav runs in this process; exact HLS or single files come out.
//!
//! ```text
//!   sprocket transcode INPUT -o OUT (cli)        POST /jobs
//!            |                                       |
//!            |                     http::jobs --> work::board --> work::journal (on the disk, then 202)
//!            |                                       |
//!            |                                  work::runner <-- a slot, a node that is well (node::conditions)
//!            +-------------> work::transcode <-------+
//!                                 |
//!   media::inspect --> facts --> media::plan --> Plan
//!                                                 |
//!   source --> demux -8-> decode -3-> filter -2-> encode -64-> mux --> SegmentSink --> store::hls_dir
//!              \______________________ media::pipeline _________/                      (or one file)
//!                                                 |
//!   output opened again <-- media::verify <-------+      then renamed into place: done
//!
//!   GET /stream/...  http::stream --> store (what a job has published so far)
//!   GET /vod/...     http::vod --> work::jit --> store::cache, or a run of the same pipeline, from that place
//! ```
//!
//! The numbers are queue capacities in items: all bounded (`media/items.rs`).
//!
//! - **One timeline.** [`model::timeline`] alone knows where segment N starts: integers and
//!   rationals, no floating point, no running state. Key frames, cuts, playlists and progress ask it.
//! - **One pipeline.** [`media::pipeline::run`] takes a window of segments; a whole job and a single
//!   segment differ in nothing else. A segment is a function of (source, rendition, index).
//! - **One unsafe island.** Only [`av`] (with `ffi/`) says `unsafe` or names ffmpeg-next.
//!
//! Rooms, from the ground up: [`base`] (time, errors, abort flag, publishing of files), [`model`]
//! (data and pure functions), [`container`] (MPEG-TS, fragmented MP4, codec strings: bytes, pure),
//! [`config`] (settings and path mapping), [`check`] (the judge of HLS streams: bytes, pure), [`av`] (libav, safe), [`media`] (the pipeline), [`store`]
//! (where outputs live), [`work`] (jobs: taken, kept, run), [`node`] (the node's state, and what it tells
//! its orchestrator), [`http`] (the control API), [`app`] (all of it put together), [`cli`]. Who may
//! import whom is a table in `tests/architecture.rs`, which enforces it.
//!
//! Reading order for the first day: `README.md`, this page, `app.rs`, `work/board.rs`,
//! `media/pipeline.rs`, `model/timeline.rs`, one stage (`media/encode.rs`), `tests/windows.rs`.

pub mod app;
pub mod av;
pub mod base;
pub mod check;
pub mod cli;
pub mod config;
pub mod container;
pub mod hardware;
pub mod http;
pub mod media;
pub mod model;
pub mod node;
pub mod store;
pub mod work;

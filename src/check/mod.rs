//! Does an HLS stream keep the rules that televisions and players need? Judged from the bytes alone.
//!
//! ```text
//!   walk: entry playlist -> media playlists -> init + segments, one at a time -> asked again (HTTP)
//!            |                    |                  |
//!            m3u8                 m3u8         ts -> program \
//!            |                    |            mp4 -> fragment -> media -> joints
//!            v                    v                                          |
//!         master, playlists <-----+------------------------------------------+--> report
//! ```
//!
//! What enters: an address, and a [`Source`] that fetches. What leaves: a [`Report`] with every row of
//! the list in docs/CHECK.md: kept, broken with the places, advice, or not applicable with the reason.
//!
//! The judge is independent of the writers: it reads transport streams, boxes, parameter sets, sound and
//! playlists with readers of its own, so that a misunderstanding in `container` or `model::playlist`
//! does not judge itself. Must not live here: sockets, disks, libav, anything that writes media.

mod again;
mod audio;
mod bytes;
mod codecs;
mod fragment;
mod http;
mod joints;
mod levels;
mod m3u8;
mod master;
mod media;
mod mp4;
mod playlists;
mod program;
mod report;
mod source;
mod sps;
mod ts;
mod walk;

pub use report::{Place, Report, Row, RowResult, Verdict};
pub use source::{Answer, Method, Request, Source, Trouble, Url};
pub use walk::{Options, check};

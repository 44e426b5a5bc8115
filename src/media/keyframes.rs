//! Where the key frames of a source are, by reading its packets (not by decoding).

use super::demux::OPEN_LIMIT;
use crate::av::input::Input;
use crate::av::log::RunLog;
use crate::av::{Packet, Received};
use crate::base::cancel::Cancel;
use crate::base::error::{Result, Stage};
use std::path::Path;

/// The presentation times of all key frames of `stream`, in its ticks, rising.
///
/// Reads the whole file once. The index that some containers have would be quicker, but lists
/// decode times in MP4 and only some key frames in Matroska, and a cut has to be exact.
pub fn scan(path: &Path, stream: usize, cancel: &Cancel) -> Result<Vec<i64>> {
    let log = RunLog::new();
    let mut input = Input::open(path, cancel, &log, OPEN_LIMIT)?;
    input.keep_only(&[stream]);
    let mut packet = Packet::new().map_err(|e| e.at(Stage::Plan, "cannot look for key frames"))?;
    let mut keys = Vec::new();
    loop {
        match input.read(&mut packet)? {
            Received::Item if packet.is_key() && packet.stream() == stream => {
                keys.extend(packet.pts().or(packet.dts()))
            }
            Received::Item | Received::NeedsInput => {}
            Received::End => break,
        }
    }
    keys.sort_unstable();
    keys.dedup();
    Ok(keys)
}

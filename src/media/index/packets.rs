//! The index of a file without usable tables: every packet is looked at once.

use super::{Gathered, Key, Sought, Streams};
use crate::av::input::Input;
use crate::av::{Packet, Received};
use crate::base::error::{Result, Stage};
use crate::container::nal;

/// Packets of sound of which the sizes are noted: more than a week has. What comes then is not counted.
const MAX_AUDIO: usize = 32 << 20;

/// Reads `input`, which stands at the beginning, to its end.
pub(super) fn scan(sought: &Sought<'_>, input: &mut Input, streams: &Streams) -> Result<Vec<Key>> {
    let audio = streams.audio.map(|(index, _)| index);
    input.keep_only(&[Some(streams.video), audio].into_iter().flatten().collect::<Vec<_>>());
    let mut packet = Packet::new().map_err(|e| e.at(Stage::Plan, "cannot look for key frames"))?;
    let mut gathered = Gathered::default();
    loop {
        sought.cancel.check(Stage::Plan)?;
        match input.read(&mut packet)? {
            Received::Item => take(&packet, streams, &mut gathered),
            Received::NeedsInput => {}
            Received::End => break,
        }
    }
    Ok(gathered.into_keys(streams))
}

fn take(packet: &Packet, streams: &Streams, gathered: &mut Gathered) {
    let bytes = packet.data().len() as u64;
    let Some(time) = packet.pts().or(packet.dts()) else {
        if packet.stream() == streams.video {
            gathered.picture(bytes);
        }
        return;
    };
    if packet.stream() == streams.video {
        if packet.is_key() {
            let is_idr = streams
                .framing
                .and_then(|(codec, format)| nal::starts_with_idr(codec, format, packet.data()));
            gathered.key(time, None, is_idr);
        }
        gathered.picture(bytes);
    } else if streams.audio.is_some_and(|(index, _)| index == packet.stream())
        && gathered.audio.len() < MAX_AUDIO
    {
        gathered.audio.push((time, bytes));
    }
}

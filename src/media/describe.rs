//! What a rendition's segments will be, before any of them is made: so that a playlist can say it.
//!
//! What enters: a plan, and its source where that is open. What leaves: codec strings and init segments. The encoders are opened, as a run
//! opens them, and asked; nothing is encoded. Whoever runs the plan later compares what comes out.

use super::codecs::{open_audio, open_video};
use super::mux::{Packaging, codec_strings};
use super::plan::{AudioPlan, Plan};
use super::warm::Pool;
use super::{audio, encode, tracks};
use crate::av::log::RunLog;
use crate::base::cancel::Cancel;
use crate::base::error::{Error, Result, Stage};
use crate::model::job::Format;
use crate::model::track::{AudioTrack, Tracks, VideoTrack};

/// A rendition, described.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Described {
    /// RFC 6381 codec strings of its tracks, picture first.
    pub codecs: Vec<String>,
    /// The init segment; empty for MPEG-TS, and where only the source's packets tell it (copied AC-3).
    pub init: Vec<u8>,
}

/// Describes the plan's renditions, in its order.
///
/// # Errors
/// What opening the source or an encoder says.
pub fn describe(plan: &Plan, pool: &Pool, cancel: &Cancel, log: &RunLog) -> Result<Vec<Described>> {
    log.enter_thread();
    let copied = copied_tracks(plan, pool, cancel, log)?;
    let audio = match &plan.audio {
        Some(AudioPlan { encode: Some(settings), .. }) => {
            let encoder = open_audio(settings, log)?;
            let grid = audio::grid_of(&encoder, settings);
            let codec = tracks::audio_codec_of(&settings.encoder);
            Some(audio::track_of(&encoder, codec, (settings.channels, settings.bitrate_bps), &grid)?)
        }
        _ => copied.audio,
    };
    let one = |rendition: &super::plan::Rendition| {
        let video = match &rendition.encode {
            Some(settings) => {
                let encoder = open_video(settings, log)?;
                let codec = tracks::codec_of(&settings.encoder);
                let params = encoder.parameters();
                let params = params.map_err(|e| e.at(Stage::Encode, "cannot describe the picture"))?;
                Some(encode::track_of(settings, codec, &params, encoder.reorder_frames()))
            }
            None => copied.video.clone(),
        };
        packaged(plan, Tracks { video, audio: audio.clone() })
    };
    plan.renditions.iter().map(one).collect()
}

#[derive(Default)]
struct Copied {
    video: Option<VideoTrack>,
    audio: Option<AudioTrack>,
}

fn copied_tracks(plan: &Plan, pool: &Pool, cancel: &Cancel, log: &RunLog) -> Result<Copied> {
    let copies_audio = plan.audio.as_ref().is_some_and(|audio| audio.encode.is_none());
    if !plan.copies_video() && !copies_audio {
        return Ok(Copied::default());
    }
    let input = pool.take(&plan.input, cancel, log)?;
    let input = input.get().ok_or_else(|| Error::internal(Stage::Open, "an input was lent that is none"))?;
    let tracks = tracks::describe(plan, input)?;
    Ok(Copied { video: tracks.video, audio: tracks.audio })
}

fn packaged(plan: &Plan, tracks: Tracks) -> Result<Described> {
    let codecs = codec_strings(&tracks)?;
    let init = match plan.format {
        Format::Hls(kind) => Packaging::new(kind, &tracks, None).map(|p| p.init()).unwrap_or_default(),
        Format::Mp4 | Format::Mkv | Format::Ts => Vec::new(),
    };
    Ok(Described { codecs, init })
}

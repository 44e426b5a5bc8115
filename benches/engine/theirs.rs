//! The `ffmpeg` command lines.
//!
//! A ladder can be said to `ffmpeg` in several ways. All that make the same files are here, and the
//! one that is fastest on this machine is what we compare with.

use crate::Result;
use crate::judge::are_identical;
use crate::process::{ffmpeg, run_together};
use crate::work::{AUDIO_BPS, CHANNELS, CRF, PRESET, Rendition, Work, folder_of};
use std::fmt;
use std::fs;
use std::path::Path;
use std::process::Command;

/// How much of the clip the forms are tried on.
const TRIAL_SECONDS: f64 = 20.0;
/// What the `ffmpeg` command gives every muxer of its own, which those behind `tee` do not inherit.
/// Without it each packet of sound is padded to whole TS packets by itself, and the files grow by 4 %.
const MUX_DELAY: &str = "max_delay=700000";
/// How often each form is tried; its best time counts.
const TRIALS: usize = 2;

/// A way to say a ladder.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    /// One output for each rendition, each with its own scaler and its own sound.
    Outputs,
    /// The picture split inside one filter graph; one output for each rendition, each with its own sound.
    Graph,
    /// The same graph, but one HLS muxer that makes all renditions (`-var_stream_map`), which wants
    /// its own encode of the sound for each.
    Map,
    /// The same graph; the sound encoded once and given to all renditions by the `tee` muxer.
    Tee,
}

const FORMS: [Form; 4] = [Form::Outputs, Form::Graph, Form::Map, Form::Tee];

impl fmt::Display for Form {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Outputs => "outputs with -vf each",
            Self::Graph => "split graph, an output each",
            Self::Map => "split graph, -var_stream_map",
            Self::Tee => "split graph, tee muxer with the sound encoded once",
        })
    }
}

/// The form that is fastest for this work, and a line that says how the others did.
pub fn fastest(work: &Work, room: &Path) -> Result<(Form, String)> {
    if work.renditions.len() == 1 {
        return Ok((Form::Outputs, "ffmpeg: one output with -vf".into()));
    }
    let seconds = TRIAL_SECONDS.min(work.clip.seconds);
    let mut times = FORMS.map(|form| (form, room.join(format!("trial-{form:?}")), f64::INFINITY));
    for trial in 1..=TRIALS {
        eprintln!("trial {trial} of {TRIALS} of the ways to say this to ffmpeg");
        for (form, output, best_s) in &mut times {
            let command = command_for(work, *form, output, Some(seconds))?;
            *best_s = best_s.min(run_together(vec![command], &room.join("logs"))?.wall_s);
        }
    }
    let outputs = times.clone().map(|(_, output, _)| output);
    let identical = work.renditions.iter().map(|r| are_identical(&outputs, r)).collect::<Result<Vec<_>>>()?;
    outputs.iter().try_for_each(fs::remove_dir_all)?;
    let same = if identical.into_iter().all(|same| same) {
        "all made the same bytes"
    } else {
        "NOT all the same bytes"
    };
    let list: Vec<String> = times.iter().map(|(form, _, s)| format!("{form} {s:.2} s")).collect();
    let form = times.into_iter().min_by(|a, b| a.2.total_cmp(&b.2)).map_or(Form::Outputs, |(form, ..)| form);
    let trials = format!("tried on {seconds:.0} s, best of {TRIALS}, {same}: {}", list.join("; "));
    Ok((form, format!("ffmpeg: {form} ({trials})")))
}

/// The command that does the work, with its output folders made.
pub fn command(work: &Work, form: Form, output: &Path) -> Result<Command> {
    command_for(work, form, output, None)
}

fn command_for(work: &Work, form: Form, output: &Path, seconds: Option<f64>) -> Result<Command> {
    for rendition in &work.renditions {
        fs::create_dir_all(folder_of(output, rendition))?;
    }
    let mut command = ffmpeg();
    // Names of outputs are relative, so that nothing in a path has to be escaped for tee.
    command.current_dir(output);
    if let Some(seconds) = seconds {
        command.args(["-t", &seconds.to_string()]);
    }
    command.arg("-i").arg(&work.clip.path);
    if form != Form::Outputs {
        command.args(["-filter_complex", &graph(work)]);
    }
    match form {
        Form::Outputs | Form::Graph => outputs(&mut command, work, form),
        Form::Map => one_muxer(&mut command, work),
        Form::Tee => tee(&mut command, work),
    }
    Ok(command)
}

fn graph(work: &Work) -> String {
    let (mut heads, mut tails) = (String::new(), String::new());
    for (i, Rendition { width, height, .. }) in work.renditions.iter().enumerate() {
        heads += &format!("[s{i}]");
        tails += &format!(";[s{i}]scale={width}:{height}[v{i}]");
    }
    format!("[0:v:0]split={}{heads}{tails}", work.renditions.len())
}

fn outputs(command: &mut Command, work: &Work, form: Form) {
    for (i, rendition) in work.renditions.iter().enumerate() {
        let (width, height, name) = (rendition.width, rendition.height, rendition.name);
        if form == Form::Graph {
            command.args(["-map", &format!("[v{i}]")]);
        } else {
            command.args(["-map", "0:v:0", "-vf", &format!("scale={width}:{height}")]);
        }
        command.args(["-map", "0:a:0"]);
        encoders(command, work);
        cap(command, 0, rendition);
        command.args(["-f", "hls"]);
        for (key, value) in segments(work) {
            command.args([format!("-{key}"), value]);
        }
        command.args(["-hls_segment_filename", &format!("{name}/%d.ts"), &format!("{name}/index.m3u8")]);
    }
}

fn one_muxer(command: &mut Command, work: &Work) {
    let mut map = Vec::new();
    for (i, rendition) in work.renditions.iter().enumerate() {
        command.args(["-map", &format!("[v{i}]"), "-map", "0:a:0"]);
        cap(command, i, rendition);
        map.push(format!("v:{i},a:{i},name:{}", rendition.name));
    }
    encoders(command, work);
    command.args(["-f", "hls", "-var_stream_map", &map.join(" ")]);
    for (key, value) in segments(work) {
        command.args([format!("-{key}"), value]);
    }
    command.args(["-hls_segment_filename", "%v/%d.ts", "%v/index.m3u8"]);
}

fn tee(command: &mut Command, work: &Work) {
    let options: Vec<String> = segments(work).map(|(key, value)| format!("{key}={value}")).into();
    let options = options.join(":");
    let mut slaves = Vec::new();
    for (i, rendition) in work.renditions.iter().enumerate() {
        command.args(["-map", &format!("[v{i}]")]);
        cap(command, i, rendition);
        let name = rendition.name;
        let files = format!("hls_segment_filename={name}/%d.ts]{name}/index.m3u8");
        slaves.push(format!("[select='v\\:{i},a\\:0':f=hls:{MUX_DELAY}:{options}:{files}"));
    }
    command.args(["-map", "0:a:0"]);
    encoders(command, work);
    // As the HLS muxer itself would ask for.
    command.args(["-flags", "+global_header", "-f", "tee", &slaves.join("|")]);
}

fn encoders(command: &mut Command, work: &Work) {
    let frames = work.segment_frames();
    command.args(["-c:v", "libx264", "-preset", PRESET, "-crf", &CRF.to_string(), "-g", &frames.to_string()]);
    command.args(["-forced-idr", "1", "-force_key_frames", &format!("expr:gte(n,n_forced*{frames})")]);
    command.args(["-c:a", "aac", "-b:a", &AUDIO_BPS.to_string(), "-ac", &CHANNELS.to_string()]);
}

fn cap(command: &mut Command, video: usize, rendition: &Rendition) {
    if let Some(bps) = rendition.cap_bps {
        let bps = bps.to_string();
        command.args([&format!("-maxrate:v:{video}"), &bps, &format!("-bufsize:v:{video}"), &bps]);
    }
}

fn segments(work: &Work) -> [(&'static str, String); 3] {
    let us = work.segment_us();
    let length = format!("{}.{:06}", us / 1_000_000, us % 1_000_000);
    [("hls_time", length), ("hls_playlist_type", "vod".into()), ("hls_segment_type", "mpegts".into())]
}

//! `sprocket probe`: what the devices of this machine can do, tried here and now.
//!
//! What enters: the configuration, for what may be touched; the machine. What leaves: a line for each codec on
//! each device, proven or refused with the reason, or the same as JSON. [`trial()`] is what a child of the
//! prober runs.

use super::config::load;
use crate::base::error::{Error, ErrorKind, Result, Stage};
use crate::hardware::prober::Prober;
use crate::hardware::report::{CodecReport, DeviceReport, Direction, Report, Source, Verdict};
use crate::hardware::trial::{self, Order};
use std::fmt::Write as _;
use std::io::{self, Write as _};
use std::path::Path;

/// Tries everything and prints what it saw.
///
/// # Errors
/// `bad_config`; `io` when stdout cannot be written.
pub fn run(file: Option<&Path>, json: bool) -> Result<()> {
    let settings = load(file)?.settings;
    let prober = Prober::new(&settings.hardware).map_err(|e| {
        Error::new(ErrorKind::Io, "io", Stage::Plan, format!("this program's own file is not known: {e}"))
    })?;
    let report = prober.probe();
    let text = if json { as_json(&report) } else { as_text(&report) };
    let written = io::stdout().lock().write_all(text.as_bytes());
    written.map_err(|e| Error::io(Stage::Plan, "write to", Path::new("stdout"), &e))
}

/// What a child of the prober does: one trial, its answer on stdout.
///
/// # Errors
/// `bad_request`: nobody but the prober calls this.
pub fn trial(order: &str) -> Result<()> {
    trial::die_with_parent();
    let order: Order = serde_json::from_str(order).map_err(|e| {
        Error::new(ErrorKind::Usage, "bad_request", Stage::Plan, format!("no order for a trial: {e}"))
    })?;
    let answer = serde_json::to_string(&trial::perform(&order)).unwrap_or_default();
    // Drivers hang over leaving too: what is wanted of this process is out.
    let mut out = io::stdout().lock();
    let code = i32::from(out.write_all(answer.as_bytes()).and_then(|()| out.flush()).is_err());
    crate::av::crash::exit_at_once(code)
}

fn as_json(report: &Report) -> String {
    let text = serde_json::to_string_pretty(report).unwrap_or_default();
    text + "\n"
}

fn as_text(report: &Report) -> String {
    let mut text = String::new();
    if let Source::Command { because } = &report.listing {
        let _ = writeln!(text, "libav cannot be asked ({}): the ffmpeg command was", because.message);
    }
    for device in &report.devices {
        about_device(&mut text, device);
    }
    if report.devices.is_empty() {
        text += "no device may be touched (hardware.acceleration is off), or none is known\n";
    }
    let working = report.working().filter(|device| !device.software).count();
    let _ = writeln!(text, "{working} of {} kinds of devices work here", report.devices.len());
    text
}

fn about_device(text: &mut String, device: &DeviceReport) {
    let at = device.node.as_deref().map(|node| format!(" at {node}")).unwrap_or_default();
    let name = device.name.as_deref().map(|name| format!(" ({name})")).unwrap_or_default();
    let software = if device.software { ", a software renderer: used only where it is named" } else { "" };
    line(text, 0, &format!("{}{at}{name}{software}", device.kind), &device.verdict, "");
    // A device that does not open has said why; its codecs could only repeat it.
    if !device.verdict.is_proven() && device.codecs.iter().all(|codec| codec.verdict == device.verdict) {
        let encoders = device.codecs.iter().filter(|codec| codec.direction == Direction::Encode);
        let names = distinct(encoders.map(|codec| codec.name.clone()).collect());
        if !names.is_empty() {
            let _ = writeln!(text, "    so neither does {}", names.join(", "));
        }
        return;
    }
    if device.verdict.is_proven() {
        line(text, 1, "scaling", &device.scaling, "");
    }
    for codec in &device.codecs {
        line(text, 1, &codec_name(codec), &codec.verdict, &sessions(codec));
    }
}

fn distinct(mut names: Vec<String>) -> Vec<String> {
    names.sort();
    names.dedup();
    names
}

fn codec_name(codec: &CodecReport) -> String {
    let way = match codec.direction {
        Direction::Encode => "encode",
        Direction::Decode => "decode",
    };
    let format = format!("{:?}", codec.codec).to_uppercase();
    format!("{way} {format}, {} bits ({})", codec.bit_depth, codec.name)
}

fn sessions(codec: &CodecReport) -> String {
    match codec.sessions {
        Some(n) if n >= trial::MOST_SESSIONS => format!(", {n} or more at once"),
        Some(n) => format!(", {n} at once"),
        None => String::new(),
    }
}

fn line(text: &mut String, depth: usize, what: &str, verdict: &Verdict, more: &str) {
    let indent = "  ".repeat(depth);
    let _ = match verdict {
        Verdict::Proven => writeln!(text, "{indent}{what}: proven{more}"),
        Verdict::Refused(reason) => writeln!(text, "{indent}{what}: refused: {}", reason.message),
        Verdict::Claimed(reason) => writeln!(text, "{indent}{what}: claimed, not proven: {}", reason.message),
    };
    if let Some(hint) = verdict.reason().and_then(|reason| reason.hint.as_deref()) {
        let _ = writeln!(text, "{indent}    {hint}");
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::hardware::Kind;
    use crate::hardware::report::Reason;
    use crate::model::track::VideoCodec;

    fn codec(verdict: Verdict, sessions: Option<u32>) -> CodecReport {
        CodecReport {
            direction: Direction::Encode,
            codec: VideoCodec::H264,
            bit_depth: 8,
            name: "h264_vaapi".into(),
            verdict,
            sessions,
            took_ms: 5,
        }
    }

    #[test]
    fn the_text_says_what_works_and_what_to_do_about_the_rest() {
        let refused = Verdict::Refused(Reason::new("no_device", "there is no card").hint("put one in"));
        let device = |verdict: Verdict, codec| DeviceReport {
            kind: Kind::Vaapi,
            node: Some("/dev/dri/renderD128".into()),
            name: Some("Intel iHD".into()),
            software: false,
            scaling: verdict.clone(),
            verdict,
            codecs: vec![codec],
        };
        let report = Report {
            libav: String::new(),
            listing: Source::Libav,
            devices: vec![
                device(Verdict::Proven, codec(Verdict::Proven, Some(8))),
                device(refused.clone(), codec(refused, None)),
            ],
            took_ms: 12,
        };
        let wanted = "\
vaapi at /dev/dri/renderD128 (Intel iHD): proven
  scaling: proven
  encode H264, 8 bits (h264_vaapi): proven, 8 or more at once
vaapi at /dev/dri/renderD128 (Intel iHD): refused: there is no card
    put one in
    so neither does h264_vaapi
1 of 2 kinds of devices work here
";
        assert_eq!(as_text(&report), wanted);
        let back: Report = serde_json::from_str(&as_json(&report)).unwrap();
        assert_eq!(back, report);
    }
}

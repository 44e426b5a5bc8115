//! `sprocket check`: does an HLS stream keep the rules that televisions need?
//!
//! What enters: an address or a folder. What leaves: a line for each row on stdout, or the report as
//! JSON, and an exit code: 0 when all rows are kept, 1 when one is broken, 2 for what is no stream's
//! address. Fetching lives in `folder` and `remote`; judging is the room `check`'s work.

use crate::base::cancel::Cancel;
use crate::base::error::{Error, ErrorKind, Result, Stage};
use crate::check::{Options, Report, RowResult, Source, Url, Verdict, check};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

mod folder;
mod remote;

/// Places that are printed for one row; JSON has more.
const SHOWN_PLACES: usize = 5;

/// `sprocket check URL|DIR [options]`.
#[derive(clap::Args, Debug)]
pub struct CheckArgs {
    /// A playlist's address (http, https), a folder with playlists, or a playlist file
    #[arg(value_name = "URL|DIR")]
    pub stream: String,
    /// The report as JSON on stdout
    #[arg(long)]
    pub json: bool,
    /// Read about so many segments of each playlist, the first and last among them [default: all]
    #[arg(long, value_name = "SEGMENTS", value_parser = clap::value_parser!(u32).range(2..))]
    pub sample: Option<u32>,
}

/// Checks a stream and prints what was found.
///
/// # Errors
/// `rules_broken` when a row is broken; `bad_request` for what is neither an address nor a place;
/// `no_playlist` and what the file system says when there is nothing to be read.
pub fn run(args: &CheckArgs, cancel: &Cancel) -> Result<()> {
    let (entry, mut source) = open(&args.stream, cancel)?;
    let options = Options { sample: args.sample.map(|most| most as usize) };
    let report = check(source.as_mut(), &entry, options)?;
    print(&report, args.json)?;
    let broken = report.broken().count();
    if broken == 0 {
        return Ok(());
    }
    let message = format!("{broken} of {} rules are broken", judged(&report));
    Err(Error::new(ErrorKind::BadSource, "rules_broken", Stage::Verify, message)
        .hint("below each stands where; docs/CHECK.md says what it means"))
}

fn open(stream: &str, cancel: &Cancel) -> Result<(Url, Box<dyn Source>)> {
    let is_address = stream.split_once("://").is_some_and(|(scheme, _)| !scheme.contains('/'));
    if !is_address {
        let entry = folder::entry(Path::new(stream))?;
        return Ok((entry, Box::new(folder::Folder::new(cancel.clone()))));
    }
    let usage = |why: String| {
        Error::new(
            ErrorKind::Usage,
            "bad_request",
            Stage::Plan,
            format!("{stream:?} is no address of a stream: {why}"),
        )
        .hint("name an http or https address of a playlist, or a folder")
    };
    let url = Url::parse(stream).map_err(|e| usage(e.to_string()))?;
    if !matches!(url.scheme(), "http" | "https") {
        return Err(usage(format!("the scheme {:?} is not known here", url.scheme())));
    }
    Ok((url, Box::new(remote::Remote::new(cancel.clone())?)))
}

fn judged(report: &Report) -> usize {
    report.rows.iter().filter(|row| row.verdict != Verdict::NotApplicable).count()
}

fn print(report: &Report, json: bool) -> Result<()> {
    let text = if json { as_json(report)? } else { as_text(report) };
    match io::stdout().lock().write_all(text.as_bytes()) {
        // Somebody has read enough; the exit code still says how it went.
        Err(e) if e.kind() != io::ErrorKind::BrokenPipe => {
            Err(Error::io(Stage::Publish, "write to", &PathBuf::from("stdout"), &e))
        }
        _ => Ok(()),
    }
}

fn as_json(report: &Report) -> Result<String> {
    let text = serde_json::to_string_pretty(report);
    text.map(|text| text + "\n")
        .map_err(|e| Error::internal(Stage::Publish, format!("the report does not fit into JSON: {e}")))
}

fn as_text(report: &Report) -> String {
    let mut lines = vec![format!(
        "{}: {} media playlists, {} of {} segments read",
        one_line(&report.stream),
        report.media_playlists,
        report.segments_read,
        report.segments_named
    )];
    report.rows.iter().for_each(|row| row_lines(row, &mut lines));
    let count = |verdict| report.rows.iter().filter(|row| row.verdict == verdict).count();
    lines.push(format!(
        "{} kept, {} broken, {} with advice, {} not applicable",
        count(Verdict::Kept),
        count(Verdict::Broken),
        count(Verdict::Advice),
        count(Verdict::NotApplicable)
    ));
    lines.join("\n") + "\n"
}

fn row_lines(row: &RowResult, lines: &mut Vec<String>) {
    let verdict = match row.verdict {
        Verdict::Kept => "kept",
        Verdict::Broken => "BROKEN",
        Verdict::Advice => "advice",
        Verdict::NotApplicable => "n/a",
    };
    let reason = row.reason.as_ref().map_or(String::new(), |reason| format!(" ({reason})"));
    lines.push(format!("{verdict:<6}  {:<3}  {}{}", row.id, row.title, one_line(&reason)));
    for place in row.places.iter().take(SHOWN_PLACES) {
        lines.push(format!("             {}: {}", one_line(&place.uri), one_line(&place.detail)));
    }
    let more = row.more + row.places.len().saturating_sub(SHOWN_PLACES) as u64;
    if more > 0 {
        lines.push(format!("             and {more} more"));
    }
}

/// What a stranger's playlist says must not be able to forge a line.
fn one_line(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { '?' } else { c }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::check::Place;

    #[test]
    fn people_read_this() {
        let place = |n: u32| Place { uri: format!("{n}.ts"), detail: "bad\nT7 kept".into() };
        let row = |id, verdict, places, more| RowResult {
            id,
            title: "what it asks for",
            verdict,
            reason: (verdict == Verdict::NotApplicable).then(|| "no sound".into()),
            places,
            more,
        };
        let report = Report {
            stream: "http://h/master.m3u8".into(),
            media_playlists: 2,
            segments_read: 8,
            segments_named: 9,
            rows: vec![
                row("T5", Verdict::Kept, vec![], 0),
                row("T6", Verdict::Broken, (0..7).map(place).collect(), 3),
                row("T9", Verdict::NotApplicable, vec![], 0),
            ],
        };
        let text = as_text(&report);
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(lines[0], "http://h/master.m3u8: 2 media playlists, 8 of 9 segments read");
        assert_eq!(lines[1], "kept    T5   what it asks for");
        assert_eq!(lines[2], "BROKEN  T6   what it asks for");
        assert_eq!(lines[3], "             0.ts: bad?T7 kept");
        assert_eq!(lines[8], "             and 5 more");
        assert_eq!(lines[9], "n/a     T9   what it asks for (no sound)");
        assert_eq!(lines[10], "1 kept, 1 broken, 0 with advice, 1 not applicable");
        assert_eq!(judged(&report), 2);
    }

    #[test]
    fn addresses_and_places_are_told_apart() {
        let refused = |stream: &str| open(stream, &Cancel::new()).err().map(|e| e.code());
        assert_eq!(refused("ftp://host/master.m3u8"), Some("bad_request"));
        assert_eq!(refused("http://"), Some("bad_request"));
        assert_eq!(refused("/nowhere/at/all"), Some("not_found"));
        assert_eq!(refused("http://127.0.0.1:1/master.m3u8"), None);
    }
}

//! The scenarios: both sides in turn, then the look at what they made.

use crate::Result;
use crate::clip::Clip;
use crate::judge::{self, Made};
use crate::ours;
use crate::process::{Cost, run_together, too_small_to_tell};
use crate::table::{self, Row, cost_rows};
use crate::theirs::{self, Form};
use crate::work::{Rendition, Work};
use std::fs;
use std::path::{Path, PathBuf};

/// Jobs at once in the scenario `four`.
const JOBS: usize = 4;
/// Wall time that is wanted of one job, as a share of theirs.
const WALL_OF_ONE: f64 = 0.95;
/// The same for [`JOBS`] at once.
const WALL_OF_FOUR: f64 = 1.0;
/// Share of their size that ours may be off.
const SIZE_WITHIN: f64 = 0.02;
/// Share of the processors that others may take before wall times mean nothing.
const OTHERS_AT_MOST: f64 = 0.05;
/// PSNR that ours may differ by.
const PSNR_WITHIN_DB: f64 = 0.1;

/// One scenario, from the first run to its table on stdout. `name` is one that `settings` knows.
pub fn run(name: &str, clip: &Clip, runs: u32, room: &Path) -> Result<()> {
    let (title, work, jobs) = match name {
        "ladder" => ("ladder 720/480/360", Work::ladder(clip, false), 1),
        "capped" => ("ladder 720/480/360 with caps", Work::ladder(clip, true), 1),
        "four" => ("four single 720p at once: one process against four", Work::single(clip), JOBS),
        _ => ("single 720p", Work::single(clip), 1),
    };
    let room = room.join(name);
    fs::create_dir_all(&room)?;
    let (form, remark) = theirs::fastest(&work, &room)?;
    let scenario = Scenario { work: &work, form, jobs, room: &room };
    let costs = scenario.costs(runs)?;
    let (rows, mut remarks) = scenario.verdict(&costs)?;
    remarks.insert(0, remark);
    table::print(title, &rows);
    remarks.iter().for_each(|remark| println!("- {remark}"));
    println!();
    Ok(fs::remove_dir_all(room)?)
}

struct Scenario<'a> {
    work: &'a Work<'a>,
    form: Form,
    jobs: usize,
    room: &'a Path,
}

impl Scenario<'_> {
    fn costs(&self, runs: u32) -> Result<Vec<(Cost, Cost)>> {
        (1..=runs)
            .map(|run| {
                eprintln!("run {run} of {runs}: sprocket");
                let ours = self.run_ours()?;
                eprintln!("run {run} of {runs}: ffmpeg");
                Ok((ours, self.run_theirs()?))
            })
            .collect()
    }

    fn run_ours(&self) -> Result<Cost> {
        let output = fresh(&self.room.join("ours"))?;
        let command = if self.jobs == 1 {
            ours::command(self.work, &output.join("0"))
        } else {
            ours::worker(self.work, self.jobs, &output)?
        };
        run_together(vec![command], &self.room.join("logs"))
    }

    fn run_theirs(&self) -> Result<Cost> {
        let output = fresh(&self.room.join("theirs"))?;
        let command = |job: usize| theirs::command(self.work, self.form, &output.join(job.to_string()));
        let commands = (0..self.jobs).map(command).collect::<Result<_>>()?;
        run_together(commands, &self.room.join("logs"))
    }

    /// The table's rows, and remarks on what a number alone does not say.
    fn verdict(&self, costs: &[(Cost, Cost)]) -> Result<(Vec<Row>, Vec<String>)> {
        let wall = if self.jobs == 1 { WALL_OF_ONE } else { WALL_OF_FOUR };
        let (mut rows, mut remarks) = (Vec::from(cost_rows(costs, wall)), Vec::new());
        for rendition in &self.work.renditions {
            self.judge(rendition, &mut rows, &mut remarks)?;
        }
        remarks.push(others(costs));
        if self.jobs > 1 {
            remarks.push(
                "ffmpeg's memory is the sum of its processes' peaks: what they share counts in each".into(),
            );
        }
        if costs.iter().any(|(a, b)| too_small_to_tell(a.peak_bytes) || too_small_to_tell(b.peak_bytes)) {
            remarks
                .push("INVALID peak memory: this comparison itself was larger than what it measured".into());
        }
        Ok((rows, remarks))
    }

    fn judge(&self, rendition: &Rendition, rows: &mut Vec<Row>, remarks: &mut Vec<String>) -> Result<()> {
        let (ours, theirs) = (self.outputs("ours"), self.outputs("theirs"));
        let (Some(our_first), Some(their_first)) = (ours.first(), theirs.first()) else { return Ok(()) };
        let (a, b) = (judge::look(our_first, rendition)?, judge::look(their_first, rendition)?);
        eprintln!("comparing the pictures of {} with the source", rendition.name);
        let psnr = judge::psnr_db(self.work, rendition, our_first, their_first)?;
        rows.push(Row::size(
            &format!("size {}", rendition.name),
            (a.bytes as f64, b.bytes as f64),
            SIZE_WITHIN,
        ));
        rows.push(Row::psnr(&format!("PSNR {}", rendition.name), psnr, PSNR_WITHIN_DB));
        remarks.extend(self.compare(rendition, &a, &b));
        for (side, outputs) in [("sprocket", &ours), ("ffmpeg", &theirs)] {
            if !judge::are_identical(outputs, rendition)? {
                remarks.push(format!(
                    "{side}: its {} outputs are not the same bytes; the first was judged",
                    self.jobs
                ));
            }
        }
        Ok(())
    }

    fn outputs(&self, side: &str) -> Vec<PathBuf> {
        (0..self.jobs).map(|job| self.room.join(side).join(job.to_string())).collect()
    }

    fn compare(&self, rendition: &Rendition, ours: &Made, theirs: &Made) -> Vec<String> {
        let name = rendition.name;
        let mut remarks = Vec::new();
        let differences = ours.x264.differences(&theirs.x264);
        let threads = ours.x264.threads(&theirs.x264);
        if differences.is_empty() {
            remarks.push(format!("{name}: x264 options equal but for threads (ours/theirs: {threads})"));
        } else {
            remarks.push(format!(
                "INVALID {name}: x264 options differ (ours/theirs): {}; {threads}",
                differences.join(", ")
            ));
        }
        let wanted = self.work.clip.frames;
        if (ours.frames, theirs.frames) != (wanted, wanted) {
            remarks.push(format!(
                "INVALID {name}: the source has {wanted} pictures, ours {}, theirs {}",
                ours.frames, theirs.frames
            ));
        }
        if ours.segments != theirs.segments {
            remarks.push(format!("{name}: ours are {} segments, theirs {}", ours.segments, theirs.segments));
        }
        remarks
    }
}

/// How much of the machine went to others while we measured.
fn others(costs: &[(Cost, Cost)]) -> String {
    let most = costs.iter().fold(0.0_f64, |most, (a, b)| most.max(a.others).max(b.others));
    let mark = if most > OTHERS_AT_MOST { "INVALID wall time: " } else { "" };
    format!("{mark}other processes took up to {:.0} % of the processor time", most * 100.0)
}

/// An empty folder.
fn fresh(folder: &Path) -> Result<PathBuf> {
    if folder.exists() {
        fs::remove_dir_all(folder)?;
    }
    fs::create_dir_all(folder)?;
    Ok(folder.to_owned())
}

//! Ratios and the table that shows them, in Markdown.

use crate::process::Cost;

/// Both sides of a run, ours first.
pub type Pair = (f64, f64);

/// One line: a quantity, what it was on both sides, how they compare.
#[derive(Debug)]
pub struct Row {
    cells: [String; 7],
}

impl Row {
    /// A quantity measured in every run. `at_most` is the ratio that we want to stay below.
    pub fn measured(what: &str, pairs: &[Pair], show: fn(f64) -> String, at_most: f64) -> Self {
        let ratios: Vec<f64> = pairs.iter().map(|(ours, theirs)| ours / theirs).collect();
        let side = |pick: fn(&Pair) -> f64| show(median(pairs.iter().map(pick).collect()));
        let ratio = median(ratios.clone());
        let (low, high) = ratios.iter().fold((f64::INFINITY, 0.0_f64), |(l, h), r| (l.min(*r), h.max(*r)));
        let spread = format!("{low:.3}..{high:.3}");
        Self::new(
            what,
            [side(|p| p.0), side(|p| p.1)],
            format!("{ratio:.3}"),
            spread,
            format!("<= {at_most:.2}"),
            ratio <= at_most,
        )
    }

    /// The size of one rendition, which is the same in every run; `within` is a share of theirs.
    pub fn size(what: &str, (ours, theirs): Pair, within: f64) -> Self {
        let ratio = ours / theirs;
        let wanted = format!("1 ± {within:.2}");
        Self::new(
            what,
            [mebibytes(ours), mebibytes(theirs)],
            format!("{ratio:.3}"),
            String::new(),
            wanted,
            (ratio - 1.0).abs() <= within,
        )
    }

    /// The PSNR of one rendition, compared by difference.
    pub fn psnr(what: &str, (ours, theirs): Pair, within_db: f64) -> Self {
        let equal = ours.is_infinite() && theirs.is_infinite();
        let difference = if equal { 0.0 } else { ours - theirs };
        let sides = [format!("{ours:.2} dB"), format!("{theirs:.2} dB")];
        let met = difference.abs() <= within_db;
        Self::new(
            what,
            sides,
            format!("{difference:+.3} dB"),
            String::new(),
            format!("0 ± {within_db:.1} dB"),
            met,
        )
    }

    fn new(
        what: &str,
        [ours, theirs]: [String; 2],
        ratio: String,
        spread: String,
        wanted: String,
        met: bool,
    ) -> Self {
        let met = if met { "yes" } else { "NO" }.to_owned();
        Self { cells: [what.to_owned(), ours, theirs, ratio, spread, wanted, met] }
    }
}

/// Wall, CPU and memory of all runs.
pub fn cost_rows(pairs: &[(Cost, Cost)], wall_at_most: f64) -> [Row; 3] {
    let both = |pick: fn(&Cost) -> f64| pairs.iter().map(|(a, b)| (pick(a), pick(b))).collect::<Vec<Pair>>();
    [
        Row::measured("wall", &both(|c| c.wall_s), seconds, wall_at_most),
        Row::measured("CPU, user + system", &both(|c| c.cpu_s), seconds, 1.0),
        Row::measured("peak memory", &both(|c| c.peak_bytes as f64), mebibytes, 1.0),
    ]
}

/// Prints the rows below their heading, the columns lined up.
pub fn print(title: &str, rows: &[Row]) {
    let head = ["", "sprocket", "ffmpeg", "ratio", "min..max", "wanted", "met"].map(str::to_owned);
    let all: Vec<&[String; 7]> = std::iter::once(&head).chain(rows.iter().map(|row| &row.cells)).collect();
    let width = |column: usize| {
        all.iter()
            .filter_map(|cells| cells.get(column))
            .map(|cell| cell.chars().count())
            .max()
            .unwrap_or(0)
            .max(3)
    };
    println!("### {title}\n");
    for (i, cells) in all.iter().enumerate() {
        let padded: Vec<String> =
            cells.iter().enumerate().map(|(c, cell)| format!("{cell:<width$}", width = width(c))).collect();
        println!("| {} |", padded.join(" | "));
        if i == 0 {
            let rules: Vec<String> = (0..cells.len()).map(|c| "-".repeat(width(c))).collect();
            println!("| {} |", rules.join(" | "));
        }
    }
    println!();
}

/// The middle value, or the mean of the two in the middle; NaN for none.
fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    let half = values.len() / 2;
    let at = |i: usize| values.get(i).copied().unwrap_or(f64::NAN);
    if values.len() % 2 == 1 { at(half) } else { (at(half.saturating_sub(1)) + at(half)) / 2.0 }
}

fn seconds(value: f64) -> String {
    format!("{value:.2} s")
}

fn mebibytes(bytes: f64) -> String {
    format!("{:.2} MiB", bytes / f64::from(1 << 20))
}

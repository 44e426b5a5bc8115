//! Does a stream keep the rules that televisions need? Asked of `sprocket check`, for any test.

use super::run::{Outcome, sprocket};
use serde_json::Value;

/// `sprocket check STREAM --json`, whatever comes out.
#[track_caller]
pub fn checked(stream: &str) -> (Outcome, Value) {
    let outcome = sprocket(&["check", stream, "--json"]);
    assert!(matches!(outcome.code, Some(0 | 1)), "{}\n{}", outcome.command, outcome.stderr);
    let report = serde_json::from_slice(&outcome.stdout);
    let report = report.unwrap_or_else(|e| panic!("{}: {e}\n{}", outcome.command, outcome.stderr));
    (outcome, report)
}

/// Demands that a URL or folder breaks no row. Gives the report, in which advice stands.
#[track_caller]
pub fn assert_kept(stream: &str) -> Value {
    assert_kept_but(stream, &[])
}

/// As [`assert_kept`], but for rows that this stream cannot keep, each of which has to be broken.
#[track_caller]
pub fn assert_kept_but(stream: &str, rows: &[&str]) -> Value {
    let (outcome, report) = checked(stream);
    assert_eq!(broken(&report), rows, "{stream}:\n{}", places(&report));
    assert_eq!(outcome.code, Some(i32::from(!rows.is_empty())), "{}", outcome.stderr);
    report
}

/// Ids of the rows that are broken.
pub fn broken(report: &Value) -> Vec<&str> {
    of(report, "broken").filter_map(|row| row["id"].as_str()).collect()
}

/// How a row came out.
pub fn verdict<'a>(report: &'a Value, id: &str) -> &'a str {
    let rows = report["rows"].as_array().map(Vec::as_slice).unwrap_or_default();
    rows.iter().find(|row| row["id"] == id).and_then(|row| row["verdict"].as_str()).unwrap_or("missing")
}

/// What is broken, and where, a line each.
pub fn places(report: &Value) -> String {
    let mut lines = Vec::new();
    for row in of(report, "broken") {
        lines.push(format!("{} {}", row["id"], row["title"]));
        for place in row["places"].as_array().map(Vec::as_slice).unwrap_or_default() {
            lines.push(format!("  {}: {}", place["uri"], place["detail"]));
        }
    }
    lines.join("\n")
}

fn of<'a>(report: &'a Value, verdict: &'a str) -> impl Iterator<Item = &'a Value> {
    let rows = report["rows"].as_array().map(Vec::as_slice).unwrap_or_default();
    rows.iter().filter(move |row| row["verdict"] == verdict)
}

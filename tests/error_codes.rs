//! Every stable code that the program can say is explained where its reader looks, and nothing else is.
//!
//! What enters: the text of `src` and of the two pages. What leaves: codes that are missing on one side.
//! Reading is lexical: a code is a string in snake_case that stands where a code stands.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

fn read(name: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(name);
    fs::read_to_string(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()))
}

/// The program's own text: files that hold tests are left out, and what follows `#[cfg(test)]`.
fn sources(folder: &Path, into: &mut Vec<String>) {
    for entry in fs::read_dir(folder).expect("a readable folder") {
        let path = entry.expect("an entry").path();
        let name = path.file_stem().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
        if path.is_dir() {
            sources(&path, into);
        } else if !name.ends_with("tests") && name != "fakes" {
            let text = fs::read_to_string(&path).expect("a readable file");
            into.push(text.split("#[cfg(test)]\nmod tests {").next().unwrap_or_default().to_owned());
        }
    }
}

fn is_code(word: &str) -> bool {
    word.len() > 1 && word.chars().all(|c| c.is_ascii_lowercase() || c == '_' || c.is_ascii_digit())
}

/// The string that follows each `before`, if nothing but white space stands between them.
fn strings_after<'a>(text: &'a str, before: &'a str) -> impl Iterator<Item = &'a str> {
    text.match_indices(before).filter_map(|(at, _)| {
        let rest = text[at + before.len()..].trim_start().strip_prefix('"')?;
        Some(rest.split('"').next().unwrap_or_default())
    })
}

/// The codes of errors: the second value of `Error::new`, and of the tuples that are handed to it.
fn said() -> BTreeSet<String> {
    const KINDS: [&str; 12] = [
        "Usage",
        "NotFound",
        "PermissionDenied",
        "BadSource",
        "Unsupported",
        "Conflict",
        "NoSpace",
        "Io",
        "Timeout",
        "Unavailable",
        "Cancelled",
        "Internal",
    ];
    let mut texts = Vec::new();
    sources(&Path::new(env!("CARGO_MANIFEST_DIR")).join("src"), &mut texts);
    let mut codes = BTreeSet::new();
    for text in &texts {
        // A closure that is given the rest.
        codes.extend(strings_after(text, " new(").filter(|code| is_code(code)).map(str::to_owned));
        for kind in KINDS {
            let before = format!("{kind},");
            codes.extend(strings_after(text, &before).filter(|code| is_code(code)).map(str::to_owned));
        }
    }
    codes
}

/// The first string in each making of a problem, where it is a code.
fn problems(text: &str) -> impl Iterator<Item = &str> {
    text.match_indices("Problem::").filter_map(|(at, _)| {
        let call = text[at..].split([';', '\n', '}']).next()?;
        call.split('"').nth(1).filter(|word| is_code(word))
    })
}

/// What stands in backquotes in the first column of the tables of a page.
fn explained(page: &str) -> BTreeSet<String> {
    let rows =
        page.lines().filter_map(|line| line.strip_prefix("| ")).filter_map(|row| row.split(" | ").next());
    let words =
        rows.flat_map(|cell| cell.split('`').skip(1).step_by(2).map(str::to_owned).collect::<Vec<_>>());
    words.filter(|word| is_code(word)).collect()
}

#[test]
fn every_code_of_an_error_is_explained_and_every_explanation_is_of_a_code() {
    let (said, explained) = (said(), explained(&read("docs/ERRORS.md")));
    assert!(said.len() > 50, "the reading finds codes: {said:?}");
    let missing: Vec<_> = said.difference(&explained).collect();
    let stale: Vec<_> = explained.difference(&said).collect();
    assert!(missing.is_empty() && stale.is_empty(), "not explained: {missing:?}; nowhere said: {stale:?}");
}

#[test]
fn what_the_api_refuses_with_stands_in_its_page() {
    let page = read("docs/API.md");
    let admission = read("src/work/admission.rs");
    let mut codes: BTreeSet<String> = ["queue_full", "maintenance", "node_error", "disk_low", "stopping"]
        .into_iter()
        .filter(|code| admission.contains(&format!("\"{code}\"")))
        .map(str::to_owned)
        .collect();
    assert_eq!(codes.len(), 5, "admission has other codes now");
    let submit = read("src/work/board/submit.rs");
    codes.extend(strings_after(&submit, "code:").map(str::to_owned));
    let mut texts = Vec::new();
    sources(&Path::new(env!("CARGO_MANIFEST_DIR")).join("src/http"), &mut texts);
    for text in &texts {
        codes.extend(problems(text).map(str::to_owned));
    }
    assert!(codes.len() > 25, "the reading finds codes: {codes:?}");
    let missing: Vec<_> = codes.iter().filter(|code| !page.contains(&format!("`{code}`"))).collect();
    assert!(missing.is_empty(), "docs/API.md does not explain {missing:?}");
}

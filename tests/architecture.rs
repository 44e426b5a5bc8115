//! The house rules of docs/ARCHITECTURE.md as a failing check.
//!
//! What enters: the text of every file under `src`, and the two lists of dependencies. What leaves:
//! every breach at once, as `file:line: what is wrong and what would be right`. Reading is lexical:
//! comments and literals are blanked, the rest is split into tokens, and each rule is a small pure
//! function over them, shown at the end of this file to catch a planted breach. Nothing here compiles
//! or runs the crate.
//!
//! Two comments lift a rule for one place, and both want their reason on the same line:
//! `// invariant: why` (on the line or the one above it) for what cannot fail or may sleep, and
//! `// table: why` for a function or a file that is long because it is data.

use std::fs;
use std::path::{Path, PathBuf};

#[path = "architecture/reading.rs"]
mod reading;

use reading::{Function, PathUse, Source, functions, has_marker};

/// Each room and the rooms it may import besides itself. One direction: nothing below imports upwards.
/// `lib` and `main` are the files of that name. Rooms that are still to be built have their rows too.
const ROOMS: &[(&str, &[&str])] = &[
    ("base", &[]),
    ("model", &["base"]),
    ("container", &["base", "model"]),
    ("config", &["base", "model"]),
    ("check", &["base"]),
    ("av", &["base", "model"]),
    ("hardware", &["av", "model", "base", "config"]),
    ("media", &["av", "hardware", "model", "base", "container"]),
    ("store", &["model", "base"]),
    ("work", &["media", "store", "hardware", "model", "config", "base"]),
    ("node", &["work", "model", "config", "base"]),
    ("http", &["node", "work", "store", "model", "config", "base"]),
    (
        "app",
        &["http", "node", "work", "store", "media", "hardware", "av", "container", "config", "model", "base"],
    ),
    (
        "cli",
        &[
            "app",
            "check",
            "http",
            "node",
            "work",
            "store",
            "media",
            "hardware",
            "av",
            "container",
            "config",
            "model",
            "base",
        ],
    ),
    (
        "lib",
        &[
            "check",
            "http",
            "node",
            "work",
            "store",
            "media",
            "hardware",
            "av",
            "container",
            "config",
            "model",
            "base",
        ],
    ),
    ("main", &["cli", "base"]),
];

/// Third-party crates that only some rooms may name, by the beginning of the crate's name.
/// Codec code stays free of the async runtime, and libav stays behind `av`.
const FOREIGN: &[(&str, &[&str])] = &[
    ("ffmpeg_next", &["av"]),
    ("ffmpeg_sys", &["av"]),
    ("tokio", &["store", "work", "node", "http", "app", "cli"]),
];

/// The only room that may say `unsafe`.
const UNSAFE_ROOM: &str = "av";
/// The only file that may put a thread to sleep: all others ask its clock, which tests replace.
const CLOCK_FILE: &str = "src/base/clock.rs";
/// The only file that may start a program: children of this binary for the prober, and the one command that stands
/// in where such a child dies.
const STARTS_PROGRAMS: &str = "src/hardware/child.rs";
/// Hard stop for a function, from its `fn` line to its closing brace.
const MAX_FN_LINES: usize = 80;
/// Hard stop for a file, its tests included; put long tests into a sibling file.
const MAX_FILE_LINES: usize = 600;

#[test]
fn the_source_keeps_the_house_rules() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut paths = Vec::new();
    collect_rust_files(&root.join("src"), &mut paths);
    paths.sort();
    assert!(!paths.is_empty(), "no Rust file under {}/src: is this the right folder?", root.display());
    let sources: Vec<Source> = paths
        .iter()
        .map(|path| {
            let text = fs::read_to_string(path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
            let relative = path.strip_prefix(root).expect("it lies under the root");
            Source::new(&relative.to_string_lossy().replace('\\', "/"), &text)
        })
        .collect();
    let found = check(&sources);
    assert!(found.is_empty(), "{} breaches of the house rules:\n{}\n", found.len(), found.join("\n"));
}

#[test]
fn every_dependency_has_its_reason_and_no_reason_outlives_its_crate() {
    let read = |name: &str| {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(name);
        fs::read_to_string(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()))
    };
    let mut wanted = dependencies(&read("Cargo.toml"));
    let mut told = first_cells(&read("docs/DEPENDENCIES.md"));
    wanted.sort();
    told.sort();
    assert_eq!(told, wanted, "docs/DEPENDENCIES.md (left) and Cargo.toml (right) name different crates");
}

/// The crates named under any `[...dependencies]` heading of a manifest.
fn dependencies(manifest: &str) -> Vec<String> {
    let mut inside = false;
    let mut found = Vec::new();
    for line in manifest.lines() {
        if line.starts_with('[') {
            inside = line.trim_end().ends_with("dependencies]");
        } else if let Some((name, _)) = line.split_once('=').filter(|_| inside && !line.starts_with('#')) {
            found.push(name.trim().to_string());
        }
    }
    found
}

/// What stands in backquotes in the first column of a document's tables.
fn first_cells(document: &str) -> Vec<String> {
    let name = |line: &str| Some(line.strip_prefix("| `")?.split_once('`')?.0.to_string());
    document.lines().filter_map(name).collect()
}

fn collect_rust_files(folder: &Path, into: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).unwrap_or_else(|e| panic!("{}: {e}", folder.display())) {
        let path = entry.expect("a readable folder entry").path();
        if path.is_dir() {
            collect_rust_files(&path, into);
        } else if path.extension().is_some_and(|ext| ext == "rs") {
            into.push(path);
        }
    }
}

/// Every breach in every file, in the order of files and then of lines.
fn check(sources: &[Source]) -> Vec<String> {
    let test_modules: Vec<Vec<String>> = sources.iter().flat_map(Source::test_modules_declared).collect();
    let mut all = Vec::new();
    for source in sources {
        let only_tests = test_modules.iter().any(|module| source.module.starts_with(module));
        let mut found = Vec::new();
        found.extend(imports_outside_the_table(source));
        found.extend(foreign_crates_outside_their_room(source));
        found.extend(unsafe_outside_its_room(source));
        found.extend(other_programs_started(source));
        found.extend(sleeps(source));
        found.extend(long_file(source));
        if !only_tests {
            found.extend(long_functions(source));
            found.extend(panics(source));
        }
        found.sort();
        all.extend(found.into_iter().map(|(line, what)| format!("{}:{line}: {what}", source.path)));
    }
    all
}

/// A line number, from 1, and what is wrong there.
type Breach = (usize, String);

// ---- the rules ------------------------------------------------------------------------------------

fn imports_outside_the_table(source: &Source) -> Vec<Breach> {
    let Some((_, allowed)) = ROOMS.iter().find(|(room, _)| *room == source.room) else {
        return vec![(1, format!("the room `{}` has no row in tests/architecture.rs", source.room))];
    };
    let judge = |path: &PathUse| {
        let absolute = source.resolve(path)?;
        let target = absolute.first()?;
        let known = ROOMS.iter().any(|(room, _)| room == target);
        if *target == source.room || allowed.contains(&target.as_str()) {
            None
        } else if known {
            Some(format!("`{}` may not import `{target}` (it may: {})", source.room, allowed.join(", ")))
        } else if source.room == "lib" {
            None
        } else {
            Some(format!("`crate::{target}` hides which room it comes from: name the room"))
        }
    };
    source.paths.iter().filter_map(|path| Some((path.line, judge(path)?))).collect()
}

fn foreign_crates_outside_their_room(source: &Source) -> Vec<Breach> {
    let judge = |path: &PathUse| {
        let names = |prefix: &str| path.segments.iter().any(|segment| segment.starts_with(prefix));
        let (prefix, rooms) = FOREIGN.iter().find(|(prefix, _)| names(prefix))?;
        (!rooms.contains(&source.room.as_str()))
            .then(|| format!("`{prefix}` belongs to {} only, not to `{}`", rooms.join(", "), source.room))
    };
    source.paths.iter().filter_map(|path| Some((path.line, judge(path)?))).collect()
}

fn unsafe_outside_its_room(source: &Source) -> Vec<Breach> {
    if source.room == UNSAFE_ROOM {
        return Vec::new();
    }
    let says_unsafe = source.tokens.iter().filter(|token| token.text == "unsafe");
    says_unsafe.map(|token| (token.line, format!("`unsafe` lives in `src/{UNSAFE_ROOM}` only"))).collect()
}

fn other_programs_started(source: &Source) -> Vec<Breach> {
    if source.path == STARTS_PROGRAMS {
        return Vec::new();
    }
    let starts_one = |path: &&PathUse| {
        path.segments.windows(2).any(|pair| pair[0] == "process" && (pair[1] == "Command" || pair[1] == "*"))
    };
    let what = "no other program is started: the work is done in this process";
    source.paths.iter().filter(starts_one).map(|path| (path.line, what.to_string())).collect()
}

fn sleeps(source: &Source) -> Vec<Breach> {
    if source.path == CLOCK_FILE {
        return Vec::new();
    }
    const NAMES: [&str; 3] = ["sleep", "sleep_ms", "sleep_until"];
    let is_sleep = |path: &&PathUse| {
        let clock = path.segments.iter().any(|segment| segment == "thread" || segment == "time");
        let last = path.segments.last().map_or("", String::as_str);
        clock && NAMES.contains(&last) && !source.excused(path.line, "invariant")
    };
    let what = format!("sleeping goes through {CLOCK_FILE}; better, wait on what is to happen");
    source.paths.iter().filter(is_sleep).map(|path| (path.line, what.clone())).collect()
}

fn long_file(source: &Source) -> Vec<Breach> {
    let lines = source.lines.len();
    let table = (1..=lines.min(30)).any(|line| has_marker(&source.lines[line - 1], "table"));
    let what = || format!("the file has {lines} lines, the hard stop is {MAX_FILE_LINES}");
    (lines > MAX_FILE_LINES && !table).then(|| (1, what())).into_iter().collect()
}

fn long_functions(source: &Source) -> Vec<Breach> {
    let judge = |function: &Function| {
        let lines = function.last_line - function.first_line + 1;
        let fine = lines <= MAX_FN_LINES
            || source.is_test(function.token)
            || source.excused(function.first_line, "table");
        (!fine).then(|| format!("fn {} has {lines} lines, the hard stop is {MAX_FN_LINES}", function.name))
    };
    functions(&source.tokens).iter().filter_map(|f| Some((f.first_line, judge(f)?))).collect()
}

fn panics(source: &Source) -> Vec<Breach> {
    const METHODS: [&str; 4] = ["unwrap", "expect", "unwrap_err", "expect_err"];
    const MACROS: [&str; 4] = ["panic", "todo", "unimplemented", "unreachable"];
    let text = |index: usize| source.tokens.get(index).map_or("", |token| token.text.as_str());
    let mut found = Vec::new();
    for (index, token) in source.tokens.iter().enumerate() {
        let name = token.text.as_str();
        let before = index.checked_sub(1).map_or("", text);
        let method = METHODS.contains(&name) && matches!(before, "." | "::");
        let macro_call = MACROS.contains(&name) && text(index + 1) == "!";
        if (method || macro_call) && !source.is_test(index) && !source.excused(token.line, "invariant") {
            let what = "can end the process: return an error, or say `// invariant: why it cannot fail`";
            found.push((token.line, format!("`{name}` {what}")));
        }
    }
    found
}

// ---- each rule catches a planted breach -------------------------------------------------------------

#[cfg(test)]
mod planted {
    use super::*;

    /// The breaches in one file with this text, as `line: message`, cut at the first few words.
    fn breaches(path: &str, text: &str) -> Vec<String> {
        check(&[Source::new(path, text)])
    }

    #[track_caller]
    fn assert_caught(path: &str, text: &str, expected: &[&str]) {
        let found = breaches(path, text);
        assert_eq!(found.len(), expected.len(), "in:\n{text}\nfound: {found:#?}");
        for (breach, start) in found.iter().zip(expected) {
            assert!(breach.starts_with(&format!("{path}:{start}")), "wanted {start:?}, found {breach:?}");
        }
    }

    #[test]
    fn an_import_against_the_table_is_caught_in_every_spelling() {
        let refused = "`model` may not import `media`";
        for text in [
            "use crate::media::plan;",
            "pub(crate) use crate::{base::time, media::plan as p};",
            "use crate::{\n    base::{time, fs},\n    media,\n};",
            "fn f() -> u8 { crate::media::plan::best() }",
            "use super::super::media::plan;",
            "mod inner { use super::super::super::media; }",
            "use super::super::{base::time, media::*};",
            "fn f(x: &[crate::media::Plan]) {}",
        ] {
            let line = if text.contains('\n') { 3 } else { 1 };
            assert_caught("src/model/job.rs", text, &[&format!("{line}: {refused}")]);
        }
    }

    #[test]
    fn what_the_table_allows_passes() {
        for (path, text) in [
            ("src/model/job.rs", "use crate::base::time; use super::track; use self::inner::X;"),
            ("src/model/mod.rs", "mod tests { use super::*; use super::job::Job; }"),
            (
                "src/model/job.rs",
                "// use crate::media::x;\n/* crate::media /* crate::av */ */ const S: &str = \"crate::av\";",
            ),
            ("src/media/plan.rs", "use crate::{av::input, container::ts, model::job};"),
            ("src/main.rs", "fn main() { std::process::exit(sprocket::cli::run()) }"),
            ("src/lib.rs", "pub mod cli; pub mod av;"),
            ("src/cli/mod.rs", "use crate::media::pipeline; use crate::av::log;"),
            ("src/base/fs.rs", "pub(crate) fn f() {} pub(in crate::base) fn g() {}"),
        ] {
            assert_caught(path, text, &[]);
        }
    }

    #[test]
    fn nobody_but_main_imports_cli_and_main_imports_nothing_else() {
        assert_caught("src/lib.rs", "pub use crate::cli::run;", &["1: `lib` may not import `cli`"]);
        assert_caught("src/app.rs", "use crate::cli::run;", &["1: `app` may not import `cli`"]);
        assert_caught("src/main.rs", "use sprocket::media::x;", &["1: `main` may not import `media`"]);
        assert_caught("src/media/mod.rs", "use crate::store::x;", &["1: `media` may not import `store`"]);
    }

    #[test]
    fn a_room_without_a_row_and_a_name_from_the_root_are_caught() {
        assert_caught("src/util/mod.rs", "", &["1: the room `util` has no row"]);
        assert_caught("src/model/job.rs", "use crate::Error;", &["1: `crate::Error` hides"]);
        assert_caught("src/model/job.rs", "use crate::*;", &["1: `crate::*` hides"]);
    }

    #[test]
    fn libav_and_the_runtime_outside_their_rooms_are_caught() {
        assert_caught(
            "src/media/mux.rs",
            "\nuse ffmpeg_next as ffmpeg;",
            &["2: `ffmpeg_next` belongs to av"],
        );
        assert_caught(
            "src/media/mux.rs",
            "type P = ::ffmpeg_sys_next::AVPacket;",
            &["1: `ffmpeg_sys` belongs"],
        );
        assert_caught("src/cli/mod.rs", "use crate::av::ffmpeg_next::x;", &["1: `ffmpeg_next` belongs"]);
        assert_caught("src/media/mux.rs", "use tokio::sync::mpsc;", &["1: `tokio` belongs"]);
        assert_caught("src/av/input.rs", "use ffmpeg_next::format; // ffmpeg_sys", &[]);
        assert_caught("src/media/mux.rs", "//! ffmpeg_next\nconst S: &str = \"ffmpeg_next\";", &[]);
    }

    #[test]
    fn unsafe_is_caught_as_code_and_only_as_code() {
        assert_caught("src/media/mux.rs", "fn f() {\n    unsafe { g() }\n}", &["2: `unsafe` lives in"]);
        assert_caught("src/base/fs.rs", "unsafe impl Send for X {}", &["1: `unsafe` lives in"]);
        let spoken = "#![deny(unsafe_code, unsafe_op_in_unsafe_fn)] // unsafe\nconst S: &str = r#\"an \"unsafe\" word\"#;";
        assert_caught("src/media/mux.rs", spoken, &[]);
        assert_caught("src/av/input.rs", "fn f() { unsafe { g() } }", &[]);
    }

    #[test]
    fn starting_another_program_is_caught() {
        let what = "no other program is started";
        assert_caught("src/cli/mod.rs", "use std::process::{exit, Command};", &[&format!("1: {what}")]);
        assert_caught("src/cli/mod.rs", "fn f() { process::Command::new(\"x\"); }", &[&format!("1: {what}")]);
        assert_caught("src/cli/mod.rs", "use clap::Command; use std::process::ExitCode;", &[]);
        assert_caught(STARTS_PROGRAMS, "use std::process::Command;", &[]);
    }

    #[test]
    fn sleeping_by_the_wall_clock_is_caught() {
        let text = "fn f() {\n    std::thread::sleep(D);\n}";
        assert_caught("src/media/demux.rs", text, &["2: sleeping goes through"]);
        assert_caught("src/base/clock.rs", text, &[]);
        let excused =
            "fn f() {\n    // invariant: the kernel has no event for this\n    std::thread::sleep(D);\n}";
        assert_caught("src/media/demux.rs", excused, &[]);
    }

    #[test]
    fn what_can_panic_is_caught_unless_its_reason_is_given() {
        let path = "src/media/demux.rs";
        assert_caught(path, "fn f() {\n    x\n        .unwrap();\n}", &["3: `unwrap`"]);
        assert_caught(path, "fn f() { x.expect(\"y\"); }", &["1: `expect`"]);
        assert_caught(path, "fn f() { a.map(Option::unwrap); }", &["1: `unwrap`"]);
        assert_caught(path, "fn f() { panic!(); }\nfn g() { todo!() }", &["1: `panic`", "2: `todo`"]);
        assert_caught(
            path,
            "fn f() { unimplemented!(); unreachable!() }",
            &["1: `unimplemented`", "1: `unreachable`"],
        );
        assert_caught(path, "fn f() { x.unwrap() } // invariant:", &["1: `unwrap`"]);
        assert_caught(path, "fn f() { x.unwrap() } // invariant: filled two lines above", &[]);
        assert_caught(path, "fn f() { x.unwrap_or_default(); std::panic::catch_unwind(g); }", &[]);
        assert_caught(path, "/// Never `x.unwrap()`.\nfn f() {}", &[]);
    }

    #[test]
    fn tests_may_panic_and_be_long_in_place_and_in_their_own_file() {
        let long = format!("fn f() {{\n{}}}\n", "    x.unwrap();\n".repeat(90));
        assert_caught("src/media/demux.rs", &format!("#[cfg(test)]\nmod tests {{\n{long}}}\n"), &[]);
        let parent = Source::new("src/media/demux.rs", "#[cfg(test)]\nmod tests;\n");
        assert_eq!(check(&[parent, Source::new("src/media/demux/tests.rs", &long)]), Vec::<String>::new());
        let undeclared = breaches("src/media/demux/tests.rs", &long);
        assert_eq!(undeclared.len(), 91, "90 unwraps and the length of the function");
        let after = "#[cfg(test)]\nmod tests { fn f() { x.unwrap() } }\nfn g() { x.unwrap() }";
        assert_caught("src/media/demux.rs", after, &["3: `unwrap`"]);
    }

    #[test]
    fn a_long_function_is_caught_by_its_lines_and_a_table_is_not() {
        let body = |lines: usize| {
            format!("fn long(a: [u8; 4]) {{\n{}}}\n", "    g('{', \"{\"); // {\n".repeat(lines))
        };
        assert_caught("src/base/fs.rs", &body(78), &[]);
        assert_caught("src/base/fs.rs", &body(79), &["1: fn long has 81 lines"]);
        assert_caught("src/base/fs.rs", &format!("// table: one row for each codec\n{}", body(79)), &[]);
        let inside = format!("trait T {{\n    fn short(&self);\n}}\nimpl X {{\n{}}}", body(79));
        assert_caught("src/base/fs.rs", &inside, &["5: fn long has 81 lines"]);
    }

    #[test]
    fn dependencies_are_read_from_both_files() {
        let manifest = "[package]\nname = \"x\"\n[dependencies]\n# a = 1\nb = \"1\"\n[dev-dependencies]\nc = { version = \"1\" }\n[lints.rust]\nd = \"deny\"\n";
        assert_eq!(dependencies(manifest), ["b", "c"]);
        assert_eq!(first_cells("| crate | why |\n| --- | --- |\n| `b` | `z` |\n"), ["b"]);
    }

    #[test]
    fn a_long_file_is_caught_and_a_table_is_not() {
        assert_caught("src/base/fs.rs", &"\n".repeat(600), &[]);
        assert_caught("src/base/fs.rs", &"\n".repeat(601), &["1: the file has 601 lines"]);
        assert_caught("src/base/fs.rs", &format!("// table: MPEG's own\n{}", "\n".repeat(601)), &[]);
    }
}

//! Reading Rust, as far as the house rules need it.
//!
//! What enters: the text of one file and its path. What leaves: a [`Source`] with its tokens, the
//! paths it names and which parts are tests. Lexical only: no types, no macro is expanded. No rule
//! lives here.

use std::ops::Range;

/// A file of the crate with everything that the rules ask of it.
pub struct Source {
    /// Below the repository's root, with `/`: `src/av/input.rs`.
    pub path: String,
    /// The first module of its path, or `lib` or `main`.
    pub room: String,
    /// Its module path below the crate: `av`, `input`.
    pub module: Vec<String>,
    pub lines: Vec<String>,
    pub tokens: Vec<Token>,
    pub paths: Vec<PathUse>,
    /// Token ranges of items under `#[cfg(test)]`.
    tests: Vec<Range<usize>>,
    /// Token ranges of modules written in place.
    inline_modules: Vec<Range<usize>>,
}

impl Source {
    pub fn new(path: &str, text: &str) -> Self {
        let module = module_path(path);
        let stem = path.rsplit('/').next().unwrap_or(path).trim_end_matches(".rs");
        let room = module.first().cloned().unwrap_or_else(|| stem.to_string());
        let tokens = tokenize(&blank(text));
        let (paths, tests, inline_modules) =
            (path_uses(&tokens), test_items(&tokens), inline_modules(&tokens));
        let lines = text.lines().map(str::to_string).collect();
        Self { path: path.to_string(), room, module, lines, tokens, paths, tests, inline_modules }
    }

    pub fn is_test(&self, token: usize) -> bool {
        self.tests.iter().any(|range| range.contains(&token))
    }

    /// Whether the line carries `// marker: reason`, or the one above is nothing but that.
    pub fn excused(&self, line: usize, marker: &str) -> bool {
        let at = |number: usize| number.checked_sub(1).and_then(|index| self.lines.get(index));
        let above = line.checked_sub(1).and_then(at).filter(|text| text.trim_start().starts_with("//"));
        [at(line), above].into_iter().flatten().any(|text| has_marker(text, marker))
    }

    /// The path below the crate's root; `None` for what another crate or the scope supplies.
    pub fn resolve(&self, path: &PathUse) -> Option<Vec<String>> {
        let (first, rest) = path.segments.split_first()?;
        let own_crate = first == "crate" || (self.room == "main" && first == env!("CARGO_PKG_NAME"));
        if own_crate {
            return (!rest.is_empty()).then(|| rest.to_vec());
        }
        let climbs = path.segments.iter().take_while(|s| *s == "super" || *s == "self").count();
        let supers = path.segments[..climbs].iter().filter(|s| *s == "super").count();
        let inline = self.inline_modules.iter().filter(|range| range.contains(&path.token)).count();
        // Whatever stays inside the file's own room is no arrow; only the climb to the root can be.
        (supers > 0 && supers == self.module.len() + inline).then(|| path.segments[climbs..].to_vec())
    }

    /// Modules declared as `#[cfg(test)] mod name;`: their files hold nothing but tests.
    pub fn test_modules_declared(&self) -> Vec<Vec<String>> {
        let name_of = |range: &Range<usize>| {
            let item = &self.tokens[range.clone()];
            let at = item.iter().position(|token| token.text == "mod")?;
            (item.get(at + 2)?.text == ";").then(|| item[at + 1].text.clone())
        };
        let full = |name: String| self.module.iter().cloned().chain([name]).collect();
        self.tests.iter().filter_map(name_of).map(full).collect()
    }
}

pub fn has_marker(line: &str, marker: &str) -> bool {
    let reason = line.split_once("//").and_then(|(_, comment)| comment.split_once(&format!("{marker}:")));
    reason.is_some_and(|(_, why)| why.trim().len() >= 3)
}

fn module_path(path: &str) -> Vec<String> {
    let below = path.trim_start_matches("src/").trim_end_matches(".rs");
    let mut parts: Vec<String> = below.split('/').map(str::to_string).collect();
    if parts.last().is_some_and(|last| last == "mod") || below == "lib" || below == "main" {
        parts.pop();
    }
    parts
}

// ---- from characters to tokens, paths and items ---------------------------------------------------

/// An identifier, `::`, or one other character; with its line, from 1.
pub struct Token {
    pub text: String,
    pub line: usize,
}

/// A path as written, with groups expanded: `use crate::{a::b, c}` is two of them.
pub struct PathUse {
    pub segments: Vec<String>,
    pub line: usize,
    pub token: usize,
}

pub struct Function {
    pub name: String,
    pub token: usize,
    pub first_line: usize,
    pub last_line: usize,
}

/// The text with comments and the inside of literals turned into spaces; lines stay where they were.
pub fn blank(text: &str) -> String {
    let chars: Vec<char> = text.chars().collect();
    let mut out = String::with_capacity(text.len());
    let mut at = 0;
    while at < chars.len() {
        let length = blank_length(&chars, at);
        if length == 0 {
            out.push(chars[at]);
            at += 1;
        } else {
            let end = (at + length).min(chars.len());
            out.extend(chars[at..end].iter().map(|c| if *c == '\n' { '\n' } else { ' ' }));
            at = end;
        }
    }
    out
}

/// How many characters from `at` on are a comment or a literal; 0 when none begins here.
fn blank_length(chars: &[char], at: usize) -> usize {
    let rest = &chars[at..];
    let in_word = at > 0 && is_word(chars[at - 1]);
    match rest {
        ['/', '/', ..] => rest.iter().take_while(|c| **c != '\n').count(),
        ['/', '*', ..] => block_comment_length(rest),
        ['"', ..] => quoted_length(rest, '"'),
        ['\'', ..] => char_length(rest),
        ['b', '\'', ..] if !in_word => 1 + quoted_length(&rest[1..], '\''),
        ['r', ..] if !in_word => raw_string_length(rest, 1),
        ['b' | 'c', 'r', ..] if !in_word => raw_string_length(rest, 2),
        _ => 0,
    }
}

fn block_comment_length(rest: &[char]) -> usize {
    let (mut at, mut depth) = (0, 0);
    while at < rest.len() {
        match rest[at..] {
            ['/', '*', ..] => (at, depth) = (at + 2, depth + 1),
            ['*', '/', ..] => (at, depth) = (at + 2, depth - 1),
            _ => at += 1,
        }
        if depth == 0 {
            break;
        }
    }
    at
}

fn quoted_length(rest: &[char], quote: char) -> usize {
    let mut at = 1;
    while at < rest.len() && rest[at] != quote {
        at += if rest[at] == '\\' { 2 } else { 1 };
    }
    at + 1
}

/// `'x'` and `'\n'` are literals, `'a` in `&'a str` is a lifetime.
fn char_length(rest: &[char]) -> usize {
    match rest {
        ['\'', '\\', ..] => quoted_length(rest, '\''),
        ['\'', _, '\'', ..] => 3,
        _ => 0,
    }
}

/// `r"..."` with any number of `#`; `prefix` is 1 for `r` and 2 for `br` and `cr`. 0 for `r#ident`.
fn raw_string_length(rest: &[char], prefix: usize) -> usize {
    let hashes = rest[prefix..].iter().take_while(|c| **c == '#').count();
    let open = prefix + hashes;
    if rest.get(open) != Some(&'"') {
        return 0;
    }
    let closes = |at: usize| rest[at] == '"' && (1..=hashes).all(|n| rest.get(at + n) == Some(&'#'));
    let close = (open + 1..rest.len()).find(|at| closes(*at)).unwrap_or(rest.len());
    close + 1 + hashes
}

fn is_word(c: char) -> bool {
    c.is_alphanumeric() || c == '_'
}

fn tokenize(blanked: &str) -> Vec<Token> {
    let mut tokens = Vec::new();
    for (number, line) in blanked.lines().enumerate() {
        let mut rest = line.trim_start();
        while let Some(first) = rest.chars().next() {
            let length = if is_word(first) {
                rest.find(|c| !is_word(c)).unwrap_or(rest.len())
            } else if rest.starts_with("::") {
                2
            } else {
                first.len_utf8()
            };
            let (text, after) = rest.split_at(length);
            tokens.push(Token { text: text.to_string(), line: number + 1 });
            rest = after.trim_start();
        }
    }
    tokens
}

fn is_identifier(token: Option<&Token>) -> bool {
    token.is_some_and(|t| t.text.starts_with(|c: char| c.is_alphabetic() || c == '_'))
}

fn path_uses(tokens: &[Token]) -> Vec<PathUse> {
    let (mut found, mut at) = (Vec::new(), 0);
    while at < tokens.len() {
        at = if is_identifier(tokens.get(at)) { read_path(tokens, at, &[], &mut found) } else { at + 1 };
    }
    found
}

/// Reads the path that begins at `start` into `found`, below `prefix`; gives the token after it.
fn read_path(tokens: &[Token], start: usize, prefix: &[String], found: &mut Vec<PathUse>) -> usize {
    let text = |at: usize| tokens.get(at).map_or("", |token| token.text.as_str());
    let mut segments = prefix.to_vec();
    let mut at = start;
    loop {
        segments.push(text(at).to_string());
        at += 1;
        let goes_on = text(at) == "::" && (is_identifier(tokens.get(at + 1)) || text(at + 1) == "*");
        if text(at) == "::" && text(at + 1) == "{" {
            return read_group(tokens, at + 2, &segments, found);
        } else if !goes_on {
            found.push(PathUse { segments, line: tokens[start].line, token: start });
            return at;
        }
        at += 1;
    }
}

/// Reads `a::b, c as d, {e}}` after its opening brace; gives the token after the closing one.
fn read_group(tokens: &[Token], start: usize, prefix: &[String], found: &mut Vec<PathUse>) -> usize {
    let mut at = start;
    while at < tokens.len() {
        at = match tokens[at].text.as_str() {
            "}" => return at + 1,
            "{" => read_group(tokens, at + 1, prefix, found),
            "as" => at + 2,
            "*" => read_path(tokens, at, prefix, found),
            _ if is_identifier(tokens.get(at)) => read_path(tokens, at, prefix, found),
            _ => at + 1,
        };
    }
    at
}

/// The token after the item that begins at `start`: past its `;`, or its closing brace.
fn item_end(tokens: &[Token], start: usize) -> usize {
    let mut depth = 0usize;
    for (at, token) in tokens.iter().enumerate().skip(start) {
        match token.text.as_str() {
            "{" | "(" | "[" => depth += 1,
            "}" | ")" | "]" => depth = depth.saturating_sub(1),
            _ => {}
        }
        if depth == 0 && matches!(token.text.as_str(), "}" | ";") {
            return at + 1;
        }
    }
    tokens.len()
}

fn test_items(tokens: &[Token]) -> Vec<Range<usize>> {
    let texts: Vec<&str> = tokens.iter().map(|token| token.text.as_str()).collect();
    let begins = |at: &usize| {
        let rest = &texts[*at..];
        rest.starts_with(&["#", "[", "cfg", "(", "test", ")", "]"])
            || rest.starts_with(&["#", "[", "cfg", "(", "all", "(", "test"])
    };
    (0..texts.len()).filter(begins).map(|at| at..item_end(tokens, at)).collect()
}

fn inline_modules(tokens: &[Token]) -> Vec<Range<usize>> {
    let text = |at: usize| tokens.get(at).map_or("", |token| token.text.as_str());
    let begins = |at: &usize| text(*at) == "mod" && is_identifier(tokens.get(at + 1)) && text(at + 2) == "{";
    (0..tokens.len()).filter(begins).map(|at| at..item_end(tokens, at)).collect()
}

pub fn functions(tokens: &[Token]) -> Vec<Function> {
    let begins = |at: &usize| tokens[*at].text == "fn" && is_identifier(tokens.get(at + 1));
    let read = |at: usize| Function {
        name: tokens[at + 1].text.clone(),
        token: at,
        first_line: tokens[at].line,
        last_line: tokens[item_end(tokens, at) - 1].line,
    };
    (0..tokens.len()).filter(begins).map(read).collect()
}

#[cfg(test)]
mod spelled {
    use super::*;

    #[test]
    fn literals_and_lifetimes_are_told_apart() {
        let text =
            "fn f<'a>(x: &'a str) -> char { let r#type = b'\\''; '\"' } // \" '\nfn g() { x.unwrap() }";
        let words = tokenize(&blank(text));
        assert_eq!(
            words.iter().filter(|token| token.text == "unwrap").map(|token| token.line).collect::<Vec<_>>(),
            [2]
        );
        assert!(words.iter().any(|token| token.text == "str"), "what follows a lifetime is code");
        assert_eq!(blank("a\"b\\\"c\"d r##\"x\"#\"##e"), "a      d           e".to_string());
    }
}

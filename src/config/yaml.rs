//! YAML as a tree that knows the line of each value, and nothing about what the values mean.
//!
//! What enters: text. What leaves: the tree, scalars still as text, or every duplicate key and the
//! first breach of the syntax, with their lines. Refused besides: several documents, aliases (a short
//! file can stand for a huge tree) and tags. YAML 1.2, so `on`, `no` and `12:30` are plain text.

use saphyr_parser::{Event, Parser, ScalarStyle, Span};

/// Deeper than any configuration, and shallow enough for functions that call themselves.
const MAX_DEPTH: usize = 32;

/// A value and the line, from 1, where it starts.
#[derive(Clone, Debug, PartialEq)]
pub struct Node {
    /// For the value of a key: the line of the key.
    pub line: usize,
    /// What it is.
    pub kind: Kind,
}

/// What a node is.
#[derive(Clone, Debug, PartialEq)]
pub enum Kind {
    /// A text that may stand for a number, for true or false, or for nothing, if it is `plain`
    /// (without quotes).
    Scalar {
        /// Without its quotes.
        text: String,
        /// Whether it had none.
        plain: bool,
    },
    /// Items in order.
    List(Vec<Node>),
    /// Keys and values in order, no key twice.
    Map(Vec<(String, Node)>),
}

/// What a plain scalar stands for.
#[derive(Clone, Debug, PartialEq)]
pub enum Plain {
    /// Nothing at all: empty, `~`, `null`.
    Null,
    /// `true`, `false`.
    Bool(bool),
    /// A whole number.
    Integer(i128),
    /// Any other number.
    Float(f64),
    /// Text.
    Text,
}

/// Something that is wrong with the text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// From 1.
    pub line: usize,
    /// The keys above it, and itself where it is one.
    pub keys: Vec<String>,
    /// What is wrong.
    pub message: String,
}

/// The tree that `text` stands for. An empty text is an empty scalar.
///
/// # Errors
/// Every duplicate key, and the first breach of the syntax.
pub fn parse(text: &str) -> Result<Node, Vec<Problem>> {
    let mut builder = Builder::default();
    for event in Parser::new_from_str(text.strip_prefix('\u{feff}').unwrap_or(text)) {
        let taken = match event {
            Ok((event, span)) => builder.take(event, &span),
            Err(e) => Err(problem(e.marker().line(), e.info())),
        };
        if let Err(problem) = taken {
            builder.problems.push(problem);
            return Err(builder.problems);
        }
    }
    let empty = Node { line: 1, kind: Kind::Scalar { text: String::new(), plain: true } };
    if builder.problems.is_empty() { Ok(builder.root.unwrap_or(empty)) } else { Err(builder.problems) }
}

/// What a plain scalar stands for, by the core schema of YAML 1.2.
pub fn plain(text: &str) -> Plain {
    match text {
        "" | "~" | "null" | "Null" | "NULL" => Plain::Null,
        "true" | "True" | "TRUE" => Plain::Bool(true),
        "false" | "False" | "FALSE" => Plain::Bool(false),
        _ => number(text).unwrap_or(Plain::Text),
    }
}

fn number(text: &str) -> Option<Plain> {
    let radix = |digits: &str, radix| i128::from_str_radix(digits, radix).ok().map(Plain::Integer);
    let unsigned = text.strip_prefix(['-', '+']).unwrap_or(text);
    if let Some(digits) = text.strip_prefix("0x").filter(|d| d.bytes().all(|b| b.is_ascii_hexdigit())) {
        return radix(digits, 16);
    }
    if let Some(digits) = text.strip_prefix("0o").filter(|d| d.bytes().all(|b| b.is_ascii_digit())) {
        return radix(digits, 8);
    }
    if unsigned.bytes().all(|b| b.is_ascii_digit()) {
        return text.parse().ok().map(Plain::Integer);
    }
    // Rust reads `inf`, `nan` and `infinity` as numbers too.
    let digits = |b: u8| b.is_ascii_digit() || matches!(b, b'.' | b'e' | b'E' | b'+' | b'-');
    if !unsigned.bytes().all(digits) || !unsigned.bytes().any(|b| b.is_ascii_digit()) {
        return None;
    }
    text.parse().ok().map(Plain::Float)
}

fn problem(line: usize, message: impl Into<String>) -> Problem {
    Problem { line, keys: Vec::new(), message: message.into() }
}

/// A map or list that has begun and not ended.
#[derive(Debug)]
enum Open {
    List { line: usize, items: Vec<Node> },
    Map { line: usize, entries: Vec<(String, Node)>, key: Option<(String, usize)> },
}

#[derive(Debug, Default)]
struct Builder {
    open: Vec<Open>,
    root: Option<Node>,
    documents: usize,
    problems: Vec<Problem>,
}

impl Builder {
    fn take(&mut self, event: Event<'_>, span: &Span) -> Result<(), Problem> {
        let line = span.start.line().max(1);
        match event {
            Event::DocumentStart(_) => self.begin_document(line),
            Event::Alias(_) => Err(problem(line, "aliases (*name) are not supported: write the value out")),
            Event::Scalar(_, _, _, Some(_))
            | Event::SequenceStart(_, Some(_))
            | Event::MappingStart(_, Some(_)) => {
                Err(problem(line, "tags (!name) are not supported: leave it out, or put a text in quotes"))
            }
            Event::Scalar(text, style, _, None) => self.scalar(text.into_owned(), style, line),
            Event::SequenceStart(..) => self.begin(Open::List { line, items: Vec::new() }, line),
            Event::MappingStart(..) => self.begin(Open::Map { line, entries: Vec::new(), key: None }, line),
            Event::SequenceEnd | Event::MappingEnd => self.end(),
            _ => Ok(()),
        }
    }

    fn begin_document(&mut self, line: usize) -> Result<(), Problem> {
        self.documents += 1;
        if self.documents == 1 { Ok(()) } else { Err(problem(line, "a second document (---) begins here")) }
    }

    fn begin(&mut self, open: Open, line: usize) -> Result<(), Problem> {
        if self.open.len() >= MAX_DEPTH {
            return Err(problem(line, format!("nested deeper than {MAX_DEPTH} levels")));
        }
        if let Some(Open::Map { key: None, .. }) = self.open.last() {
            return Err(problem(line, "a key must be a text, not a map or a list"));
        }
        self.open.push(open);
        Ok(())
    }

    fn scalar(&mut self, text: String, style: ScalarStyle, line: usize) -> Result<(), Problem> {
        if let Some(Open::Map { key: key @ None, .. }) = self.open.last_mut() {
            *key = Some((text, line));
            return Ok(());
        }
        let kind = Kind::Scalar { text, plain: style == ScalarStyle::Plain };
        self.add(Node { line, kind });
        Ok(())
    }

    fn end(&mut self) -> Result<(), Problem> {
        match self.open.pop() {
            Some(Open::List { line, items }) => self.add(Node { line, kind: Kind::List(items) }),
            Some(Open::Map { line, entries, .. }) => self.add(Node { line, kind: Kind::Map(entries) }),
            None => {}
        }
        Ok(())
    }

    /// Puts a finished value where it belongs.
    fn add(&mut self, node: Node) {
        let above = self.keys_above();
        match self.open.last_mut() {
            None => self.root = Some(node),
            Some(Open::List { items, .. }) => items.push(node),
            Some(Open::Map { entries, key, .. }) => {
                let (key, line) = key.take().unwrap_or_default();
                match entries.iter().find(|(other, _)| *other == key) {
                    Some((_, first)) => {
                        let message = format!("is given twice: the first one stands on line {}", first.line);
                        let keys = above.into_iter().chain([key]).collect();
                        self.problems.push(Problem { line, keys, message });
                    }
                    None => entries.push((key, Node { line, ..node })),
                }
            }
        }
    }

    /// The keys that are still waiting for their values, without the innermost map's.
    fn keys_above(&self) -> Vec<String> {
        let outer = self.open.split_last().map_or(&[][..], |(_, outer)| outer);
        let waiting = |open: &Open| match open {
            Open::Map { key: Some((key, _)), .. } => Some(key.clone()),
            _ => None,
        };
        outer.iter().filter_map(waiting).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn map(node: &Node) -> &[(String, Node)] {
        match &node.kind {
            Kind::Map(entries) => entries,
            other => panic!("no map: {other:?}"),
        }
    }

    fn problems(text: &str) -> Vec<(usize, String)> {
        parse(text).unwrap_err().into_iter().map(|p| (p.line, p.message)).collect()
    }

    #[test]
    fn each_value_knows_the_line_of_its_key() {
        let text = "# top\nnode:\n  id: x\n\n  tags: { a: 1,\n    b: 2 }\nlist:\n  - one\n  - two: 3\n";
        let root = parse(text).unwrap();
        let (node, list) = (&map(&root)[0], &map(&root)[1]);
        assert_eq!((node.0.as_str(), node.1.line, list.1.line), ("node", 2, 7));
        let tags = &map(&node.1)[1].1;
        assert_eq!((map(&node.1)[0].1.line, tags.line), (3, 5));
        assert_eq!(
            map(tags).iter().map(|(k, n)| (k.as_str(), n.line)).collect::<Vec<_>>(),
            [("a", 5), ("b", 6)]
        );
        let Kind::List(items) = &list.1.kind else { panic!() };
        assert_eq!((items[0].line, items[1].line, map(&items[1])[0].1.line), (8, 9, 9));
        assert_eq!(items[0].kind, Kind::Scalar { text: "one".into(), plain: true });
    }

    #[test]
    fn every_duplicate_key_is_told() {
        let found = parse("a:\n  b: 1\n  c: 2\n  b: 3\nd: 1\nd: 2\n").unwrap_err();
        let found: Vec<_> = found.into_iter().map(|p| (p.line, p.keys.join("."), p.message)).collect();
        assert_eq!(
            found,
            [
                (4, "a.b".into(), "is given twice: the first one stands on line 2".into()),
                (6, "d".into(), "is given twice: the first one stands on line 5".into())
            ]
        );
    }

    #[test]
    fn a_breach_of_the_syntax_has_its_line() {
        assert_eq!(problems("a: 1\nb: [1, 2\nc: 3\n")[0].0, 3);
        assert_eq!(problems("a: 1\n\tb: 2\n").len(), 1);
        assert_eq!(problems("a: 1\n---\nb: 2\n"), [(2, "a second document (---) begins here".into())]);
        assert!(problems("a: &x 1\nb: *x\n")[0].1.starts_with("aliases"));
        assert!(problems("a: !!str 1\n")[0].1.starts_with("tags"));
        assert!(problems("? [a]\n: 1\n")[0].1.starts_with("a key must be a text"));
        assert!(problems(&"- ".repeat(100))[0].1.starts_with("nested deeper"));
        assert!(parse(&"[".repeat(5000)).is_err() && parse(&"{a: ".repeat(5000)).is_err());
    }

    #[test]
    fn empty_texts_are_empty_scalars() {
        for text in ["", "# nothing\n", "---\n", "\u{feff}"] {
            assert_eq!(
                parse(text).unwrap().kind,
                Kind::Scalar { text: String::new(), plain: true },
                "{text:?}"
            );
        }
    }

    #[test]
    fn plain_scalars_follow_the_core_schema() {
        for (text, expected) in [
            ("", Plain::Null),
            ("~", Plain::Null),
            ("null", Plain::Null),
            ("true", Plain::Bool(true)),
            ("yes", Plain::Text),
            ("off", Plain::Text),
            ("-12", Plain::Integer(-12)),
            ("0x1F", Plain::Integer(31)),
            ("0o17", Plain::Integer(15)),
            ("007", Plain::Integer(7)),
            ("0x", Plain::Text),
            ("1.5", Plain::Float(1.5)),
            ("1e3", Plain::Float(1000.0)),
            ("inf", Plain::Text),
            ("-", Plain::Text),
            ("4s", Plain::Text),
            ("127.0.0.1", Plain::Text),
            ("12:30", Plain::Text),
        ] {
            assert_eq!(plain(text), expected, "{text}");
        }
    }

    proptest! {
        #[test]
        fn no_text_panics(text in "[-a-c:\\[\\]{},&*!|>'\"#%@`? \\n\\t0-9.~]{0,60}") {
            let _ = parse(&text);
            let _ = plain(&text);
        }
    }
}

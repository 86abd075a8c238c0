//! The text of a profile with its `--set` overrides: parsing with spans, and complaints that name file,
//! line, column,
//! key and fix in one line.

use std::ops::Range;

use serde::Deserialize;
use thiserror::Error;
use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::doc::ProfileDoc;

/// Why a profile cannot be used: one line, `file:line:column: key = value: what is wrong; the fix`.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("{place}: {text}")]
pub struct ProfileError {
    /// `file:line:column`, `file`, or the `--set` that brought the value in.
    pub place: String,
    /// The key, what is wrong with it, and the fix.
    pub text: String,
}

/// A value that parses but cannot act: the key as a path (`workload[0].message`) and what is wrong with it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Fault {
    pub path: String,
    pub text: String,
}

/// A fault at `path`.
pub(super) fn fault<T>(path: impl Into<String>, text: impl Into<String>) -> Result<T, Fault> {
    Err(Fault { path: path.into(), text: text.into() })
}

/// The text, the overrides appended to it, and the tree of spans over both.
#[derive(Debug)]
pub(super) struct Source {
    file: String,
    /// The file, then one line per override value; spans point in here.
    text: String,
    file_len: usize,
    sets: Vec<SetValue>,
}

#[derive(Debug)]
struct SetValue {
    typed: String,
    keys: Vec<String>,
    value: Range<usize>,
}

type Tree<'t> = DeTable<'t>;

impl Source {
    /// `sets` are the arguments of `--set`, each `key.path=value`.
    pub fn new(file: &str, text: &str, sets: &[String]) -> Result<Source, ProfileError> {
        let mut source = Source {
            file: file.into(),
            text: text.replace("\r\n", "\n"),
            file_len: 0,
            sets: Vec::with_capacity(sets.len()),
        };
        source.file_len = source.text.len();
        for typed in sets {
            let Some((path, value)) = typed.split_once('=') else {
                return Err(set_error(typed, "needs the form key.path=value, like workload.senders=16"));
            };
            source.text.push('\n');
            let start = source.text.len();
            source.text.push_str(value.trim());
            let keys = path.replace('[', ".").replace(']', "");
            source.sets.push(SetValue {
                typed: typed.clone(),
                keys: keys.split('.').map(|k| k.trim().to_owned()).collect(),
                value: start..source.text.len(),
            });
        }
        Ok(source)
    }

    /// The document, overrides applied.
    pub fn document(&self) -> Result<ProfileDoc, ProfileError> {
        let tree = self.tree()?;
        let root = Spanned::new(0..self.file_len, tree);
        ProfileDoc::deserialize(toml::Deserializer::from(root)).map_err(|e| self.explain(&e))
    }

    /// Turns a fault into an error with its place.
    pub fn locate(&self, fault: Fault) -> ProfileError {
        let Ok(tree) = self.tree() else {
            return ProfileError { place: self.file.clone(), text: fault.text };
        };
        let (span, exact) = find(&tree, &fault.path);
        let leaf = fault.path.rsplit('.').next().unwrap_or_default();
        let text = match span.clone().filter(|_| exact).and_then(|s| self.raw(s)) {
            Some(raw) if !leaf.is_empty() => format!("{leaf} = {raw}: {}", fault.text),
            _ if exact || fault.path.is_empty() => fault.text,
            _ => format!("{leaf}: {}", fault.text),
        };
        ProfileError { place: span.map_or_else(|| self.file.clone(), |s| self.place(s.start)), text }
    }

    fn tree(&self) -> Result<Tree<'_>, ProfileError> {
        let file_text = &self.text[..self.file_len];
        let mut tree = DeTable::parse(file_text).map_err(|e| self.syntax(&e))?.into_inner();
        for set in &self.sets {
            self.apply(&mut tree, set)?;
        }
        Ok(tree)
    }

    fn apply<'t>(&'t self, tree: &mut Tree<'t>, set: &'t SetValue) -> Result<(), ProfileError> {
        let (Some((leaf, parents)), false) = (set.keys.split_last(), set.keys.iter().any(String::is_empty))
        else {
            return Err(set_error(&set.typed, "has an empty key; write key.path=value"));
        };
        let key = |k: &'t str| Spanned::new(set.value.clone(), std::borrow::Cow::Borrowed(k));
        let mut table = tree;
        let mut parents = parents.iter().peekable();
        while let Some(name) = parents.next() {
            let numbered = parents.peek().is_some_and(|p| p.parse::<usize>().is_ok());
            // [switch.queue.N] is a table whose keys are numbers; all other numbers are places in lists.
            if numbered && name != "queue" && !table.contains_key(name.as_str()) {
                return Err(set_error(&set.typed, &format!("the profile has no [[{name}]]")));
            }
            let empty = || Spanned::new(set.value.clone(), DeValue::Table(DeTable::new()));
            let slot = table.entry(key(name)).or_insert_with(empty);
            table = match slot.get_mut() {
                DeValue::Table(inner) => inner,
                DeValue::Array(list) => {
                    let index = match parents.peek().map(|p| p.parse::<usize>()) {
                        Some(Ok(i)) => {
                            parents.next();
                            i
                        }
                        _ if list.len() == 1 => 0,
                        _ => {
                            let n = list.len();
                            let why = format!(
                                "has {n} [[{name}]] to choose from; write {name}.0 to {name}.{}",
                                n - 1
                            );
                            return Err(set_error(&set.typed, &why));
                        }
                    };
                    let n = list.len();
                    match list.get_mut(index).map(Spanned::get_mut) {
                        Some(DeValue::Table(inner)) => inner,
                        _ => {
                            let why =
                                format!("there is no [[{name}]] number {index}; the profile has {n}, from 0");
                            return Err(set_error(&set.typed, &why));
                        }
                    }
                }
                _ => return Err(set_error(&set.typed, &format!("{name} is a value and has no keys inside"))),
            };
        }
        table.insert(key(leaf), self.set_value(set));
        Ok(())
    }

    /// The value as TOML where it is TOML, else as text: `--set workload.message=8MiB` needs no quotes.
    fn set_value<'t>(&'t self, set: &SetValue) -> Spanned<DeValue<'t>> {
        let text = &self.text[set.value.clone()];
        match DeValue::parse(text) {
            Ok(mut value) => {
                shift(&mut value, set.value.start);
                value
            }
            Err(_) => Spanned::new(set.value.clone(), DeValue::String(std::borrow::Cow::Borrowed(text))),
        }
    }

    fn syntax(&self, e: &toml::de::Error) -> ProfileError {
        let message = e.message().lines().map(str::trim).collect::<Vec<_>>().join(", ");
        let hint = if message.contains("duplicate key") { "; keep one of them" } else { "" };
        let at = e.span().map_or(0, |s| s.start);
        ProfileError { place: self.place(at), text: format!("not valid TOML: {message}{hint}") }
    }

    fn explain(&self, e: &toml::de::Error) -> ProfileError {
        let message = e.message().lines().next().unwrap_or_default();
        let Some(span) = e.span() else {
            return ProfileError { place: self.file.clone(), text: reword(message) };
        };
        let place = self.place(span.start);
        let path = self.tree().ok().and_then(|tree| path_of(&tree, &span)).unwrap_or_default();
        let text = if let Some(unknown) = Unknown::parse(message, "unknown field") {
            let table = path.rsplit_once('.').map(|p| p.0);
            unknown.sentence("unknown key", &table.map_or("the profile".into(), table_name))
        } else {
            let what = match Unknown::parse(message, "unknown variant") {
                Some(unknown) => unknown.sentence("unknown value", ""),
                None => reword(message),
            };
            let leaf = path.rsplit('.').next().unwrap_or_default();
            match self.raw(span) {
                Some(raw) if !leaf.is_empty() => format!("{leaf} = {raw}: {what}"),
                _ if !leaf.is_empty() => format!("{}: {what}", table_name(&path)),
                _ => what,
            }
        };
        ProfileError { place, text }
    }

    /// The value as typed, when it is short enough to repeat.
    fn raw(&self, span: Range<usize>) -> Option<&str> {
        let raw = self.text.get(span)?.trim();
        (!raw.is_empty() && raw.len() <= 60 && !raw.contains('\n') && !raw.starts_with('[')).then_some(raw)
    }

    fn place(&self, at: usize) -> String {
        if let Some(set) =
            self.sets.iter().find(|s| s.value.start <= at && at <= s.value.end && at > self.file_len)
        {
            return format!("--set {}", set.typed);
        }
        let before = self.text.get(..at.min(self.file_len)).unwrap_or_default();
        let line = before.matches('\n').count() + 1;
        let column = before.chars().rev().take_while(|c| *c != '\n').count() + 1;
        format!("{}:{line}:{column}", self.file)
    }
}

fn set_error(typed: &str, why: &str) -> ProfileError {
    ProfileError { place: format!("--set {typed}"), text: why.into() }
}

/// Spans of an override, which was parsed for itself, become those of the text it stands in from `start` on.
fn shift(value: &mut Spanned<DeValue<'_>>, start: usize) {
    let moved = |span: Range<usize>| span.start + start..span.end + start;
    let span = moved(value.span());
    let inner = std::mem::replace(value.get_mut(), DeValue::Boolean(false));
    let inner = match inner {
        DeValue::Array(mut list) => {
            list.iter_mut().for_each(|v| shift(v, start));
            DeValue::Array(list)
        }
        DeValue::Table(table) => DeValue::Table(
            table
                .into_iter()
                .map(|(key, mut v)| {
                    shift(&mut v, start);
                    (Spanned::new(moved(key.span()), key.into_inner()), v)
                })
                .collect(),
        ),
        other => other,
    };
    *value = Spanned::new(span, inner);
}

/// Span of the value at `path`, or of the nearest table around it (`false`).
fn find(tree: &Tree<'_>, path: &str) -> (Option<Range<usize>>, bool) {
    let mut span = None;
    let mut table = Some(tree);
    for segment in path.split('.').filter(|s| !s.is_empty()) {
        let (name, index) = match segment.split_once('[') {
            Some((name, rest)) => (name, rest.trim_end_matches(']').parse::<usize>().ok()),
            None => (segment, None),
        };
        let Some(mut value) = table.and_then(|t| t.get(name)) else {
            return (span, false);
        };
        if let (Some(i), DeValue::Array(list)) = (index, value.get_ref()) {
            let Some(item) = list.get(i) else { return (span, false) };
            value = item;
        }
        span = Some(value.span());
        table = match value.get_ref() {
            DeValue::Table(inner) => Some(inner),
            _ => None,
        };
    }
    (span, true)
}

/// Path of the key or value that has exactly this span, or else of the smallest value around it.
fn path_of(tree: &Tree<'_>, span: &Range<usize>) -> Option<String> {
    fn visit(table: &Tree<'_>, prefix: &str, span: &Range<usize>, best: &mut Option<(usize, String)>) {
        for (key, value) in table {
            let path = if prefix.is_empty() {
                key.get_ref().to_string()
            } else {
                format!("{prefix}.{}", key.get_ref())
            };
            offer(key.span(), &path, span, best);
            walk(value, &path, span, best);
        }
    }
    fn walk(
        value: &Spanned<DeValue<'_>>,
        path: &str,
        span: &Range<usize>,
        best: &mut Option<(usize, String)>,
    ) {
        offer(value.span(), path, span, best);
        match value.get_ref() {
            DeValue::Table(inner) => visit(inner, path, span, best),
            DeValue::Array(list) => {
                for (i, item) in list.iter().enumerate() {
                    walk(item, &format!("{path}[{i}]"), span, best);
                }
            }
            _ => {}
        }
    }
    fn offer(have: Range<usize>, path: &str, span: &Range<usize>, best: &mut Option<(usize, String)>) {
        let around = have.start <= span.start && span.end <= have.end;
        if around && best.as_ref().is_none_or(|b| have.len() <= b.0) {
            *best = Some((have.len(), path.to_owned()));
        }
    }
    let mut best = None;
    visit(tree, "", span, &mut best);
    best.map(|b| b.1)
}

/// `workload[0].start` as people write it: `[[workload]] start`.
fn table_name(path: &str) -> String {
    let mut parts = path.split('.');
    let first = parts.next().unwrap_or_default();
    let rest: Vec<&str> = parts.collect();
    match (first.split_once('['), rest.as_slice()) {
        (Some((name, _)), []) => format!("[[{name}]]"),
        (Some((name, _)), rest) => format!("[[{name}]] {}", rest.join(".")),
        (None, []) => format!("[{first}]"),
        (None, rest) => format!("[{first}.{}]", rest.join(".")),
    }
}

/// What serde says about a name it does not know.
struct Unknown<'m> {
    name: &'m str,
    known: Vec<&'m str>,
}

impl<'m> Unknown<'m> {
    fn parse(message: &'m str, kind: &str) -> Option<Unknown<'m>> {
        let mut quoted = message.strip_prefix(kind)?.split('`').skip(1).step_by(2);
        Some(Unknown { name: quoted.next()?, known: quoted.collect() })
    }
    fn sentence(&self, what: &str, table: &str) -> String {
        let place = if table.is_empty() { String::new() } else { format!(" in {table}") };
        match nearest(self.name, &self.known) {
            Some(near) => format!("{what} {:?}{place}; did you mean {near:?}?", self.name),
            None => format!("{what} {:?}{place}; known: {}", self.name, self.known.join(", ")),
        }
    }
}

/// The known name closest to `name`, when it is close enough to be a slip.
pub(super) fn nearest<'k>(name: &str, known: &[&'k str]) -> Option<&'k str> {
    let limit = (name.chars().count() / 3).max(1);
    known
        .iter()
        .map(|k| (distance(name, k), *k))
        .filter(|(d, _)| *d <= limit)
        .min_by_key(|(d, _)| *d)
        .map(|(_, k)| k)
}

/// Edits (insert, delete, replace, swap neighbours) between two names.
fn distance(a: &str, b: &str) -> usize {
    let (a, b): (Vec<char>, Vec<char>) =
        (a.to_lowercase().replace('-', "_").chars().collect(), b.replace('-', "_").chars().collect());
    let mut rows = vec![vec![0usize; b.len() + 1]; a.len() + 1];
    for i in 0..=a.len() {
        for j in 0..=b.len() {
            rows[i][j] = if i == 0 || j == 0 {
                i + j
            } else {
                let same = usize::from(a[i - 1] != b[j - 1]);
                let mut best = (rows[i - 1][j] + 1).min(rows[i][j - 1] + 1).min(rows[i - 1][j - 1] + same);
                if i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1] {
                    best = best.min(rows[i - 2][j - 2] + 1);
                }
                best
            };
        }
    }
    rows[a.len()][b.len()]
}

/// Serde's complaints about types in the words of a profile.
fn reword(message: &str) -> String {
    let Some((got, expected)) = message.split_once(", expected ") else {
        return match message.strip_prefix("missing field ") {
            Some(field) => format!("{} is missing", field.replace('`', "")),
            None => message.to_owned(),
        };
    };
    let expected = match expected {
        "u8" => "a whole number from 0 to 255",
        "u16" => "a whole number from 0 to 65535",
        "u32" => "a whole number from 0 to 4294967295",
        "u64" => "a whole number from 0 to 2^63 - 1",
        "i32" | "i64" => "a whole number",
        "f64" => "a number",
        "a boolean" => "true or false",
        "a string" => "text in quotes",
        "an array of length 8" => "a list of 8 numbers",
        other => match other.strip_prefix("struct ") {
            Some(_) => "a table",
            None => other,
        },
    };
    let got = got
        .trim_start_matches("invalid type: ")
        .trim_start_matches("invalid value: ")
        .trim_start_matches("invalid length ")
        .replace('`', "");
    format!("got {got}, needs {expected}")
}

/// The header comments `# Question : ...`, `# Expect : ...`, `# Takes : ...` of the first comment block.
pub(super) fn header(text: &str) -> [Option<String>; 3] {
    let mut found: [Option<String>; 3] = [None, None, None];
    let mut current = None;
    for line in text.lines() {
        let Some(comment) = line.trim_start().strip_prefix('#') else { break };
        let comment = comment.trim();
        let labelled = comment.split_once(':').and_then(|(label, rest)| {
            let index =
                ["question", "expect", "takes"].iter().position(|l| label.trim().eq_ignore_ascii_case(l))?;
            Some((index, rest.trim()))
        });
        match (labelled, current) {
            (Some((index, rest)), _) => {
                found[index] = Some(rest.to_owned());
                current = Some(index);
            }
            (None, Some(index)) if !comment.is_empty() => {
                // A line without a label goes on with the sentence before it.
                if let Some(sentence) = &mut found[index] {
                    sentence.push(' ');
                    sentence.push_str(comment);
                }
            }
            _ => current = None,
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slips_find_their_key() {
        let known = ["senders", "message", "ring-all-reduce", "qps_per_pair"];
        assert_eq!(nearest("sendres", &known), Some("senders"));
        assert_eq!(nearest("mesage", &known), Some("message"));
        assert_eq!(nearest("ring_all_reduce", &known), Some("ring-all-reduce"));
        assert_eq!(nearest("colour", &known), None);
    }

    #[test]
    fn header_comments_are_read() {
        let text =
            "# Question : does it\n#   stay lossless?\n# Expect   : yes: all\n\n# Takes : never\nname = 1\n";
        let [question, expect, takes] = header(text);
        assert_eq!(question.as_deref(), Some("does it stay lossless?"));
        assert_eq!(expect.as_deref(), Some("yes: all"));
        assert_eq!(takes, None, "only the first comment block counts");
    }
}

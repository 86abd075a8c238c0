//! Holds the walls of docs/ARCHITECTURE.md: which layer imports which, what the layers below `run` may not call, file
//! sizes, and that the documents point at things that exist. Each violation prints as `file:line: rule`.

use std::fmt;
use std::fs;
use std::path::{Path, PathBuf};

/// Layers from the ground up. A layer may import itself and those before it.
const LAYERS: [&str; 18] = [
    "hint",
    "limits",
    "units",
    "rng",
    "wire",
    "frame",
    "measure",
    "transport",
    "workload",
    "switch",
    "topology",
    "host",
    "plan",
    "sys",
    "dpdk",
    "run",
    "profile",
    "report",
];
/// Above every layer: may import all of them.
const TOP: [&str; 3] = ["cli", "main", "lib"];
/// Walls inside the order: the first may not import the second.
const WALLS: [(&str, &str); 3] = [("switch", "transport"), ("switch", "workload"), ("report", "profile")];

/// Layers that may read clocks and sleep.
const CLOCKS: [&str; 6] = ["sys", "dpdk", "run", "report", "cli", "build"];
/// Layers that may print.
const PRINTERS: [&str; 4] = ["report", "cli", "main", "build"];
/// Layers where `unsafe` is allowed.
const UNSAFE: [&str; 4] = ["hint", "sys", "dpdk", "dpdk-sys"];
/// The one test that needs it: an allocator cannot be written without.
const UNSAFE_TEST: &str = "tests/alloc.rs";
/// Layers whose results must not depend on the order of a hash map.
const ORDERED: [&str; 9] =
    ["units", "wire", "frame", "measure", "transport", "workload", "switch", "host", "topology"];
/// On the line of a hash map that is only ever looked up, never walked.
const LOOKUP_ONLY: &str = "// tidy: lookup only";

const FILE_LINES_MAX: usize = 800;

#[derive(Debug, PartialEq, Eq)]
struct Violation {
    file: String,
    line: usize,
    rule: String,
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}: {}", self.file, self.line, self.rule)
    }
}

// --- Rust sources ----------------------------------------------------------------------------------------------------

/// The layer a file belongs to: `switch` for `src/switch/mmu.rs`, `units` for `src/units.rs`, `build` for a build
/// script, `None` outside `src`.
fn layer_of(file: &str) -> Option<&str> {
    if file.ends_with("build.rs") {
        return Some("build");
    }
    let first = file.strip_prefix("src/")?.split('/').next()?;
    Some(first.strip_suffix(".rs").unwrap_or(first))
}

/// The source with comments, strings and character literals turned to blanks; every line keeps its number and length.
fn mask(text: &str) -> String {
    let s = text.as_bytes();
    let mut out = Vec::with_capacity(s.len());
    let mut i = 0;
    while i < s.len() {
        let before = i.checked_sub(1).map_or(b' ', |p| s[p]);
        let end = match s[i] {
            b'/' if s[i..].starts_with(b"//") => i + line_length(&s[i..]),
            b'/' if s[i..].starts_with(b"/*") => i + block_comment_length(&s[i..]),
            b'"' => i + 1 + string_length(&s[i + 1..]),
            b'r' if !is_ident(before) || before == b'b' => i + raw_string_length(&s[i..]),
            b'\'' => i + char_length(&s[i..]),
            _ => i,
        };
        if end == i {
            out.push(s[i]);
            i += 1;
        } else {
            out.extend(s[i..end.min(s.len())].iter().map(|&b| if b == b'\n' { b'\n' } else { b' ' }));
            i = end;
        }
    }
    String::from_utf8(out).unwrap_or_default()
}

fn is_ident(b: u8) -> bool {
    b.is_ascii_alphanumeric() || b == b'_'
}

fn line_length(s: &[u8]) -> usize {
    s.iter().position(|&b| b == b'\n').unwrap_or(s.len())
}

fn block_comment_length(s: &[u8]) -> usize {
    let (mut depth, mut i) = (0, 0);
    while i < s.len() {
        if s[i..].starts_with(b"/*") {
            depth += 1;
            i += 2;
        } else if s[i..].starts_with(b"*/") {
            depth -= 1;
            i += 2;
            if depth == 0 {
                return i;
            }
        } else {
            i += 1;
        }
    }
    s.len()
}

/// Length up to and with the closing quote; `s` starts behind the opening one.
fn string_length(s: &[u8]) -> usize {
    let mut i = 0;
    while i < s.len() {
        match s[i] {
            b'\\' => i += 2,
            b'"' => return i + 1,
            _ => i += 1,
        }
    }
    s.len()
}

/// Length of `r"..."` or `r#"..."#`; 0 when `s` does not start a raw string.
fn raw_string_length(s: &[u8]) -> usize {
    let hashes = s[1..].iter().take_while(|&&b| b == b'#').count();
    if s.get(1 + hashes) != Some(&b'"') {
        return 0;
    }
    let open = hashes + 2;
    let close = [b"\"".as_slice(), &vec![b'#'; hashes]].concat();
    let inside = s[open..].windows(close.len()).position(|w| w == close);
    inside.map_or(s.len(), |n| open + n + close.len())
}

/// Length of a character literal; 0 for a lifetime.
fn char_length(s: &[u8]) -> usize {
    if s.get(1) == Some(&b'\\') {
        return s.iter().skip(3).position(|&b| b == b'\'').map_or(0, |n| n + 4);
    }
    // One character of up to four bytes, then the closing quote.
    (2..=5.min(s.len().saturating_sub(1)))
        .find(|&n| s[n] == b'\'' && (n == 2 || !s[1].is_ascii()))
        .map_or(0, |n| n + 1)
}

/// Per line: true inside `#[cfg(test)]` items (their body in braces).
fn test_lines(masked: &str) -> Vec<bool> {
    let mut inside = Vec::new();
    let (mut depth, mut test_depth, mut armed) = (0i32, None, false);
    for line in masked.lines() {
        armed |= line.contains("#[cfg(test)]") && test_depth.is_none();
        let mut in_test = test_depth.is_some() || armed;
        for b in line.bytes() {
            match b {
                b'{' => {
                    depth += 1;
                    if armed {
                        (test_depth, armed) = (Some(depth), false);
                    }
                }
                b'}' => {
                    if test_depth == Some(depth) {
                        test_depth = None;
                    }
                    depth -= 1;
                }
                b';' if armed => armed = false,
                _ => {}
            }
        }
        in_test |= test_depth.is_some();
        inside.push(in_test);
    }
    inside
}

/// Crate modules named on the lines of a masked source: what follows `crate::`, each item of `crate::{a::X, b}`, and
/// `super::` chains that reach the crate root. `depth` is the file's module depth. Returns (line, module).
fn imports(masked: &str, depth: usize) -> Vec<(usize, String)> {
    let mut found = Vec::new();
    let mut add = |at: usize| {
        let line = 1 + masked[..at].matches('\n').count();
        found.extend(first_names(&masked[at..]).into_iter().map(|name| (line, name)));
    };
    for (at, _) in masked.match_indices("crate::") {
        if at == 0 || !is_ident(masked.as_bytes()[at - 1]) {
            add(at + "crate::".len());
        }
    }
    let chain = "super::".repeat(depth);
    for (at, _) in masked.match_indices(&chain) {
        let before = masked.as_bytes()[..at].last();
        let longer = masked[..at].ends_with("super::") || masked[at + chain.len()..].starts_with("super::");
        if !longer && !before.is_some_and(|&b| is_ident(b)) {
            add(at + chain.len());
        }
    }
    found.sort();
    found
}

/// `a` from `a::X`, `a` and `b` from `{a::X, b::{Y, Z}}`.
fn first_names(path: &str) -> Vec<String> {
    let name =
        |s: &str| s.trim_start().chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect::<String>();
    let Some(group) = path.strip_prefix('{') else { return vec![name(path)] };
    let (mut names, mut depth, mut start) = (Vec::new(), 1, 0);
    for (i, c) in group.char_indices() {
        match c {
            '{' => depth += 1,
            '}' => depth -= 1,
            _ => {}
        }
        if (c == ',' && depth == 1) || depth == 0 {
            names.push(name(&group[start..i]));
            start = i + 1;
        }
        if depth == 0 {
            break;
        }
    }
    names.retain(|n| !n.is_empty());
    names
}

/// Module depth of a file below the crate root: 1 for `src/units.rs` and `src/switch/mod.rs`.
fn depth_of(file: &str) -> usize {
    let parts = file.matches('/').count();
    if file.ends_with("/mod.rs") { parts - 1 } else { parts }
}

/// Why `layer` may not import `module`, if it may not.
fn import_rule(layer: &str, module: &str) -> Option<String> {
    let rank = |name: &str| LAYERS.iter().position(|l| *l == name);
    if WALLS.contains(&(layer, module)) {
        return Some(format!("`{layer}` must not import `{module}`"));
    }
    if TOP.contains(&module) && !TOP.contains(&layer) {
        return Some(format!("`{layer}` must not import `{module}`, which stands above it"));
    }
    match (rank(layer), rank(module)) {
        (Some(ours), Some(theirs)) if theirs > ours => {
            Some(format!("`{layer}` must not import `{module}`, which stands above it"))
        }
        _ => None,
    }
}

/// True when `line` has `word` with no identifier character on either side where `word` has one.
fn has_word(line: &str, word: &str) -> bool {
    let bytes = line.as_bytes();
    line.match_indices(word).any(|(at, _)| {
        let before = at.checked_sub(1).map_or(b' ', |i| bytes[i]);
        let after = bytes.get(at + word.len()).copied().unwrap_or(b' ');
        let ends_in_name = word.ends_with(|c: char| c.is_alphanumeric());
        !(is_ident(before) || ends_in_name && is_ident(after))
    })
}

/// Checks one Rust file; `file` is its path from the repository root.
fn check_rust(file: &str, text: &str) -> Vec<Violation> {
    let mut found = Vec::new();
    let mut add = |line: usize, rule: String| found.push(Violation { file: file.to_owned(), line, rule });
    let masked = mask(text);
    let layer = layer_of(file);
    let is = |list: &[&str]| layer.is_some_and(|l| list.contains(&l));
    let test_file = layer.is_none() || file.ends_with("tests.rs") || file.contains("/tests/");

    let lines = text.lines().count();
    if lines > FILE_LINES_MAX {
        add(lines, format!("{lines} lines; a file has at most {FILE_LINES_MAX}"));
    }
    if let Some(layer) = layer.filter(|l| !TOP.contains(l) && *l != "dpdk-sys" && *l != "build") {
        if !LAYERS.contains(&layer) {
            add(1, format!("`{layer}` is no layer of docs/ARCHITECTURE.md"));
        }
        for (line, module) in imports(&masked, depth_of(file)) {
            if let Some(rule) = import_rule(layer, &module) {
                add(line, rule);
            }
        }
    }
    let tests = test_lines(&masked);
    for (i, (line, raw)) in masked.lines().zip(text.lines()).enumerate() {
        let in_test = test_file || tests[i];
        let mut ban = |words: &[&str], why: &str| {
            for word in words.iter().filter(|w| has_word(line, w)) {
                add(i + 1, format!("`{word}` {why}"));
            }
        };
        if layer.is_some() && !is(&CLOCKS) {
            ban(&["Instant::now", "SystemTime::now", "thread::sleep"], "below `run`: time comes in as `now`");
        }
        if is(&ORDERED) && !in_test && !raw.contains(LOOKUP_ONLY) {
            ban(
                &["HashMap", "HashSet"],
                "in a model: its order is not the seed's (or mark `// tidy: lookup only`)",
            );
        }
        if !is(&PRINTERS) && !in_test {
            ban(&["println!", "eprintln!", "print!", "eprint!", "dbg!"], "outside report and cli");
        }
        if !is(&UNSAFE) && file != UNSAFE_TEST {
            ban(&["unsafe"], "outside src/hint.rs, src/sys, src/dpdk and src/dpdk-sys");
        }
        ban(&["todo!", "unimplemented!"], "is a stub: refuse with an error that names the fix");
        ban(&["#[ignore]"], "without a reason: write #[ignore = \"why\"]");
    }
    found
}

// --- Documents, profiles, manifests ----------------------------------------------------------------------------------

/// Links of a Markdown file that point into the repository: (line, target without fragment). Code is skipped.
fn links(text: &str) -> Vec<(usize, String)> {
    let mut found = Vec::new();
    let mut fenced = false;
    for (i, line) in text.lines().enumerate() {
        fenced ^= line.trim_start().starts_with("```");
        if fenced {
            continue;
        }
        // Every second piece between backticks is code.
        for prose in line.split('`').step_by(2) {
            for (at, _) in prose.match_indices("](") {
                let target = prose[at + 2..].split(')').next().unwrap_or("");
                let target = target.split('#').next().unwrap_or("").trim();
                if !target.is_empty() && !target.contains("://") && !target.starts_with("mailto:") {
                    found.push((i + 1, target.to_owned()));
                }
            }
        }
    }
    found
}

/// Checks a Markdown file: every link to a file of the repository leads somewhere.
fn check_markdown(file: &str, text: &str, exists: impl Fn(&Path) -> bool) -> Vec<Violation> {
    let folder = Path::new(file).parent().unwrap_or(Path::new(""));
    let dead = links(text).into_iter().filter(|(_, target)| !exists(&folder.join(target)));
    dead.map(|(line, target)| Violation {
        file: file.to_owned(),
        line,
        rule: format!("dead link to {target}"),
    })
    .collect()
}

/// Checks a profile: its leading comment says what it asks, what to expect and what it takes.
fn check_profile(file: &str, text: &str) -> Vec<Violation> {
    let header = |word: &str| {
        let comments = text.lines().take_while(|l| l.starts_with('#') || l.is_empty());
        comments
            .filter_map(|l| l.trim_start_matches('#').trim().split_once(':'))
            .any(|(key, value)| key.trim() == word && !value.trim().is_empty())
    };
    let missing = ["Question", "Expect", "Takes"].into_iter().filter(|word| !header(word));
    missing
        .map(|w| Violation {
            file: file.to_owned(),
            line: 1,
            rule: format!("no `# {w} : ...` in the header"),
        })
        .collect()
}

/// Checks that `text` has a line equal to `wanted`.
fn check_has_line(file: &str, text: &str, wanted: &str) -> Vec<Violation> {
    if text.lines().any(|l| l.trim() == wanted) {
        return Vec::new();
    }
    vec![Violation { file: file.to_owned(), line: 1, rule: format!("no line `{wanted}`") }]
}

// --- The tree --------------------------------------------------------------------------------------------------------

/// Files below `root/path` (or the file itself), as sorted paths from the root with `/`.
fn files(root: &Path, path: &str) -> Vec<String> {
    let full = root.join(path);
    if full.is_file() {
        return vec![path.to_owned()];
    }
    let entries = fs::read_dir(&full).into_iter().flatten().flatten();
    let mut found: Vec<String> = entries
        .filter_map(|e| e.file_name().into_string().ok())
        .filter(|name| name != "target" && !name.starts_with('.'))
        .flat_map(|name| files(root, &format!("{path}/{name}")))
        .collect();
    found.sort();
    found
}

fn check_file(root: &Path, file: &str) -> Vec<Violation> {
    let Ok(text) = fs::read_to_string(root.join(file)) else {
        return Vec::new(); // captures and other binary files
    };
    if file.ends_with(".rs") {
        check_rust(file, &text)
    } else if file.ends_with(".md") {
        let mut found = check_markdown(file, &text, |p| root.join(p).exists());
        if file == "CHANGELOG.md" {
            found.extend(check_has_line(file, &text, "## [Unreleased]"));
        }
        found
    } else if file.ends_with("Cargo.toml") {
        check_has_line(file, &text, "publish = false")
    } else if file.starts_with("profiles/") && file.ends_with(".toml") {
        check_profile(file, &text)
    } else {
        Vec::new()
    }
}

#[test]
fn the_tree_is_tidy() {
    let root = PathBuf::from(env!("CARGO_MANIFEST_DIR"));
    let trees = [
        "src",
        "tests",
        "benches",
        "docs",
        "profiles",
        "pcaps",
        "build.rs",
        "README.md",
        "CHANGELOG.md",
        "Cargo.toml",
    ];
    let all: Vec<String> = trees.iter().flat_map(|tree| files(&root, tree)).collect();
    let wanted =
        ["src/lib.rs", "src/dpdk-sys/Cargo.toml", "docs/ARCHITECTURE.md", "README.md", "CHANGELOG.md"];
    let missing = wanted.iter().filter(|w| !all.iter().any(|file| file == *w));
    let missing =
        missing.map(|w| Violation { file: (*w).to_owned(), line: 1, rule: "is missing".to_owned() });
    let found: Vec<String> = missing
        .chain(all.iter().flat_map(|file| check_file(&root, file)))
        .map(|violation| violation.to_string())
        .collect();
    assert!(found.is_empty(), "{} violations:\n{}\n", found.len(), found.join("\n"));
}

// --- The checker itself ----------------------------------------------------------------------------------------------

#[cfg(test)]
mod tests {
    use super::*;

    /// `line: rule` of every violation in `text`, as if it were `file`.
    fn rust(file: &str, text: &str) -> Vec<String> {
        check_rust(file, text).into_iter().map(|v| format!("{}: {}", v.line, v.rule)).collect()
    }

    fn has(found: &[String], wanted: &str) -> bool {
        found.iter().any(|v| v.starts_with(wanted))
    }

    #[test]
    fn an_import_from_above_is_found() {
        let found = rust("src/wire/icrc.rs", "use std::fmt;\nuse crate::transport::psn;\n");
        assert_eq!(found, ["2: `wire` must not import `transport`, which stands above it"]);
        assert!(has(
            &rust("src/run/mod.rs", "fn f() { crate::cli::main(); }"),
            "1: `run` must not import `cli`"
        ));
        assert!(rust("src/transport/mod.rs", "use crate::{wire::bth, units::Time};").is_empty());
    }

    #[test]
    fn groups_and_supers_reach_the_same_wall() {
        let found = rust("src/frame/mod.rs", "use crate::{\n    units::Time,\n    host::{Host, x},\n};\n");
        assert_eq!(found, ["1: `frame` must not import `host`, which stands above it"]);
        assert!(has(
            &rust("src/wire/bth.rs", "use super::super::run::Engine;"),
            "1: `wire` must not import `run`"
        ));
        assert!(has(&rust("src/units.rs", "use super::plan::Plan;"), "1: `units` must not import `plan`"));
        assert!(rust("src/wire/bth.rs", "use super::icrc::icrc;").is_empty());
    }

    #[test]
    fn the_switch_knows_only_the_wire() {
        let found = rust("src/switch/mmu.rs", "use crate::transport::config::Ecn;");
        assert_eq!(found, ["1: `switch` must not import `transport`"]);
        assert!(has(
            &rust("src/report/text.rs", "use crate::profile::Profile;"),
            "1: `report` must not import `profile`"
        ));
    }

    #[test]
    fn an_unknown_layer_is_found() {
        assert!(has(&rust("src/util/mod.rs", "\n"), "1: `util` is no layer"));
    }

    #[test]
    fn clocks_are_found_below_run_only() {
        let source = "fn f() {\n    let t = Instant::now();\n    std::thread::sleep(d);\n}\n";
        let found = rust("src/host/mod.rs", source);
        assert!(has(&found, "2: `Instant::now`") && has(&found, "3: `thread::sleep`"), "{found:?}");
        assert!(rust("src/run/realtime.rs", source).is_empty());
        assert!(has(
            &rust("src/host/mod.rs", &format!("#[cfg(test)]\nmod tests {{ {source} }}")),
            "3: `Instant::now`"
        ));
    }

    #[test]
    fn hash_maps_in_models_need_their_mark() {
        assert!(has(&rust("src/switch/mod.rs", "use std::collections::HashMap;"), "1: `HashMap`"));
        assert!(rust("src/switch/mod.rs", "use std::collections::HashMap; // tidy: lookup only").is_empty());
        assert!(rust("src/profile/mod.rs", "use std::collections::HashMap;").is_empty());
        assert!(
            rust("src/wire/mod.rs", "#[cfg(test)]\nmod tests {\n    use std::collections::HashSet;\n}\n")
                .is_empty()
        );
        assert!(has(
            &rust("src/wire/mod.rs", "#[cfg(test)]\nmod tests {}\nfn f(m: HashMap<u8, u8>) {}\n"),
            "3: `HashMap`"
        ));
    }

    #[test]
    fn printing_unsafe_and_stubs_are_found() {
        assert!(has(&rust("src/run/mod.rs", "fn f() { println!(\"x\"); }"), "1: `println!`"));
        assert!(rust("src/report/text.rs", "fn f() { println!(\"x\"); }").is_empty());
        assert!(has(&rust("src/frame/mod.rs", "fn f() { unsafe { g() } }"), "1: `unsafe`"));
        assert!(rust("src/frame/mod.rs", "#![deny(unsafe_code)]").is_empty());
        assert!(rust("src/sys/tsc.rs", "fn f() { unsafe { g() } }").is_empty());
        assert!(has(&rust("tests/x.rs", "fn f() { todo!() }"), "1: `todo!`"));
        assert!(has(&rust("tests/x.rs", "#[ignore]\nfn f() {}"), "1: `#[ignore]`"));
        assert!(rust("tests/x.rs", "#[ignore = \"needs a NIC\"]\nfn f() {}").is_empty());
    }

    #[test]
    fn comments_strings_and_characters_are_not_code() {
        let source = concat!(
            "// Instant::now() and crate::cli are only talked about\n",
            "/* unsafe /* nested */ println! */\n",
            "const A: &str = \"unsafe \\\" todo!()\";\n",
            "const B: &str = r#\"Instant::now \" unsafe\"#;\n",
            "const C: [char; 3] = ['\"', '\\'', '\\u{7f}'];\n",
            "fn f<'a>(x: &'a str) -> &'a str { x }\n",
        );
        assert_eq!(rust("src/wire/mod.rs", source), Vec::<String>::new());
        let masked = mask(source);
        assert_eq!(masked.len(), source.len());
        assert!(masked.contains("fn f<'a>(x: &'a str) -> &'a str { x }"), "{masked}");
    }

    #[test]
    fn long_files_are_found() {
        let ok = "\n".repeat(FILE_LINES_MAX);
        assert!(rust("src/wire/mod.rs", &ok).is_empty());
        assert!(has(&rust("src/wire/mod.rs", &(ok + "\n")), "801: 801 lines"));
    }

    #[test]
    fn dead_links_are_found() {
        let text = "[a](b.md#part) [c](https://x.y/z) `[d](e)`\n```\n[f](g)\n```\n[h](../i.md)\n";
        let found = check_markdown("docs/x.md", text, |p| p == Path::new("docs/b.md"));
        let found: Vec<String> = found.iter().map(Violation::to_string).collect();
        assert_eq!(found, ["docs/x.md:5: dead link to ../i.md"]);
    }

    #[test]
    fn headers_of_profiles_are_checked() {
        let good = "# Question : does it hold?\n# Expect   : yes\n#            and more\n# Takes    : 3 s\nschema = 1\n";
        assert!(check_profile("profiles/a.toml", good).is_empty());
        let bad = "# Question :\n# Expect : yes\nschema = 1\n# Takes : 3 s\n";
        let found: Vec<String> =
            check_profile("profiles/a.toml", bad).iter().map(Violation::to_string).collect();
        assert_eq!(found.len(), 2, "{found:?}");
        assert!(found[0].contains("Question") && found[1].contains("Takes"));
    }

    #[test]
    fn missing_lines_are_found() {
        assert!(check_has_line("Cargo.toml", "[package]\npublish = false\n", "publish = false").is_empty());
        let found = check_has_line("Cargo.toml", "[package]\n", "publish = false");
        assert_eq!(found[0].to_string(), "Cargo.toml:1: no line `publish = false`");
    }
}

//! The program as a user or a CI job meets it: output, exit codes, one-line errors.

#![allow(clippy::unwrap_used)]

use std::fs;
use std::path::Path;
use std::process::{Command, Output};

fn rankstorm(args: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_rankstorm")).args(args).output().unwrap()
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

fn code(o: &Output) -> i32 {
    o.status.code().unwrap()
}

/// A report with one workload, as `run` would leave it, reduced to what these tests look at.
fn leave_report(dir: &Path, completion_ns: f64, hash: &str, expectation_holds: bool, trusted: bool) {
    fs::create_dir_all(dir).unwrap();
    let json = format!(
        r#"{{"schema": 1, "name": "t", "mode": "virtual", "outcome_hash": "{hash}", "complete": true,
            "workload": [{{"name": "w", "kind": "incast", "completion_ns": {{"n": 1, "mean": {completion_ns}}}}}],
            "expectations": [{{"name": "drops", "limit": 0, "value": 1, "pass": {expectation_holds}}}],
            "tester": {{"trustworthy": {trusted}}}}}"#
    );
    fs::write(dir.join("report.json"), json).unwrap();
}

#[test]
fn usage_errors_exit_2() {
    for args in [
        &["run"][..],
        &["frobnicate"],
        &["run", "x.toml", "--on", "moon"],
        &["run", "x.toml", "--dilation", "0.5"],
    ] {
        assert_eq!(code(&rankstorm(args)), 2, "{args:?}");
    }
    assert_eq!(code(&rankstorm(&["--help"])), 0);
    assert_eq!(code(&rankstorm(&["--version"])), 0);
}

#[test]
fn help_names_the_commands_that_exist_and_no_others() {
    let help = text(&rankstorm(&["--help"]).stdout);
    for name in [
        "run",
        "sweep",
        "replay",
        "inspect",
        "dissect",
        "check",
        "preflight",
        "compare",
        "report",
        "peer",
        "doctor",
        "bench",
    ] {
        assert!(help.lines().any(|l| l.trim_start().starts_with(name)), "{name} is missing:\n{help}");
    }
    for later in ["campaign", "bundle", "show-packets"] {
        assert!(!help.contains(later), "{later} does not exist yet:\n{help}");
    }
}

#[test]
fn an_error_is_one_line_on_stderr_with_exit_2() {
    let dir = tempfile::tempdir().unwrap();
    let missing = dir.path().join("none.csv");
    for args in [
        &["inspect", missing.to_str().unwrap()][..],
        &["inspect", "--format", "nonsense", missing.to_str().unwrap()],
        &["replay", "--format", "kineto", missing.to_str().unwrap()],
        &["report", missing.to_str().unwrap()],
        &["compare", missing.to_str().unwrap()],
        &["bench", "no-such-bench"],
    ] {
        let o = rankstorm(args);
        let err = text(&o.stderr);
        assert_eq!(code(&o), 2, "{args:?}: {err}");
        assert!(err.starts_with("error: ") && err.lines().count() == 1, "{args:?}: {err}");
        assert!(o.stdout.is_empty(), "{args:?}");
    }
}

#[test]
fn inspect_counts_what_a_flow_list_holds() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("flows.csv");
    fs::write(&file, "src,dst,bytes,start_ns\n0,2,1000,0\n1,2,3000,500\n0,1,96,700\n").unwrap();
    let o = rankstorm(&["inspect", "--json", file.to_str().unwrap()]);
    assert_eq!(code(&o), 0, "{}", text(&o.stderr));
    let v: serde_json::Value = serde_json::from_slice(&o.stdout).unwrap();
    assert_eq!(v["format"], "flows");
    assert_eq!((&v["ranks"], &v["messages"], &v["bytes_total"]), (&3.into(), &3.into(), &4096.into()));
    assert_eq!(v["bytes_sent_per_rank"], serde_json::json!([1096, 3000, 0]));
    for key in ["ops", "collectives", "warnings"] {
        assert!(!v[key].is_null(), "{key}");
    }
    let plain = text(&rankstorm(&["inspect", file.to_str().unwrap()]).stdout);
    assert!(plain.contains("messages  3, 4096 bytes"), "{plain}");
}

#[test]
fn report_repeats_the_verdict_of_the_run() {
    let dir = tempfile::tempdir().unwrap();
    for (holds, trusted, expected) in [(true, true, 0), (false, true, 1), (true, false, 3), (false, false, 3)]
    {
        leave_report(dir.path(), 1e6, "ab", holds, trusted);
        let o = rankstorm(&["report", dir.path().to_str().unwrap()]);
        assert_eq!(code(&o), expected, "{}", text(&o.stderr));
        assert_eq!(text(&o.stdout), fs::read_to_string(dir.path().join("report.txt")).unwrap());
    }
}

#[test]
fn compare_exits_1_when_something_differs_beyond_the_tolerance() {
    let dir = tempfile::tempdir().unwrap();
    let path = |n: &str| dir.path().join(n);
    leave_report(&path("a"), 1_000_000.0, "ab", true, true);
    leave_report(&path("b"), 1_004_000.0, "cd", true, true);
    leave_report(&path("c"), 1_000_000.0, "ab", true, true);
    let run = |args: &[&str]| {
        let owned: Vec<String> = args
            .iter()
            .map(|a| if a.len() == 1 { path(a).to_string_lossy().into_owned() } else { (*a).to_owned() })
            .collect();
        let args: Vec<&str> = owned.iter().map(String::as_str).collect();
        let o = rankstorm(&args);
        (code(&o), text(&o.stdout) + &text(&o.stderr))
    };
    let (exit, out) = run(&["compare", "a", "--against", "c"]);
    assert!(exit == 0 && out.contains("no difference") && out.contains("hashes are equal"), "{out}");
    let (exit, out) = run(&["compare", "a", "b"]);
    assert!(exit == 1 && out.contains("w completion mean") && out.contains("+0.40 %"), "{out}");
    let (exit, out) = run(&["compare", "a", "--against", "b", "--tolerance", "0.01"]);
    assert!(exit == 0 && out.contains("0 of "), "{out}");
    let (exit, out) = run(&["compare", "a", "--against", "b", "--tolerance", "0.001"]);
    assert_eq!(exit, 1, "{out}");
}

#[test]
fn doctor_says_what_works_here() {
    let o = rankstorm(&["doctor"]);
    let out = text(&o.stdout);
    assert_eq!(code(&o), 0, "{}", text(&o.stderr));
    for word in ["huge pages", "cores", "TSC", "memory", "--on virtual  works", "--on rings"] {
        assert!(out.contains(word), "{word}:\n{out}");
    }
}

const PROFILE: &str = "profiles/incast-32to1.toml";

#[test]
fn check_predicts_and_its_plan_is_a_profile_again() {
    let o = rankstorm(&["check", PROFILE]);
    assert_eq!(code(&o), 0, "{}", text(&o.stderr));
    let o = rankstorm(&["check", PROFILE, "--print-plan"]);
    let dir = tempfile::tempdir().unwrap();
    let again = dir.path().join("again.toml");
    fs::write(&again, &o.stdout).unwrap();
    let p = rankstorm(&["check", again.to_str().unwrap(), "--print-plan"]);
    assert_eq!((code(&p), text(&p.stdout)), (0, text(&o.stdout)), "{}", text(&p.stderr));
}

#[test]
fn check_names_the_switch_of_a_port() {
    let headroom = |profile: &str| {
        let o = rankstorm(&["check", profile]);
        assert_eq!(code(&o), 0, "{}", text(&o.stderr));
        let lines = text(&o.stdout).split_whitespace().collect::<Vec<_>>().join(" ");
        lines.split(" headroom ").nth(1).unwrap().to_owned()
    };
    let ring = headroom("profiles/deadlock-ring.toml");
    assert!(ring.contains("8 ports, ring0 Ethernet1 to ring3 Ethernet2"), "{ring}");
    let one = headroom(PROFILE);
    assert!(one.contains("33 ports, Ethernet0 to Ethernet32"), "{one}");
}

#[test]
fn what_is_not_there_yet_is_refused_in_one_line() {
    let dir = tempfile::tempdir().unwrap();
    let out = dir.path().join("o");
    let out = out.to_str().unwrap();
    let ports = "needs a [[port]] with its device";
    for (args, says) in [
        (&["run", PROFILE, "--on", "ports", "--out", out][..], ports),
        (
            &["run", PROFILE, "--on", "virtual", "--dilation", "8", "--out", out],
            "--dilation is for --on rings",
        ),
        (&["run", PROFILE, "--set", "workload.sendres=3", "--out", out], "sendres"),
    ] {
        let o = rankstorm(args);
        let err = text(&o.stderr);
        assert_eq!(code(&o), 2, "{args:?}: {err}");
        assert!(
            err.starts_with("error: ") && err.lines().count() == 1 && err.contains(says),
            "{args:?}: {err}"
        );
    }
    assert!(!Path::new(out).exists(), "a refused run leaves no directory");
}

#[test]
fn bench_prints_one_line_per_figure_and_says_what_was_built() {
    let o = rankstorm(&["bench", "icrc"]);
    assert_eq!(code(&o), 0, "{}", text(&o.stderr));
    assert_eq!(text(&o.stderr), "bench 1/1: icrc\n", "progress goes to stderr");
    let out = text(&o.stdout);
    let (notes, figures): (Vec<&str>, Vec<&str>) = out.lines().partition(|l| l.starts_with('#'));
    assert!(notes[0].contains(" cores, load "), "{out}");
    let warned = notes.iter().any(|l| l.contains("WARNING: a debug build"));
    assert_eq!(warned, cfg!(debug_assertions), "{out}");
    assert_eq!(figures.len(), 3, "{out}");
    for (line, payload) in figures.iter().zip([64, 1_024, 4_096]) {
        assert!(line.starts_with(&format!("icrc/{payload} ")), "{line}");
        assert!(line.contains(" ns  crc32fast over the whole frame ") && line.ends_with(" of 5)"), "{line}");
        // NAME OURS UNIT PEER.. THEIRS RATIOx (MIN/MEDIAN/MAX ..): the median is ours, the ratio theirs over ours.
        let words: Vec<&str> = line.split_whitespace().collect();
        let number = |w: &str| w.trim_end_matches('x').parse::<f64>().unwrap();
        let ratio_at = words.iter().position(|w| w.ends_with('x') && w.contains('.')).unwrap();
        let (ours, theirs, ratio) = (number(words[1]), number(words[ratio_at - 1]), number(words[ratio_at]));
        assert!(ours > 0.0 && (ratio - theirs / ours).abs() <= 0.02 * ratio + 0.01, "{line}");
        let spread = words[ratio_at + 1].trim_start_matches('(');
        let spread: Vec<f64> = spread.split('/').map(number).collect();
        assert!(spread[0] <= spread[1] && spread[1] <= spread[2] && spread[1] == ours, "{line}");
    }
}

/// Points in any order and number at a time are what each of them is alone.
#[test]
fn a_sweep_runs_all_combinations_and_each_as_it_would_alone() {
    let dir = tempfile::tempdir().unwrap();
    let path = |name: &str| dir.path().join(name).display().to_string();
    let profile = "name = \"small\"\nrun = { repeats = 1, limit = \"1 s\" }\n[[workload]]\nkind = \"incast\"\n\
        senders = 4\nmessage = \"256 kB\"\nrate_control = \"dcqcn:hpcc\"\n[switch]\nports = { count = 5, rate = \"100G\" }\n\
        wred = { kmin = \"50 kB\", kmax = \"200 kB\", pmax = 0.2 }\n";
    let toml = path("small.toml");
    fs::write(&toml, profile).unwrap();
    let over = ["--over", "run.seed=1..3", "--over", "workload.message=256 kB,512 kB"];
    let sweep = |jobs: &str, out: &str| {
        let to = path(out);
        let done = rankstorm(&[&["sweep", &toml, "--jobs", jobs, "--out", &to][..], &over[..]].concat());
        assert_eq!(code(&done), 0, "{}", text(&done.stderr));
        assert_eq!(text(&done.stdout).lines().count(), 7, "{}", text(&done.stdout));
        fs::read_to_string(dir.path().join(out).join("sweep.csv")).unwrap()
    };
    let (one, three) = (sweep("1", "one"), sweep("3", "three"));
    assert_eq!(one, three);
    let rows: Vec<&str> = one.lines().collect();
    assert!(rows[4].starts_with("2,512 kB,PASS,"), "{}", rows[4]);
    // A plain number: four times 125 frames of 4 KiB have to cross one link, 334.24 ns each.
    let column = rows[0].split(',').position(|c| c == "completion_ns").unwrap();
    let completion: f64 = rows[4].split(',').nth(column).unwrap().parse().unwrap();
    assert!((4.0 * 125.0 * 334.24..1e6).contains(&completion), "{}", rows[4]);
    let hash = |row: &str| row.rsplit(',').next().unwrap().to_owned();
    assert_ne!(hash(rows[2]), hash(rows[4]), "two seeds mark other frames");

    let to = path("alone");
    let alone =
        ["run", &toml, "--on", "virtual", "--seed", "2", "--set", "workload.message=512 kB", "--out", &to];
    let alone = text(&rankstorm(&alone).stdout);
    assert!(alone.contains(&hash(rows[4])), "{alone}");
    let point = fs::read_dir(dir.path().join("one")).unwrap().filter(|e| e.as_ref().unwrap().path().is_dir());
    assert_eq!(point.count(), 6);

    let wrong = rankstorm(&["sweep", &toml, "--over", "run.seed"]);
    assert_eq!(code(&wrong), 2);
    assert!(text(&wrong.stderr).contains("write it as key.path=a,b,c"), "{}", text(&wrong.stderr));
}

//! Profiles as users write them: every shipped one loads, and the effective profile says the same.

use std::path::{Path, PathBuf};

use rankstorm::plan::Plan;
use rankstorm::profile::{self, Overrides};

fn shipped() -> Vec<PathBuf> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("profiles");
    let mut files: Vec<PathBuf> = std::fs::read_dir(folder).unwrap().map(|e| e.unwrap().path()).collect();
    files.retain(|f| f.extension().is_some_and(|e| e == "toml"));
    files.sort();
    assert!(files.len() >= 10);
    files
}

fn load(name: &str, set: &[&str]) -> Plan {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("profiles").join(name);
    let set = set.iter().map(|s| s.to_string()).collect();
    profile::load(&path, &Overrides { set, ..Overrides::default() }).unwrap_or_else(|e| panic!("{e}"))
}

fn same(plan: &Plan) -> String {
    let mut plan = plan.clone();
    plan.source = None;
    format!("{plan:?}")
}

#[test]
fn every_shipped_profile_loads_and_says_what_it_asks() {
    for file in shipped() {
        let plan = profile::load(&file, &Overrides::default()).unwrap_or_else(|e| panic!("{e}"));
        assert_eq!(Some(plan.name.as_str()), file.file_stem().unwrap().to_str(), "named as its file");
        assert!(plan.question.is_some() && plan.expectation.is_some(), "{}: header", plan.name);
        assert!(!plan.expect.is_empty(), "{}: expectations", plan.name);
    }
}

#[test]
fn the_effective_profile_is_the_same_plan() {
    for file in shipped() {
        let first = profile::load(&file, &Overrides::default()).unwrap();
        let second = profile::from_str("effective.toml", &first.effective, &Overrides::default())
            .unwrap_or_else(|e| panic!("{}\n{e}", first.effective));
        assert_eq!(first.effective, second.effective, "{}: idempotent", first.name);
        assert_eq!(same(&first), same(&second), "{}: same plan", first.name);
    }
}

#[test]
fn the_main_job_is_predicted_by_closed_forms() {
    let plan = load("incast-32to1.toml", &[]);
    let p = &plan.predicted;
    assert_eq!((p.fan_in_ranks, p.fan_in_physical), (32.0, 32.0));
    assert_eq!(p.iteration_bytes.0, 32 * (4 << 20));
    assert_eq!(p.iteration_frames, 32 * 1024);
    println!("{p:#?}");
}

//! `docs/argo-rollouts.md`: every field and every point of the contract, its state, and the tests that show it; and what becomes of
//! the complaints. The text is made
//! here, so that it names no test that does not exist and leaves out no field.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use complaints::{COMPLAINTS, OPEN};
use fields::{
    ANALYSIS, BLUE_GREEN, CANARY, EXPERIMENT, FIELDS, METRIC, PROVIDERS, ROUTING, STATUS, STEPS,
};
use semantics::{POINTS, SEMANTICS};
use serin_api::kinds;

mod complaints;
mod fields;
mod semantics;

/// A field or a point, its state, the tests that show it, and where we differ and why.
type Row = (&'static str, State, &'static [&'static str], &'static str);

#[derive(Clone, Copy, PartialEq)]
enum State {
    Done,
    Differs,
    Refused,
}

impl State {
    fn text(self) -> &'static str {
        match self {
            Self::Done => "as in Argo Rollouts",
            Self::Differs => "differs",
            Self::Refused => "refused by name",
        }
    }
}

const HEADS: [(&str, &[Row]); 10] = [
    ("`spec`", FIELDS),
    ("`spec.strategy.canary`", CANARY),
    ("`spec.strategy.canary.steps[]`", STEPS),
    ("`spec.strategy.canary.trafficRouting`", ROUTING),
    ("`spec.strategy.blueGreen`", BLUE_GREEN),
    ("`status`", STATUS),
    ("`spec` of an Experiment", EXPERIMENT),
    ("`spec` of an analysis", ANALYSIS),
    ("`metrics[]` of an analysis", METRIC),
    ("`metrics[].provider` of an analysis", PROVIDERS),
];

const PREFACE: &str = "# Rollouts of Argo, point by point

The objects of `argoproj.io/v1alpha1` are taken as they are. This table tells how each field and each point of their behaviour
is carried out, and the test that shows it; at the end is what becomes of the complaints of their users. It is made by
`crates/engine/tests/rollouts/table.rs` and checked in the test run; `UPDATE_EXPECT=1 cargo test -p serin-engine --test rollouts`
writes it anew.
";

#[test]
fn the_table_of_the_contract_is_up_to_date() {
    let mut text = PREFACE.to_owned();
    for (head, rows) in HEADS {
        let rows = rows.iter().map(|(what, state, tests, why)| {
            [
                format!("`{what}`"),
                state.text().to_owned(),
                shown(tests),
                (*why).to_owned(),
            ]
        });
        section(&mut text, head, ["", "State", "Shown by", ""], rows);
    }
    let points = SEMANTICS.iter().map(|(number, what, state, tests, why)| {
        let what = match number {
            0 => (*what).to_owned(),
            number => format!("{number}. {what}"),
        };
        [
            what,
            state.text().to_owned(),
            shown(tests),
            (*why).to_owned(),
        ]
    });
    section(
        &mut text,
        "How it behaves",
        ["", "State", "Shown by", ""],
        points,
    );
    let complaints = COMPLAINTS
        .iter()
        .map(|(what, here, tests)| [(*what).to_owned(), (*here).to_owned(), shown(tests)]);
    section(
        &mut text,
        "What its users complain of",
        ["Issues of argoproj/argo-rollouts", "Here", "Shown by"],
        complaints,
    );
    expect_test::expect_file![root().join("docs/argo-rollouts.md")].assert_eq(&text);
}

fn section<const N: usize>(
    text: &mut String,
    head: &str,
    titles: [&str; N],
    rows: impl Iterator<Item = [String; N]>,
) {
    let titles = titles.join(" | ");
    let line = "---|".repeat(N);
    let _ = write!(text, "\n## {head}\n\n| {titles} |\n|{line}\n");
    for row in rows {
        let _ = writeln!(text, "| {} |", row.join(" | "));
    }
}

fn shown(tests: &[&str]) -> String {
    let tests: Vec<_> = tests.iter().map(|test| format!("`{test}`")).collect();
    tests.join(", ")
}

#[test]
fn every_test_of_the_table_exists() {
    let mut tests = BTreeSet::new();
    for folder in [
        "api",
        "apiserver",
        "engine",
        "controllers",
        "gateway",
        "cli",
    ] {
        let mut sources = String::new();
        read(&root().join("crates").join(folder), &mut sources);
        tests.extend(tests_of(&sources));
    }
    let fields = HEADS.iter().flat_map(|(_, rows)| *rows);
    let fields = fields.map(|(what, _, tests, _)| (what, tests, true));
    let points = SEMANTICS
        .iter()
        .map(|(_, what, _, tests, _)| (what, tests, true));
    let complaints = COMPLAINTS.iter();
    let complaints = complaints.map(|(what, here, tests)| (what, tests, !here.starts_with(OPEN)));
    for (what, named, is_shown) in fields.chain(points).chain(complaints) {
        assert_eq!(!named.is_empty(), is_shown, "{what}: what shows it?");
        for test in *named {
            assert!(tests.contains(*test), "{what}: there is no test {test}");
        }
    }
}

/// The names of the functions that are tests: `#[test]` or its like stands among the lines right before them.
fn tests_of(sources: &str) -> BTreeSet<String> {
    let mut tests = BTreeSet::new();
    let mut is_test = false;
    for line in sources.lines().map(str::trim_start) {
        let function = line.strip_prefix("async ").unwrap_or(line);
        if let Some(name) = function.strip_prefix("fn ") {
            let name = name.split('(').next().unwrap_or_default();
            tests.extend(is_test.then(|| name.to_owned()));
        }
        is_test = line.starts_with("#[test]")
            || line.starts_with("#[tokio::test")
            || (is_test && (line.starts_with("#[") || line.starts_with("//")));
    }
    tests
}

#[test]
fn every_point_is_in_the_table() {
    let told: BTreeSet<_> = SEMANTICS.iter().map(|(number, ..)| *number).collect();
    let missing: Vec<_> = (1..=POINTS)
        .filter(|number| !told.contains(number))
        .collect();
    assert!(missing.is_empty(), "{missing:?}");
}

/// The schemas of the kinds of Argo Rollouts, by name.
fn schemas() -> serde_json::Map<String, serde_json::Value> {
    let kinds = ["Rollout", "Experiment", "AnalysisTemplate", "AnalysisRun"];
    let mut schemas = serde_json::Map::new();
    for kind in kinds {
        let found = kinds::find("argoproj.io", "v1alpha1", kind).unwrap();
        let schema = found.schema_json("v1alpha1");
        schemas.extend(schema["schemas"].as_object().unwrap().clone());
    }
    schemas
}

/// The fields of these objects, with what stands before their names.
fn fields_of(objects: &[(&str, &str)]) -> BTreeSet<String> {
    let all = schemas();
    let mut fields = BTreeSet::new();
    for (name, before) in objects {
        let is_it = |key: &&String| key.rsplit(['.', '/']).next() == Some(*name);
        let key = all.keys().find(is_it);
        let key = key.unwrap_or_else(|| unreachable!("no {name} in {:?}", all.keys()));
        let properties = all[key]["properties"].as_object().unwrap();
        fields.extend(properties.keys().map(|field| format!("{before}{field}")));
    }
    fields
}

#[test]
fn every_field_is_in_the_table() {
    let status = [
        ("RolloutStatus", ""),
        ("CanaryStatus", "canary."),
        ("BlueGreenStatus", "blueGreen."),
    ];
    for (objects, rows) in [
        (&[("RolloutSpec", "")][..], FIELDS),
        (&[("CanaryStrategy", "")], CANARY),
        (&[("CanaryStep", "")], STEPS),
        (&[("TrafficRouting", "")], ROUTING),
        (&[("BlueGreenStrategy", "")], BLUE_GREEN),
        (&status, STATUS),
        (&[("ExperimentSpec", "")], EXPERIMENT),
        (
            &[("AnalysisTemplateSpec", ""), ("AnalysisRunSpec", "")],
            ANALYSIS,
        ),
        (&[("Metric", "")], METRIC),
        (&[("MetricProvider", "")], PROVIDERS),
    ] {
        let told: BTreeSet<_> = rows.iter().map(|(what, ..)| (*what).to_owned()).collect();
        assert_eq!(fields_of(objects), told, "{objects:?}");
    }
}

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

/// The tests are looked up in their sources.
fn read(folder: &Path, into: &mut String) {
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            read(&path, into);
        } else if path.extension().is_some_and(|e| e == "rs") {
            into.push_str(&std::fs::read_to_string(&path).unwrap());
        }
    }
}

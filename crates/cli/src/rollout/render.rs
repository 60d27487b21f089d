//! Draws a [`Tree`] as text: a head of fields, the steps, and a table whose first column is the tree.

use std::fmt::Write;

use anstyle::{AnsiColor, Style};
use jiff::SignedDuration;
use serin_api::units::human_duration;

use super::view::{
    Mark, MetricNode, PodNode, RevisionNode, Role, RunNode, SetNode, State, Tone, Tree, Weights,
};

/// Columns of the words before the fields of the head.
const LABEL_COLUMNS: usize = 12;
/// The narrowest line that is drawn; below it, columns no longer mean anything.
const LEAST_COLUMNS: usize = 40;

/// How the text may look.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Look {
    /// Whether colours are written.
    pub(crate) colours: bool,
    /// Whether lines and marks beyond ASCII are written.
    pub(crate) unicode: bool,
    /// The longest line.
    pub(crate) columns: usize,
}

/// The text of a tree, every line ended.
pub(crate) fn render(tree: &Tree, look: Look) -> String {
    let mut text = head(tree, look);
    if let Some(steps) = steps(tree, look) {
        text.push('\n');
        text.push_str(&steps);
    }
    text.push('\n');
    text.push_str(&table(&rows(tree, look), look));
    text
}

/// One line that says where a tree stands, for logs and for places without a terminal.
pub(crate) fn summary(tree: &Tree) -> String {
    let mut parts = vec![tree.state.word.clone()];
    if let Some(steps) = &tree.steps {
        parts.push(format!("step {}/{}", steps.done, steps.lines.len()));
    }
    if let Some(weights) = &tree.weights {
        parts.push(weights_text(*weights));
    }
    let replicas = tree.replicas;
    parts.push(format!(
        "{}/{} updated, {} available",
        replicas.updated, replicas.desired, replicas.available
    ));
    let mut text = parts.join(", ");
    let waits = tree
        .waits_for
        .as_ref()
        .map(|what| format!("waits for {what}"));
    let why = match (&tree.message, waits) {
        // What went wrong says more than what comes next.
        (Some(message), Some(waits)) if tree.state.tone == Tone::Bad => {
            Some(format!("{message}; {waits}"))
        }
        (message, waits) => waits.or_else(|| message.clone()),
    };
    if let Some(why) = why {
        text.push_str(": ");
        text.push_str(&why);
    }
    text
}

fn head(tree: &Tree, look: Look) -> String {
    let mut text = String::new();
    let mut field = |label: &str, value: &str| {
        let label = format!("{label}:");
        let room = look
            .columns
            .max(LEAST_COLUMNS)
            .saturating_sub(LABEL_COLUMNS + 1);
        for (place, line) in wrapped(value, room, look).iter().enumerate() {
            let label = if place == 0 { label.as_str() } else { "" };
            let _ = writeln!(text, "{label:LABEL_COLUMNS$} {line}");
        }
    };
    field("Name", &tree.name);
    field("Namespace", &tree.namespace);
    field("Kind", &format!("{}, {}", tree.kind, tree.strategy));
    field("Status", &marked(&tree.state, look));
    if let Some(message) = &tree.message {
        field("Message", &one_line(message));
    }
    if let Some(waits_for) = &tree.waits_for {
        field("Waits for", &one_line(waits_for));
    }
    if let Some(steps) = &tree.steps {
        field("Step", &format!("{}/{}", steps.done, steps.lines.len()));
    }
    if let Some(weights) = tree.weights {
        field("Weights", &weights_text(weights));
    }
    let images: Vec<String> = tree.images.iter().map(image_text).collect();
    if !images.is_empty() {
        field("Images", &images.join(", "));
    }
    let r = tree.replicas;
    field(
        "Replicas",
        &format!(
            "desired {}, current {}, updated {}, ready {}, available {}",
            r.desired, r.current, r.updated, r.ready, r.available
        ),
    );
    text
}

fn image_text((image, roles): &(String, Vec<Role>)) -> String {
    if roles.is_empty() {
        return image.clone();
    }
    format!("{image} ({})", role_words(roles))
}

fn role_words(roles: &[Role]) -> String {
    let words: Vec<&str> = roles.iter().map(|role| role.word()).collect();
    words.join(", ")
}

/// `canary 20 %, stable 80 % (served)`; what is asked is named where it differs.
fn weights_text(weights: Weights) -> String {
    let mut text = format!("canary {} %, stable {} %", weights.canary, weights.stable);
    let mut notes = Vec::new();
    let asked = weights.asked.filter(|asked| *asked != weights.canary);
    match weights.served {
        Some(true) if asked.is_some() => notes.push(format!("{} % served", weights.canary)),
        Some(true) => notes.push("served".to_owned()),
        Some(false) => notes.push("not yet served".to_owned()),
        None => {}
    }
    notes.extend(asked.map(|asked| format!("{asked} % asked")));
    if !notes.is_empty() {
        let _ = write!(text, " ({})", notes.join(", "));
    }
    text
}

fn steps(tree: &Tree, look: Look) -> Option<String> {
    let steps = tree.steps.as_ref()?;
    let digits = steps.lines.len().to_string().len();
    let mut text = String::from("Steps\n");
    for (place, step) in steps.lines.iter().enumerate() {
        let (mark, ascii, tone) = match step.mark {
            Mark::Done => ('✔', '+', Tone::Good),
            Mark::Current => ('▶', '>', Tone::Busy),
            Mark::Paused => ('⏸', '>', Tone::Waiting),
            Mark::Ahead => ('·', '.', Tone::Quiet),
        };
        let mark = if look.unicode { mark } else { ascii };
        let mark = coloured(&mark.to_string(), tone, look);
        let _ = writeln!(text, "  {mark} {:>digits$} {}", place + 1, step.text);
    }
    Some(text)
}

/// One row of the table.
struct Row {
    name: String,
    kind: &'static str,
    state: Option<State>,
    age: Option<SignedDuration>,
    info: String,
}

fn rows(tree: &Tree, look: Look) -> Vec<Row> {
    let mut rows = vec![Row {
        name: tree.name.clone(),
        kind: tree.kind,
        state: Some(tree.state.clone()),
        age: tree.age,
        info: String::new(),
    }];
    let branches = Branches { look };
    for (prefix, revision) in branches.of("", &tree.revisions) {
        rows.push(revision_row(&prefix, revision));
        let below = branches.below(&prefix);
        let last_set = if revision.runs.is_empty() {
            revision.sets.len()
        } else {
            usize::MAX
        };
        for (place, set) in revision.sets.iter().enumerate() {
            let prefix = branches.branch(&below, place + 1 == last_set);
            rows.push(set_row(&prefix, set));
            for (prefix, pod) in branches.of(&branches.below(&prefix), &set.pods) {
                rows.push(pod_row(&prefix, pod));
            }
        }
        for (prefix, run) in branches.of(&below, &revision.runs) {
            rows.push(run_row(&prefix, run));
            for (prefix, metric) in branches.of(&branches.below(&prefix), &run.metrics) {
                rows.push(metric_row(&prefix, metric));
            }
        }
    }
    rows
}

fn revision_row(prefix: &str, revision: &RevisionNode) -> Row {
    let name = match revision.number {
        Some(number) => format!("{prefix}revision {number}"),
        None => format!("{prefix}revision ?"),
    };
    Row {
        name,
        kind: "",
        state: None,
        age: None,
        info: revision.cause.as_deref().map(one_line).unwrap_or_default(),
    }
}

fn set_row(prefix: &str, set: &SetNode) -> Row {
    let (available, wanted) = set.available;
    let mut info = Vec::new();
    if !set.roles.is_empty() {
        info.push(role_words(&set.roles));
    }
    if wanted > 0 || available > 0 {
        info.push(format!("{available}/{wanted} available"));
    }
    if let Some(left) = set.scale_down_in {
        info.push(format!("scales down in {}", whole_seconds(left)));
    }
    Row {
        name: format!("{prefix}{}", set.name),
        kind: "ReplicaSet",
        state: Some(set.state.clone()),
        age: set.age,
        info: info.join(", "),
    }
}

fn pod_row(prefix: &str, pod: &PodNode) -> Row {
    let (ready, all) = pod.ready;
    let mut info = vec![format!("ready {ready}/{all}")];
    match pod.restarts {
        0 => {}
        1 => info.push("1 restart".to_owned()),
        many => info.push(format!("{many} restarts")),
    }
    info.extend(pod.ip.clone());
    info.extend(pod.message.as_deref().map(one_line));
    Row {
        name: format!("{prefix}{}", pod.name),
        kind: "Pod",
        state: Some(pod.state.clone()),
        age: pod.age,
        info: info.join(", "),
    }
}

fn run_row(prefix: &str, run: &RunNode) -> Row {
    Row {
        name: format!("{prefix}{}", run.name),
        kind: "AnalysisRun",
        state: Some(run.state.clone()),
        age: run.age,
        info: run.message.as_deref().map(one_line).unwrap_or_default(),
    }
}

fn metric_row(prefix: &str, metric: &MetricNode) -> Row {
    let mut info = Vec::new();
    if !metric.counts.is_empty() {
        info.push(metric.counts.clone());
    }
    if !metric.values.is_empty() {
        info.push(format!("last {}", metric.values.join(" ")));
    }
    info.extend(metric.message.as_deref().map(one_line));
    Row {
        name: format!("{prefix}{}", metric.name),
        kind: "Metric",
        state: Some(metric.state.clone()),
        age: None,
        info: info.join(", "),
    }
}

/// The lines that join a node to the one above it.
struct Branches {
    look: Look,
}

impl Branches {
    /// Each of `nodes` with its prefix, the last one closing the branch.
    fn of<'a, T>(&self, below: &str, nodes: &'a [T]) -> Vec<(String, &'a T)> {
        let last = nodes.len();
        nodes
            .iter()
            .enumerate()
            .map(|(place, node)| (self.branch(below, place + 1 == last), node))
            .collect()
    }

    fn branch(&self, below: &str, last: bool) -> String {
        let join = match (self.look.unicode, last) {
            (true, true) => "└─ ",
            (true, false) => "├─ ",
            (false, true) => "`- ",
            (false, false) => "|- ",
        };
        format!("{below}{join}")
    }

    /// What stands before the nodes below a node with this prefix.
    fn below(&self, prefix: &str) -> String {
        prefix
            .replace("└─ ", "   ")
            .replace("├─ ", "│  ")
            .replace("`- ", "   ")
            .replace("|- ", "|  ")
    }
}

fn table(rows: &[Row], look: Look) -> String {
    let titles = ["NAME", "KIND", "STATUS", "AGE", "INFO"];
    let cells: Vec<[String; 5]> = rows
        .iter()
        .map(|row| {
            let state = row.state.as_ref().map(|state| plain_mark(state, look));
            let age = row.age.map(whole_seconds).unwrap_or_default();
            let kind = row.kind.to_owned();
            [
                row.name.clone(),
                kind,
                state.unwrap_or_default(),
                age,
                row.info.clone(),
            ]
        })
        .collect();
    let mut widths = titles.map(str::len);
    for row in &cells {
        for (width, cell) in widths.iter_mut().zip(row) {
            *width = (*width).max(cell.chars().count());
        }
    }
    let mut text = String::new();
    let titles = titles.map(str::to_owned);
    line(&mut text, &titles, &widths, None, look);
    for (row, cells) in rows.iter().zip(&cells) {
        line(&mut text, cells, &widths, row.state.as_ref(), look);
    }
    text
}

/// Writes one line, cut at the last column; the tone of the state colours its cell alone.
fn line(
    text: &mut String,
    cells: &[String; 5],
    widths: &[usize; 5],
    state: Option<&State>,
    look: Look,
) {
    let mut left = look.columns.max(LEAST_COLUMNS);
    let mut written = String::new();
    for (place, (cell, width)) in cells.iter().zip(widths).enumerate() {
        let shown = cut(cell, left, look);
        let used = shown.chars().count();
        let padding = " ".repeat(
            (width + 2)
                .saturating_sub(used)
                .min(left.saturating_sub(used)),
        );
        match state.filter(|_| place == 2) {
            Some(state) => written.push_str(&coloured(&shown, state.tone, look)),
            None => written.push_str(&shown),
        }
        written.push_str(&padding);
        left = left.saturating_sub(used + padding.len());
    }
    text.push_str(written.trim_end());
    text.push('\n');
}

/// The first characters of a text that fit, ended by `…` when some do not. Only for text without colours.
fn cut(text: &str, columns: usize, look: Look) -> String {
    if look.colours && text.contains('\x1b') || text.chars().count() <= columns {
        return text.to_owned();
    }
    let end = if look.unicode { "…" } else { "~" };
    let kept: String = text.chars().take(columns.saturating_sub(1)).collect();
    if columns == 0 { kept } else { kept + end }
}

/// The text in lines that fit, broken between words. A word that is too long for a line has one to itself, and is not cut.
fn wrapped(text: &str, columns: usize, look: Look) -> Vec<String> {
    if look.colours && text.contains('\x1b') {
        return vec![text.to_owned()];
    }
    let mut lines = vec![String::new()];
    let mut used = 0;
    for word in text.split(' ') {
        let length = word.chars().count();
        match lines.last_mut() {
            Some(line) if used == 0 || used + 1 + length <= columns => {
                if used > 0 {
                    line.push(' ');
                    used += 1;
                }
                line.push_str(word);
                used += length;
            }
            _ => {
                lines.push(word.to_owned());
                used = length;
            }
        }
    }
    lines
}

fn one_line(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

fn plain_mark(state: &State, look: Look) -> String {
    let mark = match (look.unicode, state.tone) {
        (false, _) => return state.word.clone(),
        (true, Tone::Good) => '✔',
        (true, Tone::Busy) => '◌',
        (true, Tone::Waiting) => '⏸',
        (true, Tone::Bad) => '✖',
        (true, Tone::Quiet) => '·',
    };
    format!("{mark} {}", state.word)
}

fn marked(state: &State, look: Look) -> String {
    coloured(&plain_mark(state, look), state.tone, look)
}

fn coloured(text: &str, tone: Tone, look: Look) -> String {
    if !look.colours {
        return text.to_owned();
    }
    let style = match tone {
        Tone::Good => AnsiColor::Green.on_default(),
        Tone::Busy => AnsiColor::Cyan.on_default(),
        Tone::Waiting => AnsiColor::Yellow.on_default(),
        Tone::Bad => AnsiColor::Red.on_default(),
        Tone::Quiet => Style::new().dimmed(),
    };
    format!("{style}{text}{style:#}")
}

/// An age or a countdown without fractions.
pub(super) fn whole_seconds(duration: SignedDuration) -> String {
    match duration.as_secs() {
        0 => "0s".to_owned(),
        seconds => human_duration(SignedDuration::from_secs(seconds)),
    }
}

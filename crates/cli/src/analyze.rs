//! `serin analyze`: the judge of analyses over a recording.
//!
//! Absent on purpose: any judgement, which is the engine's.

mod record;
mod recording;

use std::fmt::Write as _;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::{Args, ValueEnum};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use serde_json::{Value, json};
use serin_api::analysis::SerinMetric;
use serin_engine::analysis::judge_rules;
use serin_engine::judge::{Look, Seen, Verdict, replay};

use crate::context::{Context, parse_timeout};
use crate::error::{CliError, Exit};
use recording::Recording;

/// A longer recording is refused, in bytes.
const MOST_BYTES: u64 = 64 * 1024 * 1024;

/// What is judged, and how.
#[derive(Clone, Debug, Args)]
pub(crate) struct AnalyzeArgs {
    /// The recording: JSON, one span of one revision a line, or CSV with a header; - for stdin
    #[arg(required_unless_present = "record")]
    file: Option<PathBuf>,
    #[command(flatten)]
    record: RecordArgs,
    /// The revision on trial [default: the one that comes last]
    #[arg(long, value_name = "REVISION")]
    canary: Option<String>,
    /// The revision that it is compared with [default: the one that comes first]
    #[arg(long, value_name = "REVISION")]
    stable: Option<String>,
    /// What is judged [default: the three questions of the default analysis templates]
    #[arg(long, value_name = "METRIC", value_parser = ["error-ratio", "latency"])]
    metric: Option<String>,
    /// stable: is it worse than stable? threshold: is it above --threshold?
    #[arg(
        long,
        value_name = "WITH",
        requires = "metric",
        value_parser = ["stable", "threshold"],
        default_value_if("metric", clap::builder::ArgPredicate::IsPresent, "stable")
    )]
    compare: Option<String>,
    /// For --compare threshold: of errors a share between 0 and 1, of latency seconds
    #[arg(long, value_name = "NUMBER", requires = "metric", required_if_eq("compare", "threshold"), value_parser = positive)]
    threshold: Option<String>,
    /// How much worse than stable is borne, as a share of it, from 0 to 10 [default: 0.25]
    #[arg(long, value_name = "SHARE", requires = "metric", value_parser = margin)]
    margin: Option<String>,
    /// Of the latency, above 0 and below 1 [default: 0.95]
    #[arg(long, value_name = "SHARE", requires = "metric", value_parser = quantile)]
    quantile: Option<String>,
    /// The chance that a revision that is no worse is ever called bad, above 0 and below 0.5 [default: 0.01]
    #[arg(long, value_name = "SHARE", value_parser = alpha)]
    alpha: Option<String>,
    /// No verdict with fewer requests of either revision [default: 100]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(i32).range(1..))]
    min_requests: Option<i32>,
    /// The form of the result
    #[arg(short, long, value_enum, value_name = "FORM")]
    output: Option<Form>,
}

fn positive(text: &str) -> Result<String, String> {
    number(text, "above 0", |n| n > 0.0 && n.is_finite())
}

fn margin(text: &str) -> Result<String, String> {
    number(text, "from 0 to 10", |n| (0.0..=10.0).contains(&n))
}

fn quantile(text: &str) -> Result<String, String> {
    number(text, "above 0 and below 1", |n| n > 0.0 && n < 1.0)
}

fn alpha(text: &str) -> Result<String, String> {
    number(text, "above 0 and below 0.5", |n| n > 0.0 && n < 0.5)
}

/// A number in the words of a template, which has it as a text.
fn number(text: &str, range: &str, is_in: fn(f64) -> bool) -> Result<String, String> {
    let parsed = text.trim().parse().ok();
    match parsed.filter(|number| is_in(*number)) {
        Some(_) => Ok(text.to_owned()),
        None => Err(format!("it must be a number {range}")),
    }
}

/// What is recorded.
#[derive(Clone, Debug, Args)]
struct RecordArgs {
    /// Make a recording instead: print what the gateway of this machine counts of a route, such as httproute/web
    #[arg(long, value_name = "ROUTE", conflicts_with = "file")]
    record: Option<String>,
    /// The length of a span
    #[arg(long, value_name = "DURATION", default_value = "10s", value_parser = parse_timeout, conflicts_with = "file")]
    every: Duration,
    /// How long to record; Ctrl-C ends it too
    #[arg(long = "for", value_name = "DURATION", default_value = "10m", value_parser = parse_timeout, conflicts_with = "file")]
    lasts: Duration,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Form {
    /// For programs.
    Json,
}

/// One question, and what was said of it.
struct Answer {
    title: String,
    looks: Vec<Look>,
}

/// Judges a recording, or makes one. The exit code is 2 when the revision on trial is bad.
pub(crate) async fn run(context: &Context, args: &AnalyzeArgs) -> Result<(), CliError> {
    match &args.file {
        Some(file) => judge(context, args, file),
        None => record::run(context, &args.record).await,
    }
}

fn judge(context: &Context, args: &AnalyzeArgs, file: &Path) -> Result<(), CliError> {
    let text = read(file)?;
    let name = file.display().to_string();
    let refused = |why: String| {
        CliError::new(Exit::Manifest, format!("{name}: {why}"))
            .hint("`serin analyze --record ROUTE` makes a recording; docs/analysis.md has its form")
    };
    let recording = Recording::parse(&text).map_err(refused)?;
    let sides = recording
        .sides(args.canary.as_deref(), args.stable.as_deref())
        .map_err(refused)?;
    let spans = recording.spans(&sides);
    let mut answers = Vec::new();
    for (title, asked) in questions(args) {
        let rules = judge_rules(&asked)
            .map_err(|problems| CliError::new(Exit::Usage, problems.join("; ")))?;
        let looks = replay(&rules, spans.iter().map(|(_, span)| span));
        answers.push(Answer { title, looks });
    }
    let times: Vec<&str> = spans.iter().map(|(at, _)| at.as_str()).collect();
    let shown = match args.output {
        Some(Form::Json) => to_json(&sides, &times, &answers),
        None => to_text(&sides, &times, &answers),
    };
    context.printer.result(shown.trim_end())?;
    if answers.iter().any(|answer| answer.last() == Verdict::Bad) {
        return Err(CliError::silent(Exit::TakenBack));
    }
    Ok(())
}

fn read(path: &Path) -> Result<String, CliError> {
    let failed = |error| CliError::failed(format!("cannot read {}: {error}", path.display()));
    let source: Box<dyn Read> = if path.as_os_str() == "-" {
        Box::new(std::io::stdin())
    } else {
        Box::new(std::fs::File::open(path).map_err(failed)?)
    };
    let mut text = String::new();
    source
        .take(MOST_BYTES + 1)
        .read_to_string(&mut text)
        .map_err(failed)?;
    if text.len() as u64 > MOST_BYTES {
        let most = MOST_BYTES / 1024 / 1024;
        let why = format!("{}: longer than {most} MiB", path.display());
        return Err(CliError::new(Exit::Manifest, why).hint("analyze a shorter time"));
    }
    Ok(text)
}

/// What is asked: the one question of the command line, or those of the default templates.
fn questions(args: &AnalyzeArgs) -> Vec<(String, SerinMetric)> {
    let text = |text: &str| Some(text.to_owned());
    let asked = |metric: &str, compare: &str| SerinMetric {
        metric: metric.to_owned(),
        compare: text(compare),
        alpha: args.alpha.clone(),
        min_requests: args.min_requests.map(IntOrString::Int),
        ..SerinMetric::default()
    };
    if let Some(metric) = &args.metric {
        let compare = args.compare.as_deref().unwrap_or("stable");
        let one = SerinMetric {
            threshold: args.threshold.clone(),
            margin: args.margin.clone(),
            quantile: args.quantile.clone(),
            ..asked(metric, compare)
        };
        return vec![(format!("{metric} against {compare}"), one)];
    }
    vec![
        (
            "more than 1 % errors".to_owned(),
            SerinMetric {
                threshold: text("0.01"),
                ..asked("error-ratio", "threshold")
            },
        ),
        (
            "P95 above 1 s".to_owned(),
            SerinMetric {
                threshold: text("1.0"),
                ..asked("latency", "threshold")
            },
        ),
        (
            "P95 more than 50 % above stable".to_owned(),
            SerinMetric {
                margin: text("0.5"),
                ..asked("latency", "stable")
            },
        ),
    ]
}

impl Answer {
    fn last(&self) -> Verdict {
        let last = self.looks.last().map(|look| look.verdict);
        last.unwrap_or(Verdict::TooFew { have: 0 })
    }
}

fn word(verdict: Verdict) -> &'static str {
    match verdict {
        Verdict::TooFew { .. } => "too few requests",
        Verdict::Undecided => "undecided",
        Verdict::Bad => "bad",
        Verdict::Safe => "safe",
    }
}

fn to_text(sides: &recording::Sides, times: &[&str], answers: &[Answer]) -> String {
    let against = sides.stable.as_deref().unwrap_or("nothing");
    let spans = match times.len() {
        1 => "1 span".to_owned(),
        many => format!("{many} spans"),
    };
    let mut text = format!("{} against {against}, {spans}\n", sides.canary);
    for answer in answers {
        let _ = write!(text, "\n{}: {}\n", answer.title, word(answer.last()));
        for (look, at) in answer.looks.iter().zip(times) {
            let (mine, theirs) = (&look.canary, &look.stable);
            let _ = writeln!(
                text,
                "  {at}  {} of {} requests of the new one, {} of {} of stable, p {:.2e}, {}",
                mine.errors,
                mine.requests,
                theirs.errors,
                theirs.requests,
                look.p_bad,
                word(look.verdict)
            );
        }
    }
    text
}

fn to_json(sides: &recording::Sides, times: &[&str], answers: &[Answer]) -> String {
    let side = |seen: &Seen| json!({"requests": seen.requests, "events": seen.errors});
    let shown = answers.iter().map(|answer| {
        let looks = answer.looks.iter().zip(times).map(|(look, at)| {
            json!({
                "at": at, "canary": side(&look.canary), "stable": side(&look.stable),
                "pBad": look.p_bad, "verdict": word(look.verdict),
            })
        });
        json!({
            "question": answer.title, "verdict": word(answer.last()), "looks": looks.collect::<Vec<_>>(),
        })
    });
    let all = json!({
        "canary": sides.canary, "stable": sides.stable, "spans": times.len(),
        "answers": shown.collect::<Vec<Value>>(),
    });
    format!("{all:#}")
}

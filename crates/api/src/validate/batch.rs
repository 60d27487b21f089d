//! Jobs and CronJobs.

use super::field::Field;
use super::pod;
use crate::Problem;
use crate::cron::Schedule;

/// The name of a Job is that of its CronJob, a hyphen and the minute in which it was due.
const MOST_NAME: usize = 52;

pub(super) fn job(root: &Field<'_>, out: &mut Vec<Problem>) {
    let spec = root.get("spec");
    if spec.require("", out) {
        job_spec(&spec, out);
    }
}

pub(super) fn cron_job(root: &Field<'_>, out: &mut Vec<Problem>) {
    let name = root.at("metadata.name");
    if name.text_or_empty().len() > MOST_NAME {
        out.push(name.invalid("must be no more than 52 characters"));
    }
    let spec = root.get("spec");
    if !spec.require("", out) {
        return;
    }
    let schedule = spec.get("schedule");
    if schedule.require("", out)
        && let Err(why) = Schedule::parse(schedule.text_or_empty())
    {
        out.push(schedule.invalid(&why));
    }
    spec.get("concurrencyPolicy")
        .one_of(&["Allow", "Forbid", "Replace"], out);
    for name in [
        "startingDeadlineSeconds",
        "successfulJobsHistoryLimit",
        "failedJobsHistoryLimit",
    ] {
        spec.get(name).not_negative(out);
    }
    let zone = spec.get("timeZone");
    let is_name = |text: &str| !text.is_empty() && text != "Local" && !text.contains("..");
    if !zone.text().is_none_or(is_name) {
        out.push(
            zone.invalid("must be the name of a zone such as \"Etc/UTC\" or \"Europe/Vienna\""),
        );
    }
    job_spec(&spec.at("jobTemplate.spec"), out);
}

fn job_spec(spec: &Field<'_>, out: &mut Vec<Problem>) {
    for name in [
        "parallelism",
        "completions",
        "backoffLimit",
        "activeDeadlineSeconds",
        "ttlSecondsAfterFinished",
    ] {
        spec.get(name).not_negative(out);
    }
    let mode = spec.get("completionMode");
    mode.one_of(&["NonIndexed", "Indexed"], out);
    if mode.text() == Some("Indexed") {
        let hint = "when completion mode is Indexed";
        spec.get("completions").require(hint, out);
    }
    for (name, instead) in [
        (
            "podFailurePolicy",
            "every failure counts towards backoffLimit",
        ),
        ("successPolicy", "all completions are needed"),
        (
            "backoffLimitPerIndex",
            "failures count towards backoffLimit",
        ),
        ("managedBy", "the Job is run by Serin"),
    ] {
        spec.get(name).not_yet(instead, out);
    }
    pod::job_template(&spec.get("template"), out);
}

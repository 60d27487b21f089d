//! Rules of a run that name metrics by a regular expression: which are dry runs, how many measurements are kept.

use regex::{Regex, RegexBuilder};
use serin_api::analysis::AnalysisRunSpec;

/// Measurements that are kept of a metric unless the run says otherwise.
const RETENTION: usize = 10;
/// More are never kept: a status has to fit into one object.
const MOST_KEPT: usize = 1000;
/// The size of a compiled pattern in bytes.
const PATTERN_CAP: usize = 64 * 1024;

/// The rules of a run, read. As in Argo Rollouts a pattern may match anywhere in a name, and one that matches no metric is an
/// error: it was meant for one that would now count.
pub(super) struct Rules {
    dry_run: Vec<Regex>,
    retention: Vec<(Regex, usize)>,
}

impl Rules {
    /// Reads the rules; all problems at once, one sentence each.
    pub(super) fn of(spec: &AnalysisRunSpec) -> Result<Self, Vec<String>> {
        let mut problems = Vec::new();
        let mut read = |list: &str, index: usize, pattern: &str| {
            let at = format!("{list}[{index}].metricName {pattern:?}");
            let Ok(regex) = RegexBuilder::new(pattern).size_limit(PATTERN_CAP).build() else {
                problems.push(format!("{at} is no regular expression"));
                return None;
            };
            if !spec
                .metrics
                .iter()
                .any(|metric| regex.is_match(&metric.name))
            {
                problems.push(format!("{at} matches no metric"));
            }
            Some(regex)
        };
        let dry_run = spec.dry_run.iter().enumerate();
        let dry_run: Vec<_> = dry_run
            .filter_map(|(i, rule)| read("dryRun", i, &rule.metric_name))
            .collect();
        let retention = spec.measurement_retention.iter().enumerate();
        let retention: Vec<_> = retention
            .filter_map(|(i, rule)| {
                let pattern = read("measurementRetention", i, &rule.metric_name)?;
                Some((pattern, usize::try_from(rule.limit).unwrap_or(0)))
            })
            .collect();
        if problems.is_empty() {
            Ok(Self { dry_run, retention })
        } else {
            Err(problems)
        }
    }

    /// Whether the result of a metric does not count.
    pub(super) fn is_dry_run(&self, metric: &str) -> bool {
        self.dry_run.iter().any(|pattern| pattern.is_match(metric))
    }

    /// How many measurements of a metric are kept, at least the last.
    pub(super) fn kept(&self, metric: &str) -> usize {
        let asked = self
            .retention
            .iter()
            .find(|(pattern, _)| pattern.is_match(metric));
        asked
            .map_or(RETENTION, |(_, limit)| *limit)
            .clamp(1, MOST_KEPT)
    }
}

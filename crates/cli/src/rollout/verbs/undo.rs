//! Going back to an older revision: which one, and the patch that asks for it.

use std::collections::BTreeMap;

use jiff::Timestamp;
use k8s_openapi::api::apps::v1::ReplicaSet;
use k8s_openapi::api::core::v1::PodTemplateSpec;
use serde_json::{Value, json};
use serin_api::keys::{annotation, label};
use serin_api::rollout::{Decision, Undo};

use super::{Change, annotate, is_paused, replace};
use crate::error::CliError;
use crate::rollout::objects::{Objects, Workload};
use crate::rollout::view;

/// Goes back to a revision; without a number to the one that the users are on, else to the last one that was promoted and not
/// taken back since.
pub(crate) fn undo(
    objects: &Objects,
    to: Option<i64>,
    cause: Option<&str>,
    decision: &Decision,
) -> Result<Change, CliError> {
    let workload = &objects.workload;
    let name = workload.reference();
    if workload.template().is_none() {
        return Err(
            CliError::failed(format!("{name} takes its template from another workload"))
                .hint("undo that workload"),
        );
    }
    if let Workload::Deployment(_) = workload
        && is_paused(workload)
    {
        return Err(CliError::failed(format!(
            "{name} is paused: an undo would not be carried out"
        ))
        .hint("`serin rollout resume` first"));
    }
    let known = Known::of(objects)?;
    let target = known.target(to)?;
    let mut operations = vec![template_operation(target)?];
    // Without a new reason, that of the revision counts again; that of the one left behind never does.
    let said = cause.map(str::to_owned).or_else(|| view::cause(target.set));
    let told = known.told(decision);
    operations.extend(annotate(
        workload,
        &[
            (annotation::CHANGE_CAUSE, said.as_deref()),
            (annotation::UNDO, told.as_deref()),
        ],
    ));
    let done = format!("goes back to revision {}", target.number);
    let mut change = Change::new(vec![replace(Value::Array(operations))], done);
    change.warnings.extend(
        target
            .rejection()
            .map(|why| format!("revision {} of {name} {why}", target.number)),
    );
    Ok(change)
}

/// Goes back to the last good revision from any state, in one patch: a pause ends, and on a Rollout neither steps nor gates nor
/// windows count for the revision that is gone back to.
pub(crate) fn emergency(objects: &Objects, decision: &Decision) -> Result<Change, CliError> {
    let workload = &objects.workload;
    let known = Known::of(objects)?;
    let target = known.target(None)?;
    let mut operations = vec![
        template_operation(target)?,
        json!({"op": "add", "path": "/spec/paused", "value": false}),
    ];
    let told = known.told(decision);
    let cause = view::cause(target.set);
    let mut annotations = vec![
        (annotation::CHANGE_CAUSE, cause.as_deref()),
        (annotation::UNDO, told.as_deref()),
    ];
    if let Workload::Rollout(_) = workload {
        let hash = objects.hash_of(&target.set.metadata);
        annotations.push((annotation::EMERGENCY, hash));
    }
    operations.extend(annotate(workload, &annotations));
    let done = format!("goes back to revision {}", target.number);
    Ok(Change::new(vec![replace(Value::Array(operations))], done))
}

/// The operation of a JSON patch that puts the template of a revision into the workload.
fn template_operation(target: &Revision<'_>) -> Result<Value, CliError> {
    let mut template = serde_json::to_value(target.template)
        .map_err(|error| CliError::failed(format!("cannot write the template: {error}")))?;
    if let Some(Value::Object(labels)) = template.pointer_mut("/metadata/labels") {
        labels.remove(label::POD_TEMPLATE_HASH);
        labels.remove(label::ROLLOUT_POD_TEMPLATE_HASH);
    }
    Ok(json!({"op": "replace", "path": "/spec/template", "value": template}))
}

/// A revision that can be gone back to.
#[derive(Clone, Copy)]
struct Revision<'a> {
    number: i64,
    set: &'a ReplicaSet,
    template: &'a PodTemplateSpec,
}

impl<'a> Revision<'a> {
    fn annotation(&self, key: &str) -> Option<&'a str> {
        let annotations: Option<&'a BTreeMap<String, String>> =
            self.set.metadata.annotations.as_ref();
        annotations?.get(key).map(String::as_str)
    }

    fn promoted_at(&self) -> Option<Timestamp> {
        self.annotation(annotation::PROMOTED_AT)?.parse().ok()
    }

    /// `was taken back at … by …: …`; `None` when it was not.
    fn rejection(&self) -> Option<String> {
        view::rejection(self.set)
    }
}

/// The revisions of a workload, newest first.
struct Known<'a> {
    objects: &'a Objects,
    revisions: Vec<Revision<'a>>,
    /// The number of the one that is wanted.
    current: i64,
    /// The hash of the one that the users are on.
    stable: Option<&'a str>,
}

impl<'a> Known<'a> {
    fn of(objects: &'a Objects) -> Result<Self, CliError> {
        let revisions: Vec<_> = objects
            .revisions()
            .into_iter()
            .filter_map(|(number, set)| {
                Some(Revision {
                    number: number?,
                    set,
                    template: set.spec.as_ref()?.template.as_ref()?,
                })
            })
            .collect();
        let Some(newest) = revisions.first().map(|r| r.number) else {
            let name = objects.workload.reference();
            return Err(CliError::failed(format!("{name} has no revision yet")));
        };
        let status = match &objects.workload {
            Workload::Rollout(rollout) => rollout.status.as_ref(),
            Workload::Deployment(_) => None,
        };
        let wanted = status.and_then(|status| status.current_pod_hash.as_deref());
        let current = revisions
            .iter()
            .find(|r| wanted.is_some() && objects.hash_of(&r.set.metadata) == wanted)
            .map_or(newest, |r| r.number);
        Ok(Self {
            objects,
            revisions,
            current,
            stable: status.and_then(|status| status.stable_rs.as_deref()),
        })
    }

    fn target(&self, to: Option<i64>) -> Result<&Revision<'a>, CliError> {
        let name = self.objects.workload.reference();
        let numbers: Vec<String> = self
            .revisions
            .iter()
            .map(|r| r.number.to_string())
            .collect();
        let there_are = format!("there are: {}", numbers.join(", "));
        match to {
            Some(to) if to == self.current => Err(CliError::failed(format!(
                "revision {to} of {name} is the current one"
            ))),
            Some(to) => self
                .revisions
                .iter()
                .find(|r| r.number == to)
                .ok_or_else(|| {
                    CliError::failed(format!("{name} has no revision {to}")).hint(there_are)
                }),
            None if self.revisions.len() < 2 => Err(CliError::failed(format!(
                "{name} has no revision before {}",
                self.current
            ))
            .hint(
                "it has only ever had this version, or older ones are beyond revisionHistoryLimit",
            )),
            None => self.last_good().ok_or_else(|| {
                let what = "no other revision that users were on and that was not taken back since";
                CliError::failed(format!("{name} has {what}"))
                    .hint(format!("--to-revision N names one; {there_are}"))
            }),
        }
    }

    /// The one that the users are on, else the one that they were on last; never one that was taken back.
    fn last_good(&self) -> Option<&Revision<'a>> {
        let others = || {
            self.revisions
                .iter()
                .filter(|r| r.number != self.current && r.rejection().is_none())
        };
        let stable = others().find(|r| {
            self.stable.is_some() && self.objects.hash_of(&r.set.metadata) == self.stable
        });
        let promoted = || others().filter(|r| r.promoted_at().is_some());
        let recorded = self
            .revisions
            .iter()
            .any(|r| r.promoted_at().is_some() || r.rejection().is_some());
        stable
            .or_else(|| promoted().max_by_key(|r| (r.promoted_at(), r.number)))
            // Revisions of a time before anything was remembered: the one before, as it always was.
            .or_else(|| others().find(|r| !recorded && r.number < self.current))
    }

    /// Who goes back, for the history of the revision that is left.
    fn told(&self, decision: &Decision) -> Option<String> {
        let current = self.revisions.iter().find(|r| r.number == self.current)?;
        let undo = Undo {
            from: self.objects.hash_of(&current.set.metadata)?.to_owned(),
            by: decision.by.clone(),
            why: decision.why.clone(),
        };
        serde_json::to_string(&undo).ok()
    }
}

//! The controller in the world: what it sees, and a pass of it.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde_json::Value;
use serin_api::analysis::AnalysisPhase;
use serin_api::rollout::{Desired, PodMetadata, RolloutSpec, Route, Step, Strategy};

use super::configuration::read_by;
use super::objects::version;
use super::{CHECKED, Served, World};
use crate::invariants;
use crate::rollout::batches::batched;
use crate::rollout::configuration::Configuration;
use crate::rollout::{
    Action, Observed, Plan, Revision, Role, RouteView, ServiceView, desired, plan_for,
};

impl World {
    /// What there is now: from here on the controller knows it.
    pub(super) fn observe(&mut self) -> Observed {
        self.settings.look();
        self.seen_at = self.tick;
        let revisions = self.sets.iter().map(|(hash, set)| Revision {
            hash: hash.clone(),
            number: set.number,
            desired: set.desired,
            replicas: set.pods.len() as u32,
            ready: set.ready(self.now),
            available: set.ready(self.now),
            template: set.template.clone(),
            source: Some(set.source.clone()),
            created: set.created,
            min_ready_seconds: 0,
            metadata: Some(PodMetadata::default()),
            keep_until: set.keep_until,
            history: set.history.clone(),
        });
        let services = self.services.iter().map(|(name, s)| {
            let view = ServiceView {
                revision: s.set.clone(),
                acknowledged: s.acknowledged(),
                taken_by: None,
            };
            (name.clone(), view)
        });
        let route = RouteView {
            canary: Some(self.route.set.share_of(self.sides().1)),
            exact: true,
            managed: self.route.set.managed.clone(),
            acknowledged: self.route.acknowledged(),
            ..RouteView::default()
        };
        Observed {
            name: self.name.into(),
            generation: self.generation,
            object: Value::Null,
            status: self.status.clone(),
            revisions: revisions.collect(),
            services: services.collect(),
            routes: BTreeMap::from([(Route::HttpRoute("web".into()), route)]),
            runs: self.runs.iter().map(|r| r.view.clone()).collect(),
            experiments: self.experiments.iter().map(|e| e.view.clone()).collect(),
            templates: self.templates.clone(),
            governed: self.governed.clone(),
            group: self.group.clone(),
            ..Observed::default()
        }
    }

    /// One pass of the controller, which may see the world as it was, and may be killed after any action.
    pub(super) fn control(&mut self) -> Result<(), String> {
        let stale = self.faults && self.dice.one_in(3);
        let mut observed = match self.seen.take().filter(|_| stale) {
            Some(old) => self.renewed(old),
            None => self.observe(),
        };
        self.planned_on = self.seen_at;
        let (desired, configuration) = self.desired()?;
        observed.configuration = configuration;
        let plan = plan_for(&desired, &observed, self.now);
        // Who is killed looks at everything as it starts again, and who acts sees what it did.
        self.changed = true;
        if let Some(violation) = invariants::check_for(&desired, &observed, &plan).first() {
            return Err(format!(
                "the plan breaks an invariant: {violation}\n{plan:#?}"
            ));
        }
        let killed_after = if self.faults && self.dice.one_in(8) {
            Some(self.dice.below(4) as usize)
        } else {
            None
        };
        for (i, action) in plan.actions.iter().enumerate() {
            let killed = self.kill_at.take_if(|at| *at == self.done).is_some();
            self.done += usize::from(!killed);
            if killed || killed_after == Some(i) {
                self.tell(|| format!("killed before: {action}"));
                return Ok(());
            }
            self.tell(|| action.to_string());
            if !self.apply(&desired, action) {
                self.tell(|| "that failed".to_owned());
                return Ok(());
            }
        }
        if killed_after.is_some() {
            self.tell(|| "killed before the status".to_owned());
            return Ok(());
        }
        self.is_checked(&desired, &plan)?;
        // After a stale view the event of the present one is still to come.
        self.changed = stale || !plan.actions.is_empty() || plan.status != self.status;
        self.wake_at = plan.wake_at;
        if plan.status.current_step_index != self.status.current_step_index
            || plan.status.phase != self.status.phase
        {
            let phase = plan
                .status
                .phase
                .map(|phase| format!("{phase:?}"))
                .unwrap_or_default();
            let step = plan
                .status
                .current_step_index
                .map(|i| format!("step {i}, "))
                .unwrap_or_default();
            self.tell(|| format!("{step}{phase}, waits for {}", plan.waiting_on));
        }
        self.status = plan.status;
        // Its own writes it has seen; what others do after this it may miss for a while.
        self.seen = match (plan.actions.is_empty(), stale) {
            (true, true) => Some(self.observe()),
            (true, false) => Some(observed),
            (false, _) => None,
        };
        self.nothing_twice(&plan.actions)
    }

    /// Whether nothing would ever happen again: in a world without faults, the next second would be like this one.
    pub(super) fn is_still(&self) -> bool {
        let mut pods = self.sets.values().flat_map(|set| &set.pods);
        !self.changed
            && self.wake_at.is_none()
            && self.services.values().all(Served::acknowledged)
            && self.route.acknowledged()
            && self.runs.iter().all(|run| run.view.phase.is_completed())
            && self.experiments_are_over()
            && pods.all(|pod| pod.ready_at.is_some_and(|at| at <= self.now))
    }

    /// An old view of what others change, with the object itself as it is.
    fn renewed(&self, old: Observed) -> Observed {
        let mut observed = Observed {
            status: self.status.clone(),
            generation: self.generation,
            ..old
        };
        if let (Some(seen), Some(now)) = (&mut observed.group, &self.group) {
            seen.release.clone_from(&now.release);
        }
        observed
    }

    /// What the spec wants, with the configuration that it reads.
    fn desired(&self) -> Result<(Arc<Desired>, Configuration), String> {
        let template = self.spec.template.as_ref();
        let resolved = template.map(|t| self.settings.resolve(t, self.template_so_far()));
        let (template, configuration) = resolved.unwrap_or_default();
        let key = (
            self.scenario,
            version(&self.spec),
            template.as_ref().and_then(read_by),
            self.spec.paused,
            self.spec.replicas,
            self.status.canary.stable_ping_pong.clone(),
        );
        if let Some(known) = CHECKED.with_borrow(|checked| checked.get(&key).cloned()) {
            return Ok((known, configuration));
        }
        let configured = template.map(|template| RolloutSpec {
            template: Some(template),
            ..self.spec.clone()
        });
        let spec = configured.as_ref().unwrap_or(&self.spec);
        let desired = desired(spec, &self.status).map_err(|problems| problems.join("; "))?;
        let desired = Arc::new(desired);
        CHECKED.with_borrow_mut(|checked| checked.insert(key, Arc::clone(&desired)));
        Ok((desired, configuration))
    }

    /// A step that measures is done only when its measurement was good, unless somebody skips it.
    fn is_checked(&self, desired: &Desired, plan: &Plan) -> Result<(), String> {
        let (before, after) = (&self.status, &plan.status);
        let index = before.current_step_index.unwrap_or(0);
        let one_on = after.current_step_index == Some(index + 1)
            && after.current_pod_hash == before.current_pod_hash
            && after.stable_rs == before.stable_rs
            && after.stable_rs.is_some()
            && after.stable_rs != after.current_pod_hash;
        let desired = batched(desired, self.governed.policy.batches.as_ref());
        let Strategy::Canary(canary) = &desired.strategy else {
            return Ok(());
        };
        let step = usize::try_from(index).ok().filter(|_| one_on);
        let parts = step
            .and_then(|step| canary.steps.get(step))
            .map(Step::parts);
        let measures = |part: &Step| matches!(part, Step::Analysis(_));
        if after.promote_full || !parts.is_some_and(|parts| parts.iter().any(measures)) {
            return Ok(());
        }
        let current = after.current_pod_hash.as_deref();
        let good = self.runs.iter().any(|run| {
            step.is_some_and(|step| run.view.role == Role::Step(step))
                && Some(run.view.revision.as_str()) == current
                && run.view.phase == AnalysisPhase::Successful
        });
        if good {
            return Ok(());
        }
        Err(format!("step {index} is over before its measurement"))
    }

    /// What has been done is not asked for again.
    fn nothing_twice(&mut self, done: &[Action]) -> Result<(), String> {
        if done.is_empty() {
            return Ok(());
        }
        let mut observed = self.observe();
        let (desired, configuration) = self.desired()?;
        observed.configuration = configuration;
        let again = plan_for(&desired, &observed, self.now).actions;
        match again.iter().find(|action| done.contains(action)) {
            Some(action) => Err(format!("asked for again after it was done: {action}")),
            None => Ok(()),
        }
    }
}

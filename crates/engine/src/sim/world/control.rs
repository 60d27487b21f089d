//! The controller in the world: what it sees, and a pass of it.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde_json::Value;
use serin_api::rollout::{Desired, PodMetadata, Route};

use super::objects::version;
use super::{Served, World};
use crate::invariants;
use crate::rollout::{Action, Observed, Revision, RouteView, ServiceView, desired, plan_for};

impl World {
    fn observe(&self) -> Observed {
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
        };
        Observed {
            name: "web".into(),
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
            ..Observed::default()
        }
    }

    /// One pass of the controller, which may see the world as it was, and may be killed after any action.
    pub(super) fn control(&mut self) -> Result<(), String> {
        let stale = self.faults && self.dice.one_in(3);
        let observed = match self.seen.take().filter(|_| stale) {
            Some(old) => Observed {
                status: self.status.clone(),
                generation: self.generation,
                ..old
            },
            None => self.observe(),
        };
        let desired = self.desired()?;
        let plan = plan_for(&desired, &observed, self.now);
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
                self.tell(format!("killed before: {action}"));
                return Ok(());
            }
            self.tell(action.to_string());
            self.apply(action);
        }
        if killed_after.is_some() {
            self.tell("killed before the status".to_owned());
            return Ok(());
        }
        self.idle = plan.actions.is_empty() && plan.wake_at.is_none() && plan.status == self.status;
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
            self.tell(format!("{step}{phase}, waits for {}", plan.waiting_on));
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
        self.idle
            && self.services.values().all(Served::acknowledged)
            && self.route.acknowledged()
            && self.runs.iter().all(|run| run.view.phase.is_completed())
            && self.experiments_are_over()
            && pods.all(|pod| pod.ready_at.is_some_and(|at| at <= self.now))
    }

    /// What the spec wants.
    fn desired(&mut self) -> Result<Arc<Desired>, String> {
        let sides = self.status.canary.stable_ping_pong.clone();
        let key = (
            version(&self.spec),
            self.spec.paused,
            self.spec.replicas,
            sides,
        );
        if let Some(known) = self.checked.get(&key) {
            return Ok(Arc::clone(known));
        }
        let desired = desired(&self.spec, &self.status).map_err(|problems| problems.join("; "))?;
        let desired = Arc::new(desired);
        self.checked.insert(key, Arc::clone(&desired));
        Ok(desired)
    }

    /// What has been done is not asked for again.
    fn nothing_twice(&mut self, done: &[Action]) -> Result<(), String> {
        if done.is_empty() {
            return Ok(());
        }
        let again = plan_for(&*self.desired()?, &self.observe(), self.now).actions;
        match again.iter().find(|action| done.contains(action)) {
            Some(action) => Err(format!("asked for again after it was done: {action}")),
            None => Ok(()),
        }
    }
}

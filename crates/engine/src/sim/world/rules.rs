//! The rules of the world: what must hold of it whatever the controller believes, and what it must come to in the end.

use serin_api::rollout::PONG;
use serin_api::units::{RevisionHash, Weight};

use super::objects::version;
use super::{Scenario, World};

impl World {
    /// What must hold of the world at every moment, whatever the controller believes.
    pub(super) fn rules(&self) -> Result<(), String> {
        self.requests_have_a_taker()?;
        self.configuration_is_there()?;
        let Some(stable) = self.status.stable_rs.as_deref().map(RevisionHash::new) else {
            return Ok(());
        };
        let updating = self.status.current_pod_hash.as_deref() != Some(stable.as_str());
        let all: u32 = self.sets.values().map(|s| s.desired).sum();
        let has = self.sets.get(&stable).map_or(0, |s| s.desired);
        if updating && !self.scenario.is_by_replicas() {
            let floor = self.stable_floor(&stable);
            if has < floor {
                return Err(format!(
                    "the stable revision has {has} instances of {floor} while another is on trial"
                ));
            }
        }
        let ceiling = self.most + 1;
        if self.scenario.is_by_replicas() && all > ceiling {
            return Err(format!("{all} instances are wanted; {ceiling} are allowed"));
        }
        Ok(())
    }

    /// What the stable revision must have: all instances, or with a dynamic scale those for the share that is served, as long
    /// as its Service leads to it. A new number of instances counts once the revisions have followed it.
    fn stable_floor(&self, stable: &RevisionHash) -> u32 {
        let served = self.services.get("stable").and_then(|s| s.served.as_ref());
        match self.scenario {
            Scenario::Dynamic if served == Some(stable) => {
                let share = self.route.served.canary.complement();
                share.of_replicas(self.fewest)
            }
            Scenario::Dynamic => 0,
            _ => self.fewest,
        }
    }

    /// The revisions have followed the number of instances that is wanted.
    pub(super) fn follow_scale(&mut self) {
        let all: u32 = self.sets.values().map(|s| s.desired).sum();
        let stable = self.status.stable_rs.as_deref().map(RevisionHash::new);
        let has = stable
            .and_then(|s| self.sets.get(&s))
            .map_or(0, |s| s.desired);
        let followed = if self.scenario.is_by_replicas() {
            (self.replicas..=self.replicas + 1).contains(&all)
        } else {
            has >= self.replicas
        };
        if followed {
            (self.fewest, self.most) = (self.replicas, self.replicas);
        }
    }

    pub(super) fn experiments_are_over(&self) -> bool {
        self.experiments.iter().all(|e| e.view.phase.is_completed())
    }

    /// Where the world is in the end, with versions in the place of hashes.
    pub(super) fn end(&self) -> String {
        let name = |hash: &RevisionHash| self.sets.get(hash).map_or(0, |s| s.version);
        let sets = self.sets.values().filter(|s| s.desired > 0);
        let mut sets: Vec<_> = sets
            .map(|s| format!("v{}: {}", s.version, s.desired))
            .collect();
        sets.sort();
        let services = self.services.iter().map(|(service, s)| {
            let revision = s.served.as_ref().map_or(0, name);
            format!("{service}: v{revision}")
        });
        let services: Vec<_> = services.collect();
        format!(
            "{}; {}; {} to the canary; {:?}",
            sets.join(", "),
            services.join(", "),
            self.route.served.share_of(self.sides().1),
            self.status.phase
        )
    }

    /// Whatever share the data plane sends somewhere, somebody is there to answer.
    fn requests_have_a_taker(&self) -> Result<(), String> {
        let share = |name: &str, weight: Weight| {
            let revision = self.services.get(name).and_then(|s| s.served.clone());
            (revision, weight)
        };
        let shares = match self.scenario {
            routed if routed.is_routed() => {
                let (stable, canary) = self.sides();
                let served = &self.route.served;
                let by_rule = if served.managed.is_empty() {
                    Weight::ZERO
                } else {
                    Weight::FULL
                };
                vec![
                    share(canary, served.share_of(canary).max(by_rule)),
                    share(stable, served.share_of(stable)),
                ]
            }
            Scenario::BlueGreen => vec![share("active", Weight::FULL)],
            _ => vec![share("stable", Weight::FULL), share("canary", Weight::FULL)],
        };
        for (revision, weight) in shares {
            let Some(revision) = revision.filter(|_| weight > Weight::ZERO) else {
                continue;
            };
            let ready = self.sets.get(&revision).map_or(0, |s| s.ready(self.now));
            if ready == 0 {
                return Err(format!(
                    "{weight} of the requests go to {revision}, which has no ready instance"
                ));
            }
        }
        Ok(())
    }

    /// The Services of the stable revision and of the canary.
    pub(super) fn sides(&self) -> (&'static str, &'static str) {
        match (
            self.scenario,
            self.status.canary.stable_ping_pong.as_deref(),
        ) {
            (Scenario::PingPong, Some(PONG)) => ("pong", "ping"),
            (Scenario::PingPong, _) => ("ping", "pong"),
            _ => ("stable", "canary"),
        }
    }

    /// After healing: the users are on what is wanted, or what was bad has been taken back, and nothing else is left over.
    pub(super) fn at_rest(&self) -> Result<(), String> {
        let status = &self.status;
        let stable = status.stable_rs.clone().map(RevisionHash::new);
        let wanted = status.current_pod_hash.clone().map(RevisionHash::new);
        let done = stable.is_some() && stable == wanted;
        // The very first version has nothing to fall back to.
        let stuck = version(&self.spec) == 4 && (stable.is_none() || !status.abort);
        if !done && !status.abort && !stuck {
            return Err(format!(
                "not at rest: {:?} {:?} waits for {:?}",
                status.phase, status.message, status.waiting_on
            ));
        }
        if stuck {
            return Ok(());
        }
        if !self.experiments_are_over() {
            return Err("at rest with an experiment that nobody waits for".to_owned());
        }
        let served = &self.route.served;
        if served.share_of(self.sides().1) != Weight::ZERO || !served.managed.is_empty() {
            return Err(format!("at rest with {served:?} on the canary"));
        }
        for (hash, set) in &self.sets {
            let expected = if Some(hash) == stable.as_ref() {
                self.replicas
            } else {
                0
            };
            if set.desired != expected {
                return Err(format!(
                    "at rest with {} instances of {hash}, not {expected}",
                    set.desired
                ));
            }
        }
        self.configuration_at_rest()
    }
}

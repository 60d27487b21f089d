//! The rules of the world: what must hold of it whatever the controller believes, and what it must come to in the end.

use serin_api::units::{RevisionHash, Weight};

use super::objects::version;
use super::{REPLICAS, Scenario, World};

impl World {
    /// What must hold of the world at every moment, whatever the controller believes.
    pub(super) fn rules(&self) -> Result<(), String> {
        self.requests_have_a_taker()?;
        let Some(stable) = self.status.stable_rs.as_deref().map(RevisionHash::new) else {
            return Ok(());
        };
        let updating = self.status.current_pod_hash.as_deref() != Some(stable.as_str());
        if updating && self.scenario != Scenario::Replicas {
            let has = self.sets.get(&stable).map_or(0, |s| s.desired);
            if has < REPLICAS {
                return Err(format!(
                    "the stable revision has {has} instances of {REPLICAS} while another is on trial"
                ));
            }
        }
        if self.scenario == Scenario::Replicas {
            let all: u32 = self.sets.values().map(|s| s.desired).sum();
            if all > REPLICAS + 1 {
                return Err(format!(
                    "{all} instances are wanted; {} are allowed",
                    REPLICAS + 1
                ));
            }
        }
        Ok(())
    }

    /// Whatever share the data plane sends somewhere, somebody is there to answer.
    fn requests_have_a_taker(&self) -> Result<(), String> {
        let share = |name: &str, weight: Weight| {
            let revision = self.services.get(name).and_then(|s| s.served.clone());
            (revision, weight)
        };
        let shares = match self.scenario {
            Scenario::Traffic => vec![
                share("canary", self.weight.served),
                share("stable", self.weight.served.complement()),
            ],
            Scenario::BlueGreen => vec![share("active", Weight::FULL)],
            Scenario::Replicas => {
                vec![share("stable", Weight::FULL), share("canary", Weight::FULL)]
            }
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

    /// After healing: the users are on what is wanted, or what was bad has been taken back, and nothing else is left over.
    pub(super) fn at_rest(&self) -> Result<(), String> {
        let status = &self.status;
        let stable = status.stable_rs.clone().map(RevisionHash::new);
        let wanted = status.current_pod_hash.clone().map(RevisionHash::new);
        let bad = [4, 5].contains(&version(&self.spec));
        let done = stable.is_some() && stable == wanted;
        // The very first version has nothing to fall back to.
        let stuck = bad && version(&self.spec) == 4 && (stable.is_none() || !status.abort);
        if !done && !status.abort && !stuck {
            return Err(format!(
                "not at rest: {:?} {:?} waits for {:?}",
                status.phase, status.message, status.waiting_on
            ));
        }
        if stuck {
            return Ok(());
        }
        if self.scenario == Scenario::Traffic && self.weight.served != Weight::ZERO {
            return Err(format!("at rest with {} on the canary", self.weight.served));
        }
        for (hash, set) in &self.sets {
            let expected = if Some(hash) == stable.as_ref() {
                REPLICAS
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
        Ok(())
    }
}

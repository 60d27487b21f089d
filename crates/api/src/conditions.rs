//! Conditions of an object's status: set one, keep its transition time when only the words change.

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{MicroTime, Time};

/// A condition of any kind of object, of which the built-in kinds each have their own type.
pub trait Condition {
    /// The `type`.
    fn kind(&self) -> &str;
    /// The `status`: `True`, `False` or `Unknown`.
    fn status(&self) -> &str;
    /// When `status` last changed.
    fn transition(&self) -> Option<&Time>;
    /// Puts back the time at which `status` last changed.
    fn set_transition(&mut self, at: Time);
}

/// Puts `new` in the place of the condition of its type, or at the end. The transition time is the old one unless the
/// status changed. `true` when anything but times differs.
pub fn set<C: Condition + PartialEq + Clone>(conditions: &mut Vec<C>, mut new: C) -> bool {
    let Some(old) = conditions.iter_mut().find(|c| c.kind() == new.kind()) else {
        conditions.push(new);
        return true;
    };
    if old.status() == new.status()
        && let Some(at) = old.transition().cloned()
    {
        new.set_transition(at);
    }
    let changed = *old != new;
    *old = new;
    changed
}

/// The condition of a type.
pub fn get<'a, C: Condition>(conditions: &'a [C], kind: &str) -> Option<&'a C> {
    conditions.iter().find(|c| c.kind() == kind)
}

/// Whether the condition of a type is there and `True`.
pub fn is_true<C: Condition>(conditions: &[C], kind: &str) -> bool {
    get(conditions, kind).is_some_and(|c| c.status() == "True")
}

/// `True` or `False`, as conditions write it.
pub fn word(truth: bool) -> String {
    if truth { "True".into() } else { "False".into() }
}

/// A point in time as objects carry it.
pub fn time(at: Timestamp) -> Time {
    Time(at)
}

/// A point in time that is waited from: whole seconds would end a wait up to a second early.
pub fn micro_time(at: Timestamp) -> MicroTime {
    MicroTime(at)
}

macro_rules! condition {
    ($type:ty, optional) => {
        impl Condition for $type {
            fn kind(&self) -> &str {
                &self.type_
            }
            fn status(&self) -> &str {
                &self.status
            }
            fn transition(&self) -> Option<&Time> {
                self.last_transition_time.as_ref()
            }
            fn set_transition(&mut self, at: Time) {
                self.last_transition_time = Some(at);
            }
        }
    };
    ($type:ty, required) => {
        impl Condition for $type {
            fn kind(&self) -> &str {
                &self.type_
            }
            fn status(&self) -> &str {
                &self.status
            }
            fn transition(&self) -> Option<&Time> {
                Some(&self.last_transition_time)
            }
            fn set_transition(&mut self, at: Time) {
                self.last_transition_time = at;
            }
        }
    };
}

condition!(k8s_openapi::api::core::v1::PodCondition, optional);
condition!(k8s_openapi::api::apps::v1::DeploymentCondition, optional);
condition!(k8s_openapi::api::apps::v1::ReplicaSetCondition, optional);
condition!(k8s_openapi::api::batch::v1::JobCondition, optional);
condition!(
    k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition,
    required
);
condition!(crate::rollout::RolloutCondition, optional);

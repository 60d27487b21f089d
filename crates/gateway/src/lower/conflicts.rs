//! Two objects that claim the same requests: the older one has them, the younger one is told.

use std::collections::{BTreeMap, HashMap};

use serin_api::Problem;
use serin_api::problem::FieldPath;

use super::{Effect, RouteProblem};
use crate::names::{Source, SourceKind};
use crate::table::{HostMatch, PathMatch, RequestMatch, RouteVerdict, Rule, Verdict};

/// One host and match that an object claims and an older object has.
pub(super) struct Conflict {
    loser: Source,
    winner: Source,
    host: HostMatch,
    claim: RequestMatch,
}

/// Leaves each host and match to the oldest object that claims it. Inside one object the first rule simply wins, as Gateway
/// API has it, so that is no conflict.
pub(super) fn settle(mut rules: Vec<Rule>) -> (Vec<Rule>, Vec<Conflict>) {
    rules.sort_by(|a, b| (a.created, &a.source, a.index).cmp(&(b.created, &b.source, b.index)));
    let mut owners = Owners::default();
    let mut kept = Vec::with_capacity(rules.len());
    let mut conflicts = Vec::new();
    let everything = RequestMatch::of_path(PathMatch::Prefix(String::new()));
    for rule in rules {
        let mut lost = Vec::new();
        for host in &rule.hosts {
            for claim in &rule.matches {
                let owner = owners.claim(&rule, host, claim);
                // Of VirtualServices the first that matches counts, and an older one that takes everything takes this too.
                let is_ordered = |source: &Source| source.kind == SourceKind::VirtualService;
                let shadow = owners.get(None, &[], host, &everything);
                let shadow = shadow.filter(|o| is_ordered(o) && is_ordered(&rule.source));
                let owner = shadow.cloned().unwrap_or(owner);
                if owner != rule.source {
                    lost.push(Conflict {
                        loser: rule.source.clone(),
                        winner: owner,
                        host: host.clone(),
                        claim: claim.clone(),
                    });
                }
            }
        }
        if lost.is_empty() {
            kept.push(rule);
        } else {
            kept.extend(without(&rule, &lost));
            conflicts.extend(lost);
        }
    }
    (kept, conflicts)
}

/// Who has which match on which host, at which port, and but for which other hosts.
#[derive(Default)]
struct Owners(HashMap<(Option<u16>, Vec<HostMatch>, HostMatch, RequestMatch), Source>);

impl Owners {
    fn get(
        &self,
        port: Option<u16>,
        except: &[HostMatch],
        host: &HostMatch,
        claim: &RequestMatch,
    ) -> Option<&Source> {
        self.0
            .get(&(port, except.to_vec(), host.clone(), claim.clone()))
    }

    /// The owner of a claim: the first one at this port, or at every port, with as few exceptions.
    fn claim(&mut self, rule: &Rule, host: &HostMatch, claim: &RequestMatch) -> Source {
        let owner = self.get(None, &[], host, claim);
        let owner = owner.or_else(|| self.get(rule.port, &[], host, claim));
        if let Some(owner) = owner {
            return owner.clone();
        }
        let key = (rule.port, rule.except.clone(), host.clone(), claim.clone());
        let owner = self.0.entry(key).or_insert_with(|| rule.source.clone());
        owner.clone()
    }
}

/// The rule without what it lost: one rule for each host, as each may have lost other matches.
fn without(rule: &Rule, lost: &[Conflict]) -> Vec<Rule> {
    let of_host = |host: &HostMatch| {
        let is_lost =
            |claim: &RequestMatch| lost.iter().any(|l| l.host == *host && l.claim == *claim);
        let matches: Vec<_> = rule
            .matches
            .iter()
            .filter(|m| !is_lost(m))
            .cloned()
            .collect();
        (!matches.is_empty()).then(|| Rule {
            hosts: vec![host.clone()],
            matches,
            ..rule.clone()
        })
    };
    rule.hosts.iter().filter_map(of_host).collect()
}

pub(super) fn tell(
    conflicts: &[Conflict],
    kept: &[Rule],
    verdicts: &mut BTreeMap<Source, RouteVerdict>,
    problems: &mut Vec<RouteProblem>,
) {
    for conflict in conflicts {
        let serves = kept.iter().any(|rule| rule.source == conflict.loser);
        let message = format!(
            "{} is served for {}, which is older",
            conflict.text(),
            conflict.winner
        );
        if let Some(verdict) = verdicts.get_mut(&conflict.loser) {
            if serves {
                verdict.partly = Some(message.clone());
            } else {
                verdict.accepted = Verdict::no("Conflicted", message.clone());
            }
        }
        problems.push(RouteProblem {
            source: conflict.loser.clone(),
            effect: if serves {
                Effect::Partly
            } else {
                Effect::Refused
            },
            problem: Problem::warning(FieldPath::new("spec.rules"), message),
        });
    }
}

impl Conflict {
    fn text(&self) -> String {
        let host = match &self.host {
            HostMatch::Exact(host) => host.clone(),
            HostMatch::Below(domain) | HostMatch::OneBelow(domain) => format!("*.{domain}"),
            HostMatch::Any => "every host".into(),
        };
        let path = match &self.claim.path {
            PathMatch::Exact(path) => path.clone(),
            PathMatch::Prefix(path) => format!("{path}/"),
            PathMatch::Begins(path) => format!("{path}*"),
            PathMatch::Regex(regex) => format!("~{regex}"),
        };
        format!("{host} {path}")
    }
}

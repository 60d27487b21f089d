//! From objects to one route table: a pure function of the objects and of the table before.
//!
//! A wrong object never takes another one with it, and it never takes itself away: the rules that it last had stay until
//! it is right again. Everything that is wrong is told, each with its object and field. Of two objects that claim the
//! same requests the older one has them.
//!
//! Absent on purpose: nothing here does IO, reads a clock or knows a connection.

use std::collections::{BTreeMap, HashMap};
use std::fmt;

use serin_api::Problem;
use serin_api::problem::FieldPath;

use crate::names::{ObjectName, Source, SourceKind};
use crate::objects::Objects;
use crate::table::{HostMatch, RequestMatch, RouteTable, RouteVerdict, Rule, Verdict};

mod canary;
mod http_route;
mod ingress;
mod service;

pub(crate) use http_route::{is_ours, whole_regex};
pub(crate) use ingress::is_taken as takes_ingress;

/// What the operator set.
#[derive(Clone, Debug, Default)]
pub struct LowerOptions {
    /// The class of Ingresses to take; `None` takes every class and those without one.
    pub ingress_class: Option<String>,
    /// Whether there is an address where TLS is spoken.
    pub has_tls: bool,
}

/// What came of the objects.
#[derive(Clone, Debug, Default, PartialEq)]
#[must_use]
pub struct Lowered {
    /// The table.
    pub table: RouteTable,
    /// Everything that is wrong, by object.
    pub problems: Vec<RouteProblem>,
}

/// Something wrong with an object.
#[derive(Clone, Debug, PartialEq)]
pub struct RouteProblem {
    /// The object.
    pub source: Source,
    /// What it did to the table.
    pub effect: Effect,
    /// The field and the sentence.
    pub problem: Problem,
}

/// What a problem did to the table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Effect {
    /// The object is not served as it stands; its last good rules are.
    Refused,
    /// A part of the object is not served.
    Partly,
    /// The object is served; something in it has no effect.
    Served,
}

impl fmt::Display for RouteProblem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let effect = match self.effect {
            Effect::Refused => "not served as it stands",
            Effect::Partly => "served in part",
            Effect::Served => "served",
        };
        write!(f, "{} is {effect}: {}", self.source, self.problem)
    }
}

/// Lowers `objects`. `last` is the table in use: the last good rules of an object that is wrong now are taken from it.
pub fn lower(objects: &Objects, last: &RouteTable, options: &LowerOptions) -> Lowered {
    let mut problems = Vec::new();
    let services = service::lower(objects, &mut problems);
    let mut routes = BTreeMap::new();
    let mut rules = Vec::new();
    for (name, route) in &objects.routes {
        let draft = http_route::lower(name, route, &objects.services);
        take_route(name, draft, last, &mut rules, &mut routes, &mut problems);
    }
    rules.extend(ingress::lower(objects, last, options, &mut problems));
    let (rules, conflicts) = settle_conflicts(rules);
    tell_conflicts(&conflicts, &rules, &mut routes, &mut problems);
    Lowered {
        table: RouteTable {
            rules,
            services,
            routes,
        },
        problems,
    }
}

/// The rules of one object in `last`.
fn last_rules(last: &RouteTable, source: &Source) -> Vec<Rule> {
    let same = last.rules.iter().filter(|rule| rule.source == *source);
    same.cloned().collect()
}

fn take_route(
    name: &ObjectName,
    draft: http_route::Draft,
    last: &RouteTable,
    rules: &mut Vec<Rule>,
    routes: &mut BTreeMap<ObjectName, RouteVerdict>,
    problems: &mut Vec<RouteProblem>,
) {
    if !draft.is_ours {
        return;
    }
    let source = Source {
        kind: SourceKind::HttpRoute,
        name: name.clone(),
    };
    let accepted = if draft.refused.is_empty() {
        rules.extend(draft.rules);
        Verdict::yes("Accepted", "served")
    } else {
        rules.extend(last_rules(last, &source));
        Verdict::no("UnsupportedValue", sentence(&draft.refused))
    };
    let resolved = match draft.unresolved.first() {
        None => Verdict::yes("ResolvedRefs", "all Services were found"),
        Some((reason, _)) => {
            let all: Vec<_> = draft.unresolved.iter().map(|(_, p)| p.clone()).collect();
            Verdict::no(reason, sentence(&all))
        }
    };
    let told = draft.refused.into_iter().map(|p| (Effect::Refused, p));
    let told = told.chain(
        draft
            .unresolved
            .into_iter()
            .map(|(_, p)| (Effect::Partly, p)),
    );
    problems.extend(told.map(|(effect, problem)| RouteProblem {
        source: source.clone(),
        effect,
        problem,
    }));
    let verdict = RouteVerdict {
        generation: draft.generation,
        accepted,
        resolved,
        partly: None,
    };
    routes.insert(name.clone(), verdict);
}

fn sentence(problems: &[Problem]) -> String {
    let all: Vec<_> = problems.iter().map(ToString::to_string).collect();
    all.join("; ")
}

/// One host and match that an object claims and an older object has.
struct Conflict {
    loser: Source,
    winner: Source,
    host: HostMatch,
    claim: RequestMatch,
}

/// Leaves each host and match to the oldest object that claims it. Inside one object the first rule simply wins, as Gateway
/// API has it, so that is no conflict.
fn settle_conflicts(mut rules: Vec<Rule>) -> (Vec<Rule>, Vec<Conflict>) {
    rules.sort_by(|a, b| (a.created, &a.source, a.index).cmp(&(b.created, &b.source, b.index)));
    let mut owners: HashMap<(HostMatch, RequestMatch), Source> = HashMap::new();
    let mut kept = Vec::with_capacity(rules.len());
    let mut conflicts = Vec::new();
    for rule in rules {
        let mut lost = Vec::new();
        for host in &rule.hosts {
            for claim in &rule.matches {
                let key = (host.clone(), claim.clone());
                let owner = owners.entry(key).or_insert_with(|| rule.source.clone());
                if *owner != rule.source {
                    lost.push(Conflict {
                        loser: rule.source.clone(),
                        winner: owner.clone(),
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

fn tell_conflicts(
    conflicts: &[Conflict],
    kept: &[Rule],
    routes: &mut BTreeMap<ObjectName, RouteVerdict>,
    problems: &mut Vec<RouteProblem>,
) {
    for conflict in conflicts {
        let serves = kept.iter().any(|rule| rule.source == conflict.loser);
        let message = format!(
            "{} is served for {}, which is older",
            conflict.text(),
            conflict.winner
        );
        if conflict.loser.kind == SourceKind::HttpRoute
            && let Some(verdict) = routes.get_mut(&conflict.loser.name)
        {
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
            crate::table::PathMatch::Exact(path) => path.clone(),
            crate::table::PathMatch::Prefix(path) => format!("{path}/"),
            crate::table::PathMatch::Regex(regex) => format!("~{regex}"),
        };
        format!("{host} {path}")
    }
}

#[cfg(test)]
mod tests;

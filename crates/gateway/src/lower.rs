//! From objects to one route table: a pure function of the objects and of the table before.
//!
//! A wrong object never takes another one with it, and it never takes itself away: the rules that it last had stay until
//! it is right again. Everything that is wrong is told, each with its object and field. Of two objects that claim the
//! same requests the older one has them.
//!
//! Absent on purpose: nothing here does IO, reads a clock or knows a connection.

use std::collections::BTreeMap;
use std::fmt;

use serin_api::Problem;
use serin_api::problem::FieldPath;

use crate::names::{ObjectName, Source, SourceKind};
use crate::objects::Objects;
use crate::table::{ParentVerdict, RouteTable, RouteVerdict, Rule, Verdict};

mod annotations;
mod canary;
mod common;
mod conflicts;
mod destination_rule;
mod gateway;
mod http_route;
mod ingress;
mod published;
mod service;
mod sockets;
mod virtual_service;

use common::Draft;
pub(crate) use common::per_million;
pub(crate) use gateway::certificate_uses;
pub(crate) use http_route::{part_regex, whole_regex};
pub(crate) use ingress::is_taken as takes_ingress;
pub use published::Published;
pub use sockets::Sockets;

/// What the operator set.
#[derive(Clone, Debug, Default)]
pub struct LowerOptions {
    /// The class of Ingresses to take; `None` takes every class and those without one.
    pub ingress_class: Option<String>,
    /// Where the process listens.
    pub sockets: Sockets,
    /// Where users reach it.
    pub published: Published,
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
    let splits = destination_rule::lower(objects);
    let services = service::lower(objects, &splits, &mut problems);
    let mut said = Said {
        last,
        rules: Vec::new(),
        verdicts: BTreeMap::new(),
        problems,
    };
    let addresses = published::addresses(objects, options);
    let mut gateways = gateway::Gateways::new(objects, options, &addresses);
    for (name, route) in &objects.routes {
        if let Some(draft) = http_route::lower(name, route, objects, &mut gateways) {
            said.take(SourceKind::HttpRoute, name, draft);
        }
    }
    for (name, service) in &objects.virtual_services {
        let draft = virtual_service::lower(name, service, objects, &splits);
        said.take(SourceKind::VirtualService, name, draft);
    }
    said.take_splits(splits);
    let (rules, ingresses) = ingress::lower(objects, last, options, &mut said.problems);
    said.rules.extend(rules);
    let unread = |rule: &&Rule| {
        let source = &rule.source;
        objects.unread.contains(&source.kind) || objects.unreadable.contains(source)
    };
    said.rules.extend(last.rules.iter().filter(unread).cloned());
    let (rules, conflicts) = conflicts::settle(said.rules);
    conflicts::tell(&conflicts, &rules, &mut said.verdicts, &mut said.problems);
    let (routes, istio) = said
        .verdicts
        .into_iter()
        .partition::<Vec<_>, _>(|(source, _)| source.kind == SourceKind::HttpRoute);
    let routes = routes.into_iter().map(|(source, v)| (source.name, v));
    let (classes, gateways) = gateways.verdicts();
    Lowered {
        table: RouteTable {
            rules,
            services,
            classes,
            gateways,
            addresses,
            ingresses,
            routes: routes.collect(),
            istio,
        },
        problems: said.problems,
    }
}

/// The rules of one object in `last`.
fn last_rules(last: &RouteTable, source: &Source) -> Vec<Rule> {
    let same = last.rules.iter().filter(|rule| rule.source == *source);
    same.cloned().collect()
}

/// What is said so far.
struct Said<'a> {
    last: &'a RouteTable,
    rules: Vec<Rule>,
    verdicts: BTreeMap<Source, RouteVerdict>,
    problems: Vec<RouteProblem>,
}

impl Said<'_> {
    /// Takes one route in: its rules, or those that it last had when it is wrong.
    fn take(&mut self, kind: SourceKind, name: &ObjectName, draft: Draft) {
        let source = Source {
            kind,
            name: name.clone(),
        };
        if draft.refused.is_empty() {
            self.rules.extend(draft.rules);
        } else {
            self.rules.extend(last_rules(self.last, &source));
        }
        let accepted = self.accepted(&source, draft.refused);
        self.tell(&source, Effect::Partly, refusals(&draft.parents));
        self.say(source.clone(), draft.generation, accepted, draft.unresolved);
        if let Some(verdict) = self.verdicts.get_mut(&source) {
            verdict.parents = draft.parents;
        }
    }

    /// What is said of the DestinationRules.
    fn take_splits(&mut self, splits: destination_rule::Splits) {
        let right = splits.of.into_values().chain(splits.refused);
        for split in right {
            let accepted = self.accepted(&split.source, split.refused);
            self.say(split.source, split.generation, accepted, split.unresolved);
        }
        for (split, winner) in splits.lost {
            let message = format!("its Service is split by {winner}, which is older");
            self.problems.push(RouteProblem {
                source: split.source.clone(),
                effect: Effect::Refused,
                problem: Problem::warning(FieldPath::new("spec.host"), &message),
            });
            let accepted = Verdict::no("Conflicted", message);
            self.say(split.source, split.generation, accepted, split.unresolved);
        }
    }

    fn accepted(&mut self, source: &Source, refused: Vec<Problem>) -> Verdict {
        if refused.is_empty() {
            return Verdict::yes("Accepted", "served");
        }
        let verdict = Verdict::no("UnsupportedValue", sentence(&refused));
        self.tell(source, Effect::Refused, refused);
        verdict
    }

    fn say(
        &mut self,
        source: Source,
        generation: i64,
        accepted: Verdict,
        unresolved: Vec<(&'static str, Problem)>,
    ) {
        let first = unresolved.first().map(|(reason, _)| *reason);
        let all: Vec<_> = unresolved.into_iter().map(|(_, problem)| problem).collect();
        let resolved = match first {
            None => Verdict::yes("ResolvedRefs", "all Services were found"),
            Some(reason) => Verdict::no(reason, sentence(&all)),
        };
        self.tell(&source, Effect::Partly, all);
        let verdict = RouteVerdict {
            generation,
            accepted,
            resolved,
            partly: None,
            parents: Vec::new(),
        };
        self.verdicts.insert(source, verdict);
    }

    fn tell(&mut self, source: &Source, effect: Effect, problems: Vec<Problem>) {
        let all = problems.into_iter().map(|problem| RouteProblem {
            source: source.clone(),
            effect,
            problem,
        });
        self.problems.extend(all);
    }
}

/// The parents that do not take a route, as problems of the route.
fn refusals(parents: &[ParentVerdict]) -> Vec<Problem> {
    let at = FieldPath::new("spec.parentRefs");
    let refused = parents.iter().filter_map(|parent| parent.refused.as_ref());
    refused
        .map(|why| Problem::warning(at.clone(), why.message.clone()))
        .collect()
}

fn sentence(problems: &[Problem]) -> String {
    let all: Vec<_> = problems.iter().map(ToString::to_string).collect();
    all.join("; ")
}

#[cfg(test)]
mod tests;

//! Anti-affinity between revisions: a rule in the pod template of a new ReplicaSet that keeps its pods away from the machines
//! of the stable ones. It is found again by its form, the one of Argo Rollouts, so that it never counts as a change of the
//! template.

use k8s_openapi::api::core::v1::{
    PodAffinityTerm, PodAntiAffinity, PodTemplateSpec, WeightedPodAffinityTerm,
};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{LabelSelector, LabelSelectorRequirement};
use serin_api::keys::label;
use serin_api::rollout::AntiAffinity;
use serin_api::units::RevisionHash;

const HOST: &str = "kubernetes.io/hostname";

/// Adds the rule to a template.
pub(super) fn inject(template: &mut PodTemplateSpec, wish: &AntiAffinity, stable: &RevisionHash) {
    let Some(spec) = &mut template.spec else {
        return;
    };
    let rules = spec.affinity.get_or_insert_default();
    let rules = rules.pod_anti_affinity.get_or_insert_default();
    let preferred = wish
        .preferred_during_scheduling_ignored_during_execution
        .as_ref();
    if let Some(preferred) = preferred {
        let terms = rules
            .preferred_during_scheduling_ignored_during_execution
            .get_or_insert_default();
        terms.push(WeightedPodAffinityTerm {
            weight: preferred.weight.unwrap_or(1),
            pod_affinity_term: term(stable),
        });
    }
    if wish
        .required_during_scheduling_ignored_during_execution
        .is_some()
    {
        let terms = rules
            .required_during_scheduling_ignored_during_execution
            .get_or_insert_default();
        terms.push(term(stable));
    }
}

/// Takes the rule out of a template, and what was only there to hold it.
pub(super) fn strip(template: &mut PodTemplateSpec) {
    let Some(spec) = &mut template.spec else {
        return;
    };
    let Some(affinity) = &mut spec.affinity else {
        return;
    };
    let Some(rules) = &mut affinity.pod_anti_affinity else {
        return;
    };
    let before = rules.clone();
    if let Some(terms) = &mut rules.preferred_during_scheduling_ignored_during_execution {
        terms.retain(|weighted| !is_ours(&weighted.pod_affinity_term));
    }
    if let Some(terms) = &mut rules.required_during_scheduling_ignored_during_execution {
        terms.retain(|term| !is_ours(term));
    }
    if *rules == before {
        return;
    }
    let emptied = |terms: Option<usize>| terms.is_none_or(|n| n == 0);
    let preferred = &mut rules.preferred_during_scheduling_ignored_during_execution;
    if emptied(preferred.as_ref().map(Vec::len)) {
        *preferred = None;
    }
    let required = &mut rules.required_during_scheduling_ignored_during_execution;
    if emptied(required.as_ref().map(Vec::len)) {
        *required = None;
    }
    if *rules == PodAntiAffinity::default() {
        affinity.pod_anti_affinity = None;
    }
    spec.affinity = spec.affinity.take().filter(|a| *a != Default::default());
}

fn term(stable: &RevisionHash) -> PodAffinityTerm {
    let requirement = LabelSelectorRequirement {
        key: label::ROLLOUT_POD_TEMPLATE_HASH.to_owned(),
        operator: "In".to_owned(),
        values: Some(vec![stable.as_str().to_owned()]),
    };
    PodAffinityTerm {
        label_selector: Some(LabelSelector {
            match_expressions: Some(vec![requirement]),
            match_labels: None,
        }),
        topology_key: HOST.to_owned(),
        ..PodAffinityTerm::default()
    }
}

fn is_ours(term: &PodAffinityTerm) -> bool {
    let selector = term.label_selector.as_ref();
    let expressions = selector.and_then(|s| s.match_expressions.as_deref());
    let mut expressions = expressions.into_iter().flatten();
    expressions.any(|e| e.key == label::ROLLOUT_POD_TEMPLATE_HASH && e.operator == "In")
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn the_rule_is_found_again_and_others_stay() {
        let theirs =
            json!({"labelSelector": {"matchLabels": {"app": "web"}}, "topologyKey": "zone"});
        let templates = [
            json!({"spec": {"containers": []}}),
            json!({"spec": {"containers": [], "affinity": {"podAntiAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": [theirs]}}}}),
        ];
        let wishes = [
            json!({"requiredDuringSchedulingIgnoredDuringExecution": {}}),
            json!({"preferredDuringSchedulingIgnoredDuringExecution": {"weight": 50}}),
        ];
        for template in &templates {
            for wish in &wishes {
                let before: PodTemplateSpec = serde_json::from_value(template.clone()).unwrap();
                let wish: AntiAffinity = serde_json::from_value(wish.clone()).unwrap();
                let mut after = before.clone();
                inject(&mut after, &wish, &RevisionHash::new("abc"));
                assert_ne!(after, before);
                strip(&mut after);
                assert_eq!(after, before);
            }
        }
    }
}

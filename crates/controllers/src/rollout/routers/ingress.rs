//! Ingresses with the canary annotations of ingress-nginx: beside the Ingress of the users a second one is kept, which sends
//! the share of the canary to the canary Service.
//!
//! Nobody acknowledges an Ingress. The order of the last switch does not depend on it: the stable Service moves to the new
//! revision while its old instances are still there, and that is acknowledged.

use std::collections::BTreeMap;

use k8s_openapi::api::networking::v1::{Ingress, IngressRule, IngressSpec};
use kube::api::ObjectMeta;
use kube::{Resource, ResourceExt};
use serde_json::{Value, json};
use serin_api::keys::annotation;
use serin_api::rollout::{Canary, Rollout};
use serin_api::units::Weight;
use serin_engine::rollout::RouteView;

use super::super::abandoned::{Steered, annotation_path, pointed_by, removal};
use super::{Sides, Split};

/// The name of the canary Ingress, as Argo Rollouts gives it.
pub(super) fn canary_name(rollout: &str, ingress: &str) -> String {
    format!("{rollout}-{ingress}-canary")
}

/// What is seen of the Ingress of the users and of the one of the canary. Without the second, nobody goes to the canary.
pub(super) fn view(stable: &Ingress, trial: Option<&Ingress>, canary: &Canary) -> RouteView {
    let sides = Sides::of(canary);
    let rules = canary_rules(stable, sides);
    let wanted = || {
        trial
            .and_then(|t| t.spec.as_ref())
            .and_then(|s| s.rules.clone())
    };
    let share = trial.and_then(|trial| share(trial, canary));
    let in_order = trial
        .is_none_or(|_| share.is_some_and(|(_, exact)| exact) && wanted().as_ref() == Some(&rules));
    RouteView {
        canary: (!rules.is_empty()).then(|| share.map_or(Weight::ZERO, |(share, _)| share)),
        exact: in_order,
        acknowledged: true,
        ..RouteView::default()
    }
}

/// The canary Ingress for a split.
pub(super) fn canary_ingress(
    rollout: &Rollout,
    stable: &Ingress,
    canary: &Canary,
    split: &Split<'_>,
) -> Ingress {
    let key = |name: &str| format!("{}/{name}", canary.ingress.prefix);
    let mut annotations = canary.ingress.annotations.clone();
    annotations.insert(key("canary"), "true".to_owned());
    annotations.insert(
        key("canary-weight"),
        split.parts_of(split.canary).to_string(),
    );
    if split.parts != 100 {
        annotations.insert(key("canary-weight-total"), split.parts.to_string());
    }
    annotations.insert(
        annotation::MANAGED_BY_ROLLOUTS.to_owned(),
        rollout.name_any(),
    );
    let class = stable
        .spec
        .as_ref()
        .and_then(|s| s.ingress_class_name.clone());
    if let Some(class) = stable.annotations().get("kubernetes.io/ingress.class") {
        annotations.insert("kubernetes.io/ingress.class".to_owned(), class.clone());
    }
    Ingress {
        metadata: ObjectMeta {
            name: Some(canary_name(&rollout.name_any(), &stable.name_any())),
            namespace: rollout.namespace(),
            annotations: Some(annotations),
            owner_references: rollout.controller_owner_ref(&()).map(|owner| vec![owner]),
            ..ObjectMeta::default()
        },
        spec: Some(IngressSpec {
            ingress_class_name: class,
            rules: Some(canary_rules(stable, split.sides)),
            ..IngressSpec::default()
        }),
        status: None,
    }
}

/// What of a canary Ingress is set when it is there already.
pub(super) fn patch(wanted: &Ingress) -> Value {
    let annotations: &BTreeMap<_, _> = wanted.annotations();
    json!({"metadata": {"annotations": annotations}, "spec": wanted.spec})
}

/// The rules of the users' Ingress that lead to the stable Service, leading to the canary Service.
fn canary_rules(stable: &Ingress, sides: Sides<'_>) -> Vec<IngressRule> {
    let rules = stable.spec.iter().flat_map(|s| s.rules.iter().flatten());
    let led = rules.filter_map(|rule| {
        let mut rule = rule.clone();
        let http = rule.http.as_mut()?;
        http.paths
            .retain_mut(|path| match &mut path.backend.service {
                Some(service) if service.name == sides.stable => {
                    service.name = sides.canary.to_owned();
                    true
                }
                _ => false,
            });
        (!http.paths.is_empty()).then_some(rule)
    });
    led.collect()
}

/// What stands behind the prefix in the annotation that makes an Ingress one of a canary.
const CANARY: &str = "/canary";

/// A canary Ingress outlives its Rollout when that is deleted without what belongs to it. It stays, and nobody goes by it.
impl Steered for Ingress {
    const NAME: &'static str = "abandoned ingress";

    fn steered_by(&self) -> Option<String> {
        // What still has its owner goes with it.
        let is_owned = self.metadata.owner_references.as_ref();
        let is_owned = is_owned.is_some_and(|owners| !owners.is_empty());
        pointed_by(self).filter(|_| !is_owned)
    }

    fn given_back(&self, _acknowledged: bool) -> Option<Value> {
        let annotations = self.annotations();
        let prefix = annotations.iter().find_map(|(key, value)| {
            let prefix = key.strip_suffix(CANARY)?;
            (value == "true").then_some(prefix)
        });
        // Headers and cookies lead to it whatever its share is.
        let by = prefix.map(|prefix| format!("{prefix}{CANARY}-by-"));
        let users = annotations
            .keys()
            .filter(|key| by.as_ref().is_some_and(|by| key.starts_with(by.as_str())));
        let ours = [annotation::MANAGED_BY_ROLLOUTS];
        let removed = users.map(String::as_str).chain(ours).map(annotation_path);
        let mut patch = removal(self, removed);
        if let (Some(prefix), Some(steps)) = (prefix, patch.as_array_mut()) {
            let path = annotation_path(&format!("{prefix}{CANARY}-weight"));
            steps.push(json!({"op": "add", "path": path, "value": "0"}));
        }
        Some(patch)
    }
}

/// The share that a canary Ingress asks for in whole percent, and whether it is exactly this.
fn share(trial: &Ingress, canary: &Canary) -> Option<(Weight, bool)> {
    let number = |name: &str| {
        let key = format!("{}/{name}", canary.ingress.prefix);
        trial.annotations().get(&key)?.parse::<u64>().ok()
    };
    let weight = number("canary-weight")?;
    let total = number("canary-weight-total").unwrap_or(100).max(1);
    let percent = weight.checked_mul(100)?.div_ceil(total).min(100);
    let exact = weight * 100 == percent * total && total == u64::from(canary.max_traffic_weight);
    Some((Weight::new(i32::try_from(percent).ok()?)?, exact))
}

#[cfg(test)]
mod tests {
    use expect_test::expect;
    use serin_api::rollout::{Strategy, lower};

    use super::*;

    fn rollout() -> Rollout {
        let strategy = json!({"canary": {
            "stableService": "stable", "canaryService": "canary",
            "trafficRouting": {"maxTrafficWeight": 1000, "nginx": {"stableIngress": "web", "additionalIngressAnnotations": {"canary-by-header": "x-canary"}}},
        }});
        let spec = json!({
            "selector": {"matchLabels": {"app": "web"}}, "strategy": strategy,
            "template": {"metadata": {"labels": {"app": "web"}}, "spec": {"containers": [{"name": "web"}]}},
        });
        Rollout::new("shop", serde_json::from_value(spec).unwrap())
    }

    fn canary(rollout: &Rollout) -> Canary {
        match lower(&rollout.spec).desired.unwrap().strategy {
            Strategy::Canary(canary) => canary,
            Strategy::BlueGreen(_) => unreachable!(),
        }
    }

    fn quarter(canary: &Canary) -> Split<'_> {
        Split {
            sides: Sides::of(canary),
            canary: Weight::new(25).unwrap(),
            parts: canary.max_traffic_weight,
            additional: &[],
            managed: &[],
            split_by: None,
        }
    }

    fn stable() -> Ingress {
        let path = |path: &str, service: &str| json!({"path": path, "pathType": "Prefix", "backend": {"service": {"name": service, "port": {"number": 80}}}});
        let rules = json!([{"host": "a.example", "http": {"paths": [path("/", "stable"), path("/other", "other")]}}]);
        serde_json::from_value(json!({"metadata": {"name": "web"}, "spec": {"ingressClassName": "nginx", "rules": rules}})).unwrap()
    }

    #[test]
    fn the_canary_ingress_leads_where_the_stable_one_does() {
        let rollout = rollout();
        let canary = canary(&rollout);
        let split = quarter(&canary);
        assert_eq!(view(&stable(), None, &canary).canary, Some(Weight::ZERO));
        let made = canary_ingress(&rollout, &stable(), &canary, &split);
        assert_eq!(made.name_any(), "shop-web-canary");
        expect![[r#"
            {
              "argo-rollouts.argoproj.io/managed-by-rollouts": "shop",
              "nginx.ingress.kubernetes.io/canary": "true",
              "nginx.ingress.kubernetes.io/canary-by-header": "x-canary",
              "nginx.ingress.kubernetes.io/canary-weight": "250",
              "nginx.ingress.kubernetes.io/canary-weight-total": "1000"
            }"#]]
        .assert_eq(&serde_json::to_string_pretty(made.annotations()).unwrap());
        expect![[r#"{"ingressClassName":"nginx","rules":[{"host":"a.example","http":{"paths":[{"backend":{"service":{"name":"canary","port":{"number":80}}},"path":"/","pathType":"Prefix"}]}}]}"#]]
            .assert_eq(&serde_json::to_string(&made.spec).unwrap());
        let seen = view(&stable(), Some(&made), &canary);
        assert_eq!((seen.canary, seen.exact), (Weight::new(25), true));
    }

    #[test]
    fn an_ingress_that_does_not_lead_to_the_stable_service_has_no_share() {
        let mut elsewhere = stable();
        elsewhere.spec.as_mut().unwrap().rules = None;
        assert_eq!(view(&elsewhere, None, &canary(&rollout())).canary, None);
    }

    #[test]
    fn nobody_goes_by_a_canary_ingress_without_its_rollout() {
        let rollout = rollout();
        let canary = canary(&rollout);
        let split = quarter(&canary);
        let mut made = canary_ingress(&rollout, &stable(), &canary, &split);
        made.metadata.owner_references = None;
        assert_eq!(made.steered_by().as_deref(), Some("shop"));
        assert_eq!(stable().steered_by(), None);
        let mut left = serde_json::to_value(&made).unwrap();
        let patch = made.given_back(true).unwrap();
        // The version is that of the server.
        left["metadata"]["resourceVersion"] = json!(null);
        let patch: json_patch::Patch = serde_json::from_value(patch).unwrap();
        json_patch::patch(&mut left, &patch).unwrap();
        expect![[r#"
            {
              "nginx.ingress.kubernetes.io/canary": "true",
              "nginx.ingress.kubernetes.io/canary-weight": "0",
              "nginx.ingress.kubernetes.io/canary-weight-total": "1000"
            }"#]]
        .assert_eq(&serde_json::to_string_pretty(&left["metadata"]["annotations"]).unwrap());
    }
}

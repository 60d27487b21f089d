//! Mistakes that a cluster refuses, in its words.

use expect_test::expect;
use serde_json::{Value, json};

use crate::{check, check_update, container, with};

fn pod(spec: Value) -> Value {
    let spec = with(json!({"containers": [container()]}), spec);
    json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "web"}, "spec": spec})
}

#[test]
fn amounts_of_resources() {
    let resources = json!({"limits": {"cpu": "1", "memory": "64MB", "x/y": 2}, "requests": {"cpu": "1500m", "memory": "-1Mi", "x/y": 3}});
    let container = with(container(), json!({"resources": resources}));
    check(
        pod(json!({"containers": [container]})),
        expect![[r#"
        spec.containers[0].resources.limits[memory]: Invalid value: "64MB": quantities must match the regular expression '^([+-]?[0-9.]+)([eEinumkKMGTP]*[-+]?[0-9]*)$'
        spec.containers[0].resources.requests[memory]: Invalid value: "-1Mi": must be greater than or equal to 0
        spec.containers[0].resources.requests[cpu]: Invalid value: "1500m": must be less than or equal to cpu limit of 1
        spec.containers[0].resources.requests[x/y]: Invalid value: 3: must be less than or equal to x/y limit of 2
        Warning spec.containers[0].resources.limits: not carried out yet: programs are not limited"#]],
    );
}

#[test]
fn volumes_are_of_one_kind() {
    let volumes = json!([{"name": "a", "emptyDir": {}, "configMap": {"name": "x"}}, {"name": "a", "emptyDir": {}}, {"emptyDir": {}}]);
    check(
        pod(json!({"volumes": volumes})),
        expect![[r#"
        spec.volumes[2].name: Required value
        spec.volumes[0].emptyDir: Forbidden: may not specify more than 1 volume type
        spec.volumes[1].name: Duplicate value: "a"
        Warning spec.volumes: not carried out yet: use a path of the machine, or env with valueFrom"#]],
    );
}

#[test]
fn jobs() {
    let job = |spec: Value| {
        let base = json!({"template": {"spec": {"restartPolicy": "Never", "containers": [{"name": "a", "image": "a"}]}}});
        json!({"apiVersion": "batch/v1", "kind": "Job", "metadata": {"name": "sum"}, "spec": with(base, spec)})
    };
    check(job(json!({})), expect![[r#""#]]);
    check(
        job(
            json!({"parallelism": -1, "completionMode": "Indexed", "template": {"spec": {"restartPolicy": "Always"}}, "podFailurePolicy": {"rules": []}}),
        ),
        expect![[r#"
            spec.parallelism: Invalid value: -1: must be greater than or equal to 0
            spec.completions: Required value: when completion mode is Indexed
            Warning spec.podFailurePolicy: not carried out yet: every failure counts towards backoffLimit
            spec.template.spec.restartPolicy: Unsupported value: "Always": supported values: "OnFailure", "Never""#]],
    );
    check_update(
        job(json!({"completions": 1})),
        job(json!({"completions": 2, "template": {"spec": {"restartPolicy": "OnFailure"}}})),
        expect![[r#"
            spec.template: Invalid value: {"spec":{"containers":[{"image":"a","name":"a"}],"restartPolicy":"OnFailure"}}: field is immutable
            spec.completions: Invalid value: 2: field is immutable"#]],
    );
}

#[test]
fn cron_jobs() {
    let job =
        json!({"spec": {"template": {"spec": {"containers": [{"name": "a", "image": "a"}]}}}});
    check(
        json!({"apiVersion": "batch/v1", "kind": "CronJob", "metadata": {"name": "a".repeat(53)},
            "spec": {"schedule": "* * *", "concurrencyPolicy": "Wait", "timeZone": "Local", "failedJobsHistoryLimit": -1, "jobTemplate": job}}),
        expect![[r#"
            metadata.name: Invalid value: "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa": must be no more than 52 characters
            spec.schedule: Invalid value: "* * *": expected exactly 5 fields, found 3
            spec.concurrencyPolicy: Unsupported value: "Wait": supported values: "Allow", "Forbid", "Replace"
            spec.failedJobsHistoryLimit: Invalid value: -1: must be greater than or equal to 0
            spec.timeZone: Invalid value: "Local": must be the name of a zone such as "Etc/UTC" or "Europe/Vienna"
            spec.jobTemplate.spec.template.spec.restartPolicy: Unsupported value: "Always": supported values: "OnFailure", "Never""#]],
    );
}

#[test]
fn scaling_and_budgets() {
    check(
        json!({"apiVersion": "autoscaling/v2", "kind": "HorizontalPodAutoscaler", "metadata": {"name": "web"},
            "spec": {"minReplicas": 5, "maxReplicas": 3, "scaleTargetRef": {"kind": "Deployment", "name": ""}}}),
        expect![[r#"
            spec.scaleTargetRef.name: Required value
            spec.maxReplicas: Invalid value: 3: must be greater than or equal to `minReplicas`
            Unbuilt spec: not carried out by this version of Serin; set the replicas of the workload"#]],
    );
    check(
        json!({"apiVersion": "policy/v1", "kind": "PodDisruptionBudget", "metadata": {"name": "web"},
            "spec": {"minAvailable": "101%", "maxUnavailable": "5", "selector": {"matchExpressions": [{"key": "a", "operator": "In"}]}}}),
        expect![[r#"
            spec: Invalid value: both: minAvailable and maxUnavailable cannot be both set
            spec.minAvailable: Invalid value: "101%": must not be greater than 100%
            spec.maxUnavailable: Invalid value: "5": must be a number from 0, or a percentage such as "25%"
            spec.selector.matchExpressions[0].values: Required value: must be specified when `operator` is 'In' or 'NotIn'"#]],
    );
}

#[test]
fn owners_finalizers_leases_and_ports() {
    check(
        json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "a", "finalizers": ["hold", "bad name", "x.io/hold"],
            "ownerReferences": [
                {"apiVersion": "v1", "kind": "Pod", "name": "a", "uid": "", "controller": true},
                {"apiVersion": "v1", "kind": "Pod", "name": "b", "uid": "u", "controller": true}]}}),
        expect![[r#"
            metadata.ownerReferences[0].uid: Required value: must not be empty
            metadata.ownerReferences: Invalid value: 2: Only one reference can have Controller set to true
            Warning metadata.finalizers[0]: prefer a domain-qualified finalizer name to avoid accidental conflicts with other finalizer writers
            metadata.finalizers[1]: Invalid value: "bad name": name part must consist of alphanumeric characters, '-', '_' or '.', and must start and end with an alphanumeric character (e.g. 'MyName', or 'my.name', or '123-abc')"#]],
    );
    check(
        json!({"apiVersion": "coordination.k8s.io/v1", "kind": "Lease", "metadata": {"name": "a"},
            "spec": {"leaseDurationSeconds": 0, "leaseTransitions": -1}}),
        expect![[r#"
            spec.leaseDurationSeconds: Invalid value: 0: must be greater than 0
            spec.leaseTransitions: Invalid value: -1: must be greater than or equal to 0"#]],
    );
    check(
        json!({"apiVersion": "v1", "kind": "Service", "metadata": {"name": "a"}, "spec": {"ports": [{"port": 80, "nodePort": 30000}]}}),
        expect!["spec.ports[0].nodePort: Forbidden: may not be used when `type` is 'ClusterIP'"],
    );
}

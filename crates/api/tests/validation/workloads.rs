//! Deployments, Rollouts and their pods.

use expect_test::expect;
use serde_json::{Value, json};

use super::{check, container, deployment, pod_template, with};

#[test]
fn selectors_of_deployments() {
    check(deployment(json!({})), expect![[""]]);
    check(
        deployment(json!({"selector": null})),
        expect!["spec.selector: Required value"],
    );
    check(
        deployment(json!({"selector": {"matchLabels": null}})),
        expect!["spec.selector: Invalid value: {}: empty selector is invalid for deployment"],
    );
    check(
        deployment(json!({"template": {"metadata": {"labels": {"app": "api"}}}})),
        expect![[
            r#"spec.template.metadata.labels: Invalid value: {"app":"api"}: `selector` does not match template `labels`"#
        ]],
    );
    check(
        deployment(json!({"template": {"metadata": null}})),
        expect![
            "spec.template.metadata.labels: Invalid value: {}: `selector` does not match template `labels`"
        ],
    );
    check(
        deployment(json!({"template": null})),
        expect!["spec.template: Required value"],
    );
    check(
        deployment(json!({"selector": {"matchExpressions": [
            {"key": "app", "operator": "In"}, {"key": "", "operator": "Exists", "values": ["x"]}, {"key": "x", "operator": "Near"},
        ]}})),
        expect![[r#"
            spec.selector.matchExpressions[0].values: Required value: must be specified when `operator` is 'In' or 'NotIn'
            spec.selector.matchExpressions[1].key: Required value
            spec.selector.matchExpressions[1].values: Forbidden: may not be specified when `operator` is 'Exists' or 'DoesNotExist'
            spec.selector.matchExpressions[2].operator: Unsupported value: "Near": supported values: "In", "NotIn", "Exists", "DoesNotExist"
            spec.template.metadata.labels: Invalid value: {"app":"web"}: `selector` does not match template `labels`"#]],
    );
    check(
        json!({"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "web"}}),
        expect!["spec: Required value"],
    );
}

#[test]
fn strategies_of_deployments() {
    let rolling = |surge: Value, unavailable: Value| {
        deployment(
            json!({"strategy": {"rollingUpdate": {"maxSurge": surge, "maxUnavailable": unavailable}}}),
        )
    };
    check(rolling(json!(1), json!(0)), expect![[""]]);
    check(
        rolling(json!(0), json!(0)),
        expect![
            "spec.strategy.rollingUpdate.maxUnavailable: Invalid value: 0: may not be 0 when `maxSurge` is 0"
        ],
    );
    check(
        rolling(json!("0%"), json!("0%")),
        expect![[
            r#"spec.strategy.rollingUpdate.maxUnavailable: Invalid value: "0%": may not be 0 when `maxSurge` is 0"#
        ]],
    );
    check(
        rolling(json!("150%"), json!("150%")),
        expect![[
            r#"spec.strategy.rollingUpdate.maxUnavailable: Invalid value: "150%": must not be greater than 100%"#
        ]],
    );
    check(
        rolling(json!(-1), json!("2")),
        expect![[r#"
        spec.strategy.rollingUpdate.maxSurge: Invalid value: -1: must be a number from 0, or a percentage such as "25%"
        spec.strategy.rollingUpdate.maxUnavailable: Invalid value: "2": must be a number from 0, or a percentage such as "25%""#]],
    );
    check(
        deployment(json!({"strategy": {"type": "Recreate", "rollingUpdate": {}}})),
        expect![
            "spec.strategy.rollingUpdate: Forbidden: may not be specified when strategy `type` is 'Recreate'"
        ],
    );
    check(
        deployment(json!({"strategy": {"type": "BlueGreen"}})),
        expect![[
            r#"spec.strategy.type: Unsupported value: "BlueGreen": supported values: "Recreate", "RollingUpdate""#
        ]],
    );
    check(
        deployment(json!({"replicas": -1, "minReadySeconds": 700, "revisionHistoryLimit": -2})),
        expect![[r#"
            spec.replicas: Invalid value: -1: must be greater than or equal to 0
            spec.revisionHistoryLimit: Invalid value: -2: must be greater than or equal to 0
            spec.progressDeadlineSeconds: Invalid value: 600: must be greater than minReadySeconds"#]],
    );
}

#[test]
fn containers() {
    check(
        pod_template(json!({"containers": []})),
        expect!["spec.template.spec.containers: Required value"],
    );
    check(
        pod_template(
            json!({"restartPolicy": "Never", "terminationGracePeriodSeconds": -1, "activeDeadlineSeconds": 5, "containers": [
                {"name": "Web_App", "ports": [{"containerPort": 70000, "name": "http"}, {"containerPort": 1, "name": "http", "protocol": "tcp"}]},
                {"image": " web", "name": "a", "env": [{"name": "A=B"}, {"name": "C", "value": "x", "valueFrom": {}}], "imagePullPolicy": "Sometimes"},
                {"image": "web", "name": "a", "volumeMounts": [{"name": "data", "mountPath": "/d"}]},
            ]}),
        ),
        expect![[r#"
            spec.template.spec.terminationGracePeriodSeconds: Invalid value: -1: must be greater than or equal to 0
            spec.template.spec.containers[0].name: Invalid value: "Web_App": a lowercase RFC 1123 label must consist of lower case alphanumeric characters or '-', and must start and end with an alphanumeric character (e.g. 'my-name', or '123-abc')
            spec.template.spec.containers[0].image: Required value
            spec.template.spec.containers[0].ports[0].containerPort: Invalid value: 70000: must be between 1 and 65535, inclusive
            spec.template.spec.containers[0].ports[1].protocol: Unsupported value: "tcp": supported values: "TCP", "UDP", "SCTP"
            spec.template.spec.containers[0].ports[1].name: Duplicate value: "http"
            spec.template.spec.containers[1].image: Invalid value: " web": must not have leading or trailing whitespace
            spec.template.spec.containers[1].imagePullPolicy: Unsupported value: "Sometimes": supported values: "Always", "Never", "IfNotPresent"
            spec.template.spec.containers[1].env[0].name: Invalid value: "A=B": a valid environment variable name must consist only of printable ASCII characters other than '='
            spec.template.spec.containers[1].env[1].valueFrom: Invalid value: {}: may not be specified when `value` is not empty
            spec.template.spec.containers[1].env[1].valueFrom: Required value: must specify one of: `fieldRef`, `resourceFieldRef`, `configMapKeyRef` or `secretKeyRef`
            spec.template.spec.containers[2].volumeMounts[0].name: Invalid value: "data": Not found: spec.volumes of the pod has no volume of this name
            spec.template.spec.containers[2].name: Duplicate value: "a"
            Warning spec.template.spec.containers[2].volumeMounts: not carried out yet: the program sees the files of the machine; use a path of the machine
            spec.template.spec.restartPolicy: Unsupported value: "Never": supported values: "Always"
            spec.template.spec.activeDeadlineSeconds: Forbidden: activeDeadlineSeconds in ReplicaSet is not Supported
            Warning spec.template.spec.containers[0].readinessProbe: without a readiness probe the container takes requests as soon as it is started, and a version that never works counts as ready"#]],
    );
}

#[test]
fn probes_and_hooks() {
    let one = |patch: Value| pod_template(json!({"containers": [with(container(), patch)]}));
    check(
        one(json!({"readinessProbe": null})),
        expect![
            "Warning spec.template.spec.containers[0].readinessProbe: without a readiness probe the container takes requests as soon as it is started, and a version that never works counts as ready"
        ],
    );
    check(
        one(json!({"readinessProbe": {"httpGet": null}})),
        expect![
            "spec.template.spec.containers[0].readinessProbe: Required value: must specify a handler type: one of exec, httpGet, tcpSocket, grpc"
        ],
    );
    check(
        one(json!({
            "readinessProbe": {"tcpSocket": {"port": "Bad Port"}, "periodSeconds": -1, "successThreshold": 2},
            "livenessProbe": {"httpGet": {"port": 0, "scheme": "http"}, "successThreshold": 2},
            "startupProbe": {"exec": {}, "failureThreshold": 0},
            "lifecycle": {"preStop": {}, "postStart": {"exec": {"command": ["a"]}, "sleep": {"seconds": 31}}},
        })),
        expect![[r#"
            spec.template.spec.containers[0].readinessProbe.tcpSocket: Forbidden: may not specify more than 1 handler type
            spec.template.spec.containers[0].readinessProbe.tcpSocket.port: Invalid value: "Bad Port": must contain only lower case alphanumeric characters (a-z, 0-9), and hyphens (-)
            spec.template.spec.containers[0].readinessProbe.periodSeconds: Invalid value: -1: must be greater than or equal to 0
            spec.template.spec.containers[0].livenessProbe.httpGet.port: Invalid value: 0: must be between 1 and 65535, inclusive
            spec.template.spec.containers[0].livenessProbe.httpGet.scheme: Unsupported value: "http": supported values: "HTTP", "HTTPS"
            spec.template.spec.containers[0].livenessProbe.successThreshold: Invalid value: 2: must be 1
            spec.template.spec.containers[0].startupProbe.exec.command: Required value
            spec.template.spec.containers[0].lifecycle.postStart.sleep: Forbidden: may not specify more than 1 handler type
            spec.template.spec.containers[0].lifecycle.postStart.sleep.seconds: Invalid value: 31: must be non-negative and less than terminationGracePeriodSeconds (30)
            spec.template.spec.containers[0].lifecycle.preStop: Required value: must specify a handler type: one of exec, httpGet, tcpSocket, sleep"#]],
    );
}

#[test]
fn the_grace_budget() {
    let hook = |grace: i64, hook: Value| {
        let one = with(container(), json!({"lifecycle": {"preStop": hook}}));
        pod_template(json!({"terminationGracePeriodSeconds": grace, "containers": [one]}))
    };
    let sleep =
        |seconds: &str| json!({"exec": {"command": ["/bin/sh", "-c", format!("sleep {seconds}")]}});
    check(hook(30, sleep("15")), expect![[""]]);
    check(
        hook(30, sleep("26")),
        expect![
            "Warning spec.template.spec.containers[0].lifecycle.preStop: grace_budget: the hook sleeps 26s of the 30s in terminationGracePeriodSeconds, so the program has 4s to end before it is killed; allow at least 56s, or take the sleep out: Serin drains a pod before its hook runs"
        ],
    );
    check(
        hook(30, sleep("60")),
        expect![
            "Warning spec.template.spec.containers[0].lifecycle.preStop: grace_budget: the hook sleeps 60s of the 30s in terminationGracePeriodSeconds, so the program has 0s to end before it is killed; allow at least 90s, or take the sleep out: Serin drains a pod before its hook runs"
        ],
    );
    check(
        hook(10, json!({"sleep": {"seconds": 8}})),
        expect![
            "Warning spec.template.spec.containers[0].lifecycle.preStop: grace_budget: the hook sleeps 8s of the 10s in terminationGracePeriodSeconds, so the program has 2s to end before it is killed; allow at least 38s, or take the sleep out: Serin drains a pod before its hook runs"
        ],
    );
}

fn rollout(strategy: Value) -> Value {
    let base = deployment(json!({"strategy": strategy}));
    with(
        base,
        json!({"apiVersion": "argoproj.io/v1alpha1", "kind": "Rollout"}),
    )
}

#[test]
fn rollouts() {
    check(
        rollout(json!({"canary": {"steps": [{"setWeight": 20}, {"pause": {}}]}})),
        expect![[""]],
    );
    check(rollout(json!({"canary": {"steps": null}})), expect![[""]]);
    check(
        rollout(
            json!({"canary": {"steps": [{"setWeight": 101}, {"setWeigth": 5}, {"pause": {"duration": "soon"}}], "maxSurge": "x"}}),
        ),
        expect![[r#"
            spec.strategy.canary.steps[1].setWeigth: unknown field, did you mean "setWeight"?
            spec.strategy.canary.steps[0].setWeight: Invalid value: 101: must be between 0 and 100
            spec.strategy.canary.steps[1]: Required value: give one of setWeight, pause, setCanaryScale, analysis, experiment, setHeaderRoute and setMirrorRoute
            spec.strategy.canary.steps[2].pause.duration: Invalid value: "soon": must be seconds (30) or a duration such as "30s", "5m", "1h30m"
            spec.strategy.canary.maxSurge: Invalid value: "x": must be a number from 0, or a percentage such as "25%""#]],
    );
    check(
        rollout(json!({"blueGreen": {"autoPromotionEnabled": "no"}})),
        expect![[
            r#"spec.strategy.blueGreen.autoPromotionEnabled: expected boolean, found string "no"; write false"#
        ]],
    );
    check(
        with(
            rollout(json!({"canary": {}})),
            json!({"spec": {"template": {"spec": {"containers": []}}}}),
        ),
        expect!["spec.template.spec.containers: Required value"],
    );
    check(
        with(
            rollout(json!({"canary": {}})),
            json!({"spec": {"selector": null, "template": {"spec": {"containers": [{"name": "web"}]}}}}),
        ),
        expect![[r#"
            spec.template.spec.containers[0].image: Required value
            Warning spec.template.spec.containers[0].readinessProbe: without a readiness probe the container takes requests as soon as it is started, and a version that never works counts as ready
            spec.selector: Required value: name the labels of the template's pods in matchLabels"#]],
    );
}

#[test]
fn what_is_not_carried_out_for_pods_is_told() {
    let web = with(
        container(),
        json!({
            "ports": [{"containerPort": 80, "hostPort": 8080}], "volumeMounts": [{"name": "a", "mountPath": "/a"}],
            "resources": {"requests": {"cpu": "1"}, "limits": {"cpu": "1"}}, "securityContext": {"runAsUser": 1},
            "readinessProbe": {"httpGet": {"path": "/", "port": 80, "scheme": "HTTPS"}}, "livenessProbe": {"grpc": {"port": 80}},
        }),
    );
    check(
        pod_template(json!({
            "containers": [web], "volumes": [{"name": "a", "emptyDir": {}}], "nodeSelector": {"disk": "ssd"},
            "affinity": {"nodeAffinity": {}}, "securityContext": {"runAsNonRoot": true}, "tolerations": [{"operator": "Exists"}],
        })),
        expect![[r#"
            Warning spec.template.spec.containers[0].ports[0].hostPort: not carried out yet: reach the pod by its own address
            Warning spec.template.spec.containers[0].readinessProbe.httpGet.scheme: not carried out yet: it always fails; use scheme HTTP or exec
            Warning spec.template.spec.containers[0].livenessProbe.grpc: not carried out yet: it always fails; use httpGet, tcpSocket or exec
            Warning spec.template.spec.nodeSelector: not carried out yet: there is one node, and every pod runs on it
            Warning spec.template.spec.affinity: not carried out yet: there is one node, and every pod runs on it
            Warning spec.template.spec.volumes: not carried out yet: use a path of the machine, or env with valueFrom
            Warning spec.template.spec.securityContext: not carried out yet: programs run as the user of serin up
            Warning spec.template.spec.containers[0].volumeMounts: not carried out yet: the program sees the files of the machine; use a path of the machine
            Warning spec.template.spec.containers[0].resources.limits: not carried out yet: programs are not limited
            Warning spec.template.spec.containers[0].securityContext: not carried out yet: programs run as the user of serin up"#]],
    );
    check(
        pod_template(json!({"securityContext": {}, "nodeSelector": {}, "volumes": []})),
        expect![[""]],
    );
}

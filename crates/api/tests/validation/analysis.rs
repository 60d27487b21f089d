//! AnalysisTemplates, AnalysisRuns and Experiments.

use expect_test::expect;
use serde_json::{Value, json};

use super::check;

#[test]
fn experiments() {
    let experiment = |spec: Value| json!({"apiVersion": "argoproj.io/v1alpha1", "kind": "Experiment", "metadata": {"name": "a"}, "spec": spec});
    check(
        experiment(json!({})),
        expect!["spec.templates: Required value: give at least one version"],
    );
    let pods = json!({"metadata": {"labels": {"app": "web"}}, "spec": {"containers": [{"name": "web", "image": "web"}]}});
    let version = |name: &str, app: &str| json!({"name": name, "selector": {"matchLabels": {"app": app}}, "template": pods});
    check(
        experiment(
            json!({"templates": [version("a", "web"), version("b", "web")], "duration": "5m", "analyses": [{"name": "t", "templateName": "t"}]}),
        ),
        expect![[r#"
            Warning spec.templates[0].template.spec.containers[0].readinessProbe: without a readiness probe the container takes requests as soon as it is started, and a version that never works counts as ready
            Warning spec.templates[1].template.spec.containers[0].readinessProbe: without a readiness probe the container takes requests as soon as it is started, and a version that never works counts as ready"#]],
    );
    check(
        experiment(
            json!({"templates": [version("a", "web"), version("a", "api")], "duration": "soon", "analyses": [{"name": "T_"}]}),
        ),
        expect![[r#"
            Warning spec.templates[0].template.spec.containers[0].readinessProbe: without a readiness probe the container takes requests as soon as it is started, and a version that never works counts as ready
            Warning spec.templates[1].template.spec.containers[0].readinessProbe: without a readiness probe the container takes requests as soon as it is started, and a version that never works counts as ready
            spec.templates[1].template.metadata.labels: Invalid value: {"app":"web"}: `selector` does not match template `labels`
            spec.templates[1].name: Duplicate value: "a"
            spec.analyses[0].name: Invalid value: "T_": a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '-' or '.', and must start and end with an alphanumeric character (e.g. 'example.com')
            spec.analyses[0].templateName: Required value
            spec.duration: Invalid value: "soon": must be seconds (30) or a duration such as "30s", "5m", "1h30m""#]],
    );
}

fn template(spec: Value) -> Value {
    json!({"apiVersion": "argoproj.io/v1alpha1", "kind": "AnalysisTemplate", "metadata": {"name": "a"}, "spec": spec})
}

#[test]
fn analysis_templates() {
    let serin = json!({"serin": {"metric": "error-ratio", "service": "{{args.service}}"}});
    check(
        template(json!({"args": [{"name": "service"}], "metrics": [
            {"name": "errors", "interval": "10s", "count": 3, "failureLimit": "{{args.service}}", "successCondition": "result < 0.01", "provider": serin},
        ]})),
        expect![[""]],
    );
    check(
        template(json!({})),
        expect!["spec.metrics: Required value: say what is measured"],
    );
    check(
        template(json!({"templates": [{"templateName": "other"}]})),
        expect![[""]],
    );
    check(
        template(
            json!({"args": [{"name": "a"}, {"name": "a", "value": "1", "valueFrom": {}}], "metrics": [
                {"name": "x", "count": 5, "provider": {}},
                {"name": "x", "interval": "often", "count": "many", "failureLimit": -2, "provider": {"serin": {"metric": "errors", "quantile": "2", "route": "web"}}},
                {"name": "p", "interval": "5s", "count": 2, "failureLimit": 3, "provider": {"prometheus": {"address": "localhost:9090"}}},
                {"provider": {"web": {"url": "http://x/{{ args.nobody }}"}}},
                {"name": "two", "provider": {"serin": {"metric": "requests", "quantile": "0.5"}, "job": {}}},
                {"name": "unclosed {{args.b", "provider": {"serin": {"metric": "{{args.c}}", "window": "{{args.c}}"}}},
            ]}),
        ),
        expect![[r#"
            spec.metrics[3].provider.web.url: Invalid value: args.nobody: is used here and not declared in spec.args
            spec.metrics[5].provider.serin.metric: Invalid value: args.c: is used here and not declared in spec.args
            spec.metrics[0].interval: Required value: must be specified when count is above 1
            spec.metrics[0].provider: Required value: say who is asked: serin, prometheus, web or job
            spec.metrics[1].interval: Invalid value: "often": must be seconds (30) or a duration such as "30s", "5m", "1h30m"
            spec.metrics[1].count: Invalid value: "many": must be a number from 0
            spec.metrics[1].failureLimit: Invalid value: -2: must be a number from 0, or -1 for no limit
            spec.metrics[1].provider.serin.metric: Unsupported value: "errors": supported values: "error-ratio", "latency", "requests"
            spec.metrics[1].provider.serin.quantile: Invalid value: "2": must be a number above 0 and below 1 in quotes
            spec.metrics[1].provider.serin.route: Invalid value: "web": must be httproute/NAME, ingress/NAME or service/NAME
            spec.metrics[2].failureLimit: Invalid value: 3: must not be above count
            spec.metrics[2].provider.prometheus.query: Required value: write the query in PromQL
            spec.metrics[2].provider.prometheus.address: Invalid value: "localhost:9090": must begin with http:// or https://
            spec.metrics[3].name: Required value
            spec.metrics[4].provider: Invalid value: job and serin: give only one provider
            spec.metrics[1].name: Duplicate value: "x"
            spec.args[1].valueFrom: Forbidden: may not be specified when `value` is given
            spec.args[1].name: Duplicate value: "a""#]],
    );
}

#[test]
fn analysis_runs_need_values() {
    check(
        json!({"apiVersion": "argoproj.io/v1alpha1", "kind": "AnalysisRun", "metadata": {"generateName": "a-"}, "spec": {
            "args": [{"name": "a"}, {"name": "b", "value": ""}],
            "metrics": [{"name": "x", "provider": {"serin": {"metric": "requests"}}}],
        }}),
        expect!["spec.args[0].value: Required value: a run needs a value for each argument"],
    );
}

#[test]
fn providers_that_nobody_asks_are_refused_by_name() {
    let names = [
        "datadog",
        "newRelic",
        "wavefront",
        "cloudWatch",
        "graphite",
        "influxdb",
        "skywalking",
        "kayenta",
        "plugin",
    ];
    let metrics: Vec<_> = names
        .iter()
        .map(|name| json!({"name": name, "provider": {*name: {"query": "x"}}}))
        .collect();
    check(
        template(json!({"metrics": metrics})),
        expect![[r#"
        spec.metrics[0].provider.datadog: Forbidden: metrics of datadog are not asked for by Serin; use serin, prometheus, web or job
        spec.metrics[1].provider.newRelic: Forbidden: metrics of newRelic are not asked for by Serin; use serin, prometheus, web or job
        spec.metrics[2].provider.wavefront: Forbidden: metrics of wavefront are not asked for by Serin; use serin, prometheus, web or job
        spec.metrics[3].provider.cloudWatch: Forbidden: metrics of cloudWatch are not asked for by Serin; use serin, prometheus, web or job
        spec.metrics[4].provider.graphite: Forbidden: metrics of graphite are not asked for by Serin; use serin, prometheus, web or job
        spec.metrics[5].provider.influxdb: Forbidden: metrics of influxdb are not asked for by Serin; use serin, prometheus, web or job
        spec.metrics[6].provider.skywalking: Forbidden: metrics of skywalking are not asked for by Serin; use serin, prometheus, web or job
        spec.metrics[7].provider.kayenta: Forbidden: metrics of kayenta are not asked for by Serin; use serin, prometheus, web or job
        spec.metrics[8].provider.plugin: Forbidden: metrics of plugin are not asked for by Serin; use serin, prometheus, web or job"#]],
    );
}

#[test]
fn words_of_prometheus_and_web_metrics() {
    check(
        template(json!({
            "args": [{"name": "url"}],
            "metrics": [
                {"name": "fine", "provider": {"prometheus": {"address": "https://p:9090", "query": "up", "insecure": true,
                    "rangeQuery": {"start": "now() - duration('5m')", "end": "now()", "step": "1m"},
                    "headers": [{"key": "a", "value": "b"}], "authentication": {"basicAuth": {"username": "u", "password": "p"}}}}},
                {"name": "wrong", "provider": {"prometheus": {"address": "https://p:9090", "query": "up", "rangeQuery": {"step": "often"},
                    "headers": [{"value": "b"}], "authentication": {"sigv4": {"region": "x"}, "oauth2": {"tokenUrl": "x"}}}}},
                {"name": "open", "provider": {"web": {"url": "{{args.url}}", "method": "POST", "jsonBody": {"a": 1}}}},
                {"name": "web", "provider": {"web": {"url": "ftp://x", "method": "DELETE", "timeoutSeconds": -1}}},
                {"name": "body", "provider": {"web": {"url": "http://x", "body": "a", "jsonBody": {}}}},
                {"name": "job", "provider": {"job": {"spec": {}}}},
            ],
            "dryRun": [{"metricName": "a|b"}, {}],
        })),
        expect![[r#"
            spec.metrics[5].provider.job.spec.template: Required value
            spec.metrics[1].provider.prometheus.rangeQuery.start: Required value: write now() or now() - duration("5m")
            spec.metrics[1].provider.prometheus.rangeQuery.end: Required value: write now() or now() - duration("5m")
            spec.metrics[1].provider.prometheus.rangeQuery.step: Invalid value: "often": must be seconds (30) or a duration such as "30s", "5m", "1h30m"
            spec.metrics[1].provider.prometheus.headers[0].key: Required value: the name of the header
            spec.metrics[1].provider.prometheus.authentication.sigv4: Forbidden: requests are not signed for Amazon; use basicAuth, oauth2 or headers
            spec.metrics[1].provider.prometheus.authentication.oauth2.clientId: Required value
            spec.metrics[1].provider.prometheus.authentication.oauth2.tokenUrl: Invalid value: "x": must begin with http:// or https://
            spec.metrics[3].provider.web.url: Invalid value: "ftp://x": must begin with http:// or https://
            spec.metrics[3].provider.web.method: Unsupported value: "DELETE": supported values: "GET", "POST", "PUT"
            spec.metrics[3].provider.web.timeoutSeconds: Invalid value: -1: must be greater than or equal to 0
            spec.metrics[4].provider.web.jsonBody: Forbidden: may not be specified when `body` is given
            spec.metrics[4].provider.web.body: Forbidden: a GET has no body: set method to POST or PUT
            spec.dryRun[1].metricName: Required value"#]],
    );
}

#[test]
fn words_of_judged_metrics() {
    let serin = |extra: Value| {
        let mut serin = json!({"metric": "error-ratio"});
        serin
            .as_object_mut()
            .unwrap()
            .extend(extra.as_object().unwrap().clone());
        json!({"name": extra.to_string(), "provider": {"serin": serin}})
    };
    check(
        template(json!({"metrics": [
            serin(json!({"compare": "stable", "alpha": "0.05", "margin": "0.5", "onBad": "decide"})),
            serin(json!({"compare": "threshold", "threshold": "0.01"})),
            serin(json!({"compare": "threshold"})),
            serin(json!({"compare": "yesterday", "threshold": "1"})),
            serin(json!({"compare": "stable", "alpha": "0.9", "margin": "-1", "onBad": "panic"})),
            serin(json!({"compare": "stable", "metric": "requests"})),
            serin(json!({"alpha": "0.1"})),
        ]})),
        expect![[r#"
            spec.metrics[2].provider.serin.threshold: Required value: a ratio such as "0.01", or seconds such as "1.0"
            spec.metrics[3].provider.serin.compare: Unsupported value: "yesterday": supported values: "stable", "threshold"
            spec.metrics[3].provider.serin.threshold: Forbidden: has a meaning only with compare: threshold
            spec.metrics[4].provider.serin.alpha: Invalid value: "0.9": must be a number above 0 and below 0.5 in quotes
            spec.metrics[4].provider.serin.margin: Invalid value: "-1": must be a number from 0 to 10 in quotes
            spec.metrics[4].provider.serin.onBad: Unsupported value: "panic": supported values: "abort", "decide"
            spec.metrics[5].provider.serin.compare: Forbidden: a number of requests is not compared; use a condition
            spec.metrics[6].provider.serin.alpha: Forbidden: has a meaning only with `compare`"#]],
    );
}

#[test]
fn the_default_set_has_no_mistakes() {
    let text = include_str!("../../../../examples/analysis/templates.yaml");
    let manifest = serin_api::manifest::parse_bytes(text.as_bytes(), "templates.yaml");
    let problems: Vec<_> = manifest.problems.iter().map(ToString::to_string).collect();
    assert_eq!(
        (manifest.objects.len(), problems.join("\n")),
        (3, String::new())
    );
}

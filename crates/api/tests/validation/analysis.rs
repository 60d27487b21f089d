//! AnalysisTemplates, AnalysisRuns and Experiments.

use expect_test::expect;
use serde_json::{Value, json};

use super::check;

#[test]
fn experiments_are_taken_and_not_carried_out() {
    check(
        json!({"apiVersion": "argoproj.io/v1alpha1", "kind": "Experiment", "metadata": {"name": "a"}, "spec": {}}),
        expect![
            "Unbuilt spec: not carried out by this version of Serin; use the analysis steps of a Rollout"
        ],
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
            spec.metrics[0].provider: Required value: say who is asked: serin or prometheus
            spec.metrics[1].interval: Invalid value: "often": must be seconds (30) or a duration such as "30s", "5m", "1h30m"
            spec.metrics[1].count: Invalid value: "many": must be a number from 0
            spec.metrics[1].failureLimit: Invalid value: -2: must be a number from 0, or -1 for no limit
            spec.metrics[1].provider.serin.metric: Unsupported value: "errors": supported values: "error-ratio", "latency", "requests"
            spec.metrics[1].provider.serin.quantile: Invalid value: "2": must be a number above 0 and below 1 in quotes
            spec.metrics[1].provider.serin.route: Invalid value: "web": must be httproute/NAME, ingress/NAME or service/NAME
            spec.metrics[2].failureLimit: Invalid value: 3: must not be above count
            spec.metrics[2].provider.prometheus.query: Required value: write the query in PromQL
            spec.metrics[2].provider.prometheus.address: Invalid value: "localhost:9090": must begin with http://
            spec.metrics[3].name: Required value
            Unbuilt spec.metrics[3].provider.web: not carried out by this version of Serin; use serin or prometheus
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
fn what_is_not_carried_out_for_metrics_is_told() {
    check(
        template(json!({
            "metrics": [
                {"name": "a", "provider": {"prometheus": {"address": "https://p:9090", "query": "up", "rangeQuery": {"step": "1m"},
                    "headers": [{"key": "a", "value": "b"}], "authentication": {"sigv4": {}}, "insecure": true}}},
                {"name": "b*", "provider": {"prometheus": {"address": "http://p:9090", "query": "up", "insecure": false, "headers": []}}},
            ],
            "dryRun": [{"metricName": "a"}, {"metricName": ".*"}, {"metricName": "b*"}, {"metricName": "a|b"}],
            "measurementRetention": [{"metricName": "a.+", "limit": 5}],
        })),
        expect![[r#"
            Unbuilt spec.metrics[0].provider.prometheus.address: not carried out by this version of Serin; use http://
            Warning spec.metrics[0].provider.prometheus.rangeQuery: not carried out yet: the query is asked for the present instant
            Warning spec.metrics[0].provider.prometheus.headers: not carried out yet: the query is sent without them
            Warning spec.metrics[0].provider.prometheus.authentication: not carried out yet: the query is sent without it
            Warning spec.metrics[0].provider.prometheus.insecure: not carried out yet: only http:// addresses are asked
            Unbuilt spec.dryRun[3].metricName: not carried out by this version of Serin; name one metric, or all with ".*"
            Warning spec.measurementRetention[0].metricName: not carried out yet: name one metric, or all with ".*""#]],
    );
}

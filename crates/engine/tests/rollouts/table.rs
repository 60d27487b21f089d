//! `docs/argo-rollouts.md`: every field and every point of the contract, its state, and the tests that show it. The text is made
//! here, so that it names no test that does not exist and leaves out no field.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use serin_api::kinds;

/// A field or a point, its state, the tests that show it, and where we differ and why.
type Row = (&'static str, State, &'static [&'static str], &'static str);

#[derive(Clone, Copy, PartialEq)]
enum State {
    Done,
    Differs,
    Refused,
}
use State::{Differs, Done, Refused};

impl State {
    fn text(self) -> &'static str {
        match self {
            Done => "as in Argo Rollouts",
            Differs => "differs",
            Refused => "refused by name",
        }
    }
}

/// The fields of `spec`, by the part of the path under it.
const FIELDS: &[Row] = &[
    ("replicas", Done, &["numbers_of_any_size_are_planned"], ""),
    (
        "selector",
        Differs,
        &["an_older_rollout_that_selects_the_same_pods_is_named"],
        "A Rollout whose pods an older one selects too has the condition `InvalidSpec`.",
    ),
    ("template", Done, &["a_takeover_restarts_nothing"], ""),
    (
        "workloadRef",
        Done,
        &[
            "a_referenced_workload_goes_as_its_mode_says",
            "a_referenced_workload_that_is_missing_is_named",
            "a_rollout_takes_over_from_a_deployment",
        ],
        "`progressively`: the two together hold what the Rollout wants.",
    ),
    (
        "minReadySeconds",
        Done,
        &["the_time_to_be_ready_is_carried_to_old_revisions"],
        "",
    ),
    (
        "revisionHistoryLimit",
        Done,
        &["a_kill_at_any_action_changes_no_end"],
        "",
    ),
    (
        "paused",
        Done,
        &["nothing_is_late_while_a_person_has_paused_it"],
        "",
    ),
    (
        "progressDeadlineSeconds",
        Differs,
        &["a_scale_up_after_a_long_rest_is_not_late"],
        "The clock runs only while instances or the data plane are awaited.",
    ),
    (
        "progressDeadlineAbort",
        Done,
        &["a_release_that_is_late_goes_on_unless_it_is_to_be_taken_back"],
        "",
    ),
    (
        "restartAt",
        Done,
        &["a_restart_takes_no_more_than_may_be_missing"],
        "Pods are evicted, so that a disruption budget is asked.",
    ),
    (
        "rollbackWindow",
        Differs,
        &["a_rollback_within_the_window_skips_the_steps"],
        "The steps are skipped; the wait for available instances is not.",
    ),
    (
        "analysis",
        Done,
        &["a_skipped_analysis_leaves_nothing_behind"],
        "How many finished runs, and experiments, are kept.",
    ),
    ("strategy", Done, &["exactly_one_strategy"], ""),
];

const CANARY: &[Row] = &[
    ("canaryService", Done, &["a_good_canary"], ""),
    ("stableService", Done, &["a_good_canary"], ""),
    (
        "steps",
        Done,
        &[
            "a_good_canary",
            "a_mixed_step_carries_out_its_kinds_in_order",
        ],
        "The kinds are below.",
    ),
    (
        "trafficRouting",
        Done,
        &["only_the_weights_of_rules_with_both_services_are_set"],
        "The routers are below.",
    ),
    (
        "maxSurge",
        Done,
        &["surge_rounds_up_and_unavailable_down"],
        "",
    ),
    (
        "maxUnavailable",
        Done,
        &["surge_rounds_up_and_unavailable_down"],
        "",
    ),
    (
        "analysis",
        Done,
        &["a_source_of_metrics_that_is_down_never_promotes"],
        "",
    ),
    (
        "antiAffinity",
        Differs,
        &[
            "a_new_revision_keeps_away_from_the_stable_one_when_asked",
            "the_rule_is_found_again_and_others_stay",
        ],
        "The rule stays in the template of its revision; it binds only while the revision that it names has pods.",
    ),
    (
        "canaryMetadata",
        Done,
        &[
            "labels_follow_the_part_that_a_revision_plays",
            "pods_are_labelled_while_their_revision_plays_a_part",
        ],
        "A key that the template has is the template's.",
    ),
    (
        "stableMetadata",
        Done,
        &["labels_follow_the_part_that_a_revision_plays"],
        "",
    ),
    ("scaleDownDelaySeconds", Done, &["a_good_canary"], ""),
    (
        "scaleDownDelayRevisionLimit",
        Done,
        &["old_revisions_take_no_more_than_their_places"],
        "",
    ),
    (
        "abortScaleDownDelaySeconds",
        Done,
        &["an_abort_and_a_retry"],
        "",
    ),
    (
        "dynamicStableScale",
        Done,
        &[
            "the_stable_revision_grows_before_its_share_comes_back",
            "canary_with_a_dynamic_stable_scale",
        ],
        "",
    ),
    (
        "pingPong",
        Done,
        &[
            "two_services_take_turns",
            "canary_with_services_that_take_turns",
        ],
        "The end of a release moves no request at all.",
    ),
    (
        "minPodsPerReplicaSet",
        Done,
        &["a_revision_that_is_used_has_its_least_pods"],
        "",
    ),
    (
        "replicaProgressThreshold",
        Done,
        &["a_threshold_is_enough_for_a_step_and_not_for_the_end"],
        "",
    ),
];

const STEPS: &[Row] = &[
    (
        "setWeight",
        Done,
        &[
            "a_share_moves_only_over_available_instances",
            "a_weight_is_a_part_of_the_greatest_one",
        ],
        "Shares are whole percent; with `maxTrafficWeight` a weight between two of them is refused.",
    ),
    (
        "pause",
        Done,
        &["a_canary_by_replicas_waits_for_a_person_and_for_time"],
        "",
    ),
    (
        "setCanaryScale",
        Done,
        &["a_canary_scale_holds_until_it_matches_the_traffic_again"],
        "",
    ),
    (
        "setHeaderRoute",
        Done,
        &[
            "a_header_route_comes_before_the_others_and_goes_again",
            "a_header_route_is_there_for_its_steps",
            "a_header_route_is_a_narrower_copy_and_goes_again",
            "header_and_mirror_routes_are_managed_routes_of_a_route_that_can_have_them",
        ],
        "On HTTPRoutes and VirtualServices; elsewhere it is refused. Whoever gets requests by a header has an instance to answer, whatever the share.",
    ),
    (
        "setMirrorRoute",
        Done,
        &["a_mirror_route_follows_the_weights"],
        "On HTTPRoutes, by the filter `RequestMirror`, and on VirtualServices, by `mirror`.",
    ),
    ("analysis", Done, &["a_bad_canary_is_taken_back"], ""),
    (
        "experiment",
        Done,
        &[
            "an_experiment_step_follows_its_experiment",
            "a_release_waits_for_the_experiment_of_its_step",
            "a_bad_experiment_takes_the_release_back",
            "an_abort_ends_the_experiment",
            "the_versions_of_an_experiment_have_their_share_while_it_runs",
            "an_abort_takes_the_shares_of_an_experiment_back",
            "an_experiment_gets_its_share_of_a_virtual_service",
        ],
        "`weight` of a template on HTTPRoutes and VirtualServices. Its versions stay until no route leads to them.",
    ),
    (
        "plugin",
        Refused,
        &["what_is_not_carried_out_is_refused_by_name"],
        "The condition names the plugin.",
    ),
];

const BLUE_GREEN: &[Row] = &[
    ("activeService", Done, &["a_switch_and_its_undo"], ""),
    ("previewService", Done, &["a_switch_and_its_undo"], ""),
    ("previewReplicaCount", Done, &["a_switch_and_its_undo"], ""),
    (
        "autoPromotionEnabled",
        Done,
        &["a_blue_green_release_waits_for_a_person_and_its_undo_starts_nothing"],
        "",
    ),
    (
        "autoPromotionSeconds",
        Done,
        &["a_switch_and_its_undo"],
        "Counted from the end of the analysis before the switch.",
    ),
    (
        "maxUnavailable",
        Done,
        &["a_restart_takes_no_more_than_may_be_missing"],
        "For restarts.",
    ),
    (
        "scaleDownDelaySeconds",
        Done,
        &["a_switch_and_its_undo"],
        "",
    ),
    (
        "scaleDownDelayRevisionLimit",
        Done,
        &["old_revisions_take_no_more_than_their_places"],
        "",
    ),
    ("prePromotionAnalysis", Done, &["a_switch_and_its_undo"], ""),
    (
        "postPromotionAnalysis",
        Done,
        &["a_switch_and_its_undo"],
        "",
    ),
    (
        "antiAffinity",
        Differs,
        &["a_new_revision_keeps_away_from_the_stable_one_when_asked"],
        "As for a canary.",
    ),
    (
        "activeMetadata",
        Done,
        &["labels_follow_the_part_that_a_revision_plays"],
        "",
    ),
    (
        "previewMetadata",
        Done,
        &["labels_follow_the_part_that_a_revision_plays"],
        "",
    ),
    ("abortScaleDownDelaySeconds", Done, &["blue_green"], ""),
];

const ROUTING: &[Row] = &[
    (
        "managedRoutes",
        Done,
        &["header_and_mirror_routes_are_managed_routes_of_a_route_that_can_have_them"],
        "",
    ),
    (
        "maxTrafficWeight",
        Differs,
        &["weights_are_parts_of_the_sum_that_is_given"],
        "Shares are whole percent of it.",
    ),
    (
        "nginx",
        Done,
        &[
            "the_canary_ingress_leads_where_the_stable_one_does",
            "an_ingress_carries_the_split",
        ],
        "Nobody acknowledges an Ingress; the order of the last switch does not depend on it.",
    ),
    (
        "plugins",
        Differs,
        &["only_the_weights_of_rules_with_both_services_are_set"],
        "`argoproj-labs/gatewayAPI` is built in and acknowledged by our gateway; others are refused by name.",
    ),
    (
        "istio",
        Differs,
        &[
            "virtual_services_carry_the_split_between_two_services",
            "the_subsets_of_a_destination_rule_follow_their_sides",
            "the_route_goes_back_after_the_stable_subset_is_served_on_the_new_revision",
            "services_beside_subsets_follow_their_sides",
            "a_virtual_service_that_cannot_carry_the_split_is_named",
            "what_is_wrong_with_a_virtual_service_or_a_destination_rule_is_named",
            "every_problem_of_a_virtual_service_and_its_subsets_is_told",
        ],
        "Acknowledged by our gateway. HTTP routes only: `tlsRoutes`, `tcpRoutes` and a VirtualService of another namespace are refused by name. \
         A destination that is neither side is named, not deleted; other subsets stay.",
    ),
    (
        "alb",
        Refused,
        &["what_is_not_carried_out_is_refused_by_name"],
        "",
    ),
    (
        "smi",
        Refused,
        &["what_is_not_carried_out_is_refused_by_name"],
        "",
    ),
    (
        "ambassador",
        Refused,
        &["what_is_not_carried_out_is_refused_by_name"],
        "",
    ),
    (
        "traefik",
        Refused,
        &["what_is_not_carried_out_is_refused_by_name"],
        "",
    ),
    (
        "apisix",
        Refused,
        &["what_is_not_carried_out_is_refused_by_name"],
        "",
    ),
    (
        "appMesh",
        Refused,
        &["what_is_not_carried_out_is_refused_by_name"],
        "",
    ),
];

/// The spec of an Experiment.
const EXPERIMENT: &[Row] = &[
    (
        "templates",
        Done,
        &[
            "an_experiment_runs_its_versions_side_by_side_and_leaves_nothing_behind",
            "no_service_of_a_rollout_leads_to_a_version_of_an_experiment",
        ],
        "With their Services. One that an object of somebody else stands in the way of ends with `Error`.",
    ),
    (
        "duration",
        Done,
        &[
            "a_time_that_passes_is_a_success",
            "without_a_duration_it_lasts_until_somebody_ends_it",
        ],
        "Counted from when all versions are available.",
    ),
    (
        "progressDeadlineSeconds",
        Done,
        &["a_version_that_does_not_come_fails_it_in_time"],
        "",
    ),
    (
        "terminate",
        Done,
        &["without_a_duration_it_lasts_until_somebody_ends_it"],
        "",
    ),
    (
        "analyses",
        Done,
        &[
            "the_time_counts_from_when_all_are_available_and_a_required_analysis_is_waited_for",
            "an_analysis_that_is_not_required_is_ended_with_the_experiment",
            "the_first_bad_analysis_ends_it",
            "what_cannot_begin_is_told_at_once",
        ],
        "Arguments may name `templates.X.podTemplateHash`, `templates.X.replicaset.name`, `experiment.availableAt` and `experiment.finishedAt`.",
    ),
    (
        "scaleDownDelaySeconds",
        Done,
        &["a_time_that_passes_is_a_success"],
        "Kept on the ReplicaSet, so that it outlives a restart.",
    ),
    (
        "dryRun",
        Done,
        &["dry_runs_and_retention_of_an_experiment_are_those_of_its_runs"],
        "",
    ),
    (
        "measurementRetention",
        Done,
        &["dry_runs_and_retention_of_an_experiment_are_those_of_its_runs"],
        "",
    ),
    (
        "analysisRunMetadata",
        Done,
        &["the_runs_of_an_experiment_have_the_labels_that_it_gives_them"],
        "",
    ),
];

const SEMANTICS: &[Row] = &[
    (
        "Without a route the pair of canary and total nearest the weight is taken; ties round the canary up; no side is empty between 1 % and 99 %",
        Done,
        &["the_nearest_split"],
        "",
    ),
    (
        "`maxSurge` rounds up, `maxUnavailable` down; a quoted \"2\" means 2 %",
        Done,
        &["surge_rounds_up_and_unavailable_down"],
        "",
    ),
    (
        "With a route the canary has ceil(weight × replicas) and the stable revision keeps its size",
        Done,
        &["with_a_route_only_the_canary_follows_the_share"],
        "",
    ),
    (
        "With `dynamicStableScale` the stable revision has the larger of its present and its wanted share",
        Done,
        &["canary_with_a_dynamic_stable_scale"],
        "What is set and not yet acknowledged counts as present.",
    ),
    (
        "A share moves only when the canary has its instances; with none available it is 0 and managed routes go",
        Done,
        &[
            "a_share_moves_only_over_available_instances",
            "with_no_available_instance_the_share_and_the_managed_routes_go",
        ],
        "",
    ),
    (
        "`setCanaryScale` holds until `matchTrafficWeight`",
        Done,
        &["a_canary_scale_holds_until_it_matches_the_traffic_again"],
        "",
    ),
    (
        "`setWeight` is done when the instances are available, or the threshold is met, and the split is verified",
        Done,
        &["a_threshold_is_enough_for_a_step_and_not_for_the_end"],
        "Verified is what our gateway acknowledges.",
    ),
    (
        "A step that mixes kinds completes in a fixed order",
        Differs,
        &["a_mixed_step_carries_out_its_kinds_in_order"],
        "Each kind has to be done; in Argo Rollouts the first one decides.",
    ),
    (
        "The first release skips steps and analyses",
        Done,
        &["a_good_canary"],
        "",
    ),
    (
        "A changed template or changed steps begin again at step 0",
        Done,
        &[
            "a_canary_of_another_version_begins_while_one_is_on_trial",
            "a_spec_may_change_in_every_phase",
            "a_release_that_is_changed_at_its_end_puts_the_users_back_first",
        ],
        "The interrupted version stays until no Service leads to it.",
    ),
    (
        "Going back skips the steps only to the stable revision, within `rollbackWindow`, or to a blue-green set that is still kept",
        Done,
        &[
            "a_rollback_within_the_window_skips_the_steps",
            "a_switch_and_its_undo",
        ],
        "A ReleasePolicy may ask for more.",
    ),
    (
        "Abort: step 0, `Degraded`, share 0, canary Service on stable, managed routes gone, canary kept for a while; a retry begins at step 0",
        Done,
        &["an_abort_and_a_retry", "managed_routes_go_with_an_abort"],
        "",
    ),
    (
        "With `dynamicStableScale` an abort gives the share back as the stable revision grows",
        Done,
        &["the_stable_revision_grows_before_its_share_comes_back"],
        "",
    ),
    (
        "`promoteFull` waits for full availability; an abort after it works",
        Differs,
        &["an_abort_after_a_full_promote_works"],
        "Argo Rollouts ignores that abort.",
    ),
    (
        "Cleared `pauseConditions` with `controllerPause` mean that a person has resumed",
        Differs,
        &["a_client_that_skips_a_pause_does_not_end_the_next_one"],
        "Only of the step that paused: `canary.pausedStep` says which.",
    ),
    (
        "A late release is `Degraded` and goes on unless `progressDeadlineAbort`",
        Done,
        &["a_release_that_is_late_goes_on_unless_it_is_to_be_taken_back"],
        "",
    ),
    (
        "The deadline to scale down is an annotation, which a promotion takes away",
        Done,
        &["an_abort_and_a_retry"],
        "",
    ),
    (
        "At the end the weight goes back to the stable Service",
        Differs,
        &["a_good_canary", "canary_with_a_route"],
        "Only after the stable Service is acknowledged on the new revision: in Argo Rollouts requests are lost here.",
    ),
    (
        "The countdown of `autoPromotionSeconds` begins after the analysis",
        Done,
        &["a_switch_and_its_undo"],
        "",
    ),
    (
        "Metadata for a time is set on the ReplicaSet and on live pods, and ignored when templates are compared",
        Done,
        &[
            "labels_follow_the_part_that_a_revision_plays",
            "pods_are_labelled_while_their_revision_plays_a_part",
        ],
        "",
    ),
    (
        "`restartAt` evicts pods, at most max(1, maxUnavailable) at a time",
        Done,
        &["a_restart_takes_no_more_than_may_be_missing"],
        "",
    ),
    (
        "`workloadRef` needs an empty template",
        Done,
        &["a_rollout_takes_over_from_a_deployment"],
        "",
    ),
    (
        "Live ReplicaSets are taken over by the equality of templates",
        Done,
        &[
            "a_takeover_restarts_nothing",
            "live_replica_sets_of_argo_rollouts_are_taken_over",
        ],
        "Written-out defaults do not count.",
    ),
    (
        "Names that collide are counted up",
        Done,
        &["a_name_that_is_taken_by_another_template_is_counted_up"],
        "",
    ),
    (
        "The verbs of clients are plain patches",
        Done,
        &[
            "the_verbs_of_clients_are_plain_patches",
            "undo_full_promotion_and_restart_are_plain_patches",
            "set_image_replaces_the_object_and_conditions_follow",
            "a_step_can_be_skipped_whatever_it_waits_for",
        ],
        "",
    ),
    (
        "An autoscaler reads `HPAReplicas` and `selector`, and writes `/scale`",
        Done,
        &[
            "an_autoscaler_counts_what_users_reach",
            "an_autoscaler_scales_a_rollout",
        ],
        "",
    ),
    (
        "A deleted Rollout leaves its Services without the hash of its revision",
        Done,
        &["a_deleted_rollout_lets_its_services_go"],
        "No finalizer: a Service that was missed is found later.",
    ),
];

const HEADS: [(&str, &[Row]); 7] = [
    ("`spec`", FIELDS),
    ("`spec.strategy.canary`", CANARY),
    ("`spec.strategy.canary.steps[]`", STEPS),
    ("`spec.strategy.canary.trafficRouting`", ROUTING),
    ("`spec.strategy.blueGreen`", BLUE_GREEN),
    ("`spec` of an Experiment", EXPERIMENT),
    ("How it behaves", SEMANTICS),
];

const PREFACE: &str = "# Rollouts of Argo, point by point

The objects of `argoproj.io/v1alpha1` are taken as they are. This table tells how each field and each point of their behaviour
is carried out, and the test that shows it. It is made by `crates/engine/tests/rollouts/table.rs` and checked in the test run;
`UPDATE_EXPECT=1 cargo test -p serin-engine --test rollouts` writes it anew.
";

#[test]
fn the_table_of_the_contract_is_up_to_date() {
    let mut text = PREFACE.to_owned();
    for (head, rows) in HEADS {
        let _ = write!(
            text,
            "\n## {head}\n\n| | State | Shown by | |\n|---|---|---|---|\n"
        );
        for (what, state, tests, why) in rows {
            let what = if what.contains(' ') {
                (*what).to_owned()
            } else {
                format!("`{what}`")
            };
            let tests: Vec<_> = tests.iter().map(|test| format!("`{test}`")).collect();
            let _ = writeln!(
                text,
                "| {what} | {} | {} | {why} |",
                state.text(),
                tests.join(", ")
            );
        }
    }
    expect_test::expect_file![root().join("docs/argo-rollouts.md")].assert_eq(&text);
}

#[test]
fn every_test_of_the_table_exists() {
    let mut sources = String::new();
    for folder in ["crates/api", "crates/engine", "crates/controllers"] {
        read(&root().join(folder), &mut sources);
    }
    for (what, state, tests, _) in HEADS.iter().flat_map(|(_, rows)| *rows) {
        assert!(
            !tests.is_empty() || *state == Refused,
            "{what} is shown by no test"
        );
        for test in *tests {
            assert!(
                sources.contains(&format!("fn {test}(")),
                "{what}: there is no test {test}"
            );
        }
    }
}

#[test]
fn every_field_is_in_the_table() {
    let schema = kinds::find("argoproj.io", "v1alpha1", "Rollout")
        .unwrap()
        .schema_json("v1alpha1");
    let experiment = kinds::find("argoproj.io", "v1alpha1", "Experiment");
    let experiment = experiment.unwrap().schema_json("v1alpha1");
    let mut schemas = schema["schemas"].clone();
    let others = experiment["schemas"].as_object().unwrap().clone();
    schemas.as_object_mut().unwrap().extend(others);
    for (name, rows) in [
        ("RolloutSpec", FIELDS),
        ("CanaryStrategy", CANARY),
        ("CanaryStep", STEPS),
        ("TrafficRouting", ROUTING),
        ("BlueGreenStrategy", BLUE_GREEN),
        ("ExperimentSpec", EXPERIMENT),
    ] {
        let all = schemas.as_object().unwrap();
        let (_, found) = all
            .iter()
            .find(|(key, _)| key.ends_with(name))
            .unwrap_or_else(|| unreachable!("no {name} in {:?}", all.keys()));
        let fields: BTreeSet<_> = found["properties"]
            .as_object()
            .unwrap()
            .keys()
            .map(String::as_str)
            .collect();
        let told: BTreeSet<_> = rows.iter().map(|(what, ..)| *what).collect();
        assert_eq!(fields, told, "{name}");
    }
}

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

/// The tests are looked up in their sources.
fn read(folder: &Path, into: &mut String) {
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            read(&path, into);
        } else if path.extension().is_some_and(|e| e == "rs") {
            into.push_str(&std::fs::read_to_string(&path).unwrap());
        }
    }
}

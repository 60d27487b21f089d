//! How Rollouts and analyses behave, point by point.

use super::State::{self, Differs, Done};

/// The number of a point, from 1, 0 for one beyond them; the point, its state, the tests that show it, and where we differ and why.
pub(super) type Point = (
    u8,
    &'static str,
    State,
    &'static [&'static str],
    &'static str,
);

/// The points of Argo Rollouts that are easy to get wrong.
pub(super) const POINTS: u8 = 26;

pub(super) const SEMANTICS: &[Point] = &[
    (
        1,
        "Without a route the pair of canary and total nearest the weight is taken; ties round the canary up; no side is empty between 1 % and 99 %",
        Done,
        &["the_nearest_split"],
        "",
    ),
    (
        2,
        "`maxSurge` rounds up, `maxUnavailable` down; a quoted \"2\" means 2 %",
        Done,
        &["surge_rounds_up_and_unavailable_down"],
        "",
    ),
    (
        3,
        "With a route the canary has ceil(weight × replicas) and the stable revision keeps its size",
        Done,
        &["with_a_route_only_the_canary_follows_the_share"],
        "",
    ),
    (
        4,
        "With `dynamicStableScale` the stable revision has the larger of its present and its wanted share",
        Done,
        &["canary_with_a_dynamic_stable_scale"],
        "What is set and not yet acknowledged counts as present.",
    ),
    (
        5,
        "A share moves only when the canary has its instances; with none available it is 0 and managed routes go",
        Done,
        &[
            "a_share_moves_only_over_available_instances",
            "with_no_available_instance_the_share_and_the_managed_routes_go",
        ],
        "",
    ),
    (
        5,
        "`setCanaryScale` holds until `matchTrafficWeight`",
        Done,
        &["a_canary_scale_holds_until_it_matches_the_traffic_again"],
        "",
    ),
    (
        6,
        "`setWeight` is done when the instances are available, or the threshold is met, and the split is verified",
        Done,
        &["a_threshold_is_enough_for_a_step_and_not_for_the_end"],
        "Verified is what our gateway acknowledges.",
    ),
    (
        7,
        "A step that mixes kinds completes in a fixed order",
        Differs,
        &["a_mixed_step_carries_out_its_kinds_in_order"],
        "Each kind has to be done; in Argo Rollouts the first one decides.",
    ),
    (
        8,
        "The first release skips steps and analyses",
        Done,
        &["a_good_canary"],
        "",
    ),
    (
        8,
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
        9,
        "Going back skips the steps only to the stable revision, within `rollbackWindow`, or to a blue-green set that is still kept",
        Done,
        &[
            "a_rollback_within_the_window_skips_the_steps",
            "a_switch_and_its_undo",
        ],
        "A ReleasePolicy may ask for more.",
    ),
    (
        10,
        "Abort: step 0, `Degraded`, share 0, canary Service on stable, managed routes gone, canary kept for a while; a retry begins at step 0",
        Done,
        &["an_abort_and_a_retry", "managed_routes_go_with_an_abort"],
        "",
    ),
    (
        10,
        "With `dynamicStableScale` an abort gives the share back as the stable revision grows",
        Done,
        &["the_stable_revision_grows_before_its_share_comes_back"],
        "",
    ),
    (
        11,
        "`promoteFull` waits for full availability; an abort after it works",
        Differs,
        &["an_abort_after_a_full_promote_works"],
        "Argo Rollouts ignores that abort.",
    ),
    (
        12,
        "Cleared `pauseConditions` with `controllerPause` mean that a person has resumed",
        Differs,
        &["a_client_that_skips_a_pause_does_not_end_the_next_one"],
        "Only of the step that paused: `canary.pausedStep` says which.",
    ),
    (
        12,
        "A late release is `Degraded` and goes on unless `progressDeadlineAbort`",
        Done,
        &["a_release_that_is_late_goes_on_unless_it_is_to_be_taken_back"],
        "",
    ),
    (
        13,
        "The deadline to scale down is an annotation, which a promotion takes away",
        Done,
        &["an_abort_and_a_retry"],
        "",
    ),
    (
        13,
        "At the end the weight goes back to the stable Service",
        Differs,
        &["a_good_canary", "canary_with_a_route"],
        "Only after the stable Service is acknowledged on the new revision: in Argo Rollouts requests are lost here.",
    ),
    (
        14,
        "The countdown of `autoPromotionSeconds` begins after the analysis",
        Done,
        &["a_switch_and_its_undo"],
        "",
    ),
    (
        15,
        "Metadata for a time is set on the ReplicaSet and on live pods, and ignored when templates are compared",
        Done,
        &[
            "labels_follow_the_part_that_a_revision_plays",
            "pods_are_labelled_while_their_revision_plays_a_part",
        ],
        "",
    ),
    (
        15,
        "`restartAt` evicts pods, at most max(1, maxUnavailable) at a time",
        Done,
        &["a_restart_takes_no_more_than_may_be_missing"],
        "",
    ),
    (
        16,
        "`workloadRef` needs an empty template",
        Done,
        &["a_rollout_takes_over_from_a_deployment"],
        "",
    ),
    (
        16,
        "`antiAffinity` keeps the new revision from the machines of the stable one",
        Done,
        &[
            "a_new_revision_keeps_away_from_the_stable_one_when_asked",
            "the_rule_is_found_again_and_others_stay",
        ],
        "",
    ),
    (
        17,
        "Live ReplicaSets are taken over by the equality of templates",
        Done,
        &[
            "a_takeover_restarts_nothing",
            "live_replica_sets_of_argo_rollouts_are_taken_over",
        ],
        "Written-out defaults do not count.",
    ),
    (
        17,
        "Names that collide are counted up",
        Done,
        &["a_name_that_is_taken_by_another_template_is_counted_up"],
        "",
    ),
    (
        18,
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
        19,
        "A limit trips when it is exceeded: `failureLimit: 3` fails at the fourth failure; -1 never trips",
        Done,
        &[
            "a_limit_trips_when_it_is_exceeded",
            "minus_one_never_trips_and_the_count_ends_it",
        ],
        "",
    ),
    (
        20,
        "Without a condition a measurement is successful, with both and neither true it is inconclusive; conditions are those of expr-lang",
        Differs,
        &[
            "the_conditions_of_public_templates",
            "what_is_not_a_finite_number_is_never_healthy",
            "what_public_templates_write",
            "a_condition_that_cannot_be_evaluated_is_an_error",
        ],
        "A number that is not finite is inconclusive unless the condition itself says what it means.",
    ),
    (
        21,
        "Errors do not count as measurements, are retried after 10 s, and end the metric when there are too many in a row",
        Done,
        &[
            "an_outage_of_the_source_is_not_a_bad_metric",
            "a_source_of_metrics_that_is_down_never_promotes",
        ],
        "It is told as \"the metric source is down\", apart from a bad metric.",
    ),
    (
        22,
        "Within a metric an error comes before an inconclusive, and that before a failure; of the metrics the worst is a failure, then an \
         error; the first bad one that counts ends the run",
        Done,
        &[
            "of_several_limits_an_error_comes_first_and_a_failure_last",
            "of_several_metrics_a_failure_is_the_worst",
            "the_first_bad_metric_ends_the_run_and_dry_runs_do_not",
        ],
        "A run that is ended with nothing but errors, or nothing but doubts, is not called successful.",
    ),
    (
        23,
        "An interval without a count goes on without end; neither means one measurement",
        Differs,
        &[
            "without_interval_and_count_one_measurement_decides",
            "what_is_wrong_with_a_metric_is_told_before_the_release",
        ],
        "An analysis step that would never end is told before the release.",
    ),
    (
        24,
        "An inconclusive analysis pauses, and resuming starts a new run; `dryRun` and `measurementRetention` are patterns, and one that \
         matches nothing is an error; 10 measurements are kept",
        Done,
        &[
            "an_inconclusive_analysis_pauses_and_a_resume_measures_again",
            "rules_name_metrics_by_pattern_and_one_that_matches_none_is_an_error",
            "ten_measurements_of_a_metric_are_kept",
        ],
        "",
    ),
    (
        25,
        "Vectors and matrices of Prometheus are lists of numbers, scalars are bare; a Job is complete, failed, or inconclusive when some of \
         its pods did their work",
        Differs,
        &[
            "answers_of_prometheus",
            "a_condition_that_cannot_be_evaluated_is_an_error",
            "outcomes_of_jobs",
        ],
        "A sample that is older than the staleness of Prometheus is no data.",
    ),
    (
        26,
        "The duration of an experiment counts from when all versions are available; a bad analysis ends it early; a required one is waited for",
        Done,
        &[
            "the_time_counts_from_when_all_are_available_and_a_required_analysis_is_waited_for",
            "the_first_bad_analysis_ends_it",
            "an_analysis_that_is_not_required_is_ended_with_the_experiment",
        ],
        "",
    ),
    (
        0,
        "An autoscaler reads `HPAReplicas` and `selector`, and writes `/scale`",
        Done,
        &[
            "an_autoscaler_counts_what_users_reach",
            "an_autoscaler_scales_a_rollout",
        ],
        "",
    ),
    (
        0,
        "A deleted Rollout leaves its Services without the hash of its revision",
        Done,
        &["a_deleted_rollout_lets_its_services_go"],
        "No finalizer: a Service that was missed is found later.",
    ),
    (
        0,
        "A deleted Rollout gives its routes back: all to the stable side, no managed rule, no share of an experiment",
        Differs,
        &[
            "a_rollout_that_is_deleted_leaves_nothing_in_a_route",
            "a_rollout_that_is_deleted_leaves_nothing_in_a_virtual_service",
            "a_rollout_that_is_deleted_gives_its_route_back_with_nothing_lost",
        ],
        "Argo Rollouts leaves them. Versions of an experiment that were orphaned go only when the route is served without them.",
    ),
];

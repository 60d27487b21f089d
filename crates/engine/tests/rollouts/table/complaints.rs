//! What users of Argo Rollouts and Flagger complain of, by the numbers of the issues of `argoproj/argo-rollouts` unless it is said
//! otherwise, and what becomes of it here.

/// The complaint with its issues; what Serin does, or that it does nothing of it; and the tests that show it.
pub(super) type Complaint = (&'static str, &'static str, &'static [&'static str]);

/// What the second column begins with where no test shows anything.
pub(super) const OPEN: &str = "Open:";

pub(super) const COMPLAINTS: &[Complaint] = &[
    (
        "Requests are lost at the last switch (4433, 3586, 587, 4772, 1826)",
        "The stable Service moves behind the canary's requests, and the weight goes back only when that is acknowledged. An instance goes \
         when no request is in flight to it.",
        &[
            "a_good_canary",
            "canary_with_a_route",
            "no_request_is_lost_in_four_releases",
            "a_drain_waits_for_the_request_in_flight_and_lets_no_new_one_in",
        ],
    ),
    (
        "Within `rollbackWindow` requests come before the pods are ready (3941)",
        "The steps are skipped; that all instances are available is awaited as at any other end of a release.",
        &["a_rollback_within_the_window_waits_for_its_instances"],
    ),
    (
        "Long-lived connections are cut at the switch (3761)",
        "The switch touches no connection that is there. Requests in flight end before their instance does; a WebSocket is asked to close, and \
         is cut at the limit of the drain only.",
        &[
            "a_long_request_outlives_its_version",
            "a_websocket_to_an_instance_that_goes_is_closed_at_the_limit_of_the_drain",
        ],
    ),
    (
        "Configuration does not go back with the code (2669, 2675)",
        "With `configuration` of a ReleasePolicy the content of ConfigMaps and Secrets is part of the revision, kept as a copy, and comes back \
         with an undo.",
        &[
            "a_changed_config_map_is_released_step_by_step_and_undone",
            "a_secret_is_released_too_and_its_value_is_told_to_nobody",
            "canary_with_configuration",
        ],
    ),
    (
        "The way back of a complete release is slow (557, 2939; flagger 453, 468)",
        "With `keepWarm` the last good revision stays, and an undo is one change of the stable Service: no step, no start. Without it the old \
         instances start first and the steps are skipped (`instant`).",
        &[
            "a_completed_release_is_undone_without_a_start_and_then_held",
            "a_completed_release_is_undone_in_one_change_and_no_request_is_lost",
            "an_undo_without_warm_instances_is_never_below_the_bound",
        ],
    ),
    (
        "All measurements were errors, and the run is Successful (4479)",
        "A run that got nothing but errors is an error however it ends.",
        &[
            "a_run_of_nothing_but_errors_is_not_good_because_it_was_ended",
            "a_source_of_metrics_that_is_down_never_promotes",
        ],
    ),
    (
        "Few requests decide (3503, 1905)",
        "Fewer than `minRequests` are no answer. With `compare` the evidence of all measurements adds up, with a bound on false alarms however \
         often it is looked at.",
        &[
            "too_few_requests_are_no_answer",
            "too_few_requests_are_no_verdict_whatever_they_say",
            "good_releases_are_hardly_ever_called_bad",
        ],
    ),
    (
        "A canary has no analysis after its promotion (1978)",
        "`bake` of a ReleasePolicy: the old revision stays for a time in which analyses take the release back by one change.",
        &[
            "what_is_found_in_the_bake_is_taken_back",
            "an_abort_in_the_bake_goes_back_to_instances_that_never_left",
        ],
    ),
    (
        "Several Rollouts cannot be released together (4778, 2088; flagger 1700)",
        "Release groups go in lockstep, and one that is taken back takes all back.",
        &[
            "a_group_goes_step_by_step_together",
            "an_abort_of_one_takes_all_back_and_a_retry_begins_together",
            "release_groups",
        ],
    ),
    (
        "Workers that nobody sends requests to (438, 3539)",
        "Without a route the instances are the split, or come in batches with a check after each; a check asks Prometheus, a web server or a \
         Job. How much work of a queue each version takes is not steered.",
        &[
            "a_canary_by_replicas_waits_for_a_person_and_for_time",
            "six_instances_go_in_three_batches_with_a_check_after_each",
            "outcomes_of_jobs",
        ],
    ),
    (
        "The dashboard asks nobody who they are (1323)",
        "There is no dashboard. Whoever asks the API is known by a token or a certificate and has the rights of RBAC.",
        &["the_guard_lets_in_whoever_has_the_token"],
    ),
    (
        "Memory grows with time and with Rollouts (4571, 2855)",
        "Open: no test holds it. Caches have only what they are asked for, and `cargo bench -p serin-controllers --bench fleet` measures \
         memory and time of 1,000 Rollouts over many updates.",
        &[],
    ),
    (
        "The same notification comes again and again (5037, 2556)",
        "What happened is part of the plan that makes it happen, and is told when its status is written, never again. (One that is killed at \
         that very moment tells nothing.) They are Events; Serin sends no messages.",
        &["what_happens_in_a_release_is_told_once"],
    ),
    (
        "A HorizontalPodAutoscaler and a release get in each other's way (4607, 2857, 3849)",
        "`/scale` of the Rollout is the only thing that is scaled; `HPAReplicas` and `selector` tell of what users reach, and a size that changes \
         in mid-release changes no step.",
        &[
            "an_autoscaler_counts_what_users_reach",
            "an_autoscaler_scales_a_rollout",
            "a_spec_may_change_in_every_phase",
        ],
    ),
    (
        "Users do not stay on their side of the split (2726; flagger 1647, 1532)",
        "`serin.dev/sticky` on a route or a Service: who is on the canary stays there while its share grows.",
        &[
            "growing_moves_users_to_the_side_that_grows_alone_and_shrinking_moves_them_back",
            "users_come_in_their_shares_and_stay",
        ],
    ),
    (
        "Only Flagger has it: Gateway API without a plugin, gates, metrics without Prometheus",
        "HTTPRoutes, gates that ask a person or a service, and the metrics of the gateway are built in. Alerts are not: there are Events.",
        &[
            "a_header_route_is_there_for_its_steps",
            "a_gate_asks_a_person_and_a_rejection_takes_back",
            "it_is_asked_until_there_is_an_answer",
            "only_what_was_asked_for_counts",
        ],
    ),
    (
        "The pods that are promoted are not those that were tested (Flagger)",
        "The canary becomes the stable revision: the same ReplicaSet, the same pods.",
        &["the_pods_that_were_tested_are_the_ones_that_stay"],
    ),
];

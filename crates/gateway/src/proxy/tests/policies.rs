//! What rules do beside choosing a backend, over real sockets.

use super::*;
use crate::table::{
    Direct, Ejection, Fault, HashKey, HealthCheck, Limits, PathRewrite, Protocol, RateLimit,
    Redirect, Retry, Rewrite, RulePolicy, ServicePolicy,
};
use http::HeaderMap;

async fn one(upstream: &Upstream, policy: RulePolicy) -> Gate {
    let mut with = rule(&[("web", 1)]);
    with.policy = policy;
    Gate::serving(table(vec![with], vec![service("web", &[("w1", upstream)])]))
}

fn header(headers: &HeaderMap, name: &str) -> String {
    let value = headers.get(name).map(|v| v.to_str().unwrap().to_owned());
    value.unwrap_or_default()
}

#[tokio::test]
async fn a_rule_of_a_listener_is_served_at_its_port_alone() {
    let web = Upstream::saying("web").await;
    let gate = Gate::serving(table(Vec::new(), Vec::new()));
    let status_with = async |port: u16| {
        let mut with = rule(&[("web", 1)]);
        with.port = Some(port);
        gate.swap(table(vec![with], vec![service("web", &[("w1", &web)])]));
        gate.client().await.get("/").await.status.as_u16()
    };
    let own = gate.address.port();
    let other = gate.tls_address.port();
    assert_eq!(
        (status_with(own).await, status_with(other).await),
        (200, 404)
    );
}

#[tokio::test]
async fn redirects_fixed_answers_and_faults_ask_no_instance() {
    let web = Upstream::saying("web").await;
    let redirect = Direct::Redirect(Redirect {
        status: 301,
        scheme: Some("https".into()),
        host: None,
        port: None,
        path: None,
    });
    let fixed = Direct::Fixed {
        status: 418,
        body: "teapot".into(),
    };
    let abort = Fault {
        abort: Some((503, 1_000_000)),
        delay: Some((1, 1_000_000)),
    };
    let policies = [
        RulePolicy {
            direct: Some(redirect),
            ..RulePolicy::default()
        },
        RulePolicy {
            direct: Some(fixed),
            ..RulePolicy::default()
        },
        RulePolicy {
            fault: Some(abort),
            ..RulePolicy::default()
        },
    ];
    let mut seen = Vec::new();
    for policy in policies {
        let gate = one(&web, policy).await;
        let answer = gate.client().await.get("/a?b=c").await;
        let location = header(&answer.headers, "location");
        seen.push((answer.status.as_u16(), location, answer.text()));
        assert_eq!(requests(&gate, "").status.iter().sum::<u64>(), 1);
    }
    let seen: Vec<_> = seen
        .iter()
        .map(|(s, l, t)| (*s, l.as_str(), t.as_str()))
        .collect();
    assert_eq!(
        seen,
        [
            (301, "https://app.example.com/a?b=c", ""),
            (418, "", "teapot"),
            (503, "", "A fault that the route asks for.\n"),
        ]
    );
    assert_eq!(web.requests(), 0);
}

#[tokio::test]
async fn path_host_and_headers_of_both_sides_are_changed() {
    let echo = Upstream::echo().await;
    let policy = RulePolicy {
        rewrite: Some(Rewrite {
            host: Some("inner.example".into()),
            path: Some(PathRewrite::Prefix("/new".into())),
        }),
        answer_headers: HeaderChanges {
            set: vec![("x-version".into(), "2".into())],
            add: Vec::new(),
            remove: vec!["server".into()],
        },
        ..RulePolicy::default()
    };
    let gate = one(&echo, policy).await;
    let answer = gate.client().await.get("/a?b=c").await;
    let text = answer.text();
    assert!(
        text.starts_with("GET /new/a?b=c\nhost: inner.example\n"),
        "{text}"
    );
    assert_eq!(header(&answer.headers, "x-version"), "2");
    assert!(!answer.headers.contains_key("server"));
}

#[tokio::test]
async fn a_copy_has_the_same_body_and_counts_apart() {
    let (web, shadow) = (Upstream::echo().await, Upstream::echo().await);
    let gate = Gate::serving(world::copied(&web, &shadow));
    let mut client = gate.client().await;
    assert!(client.post("/p", "hello").await.text().ends_with("\nhello"));
    assert_eq!(client.get("/g").await.status, StatusCode::OK);
    gate.until(|| requests(&gate, "shadow").status[1] == 2)
        .await;
    assert_eq!(requests(&gate, "web").requests(), 2);
    let all = gate.registry.totals();
    let copies = all.iter().find(|s| s.key.revision == "shadow").unwrap();
    assert_eq!(copies.key.route, "mirror/httproute/default/web");
    gate.until_drained("s1").await;
}

#[tokio::test]
async fn answers_that_the_rule_does_not_want_are_asked_for_again() {
    let bad = Upstream::failing(StatusCode::SERVICE_UNAVAILABLE).await;
    let good = Upstream::saying("good").await;
    let mut with = rule(&[("web", 1)]);
    with.policy.retry = Some(Retry {
        attempts: 2,
        statuses: vec![503],
        on_failure: true,
        pause_ms: 0,
    });
    let both = service("web", &[("b1", &bad), ("g1", &good)]);
    let gate = Gate::serving(table(vec![with], vec![both]));
    let mut client = gate.client().await;
    for _ in 0..10 {
        assert_eq!(client.get("/").await.text(), "good");
    }
    // What has a body is sent once.
    let mut statuses = Vec::new();
    for _ in 0..4 {
        statuses.push(client.post("/", "x").await.status.as_u16());
    }
    assert!(
        statuses.contains(&503) && statuses.contains(&200),
        "{statuses:?}"
    );
    let counts = requests(&gate, "web");
    assert_eq!(counts.requests(), 14);
    assert_eq!(
        counts.retries as usize,
        good.requests() + bad.requests() - 14
    );
}

#[tokio::test]
async fn tries_that_a_rule_asks_for_have_a_budget_and_a_bound_of_the_service() {
    let bad = Upstream::failing(StatusCode::SERVICE_UNAVAILABLE).await;
    let mut with = rule(&[("web", 1)]);
    with.policy.retry = Some(Retry {
        attempts: 1_000_000,
        statuses: vec![503],
        on_failure: false,
        pause_ms: 0,
    });
    let (name, mut entry) = service("web", &[("b1", &bad)]);
    let gate = Gate::serving(table(
        vec![with.clone()],
        vec![(name.clone(), entry.clone())],
    ));
    let answer = gate.client().await.get("/").await;
    // Ten at the start, ten a second, and the endless tries of one request end.
    assert_eq!(answer.text(), "bad");
    assert!(bad.requests() >= 10);

    let before = bad.requests();
    entry.policy.max_retries = Some(0);
    gate.swap(table(vec![with], vec![(name, entry)]));
    assert_eq!(gate.client().await.get("/").await.text(), "bad");
    assert_eq!(bad.requests(), before + 1);
}

#[tokio::test]
async fn when_too_few_instances_are_left_those_that_failed_are_asked_too() {
    let bad = Upstream::failing(StatusCode::INTERNAL_SERVER_ERROR).await;
    let good = Upstream::saying("good").await;
    let asked_with = async |least: u32| {
        let before = bad.requests();
        let (name, mut entry) = service("web", &[("b1", &bad), ("g1", &good)]);
        entry.policy.ejection = Some(Ejection {
            failures: 1,
            gateway_errors_only: false,
            base_ms: 600_000,
            max_percent: 50,
            min_healthy_percent: least,
        });
        let gate = Gate::serving(table(vec![rule(&[("web", 1)])], vec![(name, entry)]));
        let mut client = gate.client().await;
        for _ in 0..20 {
            client.get("/").await;
        }
        bad.requests() - before
    };
    assert_eq!((asked_with(50).await, asked_with(51).await), (1, 10));
}

#[tokio::test]
async fn an_instance_that_fails_is_left_out() {
    let bad = Upstream::failing(StatusCode::INTERNAL_SERVER_ERROR).await;
    let good = Upstream::saying("good").await;
    let (name, mut entry) = service("web", &[("b1", &bad), ("g1", &good)]);
    entry.policy = ServicePolicy {
        ejection: Some(Ejection {
            failures: 3,
            gateway_errors_only: false,
            base_ms: 600_000,
            max_percent: 50,
            min_healthy_percent: 0,
        }),
        ..ServicePolicy::default()
    };
    let gate = Gate::serving(table(vec![rule(&[("web", 1)])], vec![(name, entry)]));
    let mut client = gate.client().await;
    for _ in 0..50 {
        client.get("/").await;
    }
    assert_eq!(bad.requests(), 3);
    assert_eq!(gate.shared.gauges.ejections.load(Ordering::Relaxed), 1);
}

#[tokio::test]
async fn what_is_above_the_rate_is_answered_429_and_counts_as_no_error() {
    let web = Upstream::saying("web").await;
    let policy = RulePolicy {
        limits: Limits {
            rate: Some(RateLimit {
                requests: 1,
                period_ms: 3_600_000,
                burst: 3,
            }),
            ..Limits::default()
        },
        ..RulePolicy::default()
    };
    let gate = one(&web, policy).await;
    let mut client = gate.client().await;
    let mut statuses = Vec::new();
    for _ in 0..5 {
        let answer = client.get("/").await;
        statuses.push(answer.status.as_u16());
        if answer.status == StatusCode::TOO_MANY_REQUESTS {
            assert_eq!(answer.reason(), "rate-limited");
            assert!(
                header(&answer.headers, "retry-after")
                    .parse::<u32>()
                    .unwrap()
                    > 1
            );
        }
    }
    assert_eq!(statuses, [200, 200, 200, 429, 429]);
    let refused = requests(&gate, "");
    assert_eq!(
        (refused.rate_limited, refused.requests(), refused.errors()),
        (2, 0, 0)
    );
}

#[tokio::test]
async fn users_come_in_their_shares_and_stay() {
    let (stable, canary) = (
        Upstream::saying("stable").await,
        Upstream::saying("canary").await,
    );
    let split = |share: u32| {
        let mut with = rule(&[("stable", 100 - share), ("canary", share)]);
        with.policy.sticky = Some(HashKey::Cookie {
            name: "user".into(),
            path: None,
            ttl_seconds: Some(60),
            issue: true,
        });
        let services = vec![
            service("stable", &[("s1", &stable)]),
            service("canary", &[("c1", &canary)]),
        ];
        table(vec![with], services)
    };
    let gate = Gate::serving(split(5));
    let mut client = gate.client().await;
    let mut users = Vec::new();
    for _ in 0..200 {
        let answer = client.get("/").await;
        let cookie = header(&answer.headers, "set-cookie");
        assert!(
            cookie.ends_with("; Path=/; Max-Age=60; HttpOnly; SameSite=Lax"),
            "{cookie}"
        );
        users.push((cookie.split(';').next().unwrap().to_owned(), answer.text()));
    }
    assert_eq!(
        users.iter().filter(|(_, side)| side == "canary").count(),
        10
    );
    for share in [5, 40, 5] {
        gate.swap(split(share));
        for (cookie, first) in &users {
            let request = Request::get("/")
                .header("host", "a")
                .header("cookie", cookie);
            let answer = client.send(request.body(Full::default()).unwrap()).await;
            assert!(!answer.headers.contains_key("set-cookie"));
            let stays = answer.text() == *first;
            assert!(
                stays || (share == 40 && first == "stable"),
                "{cookie} at {share}"
            );
        }
    }
}

fn checked() -> HealthCheck {
    HealthCheck {
        path: Some("/healthz".into()),
        host: None,
        port: None,
        interval_ms: 100,
        timeout_ms: 10_000,
        failures: 2,
        successes: 1,
        panic_percent: 50,
    }
}

/// Well answers whatever it is asked; ill answers users well too, but not checks.
async fn well_and_ill() -> (Upstream, Upstream) {
    let ill = Upstream::with(|request: Request<hyper::body::Incoming>| async move {
        let mut answer = Response::new(Full::from("ill"));
        if request.uri().path() == "/healthz" {
            *answer.status_mut() = StatusCode::SERVICE_UNAVAILABLE;
        }
        answer
    })
    .await;
    (Upstream::saying("well").await, ill)
}

#[tokio::test]
async fn an_instance_that_does_not_pass_its_checks_is_left_out() {
    let (well, ill) = well_and_ill().await;
    let (name, mut entry) = service("web", &[("w1", &well), ("i1", &ill)]);
    entry.policy.health = Some(checked());
    let gate = Gate::serving(table(vec![rule(&[("web", 1)])], vec![(name, entry)]));
    gate.check_health();
    gate.until(|| !gate.shared.health.out.load().is_empty())
        .await;
    let mut client = gate.client().await;
    for _ in 0..20 {
        assert_eq!(client.get("/").await.text(), "well");
    }
    // Checks are no requests of users.
    assert_eq!(requests(&gate, "web").requests(), 20);
}

#[tokio::test]
async fn checks_never_leave_everybody_out() {
    let (well, ill) = well_and_ill().await;
    let (_, iller) = well_and_ill().await;
    let met_with = async |panic_percent: u32| {
        let all = [("w1", &well), ("i1", &ill), ("i2", &iller)];
        let (name, mut entry) = service("web", &all);
        entry.policy.health = Some(HealthCheck {
            panic_percent,
            ..checked()
        });
        let gate = Gate::serving(table(vec![rule(&[("web", 1)])], vec![(name, entry)]));
        gate.check_health();
        gate.until(|| gate.shared.health.out.load().len() == 2)
            .await;
        let mut client = gate.client().await;
        let mut met = std::collections::BTreeSet::new();
        for _ in 0..20 {
            met.insert(client.get("/").await.text());
        }
        met.into_iter().collect::<Vec<_>>()
    };
    // A third is left: too few at 50 %, enough at 33 %.
    assert_eq!(met_with(50).await, ["ill", "well"]);
    assert_eq!(met_with(33).await, ["well"]);
    // Nobody is left, and yet somebody answers.
    let (name, mut entry) = service("web", &[("i1", &ill)]);
    entry.policy.health = Some(HealthCheck {
        panic_percent: 0,
        ..checked()
    });
    let gate = Gate::serving(table(vec![rule(&[("web", 1)])], vec![(name, entry)]));
    gate.check_health();
    gate.until(|| gate.shared.health.out.load().len() == 1)
        .await;
    assert_eq!(gate.client().await.get("/").await.text(), "ill");
}

#[tokio::test]
async fn an_instance_that_speaks_http2_is_checked_over_http2() {
    let grpc = Upstream::grpc().await;
    let (name, mut entry) = service("web", &[("g1", &grpc)]);
    entry.ports[0].protocol = Protocol::Http2;
    entry.policy.health = Some(checked());
    let gate = Gate::serving(table(vec![rule(&[("web", 1)])], vec![(name, entry)]));
    gate.check_health();
    gate.until(|| gate.shared.health.passed.load(Ordering::Relaxed) > 1)
        .await;
    assert_eq!(gate.shared.health.failed.load(Ordering::Relaxed), 0);
}

use serin_api::analysis::SerinMetric;
use serin_api::traffic::{LATENCY_BUCKETS, Series, SeriesKey};
use serin_engine::analysis::judge_rules;
use serin_engine::judge::{Evidence, Verdict, replay};

use super::super::recording::Recording;
use super::*;

const ROUTE: &str = "httproute/shop/web";

fn series(route: &str, service: &str, revision: &str, counts: &Counts) -> Series {
    Series {
        key: SeriesKey {
            route: route.into(),
            service: service.into(),
            revision: revision.into(),
        },
        counts: counts.clone(),
    }
}

/// So many answers and failures, and answers in two buckets.
fn counts(good: u64, bad: u64, broken: u64) -> Counts {
    let mut latency = vec![0; LATENCY_BUCKETS];
    latency[3] = good;
    latency[LATENCY_BUCKETS - 1] = bad;
    Counts {
        status: [0, good, 0, 0, bad],
        broken,
        latency,
        ..Counts::default()
    }
}

fn stats(series: Vec<Series>) -> Stats {
    Stats {
        window_seconds: 1.0,
        series,
    }
}

fn at(second: i64) -> Timestamp {
    Timestamp::from_second(1_800_000_000 + second).unwrap()
}

#[test]
fn a_line_is_what_came_on_top() {
    let before = stats(vec![series(ROUTE, "shop/stable", "v1", &counts(100, 1, 0))]);
    let mut recorder = Recorder::new(ROUTE.into(), &before);
    let now = stats(vec![
        series(ROUTE, "shop/canary", "a-newer-one", &counts(5, 0, 2)),
        // One revision behind both Services is one revision; another route and no instance at all are nobody's.
        series(ROUTE, "shop/stable", "v1", &counts(150, 1, 0)),
        series(ROUTE, "shop/canary", "v1", &counts(1, 0, 0)),
        series(
            "httproute/shop/other",
            "shop/stable",
            "v1",
            &counts(9, 9, 9),
        ),
        series(ROUTE, "shop/stable", "", &counts(0, 0, 7)),
    ]);
    let lines = recorder.span(&now, at(10));
    assert_eq!(
        lines,
        [
            r#"{"at":"2027-01-15T08:00:10.000Z","errors":0,"latency":{"0.004":51},"requests":51,"revision":"v1"}"#,
            r#"{"at":"2027-01-15T08:00:10.000Z","errors":2,"latency":{"0.004":5},"requests":7,"revision":"a-newer-one"}"#,
        ]
    );
    assert!(
        recorder.span(&now, at(20)).is_empty(),
        "nothing came on top"
    );
    // After a new start of the gateway there is a first measurement again.
    let anew = stats(vec![series(ROUTE, "shop/stable", "v1", &counts(3, 0, 0))]);
    assert!(recorder.span(&anew, at(30)).is_empty());
    let on = stats(vec![series(ROUTE, "shop/stable", "v1", &counts(4, 0, 0))]);
    assert_eq!(recorder.span(&on, at(40)).len(), 1);
}

#[test]
fn routes_are_named_as_in_a_metric() {
    assert_eq!(series_name("web", "shop"), ROUTE);
    assert_eq!(series_name("ingress/web", "shop"), "ingress/shop/web");
}

/// The judge says of a recording what it said of the release.
#[test]
fn a_recording_is_judged_as_the_release_was() {
    let text = |text: &str| Some(text.to_owned());
    let questions = [
        SerinMetric {
            metric: "error-ratio".into(),
            compare: text("stable"),
            ..SerinMetric::default()
        },
        SerinMetric {
            metric: "error-ratio".into(),
            compare: text("threshold"),
            threshold: text("0.01"),
            ..SerinMetric::default()
        },
        SerinMetric {
            metric: "latency".into(),
            compare: text("stable"),
            ..SerinMetric::default()
        },
    ];
    let mut verdicts = Vec::new();
    for bad in [0, 1, 9] {
        let all: Vec<(Counts, Counts)> = (0..=40)
            .map(|i| {
                (
                    counts(900 * i, 4 * i, i / 9),
                    counts(100 * i, bad * i, i / 11),
                )
            })
            .collect();
        let seen = |(stable, canary): &(Counts, Counts)| {
            stats(vec![
                series(ROUTE, "shop/stable", "v1", stable),
                series(ROUTE, "shop/canary", "v2", canary),
            ])
        };
        let mut recorder = Recorder::new(ROUTE.into(), &seen(&all[0]));
        let lines = all.iter().enumerate().skip(1);
        let lines = lines.flat_map(|(i, totals)| recorder.span(&seen(totals), at(10 * i as i64)));
        let recording = Recording::parse(&lines.collect::<Vec<_>>().join("\n")).unwrap();
        let sides = recording.sides(Some("v2"), Some("v1")).unwrap();
        let spans = recording.spans(&sides);
        assert_eq!(spans.len(), 40);
        for question in &questions {
            let rules = judge_rules(question).unwrap();
            let looks = replay(&rules, spans.iter().map(|(_, span)| span));
            // It looks no further than to a verdict that ends the analysis.
            let is_decided = looks
                .last()
                .is_some_and(|look| matches!(look.verdict, Verdict::Bad | Verdict::Safe));
            assert!(is_decided || looks.len() == spans.len(), "{looks:#?}");
            // As the controller does it: each measurement adds what came on top of the one before.
            let mut live = Evidence::default();
            for (look, pair) in looks.iter().zip(all.windows(2)) {
                let [(stable_before, canary_before), (stable, canary)] = pair else {
                    panic!("{pair:?}")
                };
                let canary = canary.since(canary_before).unwrap();
                live.add(&rules, &canary, &stable.since(stable_before).unwrap());
                assert_eq!(
                    (look.verdict, look.p_bad),
                    (live.verdict(&rules), live.p_bad())
                );
            }
            verdicts.push(looks.last().unwrap().verdict);
        }
    }
    assert!(
        verdicts.contains(&Verdict::Bad) && verdicts.contains(&Verdict::Undecided),
        "{verdicts:?}"
    );
}

/// The exchange with the gateway, over a socket.
#[tokio::test]
async fn the_totals_are_asked_for() {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    let home = tempfile::tempdir().unwrap();
    let socket = home.path().join("gateway.sock");
    let why = totals(&socket).await.unwrap_err();
    assert!(why.contains("gateway.sock"), "{why}");
    let listener = tokio::net::UnixListener::bind(&socket).unwrap();
    let told = stats(vec![series(ROUTE, "shop/stable", "v1", &counts(3, 1, 0))]);
    let body = serde_json::to_string(&told).unwrap();
    let serve = async {
        let (mut stream, _) = listener.accept().await.unwrap();
        let mut head = [0_u8; 1024];
        let length = stream.read(&mut head).await.unwrap();
        assert!(head[..length].starts_with(b"GET /totals HTTP/1.1"));
        let length = body.len();
        let answer = format!("HTTP/1.1 200 OK\r\ncontent-length: {length}\r\n\r\n{body}");
        stream.write_all(answer.as_bytes()).await.unwrap();
        stream
    };
    let (asked, _stream) = tokio::join!(totals(&socket), serve);
    assert_eq!(asked.unwrap().series, told.series);
}

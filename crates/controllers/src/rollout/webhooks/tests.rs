use jiff::SignedDuration;
use kube::api::PostParams;
use kube::runtime::wait::await_condition;
use serin_api::release::Webhook;
use serin_api::units::RevisionHash;
use serin_apiserver::{ApiServer, Store};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use super::*;
use crate::shell::Hub;
use crate::waiting::soon;

#[test]
fn what_an_answer_means() {
    let read = |status: u16, body: &str| {
        let status = StatusCode::from_u16(status).unwrap();
        match read_answer("gates", status, body.as_bytes()) {
            Ok(Said::Answer { approved, by, why }) => format!("{approved} by {by}: {why}"),
            Ok(Said::NotYet) => "not yet".to_owned(),
            Err(why) => why,
        }
    };
    assert_eq!(read(200, ""), "true by webhook gates: ");
    assert_eq!(read(204, ""), "true by webhook gates: ");
    assert_eq!(read(200, "ok"), "true by webhook gates: ");
    assert_eq!(
        read(
            200,
            r#"{"approved": false, "reason": "errors", "by": "anna"}"#
        ),
        "false by anna (webhook gates): errors"
    );
    assert_eq!(read(403, ""), "false by webhook gates: ");
    assert_eq!(read(202, r#"{"approved": true}"#), "not yet");
    assert_eq!(read(425, ""), "not yet");
    // Neither a broken answer nor a broken service approves anything.
    assert_eq!(
        read(200, r#"{"approved": "yes"}"#),
        "gates answers 200 OK and JSON that is no answer"
    );
    assert_eq!(read(404, ""), "gates answers 404 Not Found");
    assert_eq!(
        read(500, r#"{"approved": true}"#),
        "gates answers 500 Internal Server Error"
    );
    let long = format!(r#"{{"reason": "{}\u0007"}}"#, "a".repeat(9999));
    assert_eq!(
        read(200, &long).len(),
        "true by webhook gates: ".len() + LONGEST_TEXT
    );
}

#[test]
fn a_question_is_signed_as_standard_webhooks_have_it() {
    // The example of the specification.
    let signed = signature(
        "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw",
        "msg_p5jXN8AQM9LWM0D4loKWxJek",
        1_614_265_330,
        br#"{"test": 2432232314}"#,
    );
    assert_eq!(
        signed.as_deref(),
        Ok("v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=")
    );
    assert!(signature("whsec_*", "a", 0, b"").is_err());
}

#[test]
fn attempts_come_slower_and_never_stop() {
    let seconds: Vec<_> = [0, 1, 2, 5, 6, 100].map(|n| backoff(n).as_secs()).into();
    assert_eq!(seconds, [1, 2, 4, 32, 60, 60]);
}

/// A service that gives these answers one after the other, and then no more; the questions are kept.
async fn service(answers: &'static [&'static str]) -> (u16, Arc<Mutex<Vec<String>>>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let asked = Arc::new(Mutex::new(Vec::new()));
    let kept = Arc::clone(&asked);
    tokio::spawn(async move {
        for answer in answers {
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut question = String::new();
            // The body is the end of a question: one line of JSON.
            while !question.ends_with('}') {
                let mut part = [0; 4096];
                let read = stream.read(&mut part).await.unwrap();
                assert_ne!(read, 0, "a question ends with its body");
                question.push_str(std::str::from_utf8(&part[..read]).unwrap());
            }
            kept.lock().unwrap().push(question);
            stream.write_all(answer.as_bytes()).await.unwrap();
        }
    });
    (port, asked)
}

/// A Rollout that waits at the gate `budget` with the revision `abc`.
async fn waiting_at_gate(api: &Api<Rollout>) -> Rollout {
    let spec = json!({"selector": {"matchLabels": {"app": "web"}}, "strategy": {"canary": {}}, "template": {
        "metadata": {"labels": {"app": "web"}}, "spec": {"containers": [{"name": "a", "image": "a"}]}}});
    let object = json!({"metadata": {"name": "web"}, "spec": spec});
    let object: Rollout = serde_json::from_value(object).unwrap();
    api.create(&PostParams::default(), &object).await.unwrap();
    let waiting = json!({"status": {"currentPodHash": "abc", "waitingOn": {"type": "Gate", "name": "budget"}}});
    api.patch_status("web", &PatchParams::default(), &Patch::Merge(waiting))
        .await
        .unwrap()
}

/// What is asked of a service for that Rollout.
fn question_at(port: u16) -> Question {
    Question {
        gate: "budget".into(),
        revision: RevisionHash::new("abc"),
        stable: None,
        step: Some(1),
        webhook: Webhook {
            url: format!("http://127.0.0.1:{port}/gate"),
            deadline: SignedDuration::from_secs(10),
            interval: SignedDuration::from_secs(1),
            signing_key: None,
        },
    }
}

#[tokio::test]
async fn it_is_asked_until_there_is_an_answer() {
    let (port, asked) = service(&[
        "HTTP/1.1 500 Internal Server Error\r\nContent-Length: 0\r\n\r\n",
        "HTTP/1.1 202 Accepted\r\nContent-Length: 0\r\n\r\n",
        "HTTP/1.1 200 OK\r\nContent-Length: 35\r\n\r\n{\"approved\":true,\"reason\":\"budget\"}",
    ])
    .await;
    let server = ApiServer::new(Store::in_memory());
    let client = Client::new(server.router(), "default");
    let api: Api<Rollout> = Api::default_namespaced(client.clone());
    let rollout = waiting_at_gate(&api).await;
    let shutdown = CancellationToken::new();
    let mut hub = Hub::new(client.clone(), Clock::system(), None, 1, shutdown.clone());
    let rollouts = hub.watch::<Rollout>();
    soon("the list", rollouts.listed().cancelled()).await;
    let egress = Egress {
        hosts: vec!["127.0.0.1".into()],
        private: false,
    };
    let webhooks = Webhooks::new(client, Clock::system(), rollouts, egress);
    let question = question_at(port);
    let under_way = || {
        let tasks = webhooks.under_way.lock().unwrap();
        tasks.values().map(AbortHandle::id).collect::<Vec<_>>()
    };
    webhooks.ask(&rollout, &question);
    let begun = under_way();
    assert_eq!(begun.len(), 1);
    // Every look at the Rollout asks again; only one question is under way.
    webhooks.ask(&rollout, &question);
    assert_eq!(under_way(), begun);
    let answered = |found: Option<&Rollout>| {
        let status = found.and_then(|r| r.status.as_ref());
        status.is_some_and(|s| s.gates.contains_key("budget"))
    };
    let answer = await_condition(api.clone(), "web", answered);
    let answer = soon("the answer in the status", answer).await.unwrap();
    let status = answer.unwrap().status.unwrap();
    let answer = &status.gates["budget"];
    assert!(answer.approved);
    assert_eq!(
        (
            answer.revision.as_str(),
            answer.by.as_str(),
            answer.why.as_str()
        ),
        ("abc", "webhook 127.0.0.1", "budget")
    );
    let asked = asked.lock().unwrap().clone();
    assert_eq!(asked.len(), 3);
    let head = asked[0].to_ascii_lowercase();
    assert!(
        head.starts_with("post /gate") && head.contains("webhook-id: abc."),
        "{head}"
    );
    assert!(asked[0].contains(r#""rollout":"web""#) && asked[0].contains(r#""step":1"#));
    shutdown.cancel();
}

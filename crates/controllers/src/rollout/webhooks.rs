//! Gates that ask a service. Each question is a task of its own, which is just another client: it writes the answer into the
//! status as a person would, so no release waits for a socket and no way back waits for an answer.
//!
//! Absent on purpose: whether a gate is shut, and what an answer leads to; that is the engine's.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Method, StatusCode, Uri, header};
use kube::api::{Patch, PatchParams};
use kube::{Api, Client, Resource, ResourceExt};
use ring::hmac;
use serde::Deserialize;
use serde_json::{Value, json};
use serin_api::keys::{FIELD_MANAGER, annotation};
use serin_api::rollout::Rollout;
use serin_api::waiting::WaitingOn;
use serin_engine::hash::short;
use serin_engine::rollout::{Note, Question};
use tokio::sync::Semaphore;
use tokio::task::AbortHandle;
use tokio::time::{Duration, sleep, timeout};

use crate::analysis::{Call, Egress, Fetcher, Reach, Trust, read_secret};
use crate::clock::Clock;
use crate::events;
use crate::shell::Cache;

/// Questions that are asked in the same moment; more wait for their turn.
const AT_ONCE: usize = 64;
const BACKOFF_FIRST: Duration = Duration::from_secs(1);
const BACKOFF_CAP: Duration = Duration::from_secs(60);
/// A text of somebody else that is kept in a status is no longer than this.
const LONGEST_TEXT: usize = 256;
const WRITE_DEADLINE: Duration = Duration::from_secs(30);

/// The uid of a Rollout, a gate and a revision.
type Key = (String, String, String);

/// Asks the services of gates.
pub(crate) struct Webhooks {
    shared: Arc<Shared>,
    under_way: Arc<Mutex<BTreeMap<Key, AbortHandle>>>,
}

struct Shared {
    client: Client,
    clock: Clock,
    rollouts: Cache<Rollout>,
    fetcher: Fetcher,
    turns: Semaphore,
}

/// What a service says.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Said {
    /// Yes or no, by whom and why.
    Answer {
        approved: bool,
        by: String,
        why: String,
    },
    /// It is to be asked again later.
    NotYet,
}

impl Webhooks {
    pub(crate) fn new(
        client: Client,
        clock: Clock,
        rollouts: Cache<Rollout>,
        egress: Egress,
    ) -> Self {
        Self {
            shared: Arc::new(Shared {
                client,
                clock,
                rollouts,
                fetcher: Fetcher::new(egress),
                turns: Semaphore::new(AT_ONCE),
            }),
            under_way: Arc::default(),
        }
    }

    /// Begins to ask, unless that is under way. It ends by itself with an answer, or when nobody waits for one any more.
    pub(super) fn ask(&self, rollout: &Rollout, question: &Question) {
        let key = (
            rollout.uid().unwrap_or_default(),
            question.gate.clone(),
            question.revision.as_str().to_owned(),
        );
        let mut under_way = self
            .under_way
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        if under_way.get(&key).is_some_and(|task| !task.is_finished()) {
            return;
        }
        under_way.retain(|_, task| !task.is_finished());
        let (shared, rollout, question) =
            (Arc::clone(&self.shared), rollout.clone(), question.clone());
        let task = tokio::spawn(async move { shared.pursue(&rollout, &question).await });
        under_way.insert(key, task.abort_handle());
    }
}

impl Drop for Webhooks {
    fn drop(&mut self) {
        let under_way = self
            .under_way
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        under_way.values().for_each(AbortHandle::abort);
    }
}

impl Shared {
    /// Asks until there is an answer, or nobody waits for one.
    async fn pursue(&self, rollout: &Rollout, question: &Question) {
        let mut failures = 0_u32;
        // The status that made us ask may not be written yet: the first question is asked in any case.
        loop {
            let said = self.ask(rollout, question).await;
            let pause = match said {
                Ok(Said::Answer { approved, by, why }) => {
                    match self.write(rollout, question, approved, &by, &why).await {
                        Ok(()) => return,
                        Err(why) => {
                            tracing::warn!(rollout = rollout.name_any(), why, "an answer is lost");
                            failures = failures.saturating_add(1);
                            backoff(failures - 1)
                        }
                    }
                }
                Ok(Said::NotYet) => {
                    failures = 0;
                    question.webhook.interval.unsigned_abs()
                }
                Err(why) => {
                    // Told at the first failure, and seldom after it.
                    if failures.is_power_of_two() || failures == 0 {
                        self.tell(rollout, question, failures + 1, &why).await;
                    }
                    failures = failures.saturating_add(1);
                    backoff(failures - 1)
                }
            };
            sleep(pause).await;
            if !self.is_awaited(rollout, question) {
                return;
            }
        }
    }

    /// Whether the Rollout still waits at the gate with that revision.
    fn is_awaited(&self, rollout: &Rollout, question: &Question) -> bool {
        let namespace = rollout.namespace().unwrap_or_default();
        let seen = self.rollouts.get(&namespace, &rollout.name_any());
        seen.is_some_and(|seen| {
            let status = seen.status.clone().unwrap_or_default();
            let at_gate = WaitingOn::Gate {
                name: question.gate.clone(),
            };
            seen.uid() == rollout.uid()
                && status.current_pod_hash.as_deref() == Some(question.revision.as_str())
                && status.waiting_on == Some(at_gate)
        })
    }

    async fn ask(&self, rollout: &Rollout, question: &Question) -> Result<Said, String> {
        let webhook = &question.webhook;
        let uri: Uri = webhook
            .url
            .parse()
            .map_err(|_| "url: no address".to_owned())?;
        let host = uri.host().unwrap_or_default().to_owned();
        let body = Bytes::from(body(rollout, question).to_string());
        let mut headers = HeaderMap::new();
        headers.insert(
            header::CONTENT_TYPE,
            HeaderValue::from_static("application/json"),
        );
        let id = id(rollout, question);
        let at = self.clock.now().as_second();
        let mut signed = vec![
            ("webhook-id", id.clone()),
            ("webhook-timestamp", at.to_string()),
        ];
        if let Some(key) = &webhook.signing_key {
            let namespace = rollout.namespace().unwrap_or_default();
            let secret = read_secret(&self.client, &namespace, &key.secret_name, &key.key).await?;
            signed.push(("webhook-signature", signature(&secret, &id, at, &body)?));
        }
        for (name, value) in signed {
            let value = HeaderValue::try_from(value).map_err(|e| e.to_string())?;
            headers.insert(name, value);
        }
        let call = Call {
            method: Method::POST,
            uri,
            headers,
            body,
            deadline: webhook.deadline.unsigned_abs(),
            trust: Trust::default(),
            reach: Reach::Public,
        };
        // The turn is waited for outside of the deadline: it is nobody's fault.
        let _turn = self.turns.acquire().await;
        let (status, body) = self.fetcher.fetch(call).await?;
        read_answer(&host, status, &body)
    }

    /// Writes the answer as any client would; what was said of a revision that is gone does not count.
    async fn write(
        &self,
        rollout: &Rollout,
        question: &Question,
        approved: bool,
        by: &str,
        why: &str,
    ) -> Result<(), String> {
        let answer = json!({"revision": question.revision.as_str(), "approved": approved, "by": by, "why": why});
        let patch = json!({
            "metadata": {"uid": rollout.uid()},
            "status": {"gates": {question.gate.as_str(): answer}},
        });
        let namespace = rollout.namespace().unwrap_or_default();
        let api: Api<Rollout> = Api::namespaced(self.client.clone(), &namespace);
        let params = PatchParams {
            field_manager: Some(FIELD_MANAGER.into()),
            ..PatchParams::default()
        };
        let (name, patch) = (rollout.name_any(), Patch::Merge(patch));
        let writing = api.patch_status(&name, &params, &patch);
        match timeout(WRITE_DEADLINE, writing).await {
            Ok(Ok(_)) => Ok(()),
            Ok(Err(kube::Error::Api(status))) if [404, 409].contains(&status.code) => Ok(()),
            Ok(Err(error)) => Err(error.to_string()),
            Err(_) => Err("no answer in time".to_owned()),
        }
    }

    async fn tell(&self, rollout: &Rollout, question: &Question, attempt: u32, why: &str) {
        let note = Note {
            warning: true,
            reason: "GateUnanswered",
            message: format!("{} has no answer, attempt {attempt}: {why}", question.gate),
        };
        let about = rollout.object_ref(&());
        events::tell(&self.client, &about, &note, self.clock.now()).await;
    }
}

fn backoff(failures: u32) -> Duration {
    let factor = 2_u32.saturating_pow(failures.min(16));
    BACKOFF_FIRST.saturating_mul(factor).min(BACKOFF_CAP)
}

/// The same for every attempt, so that the service can tell a question that it knows.
fn id(rollout: &Rollout, question: &Question) -> String {
    let uid = rollout.uid().unwrap_or_default();
    let suffix = short(&[&uid, &question.gate, question.revision.as_str()]);
    format!("{}.{suffix}", question.revision)
}

fn body(rollout: &Rollout, question: &Question) -> Value {
    json!({
        "namespace": rollout.namespace(),
        "rollout": rollout.name_any(),
        "uid": rollout.uid(),
        "gate": question.gate,
        "revision": question.revision.as_str(),
        "stableRevision": question.stable.as_ref().map(|r| r.as_str()),
        "step": question.step,
        "changeCause": rollout.annotations().get(annotation::CHANGE_CAUSE),
    })
}

/// `v1,BASE64` over `ID.TIMESTAMP.BODY`.
fn signature(secret: &str, id: &str, at: i64, body: &[u8]) -> Result<String, String> {
    let key = match secret.trim().strip_prefix("whsec_") {
        Some(encoded) => STANDARD
            .decode(encoded)
            .map_err(|_| "signingKey: what follows whsec_ is no base64".to_owned())?,
        None => secret.as_bytes().to_vec(),
    };
    let key = hmac::Key::new(hmac::HMAC_SHA256, &key);
    let mut content = format!("{id}.{at}.").into_bytes();
    content.extend_from_slice(body);
    let tag = hmac::sign(&key, &content);
    Ok(format!("v1,{}", STANDARD.encode(tag.as_ref())))
}

/// 2xx approves unless the body says otherwise, 202 and 425 are asked again, 403 rejects; anything else is no answer.
///
/// # Errors
/// Why it is no answer, with nothing of the body in it.
fn read_answer(host: &str, status: StatusCode, body: &[u8]) -> Result<Said, String> {
    #[derive(Default, Deserialize)]
    #[serde(default)]
    struct Body {
        approved: Option<bool>,
        reason: String,
        by: String,
    }
    let is_json = body.first() == Some(&b'{');
    let said: Body = match serde_json::from_slice(body) {
        Ok(said) => said,
        Err(_) if is_json && status.is_success() => {
            return Err(format!(
                "{host} answers {status} and JSON that is no answer"
            ));
        }
        Err(_) => Body::default(),
    };
    let approved = match status {
        StatusCode::ACCEPTED | StatusCode::TOO_EARLY => return Ok(Said::NotYet),
        StatusCode::FORBIDDEN => false,
        status if status.is_success() => said.approved.unwrap_or(true),
        other => return Err(format!("{host} answers {other}")),
    };
    let by = cut(&said.by);
    let by = match by.as_str() {
        "" => format!("webhook {host}"),
        person => format!("{person} (webhook {host})"),
    };
    Ok(Said::Answer {
        approved,
        by,
        why: cut(&said.reason),
    })
}

fn cut(text: &str) -> String {
    let printable = text.chars().filter(|c| !c.is_control());
    printable.take(LONGEST_TEXT).collect()
}

#[cfg(test)]
mod tests;

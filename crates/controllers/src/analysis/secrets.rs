//! Arguments that are keys of Secrets: read right before a provider is asked, and kept out of everything that is shown.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::Secret;
use kube::{Api, Client, ResourceExt};
use serin_api::analysis::{AnalysisRun, MetricProvider};
use serin_engine::analysis::{Judgement, Measured, MetricValue, is_secret, reveal as fill};
use tokio::time::{Duration, timeout};

const DEADLINE: Duration = Duration::from_secs(10);
/// A secret shorter than this is no secret, and hiding it would garble every message.
const SHORTEST_HIDDEN: usize = 4;
const HIDDEN: &str = "***";

/// The values that must not be shown.
pub(super) struct Secrets(Vec<String>);

/// Fills the secrets of a run into a provider.
///
/// # Errors
/// The sentence for the person when a Secret or a key is missing.
pub(super) async fn reveal(
    client: &Client,
    run: &AnalysisRun,
    provider: &mut MetricProvider,
) -> Result<Secrets, String> {
    let mut values = BTreeMap::new();
    for argument in run.spec.args.iter().filter(|argument| is_secret(argument)) {
        let from = argument.value_from.as_ref();
        let Some(reference) = from.and_then(|from| from.secret_key_ref.as_ref()) else {
            continue;
        };
        let namespace = run.namespace().unwrap_or_default();
        let value = read(client, &namespace, &reference.name, &reference.key).await;
        let value = value.map_err(|why| format!("args.{}: {why}", argument.name))?;
        values.insert(argument.name.clone(), value);
    }
    if !values.is_empty() {
        *provider = fill(provider, &values)?;
    }
    let hidden = values.into_values();
    Ok(Secrets(
        hidden
            .filter(|value| value.len() >= SHORTEST_HIDDEN)
            .collect(),
    ))
}

/// The value of a key of a Secret.
///
/// # Errors
/// The sentence for the person when the Secret or the key is missing; never a value.
pub(crate) async fn read(
    client: &Client,
    namespace: &str,
    name: &str,
    key: &str,
) -> Result<String, String> {
    let api: Api<Secret> = Api::namespaced(client.clone(), namespace);
    let secret = match timeout(DEADLINE, api.get_opt(name)).await {
        Ok(Ok(Some(secret))) => secret,
        Ok(Ok(None)) => return Err(format!("Secret {namespace}/{name} not found")),
        Ok(Err(_)) | Err(_) => return Err(format!("Secret {namespace}/{name} cannot be read")),
    };
    let value = secret.data.unwrap_or_default().remove(key);
    let value = value.ok_or_else(|| format!("Secret {namespace}/{name} has no key {key:?}"))?;
    String::from_utf8(value.0)
        .map_err(|_| format!("{key:?} of Secret {namespace}/{name} is no text"))
}

impl Secrets {
    fn hide(&self, text: &str) -> String {
        let hide = |text: String, value: &String| text.replace(value.as_str(), HIDDEN);
        self.0.iter().fold(text.to_owned(), hide)
    }

    /// The same, with every secret in its texts hidden.
    pub(super) fn hide_in(&self, measured: Measured) -> Measured {
        match measured {
            Measured::Unavailable(why) => Measured::Unavailable(self.hide(&why)),
            Measured::Verdict(judgement) => Measured::Verdict(Judgement {
                message: judgement.message.map(|why| self.hide(&why)),
                ..judgement
            }),
            Measured::Value(MetricValue::Document(serde_json::Value::String(text))) => {
                Measured::Value(MetricValue::Document(self.hide(&text).into()))
            }
            other => other,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_stands_in_no_message() {
        let secrets = Secrets(vec!["hunter2".into()]);
        let told = secrets.hide_in(Measured::Unavailable(
            "GET http://a/?key=hunter2: 404".into(),
        ));
        assert_eq!(
            told,
            Measured::Unavailable("GET http://a/?key=***: 404".into())
        );
    }
}

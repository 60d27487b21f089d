//! Writes the status of one pod: the latest only, until it is written.

use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Pod, PodStatus};
use kube::Api;
use kube::api::{DeleteParams, PostParams, Preconditions};
use tokio::sync::watch;

use super::Seen;
use crate::pod::status::merge;

/// Conflicts in a row after which a write waits like after any other failure.
const MAX_CONFLICTS: u32 = 8;
const FIRST_WAIT: Duration = Duration::from_millis(100);
const LONGEST_WAIT: Duration = Duration::from_secs(5);

/// One pod in the API.
pub(super) struct Writer {
    api: Api<Pod>,
    name: String,
    uid: String,
    /// What the next write starts from.
    base: Arc<Pod>,
}

/// What became of a write.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Written {
    /// The object says it now.
    Done,
    /// The object is gone, or another one has its name.
    Gone,
}

impl Writer {
    /// A writer for this object and no later one of the same name.
    pub(super) fn new(client: kube::Client, pod: &Arc<Pod>) -> Self {
        let meta = &pod.metadata;
        Self {
            api: Api::namespaced(client, meta.namespace.as_deref().unwrap_or("default")),
            name: meta.name.clone().unwrap_or_default(),
            uid: meta.uid.clone().unwrap_or_default(),
            base: Arc::clone(pod),
        }
    }

    /// Writes each new draft until the drafts end or the object is gone.
    pub(super) async fn run(
        mut self,
        mut drafts: watch::Receiver<Option<PodStatus>>,
        mut seen: watch::Receiver<Seen>,
    ) {
        let mut wait = FIRST_WAIT;
        loop {
            let draft = drafts.borrow_and_update().clone();
            if let Some(draft) = draft {
                if seen.has_changed().unwrap_or(false) {
                    self.base = Arc::clone(&seen.borrow_and_update().pod);
                }
                match self.write(&draft).await {
                    Ok(Written::Done) => wait = FIRST_WAIT,
                    Ok(Written::Gone) => return,
                    Err(error) => {
                        tracing::warn!(pod = %self.name, %error, "the status was not written, trying again");
                        // A newer draft need not wait for the old one's turn.
                        let _ = tokio::time::timeout(wait, drafts.changed()).await;
                        drafts.mark_changed();
                        wait = (wait * 2).min(LONGEST_WAIT);
                    }
                }
            }
            if drafts.changed().await.is_err() {
                return;
            }
        }
    }

    /// Writes a draft over the latest status; what others wrote stays.
    pub(super) async fn write(&mut self, draft: &PodStatus) -> kube::Result<Written> {
        for _ in 0..MAX_CONFLICTS {
            if self.base.metadata.uid.as_deref() != Some(&self.uid) {
                return Ok(Written::Gone);
            }
            let before = self.base.status.clone().unwrap_or_default();
            let status = merge(draft, &before, Timestamp::now());
            if status == before {
                return Ok(Written::Done);
            }
            let mut pod = Pod::clone(&self.base);
            pod.metadata.managed_fields = None;
            pod.status = Some(status);
            match self
                .api
                .replace_status(&self.name, &PostParams::default(), &pod)
                .await
            {
                Ok(pod) => {
                    self.base = Arc::new(pod);
                    return Ok(Written::Done);
                }
                Err(error) if code(&error) == Some(409) => {
                    match self.api.get_opt(&self.name).await? {
                        Some(pod) => self.base = Arc::new(pod),
                        None => return Ok(Written::Gone),
                    }
                }
                Err(error) if code(&error) == Some(404) => return Ok(Written::Gone),
                Err(error) => return Err(error),
            }
        }
        Err(kube::Error::Service(
            "the object changes faster than it can be written".into(),
        ))
    }

    /// Deletes the object for good; goes on until it is gone.
    pub(super) async fn delete(&self) {
        let params = DeleteParams {
            grace_period_seconds: Some(0),
            preconditions: Some(Preconditions {
                uid: Some(self.uid.clone()),
                resource_version: None,
            }),
            ..DeleteParams::default()
        };
        let mut wait = FIRST_WAIT;
        loop {
            match self.api.delete(&self.name, &params).await {
                Ok(_) => return,
                // Gone already, or another object has the name: either way this one is not there.
                Err(error) if matches!(code(&error), Some(404 | 409)) => return,
                Err(error) => {
                    tracing::warn!(pod = %self.name, %error, "the pod was not deleted, trying again");
                }
            }
            tokio::time::sleep(wait).await;
            wait = (wait * 2).min(LONGEST_WAIT);
        }
    }
}

/// The HTTP status of an answer that is a refusal.
pub(crate) fn code(error: &kube::Error) -> Option<u16> {
    match error {
        kube::Error::Api(status) => Some(status.code),
        _ => None,
    }
}

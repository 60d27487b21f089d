//! The controller of Jobs.

use std::sync::Arc;

use k8s_openapi::api::batch::v1::{Job, JobStatus};
use k8s_openapi::api::core::v1::Pod;
use kube::{Api, Client, Resource};
use serin_engine::job::{self, Action, Desired, JobPod, Observed};
use serin_engine::rollout::Note;

use crate::clock::Clock;
use crate::events::tell;
use crate::shell::{self, Cache, Error, ErrorKind, Hub, Next, Reconcile};
use crate::workload::owner;

pub(crate) fn start(hub: &mut Hub, jobs: &Cache<Job>, pods: &Cache<Pod>) {
    let controller = Controller {
        client: hub.client.clone(),
        clock: hub.clock.clone(),
        jobs: jobs.clone(),
        pods: pods.clone(),
    };
    let (main, pods) = (jobs.clone(), pods.clone());
    hub.run(controller, jobs, move || {
        vec![pods.triggers(&main, |pod| owner(&pod.metadata).into_iter().collect())]
    });
}

struct Controller {
    client: Client,
    clock: Clock,
    jobs: Cache<Job>,
    pods: Cache<Pod>,
}

impl Reconcile for Controller {
    type Object = Job;
    const NAME: &'static str = "job";

    async fn reconcile(&self, job: Arc<Job>) -> Result<Next, Error> {
        let uid = job.metadata.uid.as_deref().unwrap_or_default();
        if !self.jobs.is_current(uid) || !self.pods.is_current(uid) {
            return Ok(Next::OwnWrites);
        }
        let now = self.clock.now();
        let desired = job::lower(&job);
        let observed = self.observe(&job, &desired);
        let plan = job::plan(&desired, &observed, now);
        for action in &plan.actions {
            self.carry_out(&job, &desired, action).await?;
        }
        self.write_status(&job, plan.status).await?;
        if let Some((reason, message)) = plan.note {
            let note = Note {
                warning: reason != "Completed",
                reason,
                message,
            };
            tell(&self.client, &job.object_ref(&()), &note, now).await;
        }
        Ok(Next::wake(plan.wake_at))
    }
}

impl Controller {
    fn observe(&self, job: &Job, desired: &Desired) -> Observed {
        let namespace = job.metadata.namespace.as_deref().unwrap_or_default();
        let own = self.pods.controlled_by(&desired.uid);
        Observed {
            pods: own.iter().map(|pod| JobPod::from_pod(pod)).collect(),
            // A long name is cut in the names of its pods.
            taken: self
                .pods
                .names(namespace, desired.name.get(..20).unwrap_or(&desired.name)),
            status: job.status.clone().unwrap_or_default(),
        }
    }

    async fn carry_out(&self, job: &Job, desired: &Desired, action: &Action) -> Result<(), Error> {
        let namespace = job.metadata.namespace.as_deref().unwrap_or_default();
        let pods: Api<Pod> = Api::namespaced(self.client.clone(), namespace);
        let written = match action {
            Action::Create(pod) => shell::create(&pods, pod).await?,
            Action::Delete { name, uid } => shell::delete(&pods, name, uid).await?,
            Action::Forget => {
                let jobs: Api<Job> = Api::namespaced(self.client.clone(), namespace);
                shell::delete(&jobs, &desired.name, &desired.uid).await?;
                None
            }
        };
        if let Some(pod) = written {
            self.pods.wrote(&desired.uid, &pod);
        }
        Ok(())
    }

    async fn write_status(&self, job: &Job, status: JobStatus) -> Result<(), Error> {
        if job.status.as_ref() == Some(&status) {
            return Ok(());
        }
        let namespace = job.metadata.namespace.as_deref().unwrap_or_default();
        let api: Api<Job> = Api::namespaced(self.client.clone(), namespace);
        let changed = Job {
            status: Some(status),
            ..job.clone()
        };
        match shell::write_status(&api, &changed).await {
            Ok(written) => {
                let uid = job.metadata.uid.as_deref().unwrap_or_default();
                self.jobs.wrote(uid, &written);
                Ok(())
            }
            // It is gone, and with it the need for a status.
            Err(error) if error.kind() == ErrorKind::Missing => Ok(()),
            Err(error) => Err(error),
        }
    }
}

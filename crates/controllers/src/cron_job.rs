//! The controller of CronJobs.

use std::sync::Arc;

use jiff::tz::TimeZone;
use k8s_openapi::api::batch::v1::{CronJob, CronJobStatus, Job};
use kube::{Api, Client, Resource};
use serin_api::cron::Schedule;
use serin_engine::cron_job::{self, Action, Desired, JobView};
use serin_engine::rollout::Note;

use crate::clock::Clock;
use crate::events::tell;
use crate::shell::{self, Cache, Error, ErrorKind, Hub, Next, Reconcile};
use crate::workload::owner;

pub(crate) fn start(hub: &mut Hub, jobs: &Cache<Job>) {
    let cron_jobs = hub.watch();
    let controller = Controller {
        client: hub.client.clone(),
        clock: hub.clock.clone(),
        cron_jobs: cron_jobs.clone(),
        jobs: jobs.clone(),
    };
    let (main, jobs) = (cron_jobs.clone(), jobs.clone());
    hub.run(controller, &cron_jobs, move || {
        vec![jobs.triggers(&main, |job| owner(&job.metadata).into_iter().collect())]
    });
}

struct Controller {
    client: Client,
    clock: Clock,
    cron_jobs: Cache<CronJob>,
    jobs: Cache<Job>,
}

impl Reconcile for Controller {
    type Object = CronJob;
    const NAME: &'static str = "cronjob";

    async fn reconcile(&self, object: Arc<CronJob>) -> Result<Next, Error> {
        let uid = object.metadata.uid.as_deref().unwrap_or_default();
        if !self.cron_jobs.is_current(uid) || !self.jobs.is_current(uid) {
            return Ok(Next::OwnWrites);
        }
        let now = self.clock.now();
        let desired = match desired(&object) {
            Ok(desired) => desired,
            Err((reason, message)) => {
                let note = warning(reason, message);
                tell(&self.client, &object.object_ref(&()), &note, now).await;
                return Ok(Next::Change);
            }
        };
        let own = self.jobs.controlled_by(uid);
        let own: Vec<JobView> = own.iter().map(|job| JobView::from_job(job)).collect();
        let plan = cron_job::plan(&desired, &own, now);
        for action in &plan.actions {
            self.carry_out(&object, action).await?;
        }
        self.write_status(&object, plan.status).await?;
        if let Some((reason, message)) = plan.warning {
            let note = warning(reason, message);
            tell(&self.client, &object.object_ref(&()), &note, now).await;
        }
        Ok(Next::wake(plan.wake_at))
    }
}

fn warning(reason: &'static str, message: String) -> Note {
    Note {
        warning: true,
        reason,
        message,
    }
}

/// What the object wants, with its zone of time from the tables of the machine; or why it cannot be had.
fn desired(object: &CronJob) -> Result<Desired, (&'static str, String)> {
    let spec = object.spec.clone().unwrap_or_default();
    let schedule = Schedule::parse(&spec.schedule);
    let schedule = schedule.map_err(|why| ("UnparseableSchedule", why))?;
    let zone = match spec.time_zone.as_deref() {
        None => Ok(TimeZone::UTC),
        Some(name) => TimeZone::get(name),
    };
    Ok(Desired {
        object: object.clone(),
        schedule,
        zone: zone.map_err(|error| ("UnknownTimeZone", error.to_string()))?,
    })
}

impl Controller {
    async fn carry_out(&self, object: &CronJob, action: &Action) -> Result<(), Error> {
        let namespace = object.metadata.namespace.as_deref().unwrap_or_default();
        let jobs: Api<Job> = Api::namespaced(self.client.clone(), namespace);
        let written = match action {
            Action::Create(job) => shell::create(&jobs, job).await?,
            Action::Delete { name, uid } => shell::delete(&jobs, name, uid).await?,
        };
        if let Some(job) = written {
            let uid = object.metadata.uid.as_deref().unwrap_or_default();
            self.jobs.wrote(uid, &job);
        }
        Ok(())
    }

    async fn write_status(&self, object: &CronJob, status: CronJobStatus) -> Result<(), Error> {
        if object.status.as_ref() == Some(&status) {
            return Ok(());
        }
        let namespace = object.metadata.namespace.as_deref().unwrap_or_default();
        let api: Api<CronJob> = Api::namespaced(self.client.clone(), namespace);
        let changed = CronJob {
            status: Some(status),
            ..object.clone()
        };
        match shell::write_status(&api, &changed).await {
            Ok(written) => {
                let uid = object.metadata.uid.as_deref().unwrap_or_default();
                self.cron_jobs.wrote(uid, &written);
                Ok(())
            }
            // It is gone, and with it the need for a status.
            Err(error) if error.kind() == ErrorKind::Missing => Ok(()),
            Err(error) => Err(error),
        }
    }
}

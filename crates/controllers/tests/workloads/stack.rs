//! How much stack the controllers need. Nobody chooses the threads on which they are polled, and without optimisation a future that
//! moves large objects through many layers fills one.

use std::sync::mpsc::{self, RecvTimeoutError};
use std::thread;
use std::time::Duration;

use serin_api::rollout::{Rollout, RolloutPhase};
use serin_controllers::Config;
use tokio::runtime::{Builder, Runtime};
use tokio_util::sync::CancellationToken;

use serde_json::json;

use crate::rollouts::{is, release, rollout, until};
use crate::world::World;

/// Half of what a thread of the runtime has.
const STACK_BYTES: usize = 1024 * 1024;

/// The controllers have a thread of their own, which is small; who watches them has a large one.
#[test]
fn a_release_fits_into_half_a_stack() {
    let (sender, clients) = mpsc::channel();
    let (running, ended) = mpsc::channel::<()>();
    let shutdown = CancellationToken::new();
    let stopped = shutdown.clone();
    let small = thread::Builder::new().stack_size(STACK_BYTES);
    let controllers = small.spawn(move || {
        let _running = running;
        let client = clients.recv().unwrap();
        runtime().block_on(serin_controllers::run(client, Config::default(), stopped));
    });
    let large = thread::Builder::new().stack_size(8 * STACK_BYTES);
    let watching = large.spawn(move || {
        runtime().block_on(async move {
            let mut world = World::start_with(Duration::from_millis(25));
            world.kill_controllers().await;
            sender.send(world.client.clone()).unwrap();
            let canary = json!({"canary": {"steps": [{"setWeight": 20}]}});
            world.create::<Rollout>(rollout("v1", canary)).await;
            until(&world, "healthy", is(RolloutPhase::Healthy)).await;
            release(&world, "v2").await;
            until(&world, "healthy again", is(RolloutPhase::Healthy)).await;
            shutdown.cancel();
            world.stop().await;
        });
    });
    watching.unwrap().join().unwrap();
    let end = ended.recv_timeout(Duration::from_secs(60));
    assert_eq!(
        end,
        Err(RecvTimeoutError::Disconnected),
        "the controllers do not end"
    );
    controllers.unwrap().join().unwrap();
}

fn runtime() -> Runtime {
    Builder::new_current_thread().enable_all().build().unwrap()
}

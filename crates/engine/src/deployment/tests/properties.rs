//! The bounds hold at every instant, whatever comes in whatever order, and everything comes to rest once the faults stop.

use proptest::prelude::*;
use serde_json::json;
use serin_api::waiting::WaitingOn;

use super::model::{Harm, World};
use crate::deployment;
use crate::workload::{PodView, ReplicaSetView};

#[derive(Clone, Debug)]
enum Event {
    Deliver(usize),
    DeliverAll,
    RunDeployment { limit: usize },
    RunSet { which: usize, limit: usize },
    Ready(usize),
    Gone(usize),
    Harm(usize, Harm),
    Wait(i64),
    Image(u8),
    Scale(u32),
    Pause(bool),
    Bounds { surge: u32, unavailable: u32 },
    Settle,
}

fn work() -> impl Strategy<Value = Event> {
    let limit = prop_oneof![4 => Just(usize::MAX), 1 => 0..3_usize];
    prop_oneof![
        4 => (0..64_usize).prop_map(Event::Deliver),
        2 => Just(Event::DeliverAll),
        6 => limit.clone().prop_map(|limit| Event::RunDeployment { limit }),
        8 => (0..8_usize, limit).prop_map(|(which, limit)| Event::RunSet { which, limit }),
        8 => (0..32_usize).prop_map(Event::Ready),
        3 => (0..32_usize).prop_map(Event::Gone),
        2 => (1..8_i64).prop_map(Event::Wait),
    ]
}

fn fault() -> impl Strategy<Value = Event> {
    let how = prop_oneof![Just(Harm::Unready), Just(Harm::Failed), Just(Harm::Deleted)];
    (0..32_usize, how).prop_map(|(which, how)| Event::Harm(which, how))
}

fn edit() -> impl Strategy<Value = Event> {
    prop_oneof![
        4 => (0..5_u8).prop_map(Event::Image),
        2 => (0..9_u32).prop_map(Event::Scale),
        1 => any::<bool>().prop_map(Event::Pause),
        1 => (0..4_u32, 0..4_u32).prop_filter_map("both 0", |(surge, unavailable)| {
            (surge + unavailable > 0).then_some(Event::Bounds { surge, unavailable })
        }),
    ]
}

fn events() -> impl Strategy<Value = Vec<Event>> {
    let event = prop_oneof![
        30 => work(),
        2 => edit(),
        1 => fault(),
        1 => Just(Event::Settle),
    ];
    prop::collection::vec(event, 0..200)
}

fn step(world: &mut World, event: &Event) {
    let pick = |names: Vec<String>, at: usize| {
        (!names.is_empty()).then(|| names[at % names.len()].clone())
    };
    match event {
        Event::Deliver(at) => world.deliver(*at),
        Event::DeliverAll => world.deliver_all(),
        Event::RunDeployment { limit } => {
            world.run_deployment(*limit);
        }
        Event::RunSet { which, limit } => {
            let names = world.seen.sets.keys().cloned().collect();
            if let Some(name) = pick(names, *which) {
                world.run_set(&name, *limit);
            }
        }
        Event::Ready(which) => {
            if let Some(name) = pick(world.pods_where(|p| p.is_live() && !p.ready), *which) {
                world.make_ready(&name);
            }
        }
        Event::Gone(which) => {
            if let Some(name) = pick(world.pods_where(|p| p.terminating), *which) {
                world.truth.pods.remove(&name);
            }
        }
        Event::Harm(which, how) => {
            if let Some(name) = pick(world.pods_where(PodView::is_live), *which) {
                world.harm(&name, *how);
            }
        }
        Event::Wait(seconds) => world.now += seconds,
        Event::Image(version) => {
            let kind = if *version == 0 { "bad" } else { "good" };
            world.image(&format!("{kind}-{version}"));
        }
        Event::Scale(replicas) => world.edit(json!({"replicas": replicas})),
        Event::Pause(paused) => world.edit(json!({"paused": paused})),
        Event::Bounds { surge, unavailable } => world.edit(json!({"strategy": {
            "type": "RollingUpdate",
            "rollingUpdate": {"maxSurge": surge, "maxUnavailable": unavailable},
        }})),
        Event::Settle => world.settle(check_bounds),
    }
}

fn check_bounds(world: &World) {
    let (total, good) = world.totals();
    assert!(
        total <= world.ceiling,
        "{total} pods, at most {} are allowed",
        world.ceiling
    );
    assert!(
        good + world.lost >= world.floor,
        "{good} available and {} lost to faults, {} are promised",
        world.lost,
        world.floor
    );
}

/// No version begins before all pods of the others have ended.
fn check_alone(world: &World) {
    let alive = |p: &&PodView| !p.is_finished();
    let mut owners: Vec<_> = world
        .truth
        .pods
        .values()
        .filter(alive)
        .map(|p| p.owner_uid.clone())
        .collect();
    owners.sort();
    owners.dedup();
    assert!(owners.len() <= 1, "two versions run at once: {owners:?}");
}

/// Ends the faults and checks what is there in the end.
fn heal(world: &mut World, check: fn(&World)) {
    world.image("good-last");
    world.edit(json!({"paused": false}));
    world.settle(check);
    let want = world.desired().replicas;
    assert_eq!(world.totals(), (want, want));
    let images = world.truth.sets.values().filter_map(|rs| {
        let spec = rs.spec.as_ref()?;
        (spec.replicas != Some(0)).then(|| {
            let template = spec.template.clone().unwrap_or_default();
            template.spec.unwrap().containers[0].image.clone().unwrap()
        })
    });
    let images: Vec<_> = images.collect();
    assert!(
        images.iter().all(|image| image == "good-last"),
        "{images:?}"
    );
    let sets: Vec<_> = world.truth.sets.values().cloned().collect();
    let waiting = deployment::waiting_on(&world.deployment, &sets);
    assert_eq!(waiting, WaitingOn::Nothing);
    let status = world.status();
    let progressing = status
        .conditions
        .iter()
        .flatten()
        .find(|c| c.type_ == "Progressing");
    assert_eq!(
        progressing.and_then(|c| c.reason.as_deref()),
        Some("NewReplicaSetAvailable")
    );
    let mut revisions: Vec<_> = sets
        .iter()
        .map(|rs| ReplicaSetView::from_replica_set(rs).revision)
        .collect();
    revisions.sort_unstable();
    revisions.dedup();
    assert_eq!(
        revisions.len(),
        sets.len(),
        "every version has its own number"
    );
    assert!(sets.len() <= 11, "ten old versions are kept");
}

fn world(replicas: u32, surge: u32, unavailable: u32, min_ready: u32) -> World {
    World::new(json!({
        "replicas": replicas,
        "minReadySeconds": min_ready,
        "strategy": {
            "type": "RollingUpdate",
            "rollingUpdate": {"maxSurge": surge, "maxUnavailable": unavailable},
        },
    }))
}

proptest! {
    #![proptest_config(ProptestConfig { max_shrink_iters: 5_000, ..ProptestConfig::default() })]

    #[test]
    fn a_rolling_update_stays_in_its_bounds(
        replicas in 1..8_u32,
        surge in 0..4_u32,
        unavailable in 0..4_u32,
        min_ready in prop_oneof![Just(0_u32), Just(7_u32)],
        events in events(),
    ) {
        prop_assume!(surge + unavailable > 0);
        let mut world = world(replicas, surge, unavailable, min_ready);
        world.settle(|_| {});
        for event in &events {
            step(&mut world, event);
            check_bounds(&world);
        }
        heal(&mut world, check_bounds);
    }

    #[test]
    fn recreate_never_runs_two_versions(replicas in 1..6_u32, events in events()) {
        let mut world = World::new(json!({"replicas": replicas, "strategy": {"type": "Recreate"}}));
        for event in &events {
            if matches!(event, Event::Bounds { .. } | Event::Settle) {
                continue;
            }
            step(&mut world, event);
            check_alone(&world);
        }
        heal(&mut world, check_alone);
    }
}

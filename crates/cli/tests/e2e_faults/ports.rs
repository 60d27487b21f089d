//! Ports that somebody else has: he is named and left alone, and users are served on.

use std::net::TcpListener;

use crate::apps;
use crate::processes::kill_control_plane;
use crate::support::{Platform, get};

/// Fails to start with the given addresses; tells what it said.
async fn refused(platform: &Platform, api: &str, gateway: &str) -> String {
    let arguments = [
        "up",
        "--detach",
        "--listen",
        api,
        "--gateway-listen",
        gateway,
    ];
    let told = platform.try_serin(&arguments).await;
    assert_eq!(told.code, Some(75), "{told:?}");
    told.stderr
}

#[tokio::test]
async fn the_holder_of_a_port_is_named_and_left_alone() {
    let foreign = TcpListener::bind("127.0.0.1:0").unwrap();
    let taken = foreign.local_addr().unwrap().to_string();
    let me = format!("(pid {})", std::process::id());
    let platform = Platform::new();
    for (api, gateway, option) in [
        (taken.as_str(), "127.0.0.1:0", "--listen"),
        ("127.0.0.1:0", &taken, "--gateway-listen"),
    ] {
        let told = refused(&platform, api, gateway).await;
        assert!(
            told.contains(&me) && told.contains(option) && told.contains(&taken),
            "{told}"
        );
        assert_eq!(platform.processes(), []);
    }
    foreign.set_nonblocking(true).unwrap();
    assert!(foreign.accept().is_err(), "nobody has spoken to it");
}

#[tokio::test]
async fn users_are_served_on_while_the_api_cannot_start() {
    let platform = apps::started(&apps::deployment(apps::pods("v1", &[]))).await;
    let gateway = platform.gateway().await;
    kill_control_plane(&platform).await;
    let foreign = TcpListener::bind("127.0.0.1:0").unwrap();
    let taken = foreign.local_addr().unwrap().to_string();
    let before = platform.processes();
    refused(&platform, &taken, "127.0.0.1:0").await;
    assert_eq!(platform.processes(), before);
    assert_eq!(get(gateway, apps::HOST, "/").await.unwrap().version(), "v1");
    platform.up(&[]).await;
    apps::healthy(&platform).await;
}

#[tokio::test]
async fn an_instance_whose_port_is_taken_waits_and_says_who_has_it() {
    let foreign = TcpListener::bind("0.0.0.0:0").unwrap();
    let port = foreign.local_addr().unwrap().port();
    let platform = apps::started(&apps::deployment(apps::pods("v1", &[]))).await;
    let gateway = platform.gateway().await;
    let mut template = apps::pods("v2", &[]);
    template["spec"]["containers"][0]["ports"][0]["containerPort"] = port.into();
    platform.apply(&apps::deployment(template)).await;
    let holder = format!("process {} (", std::process::id());
    let told = crate::support::poll("the cause", async || {
        let pods = apps::pods_of(&platform).await;
        let mut causes = pods.iter().filter_map(crate::bad_versions::cause);
        causes.find(|cause| cause.contains(&holder))
    });
    println!("port of an instance taken: {}", told.await);
    assert_eq!(get(gateway, apps::HOST, "/").await.unwrap().version(), "v1");
}

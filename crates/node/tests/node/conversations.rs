//! Commands in running containers that somebody talks with.

use k8s_openapi::api::core::v1::Pod;
use serde_json::json;
use serin_node::{Conversation, ConversationRequest, Ending, converse};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::signal::unix::{SignalKind, signal};

use crate::waiting::soon;
use crate::world::World;

fn request(pod: &Pod, argv: &[&str]) -> ConversationRequest {
    ConversationRequest {
        uid: pod.metadata.uid.clone().unwrap(),
        container: "main".into(),
        argv: argv.iter().map(|&a| a.to_owned()).collect(),
        stdin: true,
        terminal: false,
    }
}

async fn text(mut from: impl tokio::io::AsyncRead + Unpin) -> String {
    let mut bytes = Vec::new();
    // The end of a terminal is an error.
    let _ = soon("the end of the output", from.read_to_end(&mut bytes)).await;
    String::from_utf8(bytes).unwrap()
}

async fn running(world: &World) -> Pod {
    let env =
        json!({"containers": [{"name": "main", "env": [{"name": "GREETING", "value": "hello"}]}]});
    let pod = world.script("talk", "sleep 1000", env).await;
    world.until_ready("talk").await;
    pod
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_command_has_the_environment_and_streams_of_its_own() {
    let world = World::new(false);
    let pod = running(&world).await;
    let script = "echo $GREETING of $POD_NAME; cat; echo err >&2; exit 3";
    let request = request(&pod, &["sh", "-c", script]);
    let begun = converse(world.home.path(), request).await.unwrap();
    let Conversation {
        stdin,
        stdout,
        stderr,
        end,
        ..
    } = begun;
    let mut stdin = stdin.unwrap();
    stdin.write_all(b"said\n").await.unwrap();
    drop(stdin);
    let (out, err, ending) = tokio::join!(
        text(stdout),
        text(stderr.unwrap()),
        soon("the end of a command", end)
    );
    assert_eq!(
        (out.as_str(), err.as_str()),
        ("hello of talk\nsaid\n", "err\n")
    );
    assert_eq!(ending, Ending::Exited(3));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_terminal_has_a_size_and_passes_signals_on() {
    // What a shell starts in the background ignores the signal, and so would the command; with a handler here it does not.
    let _interrupts = signal(SignalKind::interrupt()).unwrap();
    let world = World::new(false);
    let pod = running(&world).await;
    let script =
        "trap 'echo interrupted; exit 7' INT; read go; stty size; while true; do sleep 0.05; done";
    let mut request = request(&pod, &["sh", "-c", script]);
    request.terminal = true;
    let begun = converse(world.home.path(), request).await.unwrap();
    let (mut stdin, mut stdout) = (begun.stdin.unwrap(), begun.stdout);
    (begun.resize)(90, 33);
    stdin.write_all(b"go\n").await.unwrap();
    let mut shown = Vec::new();
    while !String::from_utf8_lossy(&shown).contains("33 90") {
        let read = soon("what a terminal shows", stdout.read_buf(&mut shown)).await;
        assert_ne!(read.unwrap(), 0, "{}", String::from_utf8_lossy(&shown));
    }
    stdin.write_all(&[3]).await.unwrap();
    let (rest, ending) = tokio::join!(text(stdout), soon("the end of a command", begun.end));
    assert!(rest.contains("interrupted"), "{rest}");
    assert_eq!(ending, Ending::Exited(7));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_command_ends_with_its_caller() {
    let world = World::new(false);
    let pod = running(&world).await;
    let request = request(&pod, &["sh", "-c", "echo up; exec sleep 1000"]);
    let begun = converse(world.home.path(), request).await.unwrap();
    let mut stdout = begun.stdout;
    let mut up = [0; 3];
    soon("the first output", stdout.read_exact(&mut up))
        .await
        .unwrap();
    drop(begun.end);
    // Only the end of the command closes its output.
    assert_eq!(text(stdout).await, "");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_cannot_be_started_is_told() {
    let world = World::new(false);
    let pod = running(&world).await;
    let told = async |request| match converse(world.home.path(), request).await {
        Ok(_) => "it runs".to_owned(),
        Err(error) => error.to_string(),
    };
    let nothing = told(request(&pod, &["nope"])).await;
    assert!(
        nothing.starts_with("exec nope: no such program in PATH"),
        "{nothing}"
    );
    let mut elsewhere = request(&pod, &["true"]);
    elsewhere.container = "side".into();
    assert_eq!(told(elsewhere).await, "container \"side\" is not running");
    let mut outside = request(&pod, &["true"]);
    outside.container = "../main".into();
    assert_eq!(
        told(outside).await,
        "\"../main\" is no name of a pod or container"
    );
}

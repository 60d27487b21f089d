//! Commands in containers over a real connection, with a node that is made up.

use std::sync::Arc;

use futures::future::BoxFuture;
use futures::{FutureExt, SinkExt, StreamExt};
use http::{HeaderValue, Request, StatusCode, header};
use serde_json::{Value, json};
use serin_apiserver::{ApiServer, ExecError, ExecRequest, Execution, PodExec, Store, serve};
use tokio::io::AsyncReadExt;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::oneshot;
use tokio::task::JoinHandle;
use tokio_tungstenite::tungstenite::client::IntoClientRequest;
use tokio_tungstenite::tungstenite::{Error, Message};
use tokio_tungstenite::{WebSocketStream, client_async};

use crate::support::pod;
use crate::waiting::soon;

/// Tells what it was asked to run, repeats its input, and ends with the number of bytes in it.
struct Echo;

impl PodExec for Echo {
    fn exec(&self, request: ExecRequest) -> BoxFuture<'_, Result<Execution, ExecError>> {
        async move {
            if request.command == ["refused"] {
                return Err(ExecError("exec refused: no such program".into()));
            }
            if request.command == ["endless"] {
                let (stdout, output) = tokio::io::duplex(64);
                return Ok(Execution {
                    stdin: None,
                    stdout: Box::new(stdout),
                    stderr: None,
                    resize: Box::new(|_, _| {}),
                    end: async move {
                        let _kept = output;
                        std::future::pending().await
                    }
                    .boxed(),
                });
            }
            let (stdin, mut input) = tokio::io::duplex(64);
            let said = request.command.join(" ");
            let (done, told) = tokio::sync::oneshot::channel();
            let (mut output, stdout) = tokio::io::duplex(64);
            tokio::spawn(async move {
                use tokio::io::AsyncWriteExt;
                let mut bytes = Vec::new();
                if request.stdin {
                    input.read_to_end(&mut bytes).await.unwrap();
                }
                output.write_all(said.as_bytes()).await.unwrap();
                output.write_all(&bytes).await.unwrap();
                done.send(bytes.len()).unwrap();
            });
            Ok(Execution {
                stdin: request.stdin.then(|| Box::new(stdin) as _),
                stdout: Box::new(stdout),
                stderr: Some(Box::new(tokio::io::empty())),
                resize: Box::new(|_, _| {}),
                end: async { Ok(i32::try_from(told.await.unwrap()).unwrap()) }.boxed(),
            })
        }
        .boxed()
    }
}

/// Asks to run something in the Pod `talk`.
async fn ask(query: &str, protocol: &str) -> Result<WebSocketStream<TcpStream>, Error> {
    let part = format!("exec?{query}");
    ask_of_server(&part, protocol, std::future::pending())
        .await
        .0
}

/// Asks for a part of the Pod `talk` of a server that ends when `shutdown` is ready.
async fn ask_of_server(
    part: &str,
    protocol: &str,
    shutdown: impl Future<Output = ()> + Send + 'static,
) -> (Result<WebSocketStream<TcpStream>, Error>, JoinHandle<()>) {
    let server = ApiServer::new(Store::in_memory()).with_exec(Arc::new(Echo));
    let client = kube::Client::new(server.router(), "default");
    let pods: kube::Api<k8s_openapi::api::core::v1::Pod> = kube::Api::default_namespaced(client);
    pods.create(&Default::default(), &pod("talk"))
        .await
        .unwrap();
    let running = json!({"status": {"phase": "Running", "podIP": "127.0.0.1"}});
    let running = kube::api::Patch::Merge(running);
    pods.patch_status("talk", &Default::default(), &running)
        .await
        .unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let serving = tokio::spawn(serve(listener, server.router(), shutdown));
    let url = format!("ws://{address}/api/v1/namespaces/default/pods/talk/{part}");
    let mut request: Request<()> = url.into_client_request().unwrap();
    let protocol = HeaderValue::from_str(protocol).unwrap();
    request
        .headers_mut()
        .insert(header::SEC_WEBSOCKET_PROTOCOL, protocol);
    let stream = TcpStream::connect(address).await.unwrap();
    let answer = soon("the answer to the upgrade", client_async(request, stream)).await;
    (answer.map(|(socket, _)| socket), serving)
}

/// All that comes, by channel.
async fn told(mut socket: WebSocketStream<TcpStream>) -> [String; 4] {
    let mut told: [String; 4] = Default::default();
    while let Some(Ok(message)) = soon("what a command tells", socket.next()).await {
        if let Message::Binary(bytes) = message {
            let text = std::str::from_utf8(&bytes[1..]).unwrap();
            told[usize::from(bytes[0])].push_str(text);
        }
    }
    told
}

#[tokio::test]
async fn a_command_tells_its_output_and_its_end() {
    let socket = ask(
        "command=say&command=it&stdout=true&stderr=true",
        "v5.channel.k8s.io",
    )
    .await;
    let [_, out, err, end] = told(socket.unwrap()).await;
    assert_eq!((out.as_str(), err.as_str()), ("say it", ""));
    assert_eq!(end, r#"{"metadata":{},"status":"Success"}"#);
}

#[tokio::test]
async fn input_ends_where_the_client_says() {
    let query = "command=:&stdin=true&stdout=true";
    let mut socket = ask(query, "v5.channel.k8s.io, v4.channel.k8s.io")
        .await
        .unwrap();
    for message in [&b"\0ab"[..], b"\0c", b"\xff\0"] {
        socket
            .send(Message::Binary(message.to_vec().into()))
            .await
            .unwrap();
    }
    let [_, out, _, end] = told(socket).await;
    assert_eq!(out, ":abc");
    let end: Value = serde_json::from_str(&end).unwrap();
    assert_eq!(end["reason"], "NonZeroExitCode");
    assert_eq!(
        end["details"]["causes"],
        json!([{"reason": "ExitCode", "message": "3"}])
    );
}

#[tokio::test]
async fn what_cannot_be_run_is_told_on_the_error_channel() {
    let socket = ask("command=refused&stdout=true", "v4.channel.k8s.io").await;
    let [_, _, _, end] = told(socket.unwrap()).await;
    let end: Value = serde_json::from_str(&end).unwrap();
    assert_eq!(end["reason"], "InternalError");
    assert!(
        end["message"]
            .as_str()
            .unwrap()
            .ends_with("exec refused: no such program")
    );
}

#[tokio::test]
async fn what_is_asked_wrongly_is_refused_before_anything_is_upgraded() {
    let refused = async |query: &str, protocol: &str| match ask(query, protocol).await {
        Err(Error::Http(response)) => (
            response.status(),
            String::from_utf8(response.into_body().unwrap()).unwrap(),
        ),
        other => panic!("{query}: {other:?}"),
    };
    for (query, protocol, why) in [
        ("stdout=true", "v5.channel.k8s.io", "at least one command"),
        (
            "command=a",
            "v5.channel.k8s.io",
            "at least one of stdin, stdout, stderr",
        ),
        (
            "command=a&stdout=true&container=b",
            "v5.channel.k8s.io",
            "container b is not valid",
        ),
        (
            "command=a&stdout=true",
            "v9.channel.k8s.io",
            "must speak one of",
        ),
    ] {
        let (code, told) = refused(query, protocol).await;
        assert_eq!(code, StatusCode::BAD_REQUEST, "{query}");
        assert!(told.contains(why), "{query}: {told}");
    }
}

/// What kubectl does from 1.30 on, before it opens streams.
#[tokio::test]
async fn ports_are_forwarded_by_spdy_inside_a_websocket() {
    let protocol = "SPDY/3.1+portforward.k8s.io";
    let asked = ask_of_server("portforward", protocol, std::future::pending()).await;
    let mut socket = asked.0.unwrap();
    let ping = [0x80, 3, 0, 6, 0, 0, 0, 4, 0, 0, 0, 1];
    // A frame may come in parts.
    for part in [&ping[..5], &ping[5..]] {
        let part = Message::Binary(part.to_vec().into());
        socket.send(part).await.unwrap();
    }
    let answer = soon("the answer to a ping", socket.next()).await;
    let answer = answer.unwrap().unwrap();
    assert_eq!(answer, Message::Binary(ping.to_vec().into()));
}

#[tokio::test]
async fn a_server_that_ends_says_so_to_who_converses() {
    let (stop, stopped) = oneshot::channel::<()>();
    let shutdown = stopped.map(drop);
    let query = "exec?command=endless&stdout=true";
    let (socket, serving) = ask_of_server(query, "v5.channel.k8s.io", shutdown).await;
    let (stop_ports, stopped) = oneshot::channel::<()>();
    let protocol = "SPDY/3.1+portforward.k8s.io";
    let shutdown = stopped.map(drop);
    let (ports, serving_ports) = ask_of_server("portforward", protocol, shutdown).await;
    stop.send(()).unwrap();
    stop_ports.send(()).unwrap();
    let [_, _, _, end] = told(socket.unwrap()).await;
    let end: Value = serde_json::from_str(&end).unwrap();
    assert_eq!(end["status"], "Failure");
    assert!(
        end["message"]
            .as_str()
            .unwrap()
            .contains("the server stops")
    );
    let frames = ports.unwrap().filter_map(async |m| m.ok()).collect();
    let frames: Vec<Message> = soon("the end of the ports", frames).await;
    let go_away = [&[0x80, 3, 0, 7, 0, 0, 0, 8][..], &[0; 8]].concat();
    let [Message::Binary(first), Message::Close(Some(_))] = frames.as_slice() else {
        panic!("{frames:?}");
    };
    assert_eq!(first, &go_away);
    for serving in [serving, serving_ports] {
        soon("the end of a server", serving).await.unwrap();
    }
}

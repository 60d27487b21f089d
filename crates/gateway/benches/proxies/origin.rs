//! The applications behind the proxies: as little work as can be, so that they are never what is measured.

use std::net::SocketAddr;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

const SMALL: usize = 256;
const LARGE: usize = 64 * 1024;

/// Starts two on one thread that lives as long as the process: what they cost together is the same however requests are shared.
pub(crate) fn start() -> [SocketAddr; 2] {
    let listeners = [(); 2].map(|()| std::net::TcpListener::bind("127.0.0.1:0").unwrap());
    let addresses = listeners.each_ref().map(|l| l.local_addr().unwrap());
    std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .unwrap();
        runtime.block_on(async {
            let [one, other] = listeners.map(accept);
            tokio::join!(one, other);
        });
    });
    addresses
}

async fn accept(listener: std::net::TcpListener) {
    listener.set_nonblocking(true).unwrap();
    let listener = TcpListener::from_std(listener).unwrap();
    while let Ok((stream, _)) = listener.accept().await {
        let _ = stream.set_nodelay(true);
        tokio::spawn(serve(stream));
    }
}

fn answer(bytes: usize) -> Vec<u8> {
    let head = format!(
        "HTTP/1.1 200 OK\r\ncontent-type: text/plain\r\nserver: origin\r\ncontent-length: {bytes}\r\n\r\n"
    );
    let mut answer = head.into_bytes();
    answer.resize(answer.len() + bytes, b'x');
    answer
}

/// Requests have no body, so each ends with its empty line.
async fn serve(mut stream: TcpStream) {
    let (small, large) = (answer(SMALL), answer(LARGE));
    let mut buffer = Vec::with_capacity(4096);
    while let Ok(1..) = stream.read_buf(&mut buffer).await {
        if !buffer.ends_with(b"\r\n\r\n") {
            continue;
        }
        let answer = if buffer.starts_with(b"GET /large") {
            &large
        } else {
            &small
        };
        buffer.clear();
        if stream.write_all(answer).await.is_err() {
            return;
        }
    }
}

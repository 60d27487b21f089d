//! Serves an empty API on a port of the system's choosing, for trying it with kubectl:
//!
//! ```text
//! cargo run -p serin-apiserver --example serve -- /tmp/serin &
//! kubectl --kubeconfig /tmp/serin/kubeconfig get all
//! ```

use std::path::PathBuf;

use serin_apiserver::{ApiServer, Store};

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let directory = PathBuf::from(
        std::env::args_os()
            .nth(1)
            .ok_or("the directory for the state is missing")?,
    );
    std::fs::create_dir_all(&directory)?;
    let server = ApiServer::new(Store::open(&directory.join("state.db"))?);
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await?;
    let (address, token) = (listener.local_addr()?, "try-it");
    std::fs::write(
        directory.join("kubeconfig"),
        serin_apiserver::kubeconfig(address, token),
    )?;
    let interrupt = async {
        let _interrupted = tokio::signal::ctrl_c().await;
    };
    serin_apiserver::serve(listener, server.guarded_router(token), interrupt).await;
    Ok(())
}

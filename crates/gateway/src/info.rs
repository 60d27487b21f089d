//! `run/gateway.json`: which processes serve, and where. And whether they do.

use std::io::{self, Read, Write};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::unix;

/// How long the gateway may take for each part of saying that it is well.
const PATIENCE: Duration = Duration::from_secs(1);

/// What `run/gateway.json` says.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct GatewayInfo {
    /// The keeper; `None` when the gateway runs without one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub keeper_pid: Option<u32>,
    /// The gateway itself.
    pub pid: u32,
    /// Where it serves HTTP.
    pub listen: Vec<SocketAddr>,
    /// Where it serves HTTPS.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub tls_listen: Vec<SocketAddr>,
}

pub(crate) fn info_path(home: &Path) -> PathBuf {
    home.join("run").join("gateway.json")
}

/// The admin socket of the gateway in `home`.
pub fn admin_socket(home: &Path) -> PathBuf {
    home.join("run").join("gateway.sock")
}

/// What `run/gateway.json` of `home` says; `None` when there is none or it is not whole. The processes may be gone: see
/// [`healthy`].
pub fn read_endpoint(home: &Path) -> Option<GatewayInfo> {
    let bytes = std::fs::read(info_path(home)).ok()?;
    serde_json::from_slice(&bytes).ok()
}

pub(crate) fn write(home: &Path, info: &GatewayInfo) -> io::Result<()> {
    let bytes = serde_json::to_vec_pretty(info)?;
    unix::write_whole(&info_path(home), &bytes)
}

/// Whether the gateway in `home` answers on its admin socket, and takes no longer than a second for any part of it.
pub async fn healthy(home: &Path) -> bool {
    let socket = admin_socket(home);
    let asked = tokio::task::spawn_blocking(move || is_healthy(&socket));
    asked.await.unwrap_or(false)
}

fn is_healthy(socket: &Path) -> bool {
    let ask = || -> io::Result<bool> {
        let mut stream = unix::connect(socket, PATIENCE)?;
        stream.write_all(b"GET /healthz HTTP/1.1\r\nHost: gateway\r\nConnection: close\r\n\r\n")?;
        let mut start = [0_u8; 12];
        stream.read_exact(&mut start)?;
        Ok(start.ends_with(b" 200"))
    };
    ask().unwrap_or(false)
}

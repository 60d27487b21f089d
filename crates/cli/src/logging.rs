//! Where our own log goes, and how much of it.

use tracing_subscriber::EnvFilter;

/// What a command logs that only asks and prints. What the client library has to say, it says in the error too.
const CLIENT: &str = "warn,kube=off,kube_client=off,kube_runtime=off";
/// What the platform logs. What the client library says about each request is of no use to anybody.
const PLATFORM: &str = "info,kube=warn,kube_client=warn,kube_runtime=warn,hyper=warn,tower=warn";

/// Begins to log to stderr: as much as `SERIN_LOG`, else `RUST_LOG`, else `-v` says.
pub(crate) fn init(verbose: u8, platform: bool) {
    let usual = match (verbose, platform) {
        (0, false) => CLIENT,
        (0, true) => PLATFORM,
        (1, _) => "debug,hyper=info,h2=info,rustls=info,tower=info",
        _ => "debug",
    };
    let named = ["SERIN_LOG", "RUST_LOG"]
        .iter()
        .find_map(|name| std::env::var(name).ok());
    let filter = EnvFilter::try_new(named.as_deref().unwrap_or(usual))
        .unwrap_or_else(|_| EnvFilter::new(usual));
    // Fails only when something has begun before; then that is the log.
    let _ = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_ansi(false)
        .with_target(false)
        .try_init();
}

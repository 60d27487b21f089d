//! `serin up`: runs the platform of the state directory, here or in the background.

mod detach;

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use clap::Args;
use tokio::signal::unix::{SignalKind, signal};
use tokio_rustls::rustls::pki_types::ServerName;

use crate::context::Context;
use crate::error::{CliError, Exit};
use crate::platform::{Images, Options, Platform, reachable, serving};

/// Threads that carry the platform; what blocks has its own.
const WORKERS: usize = 2;
/// How long the foreground waits for the gateway before it says that it will come.
const GATEWAY_DEADLINE: Duration = Duration::from_secs(5);
/// How often it is looked whether it is there.
const LOOK: Duration = Duration::from_millis(25);

/// How the platform is to be.
#[derive(Clone, Debug, Args)]
pub(crate) struct UpArgs {
    /// Run in the background; print the path of the kubeconfig once the API answers
    #[arg(short, long)]
    detach: bool,
    /// Where the API listens; port 0 lets the system choose. Beyond loopback, say under which names it is reached: --tls-san
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1:7443", value_parser = address)]
    listen: SocketAddr,
    /// A name or an address under which the API is reached, for its certificate; may be given several times
    #[arg(long, value_name = "NAME", value_parser = subject_name)]
    tls_san: Vec<String>,
    /// Where the gateway listens; may be given several times [default: 127.0.0.1:8080]
    #[arg(long, value_name = "ADDRESS", conflicts_with = "no_gateway")]
    gateway_listen: Vec<SocketAddr>,
    /// Where the gateway speaks TLS; may be given several times; certificates come from the Secrets that Ingresses name
    #[arg(long, value_name = "ADDRESS", conflicts_with = "no_gateway")]
    gateway_tls_listen: Vec<SocketAddr>,
    /// The only hosts that metrics of analyses are asked of, as HOST, HOST:PORT or *.DOMAIN, private ones too; may be given several times
    #[arg(long, value_name = "HOST")]
    metrics_host: Vec<String>,
    /// Without a gateway
    #[arg(long)]
    no_gateway: bool,
    /// Without the controllers of Rollouts: for `serin controller` beside it
    #[arg(long)]
    no_rollouts: bool,
    /// What an image name stands for, such as nginx=host; may be given several times; kept for later starts in images.json
    #[arg(long, value_name = "NAME=BUNDLE")]
    image: Vec<String>,
    /// Said by `--detach` to the process that it starts.
    #[arg(long, hide = true)]
    background: bool,
}

fn address(text: &str) -> Result<SocketAddr, String> {
    let parsed = text.parse();
    parsed.map_err(|_| "write ADDRESS:PORT, such as 127.0.0.1:7443".to_owned())
}

/// A name that a certificate can have, or an address.
fn subject_name(text: &str) -> Result<String, String> {
    ServerName::try_from(text)
        .map(|_| text.to_ascii_lowercase())
        .map_err(|_| "write a host name or an IP address, such as cd.example.com".to_owned())
}

/// An API that others can reach is one that has said what it is called: a client trusts the name that it has asked for, and the
/// server answers to no other.
fn check_names(args: &UpArgs) -> Result<(), CliError> {
    if args.listen.ip().is_unspecified() && args.tls_san.is_empty() {
        return Err(CliError::new(
            Exit::Usage,
            format!(
                "--listen {} needs --tls-san with the name or the address under which the API is reached",
                args.listen
            ),
        ));
    }
    Ok(())
}

/// Runs the platform until a signal, or starts the process that does.
pub(crate) fn run(context: &Context, args: UpArgs) -> Result<(), CliError> {
    check_names(&args)?;
    if args.detach {
        return crate::client_runtime()?.block_on(detach::start(context, &args));
    }
    if args.background {
        // A session of its own, so that the end of the terminal is not the end of the platform. It fails only for one that has.
        let _ = rustix::process::setsid();
    }
    let images = Images::load(&context.home, &args.image)?;
    let options = options(context, &args, &images)?;
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(WORKERS)
        .enable_all()
        .build()
        .map_err(|error| CliError::failed(format!("cannot start: {error}")))?;
    runtime.block_on(foreground(context, options, &images))
}

fn options(context: &Context, args: &UpArgs, images: &Images) -> Result<Options, CliError> {
    let program = std::env::current_exe()
        .map_err(|error| CliError::failed(format!("cannot find the program that runs: {error}")))?;
    Ok(Options {
        home: context.home.clone(),
        listen: args.listen,
        names: args.tls_san.clone(),
        gateway: !args.no_gateway,
        rollouts: !args.no_rollouts,
        gateway_listen: args.gateway_listen.clone(),
        gateway_tls_listen: args.gateway_tls_listen.clone(),
        metrics_hosts: args.metrics_host.clone(),
        bundles: images.bundles()?,
        program,
    })
}

async fn foreground(context: &Context, options: Options, images: &Images) -> Result<(), CliError> {
    let failed = |error| CliError::failed(format!("cannot listen for signals: {error}"));
    let mut terminate = signal(SignalKind::terminate()).map_err(failed)?;
    let mut interrupt = signal(SignalKind::interrupt()).map_err(failed)?;
    let has_gateway = options.gateway;
    let asked = options.gateway_listen.clone();
    let platform = Platform::start(options).await?;
    let told = async {
        // Only now: who does not get the directory must not change it.
        images.save()?;
        tell(context, &platform)?;
        if has_gateway {
            tell_gateway(context, &asked).await?;
        }
        std::future::pending::<Result<(), CliError>>().await
    };
    let result = tokio::select! {
        result = told => result,
        _ = terminate.recv() => Ok(()),
        _ = interrupt.recv() => Ok(()),
    };
    context.printer.progress("stopping the control plane");
    tokio::select! {
        () = platform.stop() => {}
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
    }
    let rest = if has_gateway {
        "instances and the gateway live on"
    } else {
        "instances live on"
    };
    context
        .printer
        .progress(format!("stopped; {rest} (`serin down` stops them too)"));
    result
}

fn tell(context: &Context, platform: &Platform) -> Result<(), CliError> {
    let kubeconfig = platform.kubeconfig.display();
    context.printer.result(format!(
        "serin {}\n  API         https://{}\n  kubeconfig  {kubeconfig}\n\n  \
         export KUBECONFIG={kubeconfig}\n  serin apply -f app.yaml\n",
        env!("CARGO_PKG_VERSION"),
        platform.api
    ))?;
    Ok(())
}

async fn tell_gateway(context: &Context, asked: &[SocketAddr]) -> Result<(), CliError> {
    let up = async {
        loop {
            if let Some(info) = serving(&context.home).await {
                return info;
            }
            tokio::time::sleep(LOOK).await;
        }
    };
    let Ok(info) = tokio::time::timeout(GATEWAY_DEADLINE, up).await else {
        let log = context.home.logs().join("gateway.log");
        context.printer.warning(format!(
            "the gateway does not serve yet; see {}",
            log.display()
        ));
        return Ok(());
    };
    let plain = info.listen.iter().map(|address| ("http", address));
    let tls = info.tls_listen.iter().map(|address| ("https", address));
    for (scheme, address) in plain.chain(tls) {
        let address = reachable(*address);
        context
            .printer
            .result(format!("  gateway     {scheme}://{address}"))?;
    }
    let elsewhere = asked
        .iter()
        .any(|address| address.port() != 0 && !info.listen.contains(address));
    if elsewhere {
        context.printer.warning(
            "a gateway of this directory already served there; `serin down` first to move it",
        );
    }
    context.printer.progress(
        "\nCtrl-C stops the control plane; instances and the gateway live on until `serin down`",
    );
    Ok(())
}

/// The arguments of the process that runs in the background.
fn background_arguments(context: &Context, args: &UpArgs) -> Vec<std::ffi::OsString> {
    let mut all: Vec<std::ffi::OsString> =
        vec!["up".into(), "--background".into(), "--home".into()];
    all.push(context.home.root().into());
    all.extend(["--listen".into(), args.listen.to_string().into()]);
    for name in &args.tls_san {
        all.extend(["--tls-san".into(), name.into()]);
    }
    for address in &args.gateway_listen {
        all.extend(["--gateway-listen".into(), address.to_string().into()]);
    }
    for address in &args.gateway_tls_listen {
        all.extend(["--gateway-tls-listen".into(), address.to_string().into()]);
    }
    for host in &args.metrics_host {
        all.extend(["--metrics-host".into(), host.into()]);
    }
    if args.no_gateway {
        all.push("--no-gateway".into());
    }
    for image in &args.image {
        all.extend(["--image".into(), image.into()]);
    }
    all
}

fn log_file(context: &Context) -> PathBuf {
    context.home.logs().join("serin.log")
}

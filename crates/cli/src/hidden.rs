//! The processes that the platform starts of its own binary: `shim`, `terminal`, `keeper`, `gateway`,
//! `demo-app`.
//!
//! They live long and there are many of them, so they start before anything else does: no parser, no runtime of ours. Their
//! command lines are written by ourselves and not for people; that is why they are not in the help.

use std::ffi::OsString;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use serin_gateway::{GatewayConfig, KeeperConfig};

use crate::error::{CliError, Exit, chain};
use crate::logging;
use crate::printer::Printer;

/// Runs the hidden command of these arguments; `None` when they are none.
pub(crate) fn run(arguments: &[OsString]) -> Option<ExitCode> {
    let (command, options) = arguments.split_first()?;
    let ended = match command.to_str()? {
        "shim" => match value(options, "--dir") {
            Ok(dir) => return Some(serin_node::shim_main(Path::new(dir))),
            Err(error) => Err(error),
        },
        "terminal" => return Some(serin_node::terminal_main(options)),
        "demo-app" => return Some(crate::demo_app::run()),
        "keeper" => keeper(options),
        // What a person types behind this word goes to the parser.
        "gateway"
            if options.len() == 2 && options.first().is_some_and(|option| option == "--home") =>
        {
            gateway(options)
        }
        _ => return None,
    };
    Some(match ended {
        Ok(()) => Exit::Done.into(),
        Err(error) => error.report(Printer::default()),
    })
}

fn keeper(options: &[OsString]) -> Result<(), CliError> {
    logging::init(0, true);
    let home = value(options, "--home")?;
    let program = std::env::current_exe()
        .map_err(|error| CliError::failed(format!("cannot find the program that runs: {error}")))?;
    let mut config =
        KeeperConfig::load(Path::new(home), program).map_err(|error| failed(&error))?;
    let listen = addresses(options, "--listen")?;
    if !listen.is_empty() {
        config.listen = listen;
    }
    let tls_listen = addresses(options, "--tls-listen")?;
    if !tls_listen.is_empty() {
        config.tls_listen = tls_listen;
    }
    serin_gateway::keeper_main(&config).map_err(|error| failed(&error))
}

fn gateway(options: &[OsString]) -> Result<(), CliError> {
    logging::init(0, true);
    let home = PathBuf::from(value(options, "--home")?);
    let config = GatewayConfig::load(&home).map_err(|error| failed(&error))?;
    serin_gateway::gateway_main(&config).map_err(|error| failed(&error))
}

fn failed(error: &(dyn std::error::Error + 'static)) -> CliError {
    CliError::failed(chain(error))
}

/// The value behind an option.
fn value<'a>(options: &'a [OsString], name: &str) -> Result<&'a OsString, CliError> {
    let mut rest = options.iter().skip_while(|option| *option != name).skip(1);
    rest.next()
        .ok_or_else(|| CliError::new(Exit::Usage, format!("{name} is missing")))
}

/// The values behind each option of a name.
fn addresses(options: &[OsString], name: &str) -> Result<Vec<SocketAddr>, CliError> {
    let pairs = options.iter().zip(options.iter().skip(1));
    pairs
        .filter(|(option, _)| *option == name)
        .map(|(_, address)| {
            let parsed = address.to_str().and_then(|text| text.parse().ok());
            parsed.ok_or_else(|| {
                CliError::new(
                    Exit::Usage,
                    format!("{name} {}: no address", address.display()),
                )
            })
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn options_are_read_without_a_parser() {
        let options: Vec<OsString> = [
            "--home",
            "/h",
            "--listen",
            "127.0.0.1:0",
            "--listen",
            "[::1]:8080",
        ]
        .iter()
        .map(OsString::from)
        .collect();
        assert_eq!(value(&options, "--home").unwrap(), "/h");
        assert!(value(&options, "--dir").is_err());
        let all: Vec<String> = addresses(&options, "--listen")
            .unwrap()
            .iter()
            .map(ToString::to_string)
            .collect();
        assert_eq!(all, ["127.0.0.1:0", "[::1]:8080"]);
        assert!(run(&["get".into(), "pods".into()]).is_none());
        assert!(run(&["gateway".into(), "upgrade".into()]).is_none());
    }
}

//! Sees to it that the gateway of the state directory lives and is kept: starts its keeper when there is none, which takes over a
//! gateway that serves.

use std::fs::File;
use std::io;
use std::net::{SocketAddr, TcpListener};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use kube::api::PostParams;
use serin_api::gateway_api::{GatewayClass, GatewayClassSpec};
use serin_api::keys;
use serin_gateway::{GatewayConfig, GatewayInfo, healthy, read_endpoint};
use tokio_util::sync::CancellationToken;

use super::identities::{self, Part, Tls};
use super::processes::OwnProcess;
use crate::home::Home;

/// How often it is looked whether the gateway lives.
const LOOK: Duration = Duration::from_millis(500);
/// The longest pause between two starts of a keeper that ends at once.
const LONGEST_PAUSE: Duration = Duration::from_secs(10);

/// The gateway of a state directory.
#[derive(Clone)]
pub(super) struct Gateway {
    pub(super) home: Home,
    /// Where it is to listen; empty for what its own settings say.
    pub(super) listen: Vec<SocketAddr>,
    /// Where it is to speak TLS; empty for what its own settings say.
    pub(super) tls_listen: Vec<SocketAddr>,
    /// The `serin` executable.
    pub(super) program: PathBuf,
    /// Gives the gateway its rights.
    pub(super) installer: kube::Client,
}

/// The processes of a gateway.
#[derive(Debug, Default)]
pub(crate) struct Processes {
    /// Holds the sockets and starts the gateway again.
    pub(crate) keeper: Vec<OwnProcess>,
    /// Serves.
    pub(crate) gateway: Vec<OwnProcess>,
}

impl Processes {
    /// Those that live in a state directory, whatever `run/gateway.json` says: it may be lost or of another time.
    pub(crate) fn of(home: &Home) -> Self {
        Self {
            keeper: OwnProcess::all("keeper", home.root()),
            gateway: OwnProcess::all("gateway", home.root()),
        }
    }

    /// Whether any lives.
    pub(crate) fn any(&self) -> bool {
        !self.keeper.is_empty() || !self.gateway.is_empty()
    }
}

/// What a living gateway says of itself; `None` when none answers.
pub(crate) async fn serving(home: &Home) -> Option<GatewayInfo> {
    if !healthy(home.root()).await {
        return None;
    }
    read_endpoint(home.root())
}

/// Whether the gateway of a state directory speaks TLS, or will: as it is asked to, as its settings say, or as one that lives does.
/// That changes only when a keeper binds its sockets, for a gateway that was started again gets those of the one before.
pub(super) fn tls_of(home: &Home, asked: &[SocketAddr]) -> Tls {
    let wants = || {
        let settings = GatewayConfig::load(home.root());
        settings.is_ok_and(|settings| !settings.tls_listen.is_empty())
    };
    let has = || {
        let known = read_endpoint(home.root()).filter(|_| Processes::of(home).any());
        known.is_some_and(|info| !info.tls_listen.is_empty())
    };
    if !asked.is_empty() || wants() || has() {
        Tls::Spoken
    } else {
        Tls::Absent
    }
}

/// Makes the class by which Gateways ask for this gateway, unless it is there.
pub(super) async fn make_class(client: kube::Client) {
    let class = GatewayClass::new(
        "serin",
        GatewayClassSpec {
            controller_name: keys::GATEWAY_CONTROLLER.into(),
            description: Some("The gateway of this machine".into()),
            ..GatewayClassSpec::default()
        },
    );
    let classes: kube::Api<GatewayClass> = kube::Api::all(client);
    match classes.create(&PostParams::default(), &class).await {
        Ok(_) => {}
        Err(kube::Error::Api(status)) if status.code == 409 => {}
        Err(error) => {
            tracing::warn!(%error, "the GatewayClass serin cannot be made; make it to use Gateways");
        }
    }
}

impl Gateway {
    /// Looks after it until `stop`. The gateway lives on then.
    pub(super) async fn keep(self, stop: CancellationToken) {
        let mut own: Option<Child> = None;
        let mut pause = LOOK;
        loop {
            let is_kept = is_running(own.as_mut()) || !Processes::of(&self.home).keeper.is_empty();
            if is_kept {
                pause = LOOK;
            } else {
                if own.is_some() {
                    tracing::warn!(
                        ?pause,
                        "the keeper of the gateway is gone; it is started again (see logs/gateway.log)"
                    );
                    pause = (pause * 2).min(LONGEST_PAUSE);
                }
                own = match self.start().await {
                    Ok(child) => Some(child),
                    Err(error) => {
                        tracing::error!(%error, "the keeper of the gateway cannot be started");
                        None
                    }
                };
            }
            tokio::select! {
                () = tokio::time::sleep(pause) => {}
                () = stop.cancelled() => return,
            }
        }
    }

    /// Where the keeper is to listen. A port that the system once chose is asked for again, so that users find the gateway
    /// where it was.
    async fn addresses(&self) -> [(&'static str, Vec<SocketAddr>); 2] {
        let (http, https) = read_endpoint(self.home.root())
            .map_or_else(Default::default, |info| (info.listen, info.tls_listen));
        // What a gateway that lives has is handed over.
        let lives = healthy(self.home.root()).await;
        let is_free = |address: &SocketAddr| lives || TcpListener::bind(address).is_ok();
        let again = |asked: &[SocketAddr], before: Vec<SocketAddr>| {
            if fits(asked, &before) && before.iter().all(is_free) {
                before
            } else {
                asked.to_vec()
            }
        };
        [
            ("--listen", again(&self.listen, http)),
            ("--tls-listen", again(&self.tls_listen, https)),
        ]
    }

    /// Starts a keeper, with the rights of its gateway as the settings are now.
    async fn start(&self) -> io::Result<Child> {
        let tls = tls_of(&self.home, &self.tls_listen);
        let given = identities::give_role(&self.installer, Part::Gateway, tls).await;
        given.map_err(io::Error::other)?;
        let log = File::options()
            .create(true)
            .append(true)
            .open(self.home.logs().join("gateway.log"))?;
        let mut command = Command::new(&self.program);
        command.arg("keeper").arg("--home").arg(self.home.root());
        for (option, addresses) in self.addresses().await {
            for address in addresses {
                command.arg(option).arg(address.to_string());
            }
        }
        command
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log)
            .spawn()
    }
}

/// Whether the addresses of before are what is asked for now, where port 0 asks for any.
fn fits(asked: &[SocketAddr], before: &[SocketAddr]) -> bool {
    let is_one = |(asked, before): (&SocketAddr, &SocketAddr)| {
        asked.ip() == before.ip() && [0, before.port()].contains(&asked.port())
    };
    asked.len() == before.len() && asked.iter().zip(before).all(is_one)
}

/// Whether a child runs; one that has ended is reaped.
fn is_running(child: Option<&mut Child>) -> bool {
    child.is_some_and(|child| matches!(child.try_wait(), Ok(None)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::home::DirVariables;

    #[test]
    fn tls_is_spoken_where_it_is_asked_for_or_set() {
        let dir = tempfile::tempdir().unwrap();
        let home = Home::resolve(Some(dir.path()), &DirVariables::default()).unwrap();
        assert_eq!(tls_of(&home, &[]), Tls::Absent);
        let address = "127.0.0.1:8443";
        assert_eq!(tls_of(&home, &[address.parse().unwrap()]), Tls::Spoken);
        // What a gateway that has ended once had is over.
        let known = serde_json::json!({
            "keeperPid": null, "pid": 1, "listen": [], "tlsListen": [address],
        });
        let file = |name: &str, text: String| {
            let path = dir.path().join(name);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, text).unwrap();
        };
        file("run/gateway.json", known.to_string());
        assert!(read_endpoint(home.root()).is_some());
        assert_eq!(tls_of(&home, &[]), Tls::Absent);
        let settings = format!(r#"{{"tlsListen": ["{address}"]}}"#);
        file("gateway/config.json", settings);
        assert_eq!(tls_of(&home, &[]), Tls::Spoken);
    }

    #[test]
    fn only_addresses_that_are_asked_for_are_taken_again() {
        let all = |texts: &[&str]| -> Vec<SocketAddr> {
            texts.iter().map(|text| text.parse().unwrap()).collect()
        };
        let before = all(&["127.0.0.1:4000"]);
        for (asked, expected) in [
            (&["127.0.0.1:0"][..], true),
            (&["127.0.0.1:4000"], true),
            (&["127.0.0.1:4001"], false),
            (&["127.0.0.2:0"], false),
            (&["127.0.0.1:0", "127.0.0.1:0"], false),
            (&[], false),
        ] {
            assert_eq!(fits(&all(asked), &before), expected, "{asked:?}");
        }
    }
}

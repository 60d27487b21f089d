//! Connections by TLS to instances.
//!
//! The control loop reads files and makes what connections begin with; workers find it ready and never wait for a file. A file that gets
//! worse leaves what was good.

use std::collections::{BTreeSet, HashMap};
use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::SystemTime;

use arc_swap::ArcSwapOption;
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tokio_rustls::rustls::client::WebPkiServerVerifier;
use tokio_rustls::rustls::client::danger::{
    HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier,
};
use tokio_rustls::rustls::crypto::{
    CryptoProvider, WebPkiSupportedAlgorithms, ring, verify_tls12_signature, verify_tls13_signature,
};
use tokio_rustls::rustls::{ClientConfig, DigitallySignedStruct, Error, SignatureScheme};

use super::{read_roots, system_roots};
use crate::table::{BackendTls, Protocol, Trust};

/// What is spoken over TLS, and how.
type Key = (BackendTls, Protocol);

/// Everything that connections to the instances of a table begin with.
#[derive(Debug, Default)]
pub(crate) struct Backends {
    home: PathBuf,
    known: HashMap<Key, Known>,
}

#[derive(Debug)]
struct Known {
    connector: Arc<Connector>,
    /// When its files were last changed, as of the last reading.
    seen: Vec<Option<SystemTime>>,
    problem: Option<String>,
}

/// What connections to the instances of one Service begin with.
pub(crate) struct Connector {
    name: String,
    protocol: Protocol,
    ready: ArcSwapOption<Ready>,
    /// What was last said to be wrong with a handshake.
    complaint: Mutex<String>,
}

#[derive(Debug)]
struct Ready {
    config: Arc<ClientConfig>,
    name: ServerName<'static>,
}

impl Backends {
    /// Files are below `home`.
    pub(crate) fn new(home: PathBuf) -> Self {
        Self {
            home,
            known: HashMap::new(),
        }
    }

    /// The one for these, the same for as long as anybody has it.
    pub(crate) fn connector(&mut self, tls: &BackendTls, protocol: Protocol) -> Arc<Connector> {
        let key = (tls.clone(), protocol);
        if let Some(known) = self.known.get(&key) {
            return Arc::clone(&known.connector);
        }
        let connector = Arc::new(Connector {
            name: tls.server_name.clone(),
            protocol,
            ready: ArcSwapOption::empty(),
            complaint: Mutex::default(),
        });
        let mut known = Known {
            connector: Arc::clone(&connector),
            seen: changed(tls, &self.home),
            problem: None,
        };
        known.read(&key, &self.home);
        self.known.insert(key, known);
        connector
    }

    /// Reads again what has changed, and forgets what nobody has any more.
    pub(crate) fn refresh(&mut self) {
        self.known
            .retain(|_, known| Arc::strong_count(&known.connector) > 1);
        for (key, known) in &mut self.known {
            let seen = changed(&key.0, &self.home);
            if seen != known.seen {
                known.seen = seen;
                known.read(key, &self.home);
            }
        }
    }

    /// What is wrong with files, as sentences.
    pub(crate) fn problems(&self) -> BTreeSet<String> {
        let problems = self.known.values();
        problems.filter_map(|known| known.problem.clone()).collect()
    }
}

impl Known {
    fn read(&mut self, (tls, protocol): &Key, home: &Path) {
        self.problem = match ready(tls, *protocol, home) {
            Ok(ready) => {
                self.connector.ready.store(Some(Arc::new(ready)));
                None
            }
            Err(why) => {
                let kept = match self.connector.ready.load().is_some() {
                    true => "; what was there before is used on",
                    false => "",
                };
                Some(format!("TLS to {}: {why}{kept}", tls.server_name))
            }
        };
    }
}

impl Connector {
    /// Makes a connection one by TLS.
    pub(crate) async fn connect(&self, stream: TcpStream) -> io::Result<TlsStream<TcpStream>> {
        let connected = self.handshake(stream).await;
        if let Err(error) = &connected {
            self.complain(error);
        }
        connected
    }

    async fn handshake(&self, stream: TcpStream) -> io::Result<TlsStream<TcpStream>> {
        let ready = self.ready.load_full();
        let ready = ready.ok_or_else(|| io::Error::other("its certificates cannot be read"))?;
        let connector = TlsConnector::from(Arc::clone(&ready.config));
        let stream = connector.connect(ready.name.clone(), stream).await?;
        let spoken = stream.get_ref().1.alpn_protocol();
        match (self.protocol, spoken) {
            (Protocol::Http2, Some(b"h2")) => Ok(stream),
            (Protocol::Http2, _) => Err(io::Error::other("it does not speak HTTP/2 over TLS")),
            (Protocol::Http1, _) => Ok(stream),
        }
    }

    /// Once for each thing that is wrong: of all connections that fail, this one needs a human.
    fn complain(&self, error: &io::Error) {
        let why = error.to_string();
        let mut last = self
            .complaint
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        if *last != why {
            tracing::warn!(name = %self.name, %error, "an instance cannot be spoken to by TLS");
            *last = why;
        }
    }
}

impl fmt::Debug for Connector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Connector")
            .field("name", &self.name)
            .field("protocol", &self.protocol)
            .finish_non_exhaustive()
    }
}

/// When each file was last changed.
fn changed(tls: &BackendTls, home: &Path) -> Vec<Option<SystemTime>> {
    let trusted = match &tls.trust {
        Trust::File(path) => Some(path),
        Trust::System | Trust::Anybody => None,
    };
    let identity = tls.identity.iter().flat_map(|i| [&i.certificate, &i.key]);
    let files = trusted.into_iter().chain(identity);
    files
        .map(|path| {
            std::fs::metadata(home.join(path))
                .and_then(|m| m.modified())
                .ok()
        })
        .collect()
}

fn ready(tls: &BackendTls, protocol: Protocol, home: &Path) -> Result<Ready, String> {
    let provider = Arc::new(ring::default_provider());
    let name = server_name(&tls.server_name)?;
    let builder = ClientConfig::builder_with_provider(Arc::clone(&provider))
        .with_safe_default_protocol_versions()
        .map_err(|error| error.to_string())?;
    let verifier = verifier(tls, &provider, home)?;
    let builder = builder
        .dangerous()
        .with_custom_certificate_verifier(verifier);
    let mut config = match &tls.identity {
        None => builder.with_no_client_auth(),
        Some(identity) => {
            let (chain, key) = (home.join(&identity.certificate), home.join(&identity.key));
            let chain: Result<Vec<_>, _> = CertificateDer::pem_file_iter(&chain)
                .and_then(Iterator::collect)
                .map_err(|error| format!("{}: {error}", chain.display()));
            let read = PrivateKeyDer::from_pem_file(&key);
            let key = read.map_err(|error| format!("{}: {error}", key.display()))?;
            let with = builder.with_client_auth_cert(chain?, key);
            with.map_err(|error| format!("the certificate of the gateway: {error}"))?
        }
    };
    let spoken = match protocol {
        Protocol::Http1 => b"http/1.1".to_vec(),
        Protocol::Http2 => b"h2".to_vec(),
    };
    config.alpn_protocols = vec![spoken];
    Ok(Ready {
        config: Arc::new(config),
        name,
    })
}

fn server_name(name: &str) -> Result<ServerName<'static>, String> {
    ServerName::try_from(name.to_owned()).map_err(|_| format!("{name:?} is no name of a server"))
}

fn verifier(
    tls: &BackendTls,
    provider: &Arc<CryptoProvider>,
    home: &Path,
) -> Result<Arc<dyn ServerCertVerifier>, String> {
    let roots = match &tls.trust {
        Trust::Anybody => None,
        Trust::System => Some(system_roots()),
        Trust::File(path) => {
            let path = home.join(path);
            let read = read_roots(&path);
            Some(read.map_err(|why| format!("{}: {why}", path.display()))?)
        }
    };
    let chains = roots.map(|roots| {
        WebPkiServerVerifier::builder_with_provider(roots, Arc::clone(provider)).build()
    });
    let chains = chains.transpose().map_err(|error| error.to_string())?;
    let names = tls.names.iter().map(|name| server_name(name));
    Ok(Arc::new(Verifier {
        chains,
        names: names.collect::<Result<_, _>>()?,
        algorithms: provider.signature_verification_algorithms,
    }))
}

/// What an instance shows is believed when somebody who is trusted vouches for one of its names.
#[derive(Debug)]
struct Verifier {
    /// `None`: whatever it shows, as long as it has the key.
    chains: Option<Arc<WebPkiServerVerifier>>,
    /// Instead of the name that was asked for.
    names: Vec<ServerName<'static>>,
    algorithms: WebPkiSupportedAlgorithms,
}

impl ServerCertVerifier for Verifier {
    fn verify_server_cert(
        &self,
        end: &CertificateDer<'_>,
        between: &[CertificateDer<'_>],
        asked: &ServerName<'_>,
        ocsp: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        let Some(chains) = &self.chains else {
            return Ok(ServerCertVerified::assertion());
        };
        let is_for =
            |name: &ServerName<'_>| chains.verify_server_cert(end, between, name, ocsp, now);
        match self.names.as_slice() {
            [] => is_for(asked),
            [first, others @ ..] => others
                .iter()
                .fold(is_for(first), |found, name| found.or_else(|_| is_for(name))),
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls12_signature(message, certificate, signature, &self.algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls13_signature(message, certificate, signature, &self.algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.algorithms.supported_schemes()
    }
}

//! Certificates: which one a client is shown, by the name that it asks for.
//!
//! They come from files that the settings name and from Secrets that Ingresses name, and can change at any time: a connection
//! gets those that hold when it begins. One that cannot be used is told, and the one before it stays. Absent on purpose: nothing
//! here asks for a certificate from anybody.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::path::Path;
use std::sync::{Arc, LazyLock};

use arc_swap::ArcSwap;
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use serde::{Deserialize, Serialize};
use tokio_rustls::rustls;
use tokio_rustls::rustls::crypto::CryptoProvider;
use tokio_rustls::rustls::server::{ClientHello, ResolvesServerCert};
use tokio_rustls::rustls::sign::CertifiedKey;
use tokio_rustls::rustls::{RootCertStore, ServerConfig};

mod backends;
mod files;
mod secrets;

pub(crate) use backends::{Backends, Connector};
pub(crate) use files::Files;
pub(crate) use secrets::{lower, unusable};

/// Certificates as plain data, as they stand on disk.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct CertificateTable {
    /// By where they come from: `NAMESPACE/NAME` of a Secret, or a path.
    pub(crate) certificates: BTreeMap<String, Certificate>,
    /// The hosts whose plain requests are sent to HTTPS.
    #[serde(default)]
    pub(crate) redirected: BTreeSet<String>,
}

/// A certificate, its key, and whom it is for.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Certificate {
    /// In lower case; `*.DOMAIN` is every host one label below. `*`, or none: every host that no other certificate is for.
    pub(crate) hosts: BTreeSet<String>,
    /// PEM, the one of the host first.
    pub(crate) chain: String,
    /// PEM.
    pub(crate) key: String,
}

impl std::fmt::Debug for Certificate {
    /// Without the key: what is printed ends up in logs.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Certificate")
            .field("hosts", &self.hosts)
            .finish_non_exhaustive()
    }
}

/// A certificate and key ready for handshakes.
///
/// # Errors
/// A sentence about which of both is wrong.
pub(crate) fn certified(chain: &[u8], key: &[u8]) -> Result<CertifiedKey, String> {
    let chain: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(chain).collect();
    let chain = chain.map_err(|error| format!("the certificate is not PEM: {error}"))?;
    if chain.is_empty() {
        return Err("there is no certificate in it".into());
    }
    let key = PrivateKeyDer::from_pem_slice(key)
        .map_err(|error| format!("the key is not PEM: {error}"))?;
    CertifiedKey::from_der(chain, key, &rustls::crypto::ring::default_provider())
        .map_err(|error| format!("certificate and key cannot be used together: {error}"))
}

/// Those whose certificates are in a file, as PEM.
///
/// # Errors
/// Why they cannot be used, as a sentence without the path.
pub(crate) fn read_roots(path: &Path) -> Result<Arc<RootCertStore>, String> {
    let pem = std::fs::read(path).map_err(|error| error.to_string())?;
    let mut roots = RootCertStore::empty();
    for certificate in CertificateDer::pem_slice_iter(&pem) {
        let certificate = certificate.map_err(|error| format!("is not PEM: {error}"))?;
        roots.add(certificate).map_err(|error| error.to_string())?;
    }
    match roots.is_empty() {
        true => Err("there is no certificate in it".into()),
        false => Ok(Arc::new(roots)),
    }
}

/// Those that the system trusts, read once: they are many, and each Service may ask for them. One that cannot be read is not trusted.
pub(crate) fn system_roots() -> Arc<RootCertStore> {
    static ROOTS: LazyLock<Arc<RootCertStore>> = LazyLock::new(|| {
        let mut roots = RootCertStore::empty();
        roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
        Arc::new(roots)
    });
    Arc::clone(&ROOTS)
}

/// The certificates in use.
#[derive(Debug, Default)]
pub(crate) struct Certificates {
    by_name: ArcSwap<ByName>,
}

#[derive(Debug, Default)]
struct ByName {
    exact: HashMap<String, Arc<CertifiedKey>>,
    /// By the domain below which the host is.
    one_below: HashMap<String, Arc<CertifiedKey>>,
    any: Option<Arc<CertifiedKey>>,
    redirected: BTreeSet<String>,
}

impl Certificates {
    /// From now on these are used. What cannot be used is left out; it was told when it was taken up.
    pub(crate) fn set<'a>(&self, tables: impl IntoIterator<Item = &'a CertificateTable>) {
        let mut by_name = ByName::default();
        for table in tables {
            by_name.redirected.extend(table.redirected.iter().cloned());
            for certificate in table.certificates.values() {
                let ready = certified(certificate.chain.as_bytes(), certificate.key.as_bytes());
                if let Ok(ready) = ready {
                    by_name.add(&certificate.hosts, &Arc::new(ready));
                }
            }
        }
        self.by_name.store(Arc::new(by_name));
    }

    /// Whether plain requests for a host are sent to HTTPS.
    pub(crate) fn redirects(&self, host: &str) -> bool {
        let by_name = self.by_name.load();
        let below = || {
            host.split_once('.')
                .map(|(_, domain)| format!("*.{domain}"))
        };
        !by_name.redirected.is_empty()
            && (by_name.redirected.contains(host)
                || below().is_some_and(|wildcard| by_name.redirected.contains(&wildcard)))
    }
}

impl ByName {
    /// The first certificate for a name keeps it.
    fn add(&mut self, hosts: &BTreeSet<String>, ready: &Arc<CertifiedKey>) {
        if hosts.is_empty() || hosts.contains("*") {
            self.any.get_or_insert_with(|| Arc::clone(ready));
        }
        for host in hosts {
            let (names, host) = match host.strip_prefix("*.") {
                Some(domain) => (&mut self.one_below, domain),
                None => (&mut self.exact, host.as_str()),
            };
            let name = names.entry(host.to_owned());
            name.or_insert_with(|| Arc::clone(ready));
        }
    }

    fn find(&self, name: Option<&str>) -> Option<Arc<CertifiedKey>> {
        let by_name = name.and_then(|name| {
            let name = name.to_ascii_lowercase();
            let below = || self.one_below.get(name.split_once('.')?.1);
            self.exact.get(&name).or_else(below)
        });
        by_name.or(self.any.as_ref()).cloned()
    }
}

impl ResolvesServerCert for Certificates {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        self.by_name.load().find(hello.server_name())
    }
}

/// How TLS is spoken with clients.
#[derive(Debug)]
pub(crate) struct Tls {
    pub(crate) config: Arc<ServerConfig>,
    pub(crate) certificates: Arc<Certificates>,
}

impl Tls {
    /// With no certificate yet.
    ///
    /// # Errors
    /// When the provider of ciphers lacks a version or a random number, which does not happen with the one that is built in.
    pub(crate) fn new() -> Result<Self, rustls::Error> {
        let certificates = Arc::<Certificates>::default();
        let config = Arc::new(server_config(Arc::clone(&certificates))?);
        Ok(Self {
            config,
            certificates,
        })
    }
}

/// TLS 1.2 and 1.3, for HTTP/2 and HTTP/1.1.
fn server_config(certificates: Arc<Certificates>) -> Result<ServerConfig, rustls::Error> {
    let provider: CryptoProvider = rustls::crypto::ring::default_provider();
    let mut config = ServerConfig::builder_with_provider(Arc::new(provider))
        .with_safe_default_protocol_versions()?
        .with_no_client_auth()
        .with_cert_resolver(certificates);
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    // Tickets need no memory for clients that come back; their key is this process's alone.
    config.ticketer = rustls::crypto::ring::Ticketer::new()?;
    Ok(config)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn certificate(hosts: &[&str]) -> Certificate {
        let signed = rcgen::generate_simple_self_signed(["a".to_owned()]).unwrap();
        Certificate {
            hosts: hosts.iter().map(ToString::to_string).collect(),
            chain: signed.cert.pem(),
            key: signed.signing_key.serialize_pem(),
        }
    }

    fn shown(certificates: &Certificates, name: Option<&str>) -> Option<CertificateDer<'static>> {
        let found = certificates.by_name.load().find(name)?;
        found.cert.first().cloned()
    }

    #[test]
    fn the_name_that_is_asked_for_decides() {
        let all = [
            certificate(&["app.example.com", "www.example.com"]),
            certificate(&["*.example.com"]),
            certificate(&[]),
        ];
        let of = |at: usize| {
            let ders = CertificateDer::pem_slice_iter(all[at].chain.as_bytes());
            ders.map(Result::unwrap).next()
        };
        let mut table = CertificateTable::default();
        for (at, certificate) in all.iter().enumerate() {
            table
                .certificates
                .insert(format!("default/{at}"), certificate.clone());
        }
        let certificates = Certificates::default();
        certificates.set([&table]);
        for (name, expected) in [
            (Some("app.example.com"), 0),
            (Some("APP.example.com"), 0),
            (Some("other.example.com"), 1),
            (Some("a.b.example.com"), 2),
            (None, 2),
        ] {
            assert_eq!(shown(&certificates, name), of(expected), "{name:?}");
        }
        table.certificates.remove("default/2");
        certificates.set([&table]);
        assert_eq!(shown(&certificates, Some("else.example.org")), None);
    }

    #[test]
    fn what_cannot_be_used_says_why() {
        let (one, other) = (certificate(&[]), certificate(&[]));
        let why = |chain: &str, key: &str| certified(chain.as_bytes(), key.as_bytes()).unwrap_err();
        assert!(certified(one.chain.as_bytes(), one.key.as_bytes()).is_ok());
        assert!(why(&one.chain, &other.key).contains("together"));
        assert!(why("", &one.key).contains("no certificate"));
        assert!(why(&one.chain, "").contains("the key is not PEM"));
        assert!(!format!("{one:?}").contains("PRIVATE"));
    }
}

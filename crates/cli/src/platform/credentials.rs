//! What clients need to reach the API and nobody else has: a token, the certificate of the authority, and the kubeconfig with both.
//!
//! The API speaks TLS also on loopback, because clients send a token over nothing less. Token and authority are made once and
//! kept, so that a kubeconfig stays good over restarts.

use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use serde_json::json;
use serin_apiserver::TokenKey;

use super::authority::Authority;
use super::files::{read_small, write_secret};
use crate::home::Home;

/// Characters of a line in a PEM text.
const PEM_COLUMNS: usize = 64;

/// The token and the keys of an API.
pub(super) struct Credentials {
    /// What clients show.
    pub(super) token: String,
    /// What the gateway shows.
    pub(super) gateway_token: String,
    /// Vouches for the API.
    pub(super) authority: Authority,
    /// Signs the tokens of service accounts.
    pub(super) token_key: TokenKey,
}

/// Why there are none.
#[derive(Debug, thiserror::Error)]
pub(crate) enum CredentialsError {
    /// A file cannot be read or written.
    #[error("cannot keep {}", path.display())]
    Io {
        /// Which.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The certificate cannot be made.
    #[error("cannot make a certificate")]
    Certificate(#[from] rcgen::Error),
    /// The system gives no random numbers.
    #[error("the system gives no random numbers for the key of the tokens of service accounts")]
    Random,
    /// The kubeconfig cannot be written down.
    #[error("cannot write the kubeconfig: {0}")]
    Yaml(String),
}

impl Credentials {
    /// Those of the state directory, made now if there are none.
    pub(super) fn of(home: &Home) -> Result<Self, CredentialsError> {
        Ok(Self {
            token: token(&home.keys().join("token"))?,
            gateway_token: token(&home.keys().join("gateway-token"))?,
            authority: Authority::of(home)?,
            token_key: token_key(home)?,
        })
    }

    /// Writes the kubeconfig for the API at `address`, and that of the gateway.
    pub(super) fn write_kubeconfig(
        &self,
        home: &Home,
        address: SocketAddr,
    ) -> Result<PathBuf, CredentialsError> {
        let gateways = serin_gateway::kubeconfig(home.root());
        let text = self.kubeconfig(address, &self.gateway_token)?;
        write(&gateways, text.as_bytes())?;
        let path = home.kubeconfig();
        write(&path, self.kubeconfig(address, &self.token)?.as_bytes())?;
        Ok(path)
    }

    fn kubeconfig(&self, address: SocketAddr, token: &str) -> Result<String, CredentialsError> {
        let authority = BASE64_STANDARD.encode(pem(&self.authority.certificate));
        let config = json!({
            "apiVersion": "v1",
            "kind": "Config",
            "current-context": "serin",
            "clusters": [{"name": "serin", "cluster": {
                "server": format!("https://{}", reachable(address)),
                "certificate-authority-data": authority,
            }}],
            "users": [{"name": "serin", "user": {"token": token}}],
            "contexts": [{"name": "serin", "context": {
                "cluster": "serin", "user": "serin", "namespace": "default",
            }}],
        });
        serde_saphyr::to_string(&config).map_err(|error| CredentialsError::Yaml(error.to_string()))
    }
}

/// Where a client of this machine finds what listens at an address.
pub(crate) fn reachable(address: SocketAddr) -> SocketAddr {
    if address.ip().is_unspecified() {
        SocketAddr::new(Ipv4Addr::LOCALHOST.into(), address.port())
    } else {
        address
    }
}

/// The token in a file, made now if there is none.
fn token(file: &Path) -> Result<String, CredentialsError> {
    match read(file)?.map(String::from_utf8) {
        Some(Ok(token)) if !token.trim().is_empty() => Ok(token.trim().to_owned()),
        _ => {
            let token = new_token();
            write(file, token.as_bytes())?;
            Ok(token)
        }
    }
}

/// The key of the state directory, made now if there is none. Taking the file away makes all tokens of service accounts worthless.
fn token_key(home: &Home) -> Result<TokenKey, CredentialsError> {
    let file = home.keys().join("service-accounts");
    if let Some(key) = read(&file)?.as_deref().and_then(TokenKey::of) {
        return Ok(key);
    }
    let (key, bytes) = TokenKey::generate().ok_or(CredentialsError::Random)?;
    write(&file, &bytes)?;
    Ok(key)
}

pub(super) fn read(path: &Path) -> Result<Option<Vec<u8>>, CredentialsError> {
    read_small(path).map_err(|source| CredentialsError::Io {
        path: path.to_path_buf(),
        source,
    })
}

pub(super) fn write(path: &Path, contents: &[u8]) -> Result<(), CredentialsError> {
    write_secret(path, contents).map_err(|source| CredentialsError::Io {
        path: path.to_path_buf(),
        source,
    })
}

/// 244 random bits of the system, as text.
fn new_token() -> String {
    let half = || uuid::Uuid::new_v4().simple().to_string();
    half() + &half()
}

fn pem(der: &[u8]) -> String {
    let encoded = BASE64_STANDARD.encode(der);
    let mut text = String::from("-----BEGIN CERTIFICATE-----\n");
    let mut rest = encoded.as_str();
    while !rest.is_empty() {
        let (line, after) = rest.split_at(rest.len().min(PEM_COLUMNS));
        text.push_str(line);
        text.push('\n');
        rest = after;
    }
    text.push_str("-----END CERTIFICATE-----\n");
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::home::DirVariables;

    #[test]
    fn the_token_is_kept() {
        let dir = tempfile::tempdir().unwrap();
        let home = Home::resolve(Some(dir.path()), &DirVariables::default()).unwrap();
        home.prepare().unwrap();
        let first = Credentials::of(&home).unwrap();
        assert_eq!(first.token.len(), 64);
        assert_eq!(first.token, Credentials::of(&home).unwrap().token);
    }

    #[tokio::test]
    async fn the_kubeconfig_is_one_that_clients_read() {
        let dir = tempfile::tempdir().unwrap();
        let home = Home::resolve(Some(dir.path()), &DirVariables::default()).unwrap();
        home.prepare().unwrap();
        let address: SocketAddr = "0.0.0.0:7443".parse().unwrap();
        let credentials = Credentials::of(&home).unwrap();
        let path = credentials.write_kubeconfig(&home, address).unwrap();
        let config = kube::config::Kubeconfig::read_from(path).unwrap();
        let config = kube::Config::from_custom_kubeconfig(config, &Default::default())
            .await
            .unwrap();
        assert_eq!(config.cluster_url.to_string(), "https://127.0.0.1:7443/");
        assert_eq!(
            config.root_cert,
            Some(vec![credentials.authority.certificate])
        );
    }
}

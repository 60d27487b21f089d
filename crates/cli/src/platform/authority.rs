//! The certificate authority of a state directory: clients trust it, and it vouches for the API under every name that it is
//! given, so that a new name or a renewed certificate needs no new kubeconfig.

use std::sync::{Arc, Mutex, PoisonError};

use jiff::tz::TimeZone;
use jiff::{SignedDuration, Timestamp};
use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose, date_time_ymd,
};
use tokio_rustls::rustls::crypto::CryptoProvider;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};
use tokio_rustls::rustls::server::{ClientHello, ResolvesServerCert};
use tokio_rustls::rustls::sign::CertifiedKey;

use super::credentials::{CredentialsError, read, write};
use crate::home::Home;

/// How long a certificate of the API is good, and after how long it is replaced. It is made anew at every start too.
const GOOD_FOR: SignedDuration = SignedDuration::from_hours(90 * 24);
const RENEWED_AFTER: SignedDuration = SignedDuration::from_hours(60 * 24);
/// How long the authority is good: longer than the machine.
const AUTHORITY_YEARS: i32 = 20;

/// The authority.
pub(super) struct Authority {
    /// What clients trust, DER.
    pub(super) certificate: Vec<u8>,
    issuer: Issuer<'static, KeyPair>,
}

impl Authority {
    /// That of the state directory, made now if there is none.
    pub(super) fn of(home: &Home) -> Result<Self, CredentialsError> {
        let certificate_file = home.keys().join("ca.crt");
        let key_file = home.keys().join("ca.key");
        let params = authority_params(Timestamp::now());
        let (certificate, key) = match (read(&certificate_file)?, read(&key_file)?) {
            (Some(certificate), Some(key)) => (certificate, KeyPair::try_from(key)?),
            _ => {
                let key = KeyPair::generate()?;
                let certificate = params.self_signed(&key)?.der().to_vec();
                write(&key_file, &key.serialize_der())?;
                write(&certificate_file, &certificate)?;
                (certificate, key)
            }
        };
        Ok(Self {
            certificate,
            issuer: Issuer::new(params, key),
        })
    }

    /// A certificate for these names and addresses, and its key.
    fn issue(
        &self,
        names: &[String],
        now: Timestamp,
        provider: &CryptoProvider,
    ) -> Result<CertifiedKey, IssueError> {
        let mut params = CertificateParams::new(names)?;
        params.distinguished_name.push(DnType::CommonName, "serin");
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        params.use_authority_key_identifier_extension = true;
        lasts(&mut params, now, date(now + GOOD_FOR));
        let key = KeyPair::generate()?;
        let certificate = params.signed_by(&key, &self.issuer)?;
        let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(key.serialize_der()));
        let chain = vec![
            certificate.der().clone(),
            CertificateDer::from(self.certificate.clone()),
        ];
        Ok(CertifiedKey::from_der(chain, key, provider)?)
    }
}

/// Why no certificate is issued.
#[derive(Debug, thiserror::Error)]
pub(crate) enum IssueError {
    /// It cannot be made, such as for a name that is none.
    #[error("it cannot be made")]
    Made(#[from] rcgen::Error),
    /// It cannot be used.
    #[error("it cannot be used")]
    Used(#[from] tokio_rustls::rustls::Error),
}

fn authority_params(now: Timestamp) -> CertificateParams {
    let mut params = CertificateParams::default();
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    params
        .distinguished_name
        .push(DnType::CommonName, "serin authority");
    let (year, ..) = date(now);
    lasts(&mut params, now, (year + AUTHORITY_YEARS, 1, 1));
    params
}

/// Year, month and day, from whose start or end a certificate counts.
fn date(at: Timestamp) -> (i32, u8, u8) {
    let date = at.to_zoned(TimeZone::UTC).date();
    let (month, day) = (date.month().unsigned_abs(), date.day().unsigned_abs());
    (i32::from(date.year()), month, day)
}

/// From the day before, as clocks of clients may be behind, to the last day.
fn lasts(params: &mut CertificateParams, now: Timestamp, until: (i32, u8, u8)) {
    let (year, month, day) = date(now - SignedDuration::from_hours(24));
    params.not_before = date_time_ymd(year, month, day);
    let (year, month, day) = until;
    params.not_after = date_time_ymd(year, month, day);
}

/// The certificate that is shown now. One that comes to its end is replaced by the handshake that finds it so.
pub(super) struct Renewed {
    authority: Authority,
    names: Vec<String>,
    provider: Arc<CryptoProvider>,
    shown: Mutex<(Arc<CertifiedKey>, Timestamp)>,
}

impl Renewed {
    /// Issues the first one.
    pub(super) fn begin(
        authority: Authority,
        names: Vec<String>,
        provider: Arc<CryptoProvider>,
    ) -> Result<Self, IssueError> {
        let now = Timestamp::now();
        let first = Arc::new(authority.issue(&names, now, &provider)?);
        Ok(Self {
            authority,
            names,
            provider,
            shown: Mutex::new((first, now + RENEWED_AFTER)),
        })
    }

    fn at(&self, now: Timestamp) -> Arc<CertifiedKey> {
        let mut shown = self.shown.lock().unwrap_or_else(PoisonError::into_inner);
        if now >= shown.1 {
            match self.authority.issue(&self.names, now, &self.provider) {
                Ok(next) => *shown = (Arc::new(next), now + RENEWED_AFTER),
                // The old one is good for a while yet; the next handshake tries again.
                Err(error) => {
                    tracing::error!(%error, "the certificate of the API cannot be renewed")
                }
            }
        }
        Arc::clone(&shown.0)
    }
}

impl ResolvesServerCert for Renewed {
    fn resolve(&self, _hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(self.at(Timestamp::now()))
    }
}

impl std::fmt::Debug for Renewed {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Renewed")
            .field("names", &self.names)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::home::DirVariables;

    fn renewed(home: &Home) -> Renewed {
        let provider = Arc::new(tokio_rustls::rustls::crypto::ring::default_provider());
        let names = vec![
            "localhost".to_owned(),
            "10.0.0.7".to_owned(),
            "cd.example.com".to_owned(),
        ];
        Renewed::begin(Authority::of(home).unwrap(), names, provider).unwrap()
    }

    #[test]
    fn a_certificate_is_replaced_before_its_end_and_only_then() {
        let directory = tempfile::tempdir().unwrap();
        let home = Home::resolve(Some(directory.path()), &DirVariables::default()).unwrap();
        home.prepare().unwrap();
        let renewed = renewed(&home);
        let now = Timestamp::now();
        let first = renewed.at(now);
        assert_eq!(
            renewed.at(now + SignedDuration::from_hours(59 * 24)).cert,
            first.cert
        );
        let later = now + SignedDuration::from_hours(61 * 24);
        let second = renewed.at(later);
        assert_ne!(second.cert, first.cert);
        assert_eq!(renewed.at(later).cert, second.cert);
    }

    #[test]
    fn the_authority_is_kept() {
        let directory = tempfile::tempdir().unwrap();
        let home = Home::resolve(Some(directory.path()), &DirVariables::default()).unwrap();
        home.prepare().unwrap();
        let first = Authority::of(&home).unwrap().certificate;
        assert_eq!(Authority::of(&home).unwrap().certificate, first);
    }
}

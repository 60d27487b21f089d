//! The tokens of service accounts: JSON Web Tokens that this server signs and nobody else needs to check.
//!
//! Signed with HMAC-SHA256: one key, kept with the state, for the one server that both makes and reads them.

use std::fmt;

use base64::Engine;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use jiff::Timestamp;
use ring::hmac;
use ring::rand::{SecureRandom, SystemRandom};
use serde::{Deserialize, Serialize};

/// Who makes the tokens, and whom they are for when nothing is said: the name by which a cluster calls its own API.
pub(crate) const ISSUER: &str = "https://kubernetes.default.svc";
/// The only head that is made and taken: what a token says of its own algorithm is never believed.
const HEAD: &str = r#"{"alg":"HS256","typ":"JWT"}"#;
const KEY_LENGTH: usize = 32;
/// A longer text is no token of ours.
const MOST_BYTES: usize = 8 << 10;
/// Clocks of other programs may be so many seconds behind ours.
const LEEWAY: i64 = 5;

/// The key that tokens are signed with.
#[derive(Clone)]
pub struct TokenKey(hmac::Key);

impl TokenKey {
    /// A new key of the system's randomness, and its bytes to keep; `None` when the system has none.
    pub fn generate() -> Option<(Self, Vec<u8>)> {
        let mut bytes = vec![0; KEY_LENGTH];
        SystemRandom::new().fill(&mut bytes).ok()?;
        Some((Self(hmac::Key::new(hmac::HMAC_SHA256, &bytes)), bytes))
    }

    /// A key that nobody can keep: its tokens end with the process.
    pub(crate) fn of_this_process() -> Self {
        Self::generate().map_or_else(
            || {
                let bytes = [
                    uuid::Uuid::new_v4().into_bytes(),
                    uuid::Uuid::new_v4().into_bytes(),
                ];
                Self(hmac::Key::new(hmac::HMAC_SHA256, &bytes.concat()))
            },
            |(key, _)| key,
        )
    }

    /// The key of bytes that were kept; `None` when there are too few of them.
    pub fn of(bytes: &[u8]) -> Option<Self> {
        (bytes.len() >= KEY_LENGTH).then(|| Self(hmac::Key::new(hmac::HMAC_SHA256, bytes)))
    }

    pub(super) fn sign(&self, claims: &Claims) -> Result<String, serde_json::Error> {
        let claims = serde_json::to_vec(claims)?;
        let head = BASE64_URL_SAFE_NO_PAD.encode(HEAD);
        let signed = format!("{head}.{}", BASE64_URL_SAFE_NO_PAD.encode(claims));
        let tag = hmac::sign(&self.0, signed.as_bytes());
        Ok(format!("{signed}.{}", BASE64_URL_SAFE_NO_PAD.encode(tag)))
    }

    /// The claims of a token of ours that is good now, for one of the audiences at least.
    pub(super) fn verify(
        &self,
        token: &str,
        audiences: &[String],
        now: Timestamp,
    ) -> Result<Claims, Untrusted> {
        if token.len() > MOST_BYTES {
            return Err(Untrusted("it is too long"));
        }
        let (signed, tag) = token.rsplit_once('.').ok_or(Untrusted("it is no token"))?;
        let (head, claims) = signed.split_once('.').ok_or(Untrusted("it is no token"))?;
        let decode = |part| {
            let decoded = BASE64_URL_SAFE_NO_PAD.decode(part);
            decoded.map_err(|_| Untrusted("it is no token"))
        };
        if decode(head)? != HEAD.as_bytes() {
            return Err(Untrusted("it is signed in another way"));
        }
        hmac::verify(&self.0, signed.as_bytes(), &decode(tag)?)
            .map_err(|_| Untrusted("its signature is not ours"))?;
        let claims: Claims = serde_json::from_slice(&decode(claims)?)
            .map_err(|_| Untrusted("its claims cannot be read"))?;
        let now = now.as_second();
        if claims.iss != ISSUER {
            return Err(Untrusted("it is of another issuer"));
        }
        if now >= claims.exp {
            return Err(Untrusted("it has expired"));
        }
        if claims.nbf > now + LEEWAY {
            return Err(Untrusted("it is not valid yet"));
        }
        if !claims.aud.iter().any(|a| audiences.contains(a)) {
            return Err(Untrusted("it is for another audience"));
        }
        Ok(claims)
    }
}

impl fmt::Debug for TokenKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("TokenKey(..)")
    }
}

/// Why a token is not taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub(crate) struct Untrusted(pub(super) &'static str);

/// What a token says. Times are seconds since 1970.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Claims {
    pub(super) aud: Vec<String>,
    pub(super) exp: i64,
    pub(super) iat: i64,
    pub(super) iss: String,
    pub(super) jti: String,
    #[serde(rename = "kubernetes.io")]
    pub(super) about: About,
    pub(super) nbf: i64,
    pub(super) sub: String,
}

/// Whom a token is of, and with whose end it ends.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct About {
    pub(super) namespace: String,
    pub(super) serviceaccount: Named,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) pod: Option<Named>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) secret: Option<Named>,
}

/// One object, and no other of its name.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Named {
    pub(super) name: String,
    pub(super) uid: String,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn claims() -> Claims {
        Claims {
            aud: vec![ISSUER.into()],
            exp: 2000,
            iat: 1000,
            iss: ISSUER.into(),
            jti: "id".into(),
            about: About::default(),
            nbf: 1000,
            sub: "system:serviceaccount:default:a".into(),
        }
    }

    fn key() -> TokenKey {
        TokenKey::of(&[7; KEY_LENGTH]).unwrap()
    }

    fn at(seconds: i64) -> Timestamp {
        Timestamp::from_second(seconds).unwrap()
    }

    fn verify(token: &str, now: i64) -> Result<Claims, Untrusted> {
        key().verify(token, &[ISSUER.to_owned()], at(now))
    }

    #[test]
    fn a_token_is_good_while_it_lasts() {
        let token = key().sign(&claims()).unwrap();
        assert_eq!(verify(&token, 1500), Ok(claims()));
        for (now, why) in [(2000, "it has expired"), (900, "it is not valid yet")] {
            assert_eq!(verify(&token, now), Err(Untrusted(why)));
        }
    }

    #[test]
    fn what_is_not_ours_is_not_taken() {
        let encode = |text: &[u8]| BASE64_URL_SAFE_NO_PAD.encode(text);
        let body = encode(&serde_json::to_vec(&claims()).unwrap());
        let none = format!("{}.{body}.", encode(br#"{"alg":"none","typ":"JWT"}"#));
        let other = TokenKey::of(&[8; KEY_LENGTH])
            .unwrap()
            .sign(&claims())
            .unwrap();
        let sign = |claims: Claims| key().sign(&claims).unwrap();
        let foreign = sign(Claims {
            iss: "https://elsewhere".into(),
            ..claims()
        });
        let audience = sign(Claims {
            aud: vec!["vault".into()],
            ..claims()
        });
        // A body without an end is signed by hand, as no `Claims` is without one.
        let endless = format!(
            "{}.{}",
            encode(HEAD.as_bytes()),
            encode(br#"{"aud":[],"iss":""}"#)
        );
        let tag = hmac::sign(&key().0, endless.as_bytes());
        let endless = format!("{endless}.{}", encode(tag.as_ref()));
        let long = "a".repeat(MOST_BYTES + 1);
        for (token, why) in [
            ("", "it is no token"),
            ("a.b", "it is no token"),
            ("a.b.c", "it is no token"),
            (long.as_str(), "it is too long"),
            (none.as_str(), "it is signed in another way"),
            (other.as_str(), "its signature is not ours"),
            (foreign.as_str(), "it is of another issuer"),
            (audience.as_str(), "it is for another audience"),
            (endless.as_str(), "its claims cannot be read"),
        ] {
            assert_eq!(verify(token, 1500), Err(Untrusted(why)), "{token}");
        }
    }

    #[test]
    fn one_changed_letter_is_enough() {
        let token = key().sign(&claims()).unwrap();
        for place in 0..token.len() {
            let mut changed = token.clone().into_bytes();
            let letter = &mut changed[place];
            *letter = if *letter == b'A' { b'B' } else { b'A' };
            let changed = String::from_utf8(changed).unwrap();
            assert!(
                changed == token || verify(&changed, 1500).is_err(),
                "{place}"
            );
        }
    }

    #[test]
    fn short_keys_are_none() {
        assert!(TokenKey::of(b"secret").is_none());
        let (key, bytes) = TokenKey::generate().unwrap();
        assert_eq!(format!("{key:?}"), "TokenKey(..)");
        assert_eq!(bytes.len(), KEY_LENGTH);
    }
}

//! From Ingresses and Secrets to certificates: a pure function of the objects and of the certificates before.

use std::collections::BTreeSet;

use k8s_openapi::api::networking::v1::Ingress;
use serin_api::Problem;
use serin_api::problem::FieldPath;

use super::{Certificate, CertificateTable};
use crate::lower::{Effect, LowerOptions, RouteProblem, certificate_uses, takes_ingress};
use crate::names::{ObjectName, Source, SourceKind};
use crate::objects::{Objects, TlsSecret};

/// `"false"` keeps plain requests of a host that has a certificate where they are, as with ingress-nginx.
const REDIRECT: &str = "nginx.ingress.kubernetes.io/ssl-redirect";
/// `"true"` sends plain requests of every host of the Ingress to HTTPS.
const FORCE_REDIRECT: &str = "nginx.ingress.kubernetes.io/force-ssl-redirect";

/// Why the certificate of a Secret cannot be used.
pub(crate) fn unusable(secret: Option<&TlsSecret>) -> Option<String> {
    match secret {
        None => Some(NO_SECRET.into()),
        Some(secret) => secret.pem().err().map(str::to_owned),
    }
}

/// Lowers `spec.tls` of all Ingresses and the listeners of Gateways. `last` is what is in use: a certificate that cannot be used leaves its last good one there.
pub(crate) fn lower(
    objects: &Objects,
    last: &CertificateTable,
    options: &LowerOptions,
) -> (CertificateTable, Vec<RouteProblem>) {
    let mut table = CertificateTable::default();
    let mut problems = Vec::new();
    for (name, ingress) in &objects.ingresses {
        if !takes_ingress(ingress, options) {
            continue;
        }
        let spec = ingress.spec.as_ref();
        let tls = spec
            .and_then(|spec| spec.tls.as_deref())
            .unwrap_or_default();
        let mut secured = BTreeSet::new();
        for (index, entry) in tls.iter().enumerate() {
            let hosts = entry.hosts.as_deref().unwrap_or_default();
            let mut hosts: BTreeSet<String> =
                hosts.iter().map(|host| host.to_ascii_lowercase()).collect();
            let Some(secret) = &entry.secret_name else {
                secured.extend(hosts);
                continue;
            };
            if hosts.is_empty() {
                hosts.insert("*".into());
            }
            let secret = ObjectName::new(&name.namespace, secret);
            match take(&secret, &hosts, objects, last, &mut table) {
                Ok(()) => {}
                Err(why) => problems.push(RouteProblem {
                    source: Source {
                        kind: SourceKind::Ingress,
                        name: name.clone(),
                    },
                    effect: Effect::Partly,
                    problem: Problem::invalid(
                        FieldPath::new("spec.tls").index(index).field("secretName"),
                        &secret.name,
                        &why,
                    ),
                }),
            }
            if table.certificates.contains_key(&secret.to_string()) {
                secured.extend(hosts);
            }
        }
        table.redirected.extend(redirected(ingress, secured));
    }
    for one in certificate_uses(objects) {
        let hosts = BTreeSet::from([one.host]);
        if let Err(why) = take(&one.secret, &hosts, objects, last, &mut table) {
            problems.push(RouteProblem {
                source: Source {
                    kind: SourceKind::Gateway,
                    name: one.gateway,
                },
                effect: Effect::Partly,
                problem: Problem::invalid(one.at, &one.secret.name, &why),
            });
        }
    }
    (table, problems)
}

/// Why a certificate is not there.
const NO_SECRET: &str = "there is no Secret of this name and of type kubernetes.io/tls";

/// Puts the certificate of a Secret into `table`; when it cannot be used, the last good one.
fn take(
    name: &ObjectName,
    hosts: &BTreeSet<String>,
    objects: &Objects,
    last: &CertificateTable,
    table: &mut CertificateTable,
) -> Result<(), String> {
    let key = name.to_string();
    if let Some(known) = table.certificates.get_mut(&key) {
        known.hosts.extend(hosts.iter().cloned());
        return Ok(());
    }
    let found = objects.secrets.get(name).ok_or(NO_SECRET);
    let hosts = hosts.clone();
    match found.and_then(TlsSecret::pem) {
        Ok(pem) => {
            let (chain, key_pem) = (pem.chain.clone(), pem.key.clone());
            let certificate = Certificate {
                hosts,
                chain,
                key: key_pem,
            };
            table.certificates.insert(key, certificate);
            Ok(())
        }
        Err(why) => {
            let Some(known) = last.certificates.get(&key) else {
                return Err(why.to_owned());
            };
            let known = Certificate {
                hosts,
                ..known.clone()
            };
            table.certificates.insert(key, known);
            Err(format!("{why}; the certificate before it is used on"))
        }
    }
}

/// The hosts of an Ingress whose plain requests are sent to HTTPS.
fn redirected(ingress: &Ingress, secured: BTreeSet<String>) -> BTreeSet<String> {
    let annotations = ingress.metadata.annotations.as_ref();
    let says = |name: &str, word: &str| {
        annotations
            .and_then(|a| a.get(name))
            .is_some_and(|v| v == word)
    };
    if says(FORCE_REDIRECT, "true") {
        let rules = ingress.spec.as_ref().and_then(|spec| spec.rules.as_deref());
        let hosts = rules
            .unwrap_or_default()
            .iter()
            .filter_map(|rule| rule.host.as_ref());
        return hosts
            .map(|host| host.to_ascii_lowercase())
            .chain(secured)
            .collect();
    }
    if says(REDIRECT, "false") {
        return BTreeSet::new();
    }
    secured
}

#[cfg(test)]
mod tests {
    use k8s_openapi::ByteString;

    use super::*;

    fn secret(chain: &str, key: &str) -> TlsSecret {
        let data = [("tls.crt", chain), ("tls.key", key)];
        let data = data.map(|(name, text)| (name.to_owned(), ByteString(text.into())));
        TlsSecret {
            data: Some(data.into()),
            ..TlsSecret::default()
        }
    }

    fn ingress(annotations: &str) -> Objects {
        crate::testing::objects(&format!(
            "{{kind: Ingress, metadata: {{name: web, annotations: {{{annotations}}}}}, spec: {{
               rules: [{{host: plain.example.com}}],
               tls: [{{hosts: [App.example.com], secretName: web}}]}}}}"
        ))
    }

    #[test]
    fn a_certificate_that_cannot_be_used_leaves_the_one_before_it() {
        let signed = rcgen::generate_simple_self_signed(["a".to_owned()]).unwrap();
        let (chain, key) = (signed.cert.pem(), signed.signing_key.serialize_pem());
        let name = ObjectName::new("default", "web");
        let options = LowerOptions::default();
        let mut objects = ingress("");
        let (none, problems) = lower(&objects, &CertificateTable::default(), &options);
        assert_eq!(none, CertificateTable::default());
        expect_test::expect!["ingress/default/web is served in part: spec.tls[0].secretName: Invalid value: web: there is no Secret of this name and of type kubernetes.io/tls"]
            .assert_eq(&problems[0].to_string());

        objects.secrets.insert(name.clone(), secret(&chain, &key));
        let (good, problems) = lower(&objects, &none, &options);
        assert_eq!(problems, []);
        assert_eq!(good.redirected, ["app.example.com".to_owned()].into());
        assert_eq!(good.certificates["default/web"].chain, chain);

        objects.secrets.insert(name.clone(), secret("no pem", &key));
        let (kept, problems) = lower(&objects, &good, &options);
        assert_eq!((&kept, problems.len()), (&good, 1));
        objects.secrets.remove(&name);
        assert_eq!(lower(&objects, &kept, &options).0, good);
        objects.ingresses.clear();
        assert_eq!(
            lower(&objects, &kept, &options).0,
            CertificateTable::default()
        );
    }

    #[test]
    fn annotations_say_which_hosts_are_sent_to_https() {
        let signed = rcgen::generate_simple_self_signed(["a".to_owned()]).unwrap();
        let redirected = |annotations: &str| {
            let mut objects = ingress(annotations);
            let secret = secret(&signed.cert.pem(), &signed.signing_key.serialize_pem());
            objects
                .secrets
                .insert(ObjectName::new("default", "web"), secret);
            let (table, _) = lower(
                &objects,
                &CertificateTable::default(),
                &LowerOptions::default(),
            );
            table.redirected.into_iter().collect::<Vec<_>>().join(" ")
        };
        assert_eq!(redirected(""), "app.example.com");
        assert_eq!(
            redirected("nginx.ingress.kubernetes.io/ssl-redirect: 'false'"),
            ""
        );
        assert_eq!(
            redirected("nginx.ingress.kubernetes.io/force-ssl-redirect: 'true'"),
            "app.example.com plain.example.com"
        );
    }
}

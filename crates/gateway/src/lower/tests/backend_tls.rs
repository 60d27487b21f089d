//! TLS to instances: who says that it is spoken, and how.

use super::*;

/// How the instances of `web` are spoken to; or what is wrong.
fn spoken(service: &str, rule: Option<&str>) -> String {
    let rule = rule.map(|rule| {
        format!("---\nkind: DestinationRule\nmetadata: {{name: web}}\nspec: {{host: web, trafficPolicy: {{tls: {{{rule}}}}}}}\n")
    });
    let lowered = lowered(&format!(
        "kind: Service\n{service}\n{}",
        rule.unwrap_or_default()
    ));
    let problems = lowered.problems.iter().map(ToString::to_string);
    let service = &lowered.table.services[&ObjectName::new("default", "web")];
    let ports = service.ports.iter().map(|port| {
        let tls = serde_json::to_string(&port.tls).unwrap();
        format!("{:?} {tls}", port.protocol)
    });
    ports.chain(problems).collect::<Vec<_>>().join("\n")
}

fn annotated(text: &str) -> String {
    format!(
        "metadata: {{name: web, annotations: {{serin.dev/backend-tls: {text:?}}}}}\nspec: {{ports: [{{port: 80}}]}}"
    )
}

const PLAIN: &str = "metadata: {name: web}\nspec: {ports: [{port: 80}]}";

#[test]
fn the_ports_of_a_service_say_what_is_spoken() {
    let ports = [
        "https",
        "kubernetes.io/wss",
        "kubernetes.io/ws",
        "kubernetes.io/h2c",
        "grpc",
    ];
    let ports = ports.iter().enumerate();
    let ports: Vec<_> = ports
        .map(|(index, spoken)| {
            format!(
                "{{name: p{index}, port: {}, appProtocol: {spoken}}}",
                index + 1
            )
        })
        .collect();
    let service = format!(
        "metadata: {{name: web}}\nspec: {{ports: [{}]}}",
        ports.join(", ")
    );
    expect![[r#"
        Http1 {"serverName":"web.default.svc","trust":"system"}
        Http1 {"serverName":"web.default.svc","trust":"system"}
        Http1 null
        Http2 null
        Http2 null"#]]
    .assert_eq(&spoken(&service, None));
}

#[test]
fn an_annotation_says_how_tls_is_spoken() {
    let texts = [
        "on",
        "on name=app.example.com ca=tls/ca.pem",
        "on verify=off",
        "on cert=own.pem key=/etc/own.key",
        "",
        "off",
        "on ca=",
        "on ca=a verify=off",
        "on verify=maybe",
        "on cert=own.pem",
        "on name=a/b",
        "on trust=all",
    ];
    let shown = texts.map(|text| spoken(&annotated(text), None));
    expect![[r#"
        Http1 {"serverName":"web.default.svc","trust":"system"}
        Http1 {"serverName":"app.example.com","trust":{"file":"tls/ca.pem"}}
        Http1 {"serverName":"web.default.svc","trust":"anybody"}
        Http1 {"serverName":"web.default.svc","trust":"system","identity":{"certificate":"own.pem","key":"/etc/own.key"}}
        Http1 {"serverName":"web.default.svc","trust":"system"}
        service/default/web is served in part: metadata.annotations[serin.dev/backend-tls]: Invalid value: "": must begin with "on"; without the annotation there is no TLS
        Http1 {"serverName":"web.default.svc","trust":"system"}
        service/default/web is served in part: metadata.annotations[serin.dev/backend-tls]: Invalid value: "off": must begin with "on"; without the annotation there is no TLS
        Http1 {"serverName":"web.default.svc","trust":"system"}
        service/default/web is served in part: metadata.annotations[serin.dev/backend-tls]: Invalid value: "on ca=": ca: must be a file
        Http1 {"serverName":"web.default.svc","trust":"system"}
        service/default/web is served in part: metadata.annotations[serin.dev/backend-tls]: Invalid value: "on ca=a verify=off": verify: is off, so nobody asks for ca
        Http1 {"serverName":"web.default.svc","trust":"system"}
        service/default/web is served in part: metadata.annotations[serin.dev/backend-tls]: Invalid value: "on verify=maybe": verify: must be on or off
        Http1 {"serverName":"web.default.svc","trust":"system"}
        service/default/web is served in part: metadata.annotations[serin.dev/backend-tls]: Invalid value: "on cert=own.pem": cert and key: must both be files
        Http1 {"serverName":"web.default.svc","trust":"system"}
        service/default/web is served in part: metadata.annotations[serin.dev/backend-tls]: Invalid value: "on name=a/b": name: must be a host name
        Http1 {"serverName":"web.default.svc","trust":"system"}
        service/default/web is served in part: metadata.annotations[serin.dev/backend-tls]: Invalid value: "on trust=all": "trust" is not known here; known are ["name", "ca", "verify", "cert", "key"]"#]].assert_eq(&shown.join("\n"));
}

#[test]
fn a_destination_rule_says_how_tls_is_spoken() {
    let texts = [
        "mode: DISABLE",
        "mode: SIMPLE",
        "mode: SIMPLE, sni: app.example.com, caCertificates: /etc/ca.pem, subjectAltNames: [b, a]",
        "mode: SIMPLE, insecureSkipVerify: true",
        "mode: MUTUAL, clientCertificate: own.pem, privateKey: own.key",
        "mode: MUTUAL, clientCertificate: own.pem",
    ];
    let shown = texts.map(|text| spoken(PLAIN, Some(text)));
    expect![[r#"
        Http1 null
        Http1 {"serverName":"web.default.svc","trust":"system"}
        Http1 {"serverName":"app.example.com","names":["a","b"],"trust":{"file":"/etc/ca.pem"}}
        Http1 {"serverName":"web.default.svc","trust":"anybody"}
        Http1 {"serverName":"web.default.svc","trust":"system","identity":{"certificate":"own.pem","key":"own.key"}}
        Http1 {"serverName":"web.default.svc","trust":"system"}
        destinationrule/default/web is not served as it stands: spec.trafficPolicy.tls: Required value: mode MUTUAL needs clientCertificate and privateKey"#]].assert_eq(&shown.join("\n"));
    // A mistake elsewhere in a rule does not make connections plain.
    let wrong = "mode: SIMPLE}, outlierDetection: {baseEjectionTime: soon";
    expect![[r#"
        Http1 {"serverName":"web.default.svc","trust":"system"}
        destinationrule/default/web is not served as it stands: spec.trafficPolicy.outlierDetection.baseEjectionTime: Invalid value: soon: must be a duration with its unit, such as "10s" or "500ms"; "0s" is no limit"#]]
    .assert_eq(&spoken(PLAIN, Some(wrong)));
    // The Service itself goes before its rule.
    let both = spoken(&annotated("on name=own"), Some("mode: SIMPLE, sni: other"));
    expect![[r#"Http1 {"serverName":"own","trust":"system"}"#]].assert_eq(&both);
}

//! Which names which constraints allow.

use der::{Encode as _, asn1::Ia5String};
use rcgen::{CertificateParams, CustomExtension, KeyPair};

use super::*;
use crate::x509::pem;

/// `URI:host`, `DNS:domain`, `IP:address`, `IP:address/prefix` or `email:name`.
fn general_name(text: &str) -> GeneralName {
    let (form, value) = text.split_once(':').unwrap();
    let text = || Ia5String::new(value).unwrap();
    match form {
        "URI" => GeneralName::UniformResourceIdentifier(text()),
        "DNS" => GeneralName::DnsName(text()),
        "email" => GeneralName::Rfc822Name(text()),
        "IP" => {
            let (address, prefix) = value.split_once('/').map_or((value, None), |(a, p)| (a, Some(p)));
            let mut bytes = match address.parse::<IpAddr>().unwrap() {
                IpAddr::V4(v4) => v4.octets().to_vec(),
                IpAddr::V6(v6) => v6.octets().to_vec(),
            };
            if let Some(prefix) = prefix {
                let prefix: usize = prefix.parse().unwrap();
                let bit = |at: usize| u8::from(at < prefix) << (7 - at % 8);
                let mask = (0..bytes.len()).map(|byte| (byte * 8..byte * 8 + 8).map(bit).sum::<u8>());
                bytes = bytes.iter().copied().chain(mask).collect();
            }
            GeneralName::IpAddress(der::asn1::OctetString::new(bytes).unwrap())
        }
        _ => panic!("{form}"),
    }
}

fn certificate(extensions: Vec<(&[u64], Vec<u8>)>) -> Vec<u8> {
    let mut params = CertificateParams::default();
    params.distinguished_name = rcgen::DistinguishedName::new();
    params.distinguished_name.push(rcgen::DnType::CommonName, "CA");
    params.custom_extensions =
        extensions.into_iter().map(|(oid, der)| CustomExtension::from_oid_content(oid, der)).collect();
    params.self_signed(&KeyPair::generate().unwrap()).unwrap().der().to_vec()
}

/// The constraints of a certificate that has these: `permitted;URI:host` and so on, with spaces between.
fn constraints(all: &str) -> Result<NameConstraints, MalformedConstraint> {
    let of = |word: &str| {
        let found = all.split(' ').filter_map(|one| one.strip_prefix(word)?.strip_prefix(';'));
        let subtrees: Vec<_> =
            found.map(|one| GeneralSubtree { base: general_name(one), minimum: 0, maximum: None }).collect();
        (!subtrees.is_empty()).then_some(subtrees)
    };
    let (permitted_subtrees, excluded_subtrees) = (of("permitted"), of("excluded"));
    let value = pkix::NameConstraints { permitted_subtrees, excluded_subtrees }.to_der().unwrap();
    let der = certificate(vec![(&[2, 5, 29, 30], value)]);
    NameConstraints::of(&x509::parse(&der).unwrap())
}

#[test]
fn names_within_and_outside_of_constraints() {
    let workload = "URI:spiffe://cluster.local/ns/shop/sa/reviews";
    for (given, name, allowed) in [
        ("permitted;URI:cluster.local", workload, true),
        ("permitted;URI:CLUSTER.local", workload, true),
        ("permitted;URI:.cluster.local", workload, false),
        ("permitted;URI:.local", workload, true),
        ("permitted;URI:local", workload, false),
        ("permitted;URI:corp.example", workload, false),
        ("permitted;URI:corp.example permitted;URI:cluster.local", workload, true),
        ("permitted;URI:cluster.local", "URI:spiffe://evilcluster.local/ns/a/sa/b", false),
        ("permitted;URI:cluster.local", "URI:spiffe://evil@cluster.local/ns/a/sa/b", true),
        ("permitted;URI:cluster.local", "URI:spiffe://cluster.local@evil.example/ns/a/sa/b", false),
        ("permitted;URI:cluster.local", "URI:spiffe://cluster.local.evil.example/ns/a/sa/b", false),
        ("permitted;URI:cluster.local", "URI:spiffe://cluster.local:80/ns/a/sa/b", true),
        ("permitted;URI:my_td.local", "URI:spiffe://my_td.local/ns/a/sa/b", true),
        ("excluded;URI:evil.example", workload, true),
        ("excluded;URI:cluster.local", workload, false),
        ("excluded;URI:.local", workload, false),
        ("permitted;URI:.local excluded;URI:cluster.local", workload, false),
        // A URI without a host that is a domain is refused wherever URIs are constrained (RFC 5280 §4.2.1.10).
        ("excluded;URI:evil.example", "URI:spiffe://10.0.0.1/ns/a/sa/b", false),
        ("excluded;URI:evil.example", "URI:spiffe://cluster.local./ns/a/sa/b", false),
        ("excluded;URI:evil.example", "URI:urn:uuid:1", false),
        ("excluded;URI:evil.example", "URI:spiffe:///ns/a/sa/b", false),
        ("excluded;URI:evil.example", "URI:spiffe://[::1]/a", false),
        // Other forms of names are not concerned.
        ("permitted;URI:corp.example", "DNS:istiod.istio-system.svc", true),
        ("permitted;DNS:.example.com", workload, true),
        ("permitted;DNS:.example.com", "IP:127.0.0.1", true),
        ("permitted;DNS:example.com", "DNS:example.com", true),
        ("permitted;DNS:example.com", "DNS:a.b.Example.com", true),
        ("permitted;DNS:example.com", "DNS:badexample.com", false),
        ("permitted;DNS:.example.com", "DNS:a.example.com", true),
        ("permitted;DNS:.example.com", "DNS:example.com", false),
        ("permitted;DNS:.example.com", "DNS:istiod.istio-system.svc", false),
        ("excluded;DNS:svc", "DNS:istiod.istio-system.svc", false),
        ("excluded;DNS:", "DNS:localhost", false),
        ("permitted;DNS:", "DNS:localhost", true),
        ("excluded;DNS:a.example.com", "DNS:*.example.com", false),
        ("permitted;IP:10.0.0.0/8", "IP:10.1.2.3", true),
        ("permitted;IP:10.0.0.0/8", "IP:11.0.0.1", false),
        ("permitted;IP:10.0.0.0/8", "IP:::1", false),
        ("excluded;IP:0.0.0.0/0", "IP:127.0.0.1", false),
        ("excluded;IP:0.0.0.0/0", "IP:::1", true),
        ("excluded;IP:::/0", "IP:fd00::1", false),
        ("permitted;IP:fd00::/9", "IP:fd7f::1", true),
        ("permitted;IP:fd00::/9", "IP:fd80::1", false),
        ("permitted;IP:192.0.2.1/32", "IP:192.0.2.1", true),
        // Forms that are not compared here are refused below a constraint of theirs.
        ("permitted;email:example.com", "email:a@example.com", false),
        ("permitted;email:example.com", workload, true),
    ] {
        let found = constraints(given).unwrap().check(&general_name(name));
        assert_eq!(found.is_ok(), allowed, "{given}: {name}: {found:?}");
    }
}

#[test]
fn a_violation_names_constraint_owner_and_name() {
    let all = constraints("permitted;URI:corp.example permitted;URI:.corp.example").unwrap();
    let said = all.check(&general_name("URI:spiffe://cluster.local/ns/a/sa/b")).unwrap_err().to_string();
    let whole = "the name constraint permitted;URI:corp.example, permitted;URI:.corp.example of CN=CA does not allow \
                 spiffe://cluster.local/ns/a/sa/b";
    assert_eq!(said, whole);
    let all = constraints("excluded;IP:10.0.0.0/8").unwrap().and(constraints("permitted;DNS:svc").unwrap());
    let said = all.check(&general_name("IP:10.0.0.1")).unwrap_err().to_string();
    assert!(said.contains("excluded;IP:10.0.0.0/8") && said.ends_with("10.0.0.1"), "{said}");
    assert!(all.check(&general_name("DNS:localhost")).is_err(), "those of both count");
}

#[test]
fn constraints_that_are_none() {
    for bad in [
        "permitted;URI:spiffe://cluster.local",
        "permitted;URI:cluster.local/ns",
        "permitted;URI:",
        "excluded;URI:10.0.0.1",
        "permitted;DNS:a/b",
        "permitted;DNS:..a",
        "permitted;IP:10.0.0.1", // no mask
    ] {
        let refused = constraints(bad).map(|_| ()).unwrap_err().to_string();
        assert!(refused.contains("cannot be read"), "{bad}: {refused}");
    }
    let gap = [10, 0, 0, 0, 255, 0, 255, 0];
    assert!(network::of_constraint(&gap).is_none(), "a mask with a gap");
    let twice = certificate(vec![(&[2, 5, 29, 30], vec![0x30, 0]), (&[2, 5, 29, 30], vec![0x30, 0])]);
    if let Some(parsed) = x509::parse(&twice) {
        assert!(NameConstraints::of(&parsed).is_err(), "{}", pem::encode("CERTIFICATE", &twice));
    }
}

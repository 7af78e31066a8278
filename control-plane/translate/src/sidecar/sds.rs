//! Secrets: credentials that rules name and that the control plane hands out (POLICY.md O7).

use std::{
    hash::{Hash, Hasher},
    sync::Arc,
};

use eastwest_engine::settings::{Outbound, OutboundService, Secret, WorkloadTls};
use eastwest_model::Name;
use eastwest_proto::envoy::{
    config::core::v3::{DataSource, data_source::Specifier},
    extensions::transport_sockets::tls::v3::{
        CertificateValidationContext, Secret as EnvoySecret, TlsCertificate, secret::Type,
    },
};
use eastwest_xds::{EncodedResource, TypeUrl};

use crate::{
    facts::ProxyFacts,
    joint::{HostIndex, JointResources, JointType},
    origins::{self, Source},
    resource::{Cache, Generator, encode},
    type_builder::{Access, TypeBuilder},
};

/// Secrets.
#[derive(Debug)]
pub(crate) struct Secrets;

impl TypeBuilder for Secrets {
    fn type_url(&self) -> TypeUrl {
        TypeUrl::SECRET
    }

    fn sources(&self, settings: &WorkloadTls, name: &str) -> Vec<Source> {
        let uses =
            origins::clusters(settings).filter(|(_, one)| one.secrets.keys().any(|key| **key == *name));
        uses.flat_map(origins::of_cluster).collect()
    }

    fn joint(&self) -> Option<Box<dyn JointResources>> {
        Some(Box::<HostIndex<Self>>::default())
    }

    fn access(&self, facts: ProxyFacts) -> Access {
        if facts.proven { Access::AllBut(Vec::new()) } else { Access::Own }
    }
}

/// Several hosts may name a secret. The same name is the same secret to all clients of a scope.
impl JointType for Secrets {
    type Key = Name;
    type Part<'a> = &'a Secret;

    fn name(name: &Name) -> String {
        name.to_string()
    }

    fn parts(service: &OutboundService) -> Vec<(Name, &Secret)> {
        let secrets = service.clusters.iter().flat_map(|cluster| &cluster.secrets);
        secrets.map(|(name, secret)| (name.clone(), secret)).collect()
    }

    fn resource(
        cache: &mut Cache,
        name: &Name,
        secrets: &[&&Secret],
        _: &Outbound,
    ) -> Option<Arc<EncodedResource>> {
        secrets.last().map(|secret| cache.get(&SecretInputs { name, secret }))
    }
}

/// Inputs of a secret.
struct SecretInputs<'a> {
    name: &'a Name,
    secret: &'a Secret,
}

/// All that goes into the resource; the hash is a digest, which tells nothing about a key.
impl Hash for SecretInputs<'_> {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.name.hash(state);
        match self.secret {
            Secret::Pair(pair) => (0, &pair.certificate_chain, pair.private_key.pem()).hash(state),
            Secret::Trust(bundle) => (1, &bundle.certificates, &bundle.crl).hash(state),
        }
    }
}

impl Generator for SecretInputs<'_> {
    const KIND: &'static str = "secret";

    fn generate(&self) -> EncodedResource {
        let content = match self.secret {
            Secret::Pair(pair) => Type::TlsCertificate(TlsCertificate {
                certificate_chain: Some(inline(&pair.certificate_chain)),
                private_key: Some(inline(pair.private_key.pem())),
                ..Default::default()
            }),
            Secret::Trust(bundle) => Type::ValidationContext(CertificateValidationContext {
                trusted_ca: Some(inline(&bundle.certificates)),
                crl: bundle.crl.as_deref().map(inline),
                ..Default::default()
            }),
        };
        let secret = EnvoySecret { name: self.name.to_string(), r#type: Some(content) };
        encode(TypeUrl::SECRET, self.name, &secret)
    }
}

fn inline(pem: &str) -> DataSource {
    DataSource {
        specifier: Some(Specifier::InlineBytes(pem.as_bytes().to_vec().into())),
        ..Default::default()
    }
}

/// The same for people: whose key it is, never the key.
pub(crate) fn redacted(mut secret: EnvoySecret, fingerprint: &str) -> EnvoySecret {
    if let Some(Type::TlsCertificate(pair)) = &mut secret.r#type {
        let told = format!("[redacted] key of the certificate with SHA-256 {fingerprint}");
        pair.private_key =
            Some(DataSource { specifier: Some(Specifier::InlineString(told)), ..Default::default() });
    }
    secret
}

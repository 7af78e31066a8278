//! The secrets that a setting names and that the control plane hands out (POLICY.md O7).
//!
//! A Secret is for the clients of its own namespace alone, and only a rule that selects them can name it. A ConfigMap
//! holds nothing but roots, which anybody may read. What is missing or unusable leaves the setting as it is: the client
//! has no certificate or no roots then, and its connections fail. None goes out in plaintext.

use std::{collections::BTreeMap, sync::Arc};

use eastwest_model::{
    Credential, CredentialRef, Kind, Name,
    credential::TRUST_SUFFIX,
    policy::{ClientTls, DestinationRule},
};

use crate::{
    Snapshot,
    settings::{CertificateSource, ClientTlsSetting, Secret, TrustSource},
    trace::{CredentialPart, CredentialProblem, CredentialReason, Reason, Step, Trace},
};

/// The credentials of one setting, and what is reported about them.
#[derive(Debug, Default)]
pub(super) struct Handout {
    pub secrets: BTreeMap<Name, Secret>,
    pub steps: Vec<Step>,
}

/// The secrets of a setting that `tls`, a block of `rule`, asked for; `client` is the namespace of the clients.
pub(super) fn of(
    snapshot: &Snapshot,
    client: &Name,
    (tls, rule): (&ClientTls, &DestinationRule),
    setting: &ClientTlsSetting,
) -> Handout {
    let mut handout = Handout::default();
    let (ClientTlsSetting::Simple(asked) | ClientTlsSetting::Mutual(asked)) = setting else { return handout };
    let Some(name) = &tls.credential_name else { return handout };
    let reference = readable(name, rule, client);
    if let Some(CertificateSource::Credential(resource)) = &asked.certificate {
        let found = reference.as_ref().map_err(Clone::clone).and_then(|one| pair(snapshot, one));
        handout.add(rule, resource, CredentialPart::Certificate, found);
    }
    if let Some(TrustSource::Credential(resource)) = &asked.trust {
        let found = reference.as_ref().map_err(Clone::clone).and_then(|one| trust(snapshot, one));
        handout.add(rule, resource, CredentialPart::TrustBundle, found);
    }
    handout
}

type Found<'a> = Result<(&'a Arc<Credential>, Secret), CredentialProblem>;

impl Handout {
    fn add(&mut self, rule: &DestinationRule, resource: &Name, part: CredentialPart, found: Found<'_>) {
        let step = match found {
            Ok((credential, secret)) => {
                let reason = CredentialReason::Gives { part, fingerprint: secret.fingerprint().clone() };
                self.secrets.insert(resource.clone(), secret);
                Step::of(&credential.meta, reason)
            }
            Err(problem) => Step::of(&rule.meta, CredentialReason::Withheld { part, problem }),
        };
        self.steps.push(step);
    }
}

/// The step of a credential that a cluster needs and does not get, if there is one.
pub(crate) fn withheld(trace: &Trace) -> Option<&Step> {
    let is_withheld =
        |step: &&Step| matches!(step.reason, Reason::Credential(CredentialReason::Withheld { .. }));
    trace.steps().find(is_withheld)
}

/// What the rule names, if the clients may read it.
fn readable(name: &Name, rule: &DestinationRule, client: &Name) -> Result<CredentialRef, CredentialProblem> {
    let reference = CredentialRef::parse(name, rule.meta.namespace())
        .ok_or_else(|| CredentialProblem::UnknownScheme { name: name.clone() })?;
    let object = &reference.object;
    if object.kind == Kind::Secret && object.namespace != *client {
        let (object, client) = (object.clone(), client.clone());
        return Err(CredentialProblem::OtherNamespace { object, client });
    }
    Ok(reference)
}

fn credential<'a>(
    snapshot: &'a Snapshot,
    kind: Kind,
    namespace: &str,
    name: &Name,
) -> Option<&'a Arc<Credential>> {
    snapshot.namespace(namespace).credentials.get(kind, name)
}

fn pair<'a>(snapshot: &'a Snapshot, reference: &CredentialRef) -> Found<'a> {
    let object = &reference.object;
    if object.kind == Kind::ConfigMap || object.name.ends_with(TRUST_SUFFIX) {
        return Err(CredentialProblem::BundleOnly { object: object.clone() });
    }
    let found = credential(snapshot, object.kind, &object.namespace, &object.name);
    let found = found.ok_or_else(|| CredentialProblem::Missing { object: object.clone() })?;
    let object = object.clone();
    match &found.pair {
        Some(Ok(pair)) => Ok((found, Secret::Pair(pair.clone()))),
        Some(Err(problem)) => Err(CredentialProblem::Invalid { object, problem: problem.clone() }),
        None => Err(CredentialProblem::NoCertificate { object }),
    }
}

/// The bundle of a Secret NAME is that of NAME-cacert, if there is one, else its own.
fn trust<'a>(snapshot: &'a Snapshot, reference: &CredentialRef) -> Found<'a> {
    let object = &reference.object;
    let beside: Name = format!("{}{TRUST_SUFFIX}", object.name).into();
    let named = |name: &Name| credential(snapshot, object.kind, &object.namespace, name);
    let beside = (object.kind == Kind::Secret).then(|| named(&beside)).flatten();
    let found = beside.or_else(|| named(&object.name));
    let found = found.ok_or_else(|| CredentialProblem::Missing { object: object.clone() })?;
    let object = found.meta.object.clone();
    match &found.trust {
        Some(Ok(bundle)) => Ok((found, Secret::Trust(bundle.clone()))),
        Some(Err(problem)) => Err(CredentialProblem::Invalid { object, problem: problem.clone() }),
        None => Err(CredentialProblem::NoBundle { object }),
    }
}

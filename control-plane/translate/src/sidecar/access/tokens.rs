//! RequestAuthentications as the filter `jwt_authn` (AUTHORIZATION.md Z43 to Z49).

use eastwest_engine::access::TokenRule;
use eastwest_model::policy::{JwtRule, KeySource};
use eastwest_proto::envoy::{
    config::{
        core::v3::{DataSource, data_source},
        route::v3::{RouteMatch, route_match::PathSpecifier},
    },
    extensions::filters::http::jwt_authn::v3::{
        JwtAuthentication, JwtClaimToHeader, JwtHeader, JwtProvider, JwtRequirement, JwtRequirementAndList,
        JwtRequirementOrList, RequirementRule,
        jwt_provider::{JwksSourceSpecifier, NormalizePayload},
        jwt_requirement::RequiresType,
        requirement_rule::RequirementType,
    },
};

pub(super) const NAME: &str = "envoy.filters.http.jwt_authn";
/// Where policies find the payload.
pub(super) const PAYLOAD: &str = "payload";

/// A public key whose private half nobody has. It stands in every set, so that Envoy never refuses a listener because a
/// set has no key that it can use.
const NOBODY: &str = r#"{"kty":"EC","crv":"P-256","use":"sig","alg":"ES256","kid":"eastwest-nobody","x":"zs3lYhb2Q0po2Qj3QQ4G9zpk0yqkc61uYA-H6VRweZw","y":"5GKOCiuoGqWsx5UIWb9gpDP7ZUdwVul0QxGNCOykvfo"}"#;

/// The filter, if there is any rule.
pub(super) fn filter(rules: &[TokenRule]) -> Option<JwtAuthentication> {
    let names: Vec<String> = (0..rules.len()).map(|at| format!("origins-{at}")).collect();
    let providers = names.iter().zip(rules).map(|(name, one)| (name.clone(), provider(&one.rule)));
    let everywhere =
        RouteMatch { path_specifier: Some(PathSpecifier::Prefix("/".to_owned())), ..Default::default() };
    let rule = RequirementRule {
        r#match: Some(everywhere),
        requirement_type: Some(RequirementType::Requires(requirement(&names)?)),
    };
    Some(JwtAuthentication {
        providers: providers.collect(),
        rules: vec![rule],
        bypass_cors_preflight: true,
        ..Default::default()
    })
}

/// Z43: a valid token of one rule, or for each rule a valid token or none.
fn requirement(names: &[String]) -> Option<JwtRequirement> {
    let requires = |kind| JwtRequirement { requires_type: Some(kind) };
    let named = |name: &String| requires(RequiresType::ProviderName(name.clone()));
    let any = |requirements| requires(RequiresType::RequiresAny(JwtRequirementOrList { requirements }));
    let or_none = |name: &String| any(vec![named(name), requires(RequiresType::AllowMissing(()))]);
    match names {
        [] => None,
        [one] => Some(or_none(one)),
        several => {
            let requirements = several.iter().map(or_none).collect();
            let all = requires(RequiresType::RequiresAll(JwtRequirementAndList { requirements }));
            Some(any(several.iter().map(named).chain([all]).collect()))
        }
    }
}

fn provider(rule: &JwtRule) -> JwtProvider {
    let texts = |list: &[eastwest_model::Name]| list.iter().map(ToString::to_string).collect::<Vec<_>>();
    let header = |header: &eastwest_model::policy::TokenHeader| JwtHeader {
        name: header.name.to_string(),
        value_prefix: header.prefix.to_string(),
    };
    let claim = |(header, claim): &(eastwest_model::Name, eastwest_model::Name)| JwtClaimToHeader {
        header_name: header.to_string(),
        claim_name: claim.to_string(),
    };
    let delimited = rule.space_delimited_claims().map(str::to_owned);
    JwtProvider {
        issuer: rule.issuer.to_string(),
        audiences: texts(&rule.audiences),
        forward: rule.forward,
        from_headers: rule.from_headers.iter().map(header).collect(),
        from_params: texts(&rule.from_params),
        from_cookies: texts(&rule.from_cookies),
        forward_payload_header: rule.payload_header.as_ref().map(ToString::to_string).unwrap_or_default(),
        payload_in_metadata: PAYLOAD.to_owned(),
        normalize_payload_in_metadata: Some(NormalizePayload { space_delimited_claims: delimited.collect() }),
        claim_to_headers: rule.claim_headers.iter().map(claim).collect(),
        jwks_source_specifier: Some(JwksSourceSpecifier::LocalJwks(DataSource {
            specifier: Some(data_source::Specifier::InlineString(keys(&rule.keys))),
            ..Default::default()
        })),
        ..Default::default()
    }
}

/// The key set of a rule; without usable keys it has none that anybody can sign with.
fn keys(source: &KeySource) -> String {
    let inline = match source {
        KeySource::Inline(keys) => keys,
        KeySource::Unusable | KeySource::Uri(_) | KeySource::Discovery => "",
    };
    match inline.strip_suffix("]}") {
        Some(keys) => format!("{keys},{NOBODY}]}}"),
        None => format!(r#"{{"keys":[{NOBODY}]}}"#),
    }
}

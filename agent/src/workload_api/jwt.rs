//! Responses of the JWT profile.

use bytes::Bytes;
use eastwest_ca::jwt::verify_svid;
use eastwest_proto::{
    eastwest::v1::{CreateJwtSvidRequest, workload_identity_client::WorkloadIdentityClient},
    spiffe::{
        JwtBundlesResponse, Jwtsvid, JwtsvidRequest, JwtsvidResponse, ValidateJwtsvidRequest,
        ValidateJwtsvidResponse,
    },
};
use prost_types::{ListValue, Struct, Value, value::Kind};
use time::OffsetDateTime;
use tonic::{Code, Status};

use super::state::WorkloadState;
use crate::certificate::client::{CaClient, IssueError};

/// A token of the workload's identity, signed by the control plane.
pub(super) async fn identities(
    client: &CaClient,
    known: &WorkloadState,
    request: JwtsvidRequest,
) -> Result<JwtsvidResponse, Status> {
    if request.audience.is_empty() || request.audience.iter().any(String::is_empty) {
        return Err(Status::invalid_argument("audience: name who shall accept the token"));
    }
    let svid = &known.svid;
    if !request.spiffe_id.is_empty() && request.spiffe_id != svid.identity.as_str() {
        return Err(Status::permission_denied(format!("this workload is {}, no other", svid.identity)));
    }
    let (channel, token) = client.open(Some(svid), 0).await.map_err(|error| failed(&error))?;
    let request = client.request(CreateJwtSvidRequest { audience: request.audience }, token);
    let answer = WorkloadIdentityClient::new(channel).create_jwt_svid(request).await;
    let answer = answer.map_err(|status| failed(&IssueError::Refused(Box::new(status))))?.into_inner();
    let identity = Jwtsvid { spiffe_id: svid.identity.to_string(), svid: answer.svid, hint: String::new() };
    Ok(JwtsvidResponse { svids: vec![identity] })
}

/// The status for the workload when the control plane refused.
fn failed(error: &IssueError) -> Status {
    match error {
        IssueError::Refused(status) => match status.code() {
            Code::Unauthenticated | Code::PermissionDenied => Status::permission_denied(error.to_string()),
            code @ (Code::InvalidArgument | Code::Unimplemented) => {
                Status::new(code, format!("the control plane: {}", status.message()))
            }
            _ => Status::unavailable(error.to_string()),
        },
        error => Status::unavailable(error.to_string()),
    }
}

/// The keys that verify JWT-SVIDs, by trust domain. The own domain is always included, even without a key.
pub(super) fn bundles(known: &WorkloadState) -> Result<JwtBundlesResponse, Status> {
    let own = known.svid.identity.trust_domain();
    let mut bundles: std::collections::BTreeMap<String, Bytes> = known
        .bundles
        .iter()
        .filter(|(domain, bundle)| **domain == own || !bundle.jwt_keys().is_empty())
        .map(|(domain, bundle)| (format!("spiffe://{domain}"), bundle.jwt_key_set().into()))
        .collect();
    bundles.entry(format!("spiffe://{own}")).or_insert_with(|| Bytes::from_static(b"{\"keys\": []}"));
    Ok(JwtBundlesResponse { bundles })
}

/// Verifies a token for the workload.
pub(super) fn validate(
    known: &WorkloadState,
    request: &ValidateJwtsvidRequest,
    now: OffsetDateTime,
) -> Result<ValidateJwtsvidResponse, Status> {
    if request.audience.is_empty() || request.svid.is_empty() {
        return Err(Status::invalid_argument("audience, svid: both are needed"));
    }
    let (identity, claims) = verify_svid(&request.svid, &request.audience, &known.bundles, now)
        .map_err(|error| Status::invalid_argument(format!("svid: {error}")))?;
    Ok(ValidateJwtsvidResponse { spiffe_id: identity.to_string(), claims: Some(object(claims)) })
}

fn object(members: serde_json::Map<String, serde_json::Value>) -> Struct {
    Struct { fields: members.into_iter().map(|(name, member)| (name, value(member))).collect() }
}

fn value(json: serde_json::Value) -> Value {
    let kind = match json {
        serde_json::Value::Null => Kind::NullValue(0),
        serde_json::Value::Bool(truth) => Kind::BoolValue(truth),
        serde_json::Value::Number(number) => Kind::NumberValue(number.as_f64().unwrap_or(f64::NAN)),
        serde_json::Value::String(text) => Kind::StringValue(text),
        serde_json::Value::Array(all) => {
            Kind::ListValue(ListValue { values: all.into_iter().map(value).collect() })
        }
        serde_json::Value::Object(members) => Kind::StructValue(object(members)),
    };
    Value { kind: Some(kind) }
}

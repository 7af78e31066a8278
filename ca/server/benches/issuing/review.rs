//! A Kubernetes API that answers every TokenReview, after a while.

use std::time::Duration;

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use serde_json::{Value, json};
use time::OffsetDateTime;

use super::{
    kubernetes_api::ApiAt,
    web::{Asked, Web},
};

/// The API, and where it is told how to be reached.
pub(crate) struct Api {
    web: Web,
}

impl Api {
    /// An API whose every answer takes `delay`.
    pub(crate) async fn start(delay: Duration) -> Self {
        let api = Self { web: Web::start(true).await };
        api.web.pages().delay = delay;
        api.web.answer(|asked| (201, says(asked).to_string()));
        api
    }

    /// How the server asks it.
    pub(crate) fn client(&self) -> ApiAt {
        ApiAt::new(self.web.url(""), self.web.roots())
    }
}

/// All callers have the same service account.
fn says(asked: &Asked) -> Value {
    let question: Value = serde_json::from_str(&asked.body).unwrap();
    json!({"kind": "TokenReview", "apiVersion": "authentication.k8s.io/v1", "status": {
        "authenticated": true,
        "audiences": question["spec"]["audiences"],
        "user": {
            "username": "system:serviceaccount:shop:reviews",
            "uid": "u",
            "groups": ["system:serviceaccounts", "system:serviceaccounts:shop", "system:authenticated"],
        },
    }})
}

/// A token that only the API can judge.
pub(crate) fn token(number: usize) -> String {
    let expires = OffsetDateTime::now_utc().unix_timestamp() + 3600;
    let claims = json!({"iss": "https://kubernetes.default.svc", "aud": ["istio-ca"], "exp": expires,
        "sub": "system:serviceaccount:shop:reviews", "jti": number.to_string()});
    let header = json!({"alg": "ES256", "kid": "k"});
    let [header, claims] = [header, claims].map(|part| URL_SAFE_NO_PAD.encode(part.to_string()));
    format!("{header}.{claims}.{}", URL_SAFE_NO_PAD.encode([1; 64]))
}

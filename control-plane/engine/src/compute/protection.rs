//! What an object of the configuration asks for that protects, so that its loss is never silent.

use eastwest_model::{
    MeshConfig, Object,
    mesh::OutboundTrafficPolicy,
    policy::{ClientTlsMode, DestinationRule, MutualTlsMode, PeerAuthentication},
};

/// What `before` asked for and `now` does not, in words; nothing if it is no weaker. `None`: the object is gone.
///
/// An object may ask for the same in another way, or another object may: this is about the object alone.
pub fn weakened(before: &Object, now: Option<&Object>) -> Vec<String> {
    match (before, now) {
        (Object::PeerAuthentication(before), Some(Object::PeerAuthentication(now))) => {
            policy(before, Some(now))
        }
        (Object::PeerAuthentication(before), _) => policy(before, None),
        (Object::DestinationRule(before), Some(Object::DestinationRule(now))) => rule(before, Some(now)),
        (Object::DestinationRule(before), _) => rule(before, None),
        (Object::MeshConfig(_, before), Some(Object::MeshConfig(_, now))) => mesh(before, Some(now)),
        (Object::MeshConfig(_, before), _) => mesh(before, None),
        _ => Vec::new(),
    }
}

fn policy(before: &PeerAuthentication, now: Option<&PeerAuthentication>) -> Vec<String> {
    let mut lost = Vec::new();
    if before.asks_for_strict() && now.is_none_or(|now| !now.asks_for_strict()) {
        lost.push("STRICT".to_owned());
    }
    let opens = |policy: &PeerAuthentication| policy.mode.is_some_and(|mode| mode != MutualTlsMode::Strict);
    if let Some(now) = now
        && opens(now)
        && !before.selector.is_empty()
        && now.selector.is_empty()
    {
        lost.push("its selector, so its mode holds for every workload of the namespace".to_owned());
    }
    lost
}

fn rule(before: &DestinationRule, now: Option<&DestinationRule>) -> Vec<String> {
    let asks = |rule: &DestinationRule| rule.tls_blocks().any(|tls| tls.mode != ClientTlsMode::Disable);
    let modes = || {
        let modes = before.tls_blocks().map(|tls| tls.mode).filter(|mode| *mode != ClientTlsMode::Disable);
        format!(
            "TLS to {} ({})",
            before.written_host,
            modes.map(|mode| mode.to_string()).collect::<Vec<_>>().join(", ")
        )
    };
    let is_weaker = asks(before) && now.is_none_or(|now| !asks(now) || now.host != before.host);
    is_weaker.then(modes).into_iter().collect()
}

fn mesh(before: &MeshConfig, now: Option<&MeshConfig>) -> Vec<String> {
    let mut lost = Vec::new();
    let closed = |mesh: &MeshConfig| mesh.outbound_traffic_policy == OutboundTrafficPolicy::RegistryOnly;
    if closed(before) && now.is_none_or(|now| !closed(now)) {
        lost.push("outboundTrafficPolicy REGISTRY_ONLY".to_owned());
    }
    if before.enable_auto_mtls && now.is_some_and(|now| !now.enable_auto_mtls) {
        lost.push("enableAutoMtls".to_owned());
    }
    lost
}

//! The tables of resources, each with the columns of `istioctl proxy-config`.

use serde_json::Value;

use crate::output::{entries, table};

/// The table of one type, by the word for its resources.
pub(super) fn of(plural: &str, resources: &[&Value]) -> String {
    if resources.is_empty() {
        return "none".to_owned();
    }
    match plural {
        "clusters" => clusters(resources),
        "listeners" => listeners(resources),
        "routes" => routes(resources),
        "endpoints" => endpoints(resources),
        "secrets" => secrets(resources),
        _ => names(resources),
    }
}

/// A type without columns of its own.
fn names(resources: &[&Value]) -> String {
    let row = |one: &&Value| [text(&one["name"]).to_owned(), text(&one["version"]).to_owned()];
    table(["NAME", "VERSION"], resources.iter().map(row))
}

fn text(value: &Value) -> &str {
    value.as_str().filter(|text| !text.is_empty()).unwrap_or("-")
}

/// The objects of a kind behind a resource, without that kind.
fn sources(one: &Value, kind: &str) -> String {
    let objects = entries(&one["sources"]).iter().filter_map(|source| source["object"].as_str());
    let named: Vec<_> = objects.filter_map(|object| object.strip_prefix(kind)?.strip_prefix('/')).collect();
    if named.is_empty() { "-".to_owned() } else { named.join(", ") }
}

fn clusters(resources: &[&Value]) -> String {
    let row = |one: &&Value| {
        let name = text(&one["name"]);
        let cluster = &one["resource"];
        let custom = cluster["clusterType"]["name"].as_str().and_then(|name| name.rsplit('.').next());
        let found = custom.or(cluster["type"].as_str()).unwrap_or("STATIC");
        let [direction, port, subset, host] = match name.split('|').collect::<Vec<_>>()[..] {
            [direction, port, subset, host] => [direction, port, subset, host],
            _ => ["-", "-", "-", name],
        };
        let or_none = |text: &str| if text.is_empty() { "-".to_owned() } else { text.to_owned() };
        [
            or_none(host),
            or_none(port),
            or_none(subset),
            or_none(direction),
            found.to_ascii_uppercase(),
            sources(one, "DestinationRule"),
        ]
    };
    table(
        ["SERVICE FQDN", "PORT", "SUBSET", "DIRECTION", "TYPE", "DESTINATION RULE"],
        resources.iter().map(row),
    )
}

fn listeners(resources: &[&Value]) -> String {
    let mut rows = Vec::new();
    for one in resources {
        let listener = &one["resource"];
        let (address, port) = match &listener["internalListener"] {
            Value::Null => socket(&listener["address"]),
            _ => (format!("envoy://{}", text(&one["name"])), "-".to_owned()),
        };
        let more = entries(&listener["additionalAddresses"]).iter().map(|one| socket(&one["address"]).0);
        let addresses = [address].into_iter().chain(more).collect::<Vec<_>>().join(",");
        let default = Some(&listener["defaultFilterChain"]).filter(|chain| !chain.is_null());
        for chain in entries(&listener["filterChains"]).iter().chain(default) {
            let (matched, to) = (matches(&chain["filterChainMatch"]), destination(chain));
            rows.push([addresses.clone(), port.clone(), matched, to]);
        }
    }
    rows.sort_by_key(|[address, port, ..]| (port.parse::<u16>().unwrap_or(0), address.clone()));
    table(["ADDRESSES", "PORT", "MATCH", "DESTINATION"], rows)
}

/// Address and port of a message `Address`.
fn socket(address: &Value) -> (String, String) {
    let socket = &address["socketAddress"];
    match address["envoyInternalAddress"]["serverListenerName"].as_str() {
        Some(name) => (format!("envoy://{name}"), "-".to_owned()),
        None => (text(&socket["address"]).to_owned(), socket["portValue"].as_u64().unwrap_or(0).to_string()),
    }
}

/// What a filter chain takes; `ALL` where it says nothing.
fn matches(found: &Value) -> String {
    let list = |value: &Value| {
        let words = entries(value).iter().filter_map(Value::as_str);
        words.collect::<Vec<_>>().join(",")
    };
    let ranges = entries(&found["prefixRanges"]).iter().map(|range| {
        let length = range["prefixLen"].as_u64().map_or(String::new(), |length| format!("/{length}"));
        format!("{}{length}", text(&range["addressPrefix"]))
    });
    let parts = [
        ("SNI", list(&found["serverNames"])),
        ("Trans", found["transportProtocol"].as_str().unwrap_or_default().to_owned()),
        ("App", list(&found["applicationProtocols"])),
        ("Addr", ranges.collect::<Vec<_>>().join(",")),
        ("Port", found["destinationPort"].as_u64().map_or(String::new(), |port| port.to_string())),
    ];
    let said: Vec<_> = parts
        .iter()
        .filter(|(_, text)| !text.is_empty())
        .map(|(what, text)| format!("{what}: {text}"))
        .collect();
    if said.is_empty() { "ALL".to_owned() } else { said.join("; ") }
}

/// Where a filter chain leads.
fn destination(chain: &Value) -> String {
    let filters = entries(&chain["filters"]);
    for config in filters.iter().map(|filter| &filter["typedConfig"]) {
        if let Some(route) = config.pointer("/rds/routeConfigName").and_then(Value::as_str) {
            return format!("Route: {route}");
        }
        if !config["routeConfig"].is_null() {
            let to = routed(&config["routeConfig"]);
            return format!("Inline Route: {}", to.join(", "));
        }
        if let Some(cluster) = config["cluster"].as_str() {
            return format!("Cluster: {cluster}");
        }
    }
    let last = filters.last().map(|filter| text(&filter["name"]));
    last.map_or_else(|| "none".to_owned(), |name| format!("Non-HTTP/Non-TCP: {name}"))
}

/// The clusters that a RouteConfiguration leads to.
fn routed(config: &Value) -> Vec<String> {
    let hosts = entries(&config["virtualHosts"]).iter();
    let mut found: Vec<_> = hosts.flat_map(|host| entries(&host["routes"])).map(target).collect();
    found.sort();
    found.dedup();
    found
}

fn target(route: &Value) -> String {
    let action = &route["route"];
    if let Some(cluster) = action["cluster"].as_str() {
        return cluster.to_owned();
    }
    let weighted = entries(&action["weightedClusters"]["clusters"]).iter();
    let weighted: Vec<_> = weighted.map(|one| text(&one["name"])).collect();
    match (weighted.is_empty(), route["directResponse"]["status"].as_u64()) {
        (false, _) => weighted.join(", "),
        (true, Some(status)) => format!("{status}"),
        (true, None) if !route["redirect"].is_null() => "redirect".to_owned(),
        (true, None) => "-".to_owned(),
    }
}

fn routes(resources: &[&Value]) -> String {
    let mut rows = Vec::new();
    for one in resources {
        for host in entries(&one["resource"]["virtualHosts"]) {
            let domains: Vec<_> = entries(&host["domains"]).iter().filter_map(Value::as_str).collect();
            let shown = match domains[..] {
                [first, second, ref more @ ..] if !more.is_empty() => {
                    format!("{first}, {second} + {} more...", more.len())
                }
                _ => domains.join(", "),
            };
            for route in entries(&host["routes"]) {
                rows.push([
                    text(&one["name"]).to_owned(),
                    text(&host["name"]).to_owned(),
                    shown.clone(),
                    path(&route["match"]),
                    target(route),
                ]);
            }
        }
    }
    table(["NAME", "VHOST NAME", "DOMAINS", "MATCH", "DESTINATION"], rows)
}

fn path(found: &Value) -> String {
    let prefix = found["prefix"].as_str().or(found["pathSeparatedPrefix"].as_str());
    match (prefix, found["path"].as_str(), found["safeRegex"]["regex"].as_str()) {
        (Some(prefix), ..) => format!("{prefix}*"),
        (None, Some(path), _) => path.to_owned(),
        (None, None, Some(regex)) => format!("regex {regex}"),
        _ => "-".to_owned(),
    }
}

fn endpoints(resources: &[&Value]) -> String {
    let mut rows = Vec::new();
    for one in resources {
        for group in entries(&one["resource"]["endpoints"]) {
            let locality = ["region", "zone", "subZone"].map(|part| group["locality"][part].as_str());
            let locality: Vec<_> = locality.into_iter().flatten().collect();
            for host in entries(&group["lbEndpoints"]) {
                let (address, port) = socket(&host["endpoint"]["address"]);
                let endpoint = match (port.as_str(), address.contains(':')) {
                    ("-", _) => address,
                    (port, true) if !address.starts_with("envoy://") => format!("[{address}]:{port}"),
                    (port, _) => format!("{address}:{port}"),
                };
                let health = host["healthStatus"].as_str().unwrap_or("HEALTHY").to_owned();
                let locality = if locality.is_empty() { "-".to_owned() } else { locality.join("/") };
                rows.push([endpoint, health, locality, text(&one["name"]).to_owned()]);
            }
        }
    }
    if rows.is_empty() {
        return "none: no cluster has an endpoint".to_owned();
    }
    table(["ENDPOINT", "STATUS", "LOCALITY", "CLUSTER"], rows)
}

fn secrets(resources: &[&Value]) -> String {
    let row = |one: &&Value| {
        let secret = &one["resource"];
        let found = match secret["tlsCertificate"].is_null() {
            false => "Cert Chain",
            true if !secret["validationContext"].is_null() => "CA",
            true => "-",
        };
        let rules = sources(one, "DestinationRule");
        [text(&one["name"]).to_owned(), found.to_owned(), text(&one["version"]).to_owned(), rules]
    };
    table(["RESOURCE NAME", "TYPE", "VERSION", "DESTINATION RULE"], resources.iter().map(row))
}

//! Access control as Envoy gets it: an evaluation of the rendered filters by the rules of Envoy says what `can` says, and
//! stock Envoy takes the filters of every worked case.

mod evaluation;

use std::{collections::BTreeSet, fs, path::Path, sync::Arc};

use eastwest_engine::{
    Snapshot,
    can::{self, Client, Sent, Server, Verdict},
};
use eastwest_testing::Random;
use eastwest_translate::{Audience, ProxyFacts};
use serde_json::Value;

use self::evaluation::{Facts, allows};
use crate::{
    envoy::{complaints, stock_envoy},
    world::{self, Resources, settings},
};

const SHAPES: [bool; 2] = [false, true];

fn resources(world: &Snapshot, workload: &str, internal_listeners: bool) -> Resources {
    let facts = ProxyFacts { internal_listeners, ..ProxyFacts::usual(Audience::Envoy) };
    Resources::for_proxy(&settings(world, workload), facts)
}

#[test]
fn stock_envoy_accepts_every_worked_case_of_access() {
    let Some(envoy) = stock_envoy("stock_envoy_accepts_every_worked_case_of_access") else { return };
    let cases = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/cases/authz");
    let (mut faults, mut seen) = (Vec::new(), 0);
    for case in fs::read_dir(cases).unwrap().map(|entry| entry.unwrap().path()) {
        let text = |file: &str| fs::read_to_string(case.join(file)).unwrap();
        let expected: Value = serde_json::from_str(&text("expect.json")).unwrap();
        if expected["check"].as_array().is_some_and(|errors| !errors.is_empty()) {
            continue;
        }
        let world = world::world(&text("input.yaml"));
        let arguments = expected["queries"].as_array().into_iter().flatten().flat_map(|query| {
            query["args"].as_array().unwrap().iter().filter_map(Value::as_str).collect::<Vec<_>>()
        });
        let named = arguments.filter_map(|argument| argument.rsplit_once(':')).map(|(server, _)| server);
        let servers: BTreeSet<&str> = named
            .chain(["shop/reviews-0"])
            .filter(|name| name.parse().is_ok_and(|key| world.workload(&key).is_some()))
            .collect();
        for (at, server) in servers.into_iter().enumerate() {
            let complaints = complaints(&envoy, &resources(&world, server, SHAPES[at % 2]));
            seen += 1;
            if !complaints.is_empty() {
                faults.push(format!("{} {server}: {complaints}", case.display()));
            }
        }
    }
    assert!(faults.is_empty(), "{}", faults.join("\n"));
    assert!(seen >= 80, "only {seen} workloads");
}

const MESH: &str = "\
apiVersion: v1
kind: Service
metadata: {name: web, namespace: a}
spec: {clusterIP: 10.96.0.1, selector: {app: web}, ports: [{name: http, port: 80, targetPort: 8080}, {name: tcp, port: 90}]}
---
apiVersion: v1
kind: Pod
metadata: {name: web, namespace: a, labels: {app: web, security.istio.io/tlsMode: istio}}
spec: {serviceAccountName: web}
status: {podIP: 10.1.0.1, phase: Running}
---
apiVersion: security.istio.io/v1
kind: RequestAuthentication
metadata: {name: tokens, namespace: a}
spec: {jwtRules: [{issuer: i, jwksUri: 'https://i/k', audiences: [web]}]}
";

const SOURCES: [&str; 12] = [
    "principals: ['cluster.local/ns/b/sa/client']",
    "principals: ['*client', 'cluster.local/ns/c/*']",
    "notPrincipals: ['*']",
    "namespaces: [b]",
    "notNamespaces: ['*b', 'x*y']",
    "serviceAccounts: [b/client, web]",
    "ipBlocks: [10.1.1.0/24]",
    "notIpBlocks: [10.1.0.0/16]",
    "remoteIpBlocks: [203.0.113.7]",
    "requestPrincipals: ['i/alice']",
    "requestPrincipals: ['*']",
    "notRequestPrincipals: ['*/alice', 'i/b*']",
];
const OPERATIONS: [&str; 10] = [
    "methods: [GET]",
    "notMethods: [POST, 'D*']",
    "paths: [/a, '/b*', '*/c']",
    "paths: ['/x/{*}', '/y/{**}']",
    "notPaths: ['/{*}']",
    "hosts: [Web.Example, '*.test']",
    "notHosts: ['web.*']",
    "ports: ['8080']",
    "notPorts: ['90']",
    "methods: ['*'], ports: ['8080', '90']",
];
const CONDITIONS: [&str; 12] = [
    "{key: 'request.headers[x-team]', values: [blue, 're*']}",
    "{key: 'request.headers[x-team]', notValues: ['*']}",
    "{key: 'request.headers[:authority]', values: [web.example]}",
    "{key: 'request.auth.claims[group]', values: [dev, 'o*']}",
    "{key: 'request.auth.claims[scope]', notValues: [read]}",
    "{key: request.auth.audiences, values: [web]}",
    "{key: connection.sni, values: ['outbound_*']}",
    "{key: destination.port, values: ['8080']}",
    "{key: destination.ip, notValues: [10.1.0.2]}",
    "{key: source.namespace, values: [b], notValues: [c]}",
    "{key: source.trustDomain, values: ['cluster.*']}",
    "{key: 'experimental.envoy.filters.http.lua[x]', notValues: ['[y]']}",
];

fn one_of<'a>(random: &mut Random, choices: &[&'a str]) -> &'a str {
    choices[random.below(choices.len())]
}

/// A part of a rule with up to two entries, or none.
fn part(random: &mut Random, list: &str, field: &str, choices: &[&str]) -> Option<String> {
    let entries: Vec<String> =
        (0..random.below(3)).map(|_| format!("{{{field}: {{{}}}}}", one_of(random, choices))).collect();
    (!entries.is_empty()).then(|| format!("{list}: [{}]", entries.join(", ")))
}

fn policy(random: &mut Random, at: usize) -> String {
    let action = one_of(random, &["ALLOW", "ALLOW", "DENY", "AUDIT"]);
    let rules: Vec<String> = (0..=random.below(2))
        .map(|_| {
            let conditions: Vec<&str> = (0..random.below(3)).map(|_| one_of(random, &CONDITIONS)).collect();
            let when = (!conditions.is_empty()).then(|| format!("when: [{}]", conditions.join(", ")));
            let from = part(random, "from", "source", &SOURCES);
            let to = part(random, "to", "operation", &OPERATIONS);
            format!("{{{}}}", [from, to, when].into_iter().flatten().collect::<Vec<_>>().join(", "))
        })
        .collect();
    let trial = if action != "AUDIT" && random.below(6) == 0 {
        ", annotations: {istio.io/dry-run: 'true'}"
    } else {
        ""
    };
    format!(
        "---\napiVersion: security.istio.io/v1\nkind: AuthorizationPolicy\nmetadata: {{name: p{at}, namespace: \
         a{trial}}}\nspec: {{action: {action}, rules: [{}]}}\n",
        rules.join(", ")
    )
}

fn world_of(random: &mut Random) -> Arc<Snapshot> {
    let policies: String = (0..1 + random.below(4)).map(|at| policy(random, at)).collect();
    world::world(&format!("{MESH}{policies}"))
}

/// A random request, as `can` is asked and as Envoy sees it.
fn request(random: &mut Random) -> (Client, Sent, Facts) {
    let principals = ["spiffe://cluster.local/ns/b/sa/client", "spiffe://cluster.local/ns/c/sa/web"];
    let principal = (random.below(3) > 0).then(|| one_of(random, &principals));
    let is_http = random.below(3) > 0;
    let claims: Vec<(String, String)> = match random.below(3) {
        0 => vec![("sub", "alice"), ("group", "dev"), ("scope", "read write")],
        1 => vec![("sub", "bob"), ("group", "ops")],
        _ => Vec::new(),
    }
    .into_iter()
    .map(|(name, value)| (name.to_owned(), value.to_owned()))
    .collect();
    let team = one_of(random, &["blue", "red", ""]);
    let mut headers = Vec::new();
    if random.below(2) == 0 {
        headers.push(("x-team".to_owned(), team.to_owned()));
    }
    if random.below(3) == 0 {
        headers.push(("x-forwarded-for".to_owned(), "198.51.100.1, 203.0.113.7".to_owned()));
    }
    let sent = Sent {
        method: is_http.then(|| one_of(random, &["GET", "POST", "DELETE"]).to_owned()),
        path: Some(one_of(random, &["/a", "/b/d?q=/c", "/z/c", "/x/1", "/x/1/2", "/y/", "/q"]).to_owned()),
        host: Some(one_of(random, &["web.example", "WEB.example", "a.test", "web.example:80"]).to_owned()),
        source: Some(one_of(random, &["10.1.1.1", "10.1.2.1", "192.0.2.1"]).parse().unwrap()),
        server_name: Some("outbound_.80_._.web.a.svc.cluster.local".to_owned()),
        claims,
        headers,
        ..Sent::default()
    };
    let client = match principal {
        Some(id) => Client::Principal(eastwest_model::SpiffeId::parse(id).unwrap()),
        None => Client::Plaintext,
    };
    let facts = Facts::of(principal, is_http, &sent);
    (client, sent, facts)
}

/// What `can` says is what Envoy does with what it gets, in both shapes of the listener.
#[test]
fn can_answers_as_the_rendered_filters_decide() {
    let (mut allowed, mut denied) = (0, 0);
    for seed in 0..150 {
        let mut random = Random::new(seed);
        let world = world_of(&mut random);
        let shapes = SHAPES.map(|internal| resources(&world, "a/web", internal));
        for _ in 0..12 {
            let (client, sent, facts) = request(&mut random);
            let server = Server::Workload("a/web".parse().unwrap(), facts.port);
            let answer = can::can(&world, &client, &server, &sent, 0).unwrap();
            for (resources, internal) in shapes.iter().zip(SHAPES) {
                let found = allows(resources, &facts, internal);
                let said = answer.verdict == Verdict::Allow;
                assert_eq!(found, said, "seed {seed}, internal {internal}\n{facts:?}\n{answer:#?}");
            }
            if answer.verdict == Verdict::Allow { allowed += 1 } else { denied += 1 }
        }
    }
    assert!(allowed > 200 && denied > 200, "{allowed} allowed, {denied} denied");
}

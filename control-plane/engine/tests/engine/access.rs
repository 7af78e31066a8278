//! Access control: what applies, and what it says of a call (docs/AUTHORIZATION.md).

use std::sync::Arc;

use eastwest_engine::{
    Index, Snapshot,
    can::{self, Answer, Client, Sent, Server, Tls, Verdict},
};
use eastwest_manifest::parse;
use eastwest_model::{Change, MeshConfig, SpiffeId, TrustDomain};
use eastwest_testing::Random;

/// A server and a client of the mesh, and a server without a proxy.
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
apiVersion: v1
kind: Pod
metadata: {name: bare, namespace: a, labels: {app: bare}}
status: {podIP: 10.1.0.2, phase: Running}
---
apiVersion: v1
kind: Pod
metadata: {name: client, namespace: b, labels: {security.istio.io/tlsMode: istio}}
spec: {serviceAccountName: client}
status: {podIP: 10.1.1.1, phase: Running}
---
";

fn policy(name: &str, spec: &str) -> String {
    format!(
        "---\napiVersion: security.istio.io/v1\nkind: AuthorizationPolicy\nmetadata: {{name: {name}, namespace: a}}\n\
         spec: {spec}\n"
    )
}

fn mesh_config(text: &str) -> String {
    let lines: String = text.lines().map(|line| format!("    {line}\n")).collect();
    format!(
        "---\napiVersion: v1\nkind: ConfigMap\nmetadata: {{name: istio, namespace: root}}\ndata:\n  mesh: |\n{lines}"
    )
}

fn defaults() -> MeshConfig {
    MeshConfig::new(TrustDomain::parse("cluster.local").unwrap(), "root")
}

fn snapshot(documents: &[String]) -> Arc<Snapshot> {
    let defaults = defaults();
    let parsed = parse::documents(&format!("{MESH}{}", documents.concat()), "mesh.yaml", &defaults);
    assert!(parsed.refused.is_empty(), "{:?}", parsed.diagnostics);
    let mut index = Index::new(defaults);
    for object in parsed.objects {
        index.apply(Change::Upsert(object));
    }
    index.freeze()
}

fn client() -> Client {
    Client::Workload("b/client".parse().unwrap())
}

fn web(port: u16) -> Server {
    Server::Workload("a/web".parse().unwrap(), port)
}

fn get(path: &str) -> Sent {
    Sent { method: Some("GET".to_owned()), path: Some(path.to_owned()), ..Sent::default() }
}

fn ask(snapshot: &Snapshot, client: &Client, server: &Server, sent: &Sent) -> Answer {
    can::can(snapshot, client, server, sent, 0).unwrap()
}

fn by(answer: &Answer) -> String {
    serde_json::to_value(&answer.by).unwrap().as_str().unwrap_or("nobody").to_owned()
}

#[test]
fn z3_policies_with_targets_apply_to_no_sidecar() {
    let targets = "{action: DENY, targetRefs: [{kind: Service, name: web}], rules: [{}]}";
    let mesh = snapshot(&[policy("targets", targets)]);
    let answer = ask(&mesh, &client(), &web(8080), &get("/"));
    assert_eq!((answer.verdict, answer.policies.len()), (Verdict::Allow, 0));
}

#[test]
fn z11_a_known_authorizer_is_named_and_the_others_decide() {
    let config = mesh_config(
        "extensionProviders:\n- name: ext\n  envoyExtAuthzHttp: {service: web.a.svc.cluster.local, port: 80}\n",
    );
    let ext =
        policy("ext", "{action: CUSTOM, provider: {name: ext}, rules: [{to: [{operation: {paths: [/x]}}]}]}");
    let deny = policy("deny", "{action: DENY, rules: [{to: [{operation: {methods: [POST]}}]}]}");
    let mesh = snapshot(&[config, ext, deny]);
    let answer = ask(&mesh, &client(), &web(8080), &get("/x"));
    assert_eq!((answer.verdict, &*answer.asks), (Verdict::Allow, &["ext".into()][..]));
    let answer = ask(&mesh, &client(), &web(8080), &get("/y"));
    assert_eq!((answer.verdict, answer.asks.len()), (Verdict::Allow, 0));
    let post = Sent { method: Some("POST".to_owned()), ..get("/x") };
    assert_eq!(by(&ask(&mesh, &client(), &web(8080), &post)), "AuthorizationPolicy/a/deny");
    // An HTTP authorizer is not asked about bytes.
    let answer = ask(&mesh, &client(), &web(90), &Sent::default());
    assert_eq!((answer.asks.len(), &*by(&answer)), (0, "AuthorizationPolicy/a/deny"));
}

/// A CUSTOM policy denies until the Service of its authorizer comes; then its workloads are computed anew.
#[test]
fn the_service_of_an_authorizer_touches_those_who_ask_it() {
    let config = mesh_config(
        "extensionProviders:\n- name: ext\n  envoyExtAuthzGrpc: {service: authz.b.svc.cluster.local, port: 80}\n",
    );
    let ext = policy("ext", "{action: CUSTOM, provider: {name: ext}, rules: [{}]}");
    let (defaults, text) = (defaults(), format!("{MESH}{config}{ext}"));
    let mut index = Index::new(defaults.clone());
    for object in parse::documents(&text, "mesh.yaml", &defaults).objects {
        index.apply(Change::Upsert(object));
    }
    let asked = |index: &Index| ask(&index.freeze(), &client(), &web(8080), &get("/")).asks.len();
    assert_eq!(asked(&index), 0);
    let service =
        "apiVersion: v1\nkind: Service\nmetadata: {name: authz, namespace: b}\nspec: {ports: [{port: 80}]}\n";
    let service = parse::documents(service, "service.yaml", &defaults).objects.remove(0);
    let dirty = index.apply(Change::Upsert(service));
    assert!(dirty.inbound_of(&"a/web".parse().unwrap()));
    assert_eq!(asked(&index), 1);
}

#[test]
fn z26_a_principal_of_fewer_parts_is_not_translated() {
    let config = mesh_config("trustDomain: new.example\n");
    for (principal, verdict) in [
        ("cluster.local/ns/b/sa/c*", Verdict::Allow),
        ("cluster.local/*", Verdict::Deny),
        ("cluster.local/ns/b/*", Verdict::Deny),
        ("new.example/*", Verdict::Allow),
    ] {
        let spec = format!("{{rules: [{{from: [{{source: {{principals: ['{principal}']}}}}]}}]}}");
        let mesh = snapshot(&[config.clone(), policy("p", &spec)]);
        assert_eq!(ask(&mesh, &client(), &web(8080), &get("/")).verdict, verdict, "{principal}");
    }
}

#[test]
fn z28_a_foreign_trust_domain_is_refused_before_any_policy() {
    let mesh = snapshot(&[policy("all", "{rules: [{}]}")]);
    for (id, tls) in
        [("spiffe://cluster.local/ns/x/sa/y", Tls::Mutual), ("spiffe://other/ns/x/sa/y", Tls::Refused)]
    {
        let client = Client::Principal(SpiffeId::parse(id).unwrap());
        let answer = ask(&mesh, &client, &web(8080), &get("/"));
        assert_eq!((answer.tls, answer.verdict == Verdict::Allow), (tls, tls == Tls::Mutual), "{id}");
    }
}

#[test]
fn z46_headers_of_claims_come_from_the_token_alone() {
    let tokens = "---\napiVersion: security.istio.io/v1\nkind: RequestAuthentication\nmetadata: {name: t, namespace: a}\n\
         spec: {jwtRules: [{issuer: i, jwksUri: 'https://i/k', outputClaimToHeaders: [{header: X-Team, claim: team}]}]}\n";
    let blue = policy("blue", "{rules: [{when: [{key: 'request.headers[x-team]', values: [blue]}]}]}");
    let mesh = snapshot(&[tokens.to_owned(), blue]);
    let forged = Sent { headers: vec![("x-team".to_owned(), "blue".to_owned())], ..get("/") };
    assert_eq!(by(&ask(&mesh, &client(), &web(8080), &forged)), "default-deny");
    for (team, verdict) in [("blue", Verdict::Allow), ("red", Verdict::Deny)] {
        let claims = vec![("team".to_owned(), team.to_owned())];
        let sent = Sent { claims, ..forged.clone() };
        assert_eq!(ask(&mesh, &client(), &web(8080), &sent).verdict, verdict, "{team}");
    }
}

#[test]
fn z53_a_server_without_a_proxy_enforces_nothing() {
    let mesh = snapshot(&[policy("none", "{action: DENY, rules: [{}]}")]);
    let bare = Server::Workload("a/bare".parse().unwrap(), 8080);
    let answer = ask(&mesh, &client(), &bare, &get("/"));
    assert_eq!((answer.verdict, answer.tls, &*by(&answer)), (Verdict::Allow, Tls::Plaintext, "nobody"));
    assert!(answer.reason.contains("no proxy"), "{}", answer.reason);
}

/// Each trap is told at its rule, and a policy without one is left alone.
#[test]
fn check_tells_the_traps() {
    for (spec, rule) in [
        ("{action: DENY, rules: [{from: [{source: {namespaces: [b]}}]}]}", Some("Z21")),
        ("{rules: [{from: [{source: {notPrincipals: [x]}}]}]}", Some("Z21")),
        ("{rules: [{to: [{operation: {methods: [GET]}}]}]}", Some("Z40")),
        ("{action: DENY, rules: [{to: [{operation: {methods: [POST]}}]}]}", Some("Z41")),
        ("{action: DENY, rules: [{to: [{operation: {methods: [POST], ports: ['8080']}}]}]}", None),
        ("{rules: [{to: [{operation: {methods: [get]}}]}]}", Some("Z31")),
        ("{rules: [{from: [{source: {principals: ['spiffe://a/ns/b/sa/c']}}]}]}", Some("Z17")),
        ("{rules: [{from: [{source: {remoteIpBlocks: [10.0.0.0/8]}}]}]}", Some("Z22")),
        ("{action: DENY, rules: [{to: [{operation: {hosts: [a.b], ports: ['80']}}]}]}", Some("Z29")),
        ("{selector: {matchLabels: {app: nobody}}, rules: [{}]}", Some("Z2")),
        ("{selector: {matchLabels: {app: bare}}, rules: [{}]}", Some("Z53")),
        ("{action: CUSTOM, provider: {name: x}, rules: [{}]}", Some("Z11")),
        ("{targetRefs: [{kind: Service, name: web}], rules: [{}]}", Some("Z3")),
        ("{rules: [{from: [{source: {namespaces: [b]}}]}]}", None),
        ("{rules: [{}]}", None),
    ] {
        let mesh = snapshot(&[policy("p", spec)]);
        let found: Vec<String> = eastwest_engine::lint::diagnostics(&mesh)
            .into_iter()
            .filter(|one| one.object == "AuthorizationPolicy/a/p")
            .map(|one| one.message)
            .collect();
        match rule {
            Some(rule) => {
                assert!(
                    found.iter().any(|said| said.ends_with(&format!("(rule {rule})"))),
                    "{spec}: {found:?}"
                );
            }
            None => assert!(found.is_empty(), "{spec}: {found:?}"),
        }
    }
}

/// A random policy over few values, so that it often matches.
fn random_policy(random: &mut Random, at: usize, action: &str) -> String {
    const PARTS: [&str; 8] = [
        "from: [{source: {namespaces: [b]}}]",
        "from: [{source: {notPrincipals: [cluster.local/ns/b/sa/client]}}]",
        "from: [{source: {ipBlocks: [10.1.1.0/24]}}, {source: {principals: ['*']}}]",
        "to: [{operation: {methods: [GET]}}]",
        "to: [{operation: {paths: ['/a*']}}, {operation: {ports: ['90']}}]",
        "to: [{operation: {notPaths: ['/{*}'], ports: ['8080', '90']}}]",
        "when: [{key: 'request.headers[x]', values: ['1']}]",
        "when: [{key: source.namespace, notValues: [c]}]",
    ];
    let rules: Vec<String> = (0..=random.below(2))
        .map(|_| {
            let (from, to, when) = (random.below(4), 3 + random.below(4), 6 + random.below(3));
            let parts = [(from, 3), (to, 6), (when, 8)].into_iter().filter(|(at, end)| at < end);
            format!("{{{}}}", parts.map(|(at, _)| PARTS[at]).collect::<Vec<_>>().join(", "))
        })
        .collect();
    policy(
        &format!("{}{at}", action.to_ascii_lowercase()),
        &format!("{{action: {action}, rules: [{}]}}", rules.join(", ")),
    )
}

fn questions() -> Vec<(Client, Server, Sent)> {
    let with = |value: &str, sent: Sent| Sent { headers: vec![("x".to_owned(), value.to_owned())], ..sent };
    let mut all = Vec::new();
    for client in [client(), Client::Plaintext] {
        for sent in [get("/a"), get("/b"), with("1", get("/a/b")), with("2", get("/c"))] {
            all.push((client.clone(), web(8080), sent));
        }
        all.push((client.clone(), web(90), Sent::default()));
    }
    all
}

/// The order of objects never matters; one more DENY never allows; one more ALLOW beside another never denies.
#[test]
fn policies_add_up() {
    for seed in 0..60 {
        let mut random = Random::new(seed);
        let mut documents: Vec<String> = (0..3)
            .map(|at| {
                let action = ["ALLOW", "DENY", "AUDIT"][random.below(3)];
                random_policy(&mut random, at, action)
            })
            .collect();
        let before = snapshot(&documents);
        random.shuffle(&mut documents);
        let shuffled = snapshot(&documents);
        let more = |random: &mut Random, action| {
            let added = random_policy(random, 9, action);
            snapshot(&[&documents[..], &[added]].concat())
        };
        let (denying, allowing) = (more(&mut random, "DENY"), more(&mut random, "ALLOW"));
        for (client, server, sent) in questions() {
            let verdict = |mesh: &Snapshot| ask(mesh, &client, &server, &sent).verdict;
            let answer = ask(&before, &client, &server, &sent);
            assert_eq!(answer, ask(&shuffled, &client, &server, &sent), "seed {seed}");
            if answer.verdict == Verdict::Deny {
                assert_eq!(verdict(&denying), Verdict::Deny, "seed {seed}: {sent:?}");
            } else if answer.policies.iter().any(|one| one.action.to_string() == "ALLOW") {
                assert_eq!(verdict(&allowing), Verdict::Allow, "seed {seed}: {sent:?}");
            }
        }
    }
}

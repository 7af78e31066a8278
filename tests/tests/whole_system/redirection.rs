//! `eastwest redirect`: every flag with real connections, by each back end, over IPv4 and IPv6.

use std::fs;

use anyhow::{Context as _, Result, ensure};
use eastwest_tests::{
    app::{serve, url_host},
    bookshop::{Member, STOREFRONT},
    netns::{Namespace, World},
    process::{Process, run},
    programs,
    redirection::redirect_with,
};

/// Who opens a connection.
#[derive(Clone, Copy, Debug)]
enum Who {
    /// Another pod.
    Neighbour,
    /// A process of the pod, as root.
    App,
    /// A process of the pod, as this user and group.
    User(u32),
}
use Who::{App, Neighbour, User};

/// Where a connection goes: `pod` is the pod itself by its address, `loopback` by its loopback address; `near` and `far` are
/// two addresses of the neighbour.
const ADDRESSES: [[(&str, &str); 4]; 2] = [
    [("pod", "10.77.0.10"), ("loopback", "127.0.0.1"), ("near", "10.77.0.20"), ("far", "10.77.0.21")],
    [("pod", "fd77::10"), ("loopback", "::1"), ("near", "fd77::20"), ("far", "fd77::21")],
];

/// Flags, and who reaches what: a caller, where to, a port, and the server that greets it.
struct Case {
    flags: &'static [&'static str],
    calls: &'static [(Who, &'static str, u16, &'static str)],
}

const CASES: &[Case] = &[
    Case {
        flags: &[],
        calls: &[
            (Neighbour, "pod", 8080, "inbound"),
            (Neighbour, "pod", 15008, "app"),
            (Neighbour, "pod", 15020, "app"),
            (Neighbour, "pod", 15021, "app"),
            (Neighbour, "pod", 15090, "app"),
            (App, "near", 9999, "outbound"),
            (App, "pod", 8080, "app"),
            (App, "loopback", 8080, "app"),
            (User(1337), "near", 9999, "neighbour"),
            (User(1337), "pod", 8080, "inbound"),
            (User(1337), "pod", 15008, "app"),
            (User(1337), "loopback", 8080, "app"),
        ],
    },
    Case {
        flags: &["--include-inbound-ports", "8080"],
        calls: &[(Neighbour, "pod", 8080, "inbound"), (Neighbour, "pod", 9090, "app")],
    },
    Case {
        flags: &["--istio-inbound-ports", "9090", "--istio-local-exclude-ports", "9090"],
        calls: &[(Neighbour, "pod", 8080, "app"), (Neighbour, "pod", 9090, "inbound")],
    },
    Case {
        flags: &["--include-inbound-ports", ""],
        calls: &[(Neighbour, "pod", 8080, "app"), (App, "near", 9999, "outbound")],
    },
    Case {
        flags: &["--exclude-inbound-ports", "9090,9091"],
        calls: &[(Neighbour, "pod", 8080, "inbound"), (Neighbour, "pod", 9090, "app")],
    },
    Case {
        flags: &["--exclude-outbound-ports", "7777"],
        calls: &[(App, "near", 7777, "neighbour"), (App, "near", 9999, "outbound")],
    },
    Case {
        flags: &["--istio-local-outbound-ports-exclude", "9999"],
        calls: &[(App, "near", 7777, "outbound"), (App, "near", 9999, "neighbour")],
    },
    Case {
        flags: &["--include-outbound-ranges", "", "--include-outbound-ports", "7777"],
        calls: &[(App, "near", 7777, "outbound"), (App, "near", 9999, "neighbour")],
    },
    Case {
        flags: &["--include-outbound-ranges", "10.77.0.21/32,fd77::21/128"],
        calls: &[(App, "near", 9999, "neighbour"), (App, "far", 9999, "outbound")],
    },
    Case {
        flags: &["--istio-service-cidr", "10.77.0.20,fd77::20", "--istio-outbound-ports", "7777"],
        calls: &[
            (App, "near", 9999, "outbound"),
            (App, "far", 9999, "neighbour"),
            (App, "far", 7777, "outbound"),
        ],
    },
    Case {
        flags: &["--exclude-outbound-ranges", "10.77.0.21/32,fd77::21/128"],
        calls: &[(App, "near", 9999, "outbound"), (App, "far", 9999, "neighbour")],
    },
    Case {
        flags: &["--istio-service-exclude-cidr", "10.77.0.20/32,fd77::20/128"],
        calls: &[(App, "near", 9999, "neighbour"), (App, "far", 9999, "outbound")],
    },
    Case {
        flags: &["--exclude-interfaces", "et+"],
        calls: &[(Neighbour, "pod", 8080, "app"), (App, "near", 9999, "neighbour")],
    },
    Case {
        flags: &["--istio-exclude-interfaces", "eth1"],
        calls: &[(Neighbour, "pod", 8080, "inbound"), (App, "near", 9999, "outbound")],
    },
    Case { flags: &["--reroute-virtual-interfaces", "eth0"], calls: &[(Neighbour, "pod", 8080, "outbound")] },
    Case {
        flags: &["--kube-virt-interfaces", "eth0", "--exclude-outbound-ranges", "10.77.0.10,fd77::10"],
        calls: &[(Neighbour, "pod", 8080, "app")],
    },
    Case {
        flags: &["--kube-virt-interfaces", "eth0", "--include-outbound-ranges", "10.77.0.20,fd77::20"],
        calls: &[(Neighbour, "pod", 8080, "app")],
    },
    Case {
        flags: &["--inbound-port", "9090", "--outbound-port", "9091"],
        calls: &[(Neighbour, "pod", 8080, "app"), (App, "near", 9999, "app")],
    },
    Case {
        flags: &["--tunnel-port", "9090", "--own-ports", "15021"],
        calls: &[
            (Neighbour, "pod", 9090, "app"),
            (Neighbour, "pod", 15008, "inbound"),
            (Neighbour, "pod", 15020, "inbound"),
            (Neighbour, "pod", 15021, "app"),
            (User(1337), "pod", 9090, "app"),
        ],
    },
    Case {
        flags: &["--proxy-user", "2000", "--proxy-group", "3000"],
        calls: &[
            (User(2000), "near", 9999, "neighbour"),
            (User(3000), "near", 9999, "neighbour"),
            (User(1337), "near", 9999, "outbound"),
        ],
    },
];

/// A pod with servers at the ports of a sidecar and of an application, and its neighbour. Each server greets with its name.
struct Stage {
    _servers: Vec<Process>,
    pod: Namespace,
    neighbour: Namespace,
    _world: World,
}

impl Stage {
    fn new() -> Result<Self> {
        let world = World::new()?;
        let pod = world.connect("pod", &["10.77.0.10", "fd77::10"])?;
        let neighbour = world.connect("neighbour", &["10.77.0.20", "10.77.0.21", "fd77::20", "fd77::21"])?;
        let serve = |space: &Namespace, name: &'static str, greeting_ports: &'static [u16]| {
            let dir = world.dir().join(name);
            fs::create_dir(&dir)?;
            serve(space, &Member { pod: name, greeting_ports, ports: &[], ..STOREFRONT }, &dir)
        };
        let servers = vec![
            serve(&pod, "inbound", &[15006])?,
            serve(&pod, "outbound", &[15001])?,
            serve(&pod, "app", &[8080, 9090, 9091, 15008, 15020, 15021, 15090])?,
            serve(&neighbour, "neighbour", &[9999, 7777])?,
        ];
        Ok(Self { _servers: servers, pod, neighbour, _world: world })
    }

    /// The name of the server that greets.
    fn greeted(&self, who: Who, address: &str, port: u16) -> Result<String> {
        let program = programs::testapp()?;
        let mut command = match who {
            Neighbour => self.neighbour.command(program),
            App => self.pod.command(program),
            User(id) => self.pod.command_as(id, program),
        };
        command.args(["greeting", &format!("{}:{port}", url_host(address))]);
        let line = run(command)?;
        let name = line.trim().strip_prefix("welcome to ").with_context(|| format!("no greeting: {line}"))?;
        Ok(name.to_owned())
    }

    /// Checks the calls over both families.
    fn check(&self, calls: &[(Who, &str, u16, &str)]) -> Result<()> {
        for addresses in ADDRESSES {
            for (who, to, port, expected) in calls {
                let (_, address) =
                    addresses.iter().find(|(name, _)| name == to).context("a name of ADDRESSES")?;
                let server = self.greeted(*who, address, *port)?;
                ensure!(server == *expected, "{who:?} to {address} port {port}: {server}, not {expected}");
            }
        }
        Ok(())
    }

    /// All rules in the pod that iptables has, and our tables of nftables, without counters and comments.
    fn rules(&self) -> Result<String> {
        let mut text = String::new();
        for program in
            ["iptables-nft-save", "ip6tables-nft-save", "iptables-legacy-save", "ip6tables-legacy-save"]
        {
            text.push_str(&run(self.pod.command(program))?);
        }
        for family in ["ip", "ip6"] {
            let mut command = self.pod.command("nft");
            command.args(["--stateless", "list", "table", family, "eastwest"]);
            // It fails where there is no such table.
            text.push_str(&run(command).unwrap_or_default());
        }
        let lines = text.lines().filter(|line| !line.starts_with('#') && !line.starts_with(':'));
        Ok(lines.filter(|line| !line.trim().is_empty()).map(|line| format!("{line}\n")).collect())
    }

    /// Sets and checks all cases by a back end, one in place of the other; `program` is the one it has to choose.
    fn play(&self, backend: &str, program: &str) -> Result<()> {
        for Case { flags, calls } in CASES {
            let arguments = [&["--backend", backend], *flags].concat();
            let said = redirect_with(&self.pod, &arguments)?;
            ensure!(said.contains(program), "not by {program}: {said}");
            let rules = self.rules()?;
            self.check(calls).with_context(|| format!("{backend} {flags:?}\n{rules}"))?;
            redirect_with(&self.pod, &arguments)?;
            ensure!(self.rules()? == rules, "{flags:?} a second time: {rules}\nnow\n{}", self.rules()?);
        }
        Ok(())
    }

    fn clean(&self) -> Result<()> {
        redirect_with(&self.pod, &["--clean"])?;
        self.check(&[(Neighbour, "pod", 8080, "app"), (App, "near", 9999, "neighbour")])?;
        let rules = self.rules()?;
        ensure!(!rules.to_lowercase().contains("eastwest"), "left behind: {rules}");
        Ok(())
    }
}

#[test]
#[ignore = "needs root and stock Envoy"]
fn every_flag_redirects_by_iptables_over_nf_tables() -> Result<()> {
    let stage = Stage::new()?;
    stage.play("auto", "IPv4 by iptables-nft-restore, IPv6 by ip6tables-nft-restore")?;
    stage.clean()
}

#[test]
#[ignore = "needs root and stock Envoy"]
fn every_flag_redirects_by_nftables() -> Result<()> {
    let stage = Stage::new()?;
    stage.play("nftables", "IPv4 by nft, IPv6 by nft")?;
    stage.clean()
}

/// The older tables are taken where somebody uses them already; and what others have there stays.
#[test]
#[ignore = "needs root and stock Envoy"]
fn every_flag_redirects_by_the_older_iptables() -> Result<()> {
    let stage = Stage::new()?;
    for program in ["iptables-legacy", "ip6tables-legacy"] {
        let mut command = stage.pod.command(program);
        command.args(["--table", "nat", "--append", "PREROUTING", "--protocol", "udp", "--jump", "ACCEPT"]);
        run(command)?;
    }
    let before = stage.rules()?;
    stage.play("iptables", "IPv4 by iptables-legacy-restore, IPv6 by ip6tables-legacy-restore")?;
    stage.clean()?;
    ensure!(stage.rules()?.contains("-A PREROUTING -p udp -j ACCEPT"), "before: {before}");
    Ok(())
}

/// Rules of another back end would count too, so they go.
#[test]
#[ignore = "needs root and stock Envoy"]
fn a_change_of_the_back_end_leaves_nothing_behind() -> Result<()> {
    let stage = Stage::new()?;
    let left_alone: &[_] = &[(Neighbour, "pod", 9090, "app"), (App, "near", 7777, "neighbour")];
    for (before, after) in [("iptables", "nftables"), ("nftables", "iptables")] {
        redirect_with(&stage.pod, &["--backend", before])?;
        let flags =
            ["--backend", after, "--exclude-inbound-ports", "9090", "--exclude-outbound-ports", "7777"];
        redirect_with(&stage.pod, &flags)?;
        stage.check(left_alone).with_context(|| format!("{before}, then {after}"))?;
    }
    stage.clean()
}

#[test]
#[ignore = "needs root and stock Envoy"]
fn what_sets_no_rules_says_so_and_changes_nothing() -> Result<()> {
    let stage = Stage::new()?;
    let before = stage.rules()?;
    let none = redirect_with(&stage.pod, &["--interception-mode", "NONE"])?;
    ensure!(none.contains("NONE, no rules are set"), "{none}");
    for backend in ["auto", "iptables", "nftables"] {
        let printed = redirect_with(&stage.pod, &["--dry-run", "--backend", backend])?;
        ensure!(printed.contains("15006") && printed.contains("::6/128"), "{printed}");
    }
    ensure!(stage.rules()? == before, "{}", stage.rules()?);
    let mut unprivileged = stage.pod.command_as(1337, programs::eastwest()?);
    let output = unprivileged.arg("redirect").output()?;
    let said = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.code() == Some(1), "{}: {said}", output.status);
    ensure!(said.lines().count() == 1 && said.contains("capability NET_ADMIN"), "{said}");
    Ok(())
}

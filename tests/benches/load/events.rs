//! The trial: what happens, one after the other, and what it costs.

use std::{
    rc::Rc,
    time::{Duration, Instant},
};

use tokio::{
    task::{LocalSet, spawn_local},
    time::{interval, sleep},
};

use crate::{
    client::{Client, Common, node},
    link::Proofs,
    mesh::Mesh,
    options::{Event, Options},
    protocol::Ask,
    report::{Report, Row},
    server::{Place, Server},
};

/// Between two changes.
const PAUSE: Duration = Duration::from_millis(200);
/// After the last change, so that what follows it in the background counts as well.
const REST: Duration = Duration::from_secs(2);
/// Changes a second of `churn`.
const RATE: u64 = 10;

/// A server, its clients, and what was measured.
pub(crate) struct Trial {
    options: Options,
    mesh: Mesh,
    place: Place,
    /// `None` for a moment, while it is started again.
    server: Option<Server>,
    common: Rc<Common>,
    clients: Vec<Rc<Client>>,
    report: Report,
    _dir: tempfile::TempDir,
}

/// The state at the beginning of an event.
struct Before {
    cpu: Duration,
    bytes: Vec<u64>,
    switches: u64,
    since: Instant,
}

impl Trial {
    /// Runs all events.
    pub(crate) async fn run(options: Options) -> Report {
        LocalSet::new().run_until(Self::all(options)).await
    }

    async fn all(options: Options) -> Report {
        let dir = tempfile::tempdir().unwrap();
        let mesh = Mesh::write(dir.path().join("manifests"), options.services, options.pods);
        let mut place = Place::new(mesh.dir(), dir.path(), options.core);
        let server = place.start();
        let mut report = Report::new(&options);
        report.rows.push(Row {
            event: "start".to_owned(),
            rounds: 1,
            cpu: server.cpu(),
            resident: server.resident(),
            taken: vec![vec![server.ready_after]],
            ..Row::default()
        });
        let (common, clients) = (Rc::default(), Vec::new());
        let mut trial =
            Self { options, mesh, place, server: Some(server), common, clients, report, _dir: dir };
        trial.connect().await;
        for event in trial.options.events.clone() {
            eprintln!("{event} ...");
            trial.happen(event).await;
        }
        eprintln!("comparing with clients that connect anew ...");
        trial.report.stale = trial.compare().await;
        trial.report
    }

    fn server(&self) -> &Server {
        self.server.as_ref().unwrap()
    }

    /// The clients, not connected yet.
    fn make_clients(&self) -> Vec<Rc<Client>> {
        let of = self.options.proxies;
        let mut proofs = Proofs::new(self.options.proof);
        let client = |number| {
            let pod = self.mesh.pod_of(number, of);
            let target = proofs.target(&self.place, &pod.namespace);
            Rc::new(Client::new(number, pod, self.options.variant, target))
        };
        (0..of).map(client).collect()
    }

    /// Connects all clients, each with a full configuration.
    async fn connect(&mut self) {
        self.clients = self.make_clients();
        let (before, empty) = (self.before(), self.server().resident());
        for client in &self.clients {
            let (client, common) = (Rc::clone(client), Rc::clone(&self.common));
            spawn_local(async move { client.run(&common).await });
        }
        self.complete("connect", before, self.clients.len()).await;
        sleep(REST).await;
        let (resident, number) = (self.server().resident(), self.clients.len().max(1) as u64);
        if let Some(row) = self.report.rows.last_mut() {
            row.memory_each = Some(resident.saturating_sub(empty) / number);
            row.resident = resident;
        }
    }

    async fn happen(&mut self, event: Event) {
        match event {
            Event::Idle => self.idle().await,
            Event::Endpoint => self.endpoint("endpoint").await,
            Event::Namespace => self.policy(event, &Mesh::first_namespace()).await,
            Event::Mesh => self.policy(event, "istio-system").await,
            Event::Churn => self.churn().await,
            Event::Stalled => self.stalled().await,
            Event::RestartHolding => self.restart(event, false).await,
            Event::RestartEmpty => self.restart(event, true).await,
        }
    }

    fn before(&self) -> Before {
        let bytes = self.clients.iter().map(|client| client.bytes.get()).collect();
        let (cpu, switches) = (self.server().cpu(), self.server().switches());
        Before { cpu, bytes, switches, since: Instant::now() }
    }

    /// What an event cost since then; bytes of the clients that it `concerns`, and of the others.
    fn add(
        &mut self,
        event: &str,
        before: &Before,
        rounds: usize,
        concerns: impl Fn(&Client) -> bool,
    ) -> &mut Row {
        let server = self.server();
        let (cpu, switches) = (server.cpu() - before.cpu, server.switches().saturating_sub(before.switches));
        let (resident, peak) = (server.resident(), server.peak());
        let received = self.clients.iter().zip(&before.bytes);
        let (mut concerned, mut bytes, mut bytes_others) = (0, 0, 0);
        for (client, before) in received {
            let more = client.bytes.get() - before;
            if concerns(client) {
                (concerned, bytes) = (concerned + 1, bytes + more);
            } else {
                bytes_others += more;
            }
        }
        let bytes_each = bytes / (concerned.max(1) * rounds.max(1) as u64);
        let event = event.to_owned();
        let row =
            Row { event, rounds, cpu, switches, resident, peak, bytes_each, bytes_others, ..Row::default() };
        self.report.rows.push(row);
        let last = self.report.rows.len() - 1;
        &mut self.report.rows[last]
    }

    async fn idle(&mut self) {
        let before = self.before();
        sleep(Duration::from_secs(self.options.seconds)).await;
        let share = (self.server().cpu() - before.cpu).as_secs_f64() / before.since.elapsed().as_secs_f64();
        self.add("idle", &before, 1, |_| true).share = Some(share);
    }

    /// Makes a change again and again; it concerns some of the clients.
    async fn rounds(
        &mut self,
        event: &str,
        change: impl Fn(&Mesh, usize) -> String,
        concerns: impl Fn(&Client) -> bool,
    ) {
        let before = self.before();
        let (mut taken, mut lost) = (Vec::new(), 0);
        for round in 0..self.options.rounds {
            let resource = change(&self.mesh, round);
            let clients = self.clients.iter().filter(|client| concerns(client));
            self.common.board.expect(resource, clients.map(|client| client.number));
            let (times, missing) = self.common.board.wait().await;
            taken.extend(times);
            lost += missing;
            sleep(PAUSE).await;
        }
        sleep(REST).await;
        let rounds = self.options.rounds;
        let row = self.add(event, &before, rounds, concerns);
        (row.taken, row.lost) = (taken, lost);
    }

    async fn endpoint(&mut self, name: &str) {
        self.rounds(name, |mesh, round| mesh.change_endpoint(0, !round.is_multiple_of(2)), |_| true).await;
        self.mesh.change_endpoint(0, true);
        sleep(PAUSE).await;
    }

    async fn policy(&mut self, event: Event, namespace: &str) {
        let first = Mesh::first_namespace();
        let all = event == Event::Mesh;
        let change = |mesh: &Mesh, round: usize| mesh.change_policy(namespace, round.is_multiple_of(2));
        // The mode of a namespace goes before that of the mesh.
        self.mesh.forget_policies();
        sleep(REST).await;
        self.rounds(&event.name(), change, |client| all || client.pod.namespace == first).await;
    }

    async fn churn(&mut self) {
        let before = self.before();
        let mut ticks = interval(Duration::from_millis(1000 / RATE));
        let all = 0..self.clients.len();
        let number = self.options.seconds * RATE;
        for change in 0..number {
            ticks.tick().await;
            let change = usize::try_from(change).unwrap() + 1;
            let resource = self.mesh.change_endpoint(change, change / self.options.services % 2 == 1);
            self.common.board.expect(resource, all.clone());
        }
        let (taken, lost) = self.common.board.wait().await;
        let share = (self.server().cpu() - before.cpu).as_secs_f64() / before.since.elapsed().as_secs_f64();
        let row = self.add("churn", &before, usize::try_from(number).unwrap(), |_| true);
        (row.taken, row.lost, row.share) = (taken, lost, Some(share));
    }

    async fn stalled(&mut self) {
        let empty = self.server().resident();
        let mut proofs = Proofs::new(self.options.proof);
        let mut kept = Vec::new();
        for number in 0..self.options.stalled {
            let pod = self.mesh.pod_of(number, self.options.stalled);
            let target = proofs.target(&self.place, &pod.namespace);
            let type_url = eastwest_xds::TypeUrl::CLUSTER;
            let ask = Ask { node: Some(node(&pod)), type_url: type_url.as_str(), ..Ask::default() };
            let variant = self.options.variant;
            kept.push(target.stall(variant.path(), variant.encode(ask)).await.unwrap());
        }
        sleep(REST).await;
        let more = self.server().resident().saturating_sub(empty) / self.options.stalled.max(1) as u64;
        self.endpoint("stalled").await;
        if let Some(row) = self.report.rows.last_mut() {
            row.memory_each = Some(more);
        }
        drop(kept);
    }

    async fn restart(&mut self, event: Event, forgetful: bool) {
        self.common.forgetful.set(forgetful);
        if let Some(server) = self.server.take() {
            server.kill();
        }
        if !self.common.board.wait_for_complete(0).await {
            eprintln!("clients do not notice the end of the server");
        }
        self.server = Some(self.place.start());
        let before = Before { cpu: Duration::ZERO, switches: 0, ..self.before() };
        self.complete(&event.name(), before, self.clients.len()).await;
        self.common.forgetful.set(false);
        sleep(REST).await;
        let resident = self.server().resident();
        if let Some(row) = self.report.rows.last_mut() {
            row.resident = resident;
        }
    }

    /// Waits until all clients have everything.
    async fn complete(&mut self, event: &str, before: Before, clients: usize) {
        let all = self.common.board.wait_for_complete(clients).await;
        let taken = before.since.elapsed();
        let row = self.add(event, &before, 1, |_| true);
        row.taken = vec![vec![taken]];
        row.lost = if all { 0 } else { clients };
    }

    /// The number of clients that hold something else than one that connects anew.
    async fn compare(&mut self) -> usize {
        sleep(REST).await;
        let mut stale = 0;
        for client in &self.make_clients() {
            client.fetch(&self.common).await.unwrap();
            if client.held != self.clients[client.number].held {
                stale += 1;
            }
        }
        stale
    }
}

//! Two control planes of one cluster that must know the same.

use std::{collections::BTreeMap, time::Duration};

use eastwest_tests::process::until;
use serde_json::Value;

use crate::{cluster::Cluster, server::Server};

/// How long a server may take to catch up.
const CATCH_UP: Duration = Duration::from_secs(60);

/// What a server answers about everything that it knows; resources with their versions.
fn answers(server: &Server) -> BTreeMap<String, Value> {
    let workloads = server.page("/debug/workloads");
    let mut answers: BTreeMap<_, _> =
        [("/debug/check".to_owned(), server.page("/debug/check"))].into_iter().collect();
    for workload in workloads.as_array().unwrap() {
        let workload = workload.as_str().unwrap();
        for page in ["tls", "config_dump"] {
            let path = format!("/debug/{page}?workload={workload}");
            // It may be gone by now.
            let (status, text) = server.get(&path);
            let answer = if status == 200 { serde_json::from_str(&text).unwrap() } else { Value::Null };
            answers.insert(path, answer);
        }
    }
    answers.insert("/debug/workloads".to_owned(), workloads);
    answers
}

/// Waits until both servers give the same answers; the number of workloads.
pub(crate) fn wait_until_equal(one: &Server, other: &Server) -> usize {
    let compared = until("equal answers", CATCH_UP, || {
        let (ours, theirs) = (answers(one), answers(other));
        Ok((ours == theirs).then_some(ours))
    });
    let Ok(compared) = compared else {
        let (ours, theirs) = (answers(one), answers(other));
        let differs = |path: &&String| ours.get(*path) != theirs.get(*path);
        let path = ours.keys().chain(theirs.keys()).find(differs).expect("it took too long");
        panic!("{path} differs: {:#?} and {:#?}", ours.get(path), theirs.get(path));
    };
    compared["/debug/workloads"].as_array().unwrap().len()
}

/// Waits until a server answers as one that starts now: nothing was lost, and nothing that is gone stays. The number of
/// workloads.
pub(crate) fn wait_until_like_new(server: &Server, cluster: &Cluster, flags: &[&str]) -> usize {
    let fresh = Server::start(cluster, flags);
    wait_until_equal(server, &fresh)
}

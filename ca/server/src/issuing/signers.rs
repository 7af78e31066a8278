//! The threads that sign: beside those that serve streams, as many as were asked for, fed by a fair queue.

use std::{
    fmt, io,
    sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError},
    thread::{self, JoinHandle},
};

use eastwest_ca::fair_queue::FairQueue;
use eastwest_io::defects;

use crate::issuing::limits::Owner;

/// Most requests that wait for a signature, in all and of one owner.
const MAX_WAITING: usize = 4096;
const MAX_WAITING_OF_ONE: usize = 1024;

type Job = Box<dyn FnOnce() + Send>;

/// Too many requests wait already.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Full;

/// A pool of threads. Dropping it finishes what has begun and drops what waits.
pub(crate) struct Signers {
    shared: Arc<Shared>,
    threads: Vec<JoinHandle<()>>,
}

struct Shared {
    queue: Mutex<Queue>,
    work: Condvar,
}

struct Queue {
    jobs: FairQueue<Owner, Job>,
    /// Threads that sleep.
    idle: usize,
    /// One of them has been called and has not come yet.
    called: bool,
    closed: bool,
}

impl Queue {
    /// Whether to call a thread. One at a time: it finds whatever came meanwhile, and calls the next if that is more than
    /// it can take. A call costs a tenth of what it is about.
    fn calls(&mut self) -> bool {
        let calls = self.idle > 0 && !self.called && !self.jobs.is_empty();
        self.called |= calls;
        calls
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn run(&self) {
        while let Some(job) = self.next() {
            defects::caught("ca-signer", || {
                defects::fault("signer");
                job();
            });
        }
    }

    fn next(&self) -> Option<Job> {
        let mut queue = self.lock();
        loop {
            if queue.closed {
                return None;
            }
            if let Some(job) = queue.jobs.pop() {
                self.call(queue);
                return Some(job);
            }
            queue.idle += 1;
            queue = self.work.wait(queue).unwrap_or_else(PoisonError::into_inner);
            queue.idle -= 1;
            queue.called = false;
        }
    }

    /// Leaves the queue, and wakes a thread if one should work.
    fn call(&self, mut queue: MutexGuard<'_, Queue>) {
        let calls = queue.calls();
        drop(queue);
        if calls {
            self.work.notify_one();
        }
    }
}

impl Signers {
    /// Starts `threads` threads, at least one.
    pub(crate) fn start(threads: usize) -> io::Result<Self> {
        let jobs = FairQueue::new(MAX_WAITING, MAX_WAITING_OF_ONE);
        let queue = Mutex::new(Queue { jobs, idle: 0, called: false, closed: false });
        let shared = Arc::new(Shared { queue, work: Condvar::new() });
        let thread = |number| {
            let shared = Arc::clone(&shared);
            thread::Builder::new().name(format!("ca-signer-{number}")).spawn(move || shared.run())
        };
        let threads = (0..threads.max(1)).map(thread).collect::<Result<_, _>>()?;
        Ok(Self { shared, threads })
    }

    /// Has `job` done when it is `owner`'s turn.
    pub(crate) fn submit(&self, owner: Owner, job: impl FnOnce() + Send + 'static) -> Result<(), Full> {
        let mut queue = self.shared.lock();
        let pushed = queue.jobs.push(owner, Box::new(job));
        self.shared.call(queue);
        pushed.map_err(|_| Full)
    }

    /// How many threads have ended, and how many were started.
    pub(crate) fn ended(&self) -> (usize, usize) {
        (self.threads.iter().filter(|thread| thread.is_finished()).count(), self.threads.len())
    }

    /// How many requests wait.
    pub(crate) fn waiting(&self) -> usize {
        self.shared.lock().jobs.len()
    }
}

impl Drop for Signers {
    fn drop(&mut self) {
        self.shared.lock().closed = true;
        self.shared.work.notify_all();
        for thread in self.threads.drain(..) {
            let _ = thread.join(); // what a job panics with is caught
        }
    }
}

impl fmt::Debug for Signers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Signers").field("threads", &self.threads.len()).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use std::{sync::mpsc, time::Duration};

    use super::*;

    fn owner(name: &str) -> Owner {
        let identity = format!("spiffe://cluster.local/ns/a/sa/{name}").parse().unwrap();
        Owner::of(&eastwest_ca::Caller::new(identity, eastwest_ca::caller::Proof::Operator))
    }

    /// The only thread goes on.
    #[test]
    fn a_job_that_panics_costs_itself_alone() {
        let signers = Signers::start(1).unwrap();
        let (done, outcome) = mpsc::channel();
        for n in 0..6 {
            let done = done.clone();
            let job = move || {
                assert!(n % 2 == 1, "on purpose");
                done.send(n).unwrap();
            };
            signers.submit(owner("a"), job).unwrap();
        }
        drop(done);
        assert_eq!(outcome.iter().collect::<Vec<_>>(), [1, 3, 5]);
    }

    /// Each thread that is called calls the next, until all are busy.
    #[test]
    fn as_many_work_as_there_is_work_for() {
        let signers = Signers::start(4).unwrap();
        for round in 0..100 {
            let (at_work, (done, outcome)) = (Arc::new((Mutex::new(0), Condvar::new())), mpsc::channel());
            for n in 0..4 {
                let (at_work, done) = (Arc::clone(&at_work), done.clone());
                let job = move || {
                    let (number, changed) = &*at_work;
                    let mut number = number.lock().unwrap();
                    *number += 1;
                    changed.notify_all();
                    let all = changed.wait_timeout_while(number, Duration::from_secs(5), |n| *n < 4);
                    done.send(!all.unwrap().1.timed_out()).unwrap();
                };
                signers.submit(owner(&format!("a{n}")), job).unwrap();
            }
            for _ in 0..4 {
                assert!(outcome.recv().unwrap(), "round {round}");
            }
        }
    }
}

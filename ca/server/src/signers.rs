//! The threads that sign: beside those that serve streams, as many as were asked for, fed by a fair queue.

use std::{
    fmt, io,
    sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError},
    thread::{self, JoinHandle},
};

use eastwest_ca::fair::FairQueue;

use crate::limits::Owner;

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
    /// Threads that wait for work; while none does, there is nobody to wake.
    idle: usize,
    closed: bool,
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn run(&self) {
        while let Some(job) = self.next() {
            job();
        }
    }

    fn next(&self) -> Option<Job> {
        let mut queue = self.lock();
        loop {
            if queue.closed {
                return None;
            }
            if let Some(job) = queue.jobs.pop() {
                return Some(job);
            }
            queue.idle += 1;
            queue = self.work.wait(queue).unwrap_or_else(PoisonError::into_inner);
            queue.idle -= 1;
        }
    }
}

impl Signers {
    /// Starts `threads` threads, at least one.
    pub(crate) fn start(threads: usize) -> io::Result<Self> {
        let jobs = FairQueue::new(MAX_WAITING, MAX_WAITING_OF_ONE);
        let queue = Mutex::new(Queue { jobs, idle: 0, closed: false });
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
        let wake = queue.idle > 0;
        drop(queue);
        if wake {
            self.shared.work.notify_one();
        }
        pushed.map_err(|_| Full)
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
            let _ = thread.join(); // a job that panicked has answered nobody, which the service says
        }
    }
}

impl fmt::Debug for Signers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Signers").field("threads", &self.threads.len()).finish_non_exhaustive()
    }
}

//! Threads that wait for parts of a layer by spinning, then by sleeping.
//!
//! A layer of a binary network takes tens of microseconds, about as long as waking a thread. So the members of a team
//! look for work for a while before they sleep; the time between two layers is far shorter.

use onebit_core::team::{Part, Team};
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::atomic::{AtomicBool, AtomicPtr, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// How long a thread looks for work before it sleeps.
const PATIENCE: Duration = Duration::from_micros(100);

/// A team of threads, the caller's included.
pub(crate) struct Threads {
    shared: Arc<Shared>,
    workers: Vec<JoinHandle<()>>,
    cost_ns: u64,
}

struct Shared {
    /// Number of the job in the upper half, parts that nobody has taken in the lower.
    state: AtomicU64,
    /// The job: a `Job`, valid while parts of it are unfinished.
    job: AtomicPtr<()>,
    unfinished: AtomicUsize,
    panicked: AtomicBool,
    sleepers: AtomicUsize,
    door: Mutex<()>,
    bell: Condvar,
    stop: AtomicBool,
    /// One job at a time.
    leader: Mutex<()>,
}

/// Calls the work with part `i`.
type Job<'a> = dyn Fn(usize) + Sync + 'a;

impl Threads {
    /// Starts `members - 1` threads and measures what a job costs.
    pub(crate) fn start(members: usize) -> std::io::Result<Self> {
        let shared = Arc::new(Shared {
            state: AtomicU64::new(0),
            job: AtomicPtr::new(std::ptr::null_mut()),
            unfinished: AtomicUsize::new(0),
            panicked: AtomicBool::new(false),
            sleepers: AtomicUsize::new(0),
            door: Mutex::new(()),
            bell: Condvar::new(),
            stop: AtomicBool::new(false),
            leader: Mutex::new(()),
        });
        let mut threads = Threads { shared, workers: Vec::new(), cost_ns: 0 };
        for _ in 1..members {
            let shared = threads.shared.clone();
            let worker = std::thread::Builder::new().name("onebit".into()).spawn(move || shared.work())?;
            threads.workers.push(worker);
        }
        threads.cost_ns = threads.measure();
        Ok(threads)
    }

    /// Shortest time of a job for which all members have to come.
    fn measure(&self) -> u64 {
        let members = self.members();
        let begin = Instant::now();
        let mut best = u64::MAX;
        // The first times a thread may still have to start, or to wait for a core.
        for round in 0..200 {
            let (start, here) = (Instant::now(), AtomicUsize::new(0));
            self.shared.run(members, &|_| {
                here.fetch_add(1, Ordering::Relaxed);
                wait(|| here.load(Ordering::Relaxed) == members);
            });
            best = best.min(start.elapsed().as_nanos() as u64);
            if round >= 20 && begin.elapsed() > Duration::from_millis(20) {
                break;
            }
        }
        best
    }
}

impl Team for Threads {
    fn members(&self) -> usize {
        self.workers.len() + 1
    }
    fn cost_ns(&self) -> u64 {
        self.cost_ns
    }
    fn run(&self, parts: &mut [Part<'_>], work: &(dyn Fn(&mut Part<'_>) + Sync)) {
        struct Parts<'p>(*mut Part<'p>);
        // SAFETY: `Shared::run` calls the job once for each index, so no two threads use the same part.
        unsafe impl Sync for Parts<'_> {}
        let (n, parts) = (parts.len(), Parts(parts.as_mut_ptr()));
        let parts = &parts;
        // SAFETY: `i < n`, the length of the slice, which is borrowed until `Shared::run` returns.
        self.shared.run(n, &|i| work(unsafe { &mut *parts.0.add(i) }));
    }
}

impl Drop for Threads {
    fn drop(&mut self) {
        self.shared.stop.store(true, Ordering::SeqCst);
        drop(self.shared.lock_door());
        self.shared.bell.notify_all();
        for worker in self.workers.drain(..) {
            // A worker catches the panics of jobs, so it ends well.
            let _ = worker.join();
        }
    }
}

/// Waits by spinning; where that takes long, others may need the core.
fn wait(done: impl Fn() -> bool) {
    let mut turns = 0;
    while !done() {
        turns += 1;
        if turns < 4096 { std::hint::spin_loop() } else { std::thread::yield_now() }
    }
}

impl Shared {
    fn lock_door(&self) -> MutexGuard<'_, ()> {
        self.door.lock().unwrap_or_else(|e| e.into_inner())
    }

    /// Calls `job` once for each of `0..n`, on this thread and others, and returns when all calls have.
    fn run(&self, n: usize, job: &Job<'_>) {
        let Ok(_leader) = self.leader.try_lock() else {
            // The others are busy with another image.
            (0..n).for_each(job);
            return;
        };
        self.unfinished.store(n, Ordering::Relaxed);
        self.job.store((&raw const job).cast_mut().cast(), Ordering::Relaxed);
        let number = (self.state.load(Ordering::Relaxed) >> 32).wrapping_add(1);
        // Publishes the job. A thread that sees this state sees the job.
        self.state.store(number << 32 | n as u64, Ordering::SeqCst);
        if self.sleepers.load(Ordering::SeqCst) > 0 {
            drop(self.lock_door());
            self.bell.notify_all();
        }
        while self.take_part() {}
        wait(|| self.unfinished.load(Ordering::Acquire) == 0);
        if self.panicked.swap(false, Ordering::Relaxed) {
            resume_unwind(Box::new("a part of a layer panicked"));
        }
    }

    /// Takes a part of the job and does it; false when none is left.
    fn take_part(&self) -> bool {
        let mut state = self.state.load(Ordering::Acquire);
        let (job, i) = loop {
            let left = state & u64::from(u32::MAX);
            if left == 0 {
                return false;
            }
            let job = self.job.load(Ordering::Relaxed);
            match self.state.compare_exchange_weak(state, state - 1, Ordering::AcqRel, Ordering::Acquire) {
                Ok(_) => break (job, left as usize - 1),
                Err(now) => state = now,
            }
        };
        // SAFETY: the exchange has taken a part of the job that was published with `state`. `run` does not return and
        // publishes no other job before this part is counted as finished below, so the job that was loaded between
        // is that one, and what it points to (the argument of `run`) lives.
        let job = unsafe { *job.cast::<&Job<'_>>() };
        if catch_unwind(AssertUnwindSafe(|| job(i))).is_err() {
            self.panicked.store(true, Ordering::Relaxed);
        }
        self.unfinished.fetch_sub(1, Ordering::Release);
        true
    }

    /// Whether there is anything to do.
    fn called(&self) -> bool {
        self.state.load(Ordering::SeqCst) & u64::from(u32::MAX) > 0 || self.stop.load(Ordering::SeqCst)
    }

    fn work(&self) {
        let mut idle = Instant::now();
        while !self.stop.load(Ordering::Relaxed) {
            if self.take_part() {
                idle = Instant::now();
                continue;
            }
            std::hint::spin_loop();
            if idle.elapsed() > PATIENCE {
                let mut door = self.lock_door();
                self.sleepers.fetch_add(1, Ordering::SeqCst);
                while !self.called() {
                    door = self.bell.wait(door).unwrap_or_else(|e| e.into_inner());
                }
                self.sleepers.fetch_sub(1, Ordering::SeqCst);
                idle = Instant::now();
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_part_is_done_once_in_every_job() {
        for members in [1, 2, 5] {
            let threads = Threads::start(members).unwrap();
            assert_eq!(threads.members(), members);
            for job in 0..2000 {
                let n = job % 9;
                let done: Vec<AtomicUsize> = (0..n).map(|_| AtomicUsize::new(0)).collect();
                threads.shared.run(n, &|i| {
                    done[i].fetch_add(1, Ordering::Relaxed);
                });
                assert!(done.iter().all(|d| d.load(Ordering::Relaxed) == 1), "job {job} of {members}");
                if job % 500 == 0 {
                    // Everybody falls asleep.
                    std::thread::sleep(4 * PATIENCE);
                }
            }
        }
    }

    #[test]
    fn a_panic_reaches_the_caller_and_the_team_goes_on() {
        let threads = Threads::start(3).unwrap();
        for culprit in 0..3 {
            let job = |i| assert_ne!(i, culprit, "as expected");
            assert!(catch_unwind(AssertUnwindSafe(|| threads.shared.run(3, &job))).is_err());
            threads.shared.run(3, &|_| {});
        }
    }

    #[test]
    fn jobs_of_two_callers_do_not_mix() {
        let threads = Threads::start(2).unwrap();
        std::thread::scope(|scope| {
            for _ in 0..3 {
                scope.spawn(|| {
                    for _ in 0..500 {
                        let sum = AtomicUsize::new(0);
                        threads.shared.run(4, &|i| {
                            sum.fetch_add(i + 1, Ordering::Relaxed);
                        });
                        assert_eq!(sum.into_inner(), 10);
                    }
                });
            }
        });
    }
}

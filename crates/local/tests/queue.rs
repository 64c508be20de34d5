//! The queue in memory: delays, bounds, and handlers that fail.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicUsize, Ordering};
use std::time::Duration;

use sentinel_core::UnixMs;
use sentinel_core::incident::{Gen, IncidentId, Job};
use sentinel_core::ports::{Clock, JobQueue as _};
use sentinel_local::{Handled, LocalQueue, Stats};
use tokio::sync::{Semaphore, mpsc};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

/// Stands still until it is set.
#[derive(Debug, Default)]
struct SetClock(AtomicI64);

impl SetClock {
    fn set(&self, ms: i64) {
        self.0.store(ms, Ordering::SeqCst);
    }
}

impl Clock for SetClock {
    fn now(&self) -> UnixMs {
        UnixMs::new(self.0.load(Ordering::SeqCst))
    }
}

/// Goes with the runtime's time, which jumps while everybody sleeps.
#[derive(Debug)]
struct TokioClock(Instant);

impl Clock for TokioClock {
    fn now(&self) -> UnixMs {
        UnixMs::new(0).plus(self.0.elapsed())
    }
}

fn job(n: u32) -> Job {
    Job { incident: IncidentId::new(n.to_string()), generation: Gen(1) }
}

const fn ms(n: u64) -> Duration {
    Duration::from_millis(n)
}

const fn at(n: i64) -> UnixMs {
    UnixMs::new(n)
}

#[tokio::test]
async fn jobs_come_when_they_are_due_and_in_the_order_of_sending_where_that_is_the_same() {
    let (queue, receiver) = LocalQueue::new(Arc::new(SetClock::default()));
    for (n, delay) in [(1, 50), (2, 0), (3, 20), (4, 0)] {
        queue.send(&job(n), ms(delay)).await.unwrap();
    }
    assert_eq!(queue.stats(), Stats { waiting: 4, running: 0 });
    assert_eq!(receiver.next_due(), Some(at(0)));
    assert_eq!(receiver.pop_due(at(0)), Some(job(2)));
    assert_eq!(receiver.pop_due(at(0)), Some(job(4)));
    assert_eq!(receiver.pop_due(at(19)), None);
    assert_eq!(receiver.next_due(), Some(at(20)));
    assert_eq!(receiver.pop_due(at(60)), Some(job(3)));
    assert_eq!(receiver.pop_due(at(60)), Some(job(1)));
    assert_eq!(receiver.next_due(), None);
}

#[tokio::test]
async fn a_job_that_waits_already_is_not_doubled_and_keeps_the_earlier_time() {
    let clock = Arc::new(SetClock::default());
    let (queue, receiver) = LocalQueue::new(clock.clone());
    for delay in [30, 10, 20] {
        queue.send(&job(1), ms(delay)).await.unwrap();
    }
    let next_generation = Job { generation: Gen(2), ..job(1) };
    queue.send(&next_generation, ms(30)).await.unwrap();
    assert_eq!(receiver.pop_due(at(9)), None);
    assert_eq!(receiver.pop_due(at(10)), Some(job(1)));
    assert_eq!(receiver.pop_due(at(100)), Some(next_generation));
    assert_eq!(receiver.pop_due(at(100)), None);
    // Once taken, it may wait again.
    clock.set(100);
    queue.send(&job(1), ms(0)).await.unwrap();
    assert_eq!(receiver.next_due(), Some(at(100)));
}

#[tokio::test]
async fn no_more_jobs_run_at_once_than_allowed_and_shutting_down_waits_for_those_that_do() {
    let (queue, receiver) = LocalQueue::new(Arc::new(SetClock::default()));
    let (began, mut beginnings) = mpsc::unbounded_channel();
    let (gate, finished) = (Arc::new(Semaphore::new(0)), Arc::new(AtomicUsize::new(0)));
    let handler = {
        let (gate, finished) = (gate.clone(), finished.clone());
        move |job: Job| {
            let (began, gate, finished) = (began.clone(), gate.clone(), finished.clone());
            async move {
                began.send(job).unwrap();
                gate.acquire().await.unwrap().forget();
                finished.fetch_add(1, Ordering::SeqCst);
                Handled::Done
            }
        }
    };
    for n in 0..5 {
        queue.send(&job(n), ms(0)).await.unwrap();
    }
    let shutdown = CancellationToken::new();
    let running = tokio::spawn(receiver.run(handler, 2, shutdown.clone()));
    assert_eq!(beginnings.recv().await, Some(job(0)));
    assert_eq!(beginnings.recv().await, Some(job(1)));
    assert_eq!(queue.stats(), Stats { waiting: 3, running: 2 });
    gate.add_permits(1);
    assert_eq!(beginnings.recv().await, Some(job(2)));
    assert_eq!(queue.stats(), Stats { waiting: 2, running: 2 });
    assert!(beginnings.try_recv().is_err());

    shutdown.cancel();
    gate.add_permits(2);
    running.await.unwrap();
    assert_eq!(finished.load(Ordering::SeqCst), 3);
    assert_eq!(queue.stats(), Stats { waiting: 2, running: 0 });
    assert_eq!(beginnings.recv().await, None);
}

#[tokio::test(start_paused = true)]
async fn a_job_is_delivered_when_its_delay_is_over_however_long_that_is() {
    let clock = Arc::new(TokioClock(Instant::now()));
    let (queue, receiver) = LocalQueue::new(clock.clone());
    let (began, mut beginnings) = mpsc::unbounded_channel();
    let handler = move |job: Job| {
        began.send((clock.now(), job)).unwrap();
        async { Handled::Done }
    };
    let shutdown = CancellationToken::new();
    let running = tokio::spawn(receiver.run(handler, 4, shutdown.clone()));
    queue.send(&job(1), Duration::from_mins(10)).await.unwrap();
    queue.send(&job(2), Duration::from_secs(1)).await.unwrap();
    assert_eq!(beginnings.recv().await, Some((at(1_000), job(2))));
    // Sent while the queue sleeps for a later one.
    queue.send(&job(3), Duration::from_secs(1)).await.unwrap();
    assert_eq!(beginnings.recv().await, Some((at(2_000), job(3))));
    assert_eq!(beginnings.recv().await, Some((at(600_000), job(1))));
    shutdown.cancel();
    running.await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_handler_that_fails_or_panics_gets_its_job_again_later_and_later_but_not_for_ever() {
    let clock = Arc::new(TokioClock(Instant::now()));
    let (queue, receiver) = LocalQueue::new(clock.clone());
    let (began, mut beginnings) = mpsc::unbounded_channel();
    let handler = move |job: Job| {
        began.send((clock.now().get(), job.clone())).unwrap();
        async move {
            assert_ne!(job.incident.as_str(), "1", "this job always panics");
            if job.incident.as_str() == "2" { Handled::Again } else { Handled::Done }
        }
    };
    let shutdown = CancellationToken::new();
    let running = tokio::spawn(receiver.run(handler, 1, shutdown.clone()));
    queue.send(&job(1), ms(0)).await.unwrap();
    queue.send(&job(2), ms(100)).await.unwrap();
    queue.send(&job(3), Duration::from_hours(1)).await.unwrap();
    let mut deliveries = vec![];
    for _ in 0..11 {
        deliveries.push(beginnings.recv().await.unwrap());
    }
    let times = |n| deliveries.iter().filter(|(_, j)| *j == job(n)).map(|(at, _)| *at).collect::<Vec<_>>();
    assert_eq!(times(1), [0, 1_000, 3_000, 7_000, 15_000]);
    assert_eq!(times(2), [100, 1_100, 3_100, 7_100, 15_100]);
    assert_eq!(times(3), [3_600_000]);
    shutdown.cancel();
    running.await.unwrap();
    assert_eq!(queue.stats(), Stats::default());
}

#[tokio::test]
async fn dropping_the_receiver_ends_what_runs() {
    let (queue, receiver) = LocalQueue::new(Arc::new(SetClock::default()));
    let (began, mut beginnings) = mpsc::unbounded_channel();
    let handler = move |job: Job| {
        began.send(job).unwrap();
        std::future::pending()
    };
    let running = tokio::spawn(receiver.run(handler, 1, CancellationToken::new()));
    queue.send(&job(1), ms(0)).await.unwrap();
    assert_eq!(beginnings.recv().await, Some(job(1)));
    running.abort();
    // The handler, and with it the sender, goes with the last task.
    assert_eq!(beginnings.recv().await, None);
    assert_eq!(queue.stats(), Stats::default());
}

//! Runs models on a bounded number of threads, apart from those that serve sockets.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};
use tokio::{sync::Semaphore, task::spawn_blocking, time::timeout};

/// A bounded number of runs at a time, and a bounded number that wait.
pub(crate) struct Pool {
    workers: Arc<Semaphore>,
    waiting: AtomicUsize,
    queue_max: usize,
}

/// Why work was not done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum PoolError {
    /// Too many wait already.
    QueueFull,
    /// No worker became free in time.
    QueueTimeout,
    /// The work panicked.
    Panicked,
}

impl Pool {
    pub(crate) fn new(workers: usize, queue_max: usize) -> Self {
        let workers = workers.clamp(1, Semaphore::MAX_PERMITS);
        Self { workers: Arc::new(Semaphore::new(workers)), waiting: AtomicUsize::new(0), queue_max }
    }

    /// Does the work on a thread that may block. Dropping the future before the work begins takes it out of the queue;
    /// work that has begun goes on.
    pub(crate) async fn run<T: Send + 'static>(
        &self,
        wait_max: Duration,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T, PoolError> {
        let permit = match Arc::clone(&self.workers).try_acquire_owned() {
            Ok(permit) => permit,
            Err(_) => {
                let _place = self.queue()?;
                let wait = timeout(wait_max, Arc::clone(&self.workers).acquire_owned());
                match wait.await {
                    Ok(Ok(permit)) => permit,
                    // The semaphore is never closed, so that only the wait can end otherwise.
                    Ok(Err(_)) | Err(_) => return Err(PoolError::QueueTimeout),
                }
            }
        };
        let work = move || {
            let result = work();
            drop(permit);
            result
        };
        spawn_blocking(work).await.map_err(|_| PoolError::Panicked)
    }

    fn queue(&self) -> Result<Place<'_>, PoolError> {
        let place = Place(&self.waiting);
        if self.waiting.fetch_add(1, Ordering::AcqRel) < self.queue_max {
            Ok(place)
        } else {
            Err(PoolError::QueueFull)
        }
    }
}

/// A place in the queue, left when dropped.
struct Place<'a>(&'a AtomicUsize);

impl Drop for Place<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::AcqRel);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::mpsc;

    const LONG: Duration = Duration::from_secs(600);

    #[tokio::test]
    async fn more_than_the_queue_holds_is_refused_at_once() {
        let pool = Arc::new(Pool::new(1, 1));
        let (release, held) = mpsc::channel::<()>();
        let (started, begun) = tokio::sync::oneshot::channel();
        let running = tokio::spawn({
            let pool = Arc::clone(&pool);
            async move {
                let work = move || {
                    let _ = started.send(());
                    let _ = held.recv();
                };
                pool.run(LONG, work).await
            }
        });
        begun.await.expect("the worker runs");
        let mut queued = Box::pin(pool.run(LONG, || 7));
        // Polled once, it takes the only place in the queue.
        assert!(timeout(Duration::ZERO, &mut queued).await.is_err());
        assert_eq!(pool.run(LONG, || 8).await, Err(PoolError::QueueFull));
        release.send(()).expect("still running");
        assert_eq!(queued.await, Ok(7));
        assert_eq!(running.await.expect("no panic"), Ok(()));
    }

    #[tokio::test]
    async fn who_leaves_the_queue_makes_room() {
        let pool = Arc::new(Pool::new(1, 1));
        let busy = Arc::clone(&pool.workers).acquire_owned().await.expect("open");
        {
            let mut gone = Box::pin(pool.run(LONG, || ()));
            assert!(timeout(Duration::ZERO, &mut gone).await.is_err());
        }
        assert_eq!(pool.run(Duration::ZERO, || ()).await, Err(PoolError::QueueTimeout));
        drop(busy);
        assert_eq!(pool.run(LONG, || 1).await, Ok(1));
    }

    #[tokio::test]
    async fn a_panic_frees_its_worker() {
        let pool = Pool::new(1, 0);
        assert_eq!(pool.run(LONG, || panic!("on purpose")).await, Err::<(), _>(PoolError::Panicked));
        assert_eq!(pool.run(LONG, || 1).await, Ok(1));
    }
}

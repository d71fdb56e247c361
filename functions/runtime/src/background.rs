//! Work beside an invocation, which no answer waits for, but which ends with the invocation: Lambda freezes a function after its
//! answer, and what it finds when it goes on may be minutes old.

use std::{cell::RefCell, time::Duration};

use tokio::{task::JoinSet, task_local, time::timeout};

use crate::telemetry;

/// How long an invocation that has its answer waits for the work beside it. What takes longer is ended.
const GRACE: Duration = Duration::from_millis(200);

task_local! {
    static WORK: RefCell<JoinSet<()>>;
}

/// Runs an invocation, and then ends the work that was spawned beside it.
pub(crate) async fn ending_with<T>(invocation: impl Future<Output = T>) -> T {
    let whole = async {
        let answer = invocation.await;
        let mut work = WORK.with(RefCell::take);
        // Dropping the set ends what is left.
        drop(timeout(GRACE, async { while work.join_next().await.is_some() {} }).await);
        answer
    };
    WORK.scope(RefCell::default(), whole).await
}

/// Runs work beside the current invocation. Its log lines belong to the unit of work that started it. Its calls are in no trace,
/// because they can end after it. Outside an invocation nothing would end it, so it does not begin.
pub(crate) fn spawn(work: impl Future<Output = ()> + Send + 'static) {
    let work = telemetry::beside(work);
    // Fails only outside an invocation.
    let _ = WORK.try_with(|all| drop(all.borrow_mut().spawn(work)));
}

#[cfg(test)]
mod tests {
    use std::{
        future::pending,
        sync::{
            Arc,
            atomic::{AtomicBool, Ordering},
        },
        time::Instant,
    };

    use tokio::time::sleep;

    use super::*;

    struct Ended(Arc<AtomicBool>);

    impl Drop for Ended {
        fn drop(&mut self) {
            self.0.store(true, Ordering::Relaxed);
        }
    }

    #[tokio::test]
    async fn work_beside_an_invocation_may_finish_but_not_outlive_it() {
        let (finished, ended) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicBool::new(false)));
        let (finishes, ends) = (Arc::clone(&finished), Ended(Arc::clone(&ended)));
        let start = Instant::now();
        let answer = ending_with(async {
            spawn(async move {
                sleep(GRACE / 10).await;
                finishes.store(true, Ordering::Relaxed);
            });
            spawn(async move {
                let _ends = ends;
                pending::<()>().await;
            });
            7
        });
        assert_eq!(answer.await, 7);
        assert!(start.elapsed() >= GRACE);
        assert!(finished.load(Ordering::Relaxed), "it had the time");
        tokio::task::yield_now().await;
        assert!(ended.load(Ordering::Relaxed), "it was ended");
    }
}

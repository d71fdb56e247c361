//! Faults that tests inject into the steps of the saga. **Not part of a release build**, and only release builds are
//! deployed to AWS: the module is compiled with debug assertions only.
//!
//! The environment variable `FAULTS`, which no template sets, names a folder. The next fault of a function for an order is
//! the first file in `<folder>/<order id>/<function>/`. The file is removed when the fault is taken, so that each is injected
//! once. The part of its name before the first `-` sorts the files, the rest is the kind: [`Fault`].

use std::{env, fs, future::pending, path::PathBuf, process};

/// The fault of one invocation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fault {
    /// No fault.
    None,
    /// `before`: fails before it takes effect.
    Before,
    /// `after`: takes effect and fails.
    After,
    /// `hang`: takes effect and never answers.
    Hang,
    /// `crash`: takes effect, and the process dies.
    Crash,
    /// `kill`: the process dies before anything takes effect.
    Kill,
    /// `twice`: is invoked twice.
    Twice,
    /// `throttled`: Lambda refuses the invocation.
    Throttled,
}

impl Fault {
    /// Takes the next fault of a function for an order.
    pub(crate) fn next(function: &str, order_id: &str) -> Self {
        let Some(folder) = env::var_os("FAULTS") else { return Self::None };
        let folder = PathBuf::from(folder).join(order_id).join(function);
        let mut names: Vec<String> = fs::read_dir(&folder)
            .into_iter()
            .flatten()
            .filter_map(|entry| entry.ok()?.file_name().into_string().ok())
            .collect();
        names.sort_unstable();
        // Of two concurrent invocations only one can remove the file.
        let taken = names.iter().find(|name| fs::remove_file(folder.join(name)).is_ok());
        match taken.and_then(|name| Some(name.split_once('-')?.1)) {
            Some("before") => Self::Before,
            Some("after") => Self::After,
            Some("hang") => Self::Hang,
            Some("crash") => Self::Crash,
            Some("kill") => Self::Kill,
            Some("twice") => Self::Twice,
            Some("throttled") => Self::Throttled,
            _ => Self::None,
        }
    }

    /// Runs the work with the fault around it. `error` makes the error of an injected failure.
    pub(crate) async fn around<T, E>(
        self,
        work: impl AsyncFn() -> Result<T, E>,
        error: impl FnOnce(&'static str) -> E,
    ) -> Result<T, E> {
        match self {
            Self::None => work().await,
            Self::Before => Err(error("injected: before the effect")),
            // Step Functions sees another error name when Lambda throttles, but retries it in the same way.
            Self::Throttled => Err(error("injected: throttled")),
            Self::After => {
                work().await?;
                Err(error("injected: after the effect"))
            }
            Self::Hang => {
                drop(work().await);
                pending().await
            }
            Self::Crash => {
                drop(work().await);
                process::abort()
            }
            Self::Kill => process::abort(),
            Self::Twice => {
                drop(work().await);
                work().await
            }
        }
    }
}

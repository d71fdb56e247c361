//! The API as those use it who only have its description: a browser on the documentation page, and a program against a
//! generated client.

mod browser;
mod description;
mod program;

use std::{
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use system_tests::PASSWORD;

/// A folder of JavaScript beside this crate.
fn javascript(name: &str) -> PathBuf {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join(name);
    let packages = folder.join("node_modules");
    assert!(packages.exists(), "{} is missing: run infra/local/bootstrap test", packages.display());
    folder
}

/// Node.js.
fn node() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../.local/node/bin/node")
}

/// Runs a program and gives what it printed; fails the test with all it said if it fails.
#[track_caller]
fn run(program: &Path, arguments: &[&str], folder: &Path) -> String {
    let done = Command::new(program).args(arguments).current_dir(folder).stdin(Stdio::null()).output();
    let done =
        done.unwrap_or_else(|error| panic!("{}: {error}: run infra/local/bootstrap test", program.display()));
    let said = String::from_utf8_lossy(&done.stdout).into_owned();
    assert!(
        done.status.success(),
        "{} {} failed:\n{said}\n{}",
        program.display(),
        arguments.join(" "),
        String::from_utf8_lossy(&done.stderr)
    );
    said
}

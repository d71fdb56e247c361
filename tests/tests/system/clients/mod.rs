//! The API, used by clients that know only its description: a browser on the documentation page, and programs.

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

/// Runs a program and returns its standard output. If it fails, the test fails with all its output.
#[track_caller]
fn run(program: &Path, arguments: &[&str], folder: &Path) -> String {
    let process = Command::new(program).args(arguments).current_dir(folder).stdin(Stdio::null()).output();
    let process = process
        .unwrap_or_else(|error| panic!("{}: {error}: run infra/local/bootstrap test", program.display()));
    let output = String::from_utf8_lossy(&process.stdout).into_owned();
    assert!(
        process.status.success(),
        "{} {} failed:\n{output}\n{}",
        program.display(),
        arguments.join(" "),
        String::from_utf8_lossy(&process.stderr)
    );
    output
}

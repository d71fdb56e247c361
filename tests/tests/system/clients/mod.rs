//! The API, used by clients that know only its description: a browser on the documentation page, and programs; and the
//! generators and linters that read the description.

mod browser;
mod description;
mod generators;
mod program;

use std::{
    path::{Path, PathBuf},
    process::{Command, Output, Stdio},
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

/// A program of the virtual environment with the generators in Python.
fn python_tool(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../.local/clients/bin").join(name)
}

/// Runs a program and returns its standard output. If it fails, the test fails with all its output.
#[track_caller]
fn run(program: &Path, arguments: &[&str], folder: &Path) -> String {
    String::from_utf8_lossy(&output(program, arguments, folder).stdout).into_owned()
}

/// Runs a program, which must not fail or warn of anything.
#[track_caller]
fn run_without_warnings(program: &Path, arguments: &[&str], folder: &Path) {
    let Output { stdout, stderr, .. } = output(program, arguments, folder);
    let output = String::from_utf8_lossy(&[stdout, stderr].concat()).into_owned();
    assert!(
        !output.to_lowercase().contains("warn"),
        "{} {} warns:\n{output}",
        program.display(),
        arguments.join(" ")
    );
}

#[track_caller]
fn output(program: &Path, arguments: &[&str], folder: &Path) -> Output {
    let mut command = Command::new(program);
    command.args(arguments).current_dir(folder).stdin(Stdio::null());
    // datamodel-codegen warns of its own next releases and of old Pythons.
    command.env("PYTHONWARNINGS", "ignore::FutureWarning");
    let process = command.output();
    let process = process
        .unwrap_or_else(|error| panic!("{}: {error}: run infra/local/bootstrap test", program.display()));
    assert!(
        process.status.success(),
        "{} {} failed:\n{}\n{}",
        program.display(),
        arguments.join(" "),
        String::from_utf8_lossy(&process.stdout),
        String::from_utf8_lossy(&process.stderr)
    );
    process
}

//! The API as those use it who only have its description: a browser on the documentation page, and a program against a
//! generated client.

mod browser;
mod description;
mod program;

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    sync::{Mutex, PoisonError},
};

use system_tests::PASSWORD;

/// Held while packages are installed: what several tests need is installed by the first.
static INSTALLING: Mutex<()> = Mutex::new(());

/// A folder of JavaScript beside this crate, with what its lock file names installed.
fn javascript(name: &str) -> PathBuf {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join(name);
    let _alone = INSTALLING.lock().unwrap_or_else(PoisonError::into_inner);
    let lock = fs::read(folder.join("package-lock.json")).expect("package-lock.json");
    let installed = folder.join("node_modules/.installed");
    if fs::read(&installed).ok().as_ref() != Some(&lock) {
        run("npm", &["ci", "--no-audit", "--no-fund"], &folder);
        fs::write(installed, lock).unwrap();
    }
    folder
}

/// Runs a program and gives what it printed; fails the test with all it said where it fails.
#[track_caller]
fn run(program: &str, arguments: &[&str], folder: &Path) -> String {
    let done = Command::new(program).args(arguments).current_dir(folder).stdin(Stdio::null()).output();
    let done = done.unwrap_or_else(|error| {
        panic!("{program}: {error}. These tests need Node.js 20 or newer with npm (on Debian: apt install nodejs npm).")
    });
    let said = String::from_utf8_lossy(&done.stdout).into_owned();
    assert!(
        done.status.success(),
        "{program} {} failed:\n{said}\n{}",
        arguments.join(" "),
        String::from_utf8_lossy(&done.stderr)
    );
    said
}

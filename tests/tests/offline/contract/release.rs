//! The deployed functions contain none of the code that generates the documents.

use std::process::Command;

use system_tests::files;

/// The packages that a selection of the workspace's crates depends on.
fn packages(selection: &[&str]) -> String {
    let cargo = Command::new(env!("CARGO"))
        .args(["tree", "--locked", "--offline", "--edges", "normal,build", "--prefix", "none"])
        .args(selection)
        .current_dir(files::at("."))
        .output()
        .expect("cargo");
    assert!(cargo.status.success(), "{}", String::from_utf8_lossy(&cargo.stderr));
    String::from_utf8(cargo.stdout).unwrap()
}

#[test]
fn no_deployed_function_depends_on_the_document_generators() {
    let selection = ["--workspace", "--exclude", "system-tests"];
    assert!(files::text("Makefile").contains(&format!(
        "cargo lambda build --release --arm64 --output-format zip {}",
        selection.join(" ")
    )));
    let deployed = packages(&selection);
    assert!(deployed.contains("serde_json v"), "{deployed}");
    assert!(!deployed.contains("schemars"), "{deployed}");
    // Only api-docs depends on the viewer and on the crate that unpacks it.
    let others = packages(&[&selection[..], &["--exclude", "api-docs"]].concat());
    for package in ["swagger", "zip v", "api-docs"] {
        assert!(deployed.contains(package) && !others.contains(package), "{package}");
    }
    assert!(
        packages(&["--workspace"]).contains("schemars v1"),
        "schemars no longer generates the documents: name the new generator here"
    );
}

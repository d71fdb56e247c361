//! Programs that call the API and play the same story: with clients that standard generators make from the description, in
//! TypeScript, Python and Rust, and in Python with only the standard library.

use std::{
    fs,
    path::{Path, PathBuf},
};

use system_tests::{
    System,
    shop::{new_sku, usd},
    turns::{PROCESSORS, turn},
};

use super::{PASSWORD, javascript, node, python_tool, run, run_without_warnings};

#[tokio::test]
async fn a_program_with_a_generated_client_signs_in_posts_comments_and_orders() {
    let folder = javascript("clients").join("typescript");
    let generator = "../node_modules/.bin/openapi-typescript";
    run_without_warnings(
        &node(),
        &[generator, "../../../infra/openapi.json", "--output", "generated/api.d.ts"],
        &folder,
    );
    run(&node(), &["../node_modules/.bin/tsc", "--project", "."], &folder);

    signs_in_posts_comments_and_orders(&node(), &["built/program.js"], &folder).await;
}

#[tokio::test]
async fn a_python_program_with_a_generated_client_signs_in_posts_comments_and_orders() {
    let turn = turn(&[PROCESSORS], &[]).await;
    let folder = clients().join("python");
    fs::create_dir_all(folder.join("generated")).expect("a folder");
    let generate = [
        "generate",
        "--path=../../../infra/openapi.json",
        "--config=generator.yaml",
        "--meta=none",
        "--output-path=generated/madang",
        "--overwrite",
        "--fail-on-warning",
    ];
    run_without_warnings(&python_tool("openapi-python-client"), &generate, &folder);
    let python = python_tool("python");
    // mypy is installed with the tools of `make check`, and takes the types from the environment that runs the program.
    let interpreter = format!("--python-executable={}", python.display());
    let mypy = Path::new(env!("CARGO_MANIFEST_DIR")).join("../.local/check/bin/mypy");
    let check =
        ["--strict", "--config-file=", &interpreter, "--cache-dir=../../../.local/mypy", "program.py"];
    run(&mypy, &check, &folder);
    drop(turn);

    signs_in_posts_comments_and_orders(&python, &["program.py"], &folder).await;
}

#[tokio::test]
#[ignore = "compiling the generator takes minutes; `make clients` runs this"]
async fn a_rust_program_with_a_generated_client_signs_in_posts_comments_and_orders() {
    let turn = turn(&[PROCESSORS], &[]).await;
    let folder = clients().join("rust");
    let target = Path::new(env!("CARGO_MANIFEST_DIR")).join("../target/clients");
    let built = format!("--target-dir={}", target.display());
    run_without_warnings(Path::new(env!("CARGO")), &["build", "--quiet", "--locked", &built], &folder);
    drop(turn);

    signs_in_posts_comments_and_orders(&target.join("debug/client"), &[], &folder).await;
}

#[tokio::test]
async fn a_program_with_only_pythons_standard_library_signs_in_posts_comments_and_orders() {
    // The Python of the local tools, which `make up` has installed.
    let python = Path::new(env!("CARGO_MANIFEST_DIR")).join("../.local/venv/bin/python");
    // -S: without installed packages.
    let program = ["-S", "standard_library.py"];
    signs_in_posts_comments_and_orders(&python, &program, &clients().join("python")).await;
}

/// The folder of the programs.
fn clients() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("clients")
}

/// Runs a program as someone who has signed up, and asserts that it has placed an order.
async fn signs_in_posts_comments_and_orders(interpreter: &Path, program: &[&str], folder: &Path) {
    let system = System::connect().await;
    let ara = system.sign_up().await;
    let sku = new_sku("CLIENT");
    system.admin().await.stocks(&sku, &usd(450), 10).await;
    let (api, cognito) = (system.output("api_url"), system.output("endpoint_url"));
    let arguments = [api, cognito, system.output("user_pool_client_id"), &ara.email, PASSWORD, &sku];
    let output = run(interpreter, &[program, &arguments].concat(), folder);
    assert!(output.contains("Signed in, posted, commented and ordered"), "{output}");
    assert_eq!(ara.get("/orders").await.body["items"][0]["status"], "CONFIRMED");
}

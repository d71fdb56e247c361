"""The files of the repository that no compiler reads: they are consistent, and the things that they name exist."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

ROOT = Path(__file__).resolve().parents[2]
TOOLCHAIN = tomllib.loads((ROOT / "rust-toolchain.toml").read_text())["toolchain"]["channel"]
WORKSPACE = tomllib.loads((ROOT / "Cargo.toml").read_text())["workspace"]["package"]
RECIPES = set(re.findall(r"^([a-z][a-z-]*):", (ROOT / "Makefile").read_text(), re.MULTILINE))
WORKFLOWS = sorted((ROOT / ".github/workflows").glob("*.yml"))
GENERATED = {".git", ".local", "built", "generated", "node_modules", "target"}


def find(name: str) -> list[Path]:
    """The files of the repository whose names match a pattern."""
    found: list[Path] = []
    for folder, folders, files in os.walk(ROOT):
        folders[:] = sorted(set(folders) - GENERATED)
        found += (path for path in (Path(folder) / file for file in sorted(files)) if path.match(name))
    return found


def named(path: Path) -> str:
    return str(path.relative_to(ROOT))


DOCUMENTS = [*find("*.md"), *(ROOT / ".github/ISSUE_TEMPLATE").glob("*.yml"), ROOT / ".pre-commit-config.yaml"]


# ---- the compiler


RUST = {
    "Cargo.toml": (r'^rust-version = "(.+)"$', TOOLCHAIN.rpartition(".")[0]),
    "README.md": (r"\bRust (\d[\d.]*\d)", TOOLCHAIN.rpartition(".")[0]),
    ".devcontainer/Dockerfile": (r"^FROM rust:([\d.]+)-", TOOLCHAIN),
}


@pytest.mark.parametrize("file", RUST)
def test_the_rust_release_is_that_of_the_toolchain_file(file):
    pattern, release = RUST[file]
    assert set(re.findall(pattern, (ROOT / file).read_text(), re.MULTILINE)) == {release}


# ---- workflows


def workflow(path: Path) -> dict:
    # YAML 1.1 reads the key `on` as a boolean.
    return {"on" if key is True else key: value for key, value in yaml.safe_load(path.read_text()).items()}


def steps(path: Path) -> list[dict]:
    return [step for job in workflow(path)["jobs"].values() for step in job["steps"]]


def test_check_runs_on_every_push_and_test_on_pull_requests_and_main():
    triggers = {path.stem: workflow(path)["on"] for path in WORKFLOWS}
    assert triggers == {
        "check": {"push": {"branches": ["**"]}},
        "test": {"pull_request": None, "push": {"branches": ["main"]}},
    }


@pytest.mark.parametrize("path", WORKFLOWS, ids=named)
def test_a_workflow_may_only_read_the_code(path):
    assert workflow(path)["permissions"] == {"contents": "read"}
    assert [job for job, body in workflow(path)["jobs"].items() if "permissions" in body] == []
    assert "secrets." not in path.read_text()


@pytest.mark.parametrize("path", WORKFLOWS, ids=named)
def test_a_workflow_has_a_timeout_and_is_cancelled_by_a_newer_push(path):
    assert [job for job, body in workflow(path)["jobs"].items() if body.get("timeout-minutes", 360) > 60] == []
    assert workflow(path)["concurrency"]["cancel-in-progress"] is True


@pytest.mark.parametrize("path", WORKFLOWS, ids=named)
def test_a_workflow_runs_the_recipe_of_its_name_with_the_pinned_compiler(path):
    assert [step["run"] for step in steps(path) if "run" in step] == ["rustup toolchain install", f"make {path.stem}"]
    assert path.stem in RECIPES


@pytest.mark.parametrize("path", WORKFLOWS, ids=named)
def test_a_workflow_skips_no_check(path):
    assert workflow(path)["env"] == {"MADANG_CONNECTED": "1"}


@pytest.mark.parametrize("path", WORKFLOWS, ids=named)
def test_an_action_is_pinned_to_a_commit_with_its_version_in_a_comment(path):
    uses = re.findall(r"uses: (.+)", path.read_text())
    assert uses
    assert [use for use in uses if not re.fullmatch(r"[\w-]+/[\w-]+@[0-9a-f]{40} # v\d+\.\d+\.\d+", use)] == []


def test_dependabot_watches_every_folder_with_pinned_versions():
    updates = yaml.safe_load((ROOT / ".github/dependabot.yml").read_text())["updates"]
    watched = {
        (update["package-ecosystem"], folder)
        for update in updates
        for folder in update.get("directories", [update.get("directory")])
    }
    pinned = {("github-actions", "/")}
    for ecosystem, name in {"cargo": "Cargo.lock", "npm": "package-lock.json", "uv": "requirements/*.in"}.items():
        pinned |= {(ecosystem, f"/{named(path.parent)}".removesuffix(".")) for path in find(name)}
    assert watched == pinned


# ---- tools


def test_the_commit_hooks_use_the_same_ruff_as_make_check():
    hooks = yaml.safe_load((ROOT / ".pre-commit-config.yaml").read_text())["repos"][0]["hooks"]
    requirements = ROOT / "infra/local/requirements/check.txt"
    pinned = re.findall(r"^ruff==\S+", requirements.read_text(), re.MULTILINE) if requirements.exists() else []
    assert len(pinned) == 1, "infra/local/requirements/check.txt has to pin a version of Ruff"
    used = {hook["id"]: hook.get("additional_dependencies") for hook in hooks}
    assert used == {"cargo-fmt": None, "ruff-format": pinned, "ruff-check": pinned, "make-check": None}


REQUIREMENTS = ROOT / "infra/local/requirements"
LISTS = sorted(REQUIREMENTS.glob("*.txt"))


def packages(path: Path) -> list[str]:
    """The entries of a list: each has continuation lines with hashes."""
    text = re.sub(r"^#.*\n", "", path.read_text(), flags=re.MULTILINE)
    return [" ".join(entry.split()) for entry in text.replace("\\\n", " ").splitlines() if entry.strip()]


@pytest.mark.parametrize("path", LISTS, ids=named)
def test_every_package_of_a_list_has_one_version_and_hashes(path):
    entry = r"[A-Za-z0-9._-]+==[^\s;]+( ; [^\\]+?)?( --hash=sha256:[0-9a-f]{64})+"
    assert packages(path)
    assert [package for package in packages(path) if not re.fullmatch(entry, package)] == []


def test_every_list_is_compiled_from_its_input_for_python_3_10_and_newer():
    assert {path.stem for path in LISTS} == {path.stem for path in REQUIREMENTS.glob("*.in")}
    for path in LISTS:
        command = path.read_text().splitlines()[1]
        assert "uv pip compile --universal --python-version 3.10 --generate-hashes " in command
        assert f" {path.stem}.in --output-file {path.name}" in command


@pytest.mark.parametrize("path", sorted(REQUIREMENTS.glob("*.in")), ids=named)
def test_a_list_has_the_packages_of_its_input(path):
    wanted = re.findall(r"^([A-Za-z][\w.-]*)", path.read_text(), re.MULTILINE)
    compiled = {package.partition("==")[0].lower() for package in packages(path.with_suffix(".txt"))}
    assert {name.lower() for name in wanted} - compiled == set()


def test_only_the_cross_compilation_installs_its_compiler():
    assert [path.name for path in LISTS if "\nziglang==" in path.read_text()] == ["build.txt"]


@pytest.mark.parametrize("file", ["Makefile", "infra/local/bootstrap", "infra/local/requirements/compile"])
def test_pip_installs_nothing_without_hashes_or_by_building_it_with_downloads(file):
    text = (ROOT / file).read_text().replace("\\\n", " ")
    commands = re.findall(r"^.*-m pip install\b.*$", text, re.MULTILINE)
    assert commands and all(" --require-hashes " in command and " --no-deps " in command for command in commands)
    installs = re.findall(r"^ *pip_install [^(].*$", text, re.MULTILINE) or commands
    assert all(" --only-binary :all:" in line or " --no-build-isolation" in line for line in installs)


def test_pip_and_npm_install_nowhere_else():
    found = []
    for path in [*find("Makefile"), *find("*.sh"), *find("*.py"), *find("*.mjs"), *find("bootstrap"), *find("compile")]:
        if path != Path(__file__):
            found += [named(path)] * len(re.findall(r"\bpip3? install\b|\bnpm (?:i|install|ci)\b", path.read_text()))
    assert sorted(found) == [
        "Makefile",
        "infra/local/bootstrap",
        "infra/local/bootstrap",
        "infra/local/requirements/compile",
    ]


@pytest.mark.parametrize("path", find("package-lock.json"), ids=named)
def test_every_npm_package_has_a_hash(path):
    locked = json.loads(path.read_text())["packages"]
    assert [name for name, package in locked.items() if name and "integrity" not in package] == []


@pytest.fixture(scope="module")
def container() -> dict:
    text = (ROOT / ".devcontainer/devcontainer.json").read_text()
    return json.loads(re.sub(r"^\s*//.*$", "", text, flags=re.MULTILINE))


def test_the_dev_container_forwards_the_ports_of_the_system(container):
    # In a process without MADANG_PORT, because the container uses the default ports.
    program = (
        "from infra.local import settings; from infra.local.develop import watch; "
        "print([settings.PORT, settings.TRACE_PORT, watch.PORT])"
    )
    environment = {name: value for name, value in os.environ.items() if name != "MADANG_PORT"}
    ports = subprocess.run(
        [sys.executable, "-c", program], cwd=ROOT, env=environment, stdout=subprocess.PIPE, check=True
    )
    assert container["forwardPorts"] == json.loads(ports.stdout)
    assert set(container["portsAttributes"]) == {str(port) for port in container["forwardPorts"]}


def test_the_dev_container_installs_the_tools_as_a_user_other_than_root(container):
    dockerfile = (ROOT / ".devcontainer" / container["build"]["dockerfile"]).read_text()
    assert re.findall(r"useradd .*?(\w+)$", dockerfile, re.MULTILINE) == [container["remoteUser"]]
    assert container["remoteUser"] != "root"
    assert os.access(ROOT / container["postCreateCommand"], os.X_OK)


# ---- documents


def test_the_changelog_has_the_workspaces_version_below_unreleased():
    headings = re.findall(r"^## (.+)$", (ROOT / "CHANGELOG.md").read_text(), re.MULTILINE)
    assert headings[0] == "[Unreleased]"
    assert re.fullmatch(rf"\[{re.escape(WORKSPACE['version'])}\] - \d{{4}}-\d\d-\d\d", headings[1])


@pytest.mark.parametrize("path", DOCUMENTS, ids=named)
def test_a_make_recipe_that_a_document_names_exists(path):
    recipes = set(re.findall(r"(?:`|^ {4}|: )make ([a-z][a-z-]*)", path.read_text(), re.MULTILINE))
    assert recipes - RECIPES == set()


@pytest.mark.parametrize("path", find("*.md"), ids=named)
def test_a_link_in_a_document_points_to_an_existing_file_and_heading(path):
    broken = []
    for link in re.findall(r"\]\(([^)\s]+)\)", path.read_text()):
        file, _, heading = link.partition("#")
        target = path.parent / file if file else path
        if re.match(r"[a-z]+:", link):
            continue
        if not target.exists() or (heading and heading not in headings(target)):
            broken.append(link)
    assert broken == []


def headings(document: Path) -> set[str]:
    """The anchors that GitHub derives from a document's headings."""
    titles = re.findall(r"^#+ (.+)$", document.read_text(), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles}


def test_files_that_are_marked_as_generated_exist():
    lines = (ROOT / ".gitattributes").read_text().splitlines()
    marked = [line.split()[0] for line in lines if line.endswith(" linguist-generated")]
    assert marked
    assert [pattern for pattern in marked if not any(ROOT.glob(pattern if "/" in pattern else f"**/{pattern}"))] == []

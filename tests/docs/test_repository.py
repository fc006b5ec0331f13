"""The files around the code say what is true: image, development container, citation, issue forms, CI."""

import json
import re
import shlex
import subprocess
import tomllib

import pytest
import yaml
from tests.docs.reading import ROOT
from tests.docs.test_commands import TARGETS

PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
PYTHONS = sorted(re.findall(r"Python :: (3\.\d+)", " ".join(PROJECT["classifiers"])))
INSTRUCTIONS = {"FROM", "RUN", "ENV", "USER", "WORKDIR", "COPY", "CMD"}
WORKFLOWS = sorted((ROOT / ".github/workflows").glob("*.yml"))
FORMS = [path for path in sorted((ROOT / ".github/ISSUE_TEMPLATE").glob("*.yml")) if path.name != "config.yml"]


def instructions():
    text = re.sub(r"^#.*\n", "", (ROOT / "Dockerfile").read_text(), flags=re.MULTILINE).replace("\\\n", " ")
    return [tuple(line.split(maxsplit=1)) for line in text.splitlines() if line.strip()]


def called_targets(command):
    return set(re.findall(r"\bmake ([a-z-]+)", command))


def test_the_image_has_known_instructions_a_supported_python_and_files_that_exist():
    lines = instructions()
    assert {name for name, _ in lines} <= INSTRUCTIONS
    assert lines[0][0] == "FROM"
    assert lines[0][1] in {f"python:{version}-slim" for version in PYTHONS}
    for name, rest in lines:
        if name == "COPY":
            sources = [word for word in shlex.split(rest) if not word.startswith("--")][:-1]
            assert sources
            assert all((ROOT / source).exists() for source in sources)
        if name == "RUN":
            assert called_targets(rest.replace("recommends make", "")) <= TARGETS
    assert isinstance(json.loads(dict(lines)["CMD"]), list)


def test_the_image_installs_and_runs_as_a_user_without_rights():
    lines = instructions()
    user = lines.index(("USER", "cmaml"))
    assert any(name == "RUN" and "useradd" in rest and " cmaml" in rest for name, rest in lines[:user])
    assert any(name == "RUN" and "make setup" in rest for name, rest in lines[user:])
    assert [rest for name, rest in lines if name == "USER"] == ["cmaml"]


def test_the_image_gets_no_results_and_no_environment_of_this_machine():
    ignored = (ROOT / ".dockerignore").read_text().splitlines()
    lines = (ROOT / ".gitignore").read_text().splitlines()
    folders = {line.strip("/") for line in lines if line.startswith("/") and not line.endswith(".json")}
    assert {"runs", "site", ".venv"} <= folders <= set(ignored)


def test_the_development_container_sets_up_a_supported_python():
    container = json.loads((ROOT / ".devcontainer/devcontainer.json").read_text())
    assert container["image"].rpartition(":")[2] in PYTHONS
    assert called_targets(container["postCreateCommand"]) == {"setup"} <= TARGETS


def test_the_citation_names_the_software_and_the_paper():
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text())
    assert {"cff-version", "message", "title", "authors"} <= citation.keys()
    assert citation["cff-version"] == "1.2.0"
    assert [author["name"] for author in citation["authors"]] == [author["name"] for author in PROJECT["authors"]]
    assert citation["license"] == PROJECT["license"]
    (paper,) = citation["references"]
    assert paper["url"] == PROJECT["urls"]["Paper"]
    assert {"type", "title", "authors"} <= paper.keys()


@pytest.mark.parametrize("form", FORMS, ids=lambda path: path.stem)
def test_issue_forms_have_what_github_asks_for(form):
    content = yaml.safe_load(form.read_text())
    assert content["name"]
    assert content["description"]
    kinds = {"markdown": "value", "input": "label", "textarea": "label", "checkboxes": "options"}
    assert all(kinds[element["type"]] in element["attributes"] for element in content["body"])
    ids = [element["id"] for element in content["body"] if element["type"] != "markdown"]
    assert ids
    assert len(ids) == len(set(ids))


@pytest.mark.parametrize("workflow", WORKFLOWS, ids=lambda path: path.stem)
def test_workflows_call_targets_and_files_that_exist(workflow):
    jobs = yaml.safe_load(workflow.read_text())["jobs"]
    commands = [step["run"] for job in jobs.values() for step in job["steps"] if "run" in step]
    assert commands
    for command in commands:
        assert called_targets(command) <= TARGETS
        for file in re.findall(r"(?:^|\s)(\.ci/\S+|requirements\.lock)", command):
            assert (ROOT / file).exists()


def test_the_weekly_audit_fails_where_a_package_is_not_audited():
    job = yaml.safe_load((ROOT / ".github/workflows/newest.yml").read_text())["jobs"]["audit"]
    collect, audit = job["steps"][-1]["run"].splitlines()
    assert "pip-audit --strict --requirement requirements.lock --requirement no-deps.txt" in audit
    collected = subprocess.run(collect.partition(" > ")[0], shell=True, cwd=ROOT, capture_output=True, text=True)
    assert re.fullmatch(r"(\S+==\S+\n)+", collected.stdout)


def test_ci_runs_every_supported_python_and_macos():
    matrix = yaml.safe_load((ROOT / ".github/workflows/ci.yml").read_text())["jobs"]["ci"]["strategy"]["matrix"]
    assert matrix["python"] == PYTHONS
    assert "macos-latest" in {entry["os"] for entry in matrix["include"]}


def test_the_lock_with_hashes_has_the_versions_of_the_lock_and_a_hash_of_each():
    """But torch, of which an index may offer its own build. safety-gymnasium stands in the lock's head."""
    text = (ROOT / "requirements.lock").read_text()
    pins = re.findall(r"^(?:# no-deps: )?([^#\s]+==\S+)$", text, flags=re.MULTILINE)
    hashed = (ROOT / "requirements-hashes.lock").read_text().replace("\\\n", "")
    found = dict(re.findall(r"^([^#\s]+==\S+)((?: +--hash=sha256:[0-9a-f]{64})*)$", hashed, flags=re.MULTILINE))

    def normal(pin):
        return re.sub(r"[-_.]+", "-", pin.partition("==")[0]).lower() + "==" + pin.partition("==")[2]

    assert {normal(pin) for pin in found} == {normal(pin) for pin in pins if not pin.startswith("torch==")}
    assert all(found.values())

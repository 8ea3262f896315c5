"""What `make audit` makes of pip-audit's report, whose form is that of version 2.10."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

CLEAN = {"name": "redis", "version": "6.4.0", "vulns": []}
SKIPPED = {"name": "vine", "skip_reason": "Dependency not found on PyPI: vine (5.1.0)"}
VULNERABLE = {
    "name": "django",
    "version": "5.2.0",
    "vulns": [
        {"id": "PYSEC-1", "fix_versions": ["5.2.1", "4.2.9"], "aliases": [], "description": ""},
        {"id": "PYSEC-2", "fix_versions": [], "aliases": [], "description": ""},
    ],
}


@pytest.fixture
def audit() -> ModuleType:
    file = Path(__file__).parents[2] / ".ci" / "audit.py"
    spec = importlib.util.spec_from_file_location("audit", file)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize(
    ("report", "code", "if_reachable", "said"),
    [
        ([CLEAN], 0, 0, ["1 packages, no known vulnerability."]),
        (
            [CLEAN, VULNERABLE],
            1,
            1,
            [
                "django 5.2.0: PYSEC-1, mended by 5.2.1 or 4.2.9",
                "django 5.2.0: PYSEC-2, mended by no version yet",
            ],
        ),
        ([VULNERABLE, SKIPPED], 1, 1, None),
        # Where some answered, one that did not is a hole.
        ([CLEAN, SKIPPED], 2, 2, None),
        (
            [SKIPPED],
            2,
            0,
            [
                "Not audited: 1 of 1 packages, the first because: "
                "Dependency not found on PyPI: vine (5.1.0)"
            ],
        ),
        ([], 2, 0, ["Not audited: no such host"]),
    ],
)
def test_each_report_has_its_verdict(
    audit: Any, monkeypatch, capsys, report, code, if_reachable, said
):
    monkeypatch.setattr(audit, "ask", lambda files: (report, "Traceback\nno such host"))
    assert audit.main(["requirements.txt"]) == code
    out = capsys.readouterr().out
    assert said is None or out.splitlines() == said
    assert audit.main(["--if-reachable", "requirements.txt"]) == if_reachable

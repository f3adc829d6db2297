"""The conformance suite sees results and derivatives that are off by one in a thousand."""

import os
import subprocess
import sys
from pathlib import Path
from xml.etree import ElementTree

import pytest
import test_conformance

SUITE = Path(test_conformance.__file__)
ABOUT_VALUES, ABOUT_DERIVATIVES = ("test_values",), ("test_vjp", "test_jvp")


def test_every_test_is_about_values_or_derivatives():
    tests = [name for name in vars(test_conformance) if name.startswith("test_")]
    assert tests
    assert all(name.startswith(ABOUT_VALUES + ABOUT_DERIVATIVES) for name in tests)


@pytest.mark.parametrize(
    ("broken", "about"),
    [("wrong-results", ABOUT_VALUES), ("wrong-derivatives", ABOUT_DERIVATIVES)],
)
def test_every_conformance_test_fails(broken, about, tmp_path):
    report = tmp_path / "report.xml"
    command = [sys.executable, "-m", "pytest", SUITE, "-k", " or ".join(about), "--tb=line", "-q"]
    subprocess.run(
        [*command, "-p", "no:cacheprovider", f"--junit-xml={report}"],
        env={**os.environ, "DIFFSORT_TEST_BACKEND": broken},
        cwd=SUITE.parents[1],
        stdout=subprocess.DEVNULL,
        check=False,
    )
    cases = list(ElementTree.parse(report).iter("testcase"))
    # Failed by an assertion: an error of another kind would not show that the test sees anything.
    blind = [
        case.get("name")
        for case in cases
        if not any(f.get("message", "").startswith("AssertionError") for f in case.iter("failure"))
    ]
    assert len(cases) > 500
    assert not blind

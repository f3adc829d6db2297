"""Arrays over several devices: the checks of sharded.py, under each of XLA's partitioners."""

from __future__ import annotations

from pathlib import Path

import pytest

from .helpers import jax, run

SCRIPT = Path(__file__).with_name("sharded.py")
# Compiled quickly rather than well: the partitioners come before that.
FLAGS = "--xla_force_host_platform_device_count=4 --xla_backend_optimization_level=0"


@pytest.mark.parametrize(("partitioner", "checks"), [("shardy", 23), ("gspmd", 15)])
def test_four_devices(partitioner, checks, tmp_path):
    if partitioner == "shardy" and not hasattr(jax.config, "jax_use_shardy_partitioner"):
        pytest.skip("this version of JAX has no Shardy")
    printed = run(
        SCRIPT.read_text(encoding="utf-8"),
        tmp_path,
        partitioner,
        XLA_FLAGS=FLAGS,
        TF_CPP_MIN_LOG_LEVEL="2",  # GSPMD warns of its own end
    )
    assert "FAILED" not in printed, printed
    assert printed.count("passed") == checks

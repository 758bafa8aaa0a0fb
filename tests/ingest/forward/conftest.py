"""What is stored must not depend on whether the loops in C were compiled: both are tested."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from hf_agent.ingest.forward import json_lines
from hf_agent.native import native


@pytest.fixture(
    scope="module",
    autouse=True,
    params=[
        pytest.param(
            "c", marks=pytest.mark.skipif(native is None, reason="the loops were not compiled")
        ),
        "python",
    ],
)
def loops(request: pytest.FixtureRequest) -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        if request.param == "python":
            patch.setattr(json_lines, "native", None)
        yield

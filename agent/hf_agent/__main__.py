"""`python -m hf_agent`: the command line."""

from __future__ import annotations

import sys

from hf_agent.cli.main import main

sys.exit(main())

"""The event loop the servers run on: uvloop where it exists, a tenth off each call (docs/adr/0005)."""

from __future__ import annotations

import sys

FAST_LOOP = {"use_uvloop": sys.platform != "win32"}
"""Options of `anyio.run`."""

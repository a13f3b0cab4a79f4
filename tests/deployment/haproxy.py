"""Where HAProxy is: packages of Debian put it where only root's PATH leads."""

from __future__ import annotations

import os
import shutil

HAPROXY = shutil.which("haproxy", path=os.pathsep.join((os.environ.get("PATH", os.defpath), "/usr/sbin", "/sbin")))

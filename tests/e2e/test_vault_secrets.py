"""The secrets vault under the installed daemon: kept, used by reference, rotated while in use, and found nowhere."""

from __future__ import annotations

import pytest
from machine_lacks import is_lacking

pytestmark = [
    pytest.mark.skipif(is_lacking("root"), reason="only root may seal by the host key"),
    pytest.mark.skipif(
        is_lacking("program systemd-creds"), reason="no systemd-creds here: apt-get install systemd"
    ),
]

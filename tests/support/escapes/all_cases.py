"""The list of all escapes, once every file of them has been loaded."""

from __future__ import annotations

from escapes import case, files, kernel, network, processes

FILES = (files, processes, network, kernel)
CASES = tuple(case.CASES)

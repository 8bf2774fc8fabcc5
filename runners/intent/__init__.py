"""Tell what a request is for, as a signal: small local embeddings, a linear classifier, its report. A child of epad."""

from __future__ import annotations

import os

# The matrices are small. On cores that others use, numpy's threads wait for each other: a fit took 78 s, not 3.
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

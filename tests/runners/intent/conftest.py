"""The embeddings and one fit to the shipped texts, made once."""

from __future__ import annotations

import pytest

from runners.intent.corpus import shipped
from runners.intent.embedding import WordLlama
from runners.intent.fitting import Fitted, fit


@pytest.fixture(scope="session")
def embedder() -> WordLlama:
    return WordLlama.installed()


@pytest.fixture(scope="session")
def fitted(embedder: WordLlama) -> Fitted:
    return fit(shipped(), embedder)

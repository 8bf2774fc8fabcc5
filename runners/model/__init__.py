"""The embedded model server: small in-process models behind the two usual HTTP dialects. None is an LLM."""

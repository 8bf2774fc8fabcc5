"""The embedded default: a small Llama trained here on the standard library's own text, no language model of use."""

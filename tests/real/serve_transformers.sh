#!/bin/sh
# Serve a model for tests/real by `transformers serve`, on the CPU.
# usage: tests/real/serve_transformers.sh MODEL [PORT]    MODEL: a Hugging Face folder or name
# EPAD_REAL_VENV names the virtual environment; one is made there if there is none.
set -eu
model=${1:?usage: serve_transformers.sh MODEL [PORT]}
port=${2:-18081}
venv=${EPAD_REAL_VENV:-${XDG_CACHE_HOME:-$HOME/.cache}/epad-real}

if [ ! -x "$venv/bin/transformers" ]; then
    python3 -m venv "$venv"
    "$venv/bin/pip" install -q torch 'transformers[serving]'
fi
echo "EPAD_REAL_OPENAI_URL=http://127.0.0.1:$port/v1 EPAD_REAL_MODEL=$model"
exec nice "$venv/bin/transformers" serve "$model" --host 127.0.0.1 --port "$port" --dtype float32

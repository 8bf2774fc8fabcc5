"""`python -m runners.model`: serve the embedded models."""

from __future__ import annotations

import argparse
import asyncio
import os
import signal
import sys

from runners.contract import Contract, keep_alive
from runners.model.catalogue import embedded_engines
from runners.model.engine import OWNER
from runners.model.listening import ListenError, listening
from runners.model.server import ModelServer, Pace


def main(arguments: list[str] | None = None) -> int:
    """Run until told to stop."""
    parser = argparse.ArgumentParser(prog="python -m runners.model", description=__doc__)
    parser.add_argument("--listen", default="127.0.0.1:8720", help="HOST:PORT or unix:/path.sock")
    parser.add_argument("--latency-ms", type=float, default=0.0, help="pause before the first token")
    parser.add_argument("--tokens-per-second", type=float, default=0.0, help="0: as fast as they come")
    options = parser.parse_args(arguments)
    pace = Pace(max(0.0, options.latency_ms) / 1e3, max(0.0, options.tokens_per_second))
    try:
        asyncio.run(serve(options.listen, pace, Contract.from_environment(os.environ)))
    except (ListenError, OSError) as error:
        print(f"cannot listen on {options.listen}: {error}", file=sys.stderr)
        return 1
    return 0


async def serve(listen: str, pace: Pace, contract: Contract) -> None:
    """Serve until SIGTERM or SIGINT."""
    server = ModelServer(embedded_engines(), pace)
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    async with listening(server, listen) as address:
        contract.ready(f"serving on {address}; {OWNER}")
        print(f"embedded model server on {address}: {OWNER}", flush=True)
        alive = asyncio.create_task(keep_alive(contract), name="keep-alive")
        told = asyncio.create_task(_tell(server, contract), name="tell")
        await stop.wait()
        contract.stopping("draining")
        alive.cancel()
        told.cancel()


async def _tell(server: ModelServer, contract: Contract) -> None:
    said = -1
    while True:
        if server.answered != said:
            said = server.answered
            contract.status(f"answered {said} requests; {OWNER}")
        await asyncio.sleep(contract.heartbeat_seconds)


if __name__ == "__main__":
    sys.exit(main())

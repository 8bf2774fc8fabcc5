"""The gateway's series: money by subsystem, and never more of them than the configuration makes."""

from __future__ import annotations

import json
from pathlib import Path

from gateway_world import World, world

from epad.configuration.schema import PriceConfig
from epad.gateway.costs import COST_SCHEMA, CostBook
from epad.gateway.money import Prices
from epad.storage.database import Database


def series(w: World) -> set[str]:
    """Every series there is, without its value."""
    lines = w.metrics.render().decode().splitlines()
    return {line.rpartition(" ")[0] for line in lines if line and not line.startswith("#")}


async def test_money_is_counted_in_millionths_of_a_dollar(tmp_path: Path) -> None:
    """What the price table says of the tokens that were charged; a model without a price costs nothing."""
    database = Database(tmp_path / "costs.db", COST_SCHEMA)
    await database.open()
    async with world(tmp_path) as w:
        prices = Prices({"tiny": PriceConfig(input=2.5, output=10.0)})
        w.put(prices=prices, costs=CostBook(database, w.clock))
        w.stub.input_tokens, w.stub.output_tokens = 1_000, 100
        assert (await w.chat(messages=[{"role": "user", "content": "x" * 1_000}], max_tokens=100))[0] == 200
        await w.closings(1)
        assert 'epad_cost_microusd_total{subsystem="writer"} 3500.0' in w.metrics.render().decode()
        assert not [name for name in series(w) if "cost" in name and "reader" in name]
        await w.gateway.stop()
    await database.close()


async def test_nothing_a_client_makes_up_makes_a_series(tmp_path: Path) -> None:
    """Models, routes, keys and bodies of all kinds: after one of each kind, a hundred more add nothing."""
    async with world(tmp_path) as w:

        async def everything(number: int) -> None:
            await w.chat(model=f"model-{number}", user=f"somebody-{number}")
            await w.post(f"/v1/made-up-{number}")
            body = json.dumps({"model": number}).encode()
            for headers in (w.headers(), {"Authorization": f"Bearer made-up-{number}"}):
                async with w.http.post(f"{w.url}/v1/chat/completions", data=body, headers=headers) as answer:
                    await answer.read()

        await everything(0)
        await w.closings(1)
        before = series(w)
        for number in range(1, 101):
            await everything(number)
        await w.closings(101)
        assert series(w) == before

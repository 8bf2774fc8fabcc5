"""Memory that runs out: the micro-batch shrinks, the work goes on, and what cannot fit is said."""

from __future__ import annotations

import pytest
import torch

from runners.quantize.device import MicroBatch, choose_device
from runners.quantize.fault import HsaqError, SettingsError


def test_out_of_memory_halves_the_micro_batch_and_goes_on() -> None:
    """From the beginning of the unit, so that nothing is counted twice; the smaller size stays."""
    micro, tries = MicroBatch(8), []

    def work() -> int:
        tries.append([part.stop - part.start for part in micro.parts(10)])
        if micro.size > 2:
            raise torch.OutOfMemoryError("no")
        return sum(tries[-1])

    assert micro.retrying(work) == 10
    assert (micro.size, micro.halvings) == (2, 2)
    assert tries == [[8, 2], [4, 4, 2], [2] * 5]


def test_one_window_that_does_not_fit_is_an_error_with_a_fix() -> None:
    """It does not spin."""

    def work() -> None:
        raise torch.OutOfMemoryError("no")

    with pytest.raises(HsaqError, match="use a shorter --window"):
        MicroBatch(4).retrying(work)


def test_a_gpu_that_is_not_there_is_refused() -> None:
    """By what torch sees, not by a traceback at the first tensor."""
    if torch.cuda.is_available():
        pytest.skip("this machine has a GPU")
    assert choose_device("auto") == "cpu"
    with pytest.raises(SettingsError, match="sees no GPU; use --device cpu"):
        choose_device("cuda:0")

"""Open a run: a new one from the command line's options, or a finished one from its folder."""

from __future__ import annotations

import argparse
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from runners.contract import Contract
from runners.quantize import manifest
from runners.quantize.cache import SensitivityCache
from runners.quantize.executor import Executor, RayTasks
from runners.quantize.fault import HsaqError, SettingsError
from runners.quantize.journal import Journal
from runners.quantize.options import cache_folder
from runners.quantize.reporter import Reporter
from runners.quantize.run import Run, Texts
from runners.quantize.settings import Settings
from runners.quantize.workspace import Workspace

PLACES = "places"


@contextmanager
def run_in(folder: Path, cache: Path | None, model: Path, texts: Texts, settings: Settings) -> Iterator[Run]:
    """Yield a run with its folder locked and its cache open, closed again at the end."""
    for text in (texts.calibration, texts.evaluation):
        if not text.is_file():
            raise SettingsError(f"{text}: there is no such text file")
    workspace = Workspace(folder, Reporter(Contract.from_environment(os.environ)))
    scores = SensitivityCache((cache or cache_folder()) / "sensitivity.db")
    try:
        yield Run(model, texts, settings, workspace, scores)
    finally:
        workspace.reporter.end()
        scores.close()
        workspace.close()


@contextmanager
def opened(
    options: argparse.Namespace, model: Path, texts: tuple[Path, Path], settings: Settings
) -> Iterator[tuple[Run, Executor]]:
    """Yield a run from options, and where its blocks are done."""
    with run_in(options.work, options.cache, model, Texts(*texts), settings) as run:
        places = [str(path.resolve()) for path in (model, *texts)]
        run.workspace.journal.put(PLACES, places)
        if not options.ray:
            yield run, run.here
            return
        tasks = RayTasks(model.resolve(), run.device, settings.threads, options.ray, options.ray_address)
        try:
            yield run, tasks
        finally:
            tasks.close()


@contextmanager
def reopened(folder: Path, cache: Path | None) -> Iterator[tuple[Run, dict[str, int]]]:
    """Yield a finished run and its allocation.

    Its model and texts must still lie where they were, unchanged.
    """
    layers = manifest.read(folder)["layers"]
    journal = Journal(folder / "run.db")
    try:
        places, identity = journal.get(PLACES), journal.identity()
    finally:
        journal.close()
    if places is None:
        raise HsaqError(
            f"{folder}: the run does not say where its model lies; it was not begun by `hsaq run`"
        )
    model, calibration, evaluation = (Path(place) for place in places)
    settings = Settings.from_json(identity["settings"])
    with run_in(folder, cache, model, Texts(calibration, evaluation), settings) as run:
        yield run, {layer: values["bits"] for layer, values in layers.items()}

"""List the plots of a report, and their contents."""

from __future__ import annotations

from runners.wargame.report.count import Report
from runners.wargame.report.forest import forest
from runners.wargame.report.plots import Axis, Plot, nice_axis, unit_axis
from runners.wargame.report.sentences import headline_rows


def figures(report: Report) -> list[str]:
    """Return every plot that the run has numbers for."""
    made = [
        _families(report),
        _roc(report),
        _reliability(report),
        _catch(report),
        _novelty(report),
        _pace(report),
        _roles(report),
    ]
    return [one for one in made if one]


def _families(report: Report) -> str:
    title = "Catch and false alarm with 95 % intervals, then each held-out family"
    return forest(title, headline_rows(report), report.analysis.families) if report.scored else ""


def _roc(report: Report) -> str:
    points = [(point.false_alarm, point.catch) for point in report.analysis.roc]
    if len(points) < 3:
        return ""
    plot = Plot(
        f"ROC of {report.rule} on held-out families", unit_axis("false alarms"), unit_axis("attacks caught")
    )
    ceiling = report.run.settings["false_alarm_ceiling"]
    plot.line([(0.0, 0.0), (1.0, 1.0)], "faint").mark(ceiling, f"ceiling {ceiling:.0%}").line(points)
    headline = report.headline
    if headline.catch.rate is not None and headline.false_alarm.rate is not None:
        plot.dots([(headline.false_alarm.rate, headline.catch.rate, "at the threshold")], "b")
    return plot.svg([("a", report.rule), ("dot b", "at its threshold"), ("faint", "no skill")])


def _reliability(report: Report) -> str:
    bins = report.analysis.reliability
    if not bins:
        return ""
    plot = Plot(
        "Reliability on held-out families", unit_axis("probability given"), unit_axis("share of attacks")
    )
    plot.line([(0.0, 0.0), (1.0, 1.0)], "faint").line([(b.mean_score, b.attack_share) for b in bins])
    plot.dots([(b.mean_score, b.attack_share, f"{b.rounds} rounds") for b in bins])
    return plot.svg([("a", report.rule), ("faint", "perfectly calibrated")])


def _rounds_axis(report: Report) -> Axis:
    last = max(1, report.evidence.stretches[-1].rounds)
    ticks = {0, last // 4, last // 2, 3 * last // 4, last}
    return Axis("rounds scored", 0, last, sorted(ticks))


def _catch(report: Report) -> str:
    known = [
        (stretch.rounds, stretch.catch.rate, stretch.catch.interval)
        for stretch in report.evidence.stretches
        if stretch.catch.rate is not None and stretch.catch.interval is not None
    ]
    if len(known) < 2:
        return ""
    title = "Catch rate so far, all families, as decided while it ran"
    plot = Plot(title, _rounds_axis(report), unit_axis("attacks caught"))
    lows, highs = ([(x, interval[end]) for x, _, interval in known] for end in (0, 1))
    plot.band(lows, highs).line([(x, rate) for x, rate, _ in known])
    return plot.svg([("a", "catch rate"), ("band a", "95 % interval")])


def _novelty(report: Report) -> str:
    stretches = report.evidence.stretches
    if len(stretches) < 2:
        return ""
    played = [(0.0, 0.0), *((stretch.rounds, stretch.catch.trials) for stretch in stretches)]
    novel = [(0.0, 0.0), *((stretch.rounds, stretch.novel) for stretch in stretches)]
    axis = nice_axis("attack texts", [y for _, y in played])
    plot = Plot("Attack texts unlike any before", _rounds_axis(report), axis)
    return plot.line(played, "faint").line(novel).svg([("a", "new"), ("faint", "all")])


def _pace(report: Report) -> str:
    stretches = report.evidence.stretches
    if len(stretches) < 2:
        return ""
    times = [(stretch.rounds, 1e3 * stretch.latency_seconds) for stretch in stretches]
    waits = [(stretch.rounds, 1e3 * stretch.queue_seconds) for stretch in stretches]
    axis = nice_axis("milliseconds a call", [y for _, y in (*times, *waits)])
    plot = Plot("How long a call took, and waited for a place", _rounds_axis(report), axis)
    return plot.line(times).line(waits, "b").svg([("a", "at the endpoint"), ("b", "in our queue")])


def _roles(report: Report) -> str:
    dots = [
        (rates.false_alarm.rate, rates.catch.rate, name)
        for name, rates in report.roles.items()
        if rates.false_alarm.rate is not None and rates.catch.rate is not None
    ]
    if not dots:
        return ""
    plot = Plot("Each defender alone", unit_axis("false alarms"), unit_axis("attacks caught"))
    plot.line([(0.0, 0.0), (1.0, 1.0)], "faint")
    plot.dots([(x, y, f"{name}: catch {y:.1%}, false alarm {x:.1%}") for x, y, name in dots])
    plot.names(sorted(dots))
    return plot.svg([("faint", "no skill")])

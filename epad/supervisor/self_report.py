"""Sum up a process's own reports since it started."""

from __future__ import annotations

from dataclasses import dataclass

from epad.supervisor.notify import Notification, Progress


@dataclass(slots=True)
class Report:
    """Sums up one process's notifications. `heard_at` is its last watchdog, or a substitute for one."""

    ready: bool
    beating: bool
    heard_at: float
    status: str = ""
    progress: Progress | None = None
    progressed_at: float | None = None
    vram_wanted: int | None = None

    def add(self, notification: Notification, now: float) -> bool:
        """Take one more in; True if it is news worth remembering beyond this daemon's life."""
        before = (self.ready, self.beating)
        self.ready = self.ready or notification.ready
        self.beating = self.beating or notification.watchdog
        if notification.watchdog:
            self.heard_at = now
        if notification.status is not None:
            self.status = notification.status
        if notification.progress is not None and notification.progress != self.progress:
            self.progress, self.progressed_at = notification.progress, now
        if notification.vram_wanted is not None:
            self.vram_wanted = notification.vram_wanted
        return before != (self.ready, self.beating)

    def is_silent(self, now: float, watchdog_seconds: float) -> bool:
        """Say whether it has sent watchdogs and does so no longer."""
        return self.beating and now - self.heard_at > watchdog_seconds

"""Notes as agents keep them, each with two questions in other words; written before either ranking was run on them."""

from __future__ import annotations

from typing import Final

NOTES: Final[tuple[tuple[str, str, str], ...]] = (
    (
        "the integration tests need a running postgres on port 5433",
        "which database do tests want",
        "postgres port for integration",
    ),
    (
        "deploys to production happen on Tuesdays after the review meeting",
        "when do we deploy",
        "day of the production release after review",
    ),
    (
        "the linter configuration lives in pyproject.toml, not in setup.cfg",
        "where is the linter configured",
        "pyproject or setup.cfg for lint",
    ),
    (
        "user Maria prefers answers in Spanish with short sentences",
        "what language does Maria want",
        "how should answers to Maria be written",
    ),
    (
        "the cache directory fills up and must be pruned every month",
        "how often to prune the cache",
        "cache filling the directory",
    ),
    (
        "the staging server is reached through the bastion host with an ssh key",
        "how to reach staging",
        "ssh into the staging server",
    ),
    (
        "the payment service retries three times before it gives up",
        "how many retries for payments",
        "when does the payment service give up",
    ),
    (
        "do not touch the legacy importer, it has no tests and customers rely on it",
        "may the importer be changed",
        "why is the legacy importer off limits",
    ),
    (
        "the build fails with a linker error when the toolchain is older than 12",
        "linker error in the build",
        "which toolchain is too old to build",
    ),
    (
        "the API key for the weather service expires in December",
        "when does the weather key expire",
        "expiring keys of services",
    ),
    (
        "memory use of the worker grows by ten megabytes an hour, a leak is suspected",
        "does the worker leak",
        "growth of worker memory per hour",
    ),
    (
        "the customer asked for invoices as PDF and not as HTML",
        "invoice format wanted by the customer",
        "PDF or HTML invoices",
    ),
    (
        "nightly backups are stored in the Frankfurt region for ninety days",
        "where are backups kept",
        "how long do nightly backups stay",
    ),
    (
        "the frontend uses pnpm since npm resolved a wrong version of react",
        "package manager of the frontend",
        "why not npm for react",
    ),
    (
        "the feature flag for search is called new_ranker and is off by default",
        "flag name for search",
        "is the ranker flag on by default",
    ),
    (
        "Jonas owns the billing module and reviews every change there",
        "who reviews billing changes",
        "owner of the billing module",
    ),
    (
        "the migration of table orders takes forty minutes and locks writes",
        "how long does the orders migration lock",
        "writes locked by a migration",
    ),
    (
        "the mobile app crashes on Android 9 when the camera permission is denied",
        "camera crash on mobile",
        "which android crashes without permission",
    ),
    ("the docs are built with sphinx and published by the docs job", "how are docs published", "sphinx job"),
    (
        "rate limits of the partner API are sixty requests a minute",
        "partner api limit",
        "how many requests may we send per minute",
    ),
    (
        "the test suite runs in random order, so tests must not share state",
        "order in which tests run",
        "may tests share state",
    ),
    (
        "log lines must never contain email addresses of users",
        "can emails be logged",
        "what must not appear in log lines",
    ),
    (
        "the sensor in building B reports temperatures in Fahrenheit",
        "unit of the sensor temperatures",
        "building B sensor",
    ),
    (
        "the release branch is cut from main on the first of the month",
        "when is the release branch cut",
        "branch for releases from main",
    ),
    (
        "the recommender model was retrained with data up to March",
        "data used for retraining the recommender",
        "how recent is the model",
    ),
    (
        "the websocket closes after thirty seconds without a ping",
        "why does the socket close",
        "ping interval of the websocket",
    ),
    (
        "translations are exported from the spreadsheet of the marketing team",
        "where do translations come from",
        "marketing spreadsheet export",
    ),
    (
        "the cron job for reports runs in UTC and not in local time",
        "timezone of the report cron",
        "when does the reports job run",
    ),
    (
        "a full reindex of the search cluster needs twice the disk space",
        "disk needed to reindex",
        "space for search cluster reindexing",
    ),
    (
        "the password policy asks for fourteen characters and no rotation",
        "how long must passwords be",
        "is there password rotation",
    ),
    (
        "the old dashboard is read by the sales team only and will be removed",
        "who still uses the old dashboard",
        "dashboard removal",
    ),
    (
        "the simulator drifts when the time step is larger than a millisecond",
        "simulator drift",
        "largest time step that is safe",
    ),
    (
        "container images are signed and the cluster refuses unsigned ones",
        "are images signed",
        "what happens to unsigned containers",
    ),
    (
        "the vendor's SDK is not thread safe, calls go through one queue",
        "is the sdk thread safe",
        "why is there a queue before the vendor calls",
    ),
    (
        "uploads above two gigabytes are split into parts of a hundred megabytes",
        "size of upload parts",
        "how are large uploads handled",
    ),
    (
        "the office network blocks outgoing mail, use the relay on port 587",
        "sending mail from the office",
        "port of the mail relay",
    ),
)

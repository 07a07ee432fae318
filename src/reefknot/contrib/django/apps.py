"""The app, by which Django finds the migration."""

from __future__ import annotations

from django.apps import AppConfig


class ReefknotConfig(AppConfig):  # type: ignore[misc] # Django has no types
    """Named ``reefknot``, as ``manage.py migrate reefknot`` says it."""

    name = "reefknot.contrib.django"
    label = "reefknot"
    verbose_name = "Reefknot"

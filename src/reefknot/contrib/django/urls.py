"""To be included: ``path("transactions/", include("reefknot.contrib.django.urls"))``."""

from __future__ import annotations

from django.urls import path

from reefknot.contrib.django.views import asked

app_name = "reefknot"
urlpatterns = (path("asked", asked, name="asked"),)

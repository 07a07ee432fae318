"""Settings of Django; the lines with reefknot are what a project needs."""

import os
from urllib.parse import urlsplit

INSTALLED_APPS = ["shop", "reefknot.contrib.django"]  # brings the migration of the barrier's table
MIDDLEWARE = ["reefknot.contrib.django.middleware.BranchMiddleware"]  # Failure becomes 409, Ongoing 425
ROOT_URLCONF = "urls"
ALLOWED_HOSTS = ["127.0.0.1"]
at = urlsplit(os.environ["POSTGRES_URL"])
login = {"HOST": at.hostname, "PORT": at.port, "USER": at.username, "PASSWORD": at.password, "NAME": at.path[1:]}
DATABASES = {"default": {"ENGINE": "django.db.backends.postgresql", **login}}

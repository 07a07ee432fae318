"""The ledger of contrib_apps.py in Django, as a process: its settings are global, and other tests have theirs.

python django_service.py database.db server-url receiver-url '{"REEFKNOT_SHOW_ERRORS": true}' wsgi|asgi
"""

import json
import sys
from pathlib import Path

import django
from asgiref.sync import sync_to_async
from django.conf import settings
from django.core.management import call_command
from django.db import connection, transaction
from django.http import HttpResponse, JsonResponse
from django.urls import include, path
from django.views.decorators.csrf import csrf_exempt

from reefknot import Client, Failure
from reefknot.contrib.django import branch
from reefknot.contrib.django.views import workflows
from reefknot.testing.services import serving
from reefknot.workflows import Workflows

sys.path.insert(0, str(Path(__file__).parents[1]))
from sdk.contrib_apps import Ledger, greet

DATABASE, SERVER, RECEIVER, OPTIONS, KIND = sys.argv[1:]
settings.configure(
    **{
        "ALLOWED_HOSTS": ["*"],
        "ROOT_URLCONF": __name__,
        "INSTALLED_APPS": ["reefknot.contrib.django"],
        "MIDDLEWARE": [
            "django.middleware.csrf.CsrfViewMiddleware",
            "reefknot.contrib.django.middleware.BranchMiddleware",
        ],
        "DATABASES": {
            "default": {
                "ENGINE": "django.db.backends.sqlite3",
                "NAME": DATABASE,
                "OPTIONS": {"timeout": 30},
                "ATOMIC_REQUESTS": KIND == "wsgi",
            }
        },
        "USE_TZ": True,
        **json.loads(OPTIONS),
    }
)
django.setup()

ledger = Ledger(DATABASE, SERVER, RECEIVER)


def write(request, *, refuse=False):
    named = request.barrier.branch
    with transaction.atomic():
        if request.barrier.passes():
            with connection.cursor() as cursor:
                cursor.execute(
                    "INSERT INTO effect (gid, branch_id, op) VALUES (%s, %s, %s)",
                    [named.gid, named.branch_id, named.op],
                )
            if refuse:
                raise Failure("not enough money")


@branch
def add(request):
    ledger.note()
    write(request)
    return HttpResponse()


@branch
async def add_async(request):
    ledger.note()
    await sync_to_async(write)(request)
    return HttpResponse()


@branch
def refuse(request):
    write(request, refuse=True)


@branch
def review(request):
    ledger.check_review()
    return add(request)


@csrf_exempt
def done(request):
    ledger.reviewed = True
    return HttpResponse()


@branch
def broken(request):
    raise ValueError("no such ledger")


@branch
def forward(request):
    ledger.forward()
    return HttpResponse()


def seen(request):
    return JsonResponse(ledger.seen, safe=False)


urlpatterns = [
    path("add", add_async if KIND == "asgi" else add),
    path("add/undo", add),
    path("refuse", refuse),
    path("review", review),
    path("review/done", done),
    path("break", broken),
    path("forward", forward),
    path("seen", seen),
    path("", include("reefknot.contrib.django.urls")),
    path("workflow", workflows(Workflows(Client(SERVER), [greet], callback=f"{SERVER}/workflow"))),
]


def application():
    if KIND == "asgi":
        from django.core.asgi import get_asgi_application

        return get_asgi_application()
    from django.core.wsgi import get_wsgi_application

    return get_wsgi_application()


if __name__ == "__main__":
    call_command("migrate", verbosity=0)
    with connection.cursor() as cursor:
        cursor.execute("PRAGMA journal_mode = WAL")
        cursor.execute("CREATE TABLE effect (gid varchar(128), branch_id varchar(128), op varchar(45))")
    with serving(application()) as url:
        sys.stdout.write(f"{url}\n")
        sys.stdout.flush()
        sys.stdin.read()  # until the test closes its end of the pipe

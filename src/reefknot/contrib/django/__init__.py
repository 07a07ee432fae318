"""Django.

    INSTALLED_APPS = [..., "reefknot.contrib.django"]              # brings the migration of the barrier's table
    MIDDLEWARE = [..., "reefknot.contrib.django.middleware.BranchMiddleware"]
    urlpatterns = [..., path("transactions/", include("reefknot.contrib.django.urls"))]

    @branch
    def out(request):
        with transaction.atomic():
            if request.barrier.passes():
                Account.objects.filter(...).update(...)
        return HttpResponse()

Settings: ``REEFKNOT_BARRIER_TABLE`` names the barrier's table, if it is not the usual one;
``REEFKNOT_SHOW_ERRORS = True`` makes a 500 say the exception's type and text, for a service that only the
server can reach.
"""

from reefknot.contrib.django.branches import DjangoBarrier, branch

__all__ = ["DjangoBarrier", "branch"]

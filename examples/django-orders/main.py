"""Orders and stock in a Django project: a saga and a message, with the ORM on PostgreSQL.

Needs: postgres
Packages: django, psycopg
"""

import os

import urllib3
from django.core.management import call_command
from django.core.wsgi import get_wsgi_application

from reefknot import RolledBack
from reefknot.testing.services import serving

os.environ["DJANGO_SETTINGS_MODULE"] = "settings"
app = get_wsgi_application()
from shop.views import Item, Order, Parcel, tm  # noqa: E402 - after the settings


def buy(order):
    with tm.saga(wait=True) as saga:  # submitted at the end of the block
        saga.step(f"{url}/orders/place", f"{url}/orders/cancel", order)
        saga.step(f"{url}/stock/take", f"{url}/stock/put-back", order)


def show(what):
    orders, lamps = dict(Order.objects.order_by("number").values_list()), Item.objects.get(name="lamp").pieces
    print(f"{what:<18} {orders}, {lamps} lamps, {Parcel.objects.count()} parcels")


call_command("migrate", run_syncdb=True, verbosity=0)
Item.objects.create(name="lamp", pieces=10)
with serving(app) as url:
    buy({"number": 1, "lamps": 3})
    show("3 lamps bought")
    try:
        buy({"number": 2, "lamps": 99})
    except RolledBack:
        show("99 lamps refused")

    shipped = urllib3.request("POST", f"{url}/orders/1/ship").json()
    tm.wait(shipped["gid"])
    show("order 1 shipped")

    assert urllib3.request("POST", f"{url}/orders/2/ship").status == 409
    assert dict(Order.objects.values_list()) == {1: "shipped", 2: "cancelled"}
    assert (Item.objects.get().pieces, Parcel.objects.get().order_id) == (7, 1)

"""Branches of transactions, and one view that begins a transaction of its own."""

import json

from django.db import connection, transaction
from django.db.models import F
from django.http import HttpResponse, JsonResponse
from django.urls import reverse

from reefknot import Client, Failure
from reefknot.contrib.django import branch

from .models import Item, Order, Parcel

tm = Client()  # the server of $DTM_SERVER


def once(work):
    """A view that does some work with the order it gets, and the barrier's row, in one transaction."""

    @branch
    def view(request):
        with transaction.atomic():
            if request.barrier.passes():
                work(json.loads(request.body))
        return HttpResponse()

    return view


@once
def place(order):
    Order.objects.create(number=order["number"])


@once
def cancel(order):
    Order.objects.filter(number=order["number"]).update(state="cancelled")


@once
def take(order):
    if not Item.objects.filter(name="lamp", pieces__gte=order["lamps"]).update(pieces=F("pieces") - order["lamps"]):
        raise Failure(f"{order['lamps']} lamps are more than there are")


@once
def put_back(order):
    Item.objects.filter(name="lamp").update(pieces=F("pieces") + order["lamps"])


@once
def pack(order):
    Parcel.objects.create(order_id=order["number"])


def ship(request, number):
    """The order is shipped and a parcel is packed, both or neither."""
    msg = tm.msg().send(request.build_absolute_uri(reverse("pack")), {"number": number})
    with msg.committing(connection, ask=request.build_absolute_uri(reverse("reefknot:asked"))):
        if not Order.objects.filter(number=number, state="placed").update(state="shipped"):
            raise Failure(f"order {number} is not placed")
    return JsonResponse({"gid": msg.gid})

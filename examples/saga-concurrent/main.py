"""A trip: flight, hotel and car are booked at once, then paid; one refusal undoes all (saga, FastAPI, SQLite).

Packages: fastapi
"""

import os
from contextlib import ExitStack
from pathlib import Path

from agency import free_in, service

from reefknot import Client, RolledBack
from reefknot.testing.services import serving

folder = Path(os.environ.get("EXAMPLE_FOLDER", "."))
tm = Client()  # the server of $DTM_SERVER
OFFERED = {"flight": 2, "hotel": 2, "car": 1, "payment": 2000}


def book_trip(price):
    with tm.saga(wait=True, concurrent=True) as saga:

        def step(name, amount, after=()):
            url = urls[name]
            return saga.step(f"{url}/book", f"{url}/give-back", {"amount": amount}, after=after)

        booked = [step("flight", 1), step("hotel", 1), step("car", 1)]  # all at once
        step("payment", price, after=booked)


def free():
    return {name: free_in(folder / f"{name}.db") for name in OFFERED}


with ExitStack() as running:
    urls = {
        name: running.enter_context(serving(service(name, folder / f"{name}.db", free)))
        for name, free in OFFERED.items()
    }
    print("Ann's trip for 700")
    book_trip(700)
    print("   still free:", free())

    print("Ben's trip for 800")
    try:
        book_trip(800)
    except RolledBack as error:
        print("   rolled back:", error.reason)
    print("   still free:", free())

    assert free() == {"flight": 1, "hotel": 1, "car": 0, "payment": 1300}

"""The stock: one lamp taken, and put back."""

from service import book, service

app, Branch = service("stock", "CREATE TABLE stock.shelf (lamps int); INSERT INTO stock.shelf VALUES (10)")


@app.post("/take")
def take(order: dict, barrier: Branch):
    book(barrier, "UPDATE stock.shelf SET lamps = lamps - 1 WHERE lamps > 0", order, "no lamp is left")


@app.post("/put-back")
def put_back(order: dict, barrier: Branch):
    book(barrier, "UPDATE stock.shelf SET lamps = lamps + 1", order)

"""Orders: placed, and cancelled."""

from service import book, service

app, Branch = service("orders", "CREATE TABLE orders.placed (id int PRIMARY KEY, state text NOT NULL)")


@app.post("/place")
def place(order: dict, barrier: Branch):
    book(barrier, "INSERT INTO orders.placed VALUES (%(id)s, 'placed')", order)


@app.post("/cancel")
def cancel(order: dict, barrier: Branch):
    book(barrier, "UPDATE orders.placed SET state = 'cancelled' WHERE id = %(id)s", order)

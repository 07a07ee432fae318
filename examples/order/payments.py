"""Payments: charged, and refunded."""

from service import book, service

app, Branch = service("payments", "CREATE TABLE payments.purse (euros int); INSERT INTO payments.purse VALUES (100)")


@app.post("/charge")
def charge(order: dict, barrier: Branch):
    sql = "UPDATE payments.purse SET euros = euros - %(euros)s WHERE euros >= %(euros)s"
    book(barrier, sql, order, f"{order['euros']} euros are too much")


@app.post("/refund")
def refund(order: dict, barrier: Branch):
    book(barrier, "UPDATE payments.purse SET euros = euros + %(euros)s", order)

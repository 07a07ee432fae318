"""Coupons: each is for one order."""

from service import book, service

app, Branch = service("coupons", "CREATE TABLE coupons.used (code text PRIMARY KEY, by_order int NOT NULL)")


@app.post("/use")
def use(order: dict, barrier: Branch):
    sql = "INSERT INTO coupons.used VALUES (%(coupon)s, %(id)s) ON CONFLICT DO NOTHING"
    book(barrier, sql, order, f"coupon {order['coupon']} is used already")


@app.post("/give-back")
def give_back(order: dict, barrier: Branch):
    book(barrier, "DELETE FROM coupons.used WHERE code = %(coupon)s AND by_order = %(id)s", order)

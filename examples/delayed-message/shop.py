"""The shop: Flask with the ORM of SQLAlchemy on MariaDB."""

import os

from flask import Flask, abort, request
from sqlalchemy import String, create_engine, update
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column, sessionmaker

from reefknot import Client
from reefknot.contrib.flask import asked, branch, install

PAY_WITHIN = 3  # seconds; or timedelta(minutes=30)
engine = create_engine(os.environ["MARIADB_URL"].replace("mysql://", "mysql+pymysql://"))
Session = sessionmaker(engine)
tm = Client()  # the server of $DTM_SERVER


class Table(DeclarativeBase):
    pass


class Item(Table):
    __tablename__ = "item"
    name: Mapped[str] = mapped_column(String(20), primary_key=True)
    pieces: Mapped[int]


class Order(Table):
    __tablename__ = "orders"
    number: Mapped[int] = mapped_column(primary_key=True)
    state: Mapped[str] = mapped_column(String(20), default="open")


app = Flask(__name__)
install(app)
app.register_blueprint(asked(Session))  # POST /asked: was the order of this message committed?


@app.post("/order/<int:number>")
def order(number):
    url = request.host_url
    reminder = tm.msg(delay=PAY_WITHIN).send(f"{url}cancel-unpaid", {"number": number})
    with Session() as session, reminder.committing(session, ask=f"{url}asked"):
        session.add(Order(number=number))  # the order, its lamp and the message: all or nothing
        session.get(Item, "lamp", with_for_update=True).pieces -= 1
    return {"reminder": reminder.gid}


@app.post("/pay/<int:number>")
def pay(number):
    with Session.begin() as session:
        paid = update(Order).where(Order.number == number, Order.state == "open").values(state="paid")
        if not session.execute(paid).rowcount:
            abort(409, "this order is not open")
    return {}


@app.post("/cancel-unpaid")
def cancel_unpaid():
    with Session.begin() as session:
        if branch().passes(session):  # a message that comes twice puts one lamp back
            order = session.get(Order, request.json["number"], with_for_update=True)
            if order.state == "open":
                order.state = "cancelled"
                session.get(Item, "lamp", with_for_update=True).pieces += 1
    return {}

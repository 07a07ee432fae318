from django.db import models


class Order(models.Model):
    number = models.IntegerField(primary_key=True)
    state = models.CharField(max_length=10, default="placed")


class Item(models.Model):
    name = models.CharField(max_length=20, primary_key=True)
    pieces = models.PositiveIntegerField()


class Parcel(models.Model):
    order = models.ForeignKey(Order, on_delete=models.PROTECT)

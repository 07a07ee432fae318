from django.urls import include, path
from shop import views

urlpatterns = [
    path("transactions/", include("reefknot.contrib.django.urls")),  # transactions/asked
    path("orders/place", views.place),
    path("orders/cancel", views.cancel),
    path("orders/<int:number>/ship", views.ship),
    path("stock/take", views.take),
    path("stock/put-back", views.put_back),
    path("parcels/pack", views.pack, name="pack"),
]

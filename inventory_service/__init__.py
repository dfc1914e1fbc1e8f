"""The catalogue, its stock, and the reservations that keep a shop from selling what it has not got."""

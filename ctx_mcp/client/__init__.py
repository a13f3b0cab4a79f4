"""A context service seen from outside: the seed API, async and sync, and the transports that carry it."""

"""The rules of a context service over the stores, and its HTTP face."""

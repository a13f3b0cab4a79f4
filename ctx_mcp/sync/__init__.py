"""Keeping a folder and a context as one: a pure planner over three listings, and the executor of its plans."""

"""The words of the product: models, errors, paths, names, limits, cursors. Pure: no I/O, imports nothing of ours."""

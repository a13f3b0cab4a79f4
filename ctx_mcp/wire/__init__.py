"""The operations of a context service as data, and the dialects that spell them on a wire. Pure, no I/O."""

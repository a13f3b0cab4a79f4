"""Where state lives: rows in a database, bytes in an object store, small bytes beside their rows."""

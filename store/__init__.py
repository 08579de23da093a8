"""One SQLite file that a person can open with sqlite-utils or Datasette."""

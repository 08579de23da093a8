"""Runnable recipes, a TOML file each; `ponder recipes` lists them."""

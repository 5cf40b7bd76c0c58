"""The configuration: defaults, validation before any job starts, and the slices of it that rules depend on.

`model` defines what a config may hold, and for heuristics their definitions do. From the model come a JSON
schema with the defaults (`schema`), the sentences about what JSON Schema finds wrong (`validation`), the tables in the
documents (`document`), the slices of the config that rules depend on (`slices`), and the typed objects that scripts
read (`typed`). What a schema cannot express is in `checks`. All problems are reported together, a line each.

Nothing is imported here: reading a typed config needs only pydantic, and no JSON schema.
"""

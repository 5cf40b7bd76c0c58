"""Language models behind a server: SGLang started by the job itself, or external endpoints.

`service.serve` is the entry point. `launch` and `processor` run in the server's own environment, which has SGLang but
few of the project's other dependencies, so nothing is imported here.
"""

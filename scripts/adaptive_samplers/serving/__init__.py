"""Language models behind a server, of SGLang: started by the job itself, or an external endpoint.

`service.serve` is the entry point. `launch` and `processor` run in the server's own environment, which has SGLang but
few of the project's other dependencies, so nothing is imported here.
"""

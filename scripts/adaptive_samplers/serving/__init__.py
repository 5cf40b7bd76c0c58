"""Language models behind a server: SGLang started by the job itself, or endpoints that somebody else keeps up.

`service.serve` is the way in. `launch` and `processor` run in the server's own environment, which has SGLang and little
of what the project needs elsewhere; so nothing is imported here.
"""

"""Language models behind a server, SGLang's or vLLM's: started by the job itself, or an external endpoint.

`service.serve` is the entry point, and `kinds` says in what the servers differ. `launch`, `gate` and the processors run
in the server's own environment, which has few of the project's other dependencies, so nothing is imported here.
"""

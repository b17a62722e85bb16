"""The HTTP front door: producers hand in jobs and fetch outcomes, workers register, operators look.

Three routes carry the load: submit, submit a batch, read a result. They are plain ASGI endpoints (`asgi.py`) that decode
with msgspec and answer with ready-made bytes; `app.py` sends them straight there, past all middleware. Everything else is
an ordinary FastAPI route. All errors, wherever they arise, are RFC 9457 problem documents out of one table
(`problems.py`), and the OpenAPI page (`openapi.py`) is built from the same structs that decode and encode.

The process holds no state of its own: it starts without Redis, answers 503 while Redis is away and goes on when it is
back (`engine.py`), and any number of such processes may run side by side.
"""

"""What a bare FastAPI application costs: one route that returns a dict, by the same server with the same settings."""

from __future__ import annotations

import sys
from typing import Any

import uvicorn
from fastapi import FastAPI

app = FastAPI()


@app.post("/noop", response_model=None)
async def noop() -> dict[str, Any]:
    return {"status": "ok"}


@app.get("/readyz", response_model=None)
async def ready() -> dict[str, Any]:
    return {}


if __name__ == "__main__":
    uvicorn.run(app, port=int(sys.argv[1]), loop="uvloop", http="httptools", access_log=False, log_level="warning")

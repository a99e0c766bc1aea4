"""A shop, audited by one line. Run: uvicorn examples.fastapi_app:app --port 8000, and beside it: asgi-audit serve"""

from fastapi import FastAPI, HTTPException

from asgi_audit import annotate, install

app = install(FastAPI())

ORDERS: dict[int, dict[str, object]] = {}


@app.post("/orders", status_code=201)
def create_order(order: dict[str, object]) -> dict[str, object]:
    number = len(ORDERS) + 1
    ORDERS[number] = order
    annotate(principal="alice", order=number)  # optional: who made the request, and other facts for an auditor
    return {"order": number}


@app.get("/orders/{number}")
def read_order(number: int) -> dict[str, object]:
    if number not in ORDERS:
        raise HTTPException(404)
    return ORDERS[number]

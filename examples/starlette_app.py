"""A shop in plain Starlette, audited by one line. Run: uvicorn examples.starlette_app:app --port 8000

The compose file runs this one: it has no other dependency than asgi-audit.
"""

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Route

from asgi_audit import annotate, install

ORDERS: dict[int, dict[str, object]] = {}


async def create_order(request: Request) -> JSONResponse:
    number = len(ORDERS) + 1
    ORDERS[number] = await request.json()
    annotate(principal="alice", order=number)  # optional: who made the request, and other facts for an auditor
    return JSONResponse({"order": number}, 201)


async def read_order(request: Request) -> JSONResponse:
    number = request.path_params["number"]
    if number not in ORDERS:
        raise HTTPException(404)
    return JSONResponse(ORDERS[number])


app = Starlette(
    routes=[Route("/orders", create_order, methods=["POST"]), Route("/orders/{number:int}", read_order)],
)
install(app)

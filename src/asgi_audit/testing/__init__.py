"""For tests of applications: the records of a test in a list, and a proof that auditing changes nothing.

`audit_records` is a pytest fixture that the package brings along (no import needed). While a test uses it, every
AuditMiddleware of this process records into memory, whatever transport its settings name: those made before the test
too. Nothing touches a disk.

    def test_login_is_audited(client, audit_records):
        client.post("/login", json={"user": "alice", "password": "s3cret"})
        (record,) = audit_records.wait(1)
        assert record["response"]["statusCode"] == 401

`assert_transparent(app)` runs an application with and without the middleware and compares both streams, message by
message.

pytest loads this module in every run, so it imports neither a framework nor other modules of the package before their
first use.
"""

from __future__ import annotations

from .records import AuditRecords
from .transparency import ClientRequest, assert_transparent

__all__ = ["AuditRecords", "ClientRequest", "assert_transparent", "audit_records"]

try:
    from .records import audit_records
except ImportError:  # without pytest only the fixture is missing
    pass

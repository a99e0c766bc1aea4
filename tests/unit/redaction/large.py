"""Large bodies as applications send them, with many secrets or none: what the budget of a record must suffice for."""

from __future__ import annotations

import random
from typing import NamedTuple

SIZE = 65_536
_TEXT = "the order was shipped to Porto and signed by Mira who paid 4.25 EUR for the second item of this list"
_WORDS = _TEXT.split()

JSON, FORM, TEXT, HTML, XML, CSV, YAML, EVENTS, LINES = (
    "application/json", "application/x-www-form-urlencoded", "text/plain", "text/html", "application/xml", "text/csv",
    "application/yaml", "text/event-stream", "application/x-ndjson",
)  # fmt: skip


class Large(NamedTuple):
    """row: `~` is its number, `§` a secret, `…` some words."""

    kind: str
    row: str
    head: str = ""
    between: str = "\n"
    end: str = ""
    rows: int = 10_000

    def body(self) -> bytes:
        r = random.Random(self.row)
        made: list[str] = []
        room = SIZE - len(self.head) - len(self.end)
        while room > 0 and len(made) <= self.rows:
            row = self.row.replace("~", str(len(made))).replace("§", f"Zk{r.getrandbits(52):013x}Q")
            made.append(row.replace("…", " ".join(r.choices(_WORDS, k=r.randrange(4, 12)))))
            room -= len(made[-1].encode()) + len(self.between)
        return (self.head + self.between.join(made[:-1]) + self.end).encode()


_STAMP = "2026-01-01T10:00:00Z INFO "
_CHUNK = 'data: {"id":"c-1","object":"chat.completion.chunk","choices":[{"index":0,"delta":{"content":"…"}}]}\n'
DOCUMENTS = {
    "JSON of users": Large(JSON, '{"id":~,"email":"m~@example.com","name":"Mira","password":"§"}', "[", ",", "]"),
    "JSON of settings": Large(JSON, '{"id":~,"name":"API_KEY","value":"§"}', "[", ",", "]", rows=350),
    "JSON of orders": Large(JSON, '{"id":~,"note":"…","price":4.25,"paid":true,"sku":"A-~"}', "[", ",", "]"),
    "JSON of 500 fields": Large(JSON, '"field_~":"…"', '{"db_password":"Zk12hfQ2mv",', ",", "}", rows=500),
    "JSON lines of users": Large(LINES, '{"id":~,"email":"m~@example.com","name":"Mira","password":"§"}', rows=700),
    "JSON lines of logs": Large(LINES, '{"level":"info","message":"…","user":~,"user_token":"§"}'),
    "CSV of users": Large(CSV, "~,m~@example.com,§,active", "id,email,password,state\n"),
    "CSV of 1,000 users": Large(CSV, "~,Mira ~,§", "id,name,password\n", rows=1_000),
    "CSV without secrets": Large(CSV, "~,…,4.25,true,A-~,Porto,,x,…", "a,b,c,d,e,f,g,h,i\n"),
    "YAML of users": Large(YAML, "- id: ~\n  name: u~\n  email: m~@example.com\n  password: §"),
    "YAML of services": Large(YAML, "s~:\n  image: shop:~\n  environment:\n    - API_KEY=§\n    - PORT=~"),
    "settings": Large(TEXT, "SERVICE_~_URL=http://h~/\nSERVICE_~_PORT=~\nSERVICE_~_API_KEY=§", rows=420),
    "log": Large(TEXT, _STAMP + "[worker-3] request ~ … in ~ ms"),
    "log of logins": Large(TEXT, _STAMP + "user ~ logged in with password=§", rows=700),
    "log of tokens": Large(TEXT, _STAMP + "request ~ … Authorization: Bearer §§", rows=400),
    "log of URLs": Large(TEXT, '10.0.0.9 - - "GET /orders/~?page=3&access_token=§ HTTP/1.1" 200 5123 "-"', rows=600),
    "prose": Large(TEXT, "…, … and ….", between=" "),
    "prose about passwords": Large(TEXT, "To reset your password, open the page and choose a new password. …."),
    "form": Large(FORM, "field~=…", "pin=Hx7sun9Zq&", "&", rows=900),
    "form of secrets": Large(FORM, "user~=m~%40example.com&user~_password=§", "", "&", rows=300),
    "page": Large(HTML, "<tr><td>~</td><td>…</td><td><a href='/o/~'>x</a></td></tr>", "<table>", end="</table>"),
    "page of tokens": Large(HTML, '<form action="/o/~"><input name=csrf_token value="§"><p>… …</p></form>', "<html>"),
    "XML of users": Large(XML, "<user><id>~</id><note>… …</note><password>§</password></user>", "<r>", end="</r>"),
    "XML": Large(XML, '<order id="~"><name>…</name><price currency="EUR">~.25</price></order>', "<r>", end="</r>"),
    "chat": Large(EVENTS, _CHUNK),
    "chat about tokens": Large(
        EVENTS, _CHUNK + 'data: {"choices":[{"delta":{"content":"token"}}],"max_tokens":12}\n', rows=150
    ),
    "events": Large(EVENTS, "event: note\ndata: …\n"),
    "events of tokens": Large(EVENTS, 'data: {"n":~,"text":"… …","access_token":"§"}\n'),
    "SQL": Large(TEXT, "INSERT INTO users (id, email, password) VALUES (~, 'm~@example.com', '§');", rows=450),
    "history of a shell": Large(
        TEXT, "curl -u mira:§ https://h/~\nls -l /srv/~\necho …\ncd /srv/~\ngit log -~", rows=300
    ),
    "source code": Large(TEXT, "def check_~(token: str, limit: int = ~) -> bool:\n    # …\n    return limit > ~\n"),
    "mails": Large(TEXT, "From: m~@example.com\nSubject: …\n\n… …\n… …\nYour verification code is 123456.\n"),
}

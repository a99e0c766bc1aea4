"""Regression tests: places in which a secret was once found in a record."""

from __future__ import annotations

import orjson
import pytest
from tests.support.exchanges import make_builder, make_exchange
from tests.support.schema import checked

from asgi_audit.redaction.names import YES as SENSITIVE
from asgi_audit.redaction.names import Names

NAMES = Names()
BUILDER = make_builder()
SECRET = b"Hx7sunflower9Zq"  # it contains no sensitive name
S = SECRET.decode()


@pytest.mark.parametrize(
    "query",
    [
        "name=password&value={}", 'p=[["id","pin"],[1,"{}"]]', "password=ab;{}",
        "password=ab<{}", "password=ab#{}", "password=ab {}", "password=>{}", "a=1&password=ab?{}",
        'q=1;password={}', '{{"pin":"x={}"}}', "code={}&scope=openid", "u=https://bob:{}@h/", "q=postgres://u:{}@db/x",
        'query={{login(password:$p){{ok}}}}&variables={{"p":"{}"}}', "contrase%C3%B1a={}", "contraseña={}",
    ],
)  # fmt: skip
def test_query_hides_the_whole_value(query: str) -> None:
    x = make_exchange("GET", query=query.format(S).encode())
    record = BUILDER.build(x)
    assert checked(record)["request"]["query"]
    assert SECRET not in record


@pytest.mark.parametrize(
    ("name", "value"),
    [
        (b"referer", b"https://u:p@%b@h/"),
        (b"referer", b"https://u:a/%b@h/"),
        (b"x-note", b"redis://:a/%b@h/"),
        (b"referer", b"https://h/?password=ab;%b"),
        (b"referer", b"https://h/?password=ab %b"),
        (b"referer", b"https://h/a;jsessionid=%b?x=1"),
        (b"x-note", b"https://u:p@%b@h/"),
        (b"x-dsn-note", b"postgres://u:%b@h/db"),
        (b"host", b"u:%b@h"),
        (b"x-forwarded-host", b"u:%b@h"),
        (b"x-amz-server-side-encryption-customer-key", b"%b"),
    ],
)
def test_header_hides_what_stands_in_its_url(name: bytes, value: bytes) -> None:
    builder = make_builder()
    for _ in range(2):  # the remembered secret of the first must be masked in it, too
        record = builder.build(make_exchange("GET", headers=[(name, value % SECRET)]))
        checked(record)
        assert SECRET not in record


@pytest.mark.parametrize(
    ("path", "raw"),
    [
        ("/a;jsessionid={}", None),
        ("/t;token={}/more", None),
        ("/x/token={}", None),
        ("/x?token={}", "/x%3Ftoken={}"),
        ("/x/token={}", "/x/token%3D{}"),
        ("/x/token%3D{}", "/x/token%253D{}"),
    ],
)
def test_path_hides_a_pair(path: str, raw: str | None) -> None:
    x = make_exchange("GET", query=b"a=1")
    x.path = path.format(S)
    x.raw_path = (raw or path).format(S).encode()
    for query in (b"", b"a=1"):
        x.query_string = query
        record = BUILDER.build(x)
        value = checked(record)
        assert SECRET not in record
        assert value["request"]["path"].startswith(path[:2])
        assert "request.path" in value["context"]["redacted"]


def test_path_with_too_many_suspicions_is_masked_from_there() -> None:
    x = make_exchange("GET")
    x.path = "/tokens" * 150 + f"/token={S}"
    x.raw_path = x.path.encode()
    record = BUILDER.build(x)
    checked(record)
    assert SECRET not in record


@pytest.mark.parametrize("path", ["/orders/17", "/tokens:refresh", "/a=1/b", "/q;v=2", "/caf%C3%A9"])
def test_path_without_a_secret_is_left_alone(path: str) -> None:
    x = make_exchange("GET")
    x.path = path
    x.raw_path = path.encode()
    value = checked(BUILDER.build(x))
    assert value["request"]["path"] == path
    assert value["request"]["originalUrl"] == path


@pytest.mark.parametrize(
    "document",
    [
        '{"url":"https://u:%s@h"}',
        '{"url":"https:\\/\\/u:%s@h"}',
        '{"a":["postgres://u:x@%s@h/db"]}',
        '{"u":"https://%s0123456789@github.com/x"}',
        '{"type":"password","value":"%s","temporary":false}',
        '{"id":"password","value":"%s"}',
        '{"block_id":"password","value":"%s"}',
        '{"question":"password","answer":"%s"}',
        '{"title":"Password","answer":"%s"}',
        '{"detail":"1 validation error for Login\\npassword\\n  Short [type=x, input_value=\'%s\', input_type=str]"}',
        '{"contraseña":"%s"}',
        '{"contrase\\u00f1a":"%s"}',
        '{"code":"%s","redirect_uri":"https://x"}',
        '{"code":"%s","state":"xyz"}',
        '{"query":"mutation($p:String!){login(password:$p){ok}}","variables":{"p":"%s"}}',
        '{"variables":{"p":"%s"},"query":"mutation($p:String!){login(password:$p){ok}}"}',
        '{"k":"-----BEGIN PGP PRIVATE KEY BLOCK-----\\n%s\\n-----END PGP PRIVATE KEY BLOCK-----"}',
        '{"pass\\tword":"%s"}',
        '{"pass\\u0009word":"%s"}',
        '{"pass\\nword" : "%s"}',
        '{"pass\\u200bword":"%s"}',
        '{"columns":["id","password"],"rows":[[1,"%s"],[2,"x"]]}',
        '{"rows":[[1,"%s"]],"columns":["id","password"]}',
        '{"fields":["id","pin"],"data":[[1,{"a":["%s"]}],[2,5]]}',
        '{"head":["password","id"],"body":[["%s",1]]}',
        '{"columns":[{"name":"id"},{"name":"api_key","type":"text"}],"data":[[1,"%s"]]}',
        '{"results":[{"series":[{"columns":["time","token"],"values":[[1,"%s"]]}]}]}',
        '{"header":["id","password"],"row":[1,"%s"]}',
        '{"values":[["id","password"],[1,"x"],[2,"%s"]]}',
        '[["password","email"],["%s","x"]]',
        '[["a]b","password"],[1,"%s"]]',
        '{"payload":"{\\"code\\":\\"%s\\",\\"redirect_uri\\":\\"https://x\\"}"}',
        '{"payload":"{\\"a\\":\\"{\\\\\\"code\\\\\\":\\\\\\"%s\\\\\\",\\\\\\"client_id\\\\\\":1}\\"}"}',
        '{"payload":"{\\"code\\": \\"%s\\",\\"state\\":\\"x\\"}"}',
        '{"u":"https://u:a/%s@host/x"}',
        '{"u":"https:\\/\\/u:a\\/%s@host"}',
        '{"text":"Your password is %s."}',
        '[{"attributeName":"user_password","attributeValue":"%s"}]',
        '[{"field_name":"pin","field_value":"%s"}]',
        '{"kind":"Secret","data":{"x":"%s"}}',
        '{"kind":"Secret","stringData":{"x":"%s"}}',
        '{"user[pin][0]":"%s"}',
        '{"a":"id,api_key\\n1,%s\\n"}',
        '{"a":"- client_secret\\n- %s\\n"}',
        "{\"a\":\"[('password', '%s')]\"}",
        '{"a":"tool --api-key %s --x"}',
        '{"text":"The verification code is: %s"}',
        '{"text":"Your new pin is\\n%s"}',
    ],
)
def test_json_hides_it(document: str) -> None:
    data = (document % S).encode()
    orjson.loads(data)
    record = BUILDER.build(make_exchange("POST", body=data, answer=data, answer_type=b"application/json"))
    checked(record)
    assert SECRET not in record


def test_annotations_hide_user_information() -> None:
    x = make_exchange("GET")
    x.annotations = {"db": f"postgres://u:{S}@h/db"}
    record = BUILDER.build(x)
    checked(record)
    assert SECRET not in record


@pytest.mark.parametrize(
    "name",
    [
        "pass1", "pswd", "psw", "mfa_code", "2fa_code", "twoFactorCode", "invite_code", "rsa_key", "dsn", "sentry_dsn",
        "database_url", "mnemonic", "seed_phrase", "recovery_phrase", "contraseña", "CONTRASEÑA",
    ],
)  # fmt: skip
def test_name_is_sensitive_too(name: str) -> None:
    assert NAMES.kind(name.encode()) == SENSITIVE


@pytest.mark.parametrize("kind", [b"text/plain", b"text/yaml", b"application/yaml"])
@pytest.mark.parametrize(
    "text",
    [
        "a: 1\npassword:\n  - x\n  - %s\nb: 2",
        "a: 1\npassword:\n- x\n- %s\nb: 2",
        "a: 1\npassword:\n  one: x\n  two: %s\nb: 2",
        "a: 1\npassword: x\n  %s\nb: 2",
        "a: 1\npassword: >-\n  x\n\n  %s\nb: 2",
        'a: 1\npassword: "x\n%s"\nb: 2',
        'a = 1\npassword = """\nx\n%s\n"""\nb = 2',
        "a: 1\n- password\n- %s\nb: 2",
        "a: 1\n  - - password\n    - %s\n",
        "a: 1\n- id\n- 'password'\n- \"%s\"",
        "a\nPassword is\n%s\nb",
        "a\nPassword is\n\n  %s",
        "a\nyour password is: %s",
        "a\nYour password is %s, keep it",
        "a\nYour PIN is '%s'",
        "a,password,b\n1,%s,2\n",
        "a;user;pin\n1;mira;%s\n2;ann;x\n",
        'a,"Password",b\r\n1,"x,%s",2\r\n3,"y ""%s""",4\r\n',
        "a\tapi key\n1\t%s\n",
        "a|secret\n1|%s",
        "a\n\n| id | api key |\n|---|---|\n| 1 | %s |\n",
        "a\nALTER USER x WITH PASSWORD '%s'",
        "a\ntool --password %s --x",
        "a: x\nlocalStorage.setItem('token', '%s')",
        'a: x\nNaN{"loc": ["body", "otp"], "input": "%s"}',
        'a: x\ndata: {"client_secret":\ndata: "%s"}\n\n',
        "a: x\npassword?=%s",
    ],
)
def test_text_hides_a_value_of_many_lines(kind: bytes, text: str) -> None:
    record = BUILDER.build(make_exchange("POST", body=text.replace("%s", S).encode(), content_type=kind))
    body = checked(record)["request"]["body"]
    assert SECRET not in record
    assert body.startswith("a")


@pytest.mark.parametrize("kind", [b"text/html", b"application/xml", b"text/plain"])
@pytest.mark.parametrize(
    "text",
    [
        '<input type="password" name="password" value="%s">',
        '<input value="%s" type="password" name="p">',
        "<input\n  type='password'\n  value='%s'\n  id=x>",
        "<input value=%s name=password>",
        '<meta content="%s" name="csrf-token">',
        '<meta name="csrf-token"\n content="%s">',
        "<meta content=%s name=csrf-token />",
        "<name>password</name><value>%s</value>",
        "<member>\n<name>password</name>\n<value>\n<string>%s</string></value></member>",
        "<plist><dict><key>password</key>\n<string>%s</string></dict></plist>",
        "<dict><key>tokens</key><array><string>x</string><string>%s</string></array></dict>",
        "<password><![CDATA[%s]]></password>",
        "<password><a>x</a><b>%s</b></password>",
        "<password>\nx\n%s\n</password>",
        '<textarea name="secret">\nx\n%s</textarea>',
        "<table><tr><th>Password</th><td>%s</td></tr></table>",
        "<dl><dt>Password:</dt>\n<dd><b>x</b><i>%s</i></dd></dl>",
        "<p>Password: <b>%s</b></p>",
        '<label for="x">Password</label><br><input id="x" value="%s">',
        '<script>var csrfToken = "%s";</script>',
        '<a href="/x?token=%s">x</a>',
        '<a href="https://u:%s@h/">x</a>',
        '<input name="password" value="a>%s">',
        '<input value="a>%s" name="password">',
        '<input name="password" value="a<%s">',
        "<script>if (a < b) { token = '%s' }</script>",
        "<!-- password: %s -->",
        "<API KEY>%s</API KEY>",
        "<option data-k='password' value='%s'>",
        "<span id='u'>password</span><span/><span>%s</span>",
        "<value>%s</value><name>password</name>",
        "<button onclick=\"go('token','%s')\">",
        "<b>password</b><field name='pin' data-initial='%s'/>",
        "<i token='x'/><field name=pin data-initial='%s'/>",
        "<i token='x'/><b n='p&#105;n'/><field name='p&#105;n' data-initial='%s'/>",
        '<div data-x=\'{"password":"%s"}\'></div>',
        '<setting name="password">\n  <value>%s</value></setting>',
        '<input type="password" name="p" value="%s"',
        '<field name="password" \n data-initial="%s"/>',
    ],
)
def test_markup_hides_it(kind: bytes, text: str) -> None:
    data = (text % S).encode()
    for whole in (data, b"<html>\n<body>" + data + b"<p>more</p></body></html>"):
        record = BUILDER.build(make_exchange("POST", body=whole, content_type=kind, answer=whole, answer_type=kind))
        checked(record)
        assert SECRET not in record


def test_markup_keeps_what_is_no_secret() -> None:
    page = (
        '<html><body><h2>Sign in</h2><form action="/login"><input name="user" value="bob">'
        '<input type="password" name="password" required></form><p>Welcome back</p></body></html>'
    )
    x = make_exchange("GET", answer=page.encode(), answer_type=b"text/html; charset=utf-8")
    assert checked(BUILDER.build(x))["response"]["body"] == page


@pytest.mark.parametrize(
    "text",
    [
        "a: 1\nkey: password\nvalue: %s",
        "- name: DB_PASSWORD\n  value: %s\n",
        "value = %s\nname = 'pin'\n",
        "value = %s\nname = 'pin'",
    ],
)
def test_text_with_a_label_line_hides_the_value_beside_it(text: str) -> None:
    record = BUILDER.build(make_exchange("POST", body=(text % S).encode(), content_type=b"text/yaml"))
    assert checked(record)["context"]["requestBody"]["captured"] == "full"
    assert SECRET not in record

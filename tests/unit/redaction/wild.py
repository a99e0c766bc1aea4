"""A second set of secrets, written independently of `cells`: where real services, tools and people put them.

Each template has the format of a known service, library or tool, with `§` for the secret (`§b`: base64 of `mira:` and
the secret, `§j`: of a document that contains it, `§u`: percent-encoded). `planted(seed)` takes a template, encodes the
secret as the format requires, and may put the whole into another format or cut it. Sources: the documentation of what
the group is named for.
"""

from __future__ import annotations

import base64
import html
import json
import random
import string
from typing import NamedTuple
from urllib.parse import quote, quote_plus

from tests.support.exchanges import make_body, make_exchange

from asgi_audit.exchange.sealed import Exchange

JSON, FORM, XML, HTML, TEXT = "json", "form", "xml", "html", "text"
TYPES = {
    JSON: b"application/json", FORM: b"application/x-www-form-urlencoded", XML: b"application/xml",
    HTML: b"text/html; charset=utf-8", TEXT: b"text/plain",
}  # fmt: skip
_LETTERS = string.ascii_letters + string.digits

TEMPLATES: dict[str, tuple[str, tuple[str, ...]]] = {
    "cloud": (JSON, (
        '{"Credentials":{"AccessKeyId":"ASIAX","SecretAccessKey":"§","Expiration":"2026-11-28T00:00:00Z"}}',
        '{"Credentials":{"SessionToken":"§"},"AssumedRoleUser":{"Arn":"arn:aws:sts::1:assumed-role/x"}}',
        '{"ARN":"arn:aws:secretsmanager:eu:1:secret:db","Name":"prod/db","SecretString":"§"}',
        '{"Name":"prod/db","SecretString":"{\\"username\\":\\"admin\\",\\"password\\":\\"§\\"}"}',
        '{"Parameter":{"Name":"/prod/db/password","Type":"SecureString","Value":"§","Version":1}}',
        '{"Environment":{"Variables":{"LOG":"info","STRIPE_API_KEY":"§"}},"FunctionName":"f"}',
        '{"token_type":"Bearer","expires_in":"3599","ext_expires_in":"3599","refresh_token":"§"}',
        '{"value":"§","id":"https://v.vault.azure.net/secrets/db-password/4387e9f3","attributes":{"enabled":true}}',
        '{"request_id":"1","auth":{"client_token":"§","accessor":"x","policies":["root"]}}',
        '{"data":{"data":{"password":"§"},"metadata":{"version":1}}}',
        '{"keys":[],"root_token":"§"}', '{"auths":{"ghcr.io":{"auth":"§b"}}}',
        '{"Username":"mira","Secret":"§","ServerURL":"https://index.docker.io/v1/"}',
        '{"kind":"Config","users":[{"name":"a","user":{"token":"§"}}]}',
        '{"name":"x","value":{"connectionString":"Endpoint=sb://x/;SharedAccessKeyName=r;SharedAccessKey=§"}}',
        '{"AzureWebJobsStorage":"DefaultEndpointsProtocol=https;AccountName=x;AccountKey=§;EndpointSuffix=core.net"}',
        '{"outputs":{"db_password":{"value":"§","type":"string","sensitive":true}}}',
        '{"resources":[{"type":"aws_db","instances":[{"attributes":{"id":"x","password":"§"}}]}]}',
        '{"variables":[{"key":"TEST_PASSWORD","variable_type":"env_var","value":"§","masked":true}]}',
        '{"runners_token":"§","id":4}', '{"SAS":"https://x.blob.core.windows.net/c?sv=2022&sp=r&sig=§"}',
        '{"items":[{"metadata":{"name":"x"},"kind":"Secret","data":{"a.crt":"§"}}]}',
        '{"containers":[{"env":[{"name":"A","value":"1"},{"name":"DB_PASSWORD","value":"§"}]}]}',
        '{"kty":"oct","k":"§","alg":"HS256"}', '{"kty":"RSA","e":"AQAB","d":"§","n":"0vx7agoebGcQ"}',
        '{"type":"service_account","private_key_id":"abc","private_key":"-----BEGIN PRIVATE KEY-----\\n§\\n-----END PRIVATE KEY-----\\n"}',
    )),
    "identity": (JSON, (
        '{"credentials":{"password":{"value":"§"}},"profile":{"login":"mira"}}',
        '{"credentials":{"recovery_question":{"question":"Pet?","answer":"§"}}}',
        '{"credentials":[{"type":"password","value":"§","temporary":false}]}',
        '{"idToken":"§","email":"m@x.io","expiresIn":"3600","localId":"a"}',
        '{"email":"m@x.io","password":"§","returnSecureToken":true}',
        '{"sessionToken":"§","status":"SUCCESS"}', '{"device_code":"§","user_code":"WDJB-MJHT","interval":5}',
        '{"config":{"url":"https://h","content_type":"json","secret":"§"},"events":["push"]}',
        '{"client_id":"a","client_name":"x","client_secret":"§","redirect_uris":["https://a/cb"]}',
        '{"registration_access_token":"§","grant_types":["implicit"]}',
        '{"schemas":["urn:ietf:params:scim:schemas:core:2.0:User"],"userName":"m","password":"§"}',
        '{"schemas":["x"],"Operations":[{"op":"replace","path":"password","value":"§"}]}',
        '[{"op":"add","path":"/user/password","value":"§"}]', '[{"op":"test","value":"§","path":"/a/0/api_key"}]',
        '{"user":{"email":"m@x.io","current_password":"§","password_confirmation":"§"}}',
        '{"mfa":{"secret":"§","qr":"x"},"type":"totp"}', '{"url":"otpauth://totp/Acme:mira?secret=§&issuer=Acme"}',
        '{"backup_codes":["§","x2"]}', '{"login":{"username":"m","password":"§","totp":null},"name":"vault item"}',
        '{"endpoint":"https://push/x","keys":{"p256dh":"BNcRdreALRFXTkOOUHK1","auth":"§"}}',
        '{"changes":{"password":["§","other"]}}', '{"before":{"api_token":"§"},"after":{"api_token":null}}',
        '{"attributes":[{"Name":"custom:pin","Value":"§"}]}', '{"AuthParameters":{"USERNAME":"m","PASSWORD":"§"}}',
        '{"AuthenticationResult":{"AccessToken":"§","TokenType":"Bearer"}}', '{"Session":"§","ChallengeName":"NEW"}',
        '{"jsonrpc":"2.0","method":"login","params":{"user":"m","password":"§"},"id":1}',
        '{"jsonrpc":"2.0","method":"call","params":{"service":"x","kwargs":{"passwd":"§"}}}',
        '{"operationName":"L","variables":{"input":{"email":"m","password":"§"}},"query":"mutation L($input:I!){l(input:$input){ok}}"}',
        '{"query":"mutation { login(email: \\"m\\", password: \\"§\\") { ok } }"}',
        '[{"query":"{a}"},{"query":"mutation($p:String!){login(password:$p){ok}}","variables":{"p":"§"}}]',
        '{"data":{"tokenAuth":{"token":"§","refreshExpiresIn":1}}}',
        '{"query":"mutation { a(input: {clientSecret: \\"\\"\\"§\\"\\"\\"}) { ok } }"}',
    )),
    "webhook": (JSON, (
        '{"token":"§","challenge":"x","type":"url_verification"}',
        '{"signature":{"timestamp":"1529006854","token":"§","signature":"d2271d12299f"},"event-data":{"event":"opened"}}',
        '{"type":2,"token":"§","application_id":"845027738276462632"}', '{"event":"endpoint","payload":{"plainToken":"§"}}',
        '{"ok":true,"bot":{"bot_user_id":"U1","bot_access_token":"§"}}',
        '{"id":"pi_1","client_secret":"pi_1_secret_§","object":"payment_intent"}',
        '{"card":{"number":"4111 1111 1111 1111","cvc":"§","holderName":"Mira"}}',
        '{"paymentMethod":{"encryptedSecurityCode":"§","type":"scheme"}}',
        '{"source":{"card_number":"§","exp":"12/30"}}', '{"public_token":"p","secret":"§","client_id":"x"}',
        '{"smtp":{"host":"h","port":587,"auth":{"user":"a","pass":"§"}}}',
        '{"channels":[{"type":"slack","settings":{"webhook_url":"§"}}]}',
        '{"receivers":[{"pagerduty_configs":[{"routing_key":"R","service_key":"§"}]}]}',
        '{"hook":{"headers":{"X-Api-Key":"§"}}}', '{"request":{"headers":[["authorization","Bearer §"]]}}',
        '{"log":{"entries":[{"request":{"cookies":[{"name":"sid","value":"§"}]}}]}}',
        '{"postData":{"mimeType":"x","params":[{"name":"password","value":"§"}]}}',
        '{"postData":{"mimeType":"application/x-www-form-urlencoded","text":"user=m&password=§"}}',
        '{"auth":{"type":"basic","basic":[{"key":"username","value":"m"},{"key":"password","value":"§","type":"string"}]}}',
        '{"header":[{"key":"X-Api-Key","value":"§","disabled":false}]}',
        '{"exception":{"values":[{"stacktrace":{"frames":[{"vars":{"password":"\'§\'","n":"1"}}]}}]}}',
        '{"breadcrumbs":[{"message":"POST https://h/login?token=§ 200"}]}',
        '{"detail":[{"type":"string_too_short","loc":["body","password"],"msg":"x","input":"§"}]}',
        '{"detail":[{"loc":["body"],"msg":"x","input":{"email":"m","password":"§"}}]}',
        '{"violations":[{"propertyPath":"plainPassword","invalidValue":"§"}]}',
        '{"errors":[{"rejectedValue":"§","field":"password","objectName":"user"}]}',
        '{"message":"Invalid value \\"§\\" for field password"}', '{"args":{},"form":{"password":"§"},"url":"https://x"}',
        '{"json":null,"data":"{\\"api_key\\": \\"§\\"}"}', '{"raw":"user=m&passwd=§&x=1"}',
    )),
    "nested": (JSON, (
        '{"annotations":{"last-applied":"{\\"kind\\":\\"Secret\\",\\"stringData\\":{\\"x\\":\\"§\\"}}"}}',
        '{"yaml":"db:\\n  host: h\\n  password: §\\n"}', '{"env":"A=1\\nDB_PASSWORD=§\\nB=2"}',
        '{"xml":"<login><user>m</user><password>§</password></login>"}', '{"cmd":["mysql","-u","root","-p§"]}',
        '{"cmd":["psql","--password","§"]}', '{"cmd":"curl -u mira:§ https://h"}', '{"Cmd":["sh","-c","export TOKEN=§; run"]}',
        '{"Env":["PATH=/bin","POSTGRES_PASSWORD=§"]}', '{"html":"<input type=\\"hidden\\" name=\\"csrf_token\\" value=\\"§\\">"}',
        '{"sql":"ALTER USER m WITH PASSWORD \'§\'"}', '{"sql":"INSERT INTO u (id,password) VALUES (1,\'§\')"}',
        '{"statement":"UPDATE u SET password = $1 WHERE id = $2","parameters":["§",7]}',
        '{"csv":"id,password\\n1,§\\n"}', '{"url":"postgresql://mira:§@db:5432/x"}', '{"dsn":"mira:§@tcp(db:3306)/x"}',
        '{"mail":"Hello Mira,\\n\\nyour password is §.\\n"}', '{"toml":"[db]\\npassword = \\"§\\"\\n"}',
        '{"ini":"[db]\\npassword=§\\n"}', '{"a":{"b":[{"c":{"d":[[{"secret_key":"§"}]]}}]}}', '{"p":"%7B%22password%22%3A%22§%22%7D"}',
        '{"config":"{\\"inner\\":\\"{\\\\\\"password\\\\\\":\\\\\\"§\\\\\\"}\\"}"}', '{"next":"/login?next=%2Fa%3Ftoken%3D§%26x%3D1"}',
        '{"rows":[["m","§"]],"columns":["user","password"]}', '{"head":["id","api key"],"body":[[1,"§"]]}',
        '{"table":{"schema":{"fields":[{"name":"i"},{"name":"password"}]},"data":[{"i":1,"password":"§"}]}}',
        '{"password" \n:\t"§" , "a":1}', '{"PASSWORD":["§"]}', '{"passwords":{"a":"§"}}', '{"auth":["mira","§"]}',
        '{"é":"x","contraseña":"§"}', '{"密码":"§"}', '{"パスワード":"§"}', '{"mot_de_passe":"§"}',
    )),
    "form": (FORM, (
        "user=m&password=§&remember=on", "grant_type=password&username=m&password=§",
        "grant_type=authorization_code&code=§&redirect_uri=https%3A%2F%2Fa%2Fcb&client_id=x",
        "grant_type=refresh_token&refresh_token=§", "client_assertion_type=urn&client_assertion=§", "code_verifier=§&a=1",
        "token=§&team_id=T1&command=%2Fweather", "card%5Bnumber%5D=4242424242424242&card%5Bcvc%5D=§",
        "user%5Bpassword%5D=§&commit=Log+in", "authenticity_token=§&_method=put", "__RequestVerificationToken=§&x=1",
        "_token=§&_method=PUT", "csrfmiddlewaretoken=§&next=%2F", "SAMLResponse=§&RelayState=x", "log=admin&pwd=§&wp-submit=Log+In",
        "j_username=m&j_password=§", "payload=%7B%22token%22%3A%22§%22%7D", "body=%3Cpassword%3E§%3C%2Fpassword%3E",
        "data=user%3Dm%26password%3D§", "url=https%3A%2F%2Fm%3A§%40h%2F", "password1=§&password2=§", "m=1&pin=§&ok=1",
        "state=%7B%22api_key%22%3A+%22§%22%7D&v=1", "key=password&value=§", "id_token_hint=§&x=1",
        "AccountSid=AC1&AuthToken=§", "oauth_token=§&oauth_verifier=x", "oauth_signature=§&oauth_nonce=1", "api_dev_key=§&api_option=paste",
        "text=my+password+is+§", "json=%5B%7B%22name%22%3A%22password%22%2C%22value%22%3A%22§%22%7D%5D",
    )),
    "xml": (XML, (
        '<wsse:UsernameToken><wsse:Username>m</wsse:Username><wsse:Password Type="#PasswordText">§</wsse:Password></wsse:UsernameToken>',
        "<s:Body><Login xmlns='u'><userName>m</userName><password>§</password></Login></s:Body>",
        "<AssumeRoleResponse><Credentials><SecretAccessKey>§</SecretAccessKey></Credentials></AssumeRoleResponse>",
        "<methodCall><params><param><value><struct><member><name>password</name><value><string>§</string></value></member></struct></value></param></params></methodCall>",
        "<member><name>api_key</name>\n  <value>§</value></member>", '<add key="ApiKey" value="§"/>', '<add value="§" key="ClientSecret" />',
        '<connectionStrings><add name="x" connectionString="Server=.;User Id=sa;Password=§;"/></connectionStrings>',
        "<key>Password</key><string>§</string>", "<dict><key>token</key>\n\t<string>§</string></dict>",
        "<server><id>central</id><username>m</username><password>§</password></server>", '<property name="hibernate.connection.password">§</property>',
        '<property name="password" value="§"/>', "<ds:SignatureValue>\n§\n</ds:SignatureValue>", '<input name="password" value="§"/>',
        "<e name='secret'><![CDATA[§]]></e>", "<r><![CDATA[{\"password\":\"§\"}]]></r>", "<url>https://m:§@h/x</url>",
        '<user login="m" password="§" age="3"/>', "<Password>\r\n   §\r\n</Password>", "<p:authToken xmlns:p='x'>§</p:authToken>",
        "<entry key='db.password'>§</entry>", "<Parameter Name='Pin' Value='§'/>", "<header name='Authorization'>Bearer §</header>",
        "<D:locktoken>x</D:locktoken><D:password>§</D:password>", "<a b='{&quot;token&quot;:&quot;§&quot;}'/>", "<a href='https://h/?api_key=§&amp;b=1'/>",
    )),
    "page": (HTML, (
        '<form><input type="hidden" name="csrf-token" value="§"></form>', '<meta name="csrf-token" content="§">', '<meta content="§" name="csrf-token">',
        '<div data-page="{&quot;auth&quot;:{&quot;token&quot;:&quot;§&quot;}}"></div>', '<script>window.__STATE__={"session":{"accessToken":"§"}}</script>',
        '<script id="__NEXT_DATA__" type="application/json">{"props":{"apiKey":"§"}}</script>', "<script>var token = '§';</script>",
        "<script>gapi.init({apiKey: '§', clientId: 'x'})</script>", "<p>Your temporary password is <strong>§</strong></p>",
        "<p>Your password: <code>§</code></p>", '<a href="https://h/reset?token=§&u=1">Reset</a>', "<tr><td>API key</td><td>§</td></tr>",
        "<table><tr><th>User</th><th>Password</th></tr><tr><td>m</td><td>§</td></tr></table>", "<dl><dt>Secret key</dt><dd>§</dd></dl>",
        "<pre>export API_KEY=§\nrun</pre>", "<li><b>Password:</b> §</li>", "<textarea name='private_key'>§</textarea>", "<!-- password: § -->",
        '<button data-clipboard-text="§" data-token="§">Copy</button>', '<input id=pw type=password value=§>', "<label>PIN <input value='§'></label>",
        "<td class=k>password</td>\n<td class=v>§</td>", "<h3>Client secret</h3><p>§</p>", "<span>Password</span>: <span>§</span>",
        '<option value="§" name="token">x</option>', '<x-app api-key="§"></x-app>', "<script>fetch('/x',{headers:{'X-Api-Key':'§'}})</script>",
        '<iframe src="https://h/embed?access_token=§"></iframe>', "<p>Login: mira<br>Password: §<br>Bye</p>", "<b>Password</b><br>§",
    )),
    "settings file": (TEXT, (
        "DB_HOST=h\nDB_PASSWORD=§\nDEBUG=1\n", 'export SECRET_KEY="§"\n', "API_KEY='§' # live\nB=1\n", "TOKEN = §\n", "spring.datasource.password=§\n",
        "spring.datasource.password = §\nx=1\n", "db.password: §\n", "password=§\r\nuser=m\r\n", "[db]\nuser = m\npassword = §\n", 'password = "§"\n[x]\n',
        "[default]\naws_access_key_id = x\naws_secret_access_key = §\n", "//registry.npmjs.org/:_authToken=§\n", "_auth=§b\nemail=m@x.io\n",
        "_password=§b\n", "[global]\nindex-url = https://m:§@pypi.x/simple\n", "machine h login m password §\n", "machine h\n  login m\n  password §\n",
        "https://m:§@github.com\n", "[user]\n\ttoken = §\n", "users:\n- name: a\n  user:\n    token: §\n", "users:\n- user:\n    client-key-data: §\n",
        "environment:\n  - DB_PASSWORD=§\n  - A=1\n", "environment:\n  POSTGRES_PASSWORD: §\n", "ansible_become_password: §\n", "web1 ansible_host=1.2.3.4 ansible_password=§ x=1\n",
        "production:\n  secret_key_base: §\n", "production:\n  <<: *default\n  password: '§'\n", "password: >-\n  §\nuser: m\n", "password: |\n  §\nx: 1\n",
        "password:\n    §\n", "- name: x\n  password: §\n", "? password\n: §\n", "{password: §, user: m}\n", "creds: {user: m, password: '§'}\n", "password:   \t§\n", '"password": "§",\n',
        "db:\n  password: !vault §\n", "password: &p §\n", 'variable "db_password" {\n  default = "§"\n}\n', 'resource "x" "y" {\n  password = "§"\n}\n', 'master_password   =   "§"\n',
        "SECRET_KEY = '§'\nDEBUG = True\n", "DATABASES = {'default': {'PASSWORD': '§'}}\n", "define('DB_PASSWORD', '§');\n", "define( \"AUTH_KEY\",   '§' );\n",
        "$db['default']['password'] = '§';\n", "'password' => '§',\n", "$config->password = \"§\";\n", "requirepass §\n", "masterauth §\n", "bind_pw: §\n", "olcRootPW: §\n", "userPassword: §\n", "rpcpassword=§\n",
        "wpa_passphrase=§\n", 'psk="§"\n', "enable secret 5 §\n", "username m password 0 §\n", "snmp-server community § RO\n", "PrivateKey = §\n", "PresharedKey = §\n",
        "smtp_sasl_password = §\n", "auth_pass §\n", "ENV API_KEY=§\n", "ENV API_KEY §\n", "ARG TOKEN=§\n", "env.API_TOKEN = '§'\n", "secrets:\n  api_key: §\n", "credentials:\n  - §\n  - x\n",
        "proxy_set_header Authorization \"Bearer §\";\n", "AuthUserFile /x\nSetEnv API_KEY §\n", "http_proxy=http://m:§@p:3128\n", "jdbc:mysql://h/db?user=m&password=§\n", "jdbc:sqlserver://h;user=m;password=§;x=1\n",
        "amqp://m:§@mq/v\n", "mongodb+srv://m:§@c.x.net/db?w=majority\n", "redis://:§@h:6379/0\n", "Server=h;Uid=m;Pwd=§;\n", "Data Source=h;Password=§;User ID=m\n", "host=h user=m password=§ dbname=x\n", "sftp://m:§@h/x\n",
        "password\t§\n", "password§".replace("§", " : §") + "\n", "Password ..... : §\n", "Password => §\n", "password -> §\n", "pass: §\n", "Passwort: §\n", "Mot de passe : §\n", "Contraseña: §\n", "密码：§\n", "パスワード：§\n", "Пароль: §\n", "Hasło: §\n",
    )),
    "code": (TEXT, (
        'const apiKey = "§";\n', "process.env.API_KEY = '§'\n", "let token = \"§\";\n", "headers: { 'X-Api-Key': '§' }\n", "Authorization: `token §`\n", 'os.Setenv("API_KEY", "§")\n',
        'client = Client(api_key="§", x=1)\n', "password = '§'\n", 'String password = "§";\n', 'private static final String API_KEY = "§";\n', '.password("§")\n', ".withPassword('§')\n", 'setPassword("§");\n', 'conn.set_password("§")\n',
        "auth = HTTPBasicAuth('m', '§')\n", "self.token = '§'\n", '@password = "§"\n', "token: str = '§'\n", 'API_KEY: &str = "§";\n', 'var password string = "§"\n', 'password := "§"\n', "val secret = \"§\"\n", "#define API_KEY \"§\"\n", "local token = '§'\n", '$password = ConvertTo-SecureString "§" -AsPlainText -Force\n',
        "{'user': 'm', 'password': '§'}\n", '{"password"=>"§"}\n', '{:password=>"§", :a=>1}\n', '{password: "§"}\n', "User{name='m', password='§'}\n", "User(name=m, password=§, x=1)\n", "{User:mira Password:§ Age:3}\n", 'Login { user: "m", password: "§" }\n', "Login { User = m, Password = § }\n", "Array\n(\n    [password] => §\n    [a] => 1\n)\n", 'array(1) {\n  ["password"]=>\n  string(8) "§"\n}\n',
        '%{password: "§"}\n', "$VAR1 = { 'password' => '§' };\n", '{password,"§"}\n', '{:password "§" :user "m"}\n', 'password: "§" user: "m"\n', "<Login user='m' password='§'>\n", "Login(user='m', password='§')\n", "{'headers': {'Authorization': 'Bearer §'}}\n", "{'token': b'§'}\n", 'a:2:{s:4:"user";s:1:"m";s:8:"password";s:9:"§";}\n',
        'level=info msg=login password="§"\n', "level=info msg=login password=§ x=1\n", '2026-11-28 INFO login {"password": "§"}\n', "2026-11-28 INFO token=§\n", 'CEF:0|x|y|1|1|login|3|cs1Label=password cs1=§\n', '<34>1 2026 h app - - [x@1 password="§"]\n', "    password = '§'\n    user = 'm'\nKeyError: 1\n", "at login(user=m, password=§)\n", 'WARN bad credentials: m / § from 1.2.3.4\n',
        "params: user=m&password=§\n", "Parameters: {\"user\"=>\"m\", \"password\"=>\"§\"}\n", "GET /x?token=§ HTTP/1.1\n", '1.2.3.4 - - [28/Nov/2026] "GET /x?api_key=§&a=1 HTTP/1.1" 200 1\n', "> X-Api-Key: §\n< HTTP/1.1 200\n", "< Set-Cookie: sid=§; Path=/\n", "POST /login HTTP/1.1\r\nHost: h\r\nCookie: session=§\r\n\r\na=1\n", "POST /login HTTP/1.1\r\nHost: h\r\nContent-Type: application/x-www-form-urlencoded\r\n\r\nuser=m&password=§",
        "POST /l HTTP/1.1\nContent-Type: application/json\n\n{\"password\":\"§\"}\n", "Authorization: Basic §b\n", "authorization: Bearer §\n", "Proxy-Authorization: Basic §b\n", "x-auth-token: §\n", "--b\r\nContent-Disposition: form-data; name=\"password\"\r\n\r\n§\r\n--b--\r\n", "SetEnvironmentVariable(\"TOKEN\",\"§\")\n", "$env:API_KEY = \"§\"\n", "set PASSWORD=§\r\n", "setx TOKEN §\r\n",
    )),
    "shell": (TEXT, (
        "export TOKEN=§\n", "PGPASSWORD=§ psql -h h\n", "mysql -uroot -p§ db\n", "mysql --password=§ db\n", "curl -H 'Authorization: Bearer §' https://h\n", "curl -u m:§ https://h\n", "curl --user 'm:§' https://h\n", "curl https://m:§@h/\n", "curl -d 'user=m&password=§' https://h\n", 'curl -d \'{"password":"§"}\' https://h\n', 'curl -d "{\\"password\\":\\"§\\"}" https://h\n', "curl -F password=§ https://h\n", "curl -b 'session=§' https://h\n", "curl -H \"X-Api-Key: §\" https://h\n",
        "http -a m:§ https://h\n", "wget --password=§ https://h\n", "aws configure set aws_secret_access_key §\n", "htpasswd -b f m §\n", "openssl rsa -passin pass:§ -in k\n", "sshpass -p '§' ssh h\n", "sshpass -p§ ssh h\n", "echo 'm:§' | chpasswd\n", "mongo -u a -p §\n", "mongosh -u a --password §\n", "redis-cli -h h -a § ping\n", "rabbitmqctl add_user m §\n", "keytool -storepass § -list\n", "az login --service-principal -u x -p §\n", "vault login §\n", "docker login -u m -p § h\n", "helm registry login -u m -p § h\n",
        "ansible-vault encrypt_string '§' --name 'db_password'\n", "psql \"postgresql://m:§@h/db\"\n", "kubectl create secret generic x --from-literal=password=§\n", "gh secret set API_KEY --body \"§\"\n", "gh secret set API_KEY -b§\n", "heroku config:set SECRET_KEY=§\n", "docker run -e POSTGRES_PASSWORD=§ pg\n", "terraform apply -var 'db_password=§'\n", "net use x: \\\\s\\x /user:m §\n", "run --token § --x\n", "run --token=§ --x\n", "run --api-key \"§\"\n", "run -password §\n", "run /password:§ /x\n", "git clone https://oauth2:§@gitlab.x/r.git\n", "git remote add o https://§u@github.com/o/r.git\n", "sudo -S <<< '§'\n", "echo $TOKEN > x; TOKEN=§; run\n", "export A=1 API_TOKEN='§' B=2\n", "ldapsearch -D cn=a -w § -b x\n", "snowsql -u m --password § \n", "npm config set //r.npmjs.org/:_authToken §\n", "twine upload -u m -p § d/*\n", "smbclient //h/x -U m%§\n", "lftp -u m,§ h\n", "export TOKEN=$(echo §)\n",
    )),
    "sql": (TEXT, (
        "ALTER USER m WITH PASSWORD '§';\n", "CREATE USER 'm'@'h' IDENTIFIED BY '§';\n", "UPDATE users SET password='§', x=1 WHERE id=1;\n", "UPDATE users SET x=1, \"password\" = '§' WHERE id=1;\n", "INSERT INTO users (id, password, name) VALUES (1, '§', 'm');\n", "INSERT INTO `users` (`id`,`password`) VALUES (1,'x'),(2,'§');\n", "INSERT INTO users(api_key) SELECT '§';\n", "SET PASSWORD FOR 'm' = PASSWORD('§');\n", "GRANT ALL ON x.* TO 'm'@'%' IDENTIFIED BY '§';\n", "COPY users (id, password, name) FROM stdin;\n1\t§\tm\n\\.\n", "SELECT * FROM u WHERE token = '§' LIMIT 1\n", "SELECT * FROM u WHERE u.api_key IN ('x', '§')\n", "CREATE ROLE m LOGIN PASSWORD '§';\n", "EXEC sp_addlogin @loginame='m', @passwd='§'\n", "CREATE LOGIN m WITH PASSWORD = N'§';\n", "REPLACE INTO t SET a=1, secret='§';\n", " id | password | name\n----+----------+------\n  1 | § | m\n", "+----+----------+\n| id | password |\n+----+----------+\n|  1 | § |\n+----+----------+\n", "*************************** 1. row ***************************\n      id: 1\npassword: §\n", "-[ RECORD 1 ]--\nid       | 1\npassword | §\n",
    )),
    "csv": (TEXT, (
        "name,url,username,password\nGoogle,https://x,m,§\n", "name;password;age\nm;§;3\n", "password\n§\nother1x\n", "id\tpassword\n1\t§\n", "\"id\",\"password\"\n\"1\",\"§\"\n", "folder,favorite,type,login_password\n,1,login,§\n", "| user | password |\n|---|---|\n| m | § |\n", "title,notes\nx,\"password: §\"\n", "a,b\n1,\"{\"\"token\"\":\"\"§\"\"}\"\n", "key,value\npassword,§\n", "key;value\napi_key;§\n", "field|value\ntoken|§\n", "Name\tValue\nPassword\t§\n",
    )),
    "mail": (TEXT, (
        "Hello,\nyour password is §\nBye\n", "Your new password: §\n", "Login: mira\nPassword: §\n\nRegards\n", "Ihr Passwort lautet: §\n", "Your API key is \"§\".\n", "Here is your token:\n\n§\n\nKeep it.\n", "Password:\n§\n", "user: m, password: §, url: https://h\n", "(password: §)\n", "My password is '§' please help\n", "credentials are m/§\n", "reset: https://h/reset?token=§\n", "secret=§, b=2\n", "*Password*: §\n", "**API Key:** `§`\n", "- Password: §\n- User: m\n", "> password: §\n", "password § was set\n", "the token (§) is wrong\n", "Token '§' is expired\n", "invalid api key: §\n", "Incorrect API key provided: §.\n", "password \"§\" does not match\n", "pw=§\n", "PIN code: §\n", "password changed from x1y2z3w4 to §\n", "su contraseña es §\n", "votre mot de passe est §\n", "パスワードは§です\n", "密码是§\n", "Ваш пароль: §\n", "ваш пароль — §\n",
    )),
}  # fmt: skip
# Templates in which the name comes after the value: when it is cut off, nothing identifies the secret.
NAME_LAST = frozenset({
    "echo 'm:§' | chpasswd\n", '{"message":"Invalid value \\"§\\" for field password"}',
    '<button data-clipboard-text="§" data-token="§">Copy</button>', '<meta content="§" name="csrf-token">',
    '<option value="§" name="token">x</option>', '<add value="§" key="ClientSecret" />', "curl -b 'session=§' https://h\n",
})  # fmt: skip
HEADERS = (
    "x-auth-token: §", "x-amz-security-token: §", "x-vault-token: §", "private-token: §", "x-shopify-access-token: §", "apikey: §", "ocp-apim-subscription-key: §", "x-goog-api-key: §", "dd-api-key: §", "x-plex-token: §", "x-csrftoken: §", "proxy-authorization: Basic §b", "sec-websocket-protocol: bearer, §", "authorization: Token §", "authorization: Digest username=\"m\", response=\"§\"", "authorization: AWS4-HMAC-SHA256 Credential=x, Signature=§", "authorization: §", "cookie: sid=§", "cookie: a=1; session=%22§%22; b=2", "set-cookie: session=§; HttpOnly", "x-access-token: §", "x-forwarded-authorization: Bearer §", "authentication: §", "x-ms-token-aad-access-token: §", "x-api-secret: §", "x-hub-signature-256: sha256=§", "stripe-signature: t=1,v1=§", "x-telegram-bot-api-secret-token: §", "location: https://a/cb?code=§&state=x1", "location: https://a/cb#access_token=§&token_type=bearer", "referer: https://a/reset?token=§", "referer: https://m:§@h/x", "link: <https://h/x?api_key=§>; rel=\"next\"", "refresh: 0; url=https://h/?token=§", "x-original-url: /x?password=§", "x-debug: {\"password\":\"§\"}", "x-note: password=§", "warning: 199 - \"token=§\"", "x-registry-auth: §j", "x-amzn-trace: token=§;x=1", "grpc-metadata-authorization: Bearer §", "www-authenticate: Negotiate §", "x-api-key: §", "cf-access-client-secret: §", "x-session-id: §", "x-user-pin: §", "forwarded: for=x;token=§", "x-request-body: user=m&password=§", "sec-token-binding: §", "x-rapidapi-key: §", "x-amz-cf-secret: §", "fly-api-token: §", "x-gitlab-token: §", "x-slack-signature: v0=§", "x-twilio-signature: §", "authorization-token: §",
)  # fmt: skip
URLS = (
    "/x?token=§", "/x?a=1&api_key=§&b=2", "/x;jsessionid=§?a=1", "/cb?code=§&state=abc", "/x?X-Amz-Signature=§&X-Amz-Date=1", "/x?sig=§&sv=1", "/login?next=%2Fa%3Ftoken%3D§", "/x?q=password%3A%20§", "/x?filter[password]=§", "/x?data=%7B%22secret%22%3A%22§%22%7D", "/x?u=https://m:§@h/", "/x?a=b?token=§", "/x?access_token=§#y", "/ws?auth=§&v=1", "/x?PASSWORD=§", "/x?pass=§", "/x?pwd=§&", "/x?&&token=§", "/x?token[]=§", "/x?token[0]=§", "/x?user.token=§", "/hooks/token=§/x", "/x?hub.verify_token=§", "/logout?id_token_hint=§", "/x?ticket=ST-1&pgtId=1&password=§",
)  # fmt: skip


class Planted(NamedTuple):
    group: str
    template: str
    secret: str
    exchange: Exchange


def secret(rng: random.Random) -> str:
    kind = rng.randrange(8)
    if kind == 0:
        return f"Tulip{rng.randrange(10**5)}Bulb"
    if kind == 1:
        return "".join(rng.choices(_LETTERS, k=8)) + "!" + str(rng.randrange(10, 99)) + "q"
    if kind == 2:
        return f"{rng.getrandbits(160):040x}"
    if kind == 3:
        return "zK" + "".join(rng.choices(_LETTERS + "-_", k=28)) + "9"
    if kind == 4:
        return "h" + "".join(rng.choices(_LETTERS, k=30)) + "+/" + "".join(rng.choices(_LETTERS, k=9)) + "4="
    if kind == 5:
        return "Correct-Horse-" + str(rng.randrange(10**4))
    if kind == 6:
        return f"sunflower{rng.randrange(10**3, 10**4)}"
    return (
        "".join(rng.choices("abcdefghjkmnp23456789", k=5))
        + "7-"
        + "".join(rng.choices("abcdefghjkmnp23456789", k=5))
        + "x"
    )


def filled(template: str, value: str, spelled: str) -> str:
    basic = base64.b64encode(f"mira:{value}".encode()).decode()
    document = base64.b64encode(json.dumps({"username": "m", "password": value}).encode()).decode()
    return (
        template.replace("§u", quote(value, safe="")).replace("§b", basic).replace("§j", document).replace("§", spelled)
    )


def spelled(value: str, kind: str, template: str) -> str:
    if kind == FORM:
        return quote_plus(quote_plus(value)) if "%3D§" in template else quote_plus(value)
    if kind in (XML, HTML):
        return html.escape(value)
    return value


def wrapped(rng: random.Random, text: str, kind: str) -> tuple[str, str]:
    """The document inside another one; most stay unchanged."""
    way = rng.randrange(16)
    if way == 0:
        return json.dumps({"log": text, "n": 1}), JSON
    if way == 1 and kind != FORM:
        return "a=1&note=" + quote_plus(text), FORM
    if way == 2:
        return json.dumps([{"items": [{"message": text}]}], indent=1), JSON
    if way == 3 and kind == JSON:
        return "data: " + text.replace("\n", " ") + "\n\n", TEXT
    if way == 4 and kind == JSON:
        return '{"ok":1}\n' + text.replace("\n", " ") + "\n", TEXT
    if way == 5 and kind == JSON:
        return json.dumps({"body": json.dumps({"inner": text})}), JSON
    if way == 6 and kind in (JSON, TEXT) and '["mysql"' not in text:
        return f"<r><x>{html.escape(text)}</x></r>", XML
    if way == 7 and kind in (JSON, FORM) and "assword" in text:
        return json.dumps({"data": base64.b64encode(text.encode()).decode()}), JSON
    return text, kind


def planted(seed: int, *, cut: bool = False, wrap: bool = True) -> Planted:
    rng = random.Random(f"wild {seed}")
    value = secret(rng)
    groups = [*TEMPLATES, "header", "url"]
    group = rng.choices(groups, weights=[*(len(t) for _, t in TEMPLATES.values()), len(HEADERS), len(URLS)])[0]
    if group == "header":
        template = rng.choice(HEADERS)
        name, _, text = filled(template, value, quote(value, safe="") if "?" in template else value).partition(": ")
        side = rng.choice(["headers", "answer_headers"])
        return Planted(group, template, value, make_exchange("POST", **{side: [(name.encode(), text.encode())]}))
    if group == "url":
        template = rng.choice(URLS)
        path, _, query = filled(template, value, quote(value, safe="")).partition("?")
        x = make_exchange("GET", path, query=query.encode())
        return Planted(group, template, value, x)
    kind, templates = TEMPLATES[group]
    template = rng.choice(templates)
    text = filled(template, value, spelled(value, kind, template))
    if group in ("settings file", "code", "shell", "sql", "mail") and rng.random() < 0.3:
        text = "# notes\nall is well\n" + text + "\nthe end\n"
    if wrap:
        text, kind = wrapped(rng, text, kind)
    data = text.encode()
    side = rng.choice(["request", "response"])
    if side == "request":
        x = make_exchange("POST", body=data, content_type=TYPES[kind])
    else:
        x = make_exchange("POST", answer=data, answer_type=TYPES[kind])
    if cut:
        kept = rng.randrange(max(1, len(data) * 2 // 3), len(data) + 1)
        setattr(x, f"{side}_body", make_body(data + b" " * 10, kept=kept))
    return Planted(group, template, value, x)

"""What a web page can reach of the local AWS: nothing but the API. The real launcher runs here, on its own port."""

import base64
import io
import json
import subprocess
import sys
import time
import urllib.parse
import uuid
import zipfile

import boto3
import botocore.session
import psutil
import pytest
import requests
from botocore.auth import SigV4QueryAuth
from botocore.awsrequest import AWSRequest
from wire import ask, free_port, raw

from infra.local.lifecycle import cloud, ports
from infra.local.settings import REGION

PATIENCE = 60
EVIL = "https://evil.example"
NO_BROWSER = (
    "The local AWS answers no browser, because every web page could use it. Use the AWS CLI, an SDK or curl. The API "
    "itself answers browsers at /_aws/execute-api/<id>/.\n"
)
WRONG_HOST = (
    "This machine answers only to its own name: send one Host header with 127.0.0.1, localhost or "
    "<id>.execute-api.localhost.\n"
)
NO_PROXY = "This is not a proxy: send only the path in the request line, such as GET /path.\n"
NO_KEYS = "A browser may not use AWS credentials here. Use an SDK or curl, or send a bearer token.\n"
API = "/_aws/execute-api/5c0ffee5/posts"
# What each kind of browser adds to a request of a page. {own} is the port's own origin.
BROWSERS = [
    {"Origin": EVIL, "Sec-Fetch-Site": "cross-site", "User-Agent": "Mozilla/5.0"},
    {"Origin": EVIL},
    {"Origin": "null"},
    {"Sec-Fetch-Site": "cross-site"},
    {"Sec-Fetch-Site": "same-site"},
    # A page that the API serves, whose origin is that of the port.
    {"Origin": "{own}", "Sec-Fetch-Site": "same-origin", "Referer": "{own}/_aws/execute-api/5c0ffee5/docs"},
    {"Sec-Fetch-Site": "same-origin"},
    # A link in another program.
    {"Sec-Fetch-Site": "none", "Sec-Fetch-Mode": "navigate"},
    # Old browsers, the last one without a referrer.
    {"Referer": f"{EVIL}/page"},
    {"User-Agent": "Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/605.1.15 Safari/605.1.15"},
]
FOREIGN_HOSTS = [
    "evil.example",
    "evil.example:{port}",
    "127.0.0.1.evil.example:{port}",
    "localhost.evil.example",
    "localhost.:{port}",
    "evil@127.0.0.1:{port}",
    "127.0.0.1:{port}, evil.example",
    "evil.localhost:{port}",
    "sqs.us-east-1.amazonaws.com",
    "5c0ffee5.execute-api.evil.example",
    "169.254.169.254",
    "0.0.0.0:{port}",
    "",
]


class Cloud:
    def __init__(self, port, process):
        self.port, self.process = port, process
        self.url = f"http://127.0.0.1:{port}"

    def client(self, service):
        keys = {"aws_access_key_id": "test", "aws_secret_access_key": "test"}
        return boto3.client(service, endpoint_url=self.url, region_name=REGION, **keys)

    def presigned(self, action, **parameters):
        """The path of a request that creates or changes something by GET, as a page can embed it."""
        query = urllib.parse.urlencode({"Action": action, **parameters})
        request = AWSRequest("GET", f"{self.url}/?{query}")
        session = botocore.session.Session()
        session.set_credentials("test", "test")
        SigV4QueryAuth(session.get_credentials(), "sqs", REGION).add_auth(request)
        return request.url.removeprefix(self.url)

    def queues(self):
        return {url.rsplit("/", 1)[1] for url in self.client("sqs").list_queues().get("QueueUrls", [])}

    def filled(self, headers):
        return {name: value.format(own=self.url, port=self.port) for name, value in headers.items()}


def start(port, folder):
    """Starts the launcher with the environment of `make up`, but another port and folder."""
    environment = cloud._environment()
    environment |= {"GATEWAY_PORT": str(port), "AWS_ENDPOINT_URL": f"http://127.0.0.1:{port}"}
    environment |= {"HOME": str(folder), "TMPDIR": str(folder / "tmp")}
    environment |= {"STATE_DIR": str(folder / "state"), "S3_DATA_DIR": str(folder / "state" / "s3")}
    for name in ("tmp", "state"):
        (folder / name).mkdir(exist_ok=True)
    with (folder / "log").open("w") as log:
        command = [sys.executable, "-I", "-u", str(ports.LAUNCHER)]
        process = subprocess.Popen(command, env=environment, cwd=folder, stdout=log, stderr=subprocess.STDOUT)
    deadline = time.monotonic() + PATIENCE
    while True:
        try:
            assert requests.get(f"http://127.0.0.1:{port}/_ministack/health", timeout=2).ok
            return process
        except requests.ConnectionError:
            assert process.poll() is None and time.monotonic() < deadline, (folder / "log").read_text()
            time.sleep(0.1)


@pytest.fixture(scope="module")
def aws(tmp_path_factory):
    port, folder = free_port(), tmp_path_factory.mktemp("cloud")
    process = start(port, folder)
    yield Cloud(port, process.pid)
    process.terminate()
    assert process.wait(PATIENCE) == 0


def assert_refused(answer, status, text):
    code, headers, body = answer
    assert (code, body) == (status, text)
    assert headers["content-type"] == "text/plain; charset=utf-8"
    assert [name for name in headers if name.lower().startswith("access-control-")] == []


# ---- browsers


def test_a_presigned_request_of_a_tool_is_executed(aws):
    """The control of the tests below: what they send does something without a browser's marks."""
    name = f"control-{uuid.uuid4()}"
    assert ask(aws.port, aws.presigned("CreateQueue", QueueName=name))[0] == 200
    assert name in aws.queues()


@pytest.mark.parametrize("headers", BROWSERS, ids=str)
def test_a_presigned_request_of_a_page_is_refused_and_not_executed(aws, headers):
    before = aws.queues()
    path = aws.presigned("CreateQueue", QueueName=f"evil-{uuid.uuid4()}")
    assert_refused(ask(aws.port, path, **aws.filled(headers)), 403, NO_BROWSER)
    assert aws.queues() == before


@pytest.mark.parametrize("headers", BROWSERS, ids=str)
@pytest.mark.parametrize(
    "media_type", ["text/plain", "application/x-www-form-urlencoded", "application/x-amz-json-1.0"]
)
def test_a_posted_request_of_a_page_is_refused_and_not_executed(aws, headers, media_type):
    before = aws.queues()
    body = f"Action=CreateQueue&QueueName=evil-{uuid.uuid4()}"
    path = aws.presigned("ListQueues").replace("Action=ListQueues&", "")
    answer = ask(aws.port, path, "POST", body, **aws.filled(headers), **{"Content-Type": media_type})
    assert_refused(answer, 403, NO_BROWSER)
    assert aws.queues() == before


@pytest.mark.parametrize("headers", BROWSERS, ids=str)
@pytest.mark.parametrize(
    "path", ["/_ministack/reset", "/_ministack/reset?init=1", "/_ministack/config", "/%5Fministack/reset"]
)
def test_a_page_cannot_reset_or_configure_the_emulator(aws, headers, path):
    kept = f"kept-{uuid.uuid4()}"
    aws.client("sqs").create_queue(QueueName=kept)
    assert_refused(ask(aws.port, path, "POST", "{}", **aws.filled(headers)), 403, NO_BROWSER)
    assert kept in aws.queues()


@pytest.mark.parametrize(
    "path",
    [
        "/",
        "/bucket/key",
        "/2015-03-31/functions",
        "/_ministack/reset",
        "/_ministack/ses/messages",
        "/pool/.well-known/jwks.json",
    ],
)
def test_a_preflight_allows_nothing(aws, path):
    wanted = {"Access-Control-Request-Method": "POST", "Access-Control-Request-Headers": "x-amz-target"}
    wanted |= {"Access-Control-Request-Private-Network": "true"}
    assert_refused(ask(aws.port, path, "OPTIONS", Origin=EVIL, **wanted), 403, NO_BROWSER)


def test_no_answer_outside_the_api_allows_other_origins(aws):
    aws.client("sqs").create_queue(QueueName="cors")
    for method, path in [
        ("GET", "/_ministack/health"),
        ("GET", "/_ministack/ses/messages"),
        ("OPTIONS", "/"),
        ("GET", aws.presigned("ListQueues")),
        ("GET", "/bucket/key"),
    ]:
        _, headers, _ = ask(aws.port, path, method)
        assert [name for name in headers if name.lower().startswith("access-control-")] == [], path


@pytest.mark.parametrize("path", ["/", API])
def test_a_websocket_of_a_page_is_refused_outside_the_api(aws, path):
    answer = raw(
        aws.port,
        f"GET {path} HTTP/1.1\r\nHost: 127.0.0.1:{aws.port}\r\nOrigin: {EVIL}\r\nUpgrade: websocket\r\n"
        "Connection: Upgrade\r\nSec-WebSocket-Version: 13\r\n"
        "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n".encode(),
    )
    assert answer.startswith(b"HTTP/1.1 403 ")
    assert answer.endswith(NO_BROWSER.encode()) == (path == "/")


def test_an_open_listing_can_be_typed_but_not_read_by_a_page(aws):
    for path in ("/_ministack/health", "/_ministack/ses/messages", "/_ministack/sqs/messages"):
        typed = {"Sec-Fetch-Site": "none", "Sec-Fetch-Mode": "navigate", "User-Agent": "Mozilla/5.0"}
        assert ask(aws.port, path, **typed)[0] == 200, path
        for headers in (BROWSERS[0], {"Sec-Fetch-Site": "same-site"}, {"Referer": f"{EVIL}/"}):
            assert_refused(ask(aws.port, path, **headers), 403, NO_BROWSER)


# ---- the API


@pytest.mark.parametrize("headers", BROWSERS, ids=str)
def test_the_api_answers_every_origin_itself(aws, headers):
    status, _, body = ask(aws.port, API, **aws.filled(headers))
    assert (status, json.loads(body)) == (404, {"message": "Not Found"})  # no API is deployed here


@pytest.mark.parametrize("headers", BROWSERS, ids=str)
def test_no_page_calls_the_api_with_the_known_aws_keys(aws, headers):
    query = aws.presigned("x").partition("?")[2]
    assert_refused(ask(aws.port, f"{API}?{query}", **aws.filled(headers)), 403, NO_KEYS)
    assert_refused(ask(aws.port, f"{API}?AWSAccessKeyId=test&Signature=x", **aws.filled(headers)), 403, NO_KEYS)
    sigv4 = "AWS4-HMAC-SHA256 Credential=test/20260101/us-east-1/execute-api/aws4_request"
    for signature in (sigv4, "AWS test:x", "aws test:", "Basic dGVzdDp0ZXN0"):
        signed = aws.filled(headers) | {"Authorization": signature}
        assert_refused(ask(aws.port, API, **signed), 403, NO_KEYS)
    token = aws.filled(headers) | {"Authorization": "Bearer x"}
    assert ask(aws.port, API, **token)[0] == 404


@pytest.mark.parametrize(
    "path",
    [
        "/_aws/execute-api/5c0ffee5",
        "/_aws/execute-api//reset",
        "//_aws/execute-api/5c0ffee5/",
        "/x/_aws/execute-api/5c0ffee5/",
    ],
)
def test_a_path_that_only_resembles_the_apis_is_not_the_api(aws, path):
    assert_refused(ask(aws.port, path, Origin=EVIL), 403, NO_BROWSER)


def test_a_host_of_the_api_is_for_tools_only(aws):
    """The emulator serves its own paths on that host too."""
    host = f"5c0ffee5.execute-api.localhost:{aws.port}"
    assert json.loads(ask(aws.port, "/posts", Host=host)[2]) == {"message": "Not Found"}
    assert_refused(ask(aws.port, "/_ministack/reset", "POST", Host=host, Origin=EVIL), 403, NO_BROWSER)


SIGN_IN = {"x-amz-target": "AWSCognitoIdentityProviderService.InitiateAuth", "Origin": "{own}"}


def sign_in(aws, path="/", **headers):
    body = json.dumps({"AuthFlow": "USER_PASSWORD_AUTH", "ClientId": "nobody", "AuthParameters": {}})
    chosen = {**SIGN_IN, "Content-Type": "application/x-amz-json-1.1", **headers}
    return ask(aws.port, path, "POST", body, **aws.filled(chosen))


@pytest.mark.parametrize(
    "headers", [{}, {"Sec-Fetch-Site": "same-origin", "Referer": "{own}" + API, "User-Agent": "Mozilla/5.0"}], ids=str
)
def test_the_apis_page_signs_people_in(aws, headers):
    status, _, body = sign_in(aws, **headers)
    assert (status, json.loads(body)["__type"]) == (400, "ResourceNotFoundException")


@pytest.mark.parametrize(
    ("path", "headers"),
    [
        ("/", {"Origin": EVIL}),
        ("/", {"Origin": "http://localhost:{port}"}),
        ("/", {"Sec-Fetch-Site": "same-site"}),
        ("/", {"Sec-Fetch-Site": "cross-site"}),
        ("/", {"Referer": f"{EVIL}/"}),
        ("/", {"x-amz-target": "AWSCognitoIdentityProviderService.AdminInitiateAuth"}),
        ("/", {"x-amz-target": "DynamoDB_20120810.ListTables"}),
        ("/", {"Authorization": "AWS4-HMAC-SHA256 Credential=test/20260101/us-east-1/sqs/aws4_request"}),
        ("/?Action=ListQueues", {}),
        ("/x", {}),
    ],
    ids=str,
)
def test_no_page_sends_anything_else_by_that_way(aws, path, headers):
    assert_refused(sign_in(aws, path, **headers), 403, NO_BROWSER)


# ---- hosts and targets


@pytest.mark.parametrize("host", FOREIGN_HOSTS)
@pytest.mark.parametrize("path", ["/", "/_ministack/health", "/_ministack/reset", API])
def test_a_foreign_host_is_refused(aws, host, path):
    kept = f"kept-{uuid.uuid4()}"
    aws.client("sqs").create_queue(QueueName=kept)
    answer = ask(aws.port, path, "POST", "", Host=host.format(port=aws.port))
    assert_refused(answer, 421, WRONG_HOST)
    assert kept in aws.queues()


@pytest.mark.parametrize("host", ["127.0.0.1", "127.0.0.1:{port}", "localhost", "LOCALHOST:{port}", "[::1]:{port}"])
def test_the_names_of_this_machine_are_answered(aws, host):
    assert ask(aws.port, "/_ministack/health", Host=host.format(port=aws.port))[0] == 200


def test_forwarding_headers_change_nothing(aws):
    own, forwarded = f"127.0.0.1:{aws.port}", ("X-Forwarded-Host", "X-Host", "X-Original-Host")
    for name in forwarded:
        assert ask(aws.port, "/_ministack/health", **{name: "evil.example"})[0] == 200
        assert_refused(ask(aws.port, "/_ministack/health", Host="evil.example", **{name: own}), 421, WRONG_HOST)
    assert_refused(ask(aws.port, "/", Host="evil.example", Forwarded=f"host={own}"), 421, WRONG_HOST)


@pytest.mark.parametrize("target", ["http://127.0.0.1:{port}/_ministack/reset", "http://evil.example/", "*", "evil:80"])
def test_a_target_that_is_no_path_is_refused(aws, target):
    request = f"POST {target} HTTP/1.1\r\nHost: 127.0.0.1:{aws.port}\r\nConnection: close\r\n\r\n"
    answer = raw(aws.port, request.format(port=aws.port).encode())
    assert answer.startswith(b"HTTP/1.1 400 ") and answer.endswith(NO_PROXY.encode())


@pytest.mark.parametrize(
    ("request_bytes", "status"),
    [
        (b"POST /_ministack/reset HTTP/1.0\r\n\r\n", 421),
        (b"POST /_ministack/reset HTTP/1.0\r\nHost: evil.example\r\n\r\n", 421),
        (b"POST /_ministack/reset HTTP/1.1\r\nConnection: close\r\n\r\n", 400),
        (b"POST /_ministack/reset HTTP/1.1\r\nHost: localhost\r\nHost: evil.example\r\n\r\n", 400),
        (b"POST /_ministack/reset HTTP/1.1\r\nHost: localhost\r\nHost: localhost\r\n\r\n", 400),
        (b"POST /_ministack/reset HTTP/1.0\r\nHost: localhost\r\nHost: localhost\r\n\r\n", 400),
        (b"POST /_ministack/reset HTTP/1.1\r\nHost: localhost\r\norigin: a\r\nConnection: close\r\n\r\n", 403),
        (b"POST /_ministack/reset HTTP/1.1\r\nHost: localhost\r\nOrigin:\r\nConnection: close\r\n\r\n", 403),
    ],
)
def test_a_request_without_one_host_or_with_an_odd_mark_is_refused(aws, request_bytes, status):
    kept = f"kept-{uuid.uuid4()}"
    aws.client("sqs").create_queue(QueueName=kept)
    assert raw(aws.port, request_bytes).startswith(f"HTTP/1.1 {status} ".encode())
    assert kept in aws.queues()


def test_a_large_body_of_a_refused_request_is_not_read(aws):
    head = f"POST / HTTP/1.1\r\nHost: localhost\r\nOrigin: {EVIL}\r\nContent-Length: 1000000000\r\n\r\n"
    assert raw(aws.port, head.encode()).startswith(b"HTTP/1.1 403 ")


# ---- tools


def test_sdks_curl_and_node_pass(aws):
    s3 = aws.client("s3")
    s3.create_bucket(Bucket="tools")
    s3.put_object(Bucket="tools", Key="a/b", Body=b"x" * 100_000)
    assert s3.get_object(Bucket="tools", Key="a/b")["Body"].read() == b"x" * 100_000
    assert aws.client("dynamodb").list_tables()["TableNames"] == []
    url = s3.generate_presigned_url("get_object", {"Bucket": "tools", "Key": "a/b"})
    curl = subprocess.run(["curl", "-sf", url], stdout=subprocess.PIPE, check=True)
    assert curl.stdout == b"x" * 100_000
    # What the fetch of Node.js sends.
    node = {"Sec-Fetch-Mode": "cors", "User-Agent": "node", "Accept-Language": "*"}
    assert ask(aws.port, "/_ministack/health", **node)[0] == 200


# ---- the Runtime API of functions

BOOTSTRAP = """#!{python}
import json, os, urllib.request
address = os.environ["AWS_LAMBDA_RUNTIME_API"]
root = "http://" + address + "/2018-06-01/runtime/invocation/"
while True:
    with urllib.request.urlopen(root + "next") as event:
        request = event.headers["Lambda-Runtime-Aws-Request-Id"]
    answer = json.dumps({{"address": address, "request": request}}).encode()
    urllib.request.urlopen(urllib.request.Request(root + request + "/response", answer)).close()
"""


def deploy(aws):
    """Creates a function that answers where its Runtime API is. Returns a function that invokes it."""
    archive = io.BytesIO()
    with zipfile.ZipFile(archive, "w") as file:
        file.writestr("bootstrap", BOOTSTRAP.format(python=sys.executable))
    trust = {
        "Version": "2012-10-17",
        "Statement": [{"Effect": "Allow", "Principal": {"Service": "lambda.amazonaws.com"}}],
    }
    trust["Statement"][0]["Action"] = "sts:AssumeRole"
    iam, functions = aws.client("iam"), aws.client("lambda")
    role = iam.create_role(RoleName="where", AssumeRolePolicyDocument=json.dumps(trust))["Role"]["Arn"]
    details = {
        "FunctionName": "where",
        "Runtime": "provided.al2023",
        "Handler": "bootstrap",
        "Role": role,
        "Timeout": 20,
    }
    functions.create_function(**details, Code={"ZipFile": archive.getvalue()})

    def invoke():
        answer = functions.invoke(FunctionName="where", LogType="Tail")
        body = json.load(answer["Payload"])
        assert "FunctionError" not in answer, (body, base64.b64decode(answer.get("LogResult", "")))
        return body

    return invoke


@pytest.fixture(scope="module")
def invoke(aws):
    return deploy(aws)


@pytest.mark.parametrize("headers", [*BROWSERS, *({"Host": host} for host in FOREIGN_HOSTS)], ids=str)
def test_a_page_takes_no_events_from_the_runtime_api(aws, invoke, headers):
    port = int(invoke()["address"].rpartition(":")[2])
    # Without the check, this would wait for an event and take it from the function.
    status, answered, body = ask(port, "/2018-06-01/runtime/invocation/next", **aws.filled(headers))
    expected = (
        WRONG_HOST if "Host" in headers else "This port is for programs of the local system and answers no browser.\n"
    )
    assert (status, body) == (421 if "Host" in headers else 403, expected)
    assert answered["content-type"] == "text/plain; charset=utf-8"
    assert ask(port, "/2018-06-01/runtime/init/error", "POST", "{}", **aws.filled(headers))[0] == status
    assert int(invoke()["address"].rpartition(":")[2]) == port, "the function has to run on"


def test_every_port_that_the_emulator_opens_is_on_the_loopback_interface_and_has_the_door(aws, invoke):
    invoke()
    listening = [
        connection.laddr
        for connection in psutil.Process(aws.process).net_connections("tcp")
        if connection.status == psutil.CONN_LISTEN
    ]
    assert len(listening) > 1
    assert {address for address, _ in listening} == {"127.0.0.1"}
    for _, port in listening:
        assert ask(port, "/2018-06-01/runtime/invocation/next", Host="evil.example")[0] == 421
        assert ask(port, "/2018-06-01/runtime/invocation/next", Origin=EVIL)[0] == 403


# ---- what is stored


def test_everything_that_the_emulator_writes_is_for_its_owner_only(tmp_path):
    port = free_port()
    process = start(port, tmp_path)
    own = Cloud(port, process.pid)
    own.client("s3").create_bucket(Bucket="private")
    own.client("s3").put_object(Bucket="private", Key="a/b", Body=b"x")
    own.client("cognito-idp").create_user_pool(PoolName="pool")
    assert deploy(own)()["address"]
    running = readable_by_others(tmp_path)
    process.terminate()
    assert process.wait(PATIENCE) == 0
    written = {path.name for path in tmp_path.rglob("*")}
    assert {"cognito.json", "b", "log"} <= written
    assert (running, readable_by_others(tmp_path)) == ([], [])


def readable_by_others(folder):
    return [str(path) for path in folder.rglob("*") if not path.is_symlink() and path.stat().st_mode & 0o077]

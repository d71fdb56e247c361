"""Measures the first answer over TLS for `make bench`: the time from the start of a function's process until it has
answered its first request, for which it reads an item from a DynamoDB that speaks TLS as AWS's endpoints do. It is
compared with a function that makes one raw HTTPS request with the same HTTP client, but without the SDK.

The stub closes the connection after the second answer, so that the third needs a new one. The difference between the
first and the third is what happens once in a process: the part that could move from the first request to the start.
"""

import ipaddress
import ssl
import statistics
import subprocess
import tempfile
import time
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import NamedTuple

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from rich.table import Table

from infra.local.bench.stubs import FUNCTION, DynamoDb, RuntimeApi, Server, build, invocations, served
from infra.local.progress import console
from infra.local.settings import CommandError

RAW = "first_call"
RUNS = 40
# The answers over the first connection.
KEPT_OPEN = 2
# The maximum that the function does once in a process, in its first request, in milliseconds.
MAX_ONCE = 10.0


class Times(NamedTuple):
    """Of one process, in milliseconds."""

    # From the start of the process to its first poll of the Runtime API, and from there to the first answer.
    start: float
    first: float
    # The second answer, over the same connection.
    second: float
    # The third answer, over a new connection.
    third: float

    @property
    def to_first_answer(self) -> float:
        return self.start + self.first


def run(raw: Path, environment: dict[str, str]) -> None:
    # The feature adds a root certificate to those of Amazon. No build that is deployed has it.
    measure({RAW: raw, FUNCTION: build("bench-root", "bench-root")}, environment)


def measure(programs: dict[str, Path], environment: dict[str, str]) -> None:
    measured: dict[str, list[Times]] = {name: [] for name in programs}
    with tempfile.TemporaryDirectory() as folder:
        root, tls = certificates(Path(folder))
        environment = environment | {"BENCH_ROOT": str(root)}
        for _ in range(RUNS):
            for name, program in programs.items():
                measured[name].append(answers(program, environment, tls))
    report(measured)


def answers(program: Path, environment: dict[str, str], tls: ssl.SSLContext) -> Times:
    with served(Server(RuntimeApi)) as runtime_api, served(Server(ClosingDynamoDb, tls)) as dynamodb:
        environment = environment | {
            "AWS_LAMBDA_RUNTIME_API": f"127.0.0.1:{runtime_api.server_port}",
            "AWS_ENDPOINT_URL": dynamodb.url,
        }
        began = time.perf_counter()
        process = subprocess.Popen([program], env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        try:
            first, second, third = invocations(runtime_api, 3)
        finally:
            process.kill()
            process.wait()
    return Times((first.began - began) * 1e3, first.latency, second.latency, third.latency)


class ClosingDynamoDb(DynamoDb):
    """Closes a connection after a few answers."""

    def setup(self) -> None:
        super().setup()
        self.answered = 0

    def answer(self, body: bytes, headers: dict[str, str]) -> None:
        self.answered += 1
        if self.answered == KEPT_OPEN:
            headers = headers | {"connection": "close"}
        super().answer(body, headers)


def certificates(folder: Path) -> tuple[Path, ssl.SSLContext]:
    """The file of a root certificate, and a server with a certificate below it. Like AWS's endpoints, the server has an
    RSA key and an intermediate certificate, which the client has to verify, too."""
    root_key, root = certificate("root")
    intermediate_key, intermediate = certificate("intermediate", (root_key, root))
    key, leaf = certificate("127.0.0.1", (intermediate_key, intermediate), address="127.0.0.1")
    pem = serialization.Encoding.PEM
    (folder / "root.pem").write_bytes(root.public_bytes(pem))
    (folder / "chain.pem").write_bytes(leaf.public_bytes(pem) + intermediate.public_bytes(pem))
    private = key.private_bytes(pem, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    (folder / "key.pem").write_bytes(private)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(folder / "chain.pem", folder / "key.pem")
    # Without tickets the third answer needs a whole handshake like the first.
    context.num_tickets = 0
    return folder / "root.pem", context


Issuer = tuple[rsa.RSAPrivateKey, x509.Certificate]


def certificate(name: str, issuer: Issuer | None = None, address: str | None = None) -> Issuer:
    """A new key and its certificate: of an authority, or of the server at this address."""
    key = rsa.generate_private_key(65537, 2048)
    subject = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, name)])
    issuer_key, issuer_name = (issuer[0], issuer[1].subject) if issuer else (key, subject)
    now = datetime.now(timezone.utc)
    builder = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer_name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(hours=1))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(x509.BasicConstraints(ca=address is None, path_length=None), critical=True)
    )
    if address:
        names = x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address(address))])
        builder = builder.add_extension(names, critical=False)
    return key, builder.sign(issuer_key, hashes.SHA256())


def report(measured: dict[str, list[Times]]) -> None:
    table = Table(
        "first answer over TLS",
        "first poll ms",
        "then first answer ms",
        "together ms",
        "second answer ms",
        "over a new connection ms",
        box=None,
        padding=(0, 1),
    )
    medians = {name: medians_of(times) for name, times in measured.items()}
    together = {name: statistics.median(each.to_first_answer for each in times) for name, times in measured.items()}
    for name, times in medians.items():
        shown = (times.start, times.first, together[name], times.second, times.third)
        table.add_row(name, *(f"{time:.2f}" for time in shown))
    function, raw = medians[FUNCTION], medians[RAW]
    once = function.first - function.third
    console.print()
    console.print(table)
    console.print(
        f"Medians of {RUNS} processes each, in turns. To its first answer {FUNCTION} takes "
        f"{together[FUNCTION] - together[RAW]:.1f} ms more than a function that makes one raw request:\n"
        f"{function.start - raw.start:.1f} ms before its first poll and {function.first - raw.first:.1f} ms after it. "
        f"Every answer takes {function.second - raw.second:.1f} ms more.\n"
        f"A new connection takes {function.third - function.second:.1f} ms of the first answer, and what is done once "
        f"in a process {once:.1f} ms (raw: {raw.first - raw.third:.1f} ms)."
    )
    if once > MAX_ONCE:
        raise CommandError(
            f"The first request of {FUNCTION} does {once:.1f} ms of work that is done once in a process. The maximum "
            f"is {MAX_ONCE:g} ms. Such work belongs to the start of the function."
        )


def medians_of(times: list[Times]) -> Times:
    return Times(*(statistics.median(column) for column in zip(*times, strict=True)))

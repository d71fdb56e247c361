"""HTTP requests to a port of this machine, with the headers or even the bytes that a test chooses."""

import contextlib
import http.client
import socket


def ask(port, path, method="GET", body=None, **headers):
    """The status, headers and body of the answer. A header that is given replaces the usual one."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=15)
    with contextlib.closing(connection):
        connection.request(method, path, body, headers)
        answer = connection.getresponse()
        return answer.status, answer.headers, answer.read().decode()


def raw(port, request):
    """Everything that the port answers to these bytes until it closes the connection."""
    with socket.create_connection(("127.0.0.1", port), timeout=15) as connection:
        connection.sendall(request)
        return b"".join(iter(lambda: connection.recv(65536), b""))


def free_port():
    with socket.create_server(("127.0.0.1", 0)) as free:
        return free.getsockname()[1]

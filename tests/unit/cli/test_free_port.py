"""A free port is nobody else's before its server is up, nor while the server restarts."""

import socket
import sys

import pytest

from app.cli.embedded_broker import free_port


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux lets a server bind beside the socket that holds the port")
def test_a_free_port_goes_to_its_server_alone_and_stays_free_while_that_restarts():
    port = free_port()
    with socket.socket() as other, pytest.raises(OSError, match="in use"):
        other.bind(("127.0.0.1", port))
    for _ in range(2):
        with socket.create_server(("127.0.0.1", port)) as server, socket.create_connection(("127.0.0.1", port)) as client:
            answer, _ = server.accept()
            answer.close()
            assert client.recv(1) == b""
    with socket.socket() as client:
        assert client.connect_ex(("127.0.0.1", port)) != 0
    assert free_port() != port

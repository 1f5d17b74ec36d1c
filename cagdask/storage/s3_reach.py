"""Why a server can not be reached: looked at by hand, since the S3 client only says that it could not send.

    name --> address --> connection (or proxy) --> TLS --> an answer that is no web page

Each step that fails is one sentence, with the remedy. A look takes :data:`LOOK_SECONDS` at most.
"""

from __future__ import annotations

import http.client
import re
import socket
import ssl
import urllib.error
import urllib.request
from urllib.parse import urlsplit

LOOK_SECONDS = 4.0
AMAZON = "https://s3.amazonaws.com"
_PORTS = {"http": 80, "https": 443}


def why_not(endpoint: str | None, *, proxy: str | None = None, ca_file: str | None = None) -> str | None:
    """What keeps this machine from a server, or None if nothing does.

    Parameters
    ----------
    endpoint
        URL of the server; None for Amazon's.
    proxy
        URL of a proxy; by default what the environment says (``HTTPS_PROXY``, ``NO_PROXY``, ...).
    ca_file
        Certificates (PEM) to trust instead of the system's.
    """
    endpoint = endpoint or AMAZON
    try:
        parts = urlsplit(endpoint)
        port = parts.port or _PORTS[parts.scheme]
        host = str(parts.hostname or "")
    except (ValueError, KeyError):
        host = ""
    if not host:
        return f"{endpoint!r} is no URL of a server; write it as https://host:port"
    proxy = proxy or _proxy_of(parts.scheme, host)
    if proxy:
        return _through(proxy)
    found = _connected(host, port)
    if isinstance(found, str):
        return found
    with found:
        return _spoken(found, host, parts.scheme, ca_file)


def _proxy_of(scheme: str, host: str) -> str | None:
    if urllib.request.proxy_bypass(host):
        return None
    found = urllib.request.getproxies()
    return found.get(scheme) or found.get("all")


def _through(proxy: str) -> str | None:
    """Whether a proxy answers; what is behind it can not be looked at."""
    parts = urlsplit(proxy if "://" in proxy else f"http://{proxy}")
    shown = f"{parts.hostname}:{parts.port or 80}"  # without a password
    found = _connected(str(parts.hostname), parts.port or 80)
    if isinstance(found, str):
        return (
            f"the proxy {shown} can not be used: {found}. Correct HTTPS_PROXY and HTTP_PROXY, or name the server in "
            "NO_PROXY"
        )
    found.close()
    return None


def _connected(host: str, port: int) -> socket.socket | str:
    try:
        return socket.create_connection((host, port), timeout=LOOK_SECONDS)
    except socket.gaierror:
        return f"there is no machine named {host!r}"
    except TimeoutError:
        return f"{host} does not answer at port {port}"
    except OSError as err:
        return f"nothing listens at {host}, port {port} ({err.strerror})"


def _spoken(connection: socket.socket, host: str, scheme: str, ca_file: str | None) -> str | None:
    """What is wrong with the language of a server that can be connected to."""
    if scheme == "http":
        return _plain(connection, host)
    try:
        with ssl.create_default_context(cafile=ca_file).wrap_socket(connection, server_hostname=host):
            return None
    except ssl.SSLCertVerificationError as err:
        return (
            f"its certificate is not trusted ({err.verify_message}). Name the file of the authority that signed it in "
            "AWS_CA_BUNDLE"
        )
    except TimeoutError:
        return f"{host} does not answer: it took the connection and says nothing"
    except (ssl.SSLError, ConnectionError):
        return "it does not speak TLS at this port. Write the address with http://"
    except OSError as err:
        return f"the file of certificates {ca_file} can not be read ({err.strerror}). Correct AWS_CA_BUNDLE"


def _plain(connection: socket.socket, host: str) -> str | None:
    """What a server says to a request without TLS."""
    try:
        connection.sendall(f"GET / HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n".encode())
        head = connection.recv(1024)
    except TimeoutError:
        return f"{host} does not answer: it took the connection and says nothing"
    except OSError:
        head = b""
    if not head or head[:1] == b"\x15" or b"HTTPS port" in head:
        return "it does not speak plain HTTP at this port. Write the address with https://"
    return None


def is_web_page(text: str) -> bool:
    """Whether an answer is a page for people, as of a proxy or a login portal."""
    return bool(re.match(r"\s*(<!doctype html|<html)", text, re.IGNORECASE))


def answers_with_web_page(endpoint: str | None, bucket: str) -> bool:
    """Whether a listing is answered by a web page, which a client may take for an empty listing."""
    url = f"{(endpoint or AMAZON).rstrip('/')}/{bucket}?list-type=2&max-keys=1"
    try:
        with urllib.request.urlopen(url, timeout=LOOK_SECONDS) as found:
            return is_web_page(found.read(200).decode(errors="replace"))
    except urllib.error.HTTPError as err:
        with err:
            return is_web_page(err.read(200).decode(errors="replace"))
    except (OSError, ValueError, http.client.HTTPException):
        return False

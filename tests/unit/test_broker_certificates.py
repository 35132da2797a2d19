"""Tests of certificates and keys as people have them: expired, self-signed, for another name, with a passphrase, missing at the broker."""

from __future__ import annotations

import ssl
import subprocess
from pathlib import Path

import pytest
from rigs.closed_folder import run_without_rights

from streamav.certificates import load_certificate
from streamav.config import HttpSettings, MqttSettings, TlsSettings
from streamav.errors import SettingsError
from streamav.publish.credentials import Credentials


def openssl(folder: Path, *arguments: str) -> None:
    subprocess.run(["openssl", *arguments], cwd=folder, check=True, capture_output=True)


@pytest.fixture
def encrypted(tmp_path: Path) -> tuple[Path, Path]:
    """Return a certificate and its key, which needs a passphrase."""
    curve = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1")
    openssl(tmp_path, "req", "-x509", *curve, "-days", "2", "-subj", "/CN=x", "-keyout", "k", "-out", "c", "-passout", "pass:secret")
    return tmp_path / "c", tmp_path / "k"


def test_a_key_with_a_passphrase_is_an_error_and_asks_nobody(encrypted: tuple[Path, Path]) -> None:
    """The error says how to write the key without a passphrase; OpenSSL does not ask the terminal, where a service would wait for ever."""
    cert, key = encrypted
    with pytest.raises(OSError, match="passphrase"):
        load_certificate(ssl.create_default_context(), cert, key)
    with pytest.raises(SettingsError, match="openssl pkey"):
        Credentials(MqttSettings(host="x", tls=TlsSettings(cert=cert, key=key)))


def test_a_server_with_such_a_key_does_not_start(encrypted: tuple[Path, Path]) -> None:
    """The live page and the HTTP API end with the same sentence, and do not wait for a person either."""
    cert, key = encrypted
    program = """
import sys
from pathlib import Path
from streamav.errors import SettingsError
from streamav.web.server import Place, WebServer
place = Place(what="it", section="http", remedy="", host="127.0.0.1", port=0, usual_port=0, cert=Path(sys.argv[1]), key=Path(sys.argv[2]))
try:
    WebServer(None, place)
except SettingsError as exc:
    print(exc)
"""
    done = run_without_rights(program, str(cert), str(key))
    assert "http.cert and http.key" in done.stdout, done.stderr
    assert "passphrase" in done.stdout
    assert HttpSettings(listen="127.0.0.1:0", cert=cert, key=key).cert == cert

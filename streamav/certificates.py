"""Loads our own certificates and keys. A key that needs a passphrase is an error: a service has nobody who could enter it."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import ssl
    from pathlib import Path

__all__ = ["load_certificate"]


def load_certificate(context: ssl.SSLContext, cert: Path, key: Path | None) -> None:
    """Load a certificate and its private key, both PEM.

    Args:
        context: takes them.
        cert: the certificate, with the key behind it where *key* is None.
        key: the private key.

    Raises:
        OSError: when they cannot be read or do not belong together (ssl.SSLError), or the key needs a passphrase.
    """

    def refuse() -> str:  # without it OpenSSL asks the terminal, and waits
        msg = "the key needs a passphrase; write it without one (openssl pkey -in KEY -out KEY), readable by its owner only"
        raise OSError(msg)

    context.load_cert_chain(cert, key, password=refuse)

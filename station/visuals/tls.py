"""TLS between the programs of an event."""

from __future__ import annotations

import ssl


def trusting(certificate: str) -> ssl.SSLContext:
    """Return a context that accepts a server.

    Args:
        certificate: its own, as PEM text; or a path on the server's machine, which says only that it is one of an
            authority that this machine trusts.

    Raises:
        ValueError: it is neither.
    """
    return ssl.create_default_context() if certificate.startswith("/") else pinned(certificate)


def pinned(certificate: str) -> ssl.SSLContext:
    """Return a context that accepts the server with this certificate (the first of a PEM text), whatever its name.

    Raises:
        ValueError: it is no certificate.
    """
    end = "-----END CERTIFICATE-----"
    leaf = certificate.partition(end)[0] + end + "\n"
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.check_hostname = False  # the certificate itself is the identity
    context.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN
    try:
        context.load_verify_locations(cadata=leaf)
    except ssl.SSLError as error:
        raise ValueError(f"is no certificate in PEM form: {error}") from error
    return context

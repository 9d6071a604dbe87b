"""The manager's own certificate authority and the certificate that it serves with.

    python -m api.certificates FOLDER NAME…

makes what is missing, will end soon or is for other names, and prints `changed` if it made anything. Whoever has
the authority's certificate, `ca.pem`, knows the manager again; its key never leaves the folder.
"""

from __future__ import annotations

import datetime
import ipaddress
import os
import sys
from collections.abc import Sequence
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

AUTHORITY_DAYS = 3650
SERVER_DAYS = 825
"""The longest that Apple's and other clients accept (support.apple.com/103769)."""
RENEW_DAYS = 90
BEFORE = datetime.timedelta(hours=24)
"""How long before its making a certificate is valid already: stations' clocks may be behind on set-up day."""


def ensure(folder: Path, names: Sequence[str]) -> bool:
    """Make authority and certificate unless they are there and good.

    Args:
        folder: where `ca.pem`, `ca.key`, `server.pem` and `server.key` lie; made with mode 0700.
        names: host names and addresses that clients use; the first is the subject.

    Returns:
        Whether anything was made.
    """
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    if _good(folder / "ca.pem", folder / "ca.key", None, None):
        authority = x509.load_pem_x509_certificate((folder / "ca.pem").read_bytes())
        if _good(folder / "server.pem", folder / "server.key", _alternatives(names), authority):
            return False
    else:
        key = ec.generate_private_key(ec.SECP256R1())
        authority = _authority(key)
        _write(folder / "ca.key", _pem(key), 0o600)
        _write(folder / "ca.pem", authority.public_bytes(serialization.Encoding.PEM), 0o644)
    signer = serialization.load_pem_private_key((folder / "ca.key").read_bytes(), None)
    if not isinstance(signer, ec.EllipticCurvePrivateKey):
        raise ValueError(f"{folder / 'ca.key'} is no key of this program's; remove it and ca.pem to make new ones")
    key = ec.generate_private_key(ec.SECP256R1())
    server = _server(authority, signer, key, names)
    _write(folder / "server.key", _pem(key), 0o600)
    _write(folder / "server.pem", server.public_bytes(serialization.Encoding.PEM), 0o644)
    return True


def _good(
    certificate: Path, key: Path, names: x509.SubjectAlternativeName | None, authority: x509.Certificate | None
) -> bool:
    if not certificate.exists() or not key.exists():
        return False
    try:
        found = x509.load_pem_x509_certificate(certificate.read_bytes())
        private = serialization.load_pem_private_key(key.read_bytes(), None)
        if authority is not None:
            found.verify_directly_issued_by(authority)
        given = None
        if names is not None:
            given = found.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except Exception:  # whatever is wrong with them, they are made anew
        return False
    left = found.not_valid_after_utc - datetime.datetime.now(datetime.UTC)
    return given == names and private.public_key() == found.public_key() and left.days >= RENEW_DAYS


def _authority(key: ec.EllipticCurvePrivateKey) -> x509.Certificate:
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "Stationmaster manager's authority")])
    usage = x509.KeyUsage(
        digital_signature=True, key_cert_sign=True, crl_sign=True, content_commitment=False, key_encipherment=False,
        data_encipherment=False, key_agreement=False, encipher_only=False, decipher_only=False,
    )  # fmt: skip
    return (
        _begun(name, name, key.public_key(), AUTHORITY_DAYS)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(usage, critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .sign(key, hashes.SHA256())
    )


def _server(
    authority: x509.Certificate,
    signer: ec.EllipticCurvePrivateKey,
    key: ec.EllipticCurvePrivateKey,
    names: Sequence[str],
) -> x509.Certificate:
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, names[0])])
    identifier = authority.extensions.get_extension_for_class(x509.SubjectKeyIdentifier).value
    return (
        _begun(subject, authority.subject, key.public_key(), SERVER_DAYS)
        .add_extension(_alternatives(names), critical=False)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_subject_key_identifier(identifier), critical=False)
        .sign(signer, hashes.SHA256())
    )


def _begun(subject: x509.Name, issuer: x509.Name, key: ec.EllipticCurvePublicKey, days: int) -> x509.CertificateBuilder:
    now = datetime.datetime.now(datetime.UTC)
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - BEFORE)
        .not_valid_after(now + datetime.timedelta(days=days))
    )


def _alternatives(names: Sequence[str]) -> x509.SubjectAlternativeName:
    made: list[x509.GeneralName] = []
    for name in dict.fromkeys(names):
        try:
            made.append(x509.IPAddress(ipaddress.ip_address(name)))
        except ValueError:
            made.append(x509.DNSName(name))
    return x509.SubjectAlternativeName(made)


def _pem(key: ec.EllipticCurvePrivateKey) -> bytes:
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )


def _write(path: Path, data: bytes, mode: int) -> None:
    staged = path.with_name(f"{path.name}.new")
    staged.unlink(missing_ok=True)
    with os.fdopen(os.open(staged, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode), "wb") as file:
        file.write(data)
    staged.replace(path)


if __name__ == "__main__":
    if len(sys.argv) < 3:
        sys.exit("usage: python -m api.certificates FOLDER NAME…")
    os.umask(0o022)
    print("changed" if ensure(Path(sys.argv[1]), sys.argv[2:]) else "unchanged")

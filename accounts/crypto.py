"""Secrets at rest: cluster credentials and cloud-init passwords, sealed with the secret key."""

import base64
import hashlib
import hmac

from cryptography.fernet import Fernet, InvalidToken, MultiFernet
from django.conf import settings


class Unsealable(Exception):
    """The stored secret was sealed with another key than IZVOR_SECRET_KEY and its fallbacks."""


def _fernet() -> MultiFernet:
    keys = [settings.SECRET_KEY, *settings.SECRET_KEY_FALLBACKS]
    return MultiFernet(
        [
            Fernet(base64.urlsafe_b64encode(hashlib.sha256(b"izvor.seal:" + key.encode()).digest()))
            for key in keys
        ]
    )


def seal(plain: str) -> str:
    """Encrypt; the empty string stays empty, so that "no secret" is visible as such."""
    return _fernet().encrypt(plain.encode()).decode() if plain else ""


def unseal(sealed: str) -> str:
    """Decrypt what `seal` made. Raises Unsealable when the key has changed."""
    if not sealed:
        return ""
    try:
        return _fernet().decrypt(sealed.encode()).decode()
    except InvalidToken:
        raise Unsealable(
            "A stored secret cannot be read with this IZVOR_SECRET_KEY. "
            "Put the former key into IZVOR_SECRET_KEY_FALLBACKS, or enter the secret again."
        ) from None


def keyed_digest(purpose: str, text: str) -> str:
    """A digest that only this installation can compute: for comparing, not for reading back."""
    return hmac.new(
        settings.SECRET_KEY.encode(), f"{purpose}:{text}".encode(), "sha256"
    ).hexdigest()

"""Tests of credentials: a setting that cannot be used gives a warning or an error."""

from __future__ import annotations

import pytest
from pydantic import SecretStr

from streamav.config import MqttSettings
from streamav.config_loading import load_settings
from streamav.errors import SettingsError
from streamav.publish.credentials import Credentials


@pytest.mark.parametrize(("username", "told"), [(None, True), ("me", False)])
def test_a_password_without_a_user_is_told(caplog: pytest.LogCaptureFixture, username: str | None, told: bool) -> None:
    """A password without a user name gives a warning that does not show it, because the protocol cannot send it alone."""
    Credentials(MqttSettings(host="h", username=username, password=SecretStr("hunter2")))
    assert ("without mqtt.username" in caplog.text) == told
    assert "hunter2" not in caplog.text


def test_a_key_without_its_certificate_is_refused() -> None:
    """A TLS key without its certificate is refused, because it would be ignored and the broker would refuse us without a clear reason."""
    with pytest.raises(SettingsError, match=r"mqtt.tls: tls.key must be given together with tls.cert"):
        load_settings(overrides=["mqtt.host=h", "mqtt.tls.key=client.key"], environment={})

"""What is secret about a connection: nothing that was written is left out without a word."""

from __future__ import annotations

import pytest
from pydantic import SecretStr

from streamav.config import MqttSettings
from streamav.config_loading import load_settings
from streamav.errors import SettingsError
from streamav.publish.client import Credentials


@pytest.mark.parametrize(("username", "told"), [(None, True), ("me", False)])
def test_a_password_without_a_user_is_told(caplog: pytest.LogCaptureFixture, username: str | None, told: bool) -> None:
    """The protocol has no password without a user name; the warning says so and does not show it."""
    Credentials(MqttSettings(host="h", username=username, password=SecretStr("hunter2")))
    assert ("without mqtt.username" in caplog.text) == told
    assert "hunter2" not in caplog.text


def test_a_key_without_its_certificate_is_refused() -> None:
    """Alone it would be left out, and the broker would refuse us for a reason that nobody sees."""
    with pytest.raises(SettingsError, match=r"mqtt.tls: tls.key must be given together with tls.cert"):
        load_settings(overrides=["mqtt.host=h", "mqtt.tls.key=client.key"], environment={})
